//! Columns of the user's own set for many images at once, and images deleted: but for those that are to be kept.

use super::marks::{CURATION, IGNORE, KEEP, is_marked};
use crate::error::{Error, Result};
use crate::sql::session::Session;
use crate::store::{Change, WriteLock};

/// What a verb did, or would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Curated {
    /// Images that it changed, or would.
    pub changed: u64,
    /// Images for which the predicate holds and that have the value already.
    pub unchanged: u64,
    /// Images for which the predicate holds and that stay as they are because they are marked `keep`.
    pub kept: u64,
}

/// Set a column of the user's own (TEXT where it is not there yet), `label` or `split` to a value, or to NULL, where a predicate holds; in one
/// entry of `curation_log`. Nothing is written unless `done`, nor where all have the value. Marking images `ignore` leaves out those that are
/// marked `keep`. Banks are behind until they are refreshed.
///
/// Errors: another writer; a predicate that fails; a column that is Outskirt's; a value that does not fit it; a mark that there is not.
pub async fn tag(session: &Session, predicate: &str, column: &str, value: Option<&str>, done: bool) -> Result<Curated> {
    if let (CURATION, Some(mark)) = (column, value)
        && ![KEEP, IGNORE].contains(&mark)
    {
        return Err(Error::NoMark { mark: mark.into() });
    }
    session.check_condition(predicate).await?;
    let lock = begin(session, done).await?;
    let spared = match (column, value) {
        (CURATION, Some(IGNORE)) => is_marked(session.store(), KEEP).await?,
        _ => "false".into(),
    };
    let rows = format!("({predicate}) AND NOT {spared}");
    let kept = session.count_where(&format!("({predicate}) AND {spared}")).await?;
    let all = session.count_where(&rows).await?;
    let changed = session.tag(lock.as_ref(), &rows, predicate, column, value).await?;
    Ok(Curated { changed, unchanged: all.saturating_sub(changed), kept })
}

/// Delete the images for which a predicate holds, but for those marked `keep`, in one commit. Nothing is deleted unless `done`. Banks are behind
/// until they are refreshed.
///
/// Errors: another writer; a predicate that fails.
pub async fn delete(session: &Session, predicate: &str, done: bool) -> Result<Curated> {
    session.check_condition(predicate).await?;
    let lock = begin(session, done).await?;
    let spared = is_marked(session.store(), KEEP).await?;
    let goes = format!("({predicate}) AND NOT {spared}");
    let kept = session.count_where(&format!("({predicate}) AND {spared}")).await?;
    let Some(lock) = lock else {
        return Ok(Curated { changed: session.count_where(&goes).await?, unchanged: 0, kept });
    };
    let ids = session.ids_where(&goes).await?;
    if !ids.is_empty() {
        let change = Change { predicate: Some(predicate.into()), ..Change::of("delete") };
        session.delete_ids(&lock, &ids, change).await?;
    }
    Ok(Curated { changed: ids.len() as u64, unchanged: 0, kept })
}

/// Where something is to be done: the lock, under which is found what it is done to, as others have left it.
async fn begin(session: &Session, done: bool) -> Result<Option<WriteLock>> {
    if !done {
        return Ok(None);
    }
    session.check_may_change()?;
    let lock = session.store().lock_in_turn().await?;
    session.renew().await?;
    Ok(Some(lock))
}
