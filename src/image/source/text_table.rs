//! Tables that are text: CSV, tab-separated and JSONL files. What is not a number when it is written out again stays text.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
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

/// What the names of such tables end in.
pub(super) const ENDINGS: [&str; 5] = [".csv", ".tsv", ".tab", ".jsonl", ".ndjson"];

/// A whole table. Columns are of the type that all of their rows agree with, and text where a value would not survive that:
/// `007`, whole numbers that no 64 bits or no double hold; so are `uri` and `label` in any case.
///
/// CSV has a line of names first. Its values are apart by commas, or by semicolons or tabs where only those are in that line.
///
/// Errors: [`Error::BadArchive`] for what is no such table, [`Error::Io`].
pub(super) fn read(path: &Path) -> Result<RecordBatch> {
    let name = place::name(path).to_ascii_lowercase();
    let file = Seekable::open(path).map_err(Error::io("open", path))?;
    let bad = |reason: String| Error::BadArchive { path: path.into(), reason };
    let batches = || -> Result<(SchemaRef, Vec<RecordBatch>), ArrowError> {
        let mut file = BufReader::new(Lines::of(Text::of(file)?));
        if name.ends_with(".jsonl") || name.ends_with(".ndjson") {
            rows_of_json(&mut file)
        } else {
            rows_of_csv(&mut file)
        }
    };
    let (schema, batches) = batches().map_err(|error| match error {
        // our own word, or the system's
        ArrowError::IoError(_, error) => Error::io("read", path)(error),
        error if error.to_string().contains("UTF-8") => {
            bad("it is no text in UTF-8: save it as that, or 'iconv -f WINDOWS-1252 -t UTF-8'".into())
        }
        error => bad(error.to_string()),
    })?;
    let read = batches.first().map_or_else(|| Arc::new(as_text(&schema)), RecordBatch::schema);
    let typed = || -> Result<RecordBatch, ArrowError> {
        let rows = arrow::compute::concat_batches(&read, &batches)?;
        let columns = schema.fields().iter().zip(rows.columns());
        let columns = columns.map(|(field, column)| {
            let column = typed(field, column)?;
            Ok((Field::new(field.name(), column.data_type().clone(), true), column))
        });
        let (fields, columns): (Vec<Field>, Vec<ArrayRef>) =
            columns.collect::<Result<Vec<_>, ArrowError>>()?.into_iter().unzip();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
    };
    typed().map_err(|error| bad(error.to_string()))
}

type Rows = (SchemaRef, Vec<RecordBatch>);

/// Rows as text, and the types that their columns seem to have.
fn rows_of_csv<R: Read + Seek>(file: &mut BufReader<Lines<R>>) -> Result<Rows, ArrowError> {
    let mut names = Vec::new();
    file.take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut names)?;
    let delimiter = delimiter_of(&names);
    file.rewind()?;
    let format = Format::default().with_header(true).with_delimiter(delimiter);
    let (schema, _) = format.infer_schema(&mut *file, None)?;
    file.rewind()?;
    let as_text = Arc::new(as_text(&schema));
    let rows = arrow::csv::ReaderBuilder::new(as_text).with_format(format).build(file)?.collect::<Result<_, _>>()?;
    Ok((Arc::new(schema), rows))
}

/// Rows, of which numbers are text as it is written there, and the types that their columns seem to have.
fn rows_of_json<R: Read + Seek>(file: &mut BufReader<Lines<R>>) -> Result<Rows, ArrowError> {
    let (schema, _) = arrow::json::reader::infer_json_schema(&mut *file, None)?;
    file.rewind()?;
    let as_text = Arc::new(as_text(&schema));
    let rows = arrow::json::ReaderBuilder::new(as_text).with_coerce_primitive(true).build(file)?;
    Ok((Arc::new(schema), rows.collect::<Result<_, _>>()?))
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

/// A column of the type that it seems to have, where no value changes by that.
fn typed(field: &Field, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let Some(texts) = column.as_string_opt::<i32>() else { return Ok(Arc::clone(column)) };
    let is_text = [schema::URI, schema::LABEL].iter().any(|name| field.name().trim().eq_ignore_ascii_case(name));
    if is_text && texts.null_count() < texts.len() || texts.is_empty() {
        return Ok(Arc::clone(column));
    }
    if !texts.iter().flatten().all(surviving(field.data_type())) {
        return Ok(Arc::clone(column));
    }
    let typed = cast(column, field.data_type())?;
    // what could not be read as such has become NULL
    let is_whole = field.data_type() == &DataType::Null || typed.logical_null_count() == column.null_count();
    Ok(if is_whole { typed } else { Arc::clone(column) })
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

impl<R: Seek> Seek for Lines<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        (self.line, self.length) = (1, 0);
        self.from.seek(to)
    }
}
