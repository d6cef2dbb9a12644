//! Rows as text for programs: CSV, and one JSON object a line.

use arrow::array::RecordBatch;
use arrow::csv::WriterBuilder;
use arrow::datatypes::SchemaRef;
use arrow::json::LineDelimitedWriter;

use super::writer::RowWriter;
use crate::error::{Error, Result};

/// Comma-separated values under a header.
pub(super) struct Csv {
    header: Option<RecordBatch>,
}

impl Csv {
    /// CSV has no lists: say so before the header is out.
    pub(super) fn new(schema: &SchemaRef) -> Result<Self> {
        match schema.fields().iter().find(|field| field.data_type().is_nested()) {
            Some(field) => {
                Err(Error::CsvNested { column: field.name().clone(), data_type: field.data_type().to_string() })
            }
            None => Ok(Self { header: Some(RecordBatch::new_empty(schema.clone())) }),
        }
    }
}

impl RowWriter for Csv {
    fn rows(&mut self, batch: &RecordBatch) -> Result<Vec<u8>> {
        let mut text = self.end()?;
        WriterBuilder::new().with_header(false).build(&mut text).write(batch)?;
        Ok(text)
    }

    /// The header, if it is not out yet.
    fn end(&mut self) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        if let Some(empty) = self.header.take() {
            WriterBuilder::new().with_header(true).build(&mut text).write(&empty)?;
        }
        Ok(text)
    }
}

/// One JSON object a line; a NULL is left out.
pub(super) struct JsonLines;

impl RowWriter for JsonLines {
    fn rows(&mut self, batch: &RecordBatch) -> Result<Vec<u8>> {
        let mut writer = LineDelimitedWriter::new(Vec::new());
        writer.write(batch)?;
        writer.finish()?;
        Ok(writer.into_inner())
    }

    fn end(&mut self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }
}
