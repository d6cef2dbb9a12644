//! Own embeddings: rows of tables and arrays that another program made, into `images`.
//!
//! A row is known by its dataset and uri, as a picture is: the one its column `uri` says, else the file and the row's number in
//! it. New rows are appended; of rows that are there, whoever made them, the embedding and the other columns follow the file.
//! Rows of a few tens of thousands are committed together, so an ingest that was interrupted goes on where it was. A row whose
//! numbers are no vector stops nothing: it is a row of `rejects` until it is one.

mod beside;
mod files;
mod keys;
mod options;
mod writer;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use arrow::array::{Array, RecordBatchReader};
use arrow::datatypes::{DataType, Field, Schema};

use self::beside::Beside;
use self::files::{HasBeside, Source, agreed_width, notices};
use self::keys::Keys;
pub use self::options::OwnOptions;
use self::writer::{Writer, Writing};
use super::column_types::common;
use super::summary::IngestSummary;
use crate::backbone::{External, register_external};
use crate::error::{Error, Result};
use crate::schema;
use crate::store::{Change, Store, WriteLock, quote};

/// Ingest the rows of `files`. `progress(rows done, rows of all files where they are known)` is called after each batch, `say` hears
/// what the user should know before anything is written.
///
/// Errors: another writer; a column filled by another version; files that cannot be read (what came before is kept); a
/// refused row where [`OwnOptions::strict`] says so; every row refused.
pub async fn ingest_embeddings(
    store: &Store,
    files: &[PathBuf],
    options: &OwnOptions,
    say: impl FnMut(String),
    progress: impl FnMut(u64, Option<u64>),
) -> Result<IngestSummary> {
    let open = |has| files.iter().map(|file| Source::open(file, options, has)).collect();
    take(store, options, open, say, progress).await
}

/// Ingest rows that a program has: batches of a reader, whose columns are what those of a table are to
/// [`ingest_embeddings`]. A row without a uri is `name!/number`, so that the same rows under the same name are known again.
///
/// Errors: as [`ingest_embeddings`].
pub async fn ingest_batches(
    store: &Store,
    batches: impl RecordBatchReader + Send + 'static,
    name: &str,
    options: &OwnOptions,
    say: impl FnMut(String),
    progress: impl FnMut(u64, Option<u64>),
) -> Result<IngestSummary> {
    let open = |has| Ok(vec![Source::of_batches(batches, name, options, has)?]);
    take(store, options, open, say, progress).await
}

/// The rows of all sources, which are opened once it is known what a table beside them has.
async fn take(
    store: &Store,
    options: &OwnOptions,
    open: impl FnOnce(HasBeside) -> Result<Vec<Source>>,
    mut say: impl FnMut(String),
    mut progress: impl FnMut(u64, Option<u64>),
) -> Result<IngestSummary> {
    let lock = &store.lock_in_turn().await?;
    let beside = Beside::of(options.metadata.as_deref(), options.key.as_deref(), &mut say)?;
    let mut sources = open(beside.as_ref().map(Beside::has).unwrap_or_default())?;
    let start = Instant::now();
    let before = store.version(schema::IMAGES).await?;
    let dimension = agreed_width(&mut sources, options, |source| source.plan.vector)?;
    let external = External::new(&options.backbone, dimension, &options.version)?;
    let classes = match &options.logits {
        Some(_) => {
            Some(agreed_width(&mut sources, options, |source| source.plan.logits.unwrap_or(source.plan.vector))?)
        }
        None => None,
    };
    notices(&sources, &mut say);
    let total = sources.iter().map(|source| source.rows.rows).sum::<Option<u64>>();
    if let Some(beside) = &beside {
        beside.check_rows(sources.iter().map(|source| &source.plan), total)?;
    }
    let keys = Keys::of(store, options, sources.first().map_or(&[][..], |source| &source.plan.key_names)).await?;
    register_external(store, lock, &external).await?;
    if let Some(classes) = classes {
        register_logits(store, lock, &external, classes).await?;
    }
    let images = store.schema(schema::IMAGES).await?;
    let new = new_columns(&images, &sources, beside.as_ref())?;
    store.add_null_columns(lock, schema::IMAGES, &new).await?;
    let mut writer = Writer::of(store, lock, options, &external, keys).await?;
    let mut ended = Ok(());
    let mut done = 0;
    // a commit is written while the rows of the next one are read and checked
    let mut writing: Option<Writing<'_>> = None;
    'files: for source in sources {
        let Source { path, plan, rows } = source;
        let mut number = 0;
        let mut batches = rows.read_ahead();
        while let Some(batch) = match &mut writing {
            Some(writing) => writing.beside(batches.next()).await,
            None => batches.next().await,
        } {
            let read = batch.and_then(|batch| {
                let beside = beside.as_ref().map(|beside| beside.rows(&plan, &batch, done)).transpose()?;
                writer.push(&path, &plan, &batch, number, beside)
            });
            let count = match read {
                Ok(count) => count as u64,
                Err(error) => {
                    ended = Err(error);
                    break 'files;
                }
            };
            (number, done) = (number + count, done + count);
            if writer.is_due() {
                ended = writer.next_commit(&mut writing).await;
            }
            if ended.is_err() {
                break 'files;
            }
            progress(done, total);
        }
    }
    let last = writer.next_commit(&mut writing).await;
    ended = ended.and(last);
    let last = writer.end_commit(&mut writing).await;
    ended = ended.and(last);
    let mut summary = writer.summary;
    let change = Change {
        detail: Some(format!("embeddings {} of version {}", external.name, quote(&external.version))),
        predicate: options.dataset.as_ref().map(|dataset| format!("{} = {}", schema::DATASET, quote(dataset))),
        row_count: (summary.embedded() + summary.amended) as u64,
        ..Change::of("ingest")
    };
    // also of what was committed before it failed
    store.record(lock, before, change).await?;
    ended?;
    summary.check_not_all_refused()?;
    summary.wall = start.elapsed();
    Ok(summary)
}

/// The columns of the user's own that the files have and the table lacks.
fn new_columns(images: &Schema, sources: &[Source], beside: Option<&Beside>) -> Result<Vec<Field>> {
    let mut kinds: BTreeMap<&str, (Vec<DataType>, &str)> = BTreeMap::new();
    let mut see = |name, kind: &DataType, path| {
        let kind = match kind {
            DataType::Utf8View | DataType::LargeUtf8 => &DataType::Utf8,
            DataType::Dictionary(_, values) => values.as_ref(),
            kind => kind,
        };
        kinds.entry(name).or_insert_with(|| (Vec::new(), path)).0.push(kind.clone());
    };
    for Source { path, plan, rows, .. } in sources {
        for (column, name) in &plan.own {
            see(name.as_str(), rows.schema().field(*column).data_type(), path.as_str());
        }
    }
    for (column, name) in beside.iter().flat_map(|beside| &beside.own) {
        see(
            name.as_str(),
            beside.map_or(&DataType::Null, |beside| beside.table.column(*column).data_type()),
            "--metadata",
        );
    }
    let mut new = Vec::new();
    for (name, (kinds, path)) in kinds {
        match images.field_with_name(name) {
            Ok(there) if !schema::is_users(there) => {
                let reason = format!("column '{name}' of images holds embeddings or scores: name this one otherwise");
                return Err(Error::BadMetadata { path: path.into(), reason });
            }
            Ok(_) => {}
            Err(_) => new.push(Field::new(name, common(kinds.iter()), true)),
        }
    }
    Ok(new)
}

/// Add the column of an external backbone's class logits; nothing happens where it is there.
async fn register_logits(store: &Store, lock: &WriteLock, external: &External, classes: usize) -> Result<()> {
    let field = schema::logits_field(&external.name, classes, &external.version);
    let images = store.schema(schema::IMAGES).await?;
    match images.field_with_name(field.name()) {
        Err(_) => store.add_null_columns(lock, schema::IMAGES, &[field]).await,
        Ok(there) if there.data_type() == field.data_type() && schema::is_logits(there) => Ok(()),
        Ok(there) if let (true, DataType::FixedSizeList(_, width)) = (schema::is_logits(there), there.data_type()) => {
            let (backbone, expected) = (external.name.clone(), *width as usize);
            Err(Error::LogitsChanged { backbone, expected, found: classes })
        }
        Ok(there) => Err(Error::OtherCheckpoint {
            column: field.name().clone(),
            stored: there.data_type().to_string(),
            given: format!("{classes} classes"),
        }),
    }
}
