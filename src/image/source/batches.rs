//! Tables and arrays as batches of rows, in order: so much is in memory as a batch has, whatever the file's size.

use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, RecordBatchReader};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};
use flate2::read::DeflateDecoder;
use zip::{CompressionMethod, ZipArchive};

use super::place::{self, Seekable};
use super::text_table::Batches;
use super::{lance, table, text_table};
use crate::error::{Error, Result};
use crate::formats::arrays::{self, Array};

/// The name of the column of an array that has no names.
pub const ARRAY: &str = "embedding";

/// What a name may end in, for messages.
const READ: &str = ".parquet, .arrow, .feather, .ipc, .lance, .csv, .tsv, .jsonl, .npy, .npz and .safetensors files";

/// Rows of a table, some at a time.
pub struct TableRows {
    /// Where they come from.
    pub path: PathBuf,
    /// Their columns.
    pub schema: SchemaRef,
    /// How many there are, where that is known before they are read.
    pub rows: Option<u64>,
    /// Of numbers that are not stored as f32: as what.
    pub stored: Option<&'static str>,
    batches: Box<Batches>,
}

impl std::fmt::Debug for TableRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableRows").field("path", &self.path).field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl TableRows {
    /// Batches of a program's own, at most so many rows at a time.
    pub fn of_batches(reader: impl RecordBatchReader + Send + 'static, name: &str, batch: usize) -> Self {
        let schema = reader.schema();
        Self { path: name.into(), schema, rows: None, stored: None, batches: Box::new(cut(reader, batch)) }
    }
}

impl Iterator for TableRows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let bad = |error: ArrowError| Error::BadArchive { path: self.path.clone(), reason: table::reason(&error) };
        Some(self.batches.next()?.map_err(bad))
    }
}

/// The rows of a table or an array, `batch` at a time, in its order; of its columns those that are `wanted`, by what they are.
/// A `.npy` file is a column [`ARRAY`]; `.npz` and safetensors files have a column for each of their arrays, of which `array` is
/// read.
///
/// Errors: [`Error::BadArchive`] for what is no such file, [`Error::UnknownFile`] for what none is by its name,
/// [`Error::Io`].
pub fn table_rows(path: &Path, batch: usize, array: &str, wanted: impl Fn(&Field) -> bool) -> Result<TableRows> {
    let name = place::name(path).to_ascii_lowercase();
    let ends = |ending: &str| name.ends_with(ending);
    let found = |schema: SchemaRef, rows: Option<u64>, batches: Box<Batches>| TableRows {
        path: path.into(),
        schema,
        rows,
        stored: None,
        batches,
    };
    let chosen = |schema: &Schema| -> Vec<usize> {
        (0..schema.fields().len()).filter(|&column| wanted(schema.field(column))).collect()
    };
    if lance::is_table(path) {
        let (schema, rows, batches) = lance::rows(path, batch, &wanted)?;
        Ok(found(schema, Some(rows), Box::new(batches)))
    } else if table::is_parquet(&name) {
        let (schema, rows, batches) = table::rows(path, batch, chosen)?;
        Ok(found(schema, Some(rows), Box::new(batches)))
    } else if ends(".arrow") || ends(".feather") || ends(".ipc") {
        let (schema, batches) = ipc(path, &chosen)?;
        Ok(found(schema, None, Box::new(cut(batches, batch))))
    } else if text_table::ENDINGS.iter().any(|ending| ends(ending)) {
        let (schema, rows, batches) = text_table::rows(path, batch, chosen)?;
        Ok(found(schema, Some(rows), batches))
    } else if ends(".npy") || ends(".npz") || ends(".safetensors") {
        let (name, about, body) = array_of(path, array)?;
        let item = Arc::new(Field::new("item", DataType::Float32, true));
        let column = Field::new(name, DataType::FixedSizeList(item, about.width as i32), true);
        let (schema, rows) = (Arc::new(Schema::new(vec![column])), about.rows);
        let stored = Some(about.kind.name()).filter(|name| *name != "f32");
        let batches = Rows { body, about, left: rows, batch: batch as u64, schema: Arc::clone(&schema) };
        Ok(TableRows { stored, ..found(schema, Some(rows), Box::new(batches)) })
    } else {
        Err(Error::UnknownFile { path: path.into(), read: READ })
    }
}

/// The columns of a table, or the arrays of a file.
pub fn table_columns(path: &Path) -> Result<Vec<String>> {
    let name = place::name(path).to_ascii_lowercase();
    if [".npz", ".safetensors"].iter().any(|ending| name.ends_with(ending)) {
        return names_of_arrays(path);
    }
    let rows = table_rows(path, 1, ARRAY, |_| true)?;
    Ok(rows.schema.fields().iter().map(|field| field.name().clone()).collect())
}

/// Whether a file or folder is one of those that [`table_rows`] reads, by its name.
pub(super) fn is_table(path: &Path) -> bool {
    let name = place::name(path).to_ascii_lowercase();
    let is_ipc = [".arrow", ".feather", ".ipc"].iter().any(|ending| name.ends_with(ending));
    lance::is_table(path) || table::is_parquet(&name) || is_ipc || is_text(path) || is_array(path)
}

/// Whether a file holds arrays, by its name.
pub fn is_array(path: &Path) -> bool {
    let name = place::name(path).to_ascii_lowercase();
    [".npy", ".npz", ".safetensors"].iter().any(|ending| name.ends_with(ending))
}

/// Whether a file is a table in text, by its name.
pub fn is_text(path: &Path) -> bool {
    let name = place::name(path).to_ascii_lowercase();
    text_table::ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// Batches of at most so many rows.
fn cut(
    batches: impl Iterator<Item = Result<RecordBatch, ArrowError>> + Send + 'static,
    most: usize,
) -> impl Iterator<Item = Result<RecordBatch, ArrowError>> + Send {
    batches.flat_map(move |batch| -> Box<Batches> {
        match batch {
            Ok(batch) => {
                let rows = batch.num_rows();
                Box::new((0..rows).step_by(most).map(move |at| Ok(batch.slice(at, most.min(rows - at)))))
            }
            error => Box::new(std::iter::once(error)),
        }
    })
}

/// Arrow's own format: a file or a stream, compressed or not.
fn ipc(path: &Path, chosen: &dyn Fn(&Schema) -> Vec<usize>) -> Result<(SchemaRef, Box<Batches>)> {
    let bad = |error: ArrowError| Error::BadArchive { path: path.into(), reason: error.to_string() };
    let mut file = BufReader::new(Seekable::open(path).map_err(Error::io("open", path))?);
    let mut magic = Vec::new();
    file.by_ref().take(6).read_to_end(&mut magic).map_err(Error::io("read", path))?;
    file.rewind().map_err(Error::io("read", path))?;
    if magic == b"FEA1".as_slice() || magic.starts_with(b"FEA1") {
        let reason = "it is Feather version 1: save it with version 2, which is Arrow's own format".into();
        return Err(Error::BadArchive { path: path.into(), reason });
    }
    if magic == b"ARROW1" {
        let schema = FileReader::try_new(&mut file, None).map_err(bad)?.schema();
        let projection = chosen(&schema);
        file.rewind().map_err(Error::io("read", path))?;
        let reader = FileReader::try_new(file, Some(projection)).map_err(bad)?;
        return Ok((reader.schema(), Box::new(reader)));
    }
    let schema = StreamReader::try_new(&mut file, None).map_err(bad)?.schema();
    let projection = chosen(&schema);
    file.rewind().map_err(Error::io("read", path))?;
    let reader = StreamReader::try_new(file, Some(projection)).map_err(bad)?;
    Ok((reader.schema(), Box::new(reader)))
}

/// The array that is asked for, or the only one: its name, what it is, and its numbers from the beginning.
fn array_of(path: &Path, asked: &str) -> Result<(String, Array, Box<dyn Read + Send>)> {
    let bad = |reason: String| Error::BadArchive { path: path.into(), reason };
    let name = place::name(path).to_ascii_lowercase();
    if name.ends_with(".npy") {
        let mut body: Box<dyn Read + Send> =
            Box::new(BufReader::new(place::open(path).map_err(Error::io("open", path))?));
        let about = arrays::npy(&mut body).map_err(bad)?;
        return Ok((ARRAY.into(), about, body));
    }
    let names = names_of_arrays(path)?;
    let is_asked = |name: &&String| name.as_str() == asked;
    let only = names.first().filter(|_| names.len() == 1 && asked.is_empty());
    let Some(chosen) = names.iter().find(is_asked).or(only) else {
        return Err(bad(format!("it has no array '{asked}': its arrays are {}", names.join(", "))));
    };
    let mut file = Seekable::open(path).map_err(Error::io("open", path))?;
    if name.ends_with(".safetensors") {
        let arrays = arrays::safetensors(&mut BufReader::new(&mut file)).map_err(bad)?;
        let about = arrays.into_iter().find(|(name, _)| name == chosen).map(|(_, array)| array);
        let about = about.unwrap_or_else(|| Err("it became another file".into()));
        let about = about.map_err(|reason| bad(format!("{chosen}: {reason}")))?;
        file.seek(SeekFrom::Start(about.at)).map_err(Error::io("read", path))?;
        return Ok((chosen.clone(), about, Box::new(BufReader::new(file))));
    }
    let mut body = member(file, &format!("{chosen}.npy")).map_err(|error| bad(error.to_string()))?;
    let about = arrays::npy(&mut body).map_err(|reason| bad(format!("{chosen}: {reason}")))?;
    Ok((chosen.clone(), about, body))
}

fn names_of_arrays(path: &Path) -> Result<Vec<String>> {
    let bad = |reason: String| Error::BadArchive { path: path.into(), reason };
    let file = BufReader::new(Seekable::open(path).map_err(Error::io("open", path))?);
    if place::name(path).to_ascii_lowercase().ends_with(".safetensors") {
        let arrays = arrays::safetensors(&mut { file }).map_err(bad)?;
        return Ok(arrays.into_iter().map(|(name, _)| name).collect());
    }
    let archive = ZipArchive::new(file).map_err(|error| bad(error.to_string()))?;
    let names = archive.file_names().map(|name| name.map(|name| name.trim_end_matches(".npy").to_owned()));
    names.collect::<Result<_, _>>().map_err(|error| bad(error.to_string()))
}

/// A member of a zip archive from its beginning, however large it is.
fn member(file: Seekable, name: &str) -> io::Result<Box<dyn Read + Send>> {
    let mut archive = ZipArchive::new(BufReader::new(file))?;
    let (start, size, method) = {
        let member = archive.by_name(name)?;
        let start = member.data_start().ok_or_else(|| io::Error::other("its members cannot be found"))?;
        (start, member.compressed_size(), member.compression())
    };
    let mut file = archive.into_inner();
    file.seek(SeekFrom::Start(start))?;
    match method {
        CompressionMethod::Stored => Ok(Box::new(file.take(size))),
        CompressionMethod::Deflated => Ok(Box::new(DeflateDecoder::new(file.take(size)))),
        other => Err(io::Error::other(format!("{name} is compressed by {other}, and that is not read"))),
    }
}

/// The rows of an array.
struct Rows {
    body: Box<dyn Read + Send>,
    about: Array,
    left: u64,
    batch: u64,
    schema: SchemaRef,
}

impl Iterator for Rows {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let rows = self.left.min(self.batch);
        self.left -= rows;
        let read = self.read(rows);
        if read.is_err() {
            self.left = 0;
        }
        Some(read)
    }
}

impl Rows {
    fn read(&mut self, rows: u64) -> Result<RecordBatch, ArrowError> {
        let size = rows * self.about.row_bytes() as u64;
        // grown while reading: the head may promise more than there is
        let mut bytes = Vec::new();
        self.body.by_ref().take(size).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != size {
            return Err(ArrowError::ParseError(format!("it is cut: it promises {} rows", self.about.rows)));
        }
        let mut numbers = Vec::with_capacity(rows as usize * self.about.width);
        self.about.numbers(&bytes, &mut numbers);
        let DataType::FixedSizeList(item, width) = self.schema.field(0).data_type() else {
            return Err(ArrowError::SchemaError("an array is a list".into()));
        };
        let values: ArrayRef = Arc::new(Float32Array::from(numbers));
        let column: ArrayRef = Arc::new(FixedSizeListArray::try_new(Arc::clone(item), *width, values, None)?);
        RecordBatch::try_new(Arc::clone(&self.schema), vec![column])
    }
}
