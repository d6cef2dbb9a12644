//! Who reads, and what is pruned meanwhile: all but the versions that somebody alive is at.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use outskirt::index::IndexKind;
use outskirt::sql::session::Session;
use outskirt::store::Store;

use crate::fixture::{calibrated, toy_database};

const PROGRAM: &str = env!("CARGO_BIN_EXE_outskirt");

/// Run the program on a database; what it said beside its results.
fn run(db: &Path, arguments: &[&str]) -> String {
    let output = Command::new(PROGRAM).arg("--db").arg(db).args(arguments).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    told
}

fn delete(db: &Path, id: u64) {
    run(db, &["delete", "--where", &format!("id = {id}")]);
}

async fn versions(db: &Path) -> Vec<u64> {
    Store::open(db).await.unwrap().versions("images").await.unwrap()
}

/// The rows of a query, as text.
async fn rows(session: &Session, query: &str) -> String {
    let statement = session.parse(query).unwrap().remove(0).unwrap();
    let rows: Vec<RecordBatch> = session.run(statement).await.unwrap().try_collect().await.unwrap();
    arrow::util::pretty::pretty_format_batches(&rows).unwrap().to_string()
}

const ALL: &str = "SELECT count(*), sum(id), sum(knn_ood_score(toy, 'circle')) FROM images";

#[tokio::test]
async fn one_open_reader_keeps_its_own_version_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    let (store, _) = calibrated(db, IndexKind::Exact).await;
    let reader = Session::open(&store).await.unwrap();
    let seen = store.version("images").await.unwrap();
    let before = rows(&reader, ALL).await;
    for id in 45..50 {
        delete(db, id);
        let told = run(db, &["optimize"]);
        assert!(told.starts_with("the database is being read by another program: "), "{told}");
        let latest = store.version("images").await.unwrap();
        assert_eq!(versions(db).await, [seen, latest]);
        assert_eq!(rows(&reader, ALL).await, before);
    }
    drop((reader, store));
    assert_eq!(run(db, &["optimize"]), "");
    assert_eq!(versions(db).await.len(), 1);
    assert_eq!(fs::read_dir(db.join("readers")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_session_that_moves_on_gives_its_earlier_versions_free() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    let (store, _) = calibrated(db, IndexKind::Exact).await;
    let session = Session::open(&store).await.unwrap();
    let first = store.version("images").await.unwrap();
    let earlier = rows(&session, &format!("SELECT count(*) FROM \"images@{first}\"")).await;
    rows(&session, "DELETE FROM images WHERE id = 45").await;
    let second = store.version("images").await.unwrap();
    rows(&session, "DELETE FROM images WHERE id = 46").await;
    // of an earlier version that a statement named the session may be asked again
    run(db, &["optimize"]);
    let kept = versions(db).await;
    assert!(kept.contains(&first) && !kept.contains(&second), "{first} {second} {kept:?}");
    assert_eq!(rows(&session, &format!("SELECT count(*) FROM \"images@{first}\"")).await, earlier);
    assert!(rows(&session, ALL).await.contains("| 89 "));
}

#[tokio::test]
async fn rows_that_are_being_read_stay_though_their_session_moves_on() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    let store = toy_database(db).await;
    let session = Session::open(&store).await.unwrap();
    let statement = session.parse("SELECT id, toy FROM images").unwrap().remove(0).unwrap();
    let stream = session.run(statement).await.unwrap();
    rows(&session, "DELETE FROM images WHERE id > 45").await;
    run(db, &["optimize"]);
    assert_eq!(versions(db).await.len(), 3, "what is read, what the session sees, and the compacted one");
    let read: Vec<RecordBatch> = stream.try_collect().await.unwrap();
    assert_eq!(read.iter().map(RecordBatch::num_rows).sum::<usize>(), 91);
    run(db, &["optimize"]);
    assert_eq!(versions(db).await.len(), 2, "what the session sees, and the compacted one");
}

#[tokio::test]
async fn a_bank_of_an_earlier_version_that_a_query_named_stays() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    let (store, bank) = calibrated(db, IndexKind::Exact).await;
    let session = Session::open(&store).await.unwrap();
    // known by its definition, not opened yet
    let earlier = session.banks().definition(&format!("circle@{}", bank.table_version)).unwrap();
    for id in 1..4 {
        delete(db, id);
    }
    run(db, &["optimize"]);
    run(db, &["optimize"]);
    let opened = session.banks().open(&earlier, outskirt::index::SearchOptions::default()).unwrap();
    assert_eq!(opened.ids().len(), 40);
}

#[tokio::test]
async fn a_killed_reader_keeps_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    drop(calibrated(db, IndexKind::Exact).await);
    let endless = "SELECT count(*) FROM images, generate_series(1, 1000000000000)";
    let mut reader =
        Command::new(PROGRAM).arg("--db").arg(db).args(["sql", endless]).stdout(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    let has_pinned = || {
        let leases = fs::read_dir(db.join("readers")).into_iter().flatten().flatten();
        leases.map(|lease| fs::read_to_string(lease.path()).unwrap_or_default()).any(|text| text.contains("images "))
    };
    while !has_pinned() {
        assert!(begun.elapsed() < Duration::from_secs(120), "the reader did not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    delete(db, 45);
    // it may be just beginning still
    let (mut told, mut kept) = (String::new(), Vec::new());
    while kept.len() != 2 && begun.elapsed() < Duration::from_secs(240) {
        told = run(db, &["optimize"]);
        kept = versions(db).await;
    }
    assert!(told.contains(" until it is done and 'outskirt optimize' runs again"), "{told}");
    assert_eq!(kept.len(), 2);
    reader.kill().unwrap();
    reader.wait().unwrap();
    assert_eq!(run(db, &["optimize"]), "");
    assert_eq!((versions(db).await.len(), fs::read_dir(db.join("readers")).unwrap().count()), (1, 0));
}
