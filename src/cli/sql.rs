//! `outskirt sql`.

use std::io::Read;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::csv::WriterBuilder;
use arrow::datatypes::Schema;
use arrow::json::LineDelimitedWriter;
use arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt;

use super::{Console, Format};
use crate::error::{Error, Result};
use crate::session::Session;
use crate::store::Store;

/// Run SQL over images, banks, calibrations, and CSV, JSON or Parquet files named by path
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  outskirt sql \"SELECT uri, knn_ood_score(my_net, 'shop') AS score FROM images ORDER BY score DESC LIMIT 20\"
  outskirt sql \"SELECT c.camera, avg(knn_ood_score(i.my_net, 'shop')) FROM images i
      JOIN 'cameras.csv' c ON i.uri = c.uri GROUP BY c.camera\" --format csv
  outskirt sql \"SET outskirt.search = 'hnsw'; SELECT count(*) FROM images WHERE is_ood(my_net, 'shop')\"
  outskirt sql -f questions.sql --format csv

Functions: knn_ood_score(embedding, bank [, k]), is_ood(embedding, bank [, tpr]), knn_ood_threshold(bank [, tpr]),
auroc(score, is_ood), fpr_at_tpr(score, is_ood [, tpr]), and all of DataFusion's.
Settings (SET name = 'value', SHOW name): outskirt.search, outskirt.memory_limit, outskirt.device,
outskirt.instructions. All of it: sql/REFERENCE.md")]
pub struct Args {
    /// Statements, separated by semicolons
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    query: Option<String>,
    /// Read the statements from a file, or '-' for standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How rows are printed
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let text = match (args.query, args.file) {
        (Some(query), _) => query,
        (None, Some(file)) if file.as_os_str() == "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(Error::io("read", Path::new("standard input")))?;
            text
        }
        (None, Some(file)) => std::fs::read_to_string(&file).map_err(Error::io("read", &file))?,
        (None, None) => return Err(Error::EmptyQuery),
    };
    let session = Session::open(&Store::open(db).await?).await?;
    execute(&session, &text, args.format, console).await
}

/// Run all statements of a text and print their rows.
pub(super) async fn execute(session: &Session, text: &str, format: Format, console: &mut Console<'_>) -> Result<()> {
    let bar = console.progress("reading the bank", 1);
    session.banks().watch(move |_, done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        if done == all {
            bar.reset();
        }
    });
    for statement in session.parse(text)? {
        let mut rows = session.run(statement).await?;
        let schema = rows.schema();
        if schema.fields().is_empty() {
            // a statement without rows, such as SET: run it, print nothing
            while rows.try_next().await?.is_some() {}
            continue;
        }
        match format {
            Format::Table => {
                let mut batches = vec![RecordBatch::new_empty(schema)];
                while let Some(batch) = rows.try_next().await? {
                    batches.push(batch);
                }
                console.line(pretty_format_batches(&batches)?)?;
            }
            Format::Csv => {
                refuse_nested(&schema)?;
                console.bytes(&csv(&RecordBatch::new_empty(schema), true)?)?;
                while let Some(batch) = rows.try_next().await? {
                    console.bytes(&csv(&batch, false)?)?;
                }
            }
            Format::Json => {
                while let Some(batch) = rows.try_next().await? {
                    let mut writer = LineDelimitedWriter::new(Vec::new());
                    writer.write(&batch)?;
                    writer.finish()?;
                    console.bytes(&writer.into_inner())?;
                }
            }
        }
    }
    for notice in session.banks().notices() {
        console.notice(notice)?;
    }
    Ok(())
}

fn csv(batch: &RecordBatch, header: bool) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    WriterBuilder::new().with_header(header).build(&mut text).write(batch)?;
    Ok(text)
}

/// CSV has no lists: say so before the header is out.
fn refuse_nested(schema: &Schema) -> Result<()> {
    match schema.fields().iter().find(|field| field.data_type().is_nested()) {
        Some(field) => Err(Error::CsvNested { column: field.name().clone(), data_type: field.data_type().to_string() }),
        None => Ok(()),
    }
}
