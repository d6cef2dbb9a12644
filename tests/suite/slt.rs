//! SQL behaviour as text: every `tests/slt/*.slt` against the toy database.

use std::path::Path;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use outskirt::index::{IndexKind, Storage};
use outskirt::sql::session::Session;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};

use super::fixture::calibrated;

struct Database(Session);

#[async_trait::async_trait]
impl AsyncDB for Database {
    type Error = outskirt::Error;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, outskirt::Error> {
        let mut output = DBOutput::StatementComplete(0);
        for statement in self.0.parse(sql)? {
            let rows = self.0.run(statement).await?;
            let columns = rows.schema().fields().len();
            let batches: Vec<RecordBatch> = rows.try_collect().await?;
            if columns > 0 {
                let rows = batches.iter().flat_map(as_text).collect();
                output = DBOutput::Rows { types: vec![DefaultColumnType::Any; columns], rows };
            }
        }
        Ok(output)
    }

    async fn shutdown(&mut self) {}
}

fn as_text(batch: &RecordBatch) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("NULL");
    let formatters: Vec<_> =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
    (0..batch.num_rows()).map(|row| formatters.iter().map(|column| column.value(row).to_string()).collect()).collect()
}

#[tokio::test]
async fn every_slt_file_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 5, "{files:?}");
    let database = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(database.path(), IndexKind::Hnsw(Storage::F32)).await;
    let mut failed = Vec::new();
    for file in files {
        let mut runner = Runner::new(|| {
            let store = store.clone();
            async move { Session::open(&store).await.map(Database) }
        });
        if let Err(error) = runner.run_file_async(&file).await {
            failed.push(error.display(false).to_string());
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
