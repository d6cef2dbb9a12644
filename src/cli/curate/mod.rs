//! `outskirt curate sample`.

mod sample;

use std::path::Path;

use clap::Subcommand;

use super::console::Console;
use crate::error::Result;

/// Choose images to look at or to label.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// A few images of many: the furthest outside, those at the threshold, diverse ones, or any
    Sample(sample::Args),
}

pub(super) async fn run(command: Command, db: &Path, console: &mut Console<'_>) -> Result<()> {
    match command {
        Command::Sample(args) => sample::run(args, db, console).await,
    }
}
