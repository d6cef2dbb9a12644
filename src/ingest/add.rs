//! Ingest: image files into the table `images`, embedded by a backbone.
//!
//! A file is known by (dataset, split, uri). New files are appended; known and unchanged ones that this backbone
//! has seen are left alone; known ones it has not seen get its embedding; changed ones are replaced, and what
//! other backbones said of the old picture becomes NULL. Where class logits are asked for as well, a row that lacks them
//! has not been seen. Rows are committed some thousand at a time, so an ingest that was interrupted goes on where it was.
//! A file that is refused stops nothing: it is a row of `rejects` until it is embedded.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, FixedSizeListArray, Float32Array, RecordBatch, StringArray,
    TimestampNanosecondArray, UInt32Array, UInt64Array, new_null_array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use futures::TryStreamExt;
use sha2::Digest as _;
use sha2::Sha256;

use super::compared::Compared;
use super::metadata::Metadata;
use super::pipeline::{Batch, EmbeddedImage, Reject, StageTimes, embed};
use super::rejects::{Met, Rejects, Watch};
use crate::backbone::Backbone;
use crate::backbone::{register_backbone, register_logits};
use crate::error::{Error, Result};
use crate::image::{ImageFile, ImageFiles};
use crate::schema;
use crate::statistics::deviation::Deviation;
use crate::store::{Store, WriteLock, quote};

/// Rejects that an [`IngestSummary`] names.
const FIRST_REJECTS: usize = 10;
/// Rows per commit: few enough that little is lost to a crash, enough that Lance's files stay large.
pub(crate) const COMMIT_ROWS: usize = 8192;

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

/// What an ingest did.
#[derive(Debug, Clone, Default)]
pub struct IngestSummary {
    /// New rows.
    pub added: usize,
    /// Rows whose file had changed.
    pub replaced: usize,
    /// Rows that were there and got this backbone's embedding.
    pub filled: usize,
    /// Files that were there, unchanged and embedded.
    pub unchanged: usize,
    /// Rows that were there and got other metadata.
    pub described: usize,
    /// Files that were refused; the table `rejects` names them.
    pub refused: usize,
    /// The first of them.
    pub first_rejects: Vec<Reject>,
    /// Where the network ran in another precision: how far that is from f32.
    pub deviation: Option<Deviation>,
    /// Busy time per stage, summed over threads.
    pub stages: StageTimes,
    /// Committing rows.
    pub write: Duration,
    /// From first to last.
    pub wall: Duration,
}

impl IngestSummary {
    /// Files that were looked at.
    pub fn files(&self) -> usize {
        self.embedded() + self.unchanged + self.refused
    }

    /// Count files that were refused.
    pub(crate) fn refuse(&mut self, rejects: &[Reject]) {
        self.refused += rejects.len();
        let room = FIRST_REJECTS.saturating_sub(self.first_rejects.len());
        self.first_rejects.extend(rejects.iter().take(room).cloned());
    }

    /// Images that went through the network.
    pub fn embedded(&self) -> usize {
        self.added + self.replaced + self.filled
    }
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
    mut progress: impl FnMut(usize),
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
        filled,
        options,
        metadata,
        next_id: store.largest_id().await? + 1,
        rejects,
        met: watch.met(),
    };

    let mut summary = IngestSummary::default();
    let mut waiting = Waiting::default();
    let mut batches = embed(files, backbone, options.workers, decide(known, watch));
    let mut failed = None;
    let mut compared = Compared::default();
    while let Some(batch) = batches.next().await {
        match batch {
            Ok(batch) => {
                compared.push(&batch);
                waiting.push(batch, &mut summary);
            }
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
        if let Some(Reject { uri, reason }) = waiting.rejects.first().filter(|_| options.strict) {
            let reason = format!("{reason} (--strict stops here; what came before it is kept)");
            failed = Some(Error::BadImage { uri: uri.clone(), reason });
            break;
        }
        if waiting.images.len() >= COMMIT_ROWS || waiting.rejects.len() >= COMMIT_ROWS {
            writer.commit(&mut waiting, &mut summary).await?;
        }
        progress(summary.files() + waiting.images.len());
    }
    writer.commit(&mut waiting, &mut summary).await?;
    if let Some(error) = failed {
        return Err(error);
    }
    if let (Some(first), 0, 0) = (summary.first_rejects.first(), summary.embedded(), summary.unchanged) {
        let first = format!("{}: {}", first.uri, first.reason);
        return Err(Error::AllImagesRefused { count: summary.refused, first });
    }
    if let Some(metadata) = metadata.filter(|_| summary.unchanged + summary.filled > 0) {
        summary.described = metadata.update(store, &lock, &of_split(options)).await?;
    }
    summary.stages = batches.times();
    summary.deviation = compared.deviation(backbone.manifest().dimension);
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
fn decide(known: HashMap<Digest, Known>, mut watch: Watch) -> impl FnMut(&ImageFile, &str) -> Option<Purpose> + Send {
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

impl Waiting {
    fn push(&mut self, batch: Batch<Purpose>, summary: &mut IngestSummary) {
        self.images.extend(batch.images);
        self.embeddings.extend(batch.embeddings);
        self.logits.extend(batch.logits);
        summary.refuse(&batch.rejects);
        self.rejects.extend(batch.rejects);
        summary.unchanged += batch.skipped;
    }
}

/// Turns waiting images into commits.
struct Writer<'a> {
    store: &'a Store,
    lock: &'a WriteLock,
    schema: SchemaRef,
    filled: Filled,
    options: &'a IngestOptions,
    metadata: Option<&'a Metadata>,
    next_id: u64,
    rejects: Rejects<'a>,
    /// What was refused before and is whole.
    met: Met,
}

impl Writer<'_> {
    async fn commit(&mut self, waiting: &mut Waiting, summary: &mut IngestSummary) -> Result<()> {
        let start = Instant::now();
        let Waiting { images, embeddings, logits, rejects } = std::mem::take(waiting);
        let numbers = Numbers { embeddings: &embeddings, logits: &logits };
        let rows = |wanted: fn(&Purpose) -> bool| -> Vec<usize> {
            (0..images.len()).filter(|&row| wanted(&images[row].purpose)).collect()
        };
        let added = rows(|purpose| matches!(purpose, Purpose::Add));
        if !added.is_empty() {
            let ids: Vec<u64> = (self.next_id..).take(added.len()).collect();
            let batch = self.full_rows(&images, numbers, &added, ids, Arc::clone(&self.schema))?;
            self.store.append(self.lock, schema::IMAGES, batch).await?;
            self.next_id += added.len() as u64;
            summary.added += added.len();
        }
        let replaced = rows(|purpose| matches!(purpose, Purpose::Replace { .. }));
        if !replaced.is_empty() {
            // the user's own columns are not about the file: they stay, where nobody gives them anew
            let given = |field: &Field, row: usize| {
                self.metadata.is_some_and(|metadata| metadata.gives(field.name(), &images[row].uri))
            };
            let mut alike: BTreeMap<Vec<bool>, Vec<usize>> = BTreeMap::new();
            for &row in &replaced {
                let kept = self.schema.fields().iter().map(|field| !schema::is_users(field) || given(field, row));
                alike.entry(kept.collect()).or_default().push(row);
            }
            for (kept, rows) in alike {
                let kept = self.schema.fields().iter().zip(kept).filter(|(_, kept)| *kept).map(|(field, _)| field);
                let fields = Arc::new(Schema::new(kept.cloned().collect::<Vec<_>>()));
                let batch = self.full_rows(&images, numbers, &rows, ids_of(&images, &rows), fields)?;
                self.store.upsert(self.lock, schema::IMAGES, &[schema::ID], batch, false).await?;
            }
            summary.replaced += replaced.len();
        }
        let filled = rows(|purpose| matches!(purpose, Purpose::Fill { .. }));
        if !filled.is_empty() {
            let batch = self.filled.rows(&self.schema, numbers, &filled, ids_of(&images, &filled))?;
            self.store.update_images(self.lock, batch).await?;
            summary.filled += filled.len();
        }
        let met = self.met.take();
        self.rejects.mend(images.iter().map(|image| image.uri.as_str()).chain(met.iter().map(String::as_str))).await?;
        self.rejects.add(&rejects, &self.options.dataset, &self.options.split).await?;
        summary.write += start.elapsed();
        Ok(())
    }

    /// Rows with these columns of the table; those of other backbones are NULL.
    fn full_rows(
        &self,
        images: &[EmbeddedImage<Purpose>],
        numbers: Numbers<'_>,
        rows: &[usize],
        ids: Vec<u64>,
        fields: SchemaRef,
    ) -> Result<RecordBatch> {
        let of = |row: &usize| &images[*row];
        let text = |get: fn(&EmbeddedImage<Purpose>) -> &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| get(of(row)))))
        };
        let constant =
            |value: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(|_| value))) };
        let time = chrono::Utc::now().timestamp_nanos_opt().unwrap_or(0);
        let column = |field: &Arc<Field>| -> Result<ArrayRef> {
            Ok(match field.name().as_str() {
                schema::ID => Arc::new(UInt64Array::from(ids.clone())),
                schema::DATASET => constant(&self.options.dataset),
                schema::SPLIT => constant(&self.options.split),
                schema::URI => text(|image| &image.uri),
                schema::LABEL => Arc::new(StringArray::from_iter(rows.iter().map(|row| of(row).label.as_deref()))),
                schema::WIDTH => Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| of(row).width))),
                schema::HEIGHT => Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| of(row).height))),
                schema::CONTENT_HASH => text(|image| &image.content_hash),
                schema::INGESTED_AT => Arc::new(TimestampNanosecondArray::from(vec![time; rows.len()])),
                schema::BYTES if self.options.store_images => {
                    Arc::new(BinaryArray::from_iter_values(rows.iter().map(|row| &of(row).bytes)))
                }
                name => match (self.filled.numbers_of(name, numbers), self.metadata) {
                    (Some((values, width)), _) => vectors(values, width, rows)?,
                    (None, Some(metadata)) if metadata.has(name) => {
                        metadata.column(field, rows.iter().map(|row| of(row).uri.as_str()), None)?
                    }
                    _ => new_null_array(field.data_type(), rows.len()),
                },
            })
        };
        let columns = fields.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
        Ok(RecordBatch::try_new(fields, columns)?)
    }
}

/// The columns of `images` that a backbone fills.
pub(crate) struct Filled {
    backbone: String,
    dimension: usize,
    /// The column of logits and the number of classes, where they are asked for.
    logits: Option<(String, usize)>,
}

impl Filled {
    /// Add the columns, where they are not there yet, and the backbone's row.
    pub(crate) async fn register(store: &Store, lock: &WriteLock, backbone: &Backbone) -> Result<Self> {
        register_backbone(store, lock, backbone.checkpoint(), backbone.precision()).await?;
        if let Some(classes) = backbone.logits() {
            register_logits(store, lock, backbone.checkpoint(), classes).await?;
        }
        let manifest = backbone.manifest();
        let logits = backbone.logits().map(|classes| (schema::logits_column(&manifest.name), classes));
        Ok(Self { backbone: manifest.name.clone(), dimension: manifest.dimension, logits })
    }

    /// Their names.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        [self.backbone.as_str()].into_iter().chain(self.logits.iter().map(|(column, _)| column.as_str()))
    }

    /// Rows of id and what the backbone gave.
    pub(crate) fn rows(
        &self,
        images: &Schema,
        numbers: Numbers<'_>,
        rows: &[usize],
        ids: Vec<u64>,
    ) -> Result<RecordBatch> {
        let mut fields = vec![images.field_with_name(schema::ID)?.clone()];
        let mut columns = vec![Arc::new(UInt64Array::from(ids)) as ArrayRef];
        for field in images.fields() {
            if let Some((values, width)) = self.numbers_of(field.name(), numbers) {
                fields.push(field.as_ref().clone());
                columns.push(vectors(values, width, rows)?);
            }
        }
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }

    /// The numbers of a column that the backbone fills, and how many a row has.
    fn numbers_of<'n>(&self, column: &str, numbers: Numbers<'n>) -> Option<(&'n [f32], usize)> {
        match &self.logits {
            _ if column == self.backbone => Some((numbers.embeddings, self.dimension)),
            Some((name, classes)) if name == column => Some((numbers.logits, *classes)),
            _ => None,
        }
    }
}

/// What the backbone gave for the waiting images.
#[derive(Clone, Copy)]
pub(crate) struct Numbers<'a> {
    pub(crate) embeddings: &'a [f32],
    pub(crate) logits: &'a [f32],
}

/// Some rows of n×width values as a column.
fn vectors(values: &[f32], width: usize, rows: &[usize]) -> Result<ArrayRef> {
    let values: Float32Array =
        rows.iter().flat_map(|&row| values[row * width..(row + 1) * width].iter().copied()).collect::<Vec<_>>().into();
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    Ok(Arc::new(FixedSizeListArray::try_new(item, width as i32, Arc::new(values), None)?))
}

fn ids_of(images: &[EmbeddedImage<Purpose>], rows: &[usize]) -> Vec<u64> {
    let id = |row: &usize| match images[*row].purpose {
        Purpose::Replace { id } | Purpose::Fill { id } => id,
        Purpose::Add => unreachable!("rows to add have no id yet"),
    };
    rows.iter().map(id).collect()
}
