//! What a command reads does not grow with what was there before.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use futures::TryStreamExt;
use outskirt::index::IndexKind;
use outskirt::schema;
use outskirt::sql::session::Session;
use outskirt::store::Store;

use crate::fixture::{calibrated, outskirt, toy_database};

/// Spoil the manifests of all versions of all tables, but the latest and those that banks keep; and count them.
async fn spoil_older_versions(store: &Store) -> usize {
    let mut spoiled = 0;
    for table in schema::TABLES {
        let kept: Vec<u64> = store.tags(table).await.unwrap().into_iter().map(|(_, version)| version).collect();
        let latest = store.version(table).await.unwrap();
        for version in store.versions(table).await.unwrap() {
            if version != latest && !kept.contains(&version) {
                let name = format!("{table}.lance/_versions/{:020}.manifest", u64::MAX - version);
                fs::write(store.folder().join(name), "not a manifest").unwrap();
                spoiled += 1;
            }
        }
    }
    spoiled
}

#[tokio::test]
async fn no_command_reads_versions_that_it_is_not_asked_about() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    let (store, _) = calibrated(db, IndexKind::Exact).await;
    let session = Session::open(&store).await.unwrap();
    for change in 0..12 {
        let update = format!("UPDATE images SET label = 'v{change}' WHERE id = {}", 50 + change);
        for statement in session.parse(&update).unwrap() {
            session.run(statement).await.unwrap();
        }
    }
    drop(session);
    let commands: [&[&str]; 5] = [
        &["sql", "SELECT count(*) FROM images", "--format", "csv"],
        &[
            "sql",
            "SELECT id, knn_ood_score(toy, 'circle'), knn_ood_pvalue(toy, 'circle') FROM images",
            "--format",
            "csv",
        ],
        &["sql", "SELECT count(*) FROM curation_log", "--format", "csv"],
        &["bank", "list"],
        &["history"],
    ];
    let answers = async |db: &Path| {
        let mut answers = Vec::new();
        for command in commands {
            answers.push(outskirt(db, command).await.unwrap());
        }
        answers
    };
    let before = answers(db).await;
    assert!(spoil_older_versions(&store).await > 24);
    assert_eq!(answers(db).await, before);
}

/// Run a statement; the first number of its rows.
async fn run(session: &Session, statement: &str) -> Result<Option<i64>, String> {
    let statement = session.parse(statement).unwrap().remove(0).unwrap();
    let rows = session.run(statement).await.map_err(|error| error.to_string())?;
    let rows: Vec<RecordBatch> = rows.try_collect().await.map_err(|error| error.to_string())?;
    let first = rows.iter().find(|batch| batch.num_rows() > 0).map(|batch| Arc::clone(batch.column(0)));
    Ok(first.map(|column| cast(&column, &DataType::Int64).unwrap().as_primitive::<Int64Type>().value(0)))
}

#[tokio::test]
async fn an_insert_is_not_gathered_and_an_update_that_does_not_fit_is_refused() {
    const ROWS: i64 = 60_000;
    let folder = tempfile::tempdir().unwrap();
    let store = toy_database(folder.path()).await;
    let session = Session::open(&store).await.unwrap();
    run(&session, "SET datafusion.runtime.memory_limit = '12M'").await.unwrap();
    let insert = |uri: &str| {
        format!(
            "INSERT INTO images (dataset, split, uri, width, height, content_hash, label) \
             SELECT 'new', 's', {uri}, 1 AS w, 2 AS h, 'c', repeat('x', 1000) FROM generate_series(1, {ROWS}) AS t(i)"
        )
    };
    let before = store.version("images").await.unwrap();
    // what is wrong in the last of many batches leaves nothing
    let error = run(&session, &insert(&format!("CASE WHEN i < {ROWS} THEN 'u' END"))).await.unwrap_err();
    assert!(error.contains("uri") && error.lines().count() == 1, "{error}");
    assert_eq!(store.version("images").await.unwrap(), before);
    assert_eq!(run(&session, &insert("'/' || i")).await, Ok(Some(ROWS)));
    assert_eq!(store.version("images").await.unwrap(), before + 1, "one commit");
    for (value, expected) in [
        ("count(DISTINCT id)", ROWS),
        ("min(id)", 92),
        ("max(id)", 91 + ROWS),
        ("count(DISTINCT uri)", ROWS),
        ("sum(length(label))", 1000 * ROWS),
    ] {
        let query = format!("SELECT {value} FROM images WHERE dataset = 'new'");
        assert_eq!(run(&session, &query).await, Ok(Some(expected)), "{value}");
    }
    let update = "UPDATE images SET label = repeat('y', 1000) WHERE dataset = 'new'";
    let error = run(&session, update).await.unwrap_err();
    assert!(error.contains("a change, which is one commit,") && error.lines().count() == 1, "{error}");
    let some = format!("{update} AND id < 1000");
    assert_eq!(run(&session, &some).await, Ok(Some(1000 - 92)));
    assert_eq!(run(&session, "SELECT count(*) FROM images WHERE label LIKE 'y%'").await, Ok(Some(1000 - 92)));
}

#[tokio::test]
async fn ids_that_are_given_and_ids_that_are_not_do_not_meet() {
    let folder = tempfile::tempdir().unwrap();
    let store = toy_database(folder.path()).await;
    let session = Session::open(&store).await.unwrap();
    // batches of two rows
    run(&session, "SET datafusion.execution.batch_size = 2").await.unwrap();
    let insert = |ids: &str| {
        format!(
            "INSERT INTO images (id, dataset, split, uri, width, height, content_hash) \
             SELECT {ids}, 'new', 's', '/' || i, 1 AS w, 2 AS h, 'c' FROM generate_series(1, 6) AS t(i) ORDER BY i"
        )
    };
    let given = "CASE i WHEN 1 THEN 100 WHEN 4 THEN 200 WHEN 5 THEN 150 END";
    assert_eq!(run(&session, &insert(given)).await, Ok(Some(6)));
    let ids = "SELECT sum(id) FROM images WHERE dataset = 'new'";
    // 100, 101, then 201, 200, then 150, 202
    assert_eq!(run(&session, ids).await, Ok(Some(100 + 101 + 201 + 200 + 150 + 202)));
    let others = insert("CASE i WHEN 1 THEN 300 WHEN 4 THEN 301 END").replace("'new'", "'newer'");
    let error = run(&session, &others).await.unwrap_err();
    assert!(error.contains("301") && error.contains("was given to a row before it"), "{error}");
    assert_eq!(run(&session, "SELECT count(*) FROM images WHERE dataset LIKE 'new%'").await, Ok(Some(6)));
}

#[tokio::test]
async fn banks_that_a_session_has_opened_are_counted_among_what_its_queries_take() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), IndexKind::Exact).await;
    let session = Session::open(&store).await.unwrap();
    let reserved = || session.context().runtime_env().memory_pool.reserved() as u64;
    assert_eq!((session.banks().bytes(), reserved()), (0, 0));
    let scores = "SELECT count(*) FROM images WHERE knn_ood_score(toy, 'circle') > 0.5";
    assert_eq!(run(&session, scores).await, Ok(Some(10)));
    let held = session.banks().bytes();
    assert_eq!(held, 40 * (3 * 5 + 60));
    assert_eq!(reserved(), held);
    // in the user's own limit as well, and for half of it at most
    run(&session, "SET datafusion.runtime.memory_limit = '10M'").await.unwrap();
    assert_eq!(run(&session, scores).await, Ok(Some(10)));
    assert_eq!(reserved(), held);
    run(&session, "SET datafusion.runtime.memory_limit = '4K'").await.unwrap();
    run(&session, "SELECT 1").await.unwrap();
    assert_eq!(reserved(), 2048);
}
