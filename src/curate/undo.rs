//! Undo and restore: an earlier version of `images` made the latest.

use super::history::{Event, history};
use crate::bank;
use crate::error::{Error, Result};
use crate::schema;
use crate::store::{Change, Restored, Store};

const UNDO: &str = "undo";

/// What [`undo`] takes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undone {
    /// The change.
    pub change: Change,
    /// How.
    pub restored: Restored,
}

/// Make `images` what it was at an earlier version: rows with their ids, labels and all columns, in one commit. Banks are
/// behind until they are refreshed. Ids that were given since are not given again.
///
/// Errors: another writer; [`Error::NoVersion`]; [`Error::RestoreLosesColumn`] where a bank stands on embeddings that the
/// version does not have.
pub async fn restore(store: &Store, version: u64) -> Result<Restored> {
    let lock = store.lock_in_turn().await?;
    store.finish_restore(&lock).await?;
    let found = restored(store, version).await?;
    if found.from == version {
        return Ok(found);
    }
    store.restore(&lock, version, "restore").await
}

/// What [`restore`] would do.
pub async fn restored(store: &Store, version: u64) -> Result<Restored> {
    let _reading = store.read_lock().await?;
    let restored = store.restored(version).await?;
    let then = store.provider(schema::IMAGES, Some(version)).await?.schema();
    for bank in bank::list(store).await? {
        if store.count_at(version, &bank.predicate).await.is_err() {
            return Err(Error::RestoreLosesBank { version, bank: bank.name, predicate: bank.predicate });
        }
        if then.field_with_name(&bank.backbone).is_err() {
            return Err(Error::RestoreLosesColumn { version, column: bank.backbone, bank: bank.name });
        }
    }
    Ok(restored)
}

/// Take the latest change of `images` back that is not taken back already. A second time, it is the one before that; but where
/// the first was interrupted after its commit, it is finished.
///
/// What was committed by a command that was killed before it could record it is taken back as a whole, and so is what another program
/// wrote between two recorded changes: such a [`Change`] has no verb.
///
/// Errors: as [`restore`]; [`Error::NothingToUndo`]; [`Error::NotRecorded`] where nothing was recorded before it.
pub async fn undo(store: &Store) -> Result<Undone> {
    // without waiting: what another program is doing would be the latest change then, and nobody meant that
    let lock = store.lock().await.map_err(|error| match error {
        Error::Locked { uri, holder, .. } => Error::UndoLocked { uri, holder },
        other => other,
    })?;
    if let Some((verb, restored)) = store.finish_restore(&lock).await?
        && verb == UNDO
    {
        let events = history(store).await?;
        let mut changes = events.into_iter().rev().filter_map(|event| event.change);
        let of_it = |change: &Change| change.version_before == restored.version && !change.is_of_storage();
        let change = changes.find(of_it).ok_or(Error::NothingToUndo)?;
        return Ok(Undone { change, restored });
    }
    let Undone { change, restored } = undone(store).await?;
    let restored = store.restore(&lock, restored.version, UNDO).await?;
    Ok(Undone { change, restored })
}

/// What [`undo`] would do.
pub async fn undone(store: &Store) -> Result<Undone> {
    let events = history(store).await?;
    let change = latest(&events)?;
    let restored = restored(store, change.version_before).await.map_err(|error| match error {
        Error::NoVersion { version, .. } => Error::UndoPruned { verb: change.named().into(), version },
        other => other,
    })?;
    Ok(Undone { change, restored })
}

/// The latest change whose effect is still there. What a restored version holds is what led to it.
fn latest(events: &[Event]) -> Result<Change> {
    let mut at = events.last().map_or(0, |event| event.after);
    for (place, event) in events.iter().enumerate().rev() {
        if event.before >= at {
            continue;
        }
        match &event.change {
            Some(change) if event.after == at => match change.restored_version {
                // a restore is a change like any other
                Some(version) if change.verb == UNDO => at = version,
                _ if change.is_of_storage() => at = event.before,
                _ => return Ok(change.clone()),
            },
            // it was interrupted; but not what is older than the record, which may be everything
            None if event.after == at && events[..place].iter().any(|earlier| earlier.change.is_some()) => {
                let (version_before, version_after) = (event.before, Some(event.after));
                return Ok(Change { version_before, version_after, ..Change::default() });
            }
            _ => {
                let (before, after) = (event.before, event.after.min(at));
                return Err(Error::NotRecorded { before, after });
            }
        }
    }
    Err(Error::NothingToUndo)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(verb: &str, before: u64, after: u64, restored_version: Option<u64>) -> Event {
        let change =
            Change { version_before: before, version_after: Some(after), restored_version, ..Change::of(verb) };
        Event { before, after, change: (!verb.is_empty()).then_some(change), is_kept: true, is_undone: false }
    }

    #[test]
    fn what_is_undone_is_the_latest_that_is_still_there() {
        let ingest = event("ingest", 1, 4, None);
        let delete = event("delete", 4, 6, None);
        let optimize = event("optimize", 6, 7, None);
        let undo = event("undo", 7, 8, Some(4));
        let update = event("update", 8, 9, None);
        let found = |events: &[&Event]| {
            let events: Vec<Event> = events.iter().copied().cloned().collect();
            latest(&events).map(|change| change.verb).map_err(|error| error.to_string())
        };
        assert_eq!(found(&[&ingest, &delete]).unwrap(), "delete");
        assert_eq!(found(&[&ingest, &delete, &optimize]).unwrap(), "delete");
        assert_eq!(found(&[&ingest, &delete, &optimize, &undo]).unwrap(), "ingest");
        assert_eq!(found(&[&ingest, &delete, &optimize, &undo, &update]).unwrap(), "update");
        let undone_twice = event("undo", 8, 9, Some(1));
        assert!(found(&[&ingest, &delete, &optimize, &undo, &undone_twice]).unwrap_err().contains("nothing to undo"));
        let redone = event("restore", 8, 9, Some(6));
        assert_eq!(found(&[&ingest, &delete, &optimize, &undo, &redone]).unwrap(), "restore");
        // a command that was killed before it could record what it had committed
        let unknown = event("", 9, 12, None);
        let events = [&ingest, &delete, &optimize, &undo, &update, &unknown].map(Event::clone);
        let change = latest(&events).unwrap();
        assert_eq!((change.verb.as_str(), change.version_before, change.version_after), ("", 9, Some(12)));
        let older_than_the_record = event("", 1, 4, None);
        let error = found(&[&older_than_the_record]).unwrap_err();
        assert!(error.contains("from version 1 of images to 4"), "{error}");
        let inside = event("undo", 9, 10, Some(3));
        let error = found(&[&ingest, &delete, &optimize, &undo, &update, &inside]).unwrap_err();
        assert!(error.contains("from version 1 of images to 3"), "{error}");
    }
}
