//! Space given back: small files merged, what was deleted left out of them, and versions pruned that nobody needs.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use lance::Dataset;
use lance::dataset::cleanup::CleanupPolicy;
use lance::dataset::optimize::{CompactionOptions, CompactionPlanner, compact_files_with_planner};

use super::lease;
use super::lock::ReadLock;
use super::native::{dataset, lance};
use super::pictures::{self, BoundedCompaction};
use super::{Store, WriteLock};
use crate::error::Result;
use crate::schema;

/// Rows that compaction reads at once, where they are not larger than others.
const COMPACTED_AT_ONCE: usize = 1024;

/// Rows up to which fragments are merged, into ones of less than twice as many: a column that is written for some rows of
/// a fragment is written for all of them.
const FRAGMENT_ROWS: usize = 65_536;

/// Share of a fragment's rows above which deleted ones are worth writing it anew, where nobody asked for that.
const MOST_DELETED: f32 = 0.1;

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
        let versions = self.versions(name).await?.len();
        let bytes = self.location.table_bytes(name).await?;
        Ok(Footprint { fragments, versions, bytes })
    }

    /// Bytes of all files of the database.
    pub async fn bytes(&self) -> Result<u64> {
        self.location.bytes().await
    }

    /// Merge a table's small fragments and leave deleted rows out of them; its rows are the same, and so are their ids.
    pub async fn compact(&self, _lock: &WriteLock, table: &str) -> Result<()> {
        self.compact_within(table, pictures::FRAGMENT_BYTES).await
    }

    /// The same, where that makes the fragments fewer by `past` at least: how many there were, and are. Of fragments that are
    /// merged with no other, those are written anew of which more than a tenth is deleted.
    pub async fn compact_past(&self, _lock: &WriteLock, table: &str, past: usize) -> Result<Option<(usize, usize)>> {
        let before = dataset(&self.table(table).await?).await?.count_fragments();
        if before <= past {
            return Ok(None);
        }
        let mut dataset = Dataset::clone(&*dataset(&self.writable(table).await?).await?);
        let planner = planner(&dataset, pictures::FRAGMENT_BYTES, MOST_DELETED);
        let plan = planner.plan(&dataset).await.map_err(lance)?;
        let fewer: usize = plan.tasks.iter().map(|task| task.fragments.len().saturating_sub(1)).sum();
        if fewer < past {
            return Ok(None);
        }
        compact_files_with_planner(&mut dataset, None, &planner).await.map_err(lance)?;
        Ok(Some((before, dataset.count_fragments())))
    }

    /// The same, into fragments of so many bytes.
    async fn compact_within(&self, table: &str, bytes: u64) -> Result<()> {
        let mut dataset = Dataset::clone(&*dataset(&self.writable(table).await?).await?);
        // what was deleted is gone, and not only most of it
        let planner = planner(&dataset, bytes, 0.0);
        compact_files_with_planner(&mut dataset, None, &planner).await.map_err(lance)?;
        Ok(())
    }

    /// Remove the versions of all tables that are older than `keep`, but the latest and tagged ones and those that somebody
    /// has pinned, and what crashed writers left. Gives the number of old versions that are pinned; `None`, and nothing is
    /// done, where others are reading at the moment.
    pub async fn prune(&self, _lock: &WriteLock, keep: Duration) -> Result<Option<usize>> {
        let before = TimeDelta::from_std(keep).ok().and_then(|keep| Utc::now().checked_sub_signed(keep));
        let all = async {
            let Some(pinned) = lease::pinned(&self.location).await? else { return Ok(None) };
            self.forget_versions();
            let mut still_read = 0;
            for table in schema::TABLES {
                let (pinned, young) =
                    (pinned.get(table).cloned().unwrap_or_default(), self.location.young(table).await?);
                let dataset = dataset(&self.writable(table).await?).await?;
                let tags = dataset.tags().list().await.map_err(lance)?;
                let (latest, mut removed) = (dataset.version().version, HashSet::new());
                for version in self.versions(table).await? {
                    if !pinned.contains(&version) {
                        removed.extend(Some(version).filter(|version| !young.contains(version)));
                    } else if version != latest && !tags.values().any(|tag| tag.version == version) {
                        still_read += 1;
                    }
                }
                let policy = CleanupPolicy {
                    before_timestamp: Some(before.unwrap_or(DateTime::<Utc>::MIN_UTC)),
                    versions: Some(removed),
                    // nobody else writes: what no version refers to was left by a crash
                    delete_unverified: true,
                    error_if_tagged_old_versions: false,
                    ..CleanupPolicy::default()
                };
                dataset.cleanup(policy).execute().await.map_err(lance)?;
                self.location.remove_unfinished(table)?;
            }
            Ok(Some(still_read))
        };
        Ok(ReadLock::alone(&self.location, all).await?.flatten())
    }
}

/// How a table is compacted: into fragments of so many bytes, and without deleted rows in those that have a larger share of
/// them.
fn planner(dataset: &Dataset, bytes: u64, deleted: f32) -> BoundedCompaction {
    let large = dataset.schema().fields.iter().any(|field| pictures::is_large(&field.into()));
    let options = CompactionOptions {
        materialize_deletions_threshold: deleted,
        batch_size: Some(pictures::rows_at_once(dataset, COMPACTED_AT_ONCE)),
        // pictures are read ahead by every task at once
        num_threads: large.then_some(1),
        io_buffer_size: large.then_some(pictures::READ_AHEAD),
        // for what is taken apart; a merged file may be a little larger than those it is made of
        max_bytes_per_file: Some((bytes + bytes / 8) as usize),
        target_rows_per_fragment: FRAGMENT_ROWS,
        ..CompactionOptions::default()
    };
    BoundedCompaction { options, bytes }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray, TimestampNanosecondArray, UInt32Array, UInt64Array,
        new_null_array,
    };
    use futures::TryStreamExt;

    use super::*;

    /// So many images with pictures of `bytes` bytes each, from the id on.
    async fn add(store: &Store, lock: &WriteLock, ids: std::ops::Range<u64>, bytes: usize) {
        let rows = (ids.end - ids.start) as usize;
        let table = store.schema(schema::IMAGES).await.unwrap();
        let columns = table.fields().iter().map(|field| -> ArrayRef {
            match field.name().as_str() {
                schema::ID => Arc::new(UInt64Array::from_iter_values(ids.clone())),
                schema::BYTES => Arc::new(BinaryArray::from_iter_values(ids.clone().map(|id| picture(id, bytes)))),
                schema::DATASET | schema::SPLIT | schema::URI | schema::CONTENT_HASH => {
                    Arc::new(StringArray::from(vec!["x"; rows]))
                }
                schema::WIDTH | schema::HEIGHT => Arc::new(UInt32Array::from(vec![1; rows])),
                schema::INGESTED_AT => Arc::new(TimestampNanosecondArray::from(vec![0; rows])),
                _ => new_null_array(field.data_type(), rows),
            }
        });
        let batch = RecordBatch::try_new(Arc::clone(&table), columns.collect()).unwrap();
        store.append(lock, schema::IMAGES, batch).await.unwrap();
    }

    /// Bytes that nobody compresses.
    fn picture(id: u64, bytes: usize) -> Vec<u8> {
        let mut state = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let next = |state: &mut u64| {
            *state ^= *state << 13;
            *state ^= *state >> 7;
            *state ^= *state << 17;
            *state as u8
        };
        (0..bytes).map(|_| next(&mut state)).collect()
    }

    #[tokio::test]
    async fn pictures_are_not_merged_into_a_fragment_that_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(folder.path()).await.unwrap();
        let lock = store.lock().await.unwrap();
        // six commits of about 1 MB, to be merged into fragments of 2.5 MB
        for commit in 0..6 {
            add(&store, &lock, commit * 20..(commit + 1) * 20, 50_000).await;
        }
        let fragments = async || store.footprint(schema::IMAGES).await.unwrap().fragments;
        assert_eq!(fragments().await, 6);
        store.compact_within(schema::IMAGES, 2_500_000).await.unwrap();
        assert_eq!(fragments().await, 3);
        // nothing is left to do, and nothing is written again
        let version = store.version(schema::IMAGES).await.unwrap();
        store.compact_within(schema::IMAGES, 2_500_000).await.unwrap();
        assert_eq!((fragments().await, store.version(schema::IMAGES).await.unwrap()), (3, version));
        // rows that were deleted are left out all the same
        store.delete(&lock, schema::IMAGES, "id % 2 = 0").await.unwrap();
        store.compact_within(schema::IMAGES, 2_500_000).await.unwrap();
        assert_eq!(store.count(schema::IMAGES).await.unwrap(), 60);
        assert!(fragments().await <= 3);
        let read = store.scan(schema::IMAGES, None, &[schema::ID, schema::BYTES], Some("id = 77")).await.unwrap();
        let read: Vec<RecordBatch> = read.try_collect().await.unwrap();
        let bytes = read[0].column(1).as_binary::<i32>().value(0).to_vec();
        assert_eq!((read.len(), bytes), (1, picture(77, 50_000)));
    }
}
