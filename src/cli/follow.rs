//! What is printed of banks that follow their table.

use super::console::Console;
use crate::bank::{self, Followed, Refreshed};
use crate::error::Result;
use crate::store::Store;

/// Let all banks follow a change of `images`; what fails is a notice: the change is made already.
pub(super) async fn follow(store: &Store, console: &mut Console<'_>) -> Result<()> {
    for Followed { bank, refreshed } in bank::follow(store).await? {
        match refreshed {
            Ok(refreshed) => console.line(describe(&refreshed))?,
            Err(error) => console.notice(format!("bank {bank} was not refreshed: {error}"))?,
        }
    }
    Ok(())
}

/// What a refresh did, in a line.
pub(super) fn describe(refreshed: &Refreshed) -> String {
    let Refreshed { bank, added, removed, changed, rebuilt } = refreshed;
    if refreshed.is_unchanged() {
        return format!(
            "bank {}: up to date with version {} of images, {} embeddings",
            bank.name,
            bank.follows(),
            bank.row_count
        );
    }
    let graph = if *rebuilt { ", its index files were made anew" } else { "" };
    format!(
        "bank {}: {added} embeddings added, {removed} removed, {changed} changed; {} now, version {}{graph}",
        bank.name, bank.row_count, bank.table_version
    )
}
