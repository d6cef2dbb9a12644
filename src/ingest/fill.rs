//! Fill the column of another backbone: the images of a database that it has not seen, embedded.
//!
//! Rows whose bytes are stored are embedded from those; the others are read again from their uri, and must be the file
//! that was ingested. Rows are walked some at a time, and committed when 128 MiB of numbers wait, or after a minute: a commit
//! writes the column anew for whole fragments, so there are few of them; what is held here does not grow with the number of
//! rows, and a fill that was interrupted goes on where it was. Not for new images: [`ingest`](super::ingest) adds those.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;

use super::columns::{Filled, Numbers};
use super::drive::{COMMIT_BYTES, COMMIT_ROWS, Sink, drive};
use super::pipeline::Batch;
use super::rejects::{Reject, Rejects};
use super::reread::embed_for;
use super::summary::IngestSummary;
use super::walk::{Row, walk};
use crate::backbone::Backbone;
use crate::error::{Error, Result};
use crate::schema;
use crate::store::{Change, Store, WriteLock, quote};

/// After which time rows are committed, however few they are.
const COMMIT_AFTER: Duration = Duration::from_secs(60);

const CHANGED: &str = "it has changed since it was ingested: run 'outskirt ingest' again";
const DAMAGED: &str = "its stored bytes are not those of its content_hash: run 'outskirt verify'";

/// What to fill, and how.
#[derive(Debug, Clone, Default)]
pub struct FillOptions {
    /// SQL over `images`: which rows; all where there is none.
    pub predicate: Option<String>,
    /// Threads that decode and embed.
    pub workers: usize,
}

/// Embed the images that `backbone` has not seen, or whose logits are asked for and missing. `progress(rows done, all
/// rows)` is called after each batch.
///
/// Of the summary, `filled` are the rows embedded now, `unchanged` those that were before.
///
/// Errors: another writer; a predicate that fails or matches nothing; a column filled by other weights; every image
/// refused.
pub async fn fill(
    store: &Store,
    backbone: &Backbone,
    options: &FillOptions,
    mut progress: impl FnMut(usize, usize),
) -> Result<IngestSummary> {
    let start = Instant::now();
    let lock = store.lock_in_turn().await?;
    let predicate = options.predicate.as_deref().unwrap_or("true");
    store.check_predicate(predicate).await?;
    let rows = store.count_where(schema::IMAGES, predicate).await?;
    if rows == 0 {
        return Err(Error::NothingToEmbed { predicate: predicate.into() });
    }
    let version_before = store.version(schema::IMAGES).await?;
    let filled = Filled::register(store, &lock, backbone).await?;
    let lacks = filled.columns().map(|column| format!("{column} IS NULL")).collect::<Vec<_>>().join(" OR ");
    let wanted = format!("({predicate}) AND ({lacks})");
    let all = store.count_where(schema::IMAGES, &wanted).await?;
    let mut summary = IngestSummary { unchanged: rows - all, ..IngestSummary::default() };
    if all == 0 {
        summary.wall = start.elapsed();
        return Ok(summary);
    }

    let (files, walking) = walk(store, wanted, None).await?;
    let changed = Arc::new(Mutex::new(Vec::new()));
    let batches = embed_for(files, backbone, options.workers, {
        let changed = Arc::clone(&changed);
        move |rows: &mut Vec<Row>, uri, hash| {
            let mut changed = changed.lock().unwrap_or_else(PoisonError::into_inner);
            rows.retain(|row| {
                // one that came as numbers has none
                let same = row.content_hash == hash || row.content_hash.is_empty();
                if !same {
                    let reason = if row.stored { DAMAGED } else { CHANGED };
                    changed.push(Reject { uri: uri.into(), reason: reason.into() });
                }
                same
            });
        }
    });
    let name = backbone.manifest().name.clone();
    let mut writer = Writer {
        store,
        lock: &lock,
        schema: store.schema(schema::IMAGES).await?,
        filled,
        rejects: Rejects::of(store, &lock, &name, format!("backbone = {}", quote(&name))).await?,
        lacks,
        changed,
        images: Vec::new(),
        refused: Vec::new(),
        rows: Vec::new(),
        ids: Vec::new(),
        embeddings: Vec::new(),
        logits: Vec::new(),
    };
    let before = summary.unchanged;
    let dimension = backbone.manifest().dimension;
    let driven = drive(batches, dimension, &mut writer, &mut summary, |files| progress(files - before, all)).await;
    let change = Change {
        detail: Some(format!("backbone {name}")),
        predicate: options.predicate.clone(),
        row_count: summary.filled as u64,
        ..Change::of("embed")
    };
    store.record(&lock, version_before, change).await?;
    driven?;
    walking.await.map_err(|_| Error::WorkerDied)??;
    summary.check_not_all_refused()?;
    summary.wall = start.elapsed();
    Ok(summary)
}

/// Turns embedded images into commits.
struct Writer<'a> {
    store: &'a Store,
    lock: &'a WriteLock,
    schema: SchemaRef,
    filled: Filled,
    rejects: Rejects<'a>,
    /// SQL: whether a row is not embedded.
    lacks: String,
    /// What was found changed or damaged since the last batch.
    changed: Arc<Mutex<Vec<Reject>>>,
    /// Uris of the images that wait.
    images: Vec<String>,
    /// What could not be embedded.
    refused: Vec<Reject>,
    /// The rows to write: which of those images, and the row's id.
    rows: Vec<usize>,
    ids: Vec<u64>,
    embeddings: Vec<f32>,
    logits: Vec<f32>,
}

impl Sink<Vec<Row>> for Writer<'_> {
    fn push(&mut self, batch: Batch<Vec<Row>>, summary: &mut IngestSummary) {
        for image in batch.images {
            self.rows.extend(image.purpose.iter().map(|_| self.images.len()));
            self.ids.extend(image.purpose.iter().map(|row| row.id));
            self.images.push(image.uri);
        }
        self.embeddings.extend(batch.embeddings);
        self.logits.extend(batch.logits);
        let changed = std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner));
        for rejects in [batch.rejects, changed] {
            summary.refuse(&rejects);
            self.refused.extend(rejects);
        }
    }

    fn rows(&self) -> usize {
        self.ids.len()
    }

    fn rejects(&self) -> usize {
        self.refused.len()
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.embeddings) + size_of_val(&*self.logits)
    }

    fn is_due(&self, after: Duration) -> bool {
        let full = self.bytes() >= COMMIT_BYTES || self.rejects() >= COMMIT_ROWS;
        full || after >= COMMIT_AFTER && self.rows() + self.rejects() > 0
    }

    async fn commit(&mut self, summary: &mut IngestSummary) -> Result<()> {
        let start = Instant::now();
        if !self.ids.is_empty() {
            self.commit_rows(summary).await?;
        }
        self.rejects.add_images(&std::mem::take(&mut self.refused), &self.lacks).await?;
        summary.write += start.elapsed();
        Ok(())
    }
}

impl Writer<'_> {
    async fn commit_rows(&mut self, summary: &mut IngestSummary) -> Result<()> {
        let (ids, rows) = (std::mem::take(&mut self.ids), std::mem::take(&mut self.rows));
        summary.filled += ids.len();
        let numbers = Numbers { embeddings: &self.embeddings, logits: &self.logits };
        let batch = self.filled.rows(&self.schema, numbers, &rows, ids)?;
        self.store.update_images(self.lock, batch).await?;
        self.embeddings.clear();
        self.logits.clear();
        self.rejects.mend(self.images.iter().map(String::as_str)).await?;
        self.images.clear();
        Ok(())
    }
}
