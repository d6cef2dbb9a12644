//! Ingest: image files into the table `images`, embedded by a backbone.
//!
//! A file is known by (dataset, split, uri). New files are appended; known and unchanged ones that this backbone
//! has seen are left alone; known ones it has not seen get its embedding; changed ones are replaced, and what
//! other backbones said of the old picture becomes NULL. Where class logits are asked for as well, a row that lacks them
//! has not been seen. Rows are committed some thousand at a time, so an ingest that was interrupted goes on where it was.
//! A file that is refused stops nothing: it is a row of `rejects` until it is embedded.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::AsArray;
use arrow::datatypes::{Field, Schema, SchemaRef, UInt64Type};
use futures::TryStreamExt;
use sha2::Digest as _;
use sha2::Sha256;

use super::columns::{Columns, Filled, Numbers};
use super::drive::{Sink, drive};
use super::metadata::Metadata;
use super::pipeline::{Batch, EmbeddedImage, Reject, embed};
use super::rejects::{Recovered, RecoveryWatch, Rejects};
use super::summary::IngestSummary;
use crate::backbone::Backbone;
use crate::error::{Error, Result};
use crate::image::{ImageFile, ImageFiles};
use crate::schema;
use crate::store::{Store, WriteLock, quote};

/// What to ingest, and as what.
#[derive(Debug, Clone)]
pub struct IngestOptions {
    /// `images.dataset`.
    pub dataset: String,
    /// `images.split`.
    pub split: String,
    /// Keep the files' bytes in the table.
    pub store_images: bool,
    /// Threads that decode and embed.
    pub workers: usize,
    /// Stop at the first file that is refused.
    pub strict: bool,
}

/// Why a file is embedded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Add,
    Replace { id: u64 },
    Fill { id: u64 },
}

/// A row that is there already.
struct Known {
    id: u64,
    content_hash: Digest,
    embedded: bool,
}

/// Stands for a text: half of its SHA-256. A million uris take 16 MB, and no two of them the same.
type Digest = [u8; 16];

fn digest(text: &str) -> Digest {
    let mut digest = [0; 16];
    digest.copy_from_slice(&Sha256::digest(text)[..16]);
    digest
}

/// Ingest `files`, with the columns of `metadata` beside them. `progress(files looked at)` is called after each batch.
///
/// Errors: another writer; a column filled by other weights; an archive that is cut, and a refused file where
/// [`IngestOptions::strict`] says so (what came before it is kept); every image refused.
pub async fn ingest(
    store: &Store,
    backbone: &Backbone,
    files: ImageFiles,
    options: &IngestOptions,
    metadata: Option<&Metadata>,
    progress: impl FnMut(usize),
) -> Result<IngestSummary> {
    let start = Instant::now();
    let lock = store.lock()?;
    let filled = Filled::register(store, &lock, backbone).await?;
    if let Some(metadata) = metadata {
        metadata.add_columns(store, &lock).await?;
    }
    let known = known_files(store, filled.columns(), options).await?;
    let rejects = Rejects::of(store, &lock, &backbone.manifest().name, of_split(options)).await?;
    let watch = rejects.watch();
    let mut writer = Writer {
        store,
        lock: &lock,
        schema: store.schema(schema::IMAGES).await?,
        columns: Columns {
            filled,
            dataset: &options.dataset,
            split: &options.split,
            store_images: options.store_images,
            metadata,
        },
        is_strict: options.strict,
        next_id: store.next_id().await?,
        rejects,
        whole: watch.recovered(),
        waiting: Waiting::default(),
    };
    let mut summary = IngestSummary::default();
    let batches = embed(files, backbone, options.workers, decide(known, watch));
    drive(batches, backbone.manifest().dimension, &mut writer, &mut summary, progress).await?;
    summary.check_not_all_refused()?;
    if let Some(metadata) = metadata.filter(|_| summary.unchanged + summary.filled > 0) {
        summary.described = metadata.update(store, &lock, &of_split(options)).await?;
    }
    summary.wall = start.elapsed();
    Ok(summary)
}

/// The rows of this dataset and split, by uri; they are embedded where all of `columns` are there.
async fn known_files(
    store: &Store,
    columns: impl Iterator<Item = &str>,
    options: &IngestOptions,
) -> Result<HashMap<Digest, Known>> {
    let of_split = of_split(options);
    let embedded_only = columns.fold(of_split.clone(), |sql, column| format!("{sql} AND {column} IS NOT NULL"));
    let mut embedded: HashSet<u64> = HashSet::new();
    let mut batches = store.scan(schema::IMAGES, None, &[schema::ID], Some(&embedded_only)).await?;
    while let Some(batch) = batches.try_next().await? {
        embedded.extend(batch.column(0).as_primitive::<UInt64Type>().values());
    }
    let columns = [schema::ID, schema::URI, schema::CONTENT_HASH];
    let mut known = HashMap::new();
    let mut batches = store.scan(schema::IMAGES, None, &columns, Some(&of_split)).await?;
    while let Some(batch) = batches.try_next().await? {
        let ids = batch.column(0).as_primitive::<UInt64Type>();
        let (uris, hashes) = (batch.column(1).as_string::<i32>(), batch.column(2).as_string::<i32>());
        for row in 0..batch.num_rows() {
            let id = ids.value(row);
            let content_hash = digest(hashes.value(row));
            let entry = Known { id, content_hash, embedded: embedded.contains(&id) };
            known.insert(digest(uris.value(row)), entry);
        }
    }
    Ok(known)
}

/// SQL for the rows of this dataset and split.
fn of_split(options: &IngestOptions) -> String {
    format!("{} = {} AND {} = {}", schema::DATASET, quote(&options.dataset), schema::SPLIT, quote(&options.split))
}

/// What each file is for; a file named twice in one ingest counts once.
fn decide(
    known: HashMap<Digest, Known>,
    mut watch: RecoveryWatch,
) -> impl FnMut(&ImageFile, &str) -> Option<Purpose> + Send {
    let mut seen = HashSet::new();
    move |file, hash| {
        let uri = digest(&file.uri);
        if !seen.insert(uri) {
            return None;
        }
        watch.read(&file.uri);
        match known.get(&uri) {
            None => Some(Purpose::Add),
            Some(row) if row.content_hash != digest(hash) => Some(Purpose::Replace { id: row.id }),
            Some(row) if !row.embedded => Some(Purpose::Fill { id: row.id }),
            Some(_) => {
                watch.unchanged(&file.uri);
                None
            }
        }
    }
}

/// Embedded images that are not committed yet.
#[derive(Default)]
struct Waiting {
    images: Vec<EmbeddedImage<Purpose>>,
    embeddings: Vec<f32>,
    logits: Vec<f32>,
    rejects: Vec<Reject>,
}

/// Turns waiting images into commits.
struct Writer<'a> {
    store: &'a Store,
    lock: &'a WriteLock,
    schema: SchemaRef,
    columns: Columns<'a>,
    is_strict: bool,
    next_id: u64,
    rejects: Rejects<'a>,
    /// What was refused before and is whole.
    whole: Recovered,
    waiting: Waiting,
}

impl Sink<Purpose> for Writer<'_> {
    fn push(&mut self, batch: Batch<Purpose>, summary: &mut IngestSummary) {
        self.waiting.images.extend(batch.images);
        self.waiting.embeddings.extend(batch.embeddings);
        self.waiting.logits.extend(batch.logits);
        summary.refuse(&batch.rejects);
        self.waiting.rejects.extend(batch.rejects);
        summary.unchanged += batch.skipped;
    }

    fn rows(&self) -> usize {
        self.waiting.images.len()
    }

    fn rejects(&self) -> usize {
        self.waiting.rejects.len()
    }

    fn ends(&self) -> Option<Error> {
        let Reject { uri, reason } = self.waiting.rejects.first().filter(|_| self.is_strict)?;
        let reason = format!("{reason} (--strict stops here; what came before it is kept)");
        Some(Error::BadImage { uri: uri.clone(), reason })
    }

    async fn commit(&mut self, summary: &mut IngestSummary) -> Result<()> {
        let start = Instant::now();
        let Waiting { images, embeddings, logits, rejects } = std::mem::take(&mut self.waiting);
        let numbers = Numbers { embeddings: &embeddings, logits: &logits };
        let rows = |wanted: fn(&Purpose) -> bool| -> Vec<usize> {
            (0..images.len()).filter(|&row| wanted(&images[row].purpose)).collect()
        };
        let added = rows(|purpose| matches!(purpose, Purpose::Add));
        if !added.is_empty() {
            let ids: Vec<u64> = (self.next_id..).take(added.len()).collect();
            let batch = self.columns.rows(&images, numbers, &added, ids, Arc::clone(&self.schema))?;
            self.store.append(self.lock, schema::IMAGES, batch).await?;
            self.next_id += added.len() as u64;
            summary.added += added.len();
        }
        let replaced = rows(|purpose| matches!(purpose, Purpose::Replace { .. }));
        if !replaced.is_empty() {
            // the user's own columns are not about the file: they stay, where nobody gives them anew
            let given = |field: &Field, row: usize| {
                self.columns.metadata.is_some_and(|metadata| metadata.gives(field.name(), &images[row].uri))
            };
            let mut alike: BTreeMap<Vec<bool>, Vec<usize>> = BTreeMap::new();
            for &row in &replaced {
                let kept = self.schema.fields().iter().map(|field| !schema::is_users(field) || given(field, row));
                alike.entry(kept.collect()).or_default().push(row);
            }
            for (kept, rows) in alike {
                let kept = self.schema.fields().iter().zip(kept).filter(|(_, kept)| *kept).map(|(field, _)| field);
                let fields = Arc::new(Schema::new(kept.cloned().collect::<Vec<_>>()));
                let batch = self.columns.rows(&images, numbers, &rows, ids_of(&images, &rows), fields)?;
                self.store.upsert(self.lock, schema::IMAGES, &[schema::ID], batch, false).await?;
            }
            summary.replaced += replaced.len();
        }
        let filled = rows(|purpose| matches!(purpose, Purpose::Fill { .. }));
        if !filled.is_empty() {
            let batch = self.columns.filled.rows(&self.schema, numbers, &filled, ids_of(&images, &filled))?;
            self.store.update_images(self.lock, batch).await?;
            summary.filled += filled.len();
        }
        let whole = self.whole.take();
        self.rejects
            .mend(images.iter().map(|image| image.uri.as_str()).chain(whole.iter().map(String::as_str)))
            .await?;
        self.rejects.add(&rejects, self.columns.dataset, self.columns.split).await?;
        summary.write += start.elapsed();
        Ok(())
    }
}

fn ids_of(images: &[EmbeddedImage<Purpose>], rows: &[usize]) -> Vec<u64> {
    let id = |row: &usize| match images[*row].purpose {
        Purpose::Replace { id } | Purpose::Fill { id } => id,
        Purpose::Add => unreachable!("rows to add have no id yet"),
    };
    rows.iter().map(id).collect()
}
