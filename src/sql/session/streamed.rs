//! Texts that are read from their beginning to their end, each by one thread: compressed ones, and JSON that is no object a
//! line (an array, objects over several lines, a byte-order mark before them).

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::csv::reader::Format as CsvFormat;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::PartitionStream;
use flate2::bufread::MultiGzDecoder;

use super::format::Format;
use crate::error::{Error, Result};
use crate::regular;

/// Rows by which types are told, as DataFusion has it.
const TOLD_BY: usize = 1000;
/// Rows of a batch.
const ROWS: usize = 8192;

/// Files of one format, read one after the other by as many threads as there are files.
pub(super) fn table(format: Format, files: &[PathBuf]) -> Result<Arc<dyn TableProvider>> {
    let mut schemas = Vec::new();
    for file in files {
        schemas.push(schema_of(format, file).map_err(|error| read_error(file, error))?);
    }
    let schema = Arc::new(Schema::try_merge(schemas)?);
    let part = |file: &PathBuf| -> Arc<dyn PartitionStream> {
        Arc::new(Part { file: file.clone(), format, schema: Arc::clone(&schema) })
    };
    let parts = files.iter().map(part).collect();
    Ok(Arc::new(StreamingTable::try_new(schema, parts)?))
}

fn read_error(file: &Path, error: ArrowError) -> Error {
    match error {
        ArrowError::IoError(_, error) => Error::io("read", file)(error),
        error => Error::BadArchive { path: file.into(), reason: error.to_string() },
    }
}

struct Part {
    file: PathBuf,
    format: Format,
    schema: SchemaRef,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())
    }
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), 2);
        let (sender, file, format, schema) = (builder.tx(), self.file.clone(), self.format, Arc::clone(&self.schema));
        builder.spawn_blocking(move || {
            let failed = |error| DataFusionError::from(read_error(&file, error));
            for batch in batches(format, &file, &schema).map_err(failed)? {
                // whoever asked for it may have enough
                if sender.blocking_send(Ok(batch.map_err(failed)?)).is_err() {
                    break;
                }
            }
            Ok(())
        });
        builder.build()
    }
}

/// The text of a file, without a byte-order mark.
fn opened(file: &Path) -> io::Result<Box<dyn BufRead + Send>> {
    let ending = file.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let file = BufReader::new(regular::open(file)?);
    let mut text: Box<dyn BufRead + Send> = match ending.as_str() {
        "gz" => Box::new(BufReader::new(MultiGzDecoder::new(file))),
        "zst" => Box::new(BufReader::new(zstd::Decoder::with_buffer(file)?)),
        _ => Box::new(file),
    };
    let begins = text.fill_buf()?;
    regular::check_encoding(begins)?;
    if begins.starts_with("\u{feff}".as_bytes()) {
        text.consume("\u{feff}".len());
    }
    Ok(text)
}

fn csv(format: Format) -> CsvFormat {
    CsvFormat::default().with_header(true).with_delimiter(if format == Format::Tsv { b'\t' } else { b',' })
}

fn schema_of(format: Format, file: &Path) -> Result<Schema, ArrowError> {
    let text = opened(file)?;
    let (schema, _) = match format {
        Format::Json => arrow::json::reader::infer_json_schema(BufReader::new(Values::of(text)), Some(TOLD_BY))?,
        _ => csv(format).infer_schema(text, Some(TOLD_BY))?,
    };
    Ok(schema)
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>>>;

fn batches(format: Format, file: &Path, schema: &SchemaRef) -> Result<Batches, ArrowError> {
    let text = opened(file)?;
    Ok(match format {
        Format::Json => {
            let builder = arrow::json::ReaderBuilder::new(Arc::clone(schema)).with_batch_size(ROWS);
            Box::new(builder.build(BufReader::new(Values::of(text)))?)
        }
        _ => {
            let builder = arrow::csv::ReaderBuilder::new(Arc::clone(schema)).with_format(csv(format));
            Box::new(builder.with_batch_size(ROWS).build_buffered(text)?)
        }
    })
}

/// JSON as an object a line: of an array its values, and no line break within one.
struct Values<R> {
    from: R,
    /// Brackets that are open around the values, and within one.
    depth: u32,
    /// Whether the values stand in an array.
    is_array: Option<bool>,
    in_text: bool,
    after_backslash: bool,
}

impl<R: BufRead> Values<R> {
    fn of(from: R) -> Self {
        Self { from, depth: 0, is_array: None, in_text: false, after_backslash: false }
    }

    /// What stands for a byte.
    fn next(&mut self, byte: u8) -> u8 {
        if self.in_text {
            self.in_text = byte != b'"' || self.after_backslash;
            self.after_backslash = byte == b'\\' && !self.after_backslash;
            return byte;
        }
        if !byte.is_ascii_whitespace() {
            self.is_array.get_or_insert(byte == b'[');
        }
        let around = u32::from(self.is_array == Some(true));
        match byte {
            b'"' => self.in_text = true,
            b'[' | b'{' => {
                self.depth += 1;
                if byte == b'[' && around == self.depth {
                    return b' ';
                }
            }
            b']' | b'}' => {
                self.depth = self.depth.saturating_sub(1);
                if byte == b']' && around > self.depth {
                    return b'\n';
                }
            }
            b',' if around == 1 && self.depth == 1 => return b'\n',
            b'\n' | b'\r' if self.depth > around => return b' ',
            _ => {}
        }
        byte
    }
}

impl<R: BufRead> Read for Values<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(into)?;
        for byte in &mut into[..count] {
            *byte = self.next(*byte);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_of_any_layout_becomes_an_object_a_line() {
        let lines = |text: &str| {
            let mut all = String::new();
            Values::of(text.as_bytes()).read_to_string(&mut all).unwrap();
            all.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(lines("[{\"a\": 1},\n {\"a\": [1,\n2]}]\n"), [r#"{"a": 1}"#, r#"{"a": [1, 2]}"#]);
        assert_eq!(lines("{\n  \"a\": \"],\\\"{\"\n}\n{\"a\": \"\"}"), ["{   \"a\": \"],\\\"{\" }", "{\"a\": \"\"}"]);
        assert_eq!(lines("{\"a\": 1}\n{\"a\": 2}\n"), [r#"{"a": 1}"#, r#"{"a": 2}"#]);
        assert!(lines("[]").is_empty());
    }
}
