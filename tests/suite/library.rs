//! Outskirt as a library: what a command does is a call, and its futures may move between threads.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, FixedSizeListArray, RecordBatch, RecordBatchIterator, RecordBatchReader, StringArray,
};
use arrow::datatypes::Float32Type;
use datafusion::execution::SessionStateBuilder;
use futures::TryStreamExt;
use outskirt::backbone::{LoadOptions, load_in};
use outskirt::bank::{self, BankSpec};
use outskirt::curate::{Alike, DedupOptions, Stays};
use outskirt::image::Selection;
use outskirt::ingest::{FillOptions, IngestOptions, OwnOptions, ingest, ingest_batches};
use outskirt::sql::policy::Policy;
use outskirt::sql::session::{Parameter, Parameters, Session, in_own_session};
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
    is_send(bank::optimize(&store, std::time::Duration::ZERO));
    is_send(outskirt::verify::verify(&store, 10, false));
    is_send(outskirt::curate::undo(&store));
    is_send(outskirt::curate::history(&store));
    let files = || outskirt::image::open(&[folder.path().into()], &Selection::default()).unwrap();
    let backbone = load_in(&folder.path().join("other"), "demo_shapes", &LoadOptions::default()).await.unwrap();
    is_send(ingest(&store, &backbone, files(), &IngestOptions::default(), None, |_| ()));
    is_send(outskirt::ingest::fill(&store, &backbone, &FillOptions::default(), |_, _| ()));
    let copies = DedupOptions { alike: Alike::Content, predicate: None, against: None, stays: Stays::First };
    is_send(outskirt::curate::dedup(&session, &copies, false, |_, _, _| ()));
    is_send(outskirt::curate::tag(&session, "true", "x", Some("y"), false));
    let exported = outskirt::export::ExportOptions::new("x", outskirt::export::ExportFormat::Csv);
    is_send(outskirt::export::export(&session, &exported, |_, _| ()));
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

#[tokio::test]
async fn values_take_the_places_of_a_statement() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), outskirt::index::IndexKind::Exact).await;
    let session = Session::open(&store).await.unwrap();
    let given = async |text: &str, values: &Parameters| -> Result<String, String> {
        let statement = session.parse(text).map_err(|error| error.to_string())?.pop_front().unwrap();
        let statement = values.bind(statement).map_err(|error| error.to_string())?;
        let rows = session.run(statement).await.map_err(|error| error.to_string())?;
        let rows: Vec<RecordBatch> = rows.try_collect().await.unwrap();
        Ok(arrow::util::pretty::pretty_format_batches(&rows).unwrap().to_string())
    };
    let text = |text: &str| Parameter::Text(text.into());
    let positional = |values: &[Parameter]| Parameters { positional: values.to_vec(), ..Parameters::default() };
    let named = |name: &str, value| Parameters { named: vec![(name.into(), value)], ..Parameters::default() };

    let list = Parameter::List(vec![Parameter::Float(1.0), Parameter::Float(-0.5), Parameter::Float(0.0)]);
    let written = given("SELECT knn_ood_score([1.0, -0.5, 0.0], 'circle', 2) AS s", &Parameters::default()).await;
    let values = positional(&[list, text("circle"), Parameter::Integer(2)]);
    assert_eq!(given("SELECT knn_ood_score($1, $2, $3) AS s", &values).await, written);

    let odd = given("SELECT $odd = 'it''s', $odd || $odd AS twice", &named("odd", text("it's"))).await.unwrap();
    assert!(odd.contains("true") && odd.contains("it'sit's"), "{odd}");
    let values = positional(&[Parameter::Integer(-3), Parameter::Null, Parameter::Boolean(true)]);
    let one = given("SELECT 1 - $1 AS a, $2 IS NULL AS b, $3 AS c", &values).await.unwrap();
    assert!(one.contains("| 4 | true | true |"), "{one}");
    let far = given("SELECT $1 > 1e300 AS far", &positional(&[Parameter::Float(f64::INFINITY)])).await.unwrap();
    assert!(far.contains("true"), "{far}");
    let bytes = given("SELECT $1 = x'00ff' AS same", &positional(&[Parameter::Binary(vec![0, 255])])).await.unwrap();
    assert!(bytes.contains("true"), "{bytes}");
    // a number in ORDER BY stands for itself, not for a column
    let rows = given("SELECT id FROM images ORDER BY $1, id DESC LIMIT 1", &positional(&[Parameter::Integer(1)])).await;
    assert_eq!(rows, given("SELECT id FROM images ORDER BY id DESC LIMIT 1", &Parameters::default()).await);
    let counted = given("EXPLAIN SELECT * FROM images LIMIT $n", &named("n", Parameter::Integer(7))).await.unwrap();
    assert!(counted.contains("fetch=7"), "{counted}");

    for (statement, values, refused) in [
        ("SELECT $2", positional(&[Parameter::Null]), "$2 has no value"),
        ("SELECT $0", positional(&[Parameter::Null]), "$0 has no value"),
        ("SELECT $name", named("other", Parameter::Null), "$name has no value"),
        ("SELECT 1", positional(&[Parameter::Null]), "$1, and the statement has no such place"),
        ("SELECT 1", named("name", Parameter::Null), "$name, and the statement has no such place"),
    ] {
        let said = given(statement, &values).await.unwrap_err();
        assert!(said.contains(refused) && said.lines().count() == 1, "{said}");
    }
    // PREPARE keeps its places for EXECUTE
    given("PREPARE twice AS SELECT 2 * $1 AS t", &Parameters::default()).await.unwrap();
    let done = given("EXECUTE twice($n)", &named("n", Parameter::Integer(21))).await.unwrap();
    assert!(done.contains("42"), "{done}");
}

/// Parts of one large batch share its memory, and counted as the whole each made a commit of its own.
#[tokio::test]
async fn a_large_batch_is_one_commit_and_not_one_for_each_of_its_parts() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(&folder.path().join("db")).await.unwrap();
    // 40 MiB in parts of some MiB: none is near what a commit holds
    let (rows, width) = (20_480, 512);
    let values: Vec<f32> = (0..rows * width).map(|at| (at % 997) as f32 + 1.0).collect();
    let values: ArrayRef = Arc::new(arrow::array::Float32Array::from(values));
    let item = Arc::new(arrow::datatypes::Field::new("item", arrow::datatypes::DataType::Float32, true));
    let column: ArrayRef = Arc::new(FixedSizeListArray::try_new(item, width as i32, values, None).unwrap());
    let batch = RecordBatch::try_from_iter([("embedding", column)]).unwrap();
    let batches = RecordBatchIterator::new([Ok(batch.clone())], batch.schema());
    let options = OwnOptions {
        column: "embedding".into(),
        backbone: "net".into(),
        version: "1".into(),
        dataset: Some("d".into()),
        ..OwnOptions::default()
    };
    let before = store.version("images").await.unwrap();
    let done = ingest_batches(&store, batches, "large", &options, |_| (), |_, _| ()).await.unwrap();
    assert_eq!(done.added, rows);
    assert_eq!(store.footprint("images").await.unwrap().fragments, 1);
    // the column, and the rows
    assert_eq!(store.version("images").await.unwrap(), before + 2);
}

/// A program that keeps a session for long has it made anew after changes, with what was SET.
#[tokio::test]
async fn settings_go_along_to_another_session() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), outskirt::index::IndexKind::Exact).await;
    let session = Session::open(&store).await.unwrap();
    session.sql("SET outskirt.memory_limit = '2GB'").await.unwrap();
    let next = session.again().await.unwrap();
    next.settings_of(&session);
    let shown = next.sql("SHOW outskirt.memory_limit").await.unwrap().collect().await.unwrap();
    assert_eq!(shown[0].column(1).as_string::<i32>().value(0), "2GB");
}
