//! How rows are printed: one writer per format, and none of them waits for the last row.
//!
//! [`Output`] prints the results of statements, [`print_batch`] rows that are there already. What a writer makes are
//! bytes; they leave through the [`Console`].

mod binary;
mod grid;
mod text;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt;

use super::Console;
use crate::error::{Error, Result};

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns, for people
    Table,
    /// Comma-separated, with a header
    Csv,
    /// One JSON object a line
    Json,
    /// A Parquet file
    Parquet,
    /// An Arrow IPC stream
    Arrow,
}

impl Format {
    /// The formats that a terminal can show.
    pub(super) const TEXT: [Self; 3] = [Self::Table, Self::Csv, Self::Json];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
        }
    }

    /// Whether it is a file of one result rather than text.
    pub(super) fn is_binary(self) -> bool {
        !Self::TEXT.contains(&self)
    }

    /// Refuse a binary format on a terminal.
    pub(super) fn check(self, console: &Console<'_>) -> Result<()> {
        if self.is_binary() && console.is_terminal() {
            return Err(Error::BinaryOnTerminal { format: self.name() });
        }
        Ok(())
    }

    fn writer(self, schema: &SchemaRef) -> Result<Box<dyn RowWriter>> {
        Ok(match self {
            Self::Table => Box::new(grid::Grid::new(schema)),
            Self::Csv => Box::new(text::Csv::new(schema)?),
            Self::Json => Box::new(text::JsonLines),
            Self::Parquet => Box::new(binary::Parquet::new(schema)?),
            Self::Arrow => Box::new(binary::ArrowStream::new(schema)?),
        })
    }
}

/// One result in one format: each call gives the bytes that can go out by then.
trait RowWriter {
    /// More rows.
    fn rows(&mut self, batch: &RecordBatch) -> Result<Vec<u8>>;
    /// There are no more. A result without rows still shows its columns.
    fn end(&mut self) -> Result<Vec<u8>>;
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
        let mut writer = self.format.writer(&schema)?;
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
    let mut writer = format.writer(&batch.schema())?;
    console.bytes(&writer.rows(batch)?)?;
    console.bytes(&writer.end()?)?;
    console.flush()
}
