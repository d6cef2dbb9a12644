//! What changed `images`, step by step: what was recorded, and where something was not.

use crate::error::Result;
use crate::schema;
use crate::store::{Change, Store};

/// A step from one version of `images` to a later one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The version before.
    pub before: u64,
    /// The version after.
    pub after: u64,
    /// What was done; `None` where that was not recorded: it was interrupted, another program did it, or the database is of
    /// a time before changes were recorded.
    pub change: Option<Change>,
    /// Whether the version before is kept, so that it can be restored.
    pub is_kept: bool,
    /// Whether an undo or a restore took it back.
    pub is_undone: bool,
}

/// All steps of a database, from the first version of `images` that is known to the latest.
pub async fn history(store: &Store) -> Result<Vec<Event>> {
    let kept = store.versions(schema::IMAGES).await?;
    let latest = kept.last().copied().unwrap_or(0);
    let event =
        |before, after, change| Event { before, after, change, is_kept: kept.contains(&before), is_undone: false };
    let mut events = Vec::new();
    let mut at = None;
    for change in store.changes().await? {
        let (before, Some(after)) = (change.version_before, change.version_after) else { continue };
        // of a backup that was put back, the log may know more than the table
        if after > latest {
            break;
        }
        let reached = at.unwrap_or(kept.first().map_or(before, |first| before.min(*first)));
        if before > reached {
            events.push(event(reached, before, None));
        }
        events.push(event(before, after, Some(change)));
        at = Some(after);
    }
    let reached = at.or(kept.first().copied()).unwrap_or(latest);
    if latest > reached {
        events.push(event(reached, latest, None));
    }
    mark_undone(&mut events);
    Ok(events)
}

/// Mark what did not lead to the latest version: a restored one holds what led to it, and nothing that came after.
fn mark_undone(events: &mut [Event]) {
    let mut at = events.last().map_or(0, |event| event.after);
    for event in events.iter_mut().rev() {
        event.is_undone = event.before >= at;
        if !event.is_undone {
            at = event.change.as_ref().and_then(|change| change.restored_version).unwrap_or(event.before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_undo_or_a_restore_took_back_is_marked() {
        let event = |before, after, restored_version| {
            let change = Some(Change { restored_version, ..Change::default() });
            Event { before, after, change, is_kept: true, is_undone: false }
        };
        let undone = |mut events: Vec<Event>| -> Vec<bool> {
            mark_undone(&mut events);
            events.iter().map(|event| event.is_undone).collect()
        };
        assert!(undone(Vec::new()).is_empty());
        assert_eq!(undone(vec![event(1, 2, None), event(2, 4, None)]), [false, false]);
        let deleted_and_undone = vec![event(1, 2, None), event(2, 4, None), event(4, 5, Some(2))];
        assert_eq!(undone(deleted_and_undone.clone()), [false, true, false]);
        // a restore of what was deleted brings the deletion back, and takes the undo away
        let restored = [deleted_and_undone.as_slice(), &[event(5, 6, Some(4)), event(6, 7, None)]].concat();
        assert_eq!(undone(restored), [false, false, true, false, false]);
    }
}
