//! Databases of earlier versions: refused with the command to run, migrated, and as good as new ones.

use std::path::{Path, PathBuf};

use outskirt::bank;
use outskirt::index::{IndexKind, Storage};
use outskirt::schema;
use outskirt::store::Store;
use serde_json::json;

use super::fixture::{TOY, calibrated, outskirt, toy_database};

/// The toy database with the bank `circle`, calibrated and with a graph, as schema 1 was written: the folder of
/// `calibrated(…, Hnsw(F32))`, packed before migration 2 was there.
pub fn version_1(folder: &Path) -> PathBuf {
    unpacked(folder, "v1")
}

/// A database that an earlier version wrote. Each schema is packed before the next one is there:
/// `cargo test --test suite pack_the_newest_schema -- --ignored`.
fn unpacked(folder: &Path, name: &str) -> PathBuf {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{name}.tar.gz"));
    let packed = flate2::read::GzDecoder::new(std::fs::File::open(packed).unwrap());
    tar::Archive::new(packed).unpack(folder).unwrap();
    folder.join(format!("{name}.db"))
}

/// What can be in a database of the newest schema: a bank with a graph and a calibration, refreshed since; kept scores;
/// a column of the user's own, a view, and a table that was compacted.
async fn lived_in(db: &Path) {
    drop(calibrated(db, IndexKind::Hnsw(Storage::F32)).await);
    for command in [
        &["score", "circle"][..],
        &["sql", "ALTER TABLE images ADD COLUMN camera TEXT; UPDATE images SET camera = 'left' WHERE id % 2 = 0"],
        &["sql", "CREATE VIEW far AS SELECT id, camera FROM images WHERE knn_ood_score(toy, 'circle') > 1"],
        &["delete", "--where", "id IN (3, 85)"],
        &["optimize"],
        &["delete", "--where", "id = 7"],
    ] {
        outskirt(db, command).await.unwrap();
    }
}

#[tokio::test]
#[ignore = "writes tests/fixtures/v5.tar.gz, once per schema"]
async fn pack_the_newest_schema() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("v5.db");
    lived_in(&db).await;
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v5.tar.gz");
    let packed = flate2::write::GzEncoder::new(std::fs::File::create(packed).unwrap(), flate2::Compression::best());
    let mut archive = tar::Builder::new(packed);
    archive.append_dir_all("v5.db", &db).unwrap();
    archive.into_inner().unwrap().finish().unwrap();
}

#[tokio::test]
async fn a_database_of_an_earlier_schema_is_as_good_as_a_new_one() {
    for name in ["v2", "v3", "v4"] {
        is_as_good_as_a_new_one(name).await;
    }
}

/// The migration of `images` is no change of its rows: undo takes back what was done before it, and what it brings back takes
/// rows that came as numbers all the same.
#[tokio::test]
async fn undo_reaches_behind_a_migration_and_its_columns_may_still_be_null() {
    let folder = tempfile::tempdir().unwrap();
    let db = unpacked(folder.path(), "v4");
    outskirt(&db, &["migrate"]).await.unwrap();
    let (history, _) = outskirt(&db, &["history"]).await.unwrap();
    assert!(history.contains("migrate width, height, content_hash may be NULL"), "{history}");
    let seven = ["sql", "SELECT count(*) AS n FROM images WHERE id = 7", "--format", "csv"];
    assert_eq!(outskirt(&db, &seven).await.unwrap().0, "n\n0\n");
    outskirt(&db, &["undo"]).await.unwrap();
    assert_eq!(outskirt(&db, &seven).await.unwrap().0, "n\n1\n");
    outskirt(&db, &["sql", "INSERT INTO images (dataset, split, uri) VALUES ('mine', '', 'a')"]).await.unwrap();
    outskirt(&db, &["verify"]).await.unwrap();
}

/// Rows, and notices without the versions that they name: how many commits a command takes is not always the same.
fn without_versions((rows, notices): (String, String)) -> (String, String) {
    (rows, notices.chars().filter(|c| !c.is_ascii_digit()).collect())
}

async fn is_as_good_as_a_new_one(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let db = unpacked(folder.path(), name);
    outskirt(&db, &["migrate"]).await.unwrap();
    outskirt(&db, &["verify"]).await.unwrap();
    let fresh = folder.path().join("fresh.db");
    lived_in(&fresh).await;
    for query in [
        "SELECT id, camera, circle_score, knn_ood_score(toy, 'circle'), is_ood(toy, 'circle') FROM images ORDER BY id",
        "SET outskirt.search = 'hnsw'; SELECT id, knn_ood_score(toy, 'circle') FROM images ORDER BY id",
        "SELECT * FROM far ORDER BY id",
        "SELECT name, k, row_count, table_version > 0 FROM banks",
        "SELECT version, name, checksum FROM schema_migrations ORDER BY version",
        "SELECT count(*) FROM rejects",
    ] {
        let ask = ["sql", query, "--format", "csv"];
        let old = outskirt(&db, &ask).await.unwrap();
        assert!(old.0.lines().count() > 1, "{query}");
        assert_eq!(without_versions(old), without_versions(outskirt(&fresh, &ask).await.unwrap()), "{query}");
    }
    // and it goes on living
    for command in [&["bank", "refresh", "circle", "--calibrate"][..], &["score", "circle"], &["optimize"], &["verify"]]
    {
        outskirt(&db, command).await.unwrap();
    }
}

async fn refused(db: &Path, arguments: &[&str]) -> String {
    let error = outskirt(db, arguments).await.unwrap_err();
    assert_eq!(error.lines().count(), 1, "one line: {error}");
    error
}

#[tokio::test]
async fn an_older_database_is_migrated_and_scores_as_before() {
    let folder = tempfile::tempdir().unwrap();
    let db = version_1(folder.path());
    for command in [&["sql", "SELECT 1"][..], &["bank", "list"], &["bank", "drop", "circle"], &["backbone", "list"]] {
        let error = refused(&db, command).await;
        let hint = format!("has schema 1, this outskirt needs 5: run 'outskirt --db {} migrate'", db.display());
        assert!(error.contains(&hint), "{error}");
    }
    assert!(Store::create(&db).await.is_err(), "ingest does not migrate by the way");

    let (dry, _) = outskirt(&db, &["migrate", "--dry-run"]).await.unwrap();
    let files = ["0002_views_and_refresh.sql", "0003_rejects.sql", "0004_history.sql", "0005_own_embeddings.sql"];
    assert_eq!(dry, files.map(|file| format!("would apply {file}\n")).concat());
    refused(&db, &["sql", "SELECT 1"]).await;
    let (applied, _) = outskirt(&db, &["migrate"]).await.unwrap();
    assert_eq!(applied, files.map(|file| format!("applied {file}\n")).concat());
    let (again, _) = outskirt(&db, &["migrate"]).await.unwrap();
    assert!(again.ends_with("is up to date\n"), "{again}");

    let fresh = tempfile::tempdir().unwrap();
    calibrated(fresh.path(), IndexKind::Hnsw(Storage::F32)).await;
    for query in [
        format!("SELECT id, dataset, knn_ood_score({TOY}, 'circle'), is_ood({TOY}, 'circle') FROM images ORDER BY id"),
        format!("SET outskirt.search = 'hnsw'; SELECT id, knn_ood_score({TOY}, 'circle') FROM images ORDER BY id"),
        "SELECT knn_ood_threshold('circle')".into(),
        "SELECT name, k, row_count, table_version > 0 FROM banks".into(),
        "SELECT version, name, checksum FROM schema_migrations ORDER BY version".into(),
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY table_name".into(),
    ] {
        let ask = ["sql", &query, "--format", "csv"];
        let old = outskirt(&db, &ask).await.unwrap();
        assert!(old.0.lines().count() > 1, "{query}");
        assert_eq!(without_versions(old), without_versions(outskirt(fresh.path(), &ask).await.unwrap()), "{query}");
    }
    // and it goes on living
    outskirt(&db, &["sql", "CREATE VIEW ood AS SELECT * FROM images WHERE is_ood(toy, 'circle')"]).await.unwrap();
    outskirt(&db, &["sql", "UPDATE images SET label = 'seen' WHERE id = 1"]).await.unwrap();
    let store = Store::open(&db).await.unwrap();
    assert_eq!(bank::list_calibrations(&store).await.unwrap().len(), 1);
    outskirt(&db, &["bank", "drop", "circle"]).await.unwrap();
}

#[tokio::test]
async fn a_database_that_other_migrations_made() {
    let row = |version: u32, name: &str, checksum: Option<&str>| json!({"version": version, "name": name, "applied_at": "2026-01-01T00:00:00", "checksum": checksum});
    let folder = tempfile::tempdir().unwrap();
    let store = toy_database(folder.path()).await;
    let rows: Vec<serde_json::Value> = store.read_rows(schema::SCHEMA_MIGRATIONS).await.unwrap();
    let now = |version: u32| rows.iter().find(|row| row["version"] == version).unwrap().clone();
    let cases = [
        (row(1, "first_tables", Some("0123")), "0001_first_tables.sql had sha256 0123 when it was applied, and has "),
        (row(1, "other_tables", None), "what it records as migration 1 is 'other_tables', not 0001_first_tables.sql"),
        (row(1, "first_tables", None), "the record of 0001_first_tables.sql has lost its checksum"),
    ];
    for (changed, reason) in cases {
        let lock = store.lock().await.unwrap();
        store.write_rows(&lock, schema::SCHEMA_MIGRATIONS, &["version"], &[changed]).await.unwrap();
        drop(lock);
        for command in [&["sql", "SELECT 1"][..], &["migrate"]] {
            let error = refused(folder.path(), command).await;
            assert!(error.contains(reason), "{error}");
        }
        let lock = store.lock().await.unwrap();
        store.write_rows(&lock, schema::SCHEMA_MIGRATIONS, &["version"], &[now(1)]).await.unwrap();
        outskirt(folder.path(), &["sql", "SELECT 1"]).await.unwrap();
    }
    let lock = store.lock().await.unwrap();
    store.delete(&lock, schema::SCHEMA_MIGRATIONS, "version = 1").await.unwrap();
    drop(lock);
    let error = refused(folder.path(), &["migrate"]).await;
    assert!(error.contains("later migrations are recorded, and 0001_first_tables.sql is not"), "{error}");
}

#[tokio::test]
async fn a_migration_waits_for_the_writer_and_needs_a_database() {
    let folder = tempfile::tempdir().unwrap();
    let error = refused(folder.path(), &["migrate"]).await;
    assert!(error.starts_with("no database at "), "{error}");
    let error = refused(&folder.path().join("nowhere"), &["migrate"]).await;
    assert!(error.starts_with("no database at "), "{error}");
    let store = toy_database(folder.path()).await;
    let held = store.lock().await.unwrap();
    let error = refused(folder.path(), &["migrate"]).await;
    assert!(error.starts_with("another program is writing to "), "{error}");
    drop(held);
}
