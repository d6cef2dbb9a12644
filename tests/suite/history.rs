//! What changed the images, and the way back: history, undo, restore, and earlier versions in SQL.

use std::path::Path;

use outskirt::index::IndexKind;
use outskirt::schema;
use outskirt::store::Store;

use super::fixture::{calibrated, outskirt, toy_database};

async fn csv(db: &Path, query: &str) -> String {
    outskirt(db, &["sql", query, "--format", "csv"]).await.unwrap().0
}

const ALL: &str = "SELECT id, dataset, split, uri, label, array_to_string(toy, ' ') FROM images ORDER BY id";

#[tokio::test]
async fn a_wrong_delete_is_undone_with_ids_labels_and_the_bank() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    drop(calibrated(db, IndexKind::Exact).await);
    outskirt(db, &["sql", "UPDATE images SET label = 'seen' WHERE id < 50"]).await.unwrap();
    let scores = "SELECT id, knn_ood_score(toy, 'circle') FROM images ORDER BY id";
    let (rows, before) = (csv(db, ALL).await, csv(db, scores).await);
    outskirt(db, &["delete", "--where", "id > 20"]).await.unwrap();
    assert_eq!(csv(db, "SELECT count(*) FROM images").await, "count(*)\n20\n");

    let (dry, _) = outskirt(db, &["undo", "--dry-run"]).await.unwrap();
    assert!(dry.starts_with("would undo: delete WHERE id > 20 (71 rows, 2"), "{dry}");
    assert!(dry.contains("71 images would come back, 0 go"), "{dry}");
    assert_eq!(csv(db, "SELECT count(*) FROM images").await, "count(*)\n20\n");
    let (done, _) = outskirt(db, &["undo"]).await.unwrap();
    assert!(
        done.starts_with("undone: delete WHERE id > 20 (71 rows, 2") && done.contains("71 images came back"),
        "{done}"
    );
    assert!(done.contains("bank circle: 20 embeddings added"), "{done}");
    assert_eq!(csv(db, ALL).await, rows);
    assert_eq!(csv(db, scores).await, before);
    outskirt(db, &["verify"]).await.unwrap();

    // the next one takes back what came before it, and restore takes that back
    let (done, _) = outskirt(db, &["undo"]).await.unwrap();
    assert!(done.starts_with("undone: update SET label = 'seen' WHERE id < 50 (49 rows, 2"), "{done}");
    assert_eq!(csv(db, "SELECT count(label) FROM images").await, "count(images.label)\n0\n");
    let again = done.split("restore --version ").nth(1).unwrap().split('\'').next().unwrap().to_owned();
    let (done, _) = outskirt(db, &["restore", "--version", &again]).await.unwrap();
    assert!(done.starts_with("0 images came back, 0 went"), "{done}");
    assert_eq!(csv(db, ALL).await, rows);
    outskirt(db, &["verify"]).await.unwrap();
    // and a restore is a change that can be undone
    let (done, _) = outskirt(db, &["undo"]).await.unwrap();
    assert!(done.starts_with(&format!("undone: restore to version {again} (0 rows, 2")), "{done}");
    assert_eq!(csv(db, "SELECT count(label) FROM images").await, "count(images.label)\n0\n");
}

#[tokio::test]
async fn history_says_what_changed_when() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    drop(toy_database(db).await);
    for statement in [
        "ALTER TABLE images ADD COLUMN camera TEXT",
        "UPDATE images SET camera = 'left', label = 'a' WHERE dataset = 'ood'",
        "INSERT INTO images (dataset, split, uri, width, height, content_hash) VALUES ('new', '', 'x', 1, 1, 'y')",
        "DELETE FROM images WHERE false",
        "DELETE FROM images WHERE id IN (1, 2)",
    ] {
        outskirt(db, &["sql", statement]).await.unwrap();
    }
    outskirt(db, &["undo"]).await.unwrap();
    let (history, _) = outskirt(db, &["history"]).await.unwrap();
    let wanted = [
        "undo to version ",
        "delete WHERE id IN (1, 2)",
        "insert INSERT INTO images (dataset, ",
        "update SET camera = 'left', label = 'a' WHERE dataset = 'ood'",
        "alter ADD COLUMN camera TEXT",
        "not recorded (interrupted, still running", // the fixture writes rows by itself
    ];
    let lines: Vec<&str> = history.lines().collect();
    let found: Vec<&str> =
        wanted.iter().filter_map(|part| lines.iter().find(|line| line.contains(part)).copied()).collect();
    assert_eq!(found.len(), wanted.len(), "{history}");
    let places: Vec<_> = found.iter().map(|line| lines.iter().position(|other| other == line)).collect();
    assert!(places.is_sorted(), "the latest is first: {history}");
    let logged = "SELECT verb, row_count FROM curation_log ORDER BY version_before";
    assert_eq!(csv(db, logged).await, "verb,row_count\nalter,0\nupdate,10\ninsert,1\ndelete,2\nundo,2\n");
    let error = outskirt(db, &["sql", "DELETE FROM curation_log"]).await.unwrap_err();
    assert!(error.contains("'outskirt undo' takes that back"), "{error}");
}

#[tokio::test]
async fn an_id_given_after_a_restored_version_is_not_given_again() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    drop(toy_database(db).await);
    let insert =
        "INSERT INTO images (dataset, split, uri, width, height, content_hash) VALUES ('new', '', 'x', 1, 1, 'y')";
    outskirt(db, &["sql", insert]).await.unwrap();
    assert_eq!(csv(db, "SELECT max(id) FROM images").await, "max(images.id)\n92\n");
    outskirt(db, &["undo"]).await.unwrap();
    assert_eq!(csv(db, "SELECT max(id) FROM images").await, "max(images.id)\n91\n");
    outskirt(db, &["sql", insert]).await.unwrap();
    assert_eq!(csv(db, "SELECT max(id) FROM images").await, "max(images.id)\n93\n", "92 was another image");
}

/// A process that was killed between a deletion and its line in the record had given its id to somebody all the same.
#[tokio::test]
async fn an_id_given_is_not_given_again_though_its_deletion_was_not_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), IndexKind::Exact).await;
    let largest = store.largest_id().await.unwrap();
    let lock = store.lock().await.unwrap();
    store.delete_images(&lock, &[largest]).await.unwrap();
    assert_eq!(store.next_id().await.unwrap(), largest + 1);
    drop(lock);
    let opened = Store::open(folder.path()).await.unwrap();
    assert_eq!(opened.next_id().await.unwrap(), largest + 1);
}

#[tokio::test]
async fn an_earlier_version_is_read_in_sql() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    let (store, _) = calibrated(db, IndexKind::Exact).await;
    let version = store.version(schema::IMAGES).await.unwrap();
    outskirt(db, &["delete", "--where", "dataset = 'ood'"]).await.unwrap();
    let gone = format!(
        "SELECT count(*) AS n, min(knn_ood_score(toy, 'circle')) > 1 AS far FROM images@{version} \
         WHERE id NOT IN (SELECT id FROM images)"
    );
    assert_eq!(csv(db, &gone).await, "n,far\n10,true\n");
    assert_eq!(csv(db, &format!("SELECT count(*) AS n FROM \"images@{version}\" AS a")).await, "n\n91\n");
    let error = outskirt(db, &["sql", "SELECT * FROM images@999"]).await.unwrap_err();
    assert!(error.starts_with("version 999 of images is not kept: kept are 1 to "), "{error}");
    for change in ["DELETE FROM images@2", "INSERT INTO images@2 SELECT * FROM images", "DROP TABLE images@2"] {
        let error = outskirt(db, &["sql", change]).await.unwrap_err();
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    assert_eq!(csv(db, &format!("SELECT count(*) AS n FROM images@{version}")).await, "n\n91\n");
}

#[tokio::test]
async fn what_cannot_be_taken_back_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    let (store, _) = calibrated(db, IndexKind::Exact).await;
    // written past the commands: nobody knows which versions belong together
    let error = outskirt(db, &["undo"]).await.unwrap_err();
    assert!(error.starts_with("what led from version 1 of images to "), "{error}");
    let error = outskirt(db, &["restore", "--version", "1"]).await.unwrap_err();
    assert!(
        error.starts_with("bank 'circle' stands on the column toy, which version 1 of images does not have"),
        "{error}"
    );
    outskirt(db, &["bank", "drop", "circle"]).await.unwrap();
    outskirt(db, &["delete", "--where", "id = 1"]).await.unwrap();
    drop(store);
    outskirt(db, &["optimize"]).await.unwrap();
    let store = Store::open(db).await.unwrap();
    let before = store.version(schema::IMAGES).await.unwrap();
    let error = outskirt(db, &["undo"]).await.unwrap_err();
    assert!(error.starts_with("the latest change (delete) cannot be undone: version "), "{error}");
    let error = outskirt(db, &["restore", "--version", "999"]).await.unwrap_err();
    assert!(error.starts_with("version 999 of images is not kept"), "{error}");
    let (same, _) = outskirt(db, &["restore", "--version", &before.to_string()]).await.unwrap();
    assert_eq!(same, format!("images is at version {before} already\n"));
    assert_eq!(store.version(schema::IMAGES).await.unwrap(), before);
    drop(store);

    let empty = folder.path().join("empty");
    drop(Store::create(&empty).await.unwrap());
    assert_eq!(outskirt(&empty, &["history"]).await.unwrap().0, "nothing has changed the images yet\n");
    let error = outskirt(&empty, &["undo"]).await.unwrap_err();
    assert!(error.starts_with("there is nothing to undo"), "{error}");
}

#[tokio::test]
async fn a_column_that_a_bank_reads_is_not_undone() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    drop(toy_database(db).await);
    outskirt(db, &["sql", "ALTER TABLE images ADD COLUMN c INT; UPDATE images SET c = 1"]).await.unwrap();
    let bank = ["bank", "create", "b", "--backbone", "toy", "--where", "c = 1 AND split = 'train'", "--k", "3"];
    outskirt(db, &bank).await.unwrap();
    outskirt(db, &["undo", "--no-refresh"]).await.unwrap();
    let error = outskirt(db, &["undo"]).await.unwrap_err();
    assert!(error.starts_with("bank 'b' stands on \"c = 1 AND split = 'train'\", which version "), "{error}");
    assert_eq!(csv(db, "SELECT count(*) AS n FROM images WHERE c IS NULL").await, "n\n91\n");
}

#[tokio::test]
async fn deletions_go_with_the_images_that_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    drop(toy_database(db).await);
    let deletions = "SELECT count(*) AS n FROM deletions";
    outskirt(db, &["delete", "--where", "dataset = 'ood'"]).await.unwrap();
    assert_eq!(csv(db, deletions).await, "n\n10\n");
    outskirt(db, &["undo"]).await.unwrap();
    assert_eq!(csv(db, deletions).await, "n\n0\n");
    for _ in 0..2 {
        outskirt(db, &["delete", "--where", "dataset = 'ood'"]).await.unwrap();
        assert_eq!(csv(db, deletions).await, "n\n10\n", "each image once");
        outskirt(db, &["undo", "--no-refresh"]).await.unwrap();
    }
    // a session sees what it did
    let both = "DELETE FROM images WHERE dataset = 'ood'; SELECT count(*) AS n FROM deletions JOIN curation_log ON verb = 'delete'";
    assert!(csv(db, both).await.ends_with("n\n40\n"));
}

#[tokio::test]
async fn what_was_killed_before_it_was_recorded_is_undone() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    let (store, _) = calibrated(db, IndexKind::Exact).await;
    outskirt(db, &["sql", "UPDATE images SET label = 'seen' WHERE id < 50"]).await.unwrap();
    let rows = csv(db, ALL).await;
    outskirt(db, &["delete", "--where", "id > 20"]).await.unwrap();
    // as a kill leaves it: the rows are gone, and no entry says so
    let mut change = store.changes().await.unwrap().pop().unwrap();
    change.version_after = None;
    let lock = store.lock().await.unwrap();
    store.write_rows(&lock, schema::CURATION_LOG, &["changed_at", "version_before"], &[change]).await.unwrap();
    drop(lock);
    let what = "what was not recorded, for it was interrupted, or another program wrote it (version";
    let (dry, _) = outskirt(db, &["undo", "--dry-run"]).await.unwrap();
    assert!(dry.starts_with(&format!("would undo: {what}")) && dry.contains("71 images would come back"), "{dry}");
    let (done, _) = outskirt(db, &["undo"]).await.unwrap();
    assert!(done.starts_with(&format!("undone: {what}")) && done.contains("71 images came back, 0 went"), "{done}");
    assert_eq!(csv(db, ALL).await, rows);
    let (done, _) = outskirt(db, &["undo"]).await.unwrap();
    assert!(done.starts_with("undone: update SET label = 'seen'"), "{done}");
}

#[tokio::test]
async fn an_undo_that_was_interrupted_is_finished_and_not_done_twice() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    let (store, _) = calibrated(db, IndexKind::Exact).await;
    outskirt(db, &["sql", "UPDATE images SET label = 'seen' WHERE id < 50"]).await.unwrap();
    let rows = csv(db, ALL).await;
    outskirt(db, &["delete", "--where", "id > 20"]).await.unwrap();
    outskirt(db, &["undo", "--no-refresh"]).await.unwrap();
    let version = store.version(schema::IMAGES).await.unwrap();
    // as a full disk leaves it: the restore is committed, its record is not
    let mut change = store.changes().await.unwrap().pop().unwrap();
    change.version_after = None;
    let lock = store.lock().await.unwrap();
    store.write_rows(&lock, schema::CURATION_LOG, &["changed_at", "version_before"], &[change]).await.unwrap();
    drop(lock);
    let (done, _) = outskirt(db, &["undo"]).await.unwrap();
    assert!(done.starts_with("undone: delete WHERE id > 20 (71 rows, 2"), "{done}");
    assert!(done.contains("71 images came back, 0 went"), "{done}");
    assert_eq!((store.version(schema::IMAGES).await.unwrap(), csv(db, ALL).await), (version, rows));
    let (done, _) = outskirt(db, &["undo"]).await.unwrap();
    assert!(done.starts_with("undone: update SET label = 'seen'"), "{done}");
}
