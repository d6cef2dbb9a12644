//! Fill the column of another backbone: the images of a database that it has not seen, embedded.
//!
//! Rows whose bytes are stored are embedded from those; the others are read again from their uri, and must be the file
//! that was ingested. Rows are walked some at a time, and committed when 128 MiB of numbers wait, or after a minute: a commit
//! writes the column anew for whole fragments, so there are few of them; what is held here does not grow with the number of
//! rows, and a fill that was interrupted goes on where it was. Not for new images: [`ingest`](super::ingest) adds those.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{SchemaRef, UInt64Type};
use futures::TryStreamExt;
use tokio::sync::mpsc;

use super::columns::{Filled, Numbers};
use super::drive::{COMMIT_BYTES, COMMIT_ROWS, Sink, drive};
use super::pipeline::Batch;
use super::rejects::{Reject, Rejects};
use super::reread::{For, embed_for, reread};
use super::summary::IngestSummary;
use crate::backbone::Backbone;
use crate::error::{Error, Result};
use crate::image::{ImageFile, Opened};
use crate::schema;
use crate::store::{Change, Store, WriteLock, quote};

/// Rows that are read from their files together: an archive is opened once for all of them.
const NAMED_ROWS: usize = 131_072;

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

/// A row that lacks the embedding.
struct Row {
    id: u64,
    content_hash: String,
    /// Whether its bytes come from the table.
    stored: bool,
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

    // chunks of stored bytes are as large as a batch of them
    let (sender, chunks) = mpsc::channel(1);
    // the reading keeps its version of the table, whatever is committed meanwhile
    let version = store.version(schema::IMAGES).await?;
    let walking = tokio::spawn(walk(store.clone(), version, wanted, sender));
    let changed = Arc::new(Mutex::new(Vec::new()));
    let batches = embed_for(Files::of(chunks), backbone, options.workers, {
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

/// Rows that lack the embedding, some at a time.
enum Chunk {
    /// With their bytes.
    Stored(Vec<(ImageFile, Row)>),
    /// By their uris.
    Named(Vec<(String, Row)>),
}

/// Send the rows for which `wanted` holds, those with stored bytes first; nobody listens where embedding has failed.
async fn walk(store: Store, version: u64, wanted: String, chunks: mpsc::Sender<Chunk>) -> Result<()> {
    let columns = [schema::ID, schema::URI, schema::CONTENT_HASH, schema::BYTES];
    let stored = format!("({wanted}) AND {} IS NOT NULL", schema::BYTES);
    let mut batches = store.scan(schema::IMAGES, Some(version), &columns, Some(&stored)).await?;
    while let Some(batch) = batches.try_next().await? {
        let bytes = arrow::compute::cast(batch.column(3), &arrow::datatypes::DataType::Binary)?;
        let bytes = bytes.as_binary::<i32>();
        let file = |(at, (uri, row))| {
            (ImageFile { uri, label: None, is_labelled: false, bytes: bytes.value(at).to_vec() }, row)
        };
        let rows = rows_of(&batch, true).enumerate().map(file).collect();
        if chunks.send(Chunk::Stored(rows)).await.is_err() {
            return Ok(());
        }
    }
    let named = format!("({wanted}) AND {} IS NULL", schema::BYTES);
    let mut batches = store.scan(schema::IMAGES, Some(version), &columns[..3], Some(&named)).await?;
    let mut rows = Vec::new();
    loop {
        let batch = batches.try_next().await?;
        rows.extend(batch.iter().flat_map(|batch| rows_of(batch, false)));
        let enough = rows.len() >= NAMED_ROWS || batch.is_none() && !rows.is_empty();
        if enough && chunks.send(Chunk::Named(std::mem::take(&mut rows))).await.is_err() {
            return Ok(());
        }
        if batch.is_none() {
            return Ok(());
        }
    }
}

fn rows_of(batch: &RecordBatch, stored: bool) -> impl Iterator<Item = (String, Row)> + '_ {
    let ids = batch.column(0).as_primitive::<UInt64Type>();
    let (uris, hashes) = (batch.column(1).as_string::<i32>(), batch.column(2).as_string::<i32>());
    (0..batch.num_rows()).map(move |at| {
        (uris.value(at).into(), Row { id: ids.value(at), content_hash: hashes.value(at).into(), stored })
    })
}

/// The files of chunks, as they come.
struct Files {
    chunks: mpsc::Receiver<Chunk>,
    current: Box<dyn Iterator<Item = For<Row>> + Send>,
    opened: Arc<Opened>,
}

impl Files {
    fn of(chunks: mpsc::Receiver<Chunk>) -> Self {
        Self { chunks, current: Box::new(std::iter::empty()), opened: Arc::default() }
    }
}

impl Iterator for Files {
    type Item = For<Row>;

    fn next(&mut self) -> Option<For<Row>> {
        loop {
            if let Some(next) = self.current.next() {
                return Some(next);
            }
            self.current = match self.chunks.blocking_recv()? {
                Chunk::Stored(rows) => Box::new(rows.into_iter().map(|(file, row)| (vec![row], Ok(file)))),
                Chunk::Named(rows) => Box::new(reread(rows, &self.opened)),
            };
        }
    }
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
