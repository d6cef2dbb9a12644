//! Lance tables that hold images: folders `x.lance`, as `lance` and `lancedb` write them. The only file here that names
//! `lance`.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ::lance::Dataset;
use ::lance::datafusion::LanceTableProvider;
use ::lance::dataset::scanner::{DatasetRecordBatchStream, Scanner};
use ::lance::datatypes::BlobHandling;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as DataFusionResult;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use futures::StreamExt;

use super::format::{Entry, MAX_FILE_BYTES, Reader, Source};
use super::place;
use super::table::{self, Images, ROWS, reason};
use super::wait::wait;
use crate::error::{Error, Result};
use crate::foreign::without_location;
use crate::regular;

/// The folder that every table has.
const VERSIONS: &str = "_versions";

/// Batches that Lance decodes ahead: pictures may be large.
const BATCHES_AHEAD: usize = 2;

pub(super) fn is_table(path: &Path) -> bool {
    place::name(path).to_ascii_lowercase().ends_with(".lance")
}

/// A table that is given by itself.
pub(super) fn plan(path: &Path) -> Result<Source> {
    match images(path)? {
        Some(source) => Ok(source),
        None => {
            let columns = schema_of(&open(path)?).fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
            let reason = format!("it has no column of image bytes: its columns are {}", columns.join(", "));
            Err(Error::BadArchive { path: path.into(), reason })
        }
    }
}

/// The images of a table, at the version that is the latest now; `None` where it has no column of bytes.
pub(super) fn images(path: &Path) -> Result<Option<Source>> {
    let bad = |reason: String| Error::BadArchive { path: path.into(), reason };
    let table = open(path)?;
    let schema = schema_of(&table);
    let Some(image) = table::image_column(&schema) else { return Ok(None) };
    let counted = table.clone();
    let rows = wait(async move { counted.count_rows(None).await.map_err(broken) });
    let rows = rows.map_err(ArrowError::from).flatten().map_err(|error| bad(reason(&error)))?;
    let mut entries: Vec<Entry> = (0..rows).map(Entry::row).collect();
    if let Some(label) = table::label_column(&schema) {
        let labels = scan(&table, &[schema.field(label).name()]);
        labels
            .and_then(|labels| table::label_rows(&mut entries, &schema, label, labels))
            .map_err(|error| bad(reason(&error)))?;
    }
    let (file, column) = (path.to_path_buf(), schema.field(image).name().clone());
    let further: Vec<String> =
        table::further_columns(&schema).into_iter().map(|column| schema.field(column).name().clone()).collect();
    let has_further = !further.is_empty();
    let (told, of) = (table.clone(), path.to_path_buf());
    let tell = move || {
        let rows = scan(&told, &further).and_then(Iterator::collect).and_then(table::together);
        rows.map_err(|error| Error::BadArchive { path: of.clone(), reason: reason(&error) })
    };
    let read = move || match scan(&table, &[&column]) {
        Ok(batches) => Ok(Box::new(Images::of(batches)) as Box<dyn Reader>),
        Err(error) => Err(Error::BadArchive { path: file.clone(), reason: reason(&error) }),
    };
    Ok(Some(Source::inside(path, entries, read).with_part(table::part(path)).with_table(has_further.then_some(tell))))
}

/// Whether a path is a Lance table's, or says so.
pub(crate) fn is_lance_table(path: &Path) -> bool {
    path.is_dir() && (is_table(path) || path.join(VERSIONS).is_dir())
}

/// A table for SQL, whatever its columns are, at the version that is the latest now.
pub(crate) async fn lance_table(path: &Path) -> Result<Arc<dyn TableProvider>> {
    let text = checked(path)?;
    let bad = |error: ::lance::Error| Error::BadArchive { path: path.into(), reason: reason(&broken(error)) };
    let table = Dataset::open(&text).await.map_err(bad)?;
    Ok(Arc::new(Unfiltered(LanceTableProvider::new(Arc::new(table), false, false))))
}

/// Lance's scan without filters: it would take those that name the session's functions as well, and has none of them.
#[derive(Debug)]
struct Unfiltered(LanceTableProvider);

#[async_trait]
impl TableProvider for Unfiltered {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.0.scan(state, projection, filters, limit).await
    }
}

fn open(path: &Path) -> Result<Dataset> {
    let bad = |reason: String| Error::BadArchive { path: path.into(), reason };
    let text = checked(path)?;
    let opened = wait(async move { Dataset::open(&text).await.map_err(broken) });
    opened.map_err(ArrowError::from).flatten().map_err(|error| bad(reason(&error)))
}

/// The path of a folder that may be opened.
fn checked(path: &Path) -> Result<String> {
    let bad = |reason: String| Error::BadArchive { path: path.into(), reason };
    if !path.join(VERSIONS).is_dir() {
        return Err(bad("it is no Lance table: it has no folder _versions".into()));
    }
    files_only(path)?;
    path.to_str().map(str::to_owned).ok_or_else(|| Error::NotUtf8 { path: path.into() })
}

/// Refuse a table in whose folder a pipe or a device lies: Lance would open it, and wait.
fn files_only(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))?.flatten() {
        let path = entry.path();
        match fs::metadata(&path) {
            Ok(found) if found.is_dir() => files_only(&path)?,
            Ok(found) => regular::check(&found).map_err(Error::io("read", &path))?,
            // a link to nowhere, which Lance says if it needs it
            Err(_) => {}
        }
    }
    Ok(())
}

/// The columns as a scan gives them: blobs, which lie beside the others, as bytes.
fn schema_of(table: &Dataset) -> Schema {
    let schema = Schema::from(table.schema());
    let as_read = |(field, kept): (&FieldRef, &::lance::datatypes::Field)| {
        if kept.is_blob() { Arc::new(Field::new(field.name(), DataType::LargeBinary, true)) } else { Arc::clone(field) }
    };
    let fields: Vec<FieldRef> = schema.fields().iter().zip(&table.schema().fields).map(as_read).collect();
    Schema::new(fields).with_metadata(schema.metadata().clone())
}

fn broken(error: ::lance::Error) -> ArrowError {
    ArrowError::ExternalError(without_location(&error.to_string()).into())
}

/// The rows of a table, `batch` at a time, of the columns that are wanted.
pub(super) fn rows(
    path: &Path,
    batch: usize,
    wanted: &dyn Fn(&Field) -> bool,
) -> Result<(SchemaRef, u64, impl Iterator<Item = Result<RecordBatch, ArrowError>> + Send + 'static)> {
    let bad = |error: ArrowError| Error::BadArchive { path: path.into(), reason: reason(&error) };
    let table = open(path)?;
    let schema = schema_of(&table);
    let chosen: Vec<FieldRef> = schema.fields().iter().filter(|field| wanted(field)).cloned().collect();
    let counted = table.clone();
    let rows = wait(async move { counted.count_rows(None).await.map_err(broken) });
    let rows = rows.map_err(ArrowError::from).flatten().map_err(bad)?;
    let names: Vec<&String> = chosen.iter().map(|field| field.name()).collect();
    let batches = scan_by(&table, &names, batch).map_err(bad)?;
    Ok((Arc::new(Schema::new(chosen)), rows as u64, batches))
}

/// Some columns, row by row.
fn scan(table: &Dataset, columns: &[impl AsRef<str>]) -> Result<Batches, ArrowError> {
    scan_by(table, columns, ROWS)
}

fn scan_by(table: &Dataset, columns: &[impl AsRef<str>], batch: usize) -> Result<Batches, ArrowError> {
    let mut scanner: Scanner = table.scan();
    scanner.project(columns).map_err(broken)?;
    scanner.blob_handling(BlobHandling::AllBinary).batch_size(batch).batch_readahead(BATCHES_AHEAD);
    scanner.batch_size_bytes(MAX_FILE_BYTES);
    let stream = wait(async move { scanner.try_into_stream().await.map_err(broken) })??;
    Ok(Batches { stream: Some(stream) })
}

/// A scan's batches, waited for.
struct Batches {
    /// `None` after its end.
    stream: Option<DatasetRecordBatchStream>,
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut stream = self.stream.take()?;
        match wait(async move { (stream.next().await, stream) }) {
            Ok((batch, stream)) => {
                self.stream = batch.is_some().then_some(stream);
                Some(batch?.map_err(broken))
            }
            Err(error) => Some(Err(error.into())),
        }
    }
}
