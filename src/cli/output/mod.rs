//! Rows, printed by one writer per format; none of them waits for the last row.
//!
//! [`Output`] prints the results of statements, [`print_batch`] rows that are there already. What a writer makes are
//! bytes; they leave through the [`Console`], or go into a file.

mod binary;
mod expanded;
mod grid;
mod text;
mod writer;

use std::io::Write;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{SchemaRef, UInt64Type};
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt;

use self::writer::RowWriter;
use super::console::Console;
use super::format::{Format, Rows};
use crate::error::{Error, Result};

/// Rows that a table on a terminal has, unless it is asked for more.
const ROWS_ON_TERMINAL: usize = 100;

/// How a table is laid out for who reads it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// Columns of a line; as many as it takes where there is none.
    pub(super) line: Option<usize>,
    /// Rows that are printed; the others are counted.
    pub(super) rows: Option<usize>,
    /// A line for each column of a row.
    pub(super) expanded: bool,
}

impl Layout {
    /// For whatever a console prints to, and as many rows as `rows` says, where it says something.
    pub(super) fn of(console: &Console<'_>, rows: Option<Rows>) -> Self {
        let rows = match rows {
            Some(Rows::All) => None,
            Some(Rows::AtMost(rows)) => Some(rows),
            None => console.is_terminal().then_some(ROWS_ON_TERMINAL),
        };
        Self { line: console.line_width(), rows, expanded: false }
    }
}

fn writer(format: Format, layout: Layout, schema: &SchemaRef) -> Result<Box<dyn RowWriter>> {
    Ok(match format {
        Format::Table if layout.expanded => Box::new(expanded::Expanded::new(schema)),
        Format::Table => Box::new(grid::Grid::new(schema, layout.line)),
        Format::Csv => Box::new(text::Csv::new(schema)?),
        Format::Json => Box::new(text::JsonLines),
        Format::Parquet => Box::new(binary::Parquet::new(schema)?),
        Format::Arrow => Box::new(binary::ArrowStream::new(schema)?),
    })
}

/// What a statement gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Printed {
    /// Its rows; `None` of a statement that gives none, such as SET.
    pub(super) rows: Option<usize>,
    /// What was not printed of them, for people: rows, columns.
    pub(super) left_out: (Option<String>, Option<String>),
}

/// Prints the results of statements, one after another, in one format.
#[derive(Debug)]
pub(super) struct Output {
    format: Format,
    layout: Layout,
    results: usize,
}

impl Output {
    pub(super) fn new(format: Format, layout: Layout) -> Self {
        Self { format, layout, results: 0 }
    }

    /// Print the rows of a statement as they come; those of one that gives none, such as SET, are run, and nothing is
    /// printed.
    pub(super) async fn print(
        &mut self,
        rows: SendableRecordBatchStream,
        console: &mut Console<'_>,
    ) -> Result<Printed> {
        self.print_to(rows, console.results()).await
    }

    /// The count of a change: in a table's place `UPDATE 3`; as rows in other formats; nothing where it shall be `quiet`.
    pub(super) async fn print_change(
        &mut self,
        verb: &str,
        quiet: bool,
        mut rows: SendableRecordBatchStream,
        console: &mut Console<'_>,
    ) -> Result<Printed> {
        if self.format != Format::Table && !quiet {
            return self.print(rows, console).await;
        }
        let mut count = None;
        while let Some(batch) = rows.try_next().await? {
            let counts = batch.columns().first().and_then(|counts| counts.as_primitive_opt::<UInt64Type>());
            let counted: u64 = counts.into_iter().flat_map(|counts| counts.iter().flatten()).sum();
            count = Some(count.unwrap_or(0) + counted);
        }
        // of a COPY to standard output there is none
        if let Some(count) = count.filter(|_| !quiet) {
            console.line(format!("{verb} {count}"))?;
            console.flush()?;
        }
        Ok(Printed::default())
    }

    /// The same, to somewhere else than the console.
    pub(super) async fn print_to(
        &mut self,
        mut rows: SendableRecordBatchStream,
        out: &mut dyn Write,
    ) -> Result<Printed> {
        let schema = rows.schema();
        if schema.fields().is_empty() {
            while rows.try_next().await?.is_some() {}
            return Ok(Printed::default());
        }
        if self.format.is_binary() && self.results > 0 {
            return Err(Error::SecondResult { format: self.format.name() });
        }
        self.results += 1;
        let failed = |source| Error::Output { source };
        let most = self.layout.rows.filter(|_| self.format == Format::Table).unwrap_or(usize::MAX);
        let mut writer = writer(self.format, self.layout, &schema)?;
        let mut count = 0;
        while let Some(batch) = rows.try_next().await? {
            let printed = batch.slice(0, most.saturating_sub(count).min(batch.num_rows()));
            count += batch.num_rows();
            if printed.num_rows() > 0 || batch.num_rows() == 0 {
                out.write_all(&writer.rows(&printed)?).map_err(failed)?;
            }
            // rows may come faster than they are printed, and Ctrl-C has to be heard between them
            tokio::task::yield_now().await;
        }
        out.write_all(&writer.end()?).and_then(|()| out.flush()).map_err(failed)?;
        let more = (count > most).then(|| format!("{most} of {count} rows are printed"));
        Ok(Printed { rows: Some(count), left_out: (more, writer.left_out()) })
    }
}

/// Print rows that are there already, all of them.
pub(super) fn print_batch(batch: &RecordBatch, format: Format, console: &mut Console<'_>) -> Result<()> {
    let layout = Layout { line: console.line_width(), ..Layout::default() };
    let mut writer = writer(format, layout, &batch.schema())?;
    console.bytes(&writer.rows(batch)?)?;
    console.bytes(&writer.end()?)?;
    console.flush()
}
