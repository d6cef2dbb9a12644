//! Space given back: small files merged, what was deleted left out of them, and versions pruned that nobody needs.

use std::time::Duration;

use chrono::TimeDelta;
use lancedb::table::{CompactionOptions, OptimizeAction};

use super::files::{folder_bytes, remove_unfinished};
use super::{Store, WriteLock};
use crate::error::Result;
use crate::schema;

/// Rows that compaction reads at once: images may be stored beside their embeddings.
const COMPACTED_AT_ONCE: usize = 1024;

/// Rows up to which fragments are merged, into ones of less than twice as many: a column that is written for some rows of
/// a fragment is written for all of them.
const FRAGMENT_ROWS: usize = 65_536;

/// What a table takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Pieces that its rows are kept in.
    pub fragments: usize,
    /// Versions that can be read.
    pub versions: usize,
    /// Bytes of all files.
    pub bytes: u64,
}

impl Store {
    /// What a table takes now.
    pub async fn footprint(&self, name: &str) -> Result<Footprint> {
        let table = self.table(name).await?;
        let fragments = match table.as_native() {
            Some(native) => native.count_fragments().await?,
            None => 0,
        };
        let versions = table.list_versions().await?.len();
        let bytes = folder_bytes(&self.folder().join(format!("{name}.lance")))?;
        Ok(Footprint { fragments, versions, bytes })
    }

    /// Bytes of all files of the database.
    pub fn bytes(&self) -> Result<u64> {
        folder_bytes(self.folder())
    }

    /// Merge a table's small fragments and leave deleted rows out of them; its rows are the same, and so are their ids.
    pub async fn compact(&self, _lock: &WriteLock, table: &str) -> Result<()> {
        let options = CompactionOptions {
            // what was deleted is gone, and not only most of it
            materialize_deletions_threshold: 0.0,
            batch_size: Some(COMPACTED_AT_ONCE),
            target_rows_per_fragment: FRAGMENT_ROWS,
            ..CompactionOptions::default()
        };
        let compact = OptimizeAction::Compact { options, remap_options: None };
        self.writable(table).await?.optimize(compact).await?;
        Ok(())
    }

    /// Remove the versions of all tables that are older than `keep`, but the latest and tagged ones, and what crashed
    /// writers left. False, and nothing is done, where others read the database: they may be at one of these versions.
    pub async fn prune(&self, _lock: &WriteLock, keep: Duration) -> Result<bool> {
        let older_than = TimeDelta::from_std(keep).unwrap_or(TimeDelta::MAX);
        let all = async {
            for table in schema::TABLES {
                let prune = OptimizeAction::Prune {
                    older_than: Some(older_than),
                    // nobody else writes: what no version refers to was left by a crash
                    delete_unverified: Some(true),
                    error_if_tagged_old_versions: Some(false),
                };
                self.writable(table).await?.optimize(prune).await?;
                remove_unfinished(&self.folder().join(format!("{table}.lance")))?;
            }
            Ok(())
        };
        Ok(self.reader.alone(all).await?.is_some())
    }
}
