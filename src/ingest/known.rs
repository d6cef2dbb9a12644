//! Which files an ingest has met before: rows of `images`, deletions, and files of the same run.
//!
//! An image is its dataset and its uri, by where the file really is: moved to another split it stays the same image.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, AsArray};
use arrow::datatypes::UInt64Type;
use futures::TryStreamExt;
use sha2::{Digest as _, Sha256};

use super::options::IngestOptions;
use super::rejects::RecoveryWatch;
use crate::error::Result;
use crate::image::{Folders, ImageFile};
use crate::schema;
use crate::store::{Store, quote};

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
}

/// Stands for a text: half of its SHA-256. A million uris take 16 MB, and no two of them the same.
type Digest = [u8; 16];

fn digest(text: &str) -> Digest {
    let mut digest = [0; 16];
    digest.copy_from_slice(&Sha256::digest(text)[..16]);
    digest
}

/// A row that is there already.
struct Row {
    id: u64,
    content_hash: Digest,
    label: Option<Digest>,
    is_embedded: bool,
    /// Whether its split is the one of this ingest.
    is_here: bool,
}

/// What is known of the files of a dataset before it is read.
pub(super) struct Known {
    rows: HashMap<Digest, Row>,
    /// What the files of all rows hold.
    contents: HashSet<Digest>,
    /// Deleted images, as their files were.
    deleted: HashSet<(Digest, Digest)>,
}

impl Known {
    /// The rows of the dataset, which are embedded where all of `columns` are there, and what was deleted of it, unless
    /// that is to come back.
    pub(super) async fn of<'c>(
        store: &Store,
        columns: impl Iterator<Item = &'c str>,
        options: &IngestOptions,
    ) -> Result<Self> {
        let of_dataset = of_dataset(options);
        let embedded_only = columns.fold(of_dataset.clone(), |sql, column| format!("{sql} AND {column} IS NOT NULL"));
        let mut embedded: HashSet<u64> = HashSet::new();
        let mut batches = store.scan(schema::IMAGES, None, &[schema::ID], Some(&embedded_only)).await?;
        while let Some(batch) = batches.try_next().await? {
            embedded.extend(batch.column(0).as_primitive::<UInt64Type>().values());
        }
        let mut folders = Folders::default();
        let columns = [schema::ID, schema::URI, schema::CONTENT_HASH, schema::LABEL, schema::SPLIT];
        let mut known = Self { rows: HashMap::new(), contents: HashSet::new(), deleted: HashSet::new() };
        let mut batches = store.scan(schema::IMAGES, None, &columns, Some(&of_dataset)).await?;
        while let Some(batch) = batches.try_next().await? {
            let ids = batch.column(0).as_primitive::<UInt64Type>();
            let text = |column: usize| batch.column(column).as_string::<i32>();
            let (uris, hashes, labels, splits) = (text(1), text(2), text(3), text(4));
            for row in 0..batch.num_rows() {
                let id = ids.value(row);
                let content_hash = digest(hashes.value(row));
                let label = labels.is_valid(row).then(|| digest(labels.value(row)));
                let is_here = splits.value(row) == options.split;
                known.contents.insert(content_hash);
                let found = Row { id, content_hash, label, is_embedded: embedded.contains(&id), is_here };
                // a database of an earlier version may have it in several splits: that of this ingest is meant
                match known.rows.entry(digest(&folders.uri(uris.value(row)))) {
                    Entry::Occupied(other) if !is_here || other.get().is_here => {}
                    place => drop(place.insert_entry(found)),
                }
            }
        }
        if !options.again {
            let columns = [schema::URI, schema::CONTENT_HASH];
            let mut batches = store.scan(schema::DELETIONS, None, &columns, Some(&of_dataset)).await?;
            while let Some(batch) = batches.try_next().await? {
                let (uris, hashes) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
                let both =
                    (0..batch.num_rows()).map(|row| (digest(&folders.uri(uris.value(row))), digest(hashes.value(row))));
                known.deleted.extend(both);
            }
        }
        Ok(known)
    }

    /// What each file is for; `None` where it is left alone, and why is in `met`.
    pub(super) fn decide(
        self,
        mut watch: RecoveryWatch,
        met: Met,
    ) -> impl FnMut(&ImageFile, &str) -> Option<Purpose> + Send {
        let mut seen: HashMap<Digest, (Digest, Option<Digest>)> = HashMap::new();
        move |file, hash| {
            let (uri, content) = (digest(&file.uri), digest(hash));
            let mut met = met.lock();
            let label = file.label.as_ref().filter(|_| file.is_labelled);
            if let Some(first) = seen.get_mut(&uri) {
                if first.0 == content {
                    met.repeated += 1;
                    // of what several lists and tables say, the last counts
                    if let Some(label) = label.filter(|label| first.1 != Some(digest(label))) {
                        first.1 = Some(digest(label));
                        match self.rows.get(&uri) {
                            Some(row) => met.label(row, &file.uri, label),
                            None => drop(met.later_labels.insert(file.uri.clone(), label.clone())),
                        }
                    }
                } else {
                    met.clashed += 1;
                    met.first_clash.get_or_insert_with(|| file.uri.clone());
                }
                return None;
            }
            seen.insert(uri, (content, file.label.as_ref().map(|label| digest(label))));
            watch.read(&file.uri);
            let Some(row) = self.rows.get(&uri) else {
                if self.deleted.contains(&(uri, content)) {
                    met.deleted += 1;
                    watch.unchanged(&file.uri);
                    return None;
                }
                met.copies += usize::from(self.contents.contains(&content));
                return Some(Purpose::Add);
            };
            met.in_other_splits += usize::from(!row.is_here);
            if row.content_hash != content {
                return Some(Purpose::Replace { id: row.id, keeps_label: label.is_none() });
            }
            met.rows.insert(row.id);
            if let Some(label) = label {
                met.label(row, &file.uri, label);
            }
            if !row.is_embedded {
                return Some(Purpose::Fill { id: row.id });
            }
            watch.unchanged(&file.uri);
            None
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
    before: Option<Digest>,
}

impl NewLabel {
    /// Whether the row has another one.
    pub(super) fn is_other(&self) -> bool {
        self.before != Some(digest(&self.label))
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
