//! `outskirt restore`.

use std::path::Path;

use super::console::Console;
use super::follow::follow;
use super::undo::report;
use crate::curate::{restore, restored};
use crate::error::Result;

/// Make the images what they were at an earlier version; banks follow
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Rows come back with their ids, labels and columns, in one commit; the versions in between stay.
'outskirt history' shows the versions.

Example:
  outskirt restore --version 12 --dry-run")]
pub struct Args {
    /// The version of images
    #[arg(long, value_name = "N")]
    version: u64,
    /// Say what would change, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Leave banks as they are: 'outskirt bank refresh' brings them up to date later
    #[arg(long)]
    no_refresh: bool,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let store = console.open(db).await?;
    let done = match args.dry_run {
        true => restored(&store, args.version).await?,
        false => restore(&store, args.version).await?,
    };
    if done.from == args.version {
        return console.line(format!("images is at version {} already", args.version));
    }
    report(&done, console)?;
    if args.dry_run || args.no_refresh { Ok(()) } else { follow(&store, console).await }
}
