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
}

/// All steps of a database, from the first version of `images` that is known to the latest.
pub async fn history(store: &Store) -> Result<Vec<Event>> {
    let kept = store.versions(schema::IMAGES).await?;
    let latest = kept.last().copied().unwrap_or(0);
    let event = |before, after, change| Event { before, after, change, is_kept: kept.contains(&before) };
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
    Ok(events)
}
