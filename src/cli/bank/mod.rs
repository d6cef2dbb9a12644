//! `outskirt bank create | calibrate | tune | refresh | verify | list | drop`.

mod calibrate;
mod create;
mod drop;
mod list;
mod refresh;
mod tune;
mod verify;

use std::path::Path;

use clap::Subcommand;

use super::console::Console;
use crate::error::Result;

/// Create, calibrate, tune, refresh, verify, list and drop banks.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a bank of the images for which a predicate holds
    Create(create::Args),
    /// Measure the scores of held-out ID images, from which thresholds come
    Calibrate(calibrate::Args),
    /// Compare numbers of neighbours on ID and OOD images: which k tells them apart best
    Tune(tune::Args),
    /// Bring a bank up to date with its table: images that were added, deleted or changed since
    Refresh(refresh::Args),
    /// Compare a bank's graph with exact search on a sample of images
    Verify(verify::Args),
    /// List the banks
    List(list::Args),
    /// Drop a bank, its calibrations and its index files; the images stay
    Drop(drop::Args),
}

pub(super) async fn run(command: Command, db: &Path, console: &mut Console<'_>) -> Result<()> {
    match command {
        Command::Create(args) => create::run(args, db, console).await,
        Command::Calibrate(args) => calibrate::run(args, db, console).await,
        Command::Tune(args) => tune::run(args, db, console).await,
        Command::Refresh(args) => refresh::run(args, db, console).await,
        Command::Verify(args) => verify::run(args, db, console).await,
        Command::List(args) => list::run(args, db, console).await,
        Command::Drop(args) => drop::run(args, db, console).await,
    }
}
