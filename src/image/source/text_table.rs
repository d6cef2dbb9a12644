//! Tables that are text: CSV, tab-separated and JSONL files. What is not a number when it is written out again stays text.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::cast;
use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

use super::place::{self, Seekable};
use crate::error::{Error, Result};
use crate::regular::Text;
use crate::schema;

/// A line of more bytes is no row of a table.
const MAX_LINE_BYTES: usize = 64 << 20;

/// Rows, some at a time.
pub(super) type Batches = dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send;

/// Rows that are looked at at a time where all are.
const WHOLE: usize = 1024;

/// What the names of such tables end in.
pub(super) const ENDINGS: [&str; 5] = [".csv", ".tsv", ".tab", ".jsonl", ".ndjson"];

/// A whole table, as [`rows`] reads it.
pub(super) fn read(path: &Path) -> Result<RecordBatch> {
    let (schema, _, batches) = rows(path, WHOLE, |schema| (0..schema.fields().len()).collect())?;
    let batches = batches.collect::<Result<Vec<_>, _>>();
    let together = batches.and_then(|batches| arrow::compute::concat_batches(&schema, &batches));
    together.map_err(|error| told(path, error))
}

/// The columns of a table that are `chosen`, how many rows it has, and these, `batch` at a time. Columns are of the type that all
/// of their rows agree with, and text where a value would not survive that: `007`, whole numbers that no 64 bits or no double
/// hold; so are `uri` and `label` in any case. So the file is read from beginning to end before its first row is given.
///
/// CSV has a line of names first. Its values are apart by commas, or by semicolons or tabs where only those are in that line.
///
/// Errors: [`Error::BadArchive`] for what is no such table, [`Error::Io`].
pub(super) fn rows(
    path: &Path,
    batch: usize,
    chosen: impl FnOnce(&Schema) -> Vec<usize>,
) -> Result<(SchemaRef, u64, Box<Batches>)> {
    let file = Seekable::open(path).map_err(Error::io("open", path))?;
    let opened = || -> Result<(SchemaRef, u64, Box<Batches>), ArrowError> {
        let mut file = BufReader::new(Lines::of(Text::of(file)?));
        let kind = Kind::of(&place::name(path), &mut file)?;
        let seems = kind.schema(&mut file)?;
        let texts = Arc::new(as_text(&seems));
        let (count, fields) = agreed(&seems, kind.rows(&texts, WHOLE, &mut file)?)?;
        file.rewind()?;
        let columns = chosen(&Schema::new(fields.clone()));
        let schema = Arc::new(Schema::new(fields).project(&columns)?);
        let (wanted, into) = (columns, Arc::clone(&schema));
        let rows = move |batch: Result<RecordBatch, ArrowError>| {
            let batch = batch?.project(&wanted)?;
            let columns = into.fields().iter().zip(batch.columns());
            let columns = columns.map(|(field, column)| typed(column, field.data_type())).collect::<Result<_, _>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            RecordBatch::try_new_with_options(Arc::clone(&into), columns, &options)
        };
        Ok((schema, count, Box::new(kind.rows(&texts, batch, file)?.map(rows))))
    };
    opened().map_err(|error| told(path, error))
}

/// A column as the type that all of its rows agree with.
fn typed(column: &ArrayRef, kind: &DataType) -> Result<ArrayRef, ArrowError> {
    // nothing is cast to it, and a column of nothing is that
    if kind == &DataType::Null { Ok(new_null_array(kind, column.len())) } else { cast(column, kind) }
}

/// What is wrong with a file, in words for who gave it.
fn told(path: &Path, error: ArrowError) -> Error {
    let bad = |reason: String| Error::BadArchive { path: path.into(), reason };
    match error {
        // our own word, or the system's
        ArrowError::IoError(_, error) => Error::io("read", path)(error),
        error if error.to_string().contains("UTF-8") => {
            bad("it is no text in UTF-8: save it as that, or 'iconv -f WINDOWS-1252 -t UTF-8'".into())
        }
        error => bad(error.to_string()),
    }
}

/// How a table is written.
enum Kind {
    /// An object a line.
    Json,
    Csv(Format),
}

impl Kind {
    fn of<R: Read + Seek>(name: &str, file: &mut BufReader<R>) -> Result<Self, ArrowError> {
        let name = name.to_ascii_lowercase();
        if name.ends_with(".jsonl") || name.ends_with(".ndjson") {
            return Ok(Self::Json);
        }
        let mut names = Vec::new();
        file.take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut names)?;
        file.rewind()?;
        Ok(Self::Csv(Format::default().with_header(true).with_delimiter(delimiter_of(&names))))
    }

    /// The types that the columns seem to have.
    fn schema<R: Read + Seek>(&self, file: &mut BufReader<R>) -> Result<Schema, ArrowError> {
        let (schema, _) = match self {
            Self::Json => {
                let mut lines = Counted { from: &mut *file, line: 0 };
                let inferred = arrow::json::reader::infer_json_schema(&mut lines, None);
                // it reads line by line, and each for itself
                inferred.map_err(|error| {
                    let said = error.to_string();
                    let said = said.split(" at line ").next().unwrap_or_default();
                    ArrowError::JsonError(format!("line {}: {}", lines.line, said.trim_start_matches("Json error: ")))
                })?
            }
            Self::Csv(format) => format.infer_schema(&mut *file, None)?,
        };
        file.rewind()?;
        Ok(schema)
    }

    /// The rows of a file that stands at its beginning, in which plain values are text as it is written there.
    fn rows<'f>(
        &self,
        texts: &SchemaRef,
        batch: usize,
        file: impl BufRead + Send + 'f,
    ) -> Result<Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send + 'f>, ArrowError> {
        let texts = Arc::clone(texts);
        Ok(match self {
            Self::Json => {
                let rows = arrow::json::ReaderBuilder::new(texts).with_coerce_primitive(true).with_batch_size(batch);
                Box::new(rows.build(file)?)
            }
            Self::Csv(format) => {
                let rows = arrow::csv::ReaderBuilder::new(texts).with_format(format.clone()).with_batch_size(batch);
                Box::new(rows.build_buffered(file)?)
            }
        })
    }
}

/// How many rows there are, and the columns with the types that all of them agree with.
fn agreed(
    seems: &Schema,
    rows: impl Iterator<Item = Result<RecordBatch, ArrowError>>,
) -> Result<(u64, Vec<Field>), ArrowError> {
    let (mut count, mut agree) = (0, vec![true; seems.fields().len()]);
    let mut has_values = vec![false; seems.fields().len()];
    for batch in rows {
        let batch = batch?;
        count += batch.num_rows() as u64;
        for (at, (field, column)) in seems.fields().iter().zip(batch.columns()).enumerate() {
            has_values[at] |= column.logical_null_count() < column.len();
            agree[at] = agree[at] && is_agreed(field.data_type(), column)?;
        }
    }
    let field = |(at, field): (usize, &Arc<Field>)| {
        let is_text = [schema::URI, schema::LABEL].iter().any(|name| field.name().trim().eq_ignore_ascii_case(name));
        let kind = match field.data_type() {
            nested if nested.is_nested() => nested,
            _ if count == 0 || !agree[at] || is_text && has_values[at] => &DataType::Utf8,
            seems => seems,
        };
        Field::new(field.name(), kind.clone(), true)
    };
    Ok((count, seems.fields().iter().enumerate().map(field).collect()))
}

/// Whether no text of a column changes by becoming this type.
fn is_agreed(kind: &DataType, column: &ArrayRef) -> Result<bool, ArrowError> {
    let Some(texts) = column.as_string_opt::<i32>() else { return Ok(true) };
    if matches!(kind, DataType::Utf8 | DataType::Null) {
        return Ok(true);
    }
    // what cannot be read as such becomes NULL
    Ok(texts.iter().flatten().all(surviving(kind)) && cast(column, kind)?.null_count() == column.null_count())
}

/// The delimiter of a CSV file: commas, or semicolons or tabs where only those are in its line of names.
///
/// Errors: those of reading.
pub fn delimiter(path: &Path) -> io::Result<u8> {
    let mut names = Vec::new();
    BufReader::new(place::open(path)?).take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut names)?;
    Ok(delimiter_of(&names))
}

fn delimiter_of(names: &[u8]) -> u8 {
    *b",;\t".iter().find(|delimiter| names.contains(delimiter)).unwrap_or(&b',')
}

/// Of a CSV file the columns among these that would change as numbers: `007`, long digits. As many rows are read as DataFusion
/// reads to tell types.
pub fn changed_by_types(path: &Path, schema: &Schema, delimiter: u8, rows: usize) -> Result<Vec<String>> {
    let file = Seekable::open(path).and_then(Text::of).map_err(Error::io("open", path))?;
    let format = Format::default().with_header(true).with_delimiter(delimiter);
    let reader = arrow::csv::ReaderBuilder::new(Arc::new(as_text(schema))).with_format(format).with_batch_size(rows);
    // what is wrong with it says whoever reads it
    let first = reader.build(BufReader::new(file)).ok().and_then(|mut batches| batches.next());
    let Some(Ok(first)) = first else { return Ok(Vec::new()) };
    let changed = schema.fields().iter().zip(first.columns()).filter(|(field, column)| {
        let survives = surviving(field.data_type());
        column.as_string_opt::<i32>().is_some_and(|texts| !texts.iter().flatten().all(survives))
    });
    Ok(changed.map(|(field, _)| field.name().clone()).collect())
}

/// All plain columns as text; lists and structs as they are.
fn as_text(schema: &Schema) -> Schema {
    let text = |field: &Arc<Field>| match field.data_type() {
        nested if nested.is_nested() => field.as_ref().clone(),
        _ => Field::new(field.name(), DataType::Utf8, true),
    };
    Schema::new(schema.fields().iter().map(text).collect::<Vec<_>>())
}

/// Whether a text is the same when it is written out again as this type.
fn surviving(kind: &DataType) -> fn(&str) -> bool {
    match kind {
        DataType::Int64 => is_whole,
        DataType::Float64 => {
            |text| if text.contains(['.', 'e', 'E', 'n', 'N']) { is_fraction(text) } else { is_exact(text) }
        }
        _ => |_| true,
    }
}

/// Whether a text is a whole number as 64 bits print it.
fn is_whole(text: &str) -> bool {
    text.parse::<i64>().is_ok_and(|number| number.to_string() == text)
}

/// Whether a text is a whole number that a double holds: beside fractions it becomes one.
fn is_exact(text: &str) -> bool {
    text.parse::<i64>().is_ok_and(|number| number.to_string() == text && number.unsigned_abs() <= 1 << 53)
}

/// Whether a text is a fraction as a number is written: its 17th digit and those after it are of no account.
fn is_fraction(text: &str) -> bool {
    let digits = text.trim_start_matches('-');
    !(digits.starts_with('0') && digits[1..].starts_with(|c: char| c.is_ascii_digit())) && text.parse::<f64>().is_ok()
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

/// Counts the lines that somebody has taken.
struct Counted<R> {
    from: R,
    line: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.from.read(into)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.from.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        let taken = self.from.fill_buf().unwrap_or_default();
        self.line += taken[..count.min(taken.len())].iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.from.consume(count);
    }
}

impl<R: Seek> Seek for Lines<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        (self.line, self.length) = (1, 0);
        self.from.seek(to)
    }
}
