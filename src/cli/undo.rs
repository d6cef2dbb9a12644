//! `outskirt undo`.

use std::path::Path;

use super::console::Console;
use super::follow::follow;
use super::history;
use crate::curate::{Undone, undo, undone};
use crate::error::Result;
use crate::store::{Change, Restored};

/// Take the latest change of the images back; banks follow
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Rows come back with their ids, labels and columns, in one commit. A second undo takes back the
change before that. 'outskirt history' shows the changes.

Example:
  outskirt undo --dry-run")]
pub struct Args {
    /// Say what would be taken back, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Leave banks as they are: 'outskirt bank refresh' brings them up to date later
    #[arg(long)]
    no_refresh: bool,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let store = console.open(db).await?;
    let Undone { change, restored } = if args.dry_run { undone(&store).await? } else { undo(&store).await? };
    let done = if args.dry_run { "would undo" } else { "undone" };
    console.line(format!("{done}: {}", said(&change)))?;
    report(&restored, console)?;
    if args.dry_run || args.no_refresh { Ok(()) } else { follow(&store, console).await }
}

/// What is taken back.
fn said(change: &Change) -> String {
    if change.verb.is_empty() {
        let (first, last) = (change.version_before + 1, change.version_after.unwrap_or_default());
        let versions = if first == last { format!("version {first}") } else { format!("versions {first} to {last}") };
        return format!(
            "what was not recorded, for it was interrupted, or another program wrote it ({versions} of images)"
        );
    }
    let when = change.changed_at.split('.').next().unwrap_or_default().replace('T', " ");
    format!("{} ({} rows, {when} UTC)", history::describe(change), change.row_count)
}

/// What restoring a version did or would do.
pub(super) fn report(restored: &Restored, console: &mut Console<'_>) -> Result<()> {
    let Restored { from, version, made, back, gone } = restored;
    let images = |count: usize| if count == 1 { "1 image".to_owned() } else { format!("{count} images") };
    match made {
        Some(_) => console.line(format!(
            "{} came back, {gone} went; all columns are as at version {version} ('outskirt restore --version {from}' takes this back)",
            images(*back)
        )),
        None => console.line(format!(
            "{} would come back, {gone} go; all columns would be as at version {version}",
            images(*back)
        )),
    }
}
