//! Which files an ingest has met before: rows of `images`, deletions, and files of the same run.
//!
//! An image is its dataset and its uri, by where the file really is: moved to another split it stays the same image.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::AsArray;
use futures::TryStreamExt;

use super::options::IngestOptions;
use super::rejects::RecoveryWatch;
use crate::error::Result;
use crate::identity::{Digest, Lookup, Row, digest, short_digest};
use crate::image::{Folders, ImageFile};
use crate::schema;
use crate::store::{Store, WriteLock, quote};

/// Why a file is embedded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Add,
    /// Where nobody says a label, the row's own stays.
    Replace {
        id: u64,
        keeps_label: bool,
    },
    Fill {
        id: u64,
    },
    /// The row came as numbers: its picture is new to it.
    Meet {
        id: u64,
    },
}

/// What is known of the files of a dataset before it is read.
pub(super) struct Known {
    lookup: Lookup,
    dataset: String,
    split: u64,
    /// Numbers of the columns that an embedded row has filled.
    columns: Vec<Option<i32>>,
    /// Deleted images, as their files were.
    deleted: HashSet<(Digest, Digest)>,
}

impl Known {
    /// The rows of the dataset, which are embedded where all of `columns` are there, and what was deleted of it, unless
    /// that is to come back.
    pub(super) async fn of<'c>(
        store: &Store,
        lock: &WriteLock,
        columns: impl Iterator<Item = &'c str>,
        options: &IngestOptions,
    ) -> Result<Self> {
        let lookup = Lookup::current(store, lock).await?;
        let columns = lookup.columns(columns);
        let (dataset, split) = (options.dataset.clone(), short_digest(&options.split));
        let mut known = Self { lookup, dataset, split, columns, deleted: HashSet::new() };
        if !options.again {
            let mut folders = Folders::default();
            let columns = [schema::URI, schema::CONTENT_HASH];
            let mut batches = store.scan(schema::DELETIONS, None, &columns, Some(&of_dataset(options))).await?;
            while let Some(batch) = batches.try_next().await? {
                let (uris, hashes) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
                let deleted = (0..batch.num_rows()).map(|row| {
                    let uri = folders.uri(uris.value(row));
                    (known.digest(&uri), known.digest(hashes.value(row)))
                });
                let deleted: Vec<_> = deleted.collect();
                known.deleted.extend(deleted);
            }
        }
        Ok(known)
    }

    fn digest(&self, text: &str) -> Digest {
        digest(&self.dataset, text)
    }

    /// The row of an image. A database of an earlier version may have it in several splits: that of this ingest is meant.
    fn row(&self, uri: &Digest) -> Result<Option<Row>> {
        let mut rows = self.lookup.rows(uri)?;
        let here = rows.iter().position(|row| row.split == self.split).unwrap_or(0);
        Ok(if rows.is_empty() { None } else { Some(rows.swap_remove(here)) })
    }

    /// What each file is for; `None` where it is left alone, and why is in `met`.
    pub(super) fn decide(
        self,
        mut watch: RecoveryWatch,
        met: Met,
    ) -> impl FnMut(&ImageFile, &str) -> Result<Option<Purpose>> + Send {
        let mut seen: HashMap<Digest, (Digest, Option<u64>)> = HashMap::new();
        move |file, hash| {
            let (uri, content) = (self.digest(&file.uri), self.digest(hash));
            let mut met = met.lock();
            let label = file.label.as_ref().filter(|_| file.is_labelled);
            if let Some(first) = seen.get_mut(&uri) {
                if first.0 == content {
                    met.repeated += 1;
                    // of what several lists and tables say, the last counts
                    if let Some(label) = label.filter(|label| first.1 != Some(short_digest(label))) {
                        first.1 = Some(short_digest(label));
                        match self.row(&uri)? {
                            Some(row) => met.label(&row, &file.uri, label),
                            None => drop(met.later_labels.insert(file.uri.clone(), label.clone())),
                        }
                    }
                } else {
                    met.clashed += 1;
                    met.first_clash.get_or_insert_with(|| file.uri.clone());
                }
                return Ok(None);
            }
            seen.insert(uri, (content, file.label.as_deref().map(short_digest)));
            watch.read(&file.uri);
            let Some(row) = self.row(&uri)? else {
                // one that came as numbers was deleted whatever its file holds
                if self.deleted.contains(&(uri, content)) || self.deleted.contains(&(uri, self.digest(""))) {
                    met.deleted += 1;
                    watch.unchanged(&file.uri);
                    return Ok(None);
                }
                met.copies += usize::from(self.lookup.holds(&content)?);
                return Ok(Some(Purpose::Add));
            };
            met.in_other_splits += usize::from(row.split != self.split);
            if row.content == self.digest("") {
                if let Some(label) = label {
                    met.label(&row, &file.uri, label);
                }
                return Ok(Some(Purpose::Meet { id: row.id }));
            }
            if row.content != content {
                return Ok(Some(Purpose::Replace { id: row.id, keeps_label: label.is_none() }));
            }
            met.rows.insert(row.id);
            if let Some(label) = label {
                met.label(&row, &file.uri, label);
            }
            if !self.columns.iter().all(|column| column.is_some_and(|column| row.filled.contains(&column))) {
                return Ok(Some(Purpose::Fill { id: row.id }));
            }
            watch.unchanged(&file.uri);
            Ok(None)
        }
    }
}

/// SQL for the rows of the dataset.
pub(super) fn of_dataset(options: &IngestOptions) -> String {
    format!("{} = {}", schema::DATASET, quote(&options.dataset))
}

/// What a list, a table or the data set says of a row's label.
pub(super) struct NewLabel {
    pub(super) uri: String,
    pub(super) label: String,
    /// What the row has.
    before: Option<u64>,
}

impl NewLabel {
    /// Whether the row has another one.
    pub(super) fn is_other(&self) -> bool {
        self.before != Some(short_digest(&self.label))
    }
}

/// What was met among the files that is not counted with the batches.
#[derive(Default)]
pub(super) struct Found {
    /// Files that were given twice.
    pub(super) repeated: usize,
    /// Files that have the name of another one of this run, and hold something else.
    pub(super) clashed: usize,
    pub(super) first_clash: Option<String>,
    /// Files of images that were deleted.
    pub(super) deleted: usize,
    /// New files that hold what a file of another uri does.
    pub(super) copies: usize,
    /// Files whose rows are in another split.
    pub(super) in_other_splits: usize,
    /// Rows whose files are as they were.
    pub(super) rows: HashSet<u64>,
    /// By id: what is said of rows that are there.
    pub(super) labels: HashMap<u64, NewLabel>,
    /// By uri: labels of new images that a later list or table gives than the one that they were first found by.
    pub(super) later_labels: HashMap<String, String>,
}

impl Found {
    fn label(&mut self, row: &Row, uri: &str, label: &str) {
        let new = NewLabel { uri: uri.into(), label: label.into(), before: row.label };
        self.labels.insert(row.id, new);
    }
}

/// Filled while files are read, by another thread.
#[derive(Clone, Default)]
pub(super) struct Met(Arc<Mutex<Found>>);

impl Met {
    fn lock(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of it, once nothing is read any more.
    pub(super) fn take(&self) -> Found {
        std::mem::take(&mut self.lock())
    }
}
