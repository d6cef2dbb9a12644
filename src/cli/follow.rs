//! What is printed of banks that follow their table, and of what is done without being asked after a change.

use super::console::Console;
use crate::bank::{self, Followed, Refreshed};
use crate::error::Result;
use crate::store::Store;

/// Let all banks follow a change of `images`; what fails is a notice: the change is made already.
pub(super) async fn follow(store: &Store, console: &mut Console<'_>) -> Result<()> {
    let (telling, bar) = console.told(store.clone(), "looking for changes of banks");
    let followed = bank::follow(&telling).await;
    bar.finish_and_clear();
    for Followed { bank, refreshed } in followed? {
        match refreshed {
            Ok(refreshed) => console.line(describe(&refreshed))?,
            Err(error) => console.notice(format!("bank {bank} was not refreshed: {error}"))?,
        }
    }
    Ok(())
}

/// Keep the database in order after a change from version `before` of `images`; what fails is a notice here too.
pub(super) async fn tidy(store: &Store, before: u64, console: &mut Console<'_>) -> Result<()> {
    // while another program writes, it is that program's to do
    let Ok(lock) = store.lock().await else { return Ok(()) };
    match bank::tidy(store, &lock, before).await {
        Ok(tidied) => tidied.notices().into_iter().try_for_each(|notice| console.notice(notice)),
        Err(error) => console.notice(format!("small files were not merged: {error}")),
    }
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
