//! Ingest: image files into the table `images`, embedded by a backbone.
//!
//! A file is known by its dataset and uri ([`known`](super::known)). New files are appended; known and unchanged ones that
//! this backbone has seen are left alone; known ones it has not seen get its embedding; changed ones are replaced, and what
//! other backbones said of the old picture becomes NULL. Labels and metadata follow what a list, a table or the data set
//! says. Files of images that were deleted are left out. Where class logits are asked for as well, a row that lacks them
//! has not been seen. Rows are committed some thousand at a time, so an ingest that was interrupted goes on where it was.
//! A file that is refused stops nothing: it is a row of `rejects` until it is embedded.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{Field, Schema, SchemaRef, UInt64Type};
use futures::TryStreamExt;

use super::columns::{Columns, Filled, Numbers};
use super::drive::{Sink, drive};
use super::known::{Found, Known, Met, Purpose, of_dataset};
use super::metadata::Metadata;
use super::options::IngestOptions;
use super::pipeline::{Batch, EmbeddedImage, embed};
use super::rejects::{Recovered, Reject, Rejects};
use super::summary::IngestSummary;
use crate::backbone::Backbone;
use crate::error::{Error, Result};
use crate::image::ImageFiles;
use crate::schema;
use crate::store::{Change, Store, WriteLock, quote};

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
    let lock = store.lock_in_turn().await?;
    let before = store.version(schema::IMAGES).await?;
    let mut summary = IngestSummary::default();
    let ended = ingest_files(store, &lock, backbone, files, options, metadata, progress, &mut summary).await;
    let mut detail = format!("split {}, backbone {}", quote(&options.split), backbone.manifest().name);
    if options.again {
        detail.push_str(", deleted images again");
    }
    let change = Change {
        detail: Some(detail),
        predicate: Some(of_dataset(options)),
        row_count: (summary.embedded() + summary.amended) as u64,
        ..Change::of("ingest")
    };
    // also of what was committed before it failed
    store.record(&lock, before, change).await?;
    ended?;
    summary.wall = start.elapsed();
    Ok(summary)
}

#[expect(clippy::too_many_arguments, reason = "what an ingest is given, and what it reports to")]
async fn ingest_files(
    store: &Store,
    lock: &WriteLock,
    backbone: &Backbone,
    files: ImageFiles,
    options: &IngestOptions,
    metadata: Option<&Metadata>,
    progress: impl FnMut(usize),
    summary: &mut IngestSummary,
) -> Result<()> {
    let filled = Filled::register(store, lock, backbone).await?;
    if let Some(metadata) = metadata {
        metadata.add_columns(store, lock).await?;
    }
    let known = Known::of(store, lock, filled.columns(), options).await?;
    let rejects = Rejects::of(store, lock, &backbone.manifest().name, of_dataset(options)).await?;
    let watch = rejects.watch();
    let mut writer = Writer {
        store,
        lock,
        schema: store.schema(schema::IMAGES).await?,
        columns: Columns {
            filled,
            dataset: &options.dataset,
            split: &options.split,
            store_images: options.store_images,
            metadata,
        },
        options,
        next_id: store.next_id().await?,
        rejects,
        whole: watch.recovered(),
        filled: HashSet::new(),
        waiting: Waiting::default(),
    };
    let (met, superseded) = (Met::default(), files.superseded());
    let batches = embed(files, backbone, options.workers, options.store_images, known.decide(watch, met.clone()));
    let driven = drive(batches, backbone.manifest().dimension, &mut writer, summary, progress).await;
    let Found { repeated, clashed, first_clash, deleted, copies, in_other_splits, rows, labels, later_labels } =
        met.take();
    summary.unchanged -= (repeated + clashed + deleted).min(summary.unchanged);
    (summary.repeated, summary.clashed, summary.deleted) = (repeated + superseded, clashed, deleted);
    (summary.first_clash, summary.copies, summary.in_other_splits) = (first_clash, copies, in_other_splits);
    driven?;
    summary.check_not_all_refused()?;
    // a table beside the images has the last word
    let is_open = |uri: &str| metadata.is_none_or(|metadata| !metadata.gives(schema::LABEL, uri));
    let mut changed: Vec<(u64, String)> = labels
        .into_iter()
        .filter(|(_, new)| is_open(&new.uri) && new.is_other())
        .map(|(id, new)| (id, new.label))
        .collect();
    summary.labelled = changed.len();
    let mut amended: HashSet<u64> = changed.iter().map(|(id, _)| *id).collect();
    let later = later_labels.into_iter().filter(|(uri, _)| is_open(uri)).collect();
    changed.extend(labels_of_new(store, options, later).await?);
    write_labels(store, lock, changed).await?;
    if let Some(metadata) = metadata.filter(|_| !rows.is_empty()) {
        let described = metadata.update(store, lock, &of_dataset(options), &rows).await?;
        summary.described = described.len();
        amended.extend(described);
    }
    summary.amended = amended.difference(&writer.filled).count();
    Ok(())
}

/// The ids of images that this run has added, and the labels that a later list or table gives them, by their uris.
async fn labels_of_new(
    store: &Store,
    options: &IngestOptions,
    labels: Vec<(String, String)>,
) -> Result<Vec<(u64, String)>> {
    let mut found = Vec::new();
    for some in labels.chunks(1000) {
        let uris: Vec<String> = some.iter().map(|(uri, _)| quote(uri)).collect();
        let predicate = format!("{} AND {} IN ({})", of_dataset(options), schema::URI, uris.join(", "));
        let labels: HashMap<&str, &str> = some.iter().map(|(uri, label)| (uri.as_str(), label.as_str())).collect();
        let mut batches = store.scan(schema::IMAGES, None, &[schema::ID, schema::URI], Some(&predicate)).await?;
        while let Some(batch) = batches.try_next().await? {
            let (ids, uris) = (batch.column(0).as_primitive::<UInt64Type>(), batch.column(1).as_string::<i32>());
            let label = |row: usize| labels.get(uris.value(row)).map(|label| (ids.value(row), (*label).to_owned()));
            found.extend((0..batch.num_rows()).filter_map(label));
        }
    }
    Ok(found)
}

/// Give rows the labels that a list, a table or the data set says now.
async fn write_labels(store: &Store, lock: &WriteLock, labels: Vec<(u64, String)>) -> Result<()> {
    if labels.is_empty() {
        return Ok(());
    }
    let images = store.schema(schema::IMAGES).await?;
    let fields = [schema::ID, schema::LABEL].map(|name| images.field_with_name(name).cloned());
    let fields = fields.into_iter().collect::<Result<Vec<_>, _>>()?;
    let ids: ArrayRef = Arc::new(labels.iter().map(|(id, _)| Some(*id)).collect::<UInt64Array>());
    let labels: ArrayRef = Arc::new(StringArray::from_iter_values(labels.iter().map(|(_, label)| label)));
    store.update_images(lock, RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![ids, labels])?).await
}

/// Embedded images that are not committed yet.
#[derive(Default)]
struct Waiting {
    images: Vec<EmbeddedImage<Purpose>>,
    embeddings: Vec<f32>,
    logits: Vec<f32>,
    rejects: Vec<Reject>,
    /// Of the images' files.
    bytes: usize,
}

/// Turns waiting images into commits.
struct Writer<'a> {
    store: &'a Store,
    lock: &'a WriteLock,
    schema: SchemaRef,
    columns: Columns<'a>,
    options: &'a IngestOptions,
    next_id: u64,
    rejects: Rejects<'a>,
    /// What was refused before and is whole.
    whole: Recovered,
    /// The ids of rows that were there and got this backbone's embedding.
    filled: HashSet<u64>,
    waiting: Waiting,
}

impl Sink<Purpose> for Writer<'_> {
    fn push(&mut self, mut batch: Batch<Purpose>, summary: &mut IngestSummary) {
        if self.options.strict && !batch.rejects.is_empty() {
            // it stops there: what came after it in the same batch was not asked for
            let (kept, all) = (batch.before_reject, batch.images.len().max(1));
            let numbers = |values: &mut Vec<f32>| values.truncate(values.len() / all * kept);
            numbers(&mut batch.embeddings);
            numbers(&mut batch.logits);
            batch.images.truncate(kept);
            batch.rejects.truncate(1);
        }
        self.waiting.bytes += batch.images.iter().map(|image| image.bytes.len()).sum::<usize>();
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

    fn bytes(&self) -> usize {
        self.waiting.bytes
    }

    fn ends(&self) -> Option<Error> {
        let Reject { uri, reason } = self.waiting.rejects.first().filter(|_| self.options.strict)?;
        let reason = format!("{reason} (--strict stops here; what came before it is kept)");
        Some(Error::BadImage { uri: uri.clone(), reason })
    }

    async fn commit(&mut self, summary: &mut IngestSummary) -> Result<()> {
        let start = Instant::now();
        let Waiting { images, embeddings, logits, rejects, .. } = std::mem::take(&mut self.waiting);
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
            // the split, a label of the user's and his own columns are not about the file: they stay, where nobody gives them anew
            let given = |field: &Field, row: usize| {
                self.columns.metadata.is_some_and(|metadata| metadata.gives(field.name(), &images[row].uri))
            };
            let mut alike: BTreeMap<Vec<bool>, Vec<usize>> = BTreeMap::new();
            for &row in &replaced {
                let keeps_label = matches!(images[row].purpose, Purpose::Replace { keeps_label: true, .. });
                let kept = self.schema.fields().iter().map(|field| match field.name().as_str() {
                    schema::SPLIT => false,
                    schema::LABEL => !keeps_label || given(field, row),
                    _ => !schema::is_users(field) || given(field, row),
                });
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
            let ids = ids_of(&images, &filled);
            self.filled.extend(&ids);
            let batch = self.columns.filled.rows(&self.schema, numbers, &filled, ids)?;
            self.store.update_images(self.lock, batch).await?;
            summary.filled += filled.len();
        }
        let met = rows(|purpose| matches!(purpose, Purpose::Meet { .. }));
        if !met.is_empty() {
            let ids = ids_of(&images, &met);
            self.filled.extend(&ids);
            let own = self.columns.filled.columns().map(String::from).collect::<Vec<_>>();
            let is_met = |name: &str| {
                name == schema::ID
                    || schema::OF_PICTURES.contains(&name)
                    || name == schema::BYTES && self.columns.store_images
                    || own.iter().any(|column| column == name)
            };
            let fields: Vec<_> = self.schema.fields().iter().filter(|field| is_met(field.name())).cloned().collect();
            let batch = self.columns.rows(&images, numbers, &met, ids, Arc::new(Schema::new(fields)))?;
            self.store.update_images(self.lock, batch).await?;
            summary.filled += met.len();
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
        Purpose::Replace { id, .. } | Purpose::Fill { id } | Purpose::Meet { id } => id,
        Purpose::Add => unreachable!("rows to add have no id yet"),
    };
    rows.iter().map(id).collect()
}
