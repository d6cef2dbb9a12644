//! Columns of the user's own set for many images at once, and images deleted: but for those that are to be kept.

use super::marks::{KEEP, is_marked};
use crate::error::{Error, Result};
use crate::sql::session::{Session, expression};

/// What a verb did, or would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Curated {
    /// Images that it changed, or would.
    pub changed: u64,
    /// Images for which the predicate holds and that stay as they are: they have the value already, or are marked `keep`.
    pub others: u64,
}

/// Set a column of the user's own (TEXT where it is not there yet), `label` or `split` to a value, or to NULL, where a predicate holds; in one
/// entry of `curation_log`. Nothing is written unless `done`, nor where all have the value.
///
/// Errors: another writer; a predicate that fails; a column that is Outskirt's; a value that does not fit it.
pub async fn tag(session: &Session, predicate: &str, column: &str, value: Option<&str>, done: bool) -> Result<Curated> {
    one_expression(predicate)?;
    let all = session.count_where(predicate).await?;
    let changed = session.tag(predicate, column, value, done).await?;
    Ok(Curated { changed, others: all.saturating_sub(changed) })
}

/// Delete the images for which a predicate holds, but for those marked `keep`, in one commit. Nothing is deleted unless `done`. Banks are behind
/// until they are refreshed.
///
/// Errors: another writer; a predicate that fails.
pub async fn delete(session: &Session, predicate: &str, done: bool) -> Result<Curated> {
    one_expression(predicate)?;
    let goes = format!("({predicate}) AND NOT {}", is_marked(session.store(), KEEP).await?);
    let all = session.count_where(predicate).await?;
    let changed = if done { session.delete_where(&goes).await? } else { session.count_where(&goes).await? };
    Ok(Curated { changed, others: all.saturating_sub(changed) })
}

/// One expression, or its parentheses could close ours.
fn one_expression(predicate: &str) -> Result<()> {
    expression(predicate).map_err(|reason| Error::BadPredicate { predicate: predicate.into(), reason }).map(drop)
}
