//! `outskirt curate`: a subcommand per file.

mod dedup;
mod delete;
mod sample;
mod tag;

use std::path::Path;

use clap::Subcommand;

use super::console::Console;
use crate::error::Result;

/// Choose images, find copies, tag and delete.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// A few images of many: the furthest outside, those at the threshold, diverse ones, or any
    Sample(sample::Args),
    /// Find images that are copies of others, and delete them
    Dedup(dedup::Args),
    /// Set a column for the images for which a predicate holds
    Tag(tag::Args),
    /// Mark images that no verb of a curator deletes: tag with curation=keep
    Keep(tag::MarkArgs),
    /// Mark images that are not looked at again, by sample and dedup: tag with curation=ignore
    Ignore(tag::MarkArgs),
    /// Delete the images for which a predicate holds, but for those marked keep; banks follow
    Delete(delete::Args),
}

pub(super) async fn run(command: Command, db: &Path, console: &mut Console<'_>) -> Result<()> {
    match command {
        Command::Sample(args) => sample::run(args, db, console).await,
        Command::Dedup(args) => dedup::run(args, db, console).await,
        Command::Tag(args) => tag::run(args, db, console).await,
        Command::Keep(args) => tag::keep(args, db, console).await,
        Command::Ignore(args) => tag::ignore(args, db, console).await,
        Command::Delete(args) => delete::run(args, db, console).await,
    }
}
