//! `outskirt backbone add | list | show | check | trust`.

mod add;
mod check;
mod checked;
mod list;
mod show;
mod trust;

use std::path::Path;

use clap::Subcommand;

use super::console::Console;
use crate::error::Result;

/// Add, list, show, check and trust backbones.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a manifest for a weights file, after a forward pass
    Add(Box<add::Args>),
    /// List the backbones that come with outskirt and those of the database
    List(list::Args),
    /// Print a manifest, and whether its weights are there
    Show(show::Args),
    /// Check a backbone: sha256, that the weights load, and a forward pass of test pictures
    Check(check::Args),
    /// Let a TorchScript module run, which is code
    Trust(trust::Args),
}

pub(super) async fn run(command: Command, db: &Path, console: &mut Console<'_>) -> Result<()> {
    match command {
        Command::Add(args) => add::run(*args, db, console).await,
        Command::List(args) => list::run(args, db, console).await,
        Command::Show(args) => show::run(args, db, console).await,
        Command::Check(args) => check::run(args, db, console).await,
        Command::Trust(args) => trust::run(args, db, console).await,
    }
}
