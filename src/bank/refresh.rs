//! Banks that follow their table: a bank is moved to the latest version, and its files made anew where too much changed.

use super::changes::{Difference, churn_of, difference};
use super::derived::{Derived, base, derived, make};
use super::graph::has_worn;
use super::tags::{advance_version, untag_other_versions};
use super::{Definition, changes, find, list};
use crate::error::{Error, Result};
use crate::schema;
use crate::store::{Store, WriteLock};

/// Share of a file's rows that may have changed before it is made anew: what is gone stays in a graph as a way to others
/// and in an exact index as an empty place, and every opening and search pays for it.
const MOST_CHURN: f64 = 0.2;

/// What [`refresh`] did.
#[derive(Debug, Clone, PartialEq)]
pub struct Refreshed {
    /// The bank as it is now.
    pub bank: Definition,
    /// Rows that it gained, lost, and has with another embedding.
    pub added: usize,
    /// As above.
    pub removed: usize,
    /// As above.
    pub changed: usize,
    /// Whether its index files were made anew.
    pub rebuilt: bool,
}

impl Refreshed {
    /// Whether its rows and embeddings are those it had before.
    pub fn is_unchanged(&self) -> bool {
        self.added + self.removed + self.changed == 0
    }
}

/// Move a bank to the latest version of `images`. What did not change is not read, but for ids; a bank whose rows are
/// the same keeps its version, and with it calibrations and kept scores.
///
/// Scores afterwards are those of a bank made from scratch. Errors: an unknown bank, one that would hold fewer rows than
/// k, a version that is no longer kept.
pub async fn refresh(store: &Store, name: &str) -> Result<Refreshed> {
    let lock = store.lock_in_turn().await?;
    refresh_locked(store, &lock, find(store, name).await?).await
}

/// [`refresh`] every bank; each has an answer of its own.
pub async fn refresh_all(store: &Store) -> Result<Vec<(String, Result<Refreshed>)>> {
    let lock = store.lock_in_turn().await?;
    let mut all = Vec::new();
    for bank in list(store).await? {
        let name = bank.name.clone();
        all.push((name, refresh_locked(store, &lock, bank).await));
    }
    Ok(all)
}

async fn refresh_locked(store: &Store, lock: &WriteLock, before: Definition) -> Result<Refreshed> {
    let latest = store.version(schema::IMAGES).await?;
    let unchanged = |bank: Definition| Refreshed { bank, added: 0, removed: 0, changed: 0, rebuilt: false };
    if before.follows() == latest {
        return Ok(unchanged(before));
    }
    let columns = store.embedding_columns().await?;
    if !columns.iter().any(|column| column.backbone == before.backbone && column.sha256 == before.sha256) {
        let known = columns.into_iter().map(|column| column.backbone).collect();
        return Err(Error::NoEmbeddings { name: before.backbone, known });
    }
    let mut bank = Definition { table_version: latest, checked_version: None, ..before.clone() };
    let difference = difference(store, &before, &bank).await?;
    if difference.is_empty() {
        let bank = Definition { checked_version: Some(latest), ..before };
        advance_version(store, lock, &bank).await?;
        return Ok(unchanged(bank));
    }
    bank.row_count = difference.after;
    if bank.row_count < bank.k {
        return Err(Error::BankTooSmall { bank: bank.name, rows: bank.row_count, k: bank.k });
    }
    store.tag(schema::IMAGES, &bank.tag(), bank.table_version).await?;
    let parts = derived(&bank)?;
    let mut outdated = Vec::new();
    for part in &parts {
        let anew = match base(store, part).await? {
            // of a shard about as much has changed as of all
            Some(base) if base.table_version == before.table_version => difference.churn() > MOST_CHURN,
            Some(base) => {
                // a version that is gone cannot be compared with
                changes::difference(store, &base, &part.of).await.map_or(true, |since| since.churn() > MOST_CHURN)
            }
            None => true,
        };
        if anew {
            outdated.push(part.clone());
        }
    }
    make(store, lock, &bank, &outdated).await?;
    let graph = parts.into_iter().find(|part| part.which == Derived::Graph && !outdated.contains(part));
    if let Some(graph) = graph
        && has_worn(store, &bank, lock).await
    {
        make(store, lock, &bank, std::slice::from_ref(&graph)).await?;
        outdated.push(graph);
    }
    // the row last: until then the bank is what it was
    store.write_rows(lock, schema::BANKS, &["name"], std::slice::from_ref(&bank)).await?;
    untag_other_versions(store, &bank).await?;
    let Difference { added, removed, changed, .. } = difference;
    let rebuilt = !outdated.is_empty();
    Ok(Refreshed { bank, added: added.len(), removed: removed.len(), changed: changed.len(), rebuilt })
}

/// Share of the rows that has changed since the bank's files were made, the largest; `None` where one is missing.
pub async fn churn(store: &Store, bank: &Definition) -> Result<Option<f64>> {
    let mut most: f64 = 0.0;
    for part in derived(bank)? {
        match base(store, &part).await? {
            Some(base) => most = most.max(churn_of(store, &part.of, &base).await?),
            None => return Ok(None),
        }
    }
    Ok(Some(most))
}
