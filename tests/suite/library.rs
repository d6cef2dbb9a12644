//! Outskirt as a library: what a command does is a call, and its futures may move between threads.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, FixedSizeListArray, RecordBatch, RecordBatchIterator, RecordBatchReader, StringArray,
};
use arrow::datatypes::Float32Type;
use datafusion::execution::SessionStateBuilder;
use futures::TryStreamExt;
use outskirt::bank::{self, BankSpec};
use outskirt::ingest::{OwnOptions, ingest_batches};
use outskirt::sql::policy::Policy;
use outskirt::sql::session::{Session, in_own_session};
use outskirt::store::Store;

use super::fixture::calibrated;

#[allow(dead_code, reason = "it is run as a program, and here")]
#[path = "../../examples/own_embeddings.rs"]
mod own_embeddings;
#[allow(dead_code, reason = "it is run as a program, and here")]
#[path = "../../examples/own_session.rs"]
mod own_session;

#[test]
fn the_examples_run() {
    own_embeddings::main().unwrap();
    own_session::main().unwrap();
}

/// A server spawns what it awaits.
#[tokio::test]
async fn futures_of_the_library_may_move_between_threads() {
    fn is_send<T: Send>(future: T) {
        drop(future);
    }
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), outskirt::index::IndexKind::Exact).await;
    let session = Session::open(&store).await.unwrap();
    is_send(Store::open(Path::new("x")));
    is_send(Store::create(Path::new("x")));
    is_send(Session::open(&store));
    is_send(session.sql("SELECT 1"));
    is_send(session.execute("SELECT 1"));
    is_send(session.delete_where("false"));
    is_send(bank::create(&store, &BankSpec::default()));
    is_send(bank::calibrate(&store, "circle", "true", None));
    is_send(bank::refresh(&store, "circle"));
    is_send(bank::refresh_all(&store));
    is_send(bank::drop_bank(&store, "circle"));
    is_send(bank::status(&store));
    is_send(bank::keep_scores(&store, "circle", None, None, |_, _| ()));
    is_send(bank::optimize(&store, std::time::Duration::ZERO, |_| ()));
    is_send(outskirt::verify::verify(&store, 10, false, |_| ()));
    is_send(outskirt::curate::undo(&store));
    is_send(outskirt::curate::history(&store));
    let batches = own(&[[1.0, 0.0, 0.0]]);
    is_send(outskirt::ingest::ingest_embeddings(&store, &[], &OwnOptions::default(), |_| (), |_, _| ()));
    is_send(ingest_batches(&store, batches, "x", &OwnOptions::default(), |_| (), |_, _| ()));
}

fn own(rows: &[[f32; 3]]) -> impl RecordBatchReader + Send + use<> {
    let column: ArrayRef = Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
        rows.iter().map(|row| Some(row.map(Some))),
        3,
    ));
    let uris: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows.len()).map(|row| format!("/mine/{row}"))));
    let batch = RecordBatch::try_from_iter([("uri", uris), ("v", column)]).unwrap();
    let schema = batch.schema();
    RecordBatchIterator::new([Ok(batch)], schema)
}

#[tokio::test]
async fn batches_of_a_program_are_rows_and_known_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(&folder.path().join("db")).await.unwrap();
    let options = OwnOptions {
        column: "v".into(),
        backbone: "mine".into(),
        version: "1".into(),
        dataset: Some("d".into()),
        ..OwnOptions::default()
    };
    let ingest = async |rows: &[[f32; 3]]| {
        ingest_batches(&store, own(rows), "memory", &options, |_| (), |_, _| ()).await.unwrap()
    };
    let (first, second) = ([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]);
    assert_eq!(ingest(&first).await.added, 2);
    let again = ingest(&second).await;
    assert_eq!((again.added, again.unchanged, again.replaced), (0, 1, 1));
    let other = OwnOptions { column: "w".into(), ..options.clone() };
    let error = ingest_batches(&store, own(&first), "memory", &other, |_| (), |_, _| ()).await.unwrap_err();
    assert!(error.to_string().contains("it has no column 'w': its columns are 'uri', 'v'"), "{error}");
}

#[tokio::test]
async fn a_text_of_statements_is_executed_and_the_last_one_streams() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), outskirt::index::IndexKind::Exact).await;
    let session = Session::open(&store).await.unwrap();
    let text = "SET outskirt.search = 'exact'; DELETE FROM images WHERE id = 1; SELECT count(*) AS n FROM images";
    let rows: Vec<RecordBatch> = session.execute(text).await.unwrap().try_collect().await.unwrap();
    let left = rows[0].column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0);
    assert_eq!(left as usize, store.count("images").await.unwrap());
    // nothing of a text that cannot be read is run
    assert!(session.execute("DELETE FROM images; SELEC 1").await.is_err());
    assert_eq!(left as usize, store.count("images").await.unwrap());
}

/// Scores in a session of one's own are those of Outskirt's, pruned or not.
#[tokio::test]
async fn ones_own_session_scores_ones_own_table() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), outskirt::index::IndexKind::Exact).await;
    let session = Session::open(&store).await.unwrap();
    let rows = session.sql("SELECT id, toy FROM images").await.unwrap().collect().await.unwrap();
    let builder = SessionStateBuilder::new().with_default_features();
    let context = in_own_session(&store, builder, &Policy::default()).await.unwrap();
    let table = datafusion::datasource::MemTable::try_new(rows[0].schema(), vec![rows]).unwrap();
    context.register_table("mine", Arc::new(table)).unwrap();
    let query = |table: &str| {
        format!(
            "SELECT id, knn_ood_score(toy, 'circle') AS score FROM {table} ORDER BY score DESC NULLS LAST, id LIMIT 7"
        )
    };
    let scores = |rows: Vec<RecordBatch>| -> Vec<f32> {
        rows.iter().flat_map(|rows| rows.column(1).as_primitive::<Float32Type>().values().to_vec()).collect()
    };
    let ours = scores(session.sql(&query("images")).await.unwrap().collect().await.unwrap());
    let own = scores(context.sql(&query("mine")).await.unwrap().collect().await.unwrap());
    assert_eq!(ours.len(), 7);
    assert_eq!(ours, own);
    let plan = context.sql(&format!("EXPLAIN {}", query("mine"))).await.unwrap().collect().await.unwrap();
    let plan = arrow::util::pretty::pretty_format_batches(&plan).unwrap().to_string();
    assert!(plan.contains("Knn") || plan.contains("knn"), "{plan}");
    assert!(context.sql("SELECT * FROM images").await.is_err(), "its tables are the database's");
}
