//! Columns whose values are large, as pictures' bytes are: read in batches, and kept in fragments, that are bounded by bytes.
//!
//! Arrow counts the bytes of a `Binary` array in 31 bits, and Lance 14 makes one array of all rows of a batch: a batch with more
//! than 2 GiB of pictures ends in `Offset overflow error`. Fragments are written with fewer bytes than that, so that no client
//! meets it, whatever batches it reads; those of older databases are read here in batches that are small enough.

use arrow::datatypes::{DataType, Field, Schema};
use lance::Dataset;
use lance::dataset::optimize::{
    CompactionOptions, CompactionPlan, CompactionPlanner, DefaultCompactionPlanner, TaskData,
};
use lance::dataset::scanner::Scanner;
use lance::table::format::{DataFile, Fragment};

use super::native::lance;
use crate::error::Result;

/// Bytes of a fragment's files, about: with room to spare below the 2 GiB that an array counts.
pub(super) const FRAGMENT_BYTES: u64 = 3 << 29;

/// Bytes of the rows that are read together, on the average of a fragment.
const BATCH_BYTES: u64 = 32 << 20;

/// Rows that are read together at least. In a fragment of an older database they may be larger than its average.
const FEWEST_ROWS: usize = 16;

/// Bytes that are read ahead of being decoded; Lance's own default is 2 GiB.
pub(super) const READ_AHEAD: u64 = 64 << 20;

/// Whether a column's values may be large.
pub(super) fn is_large(field: &Field) -> bool {
    matches!(field.data_type(), DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

/// Whether one of these columns is.
pub(super) fn has_large(schema: &Schema, columns: &[&str]) -> bool {
    columns.iter().any(|column| schema.field_with_name(column).is_ok_and(is_large))
}

/// Rows of whole width that fit [`BATCH_BYTES`], up to `most`.
pub(super) fn rows_at_once(dataset: &Dataset, most: usize) -> usize {
    let sizes = dataset.fragments().iter().map(|fragment| (file_bytes(fragment), fragment.physical_rows));
    rows_within(BATCH_BYTES, sizes, most)
}

/// The same, of fragments' bytes and rows; either may be unknown.
fn rows_within(bytes: u64, fragments: impl Iterator<Item = (Option<u64>, Option<usize>)>, most: usize) -> usize {
    let fitting = fragments.map(|(of_files, rows)| match (of_files, rows) {
        // more than a batch may hold, however it is spread over the rows
        (Some(of_files), Some(rows)) if of_files <= i32::MAX as u64 => {
            bytes.saturating_mul(rows as u64).checked_div(of_files).unwrap_or(u64::MAX)
        }
        _ => 0,
    });
    (fitting.min().unwrap_or(u64::MAX).max(FEWEST_ROWS as u64)).min(most as u64) as usize
}

/// Bytes of a fragment's files, where all of them are known.
fn file_bytes(fragment: &Fragment) -> Option<u64> {
    fragment.files.iter().map(|file: &DataFile| file.file_size_bytes.get().map(u64::from)).sum()
}

/// A scan of columns whose values are large, in batches of `most` rows at most; its rows keep their order.
pub(super) fn scanner(dataset: &Dataset, columns: &[&str], most: usize) -> Result<Scanner> {
    let mut scanner = dataset.scan();
    scanner.project(columns).map_err(lance)?;
    scanner.batch_size(rows_at_once(dataset, most)).io_buffer_size(READ_AHEAD);
    Ok(scanner)
}

/// Lance's plan of a compaction, its fragments bounded by bytes as well as by rows.
pub(super) struct BoundedCompaction {
    pub(super) options: CompactionOptions,
    pub(super) bytes: u64,
}

#[async_trait::async_trait]
impl CompactionPlanner for BoundedCompaction {
    async fn plan(&self, dataset: &Dataset) -> lance::Result<CompactionPlan> {
        let mut plan = DefaultCompactionPlanner::new(self.options.clone())?.plan(dataset).await?;
        let planned: Vec<Vec<Fragment>> = plan.tasks.drain(..).map(|task| task.fragments).collect();
        let mut runs: Vec<Vec<Fragment>> = planned.into_iter().flat_map(|task| runs_within(self.bytes, task)).collect();
        // what an older version merged beyond that is taken apart, by `max_bytes_per_file`
        let too_large = |fragment: &&Fragment| file_bytes(fragment).is_some_and(|bytes| bytes > i32::MAX as u64);
        for fragment in dataset.fragments().iter().filter(too_large) {
            if !runs.iter().flatten().any(|planned| planned.id == fragment.id) {
                runs.push(vec![fragment.clone()]);
            }
        }
        plan.tasks = runs.into_iter().map(|fragments| TaskData { fragments }).collect();
        Ok(plan)
    }
}

/// Fragments to be merged, divided where they would have more than so many bytes; one that is left alone and has nothing
/// deleted stays as it is.
fn runs_within(bytes: u64, fragments: Vec<Fragment>) -> Vec<Vec<Fragment>> {
    if fragments.len() == 1 {
        return vec![fragments];
    }
    let (mut runs, mut sum) = (Vec::<Vec<Fragment>>::new(), 0);
    for fragment in fragments {
        let own = file_bytes(&fragment).unwrap_or(0);
        match runs.last_mut() {
            Some(run) if sum + own <= bytes => run.push(fragment),
            _ => {
                runs.push(vec![fragment]);
                sum = 0;
            }
        }
        sum += own;
    }
    runs.retain(|run| run.len() > 1 || run.iter().any(|fragment| fragment.deletion_file.is_some()));
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_as_large_as_their_rows_allow() {
        let of = |fragments: &[(u64, usize)]| {
            let sizes = fragments.iter().map(|&(bytes, rows)| (Some(bytes), Some(rows)));
            rows_within(1 << 20, sizes, 8192)
        };
        // 1 kB a row, 10 kB a row, and the largest decides
        assert_eq!(of(&[(1 << 20, 1024)]), 1024);
        assert_eq!(of(&[(10 << 20, 1024)]), 102);
        assert_eq!(of(&[(1 << 20, 1024), (10 << 20, 1024)]), 102);
        assert_eq!(of(&[(10, 1024)]), 8192);
        assert_eq!(of(&[]), 8192);
        // pictures larger than a batch is to be; a fragment larger than an array can be, however small its rows; no sizes
        assert_eq!(of(&[(1 << 30, 10)]), FEWEST_ROWS);
        assert_eq!(of(&[((1 << 31) + 1, 100_000_000)]), FEWEST_ROWS);
        assert_eq!(rows_within(1 << 20, [(None, Some(5))].into_iter(), 8192), FEWEST_ROWS);
    }
}
