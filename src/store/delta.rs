//! What differs between two versions of a table: only the fragments that are not the same in both are read.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use lance::Dataset;
use lance::dataset::transaction::Operation;

use super::Store;
use super::database::held;
use super::native::{dataset, lance};
use crate::error::Result;

/// Versions whose makers are read at once.
const READ_AT_ONCE: usize = 16;

/// Fragments of a version that another version does not have as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragments {
    table: String,
    version: u64,
    ids: HashSet<u64>,
}

impl Fragments {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

impl Store {
    /// What `from` and `to` do not have in common: fragments of the one, and of the other. One whose rows were deleted,
    /// or whose columns were written, is on both sides; every row that is in neither is the same in both versions.
    pub async fn different(&self, table: &str, from: u64, to: u64) -> Result<(Fragments, Fragments)> {
        let before = self.dataset(table, from).await?;
        let after = self.dataset(table, to).await?;
        let of = |version, ids| Fragments { table: table.into(), version, ids };
        Ok((of(from, own(&before, &after)), of(to, own(&after, &before))))
    }

    /// Whether each version after `from`, up to `to`, came from the one before it by writing and deleting rows. Not where an
    /// earlier version was restored, nor where that is not recorded any more: rows may differ then that no version says it
    /// has written.
    pub async fn is_linear(&self, table: &str, from: u64, to: u64) -> Result<bool> {
        let dataset = self.dataset(table, to).await?;
        let made_by_writing = |version| {
            let dataset = Arc::clone(&dataset);
            async move {
                match dataset.read_transaction_by_version(version).await {
                    Ok(Some(made)) => {
                        !matches!(made.operation, Operation::Restore { .. } | Operation::Overwrite { .. })
                    }
                    _ => false,
                }
            }
        };
        let mut versions = stream::iter(from + 1..=to).map(made_by_writing).buffer_unordered(READ_AT_ONCE);
        while let Some(is_made_by_writing) = versions.next().await {
            if !is_made_by_writing {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The version whose rows a version of a table brought back; none where it came about otherwise, or nobody knows.
    pub(super) async fn restored_by(&self, table: &str, version: u64) -> Result<Option<u64>> {
        let dataset = dataset(&self.table(table).await?).await?;
        Ok(match dataset.read_transaction_by_version(version).await {
            Ok(Some(made)) => match made.operation {
                Operation::Restore { version } => Some(version),
                _ => None,
            },
            _ => None,
        })
    }

    /// Stream columns of the rows of some fragments for which `filter` (SQL) holds.
    pub async fn scan_fragments(
        &self,
        fragments: &Fragments,
        columns: &[&str],
        filter: Option<&str>,
    ) -> Result<impl Stream<Item = Result<RecordBatch>> + Send + Unpin + use<>> {
        let lock = self.read_lock().await?;
        let table = self.table_at(&fragments.table, Some(fragments.version)).await?;
        let (hold, dataset) = (self.hold(lock, &table).await?, dataset(&table).await?);
        let own = dataset.fragments().iter().filter(|fragment| fragments.ids.contains(&fragment.id)).cloned().collect();
        let mut scanner = dataset.scan();
        scanner.with_fragments(own).project(columns).map_err(lance)?;
        if let Some(filter) = filter {
            scanner.filter(filter).map_err(lance)?;
        }
        Ok(held(scanner.try_into_stream().await.map_err(lance)?.map_err(lance), hold))
    }

    async fn dataset(&self, table: &str, version: u64) -> Result<Arc<Dataset>> {
        dataset(&self.table_at(table, Some(version)).await?).await
    }
}

/// Ids of the fragments of one version that another does not have as they are.
fn own(these: &Dataset, others: &Dataset) -> HashSet<u64> {
    let others: HashMap<u64, _> = others.fragments().iter().map(|one| (one.id, one)).collect();
    these.fragments().iter().filter(|one| others.get(&one.id) != Some(one)).map(|one| one.id).collect()
}
