//! Rows, printed by one writer per format; none of them waits for the last row.
//!
//! [`Output`] prints the results of statements, [`print_batch`] rows that are there already. What a writer makes are
//! bytes; they leave through the [`Console`].

mod binary;
mod grid;
mod text;
mod writer;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt;

use self::writer::RowWriter;
use super::console::Console;
use super::format::Format;
use crate::error::{Error, Result};

fn writer(format: Format, schema: &SchemaRef) -> Result<Box<dyn RowWriter>> {
    Ok(match format {
        Format::Table => Box::new(grid::Grid::new(schema)),
        Format::Csv => Box::new(text::Csv::new(schema)?),
        Format::Json => Box::new(text::JsonLines),
        Format::Parquet => Box::new(binary::Parquet::new(schema)?),
        Format::Arrow => Box::new(binary::ArrowStream::new(schema)?),
    })
}

/// Prints the results of statements, one after another, in one format.
#[derive(Debug)]
pub(super) struct Output {
    format: Format,
    results: usize,
}

impl Output {
    pub(super) fn new(format: Format) -> Self {
        Self { format, results: 0 }
    }

    /// Print the rows of a statement as they come. How many there were; `None` for a statement that gives none, such
    /// as SET: it is run, and nothing printed.
    pub(super) async fn print(
        &mut self,
        mut rows: SendableRecordBatchStream,
        console: &mut Console<'_>,
    ) -> Result<Option<usize>> {
        let schema = rows.schema();
        if schema.fields().is_empty() {
            while rows.try_next().await?.is_some() {}
            return Ok(None);
        }
        if self.format.is_binary() && self.results > 0 {
            return Err(Error::SecondResult { format: self.format.name() });
        }
        self.results += 1;
        let mut writer = writer(self.format, &schema)?;
        let mut count = 0;
        while let Some(batch) = rows.try_next().await? {
            count += batch.num_rows();
            console.bytes(&writer.rows(&batch)?)?;
            // rows may come faster than they are printed, and Ctrl-C has to be heard between them
            tokio::task::yield_now().await;
        }
        console.bytes(&writer.end()?)?;
        console.flush()?;
        Ok(Some(count))
    }
}

/// Print rows that are there already.
pub(super) fn print_batch(batch: &RecordBatch, format: Format, console: &mut Console<'_>) -> Result<()> {
    let mut writer = writer(format, &batch.schema())?;
    console.bytes(&writer.rows(batch)?)?;
    console.bytes(&writer.end()?)?;
    console.flush()
}
