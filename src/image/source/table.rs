//! Tables: Parquet files that hold the images, as Hugging Face lays them out; and Parquet, CSV and JSONL files that name
//! them in a column `uri`.

use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, UInt64Type};
use arrow::error::ArrowError;
use bytes::Bytes;
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::parquet::errors::Result as ParquetResult;
use datafusion::parquet::file::reader::{ChunkReader, Length};

use super::archive::share;
use super::format::{Entry, Fault, MAX_FILE_BYTES, Reader, Source, Table, check_rows, too_large};
use super::kept::Opened;
use super::parts;
use super::place::{self, Seekable};
use super::real::Folders;
use super::uris;
use crate::error::{Error, Result};
use crate::regular::Text;
use crate::schema;

/// Of a text: a line of more bytes is no row of a table.
const MAX_LINE_BYTES: usize = 64 << 20;
/// Images in memory at a time.
pub(super) const ROWS: usize = 64;
/// Columns that name a row's class, the usual first.
const LABELS: [&str; 6] = [schema::LABEL, "labels", "fine_label", "target", "class", "category"];

pub(super) fn is_parquet(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".parquet")
}

pub(super) fn is_table(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [".parquet", ".csv", ".jsonl", ".ndjson"].iter().any(|end| name.ends_with(end))
}

/// What a table given by itself holds or names.
pub(super) fn plan(path: &Path, opened: &Opened) -> Result<Vec<Source>> {
    let is_parquet = is_parquet(&place::name(path));
    if is_parquet && let Some(source) = images(path)? {
        return Ok(vec![source]);
    }
    let table = read(path)?;
    let Some(uris) = table.column_by_name(schema::URI) else {
        let columns: Vec<_> = table.schema().fields().iter().map(|field| field.name().clone()).collect();
        let images = if is_parquet { " nor of image bytes" } else { "" };
        let reason = format!("it has no column 'uri'{images}: its columns are {}", columns.join(", "));
        return Err(Error::BadArchive { path: path.into(), reason });
    };
    let bad = |error: ArrowError| Error::BadArchive { path: path.into(), reason: error.to_string() };
    let uris = cast(uris, &DataType::Utf8).map_err(bad)?;
    let labels = match table.column_by_name(schema::LABEL) {
        Some(labels) => Some(cast(labels, &DataType::Utf8).map_err(bad)?),
        None => None,
    };
    let (mut shared, mut folders) = (None, Folders::default());
    let mut named = Vec::with_capacity(uris.len());
    for (row, uri) in uris.as_string::<i32>().iter().enumerate() {
        let Some(uri) = uri.map(str::trim).filter(|uri| !uri.is_empty()) else { continue };
        let label = labels.as_ref().map(|labels| labels.as_string::<i32>()).filter(|labels| labels.is_valid(row));
        named
            .push((uris::absolute(path, uri, &mut folders), label.map(|labels| share(&mut shared, labels.value(row)))));
    }
    let mut sources = uris::named(named, opened);
    if let Some(first) = sources.first_mut() {
        first.table = Some(Table::Listed(path.into(), table));
    }
    Ok(sources)
}

/// A whole table: Parquet, CSV or JSONL. Types of CSV and JSONL are those that all of their rows agree with.
pub fn read(path: &Path) -> Result<RecordBatch> {
    let name = place::name(path).to_ascii_lowercase();
    let file = Seekable::open(path).map_err(Error::io("open", path))?;
    let bad = |error: ArrowError| Error::BadArchive { path: path.into(), reason: error.to_string() };
    let batches = || -> Result<Vec<RecordBatch>, ArrowError> {
        if is_parquet(&name) {
            let builder = caught(|| Ok(ParquetRecordBatchReaderBuilder::try_new(file)?))?;
            return rows_of(builder)?.collect();
        }
        let mut file = BufReader::new(Lines::of(Text::of(file)?));
        if name.ends_with(".csv") {
            let format = arrow::csv::reader::Format::default().with_header(true);
            let (schema, _) = format.infer_schema(&mut file, None)?;
            file.rewind()?;
            return arrow::csv::ReaderBuilder::new(Arc::new(schema)).with_format(format).build(file)?.collect();
        }
        let (schema, _) = arrow::json::reader::infer_json_schema(&mut file, None)?;
        file.rewind()?;
        arrow::json::ReaderBuilder::new(Arc::new(schema)).build(file)?.collect()
    };
    batches().and_then(together).map_err(|error| match error {
        // our own word, or the system's
        ArrowError::IoError(_, error) => Error::io("read", path)(error),
        error => bad(error),
    })
}

/// A text of which no line is so long that reading it would fill the memory.
struct Lines<R> {
    from: R,
    /// The line that is being read, from 1, and what was read of it.
    line: u64,
    length: usize,
}

impl<R> Lines<R> {
    fn of(from: R) -> Self {
        Self { from, line: 1, length: 0 }
    }
}

impl<R: Read> Read for Lines<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(into)?;
        for part in into[..count].split_inclusive(|&byte| byte == b'\n') {
            self.length += part.len();
            if self.length > MAX_LINE_BYTES {
                let reason =
                    format!("line {} is longer than {} MiB, the most that is read", self.line, MAX_LINE_BYTES >> 20);
                return Err(io::Error::other(reason));
            }
            if part.ends_with(b"\n") {
                (self.line, self.length) = (self.line + 1, 0);
            }
        }
        Ok(count)
    }
}

impl<R: Seek> Seek for Lines<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        (self.line, self.length) = (1, 0);
        self.from.seek(to)
    }
}

/// Batches as one.
pub(super) fn together(batches: Vec<RecordBatch>) -> Result<RecordBatch, ArrowError> {
    let schema = batches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
    arrow::compute::concat_batches(&schema, &batches)
}

/// A Parquet file with the bytes of images: a struct with a field `bytes`, or a column of bytes by itself; `None` where
/// it has neither.
pub(super) fn images(path: &Path) -> Result<Option<Source>> {
    let bad = |reason: String| Error::BadArchive { path: path.into(), reason };
    let length = Seekable::open(path).and_then(|file| file.length()).map_err(Error::io("read", path))?;
    let builder = open(path)?;
    let schema = Arc::clone(builder.schema());
    let Some(image) = image_column(&schema) else { return Ok(None) };
    let (rows, groups) = (builder.metadata().file_metadata().num_rows(), builder.metadata().row_groups());
    // a damaged number is believed where two places say it
    let of_groups = groups.iter().try_fold(0i64, |rows, group| rows.checked_add(group.num_rows()));
    let rows = usize::try_from(rows).ok().filter(|_| of_groups == Some(rows));
    let rows = rows.ok_or_else(|| bad("it does not have as many rows as it says".into()))?;
    check_rows(rows as u64, length).map_err(bad)?;
    let mut entries: Vec<Entry> = (0..rows).map(Entry::row).collect();
    let further = further_columns(&schema);
    let has_further = !further.is_empty();
    if let Some(label) = label_column(&schema) {
        let mask = ProjectionMask::roots(builder.parquet_schema(), [label]);
        let reader = rows_of(builder.with_projection(mask)).map_err(|error| bad(error.to_string()))?;
        label_rows(&mut entries, &schema, label, reader).map_err(|error| bad(error.to_string()))?;
    }
    let file = path.to_path_buf();
    let read = move || {
        let builder = open(&file)?;
        let mask = ProjectionMask::roots(builder.parquet_schema(), [image]);
        // what the largest group says of its pictures, for so many are in memory at a time
        let groups = builder.metadata().row_groups().iter();
        let largest = groups.map(|group| {
            let bytes: i64 = group.columns().iter().map(|column| column.uncompressed_size()).sum();
            bytes.max(0) as u64 / group.num_rows().max(1) as u64
        });
        let rows = (MAX_FILE_BYTES / largest.max().unwrap_or(0).max(1)).clamp(1, ROWS as u64);
        let reader = rows_of(builder.with_projection(mask).with_batch_size(rows as usize));
        let reader = reader.map_err(|error| Error::BadArchive { path: file.clone(), reason: error.to_string() })?;
        Ok(Box::new(Images::of(reader)) as Box<dyn Reader>)
    };
    let file = path.to_path_buf();
    let tell = move || {
        let builder = open(&file)?;
        let mask = ProjectionMask::roots(builder.parquet_schema(), further.iter().copied());
        let rows = rows_of(builder.with_projection(mask)).and_then(Iterator::collect);
        rows.and_then(together).map_err(|error| Error::BadArchive { path: file.clone(), reason: error.to_string() })
    };
    Ok(Some(Source::inside(path, entries, read).with_part(part(path)).with_table(has_further.then_some(tell))))
}

/// The part of a data set that a table is by its name: Hugging Face calls them train-00000-of-00002.parquet, others
/// mnist-train.parquet.
pub(super) fn part(path: &Path) -> Option<&'static str> {
    parts::of_file(&place::name(path))
}

/// The columns of plain types of a table that holds images, but for the one that names a row's class.
pub(super) fn further_columns(schema: &Schema) -> Vec<usize> {
    fn is_plain(kind: &DataType) -> bool {
        use DataType as D;
        match kind {
            D::Null | D::Boolean | D::Utf8 | D::LargeUtf8 | D::Utf8View | D::Decimal128(..) => true,
            D::Date32 | D::Date64 | D::Time32(_) | D::Time64(_) | D::Timestamp(..) => true,
            D::Dictionary(_, values) => is_plain(values),
            kind => kind.is_integer() || kind.is_floating(),
        }
    }
    let label = label_column(schema);
    let is_further = |&column: &usize| Some(column) != label && is_plain(schema.field(column).data_type());
    (0..schema.fields().len()).filter(is_further).collect()
}

/// The column that names a row's class.
pub(super) fn label_column(schema: &Schema) -> Option<usize> {
    LABELS.iter().find_map(|name| schema.index_of(name).ok())
}

/// Label the rows of a table by that column, which the batches hold alone.
pub(super) fn label_rows(
    entries: &mut [Entry],
    schema: &Schema,
    column: usize,
    batches: impl Iterator<Item = Result<RecordBatch, ArrowError>>,
) -> Result<(), ArrowError> {
    let names = class_names(schema, schema.field(column).name());
    let mut entries = entries.iter_mut();
    let mut shared = None;
    for batch in batches {
        for (label, entry) in texts(batch?.column(0), &names)?.iter().zip(&mut entries) {
            entry.label = label.as_ref().map(|label| share(&mut shared, label));
        }
    }
    Ok(())
}

impl Length for Seekable {
    fn len(&self) -> u64 {
        self.length().unwrap_or(0)
    }
}

impl ChunkReader for Seekable {
    type T = Box<dyn Read>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(match self {
            Self::Here(file) => Box::new(file.get_read(start)?),
            Self::There(blocks) => Box::new(BufReader::new(blocks.from(start))),
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        match self {
            Self::Here(file) => file.get_bytes(start, length),
            Self::There(blocks) => Ok(blocks.part(start, length)?),
        }
    }
}

fn open(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<Seekable>> {
    let file = Seekable::open(path).map_err(Error::io("open", path))?;
    caught(|| Ok(ParquetRecordBatchReaderBuilder::try_new(file)?))
        .map_err(|error| Error::BadArchive { path: path.into(), reason: error.to_string() })
}

/// A damaged Parquet file may make its reader panic, which says its word on stderr; that it is damaged is our error.
fn caught<T>(read: impl FnOnce() -> Result<T, ArrowError>) -> Result<T, ArrowError> {
    let damaged = |_| Err(ArrowError::ParquetError("it is damaged".into()));
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(damaged)
}

/// The rows of a Parquet file.
fn rows_of(
    builder: ParquetRecordBatchReaderBuilder<Seekable>,
) -> Result<impl Iterator<Item = Result<RecordBatch, ArrowError>> + Send, ArrowError> {
    let mut reader = Some(caught(|| Ok(builder.build()?))?);
    Ok(std::iter::from_fn(move || {
        let next = caught(|| reader.as_mut().and_then(Iterator::next).transpose()).transpose();
        if !matches!(next, Some(Ok(_))) {
            reader = None; // what panicked is not asked again
        }
        next
    }))
}

/// The column with the images: a struct with a field `bytes`, or bytes by themselves.
pub(super) fn image_column(schema: &Schema) -> Option<usize> {
    let is_bytes = |kind: &DataType| matches!(kind, DataType::Binary | DataType::LargeBinary | DataType::BinaryView);
    let holds_images = |kind: &DataType| match kind {
        DataType::Struct(fields) => fields.iter().any(|field| field.name() == "bytes" && is_bytes(field.data_type())),
        kind => is_bytes(kind),
    };
    schema.fields().iter().position(|field| holds_images(field.data_type()))
}

/// The names of a column's classes, where the file says them as Hugging Face does.
fn class_names(schema: &Schema, column: &str) -> Vec<String> {
    let metadata = schema.metadata().get("huggingface").and_then(|text| serde_json::from_str(text).ok());
    let metadata: serde_json::Value = metadata.unwrap_or_default();
    let names = metadata["info"]["features"][column]["names"].as_array();
    names.into_iter().flatten().filter_map(|name| name.as_str().map(String::from)).collect()
}

fn texts(labels: &ArrayRef, names: &[String]) -> Result<Vec<Option<String>>, ArrowError> {
    if labels.data_type().is_integer() && !names.is_empty() {
        let places = cast(labels, &DataType::UInt64)?;
        let name = |place: u64| names.get(place as usize).cloned().unwrap_or_else(|| place.to_string());
        return Ok(places.as_primitive::<UInt64Type>().iter().map(|place| place.map(name)).collect());
    }
    let texts = cast(labels, &DataType::Utf8)?;
    Ok(texts.as_string::<i32>().iter().map(|text| text.map(String::from)).collect())
}

/// Images out of batches of one column.
pub(super) struct Images {
    batches: Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>,
    batch: Option<BinaryArray>,
    /// The row after `batch`.
    next: u64,
}

impl Images {
    pub(super) fn of(batches: impl Iterator<Item = Result<RecordBatch, ArrowError>> + Send + 'static) -> Self {
        Self { batches: Box::new(batches), batch: None, next: 0 }
    }
}

impl Reader for Images {
    fn read(&mut self, entry: &Entry) -> Result<Vec<u8>, Fault> {
        while self.next <= entry.at {
            let Some(batch) = self.batches.next() else { return Err(Fault::Container("it became shorter".into())) };
            let broken = |error: ArrowError| Fault::Container(error.to_string());
            let batch = batch.map_err(broken)?;
            let column = batch.column(0);
            let bytes = match column.as_struct_opt() {
                Some(image) => image.column_by_name("bytes").unwrap_or(column),
                None => column,
            };
            let bytes = cast(bytes, &DataType::Binary).map_err(broken)?;
            self.next += batch.num_rows() as u64;
            self.batch = Some(bytes.as_binary::<i32>().clone());
        }
        let Some(batch) = &self.batch else { return Err(Fault::Container("it became shorter".into())) };
        let row = (entry.at + batch.len() as u64 - self.next) as usize;
        match batch.is_valid(row).then(|| batch.value(row)) {
            None => Err(Fault::Image("it has no bytes: a NULL, or a path beside the file".into())),
            Some(bytes) if bytes.len() as u64 > MAX_FILE_BYTES => Err(Fault::Image(too_large(bytes.len() as u64))),
            Some(bytes) => Ok(bytes.to_vec()),
        }
    }
}
