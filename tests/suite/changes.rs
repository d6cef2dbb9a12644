//! INSERT, UPDATE, DELETE and ALTER TABLE: one commit each, seen by the session that made it, or nothing at all.

use std::path::Path;
use std::task::Poll;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::array::RecordBatch;
use arrow::datatypes::{Int64Type, UInt64Type};
use futures::TryStreamExt;
use outskirt::index::IndexKind;
use outskirt::schema;
use outskirt::sql::cancel;
use outskirt::sql::session::Session;
use outskirt::store::Store;

use super::fixture::{Image, TOY, calibrated, database, outskirt, toy_database};

/// The last statement's only value, as a number.
async fn number(session: &Session, text: &str) -> u64 {
    let mut value = None;
    for statement in session.parse(text).unwrap() {
        let batches: Vec<RecordBatch> = session.run(statement).await.unwrap().try_collect().await.unwrap();
        let Some(batch) = batches.iter().find(|batch| batch.num_rows() > 0) else { continue };
        let column = batch.column(0);
        value = column.as_primitive_opt::<UInt64Type>().map(|counts| counts.value(0));
        value = value.or_else(|| column.as_primitive_opt::<Int64Type>().map(|counts| counts.value(0) as u64));
    }
    value.unwrap_or_else(|| panic!("no number: {text}"))
}

async fn done(session: &Session, text: &str) {
    for statement in session.parse(text).unwrap() {
        session.run(statement).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
    }
}

/// The error of a statement, after which neither table nor columns are different.
async fn refused(store: &Store, session: &Session, text: &str) -> String {
    let before = (store.version(schema::IMAGES).await.unwrap(), number(session, "SELECT count(*) FROM images").await);
    let statement = session.parse(text).unwrap().remove(0).unwrap();
    let error = match session.run(statement).await {
        Err(error) => error.to_string(),
        Ok(rows) => outskirt::Error::from(rows.try_collect::<Vec<_>>().await.expect_err(text)).to_string(),
    };
    assert_eq!(error.lines().count(), 1, "one line: {error}");
    let after = (store.version(schema::IMAGES).await.unwrap(), number(session, "SELECT count(*) FROM images").await);
    assert_eq!(before, after, "{text} changed something: {error}");
    error
}

async fn toy(folder: &Path) -> (Store, Session) {
    let (store, _) = calibrated(folder, IndexKind::Exact).await;
    let session = Session::open(&store).await.unwrap();
    (store, session)
}

#[tokio::test]
async fn rows_are_deleted_by_every_kind_of_condition() {
    let folder = tempfile::tempdir().unwrap();
    let (store, session) = toy(folder.path()).await;
    let version = store.version(schema::IMAGES).await.unwrap();
    assert_eq!(number(&session, "DELETE FROM images WHERE id > 1000").await, 0);
    assert_eq!(store.version(schema::IMAGES).await.unwrap(), version, "nothing to do, nothing written");
    assert_eq!(number(&session, "DELETE FROM images WHERE id = 1").await, 1);
    assert_eq!(store.version(schema::IMAGES).await.unwrap(), version + 1, "one commit");
    assert_eq!(number(&session, "SELECT count(*) FROM images").await, 90, "the session sees it");
    // a subquery becomes a join
    let subquery = "DELETE FROM images WHERE id IN (SELECT id + 1 FROM images WHERE id IN (2, 4))";
    assert_eq!(number(&session, subquery).await, 2);
    let exists = "DELETE FROM images WHERE NOT EXISTS (SELECT 1 FROM images o WHERE o.id = images.id AND o.id <> 2)";
    assert_eq!(number(&session, exists).await, 1);
    let limited = "DELETE FROM images WHERE split = 'train' LIMIT 3";
    assert_eq!(number(&session, limited).await, 3);
    // the condition is a score; it reads the bank, whose rows are gone from the table and not from the bank
    assert_eq!(number(&session, &format!("DELETE FROM images WHERE is_ood({TOY}, 'circle') AND id > 80")).await, 10);
    assert_eq!(number(&session, "SELECT count(*) FROM images").await, 74);
    assert_eq!(number(&session, &format!("SELECT count(knn_ood_score({TOY}, 'circle')) FROM images")).await, 73);
    // another session, and lance itself, see the same
    assert_eq!(store.count(schema::IMAGES).await.unwrap(), 74);
    assert_eq!(number(&session, "DELETE FROM images WHERE NULL").await, 0);
    assert_eq!(number(&session, "TRUNCATE TABLE images").await, 74);
    assert_eq!(number(&session, "DELETE FROM images").await, 0);
    assert_eq!(store.count(schema::IMAGES).await.unwrap(), 0);
    assert_eq!(store.largest_id().await.unwrap(), 91, "banks know these ids: they are not given again");
}

#[tokio::test]
async fn columns_are_updated_by_every_kind_of_value() {
    let folder = tempfile::tempdir().unwrap();
    let (store, session) = toy(folder.path()).await;
    let version = store.version(schema::IMAGES).await.unwrap();
    assert_eq!(number(&session, "UPDATE images SET label = 'cat' WHERE id BETWEEN 11 AND 15").await, 5);
    assert_eq!(store.version(schema::IMAGES).await.unwrap(), version + 1, "one commit");
    assert_eq!(number(&session, "SELECT count(*) FROM images WHERE label = 'cat'").await, 5, "the session sees it");
    assert_eq!(number(&session, "SELECT count(*) FROM images WHERE label IS NULL").await, 86);
    let several = "UPDATE images AS i SET label = upper(i.label), split = i.split || '2', width = width * 2
                   WHERE label IN (SELECT label FROM images WHERE id = 11) AND i.id <> 15";
    assert_eq!(number(&session, several).await, 4);
    let changed = "SELECT count(*) FROM images WHERE label = 'CAT' AND split = 'train2' AND width = 64 AND height = 32";
    assert_eq!(number(&session, changed).await, 4);
    assert_eq!(number(&session, "UPDATE images SET label = NULL WHERE label = 'CAT'").await, 4);
    assert_eq!(number(&session, "SELECT count(*) FROM images WHERE label IS NOT NULL").await, 1);
    let scored = format!("UPDATE images SET label = 'odd' WHERE is_ood({TOY}, 'circle') AND dataset = 'ood'");
    assert_eq!(number(&session, &scored).await, 10);
    let all = format!("UPDATE images SET label = CAST(knn_ood_score({TOY}, 'circle') AS TEXT)");
    assert_eq!(number(&session, &all).await, 91);
    let equal = format!("SELECT count(*) FROM images WHERE CAST(label AS FLOAT) = knn_ood_score({TOY}, 'circle')");
    assert_eq!(number(&session, &equal).await, 90, "the embeddings are untouched");
    assert_eq!(number(&session, "UPDATE images SET label = 'x' WHERE id = 4711").await, 0);

    // values of another table
    let cameras = folder.path().join("cameras.csv");
    std::fs::write(&cameras, "uri,camera\n/pictures/0.png,left\n/pictures/1.png,right\n/pictures/1.png,back\n")
        .unwrap();
    let cameras = cameras.display();
    let itself = "UPDATE images SET label = o.uri FROM images o WHERE o.id = images.id + 1 AND images.id = 5";
    assert_eq!(number(&session, itself).await, 1);
    assert_eq!(number(&session, "SELECT count(*) FROM images WHERE id = 5 AND label = '/pictures/5.png'").await, 1);
    let from = format!("UPDATE images SET label = c.camera FROM '{cameras}' c WHERE images.uri = c.uri");
    let error = refused(&store, &session, &from).await;
    assert!(error.contains("more than one new value for the image with id 2"), "{error}");
    assert_eq!(number(&session, &format!("{from} AND c.camera <> 'back'")).await, 2);
    assert_eq!(number(&session, "SELECT count(*) FROM images WHERE label = 'right' AND id = 2").await, 1);
    let scalar = format!("UPDATE images SET label = (SELECT max(camera) FROM '{cameras}') WHERE id = 3");
    assert_eq!(number(&session, &scalar).await, 1);
    assert_eq!(number(&session, "SELECT count(*) FROM images WHERE label = 'right'").await, 2);
}

#[tokio::test]
async fn images_are_inserted_with_what_is_left_out_filled_in() {
    let folder = tempfile::tempdir().unwrap();
    let (store, session) = toy(folder.path()).await;
    let columns = "dataset, split, uri, width, height, content_hash";
    let insert =
        format!("INSERT INTO images ({columns}) VALUES ('new', 'test', 'a', 1, 2, ''), ('new', 'test', 'b', 3, 4, '')");
    assert_eq!(number(&session, &insert).await, 2);
    assert_eq!(number(&session, "SELECT max(id) FROM images WHERE dataset = 'new'").await, 93);
    assert_eq!(number(&session, "SELECT min(id) FROM images WHERE dataset = 'new'").await, 92);
    let now = "SELECT count(*) FROM images WHERE dataset = 'new' AND ingested_at > now() - INTERVAL '5 minutes'
               AND label IS NULL AND toy IS NULL AND bytes IS NULL";
    assert_eq!(number(&session, now).await, 2);
    // ids given, some of them
    let given = format!(
        "INSERT INTO images (id, {columns}) SELECT CASE WHEN id = 92 THEN 500 END, 'copy', split, uri,
                         width, height, content_hash FROM images WHERE dataset = 'new'"
    );
    assert_eq!(number(&session, &given).await, 2);
    assert_eq!(number(&session, "SELECT min(id) + max(id) FROM images WHERE dataset = 'copy'").await, 1001);
    // an id is not given twice, not even after its image is gone
    assert_eq!(number(&session, "DELETE FROM images WHERE id = 501").await, 1);
    assert_eq!(number(&session, &insert.replace("'new'", "'newer'")).await, 2);
    assert_eq!(number(&session, "SELECT max(id) FROM images").await, 503);
    assert_eq!(number(&session, &format!("{} WHERE false", insert_select(columns))).await, 0);

    let error = refused(&store, &session, "INSERT INTO images (dataset, uri) VALUES ('new', 'c')").await;
    assert!(error.starts_with("INSERT INTO images lacks split: "), "{error}");
    let error = refused(&store, &session, &insert.replace("'b'", "NULL")).await;
    assert!(error.starts_with("column 'uri' of images cannot be NULL"), "{error}");
    let with_id = |ids: &str| {
        format!("INSERT INTO images (id, {columns}) SELECT i, 'd', 's', 'u', 1, 2, '' FROM (VALUES {ids}) t(i)")
    };
    for (ids, says) in [
        ("(1)", "id 1 is not new: ids only go up, and the next is "),
        ("(600), (600)", "id 600 is given twice"),
        ("(18446744073709551615)", "id 18446744073709551615 is not below 2305843009213693952"),
    ] {
        let error = refused(&store, &session, &with_id(ids)).await;
        assert!(error.contains(says), "{error}");
    }
    let embedding = format!(
        "INSERT INTO images ({columns}, toy) SELECT 'copies', split, uri, width, height,
                             content_hash, toy FROM images WHERE id = 2"
    );
    let error = refused(&store, &session, &embedding).await;
    assert!(
        error.contains("column 'toy' of images cannot be set in SQL") && error.contains("outskirt ingest"),
        "{error}"
    );
    assert_eq!(number(&session, &embedding.replace("id = 2", "id = 92")).await, 1, "NULL is what it would be anyway");
    let error = refused(&store, &session, &insert.replace("INTO", "OVERWRITE")).await;
    assert!(error.contains("is not supported: INSERT INTO adds images"), "{error}");
    let error = refused(&store, &session, "INSERT INTO images (dataset) SELECT 'a', 'b'").await;
    assert!(error.starts_with("INSERT INTO images lacks split"), "{error}");
    let error = refused(&store, &session, &insert.replace("'a', ", "")).await;
    assert!(error.contains("row 1"), "{error}");
    let error = refused(&store, &session, &format!("INSERT INTO images ({columns}) SELECT 'a', 'b'")).await;
    assert!(error.contains("is for 6 columns, and its rows have 2 values"), "{error}");
    let error = refused(&store, &session, &with_id("(7000), (7000.5)")).await;
    assert!(error.starts_with("7000.5 for column 'id' of images has a fraction"), "{error}");
    let half = format!("INSERT INTO images ({columns}) VALUES ('d', 's', 'u', 1.5, 1, '')");
    let error = refused(&store, &session, &half).await;
    assert!(error.starts_with("1.5 for column 'width' of images has a fraction"), "{error}");
    let csv = folder.path().join("ids.csv");
    std::fs::write(&csv, "id\n7000.5\n").unwrap();
    let of_csv = with_id("(1)").replace("(VALUES (1)) t(i)", &format!("(SELECT id AS i FROM '{}')", csv.display()));
    let error = refused(&store, &session, &of_csv).await;
    assert!(error.starts_with("7000.5 for column 'id' of images has a fraction"), "{error}");
    assert_eq!(number(&session, &with_id("(7000.0)")).await, 1, "a whole number, however it is written");
    for (clause, says) in [("ON CONFLICT DO NOTHING", "Insert-on"), ("RETURNING id", "Insert-returning")] {
        let error = refused(&store, &session, &format!("{insert} {clause}")).await;
        assert!(error.contains(says), "{error}");
    }
    let error = refused(&store, &session, &insert.replace("split", "dataset")).await;
    assert!(error.contains("dataset"), "{error}");
    let error =
        refused(&store, &session, &format!("INSERT INTO images ({columns}) VALUES ('d', 's', 'u', 'wide', 1, '')"))
            .await;
    assert!(error.contains("wide"), "{error}");
}

/// What 'outskirt ingest' knows an image by stays one image's.
#[tokio::test]
async fn no_change_makes_two_rows_one_image() {
    let folder = tempfile::tempdir().unwrap();
    let (store, session) = toy(folder.path()).await;
    let columns = "dataset, split, uri, width, height, content_hash";
    let twice = "two images would be '/pictures/80.png' of dataset 'ood', and a dataset has each uri once";
    for change in [
        "UPDATE images SET uri = '/pictures/80.png' WHERE id = 82",
        "UPDATE images SET dataset = 'ood', uri = '/pictures/80.png' WHERE id = 1",
        "UPDATE images SET uri = '/pictures/80.png' WHERE dataset = 'ood'",
        &format!("INSERT INTO images ({columns}) VALUES ('ood', 'new', '/pictures/80.png', 1, 1, '')"),
        &format!("INSERT INTO images ({columns}) SELECT {columns} FROM images WHERE id = 81"),
    ] {
        let error = refused(&store, &session, change).await;
        assert!(error.starts_with(twice), "{change}: {error}");
    }
    let within = format!("INSERT INTO images ({columns}) SELECT 'new', '', 'same', 1, 2, 'x' FROM images WHERE id < 3");
    let error = refused(&store, &session, &within).await;
    assert!(error.starts_with("two images would be 'same' of dataset 'new'"), "{error}");
    // the same uri in another dataset, a change to what it is already, and two that change places
    assert_eq!(number(&session, "UPDATE images SET uri = '/pictures/80.png' WHERE id = 1").await, 1);
    assert_eq!(number(&session, "UPDATE images SET dataset = 'ood', split = 'x' WHERE dataset = 'ood'").await, 10);
    let swap = "UPDATE images SET uri = CASE id WHEN 82 THEN '/pictures/82.png' ELSE '/pictures/81.png' END \
                WHERE id IN (82, 83)";
    assert_eq!(number(&session, swap).await, 2);
    assert_eq!(number(&session, "SELECT count(DISTINCT (dataset, uri)) FROM images").await, 91);
    // what an earlier version has twice can be told apart, and goes on being changed otherwise
    let lock = store.lock().await.unwrap();
    let rows = arrow::array::RecordBatch::try_from_iter([
        ("id", std::sync::Arc::new(arrow::array::UInt64Array::from(vec![90])) as arrow::array::ArrayRef),
        ("uri", std::sync::Arc::new(arrow::array::StringArray::from(vec!["/pictures/80.png"]))),
    ]);
    store.update_images(&lock, rows.unwrap()).await.unwrap();
    drop((lock, session));
    let session = Session::open(&store).await.unwrap();
    assert_eq!(number(&session, "UPDATE images SET dataset = 'ood', label = 'y' WHERE dataset = 'ood'").await, 10);
    assert_eq!(number(&session, "UPDATE images SET uri = uri || '-2' WHERE id = 90").await, 1);
}

fn insert_select(columns: &str) -> String {
    format!("INSERT INTO images ({columns}) SELECT {columns} FROM images")
}

#[tokio::test]
async fn what_sql_may_not_set() {
    let folder = tempfile::tempdir().unwrap();
    let (store, session) = toy(folder.path()).await;
    for (assignment, says) in [
        ("id = 7", "column 'id' of images cannot be set in SQL"),
        ("toy = NULL", "'outskirt ingest --backbone toy' writes them"),
        ("content_hash = 'x'", "'outskirt ingest' writes it again"),
        ("bytes = NULL", "'outskirt ingest' writes it again"),
        ("ingested_at = now()", "'outskirt ingest' writes it again"),
        ("colour = 'red'", "no column colour: those that SQL sets are dataset, split, uri, label, width, height"),
        ("dataset = NULL", "column 'dataset' of images cannot be NULL"),
        ("width = 'wide'", "wide"),
        ("label = 'a', label = 'b'", "two values for label"),
        ("label = nothing", "nothing"),
    ] {
        let error = refused(&store, &session, &format!("UPDATE images SET {assignment} WHERE id < 3")).await;
        assert!(error.contains(says), "{assignment}: {error}");
    }
    for (statement, says) in [
        ("INSERT INTO backbones SELECT * FROM backbones", "'outskirt ingest --backbone' writes it"),
        ("UPDATE banks SET k = 3", "'outskirt bank create' and 'outskirt bank drop' change it"),
        ("DELETE FROM calibrations", "'outskirt bank calibrate' writes it"),
        ("DELETE FROM public.schema_migrations WHERE version = 1", "'outskirt migrate' writes it"),
        ("TRUNCATE views", "CREATE VIEW and DROP VIEW change it"),
        ("ALTER TABLE banks ADD COLUMN x TEXT", "table 'banks' is read-only in SQL"),
        ("EXPLAIN ANALYZE UPDATE images SET label = 'x'", "not inside EXPLAIN"),
        ("DROP TABLE images", "'images' is a table of the database, which SQL cannot drop"),
        ("DROP VIEW images", "'images' is a table of the database"),
        ("CREATE TABLE images AS SELECT 1", "'images' is a table of the database"),
        ("CREATE OR REPLACE TABLE banks AS SELECT 1", "'banks' is a table of the database"),
        ("CREATE OR REPLACE VIEW images AS SELECT 1", "'images' is a table of the database"),
        ("CREATE EXTERNAL TABLE images STORED AS CSV LOCATION 'x.csv'", "'images' is a table of the database"),
        ("DROP SCHEMA public CASCADE", "'public' is a table of the database"),
        ("UPDATE images SET label = 'x' LIMIT 3", "UPDATE with LIMIT is not supported"),
        ("ALTER TABLE images RENAME COLUMN label TO class", "is not supported: it takes one ADD COLUMN"),
    ] {
        let error = refused(&store, &session, statement).await;
        assert!(error.contains(says), "{statement}: {error}");
    }
    // a prepared change is one where it is executed
    done(&session, "PREPARE gone AS DELETE FROM images WHERE id > $1").await;
    let error = refused(&store, &session, "EXPLAIN ANALYZE EXECUTE gone(5)").await;
    assert!(error.contains("not inside EXPLAIN"), "{error}");
    let error = session.sql("DELETE FROM images").await.unwrap_err().to_string();
    assert!(error.contains("DML not supported"), "{error}");
    // a table of the session is the user's to change, even under a name that another schema has as well
    done(&session, "CREATE SCHEMA mine; CREATE TABLE mine.images AS SELECT 1 AS id").await;
    assert_eq!(number(&session, "INSERT INTO mine.images VALUES (2)").await, 1);
    assert_eq!(number(&session, "SELECT count(*) FROM mine.images").await, 2);
    assert_eq!(store.count(schema::IMAGES).await.unwrap(), 91);
}

#[tokio::test]
async fn columns_of_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let (store, session) = toy(folder.path()).await;
    done(&session, "ALTER TABLE images ADD COLUMN camera TEXT").await;
    done(&session, "ALTER TABLE images ADD COLUMN IF NOT EXISTS camera TEXT").await;
    done(&session, "ALTER TABLE images ADD COLUMN taken TIMESTAMP; ALTER TABLE images ADD weight DOUBLE NULL").await;
    assert_eq!(number(&session, "SELECT count(*) FROM images WHERE camera IS NULL AND taken IS NULL").await, 91);
    let update = "UPDATE images SET camera = 'left', taken = '2026-01-02', weight = 1 WHERE split = 'train'";
    assert_eq!(number(&session, update).await, 40);
    assert_eq!(
        number(&session, "UPDATE images SET camera = 'right' WHERE camera IS NULL AND dataset = 'id'").await,
        40
    );
    let read = "SELECT count(*) FROM images WHERE camera = 'left' AND weight = 1.0 AND taken < now()";
    assert_eq!(number(&session, read).await, 40);
    let insert = "INSERT INTO images (dataset, split, uri, width, height, content_hash, camera)
                  VALUES ('new', 'test', 'a', 1, 2, '', 'top')";
    assert_eq!(number(&session, insert).await, 1);
    let bank = ["bank", "create", "left", "--backbone", TOY, "--where", "camera = 'left'", "--k", "3"];
    outskirt(folder.path(), &bank).await.unwrap();
    let error = refused(&store, &session, "ALTER TABLE images DROP COLUMN camera").await;
    assert!(error.starts_with("column 'camera' is read by the predicate of bank 'left' (camera = 'left')"), "{error}");
    outskirt(folder.path(), &["bank", "drop", "left"]).await.unwrap();
    done(&session, "ALTER TABLE images DROP COLUMN camera").await;
    done(&session, "ALTER TABLE images DROP COLUMN IF EXISTS camera").await;
    let names: Vec<String> =
        store.schema(schema::IMAGES).await.unwrap().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names[10..], ["toy", "taken", "weight"]);

    for (operation, says) in [
        ("ADD COLUMN taken TEXT", "'taken' is a column of the table images already"),
        ("ADD COLUMN toy TEXT", "'toy' is a column of the table images already"),
        ("ADD COLUMN \"My Camera\" TEXT", "'My Camera' cannot name a column"),
        ("ADD COLUMN x TEXT NOT NULL", "with NOT NULL is not supported"),
        ("ADD COLUMN x TEXT DEFAULT 'a'", "with DEFAULT 'a' is not supported"),
        ("ADD COLUMN x TEXT, ADD COLUMN y TEXT", "with 2 operations at once is not supported"),
        ("DROP COLUMN toy", "no column 'toy' that ALTER TABLE could drop: those are taken, weight"),
        ("DROP COLUMN label", "no column 'label' that ALTER TABLE could drop"),
        ("DROP COLUMN camera", "no column 'camera' that ALTER TABLE could drop"),
    ] {
        let error = refused(&store, &session, &format!("ALTER TABLE images {operation}")).await;
        assert!(error.contains(says), "{operation}: {error}");
    }
}

#[tokio::test]
async fn a_change_starts_from_what_others_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let (store, session) = toy(folder.path()).await;
    let other = Session::open(&store).await.unwrap();
    assert_eq!(number(&session, "UPDATE images SET label = 'a' WHERE id <= 2").await, 2);
    done(&session, "ALTER TABLE images ADD COLUMN camera TEXT").await;
    assert_eq!(number(&other, "SELECT count(*) FROM images WHERE label = 'a'").await, 0, "its version is pinned");
    assert_eq!(number(&other, "UPDATE images SET label = label || 'b', camera = 'c' WHERE label = 'a'").await, 2);
    assert_eq!(number(&other, "SELECT count(*) FROM images WHERE label = 'ab' AND camera = 'c'").await, 2);
    let held = store.lock().await.unwrap();
    for statement in ["DELETE FROM images", "UPDATE images SET label = 'x'", "ALTER TABLE images ADD COLUMN y TEXT"] {
        let error = refused(&store, &session, statement).await;
        assert!(error.starts_with("another program is writing to "), "{error}");
    }
    drop(held);
    assert_eq!(number(&session, "DELETE FROM images WHERE label = 'ab'").await, 2);
}

#[tokio::test]
async fn half_of_a_hundred_thousand_rows() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<Image> = (0..100_000).map(|i| ("big", if i % 2 == 0 { "even" } else { "odd" }, None)).collect();
    let store = database(folder.path(), 3, &rows).await;
    let session = Session::open(&store).await.unwrap();
    let start = Instant::now();
    assert_eq!(number(&session, "UPDATE images SET label = uri WHERE split = 'even'").await, 50_000);
    let updated = start.elapsed();
    assert_eq!(number(&session, "SELECT count(*) FROM images WHERE label = uri").await, 50_000);
    let start = Instant::now();
    assert_eq!(number(&session, "DELETE FROM images WHERE split = 'odd'").await, 50_000);
    let deleted = start.elapsed();
    assert_eq!(number(&session, "SELECT count(*) FROM images WHERE split = 'even'").await, 50_000);
    assert_eq!(number(&session, "SELECT count(*) FROM images").await, 50_000);
    let columns = "dataset, split, uri, width, height, content_hash";
    let start = Instant::now();
    let double = insert_select(columns).replace("SELECT dataset", "SELECT 'double'");
    assert_eq!(number(&session, &double).await, 50_000);
    let inserted = start.elapsed();
    assert!(updated + deleted + inserted < Duration::from_secs(60), "{updated:?} {deleted:?} {inserted:?}");
    // over several files, some rows of which are deleted
    assert_eq!(number(&session, "UPDATE images SET label = 'all', split = 'one'").await, 100_000);
    let all = "SELECT count(DISTINCT id) FROM images WHERE label = 'all' AND split = 'one' AND width = 32";
    assert_eq!(number(&session, all).await, 100_000);
    assert_eq!(number(&session, "SELECT count(*) FROM images").await, 100_000);
    assert_eq!(number(&session, "DELETE FROM images").await, 100_000);
}

#[tokio::test]
async fn files_are_read_and_written() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("toy.db");
    let store = toy_database(&db).await;
    let session = Session::open(&store).await.unwrap();
    for (kind, ending) in [("CSV", "csv"), ("JSON", "json"), ("PARQUET", "parquet"), ("ARROW", "arrow")] {
        let file = folder.path().join(format!("out.{ending}"));
        let file = file.display();
        let copy = format!("COPY (SELECT id, uri, dataset FROM images) TO '{file}'");
        assert_eq!(number(&session, &copy).await, 91, "{kind}");
        let header = if kind == "CSV" { "OPTIONS ('format.has_header' 'true')" } else { "" };
        done(&session, &format!("CREATE EXTERNAL TABLE t_{ending} STORED AS {kind} LOCATION '{file}' {header}")).await;
        let join = format!("SELECT count(*) FROM images i JOIN t_{ending} t ON i.id = t.id AND i.uri = t.uri");
        assert_eq!(number(&session, &join).await, 91, "{kind}");
        assert_eq!(
            number(&session, &format!("SELECT count(*) FROM '{file}' WHERE dataset = 'id'")).await,
            80,
            "{kind}"
        );
    }
    // embeddings go where lists can
    for ending in ["parquet", "json", "arrow"] {
        let file = folder.path().join(format!("all.{ending}"));
        assert_eq!(number(&session, &format!("COPY images TO '{}'", file.display())).await, 91, "{ending}");
    }
    let parted = folder.path().join("parted");
    let copy = format!(
        "COPY (SELECT id, dataset FROM images) TO '{}' STORED AS PARQUET PARTITIONED BY (dataset)",
        parted.display()
    );
    assert_eq!(number(&session, &copy).await, 91);
    assert!(parted.join("dataset=ood").is_dir());
    // a table of the session
    done(&session, "CREATE TABLE mine AS SELECT id, uri FROM images WHERE dataset = 'ood'").await;
    assert_eq!(number(&session, "DELETE FROM images WHERE id IN (SELECT id FROM mine)").await, 10);
    assert_eq!(number(&session, "SELECT count(*) FROM mine").await, 10);
    done(&session, "DROP TABLE mine; DROP TABLE t_csv").await;

    let csv = folder.path().join("embeddings.csv");
    let error = refused(&store, &session, &format!("COPY images TO '{}'", csv.display())).await;
    assert!(error.starts_with("column toy holds FixedSizeList") && error.contains(".parquet or .json"), "{error}");
    assert!(!csv.exists());
    let link = folder.path().join("link");
    #[cfg(unix)]
    std::os::unix::fs::symlink(&db, &link).unwrap();
    let inner = db.join("inner.csv");
    std::fs::write(&inner, "a\n1\n").unwrap();
    let error = refused(&store, &session, &format!("INSERT INTO '{}' VALUES (2)", inner.display())).await;
    assert!(error.contains("lies in the database's folder"), "{error}");
    for place in [
        db.join("x.parquet"),
        db.join("images.lance/data/x.parquet"),
        link.join("new/x.parquet"),
        folder.path().join("a/../toy.db/x.parquet"),
    ] {
        let error = refused(&store, &session, &format!("COPY (SELECT 1) TO '{}'", place.display())).await;
        assert!(error.contains("lies in the database's folder"), "{error}");
        let error =
            refused(&store, &session, &format!("EXPLAIN ANALYZE COPY (SELECT 1) TO '{}'", place.display())).await;
        assert!(error.contains("lies in the database's folder"), "{error}");
        let create = format!("CREATE EXTERNAL TABLE x (a INT) STORED AS PARQUET LOCATION '{}'", place.display());
        let error = refused(&store, &session, &create).await;
        assert!(error.contains("lies in the database's folder"), "{error}");
        assert!(!place.exists());
    }
}

/// What is reported is what is in the database, and the session sees it.
#[tokio::test]
async fn a_change_that_commits_is_waited_for_and_one_before_that_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let (store, session) = toy(folder.path()).await;
    let update =
        |label: &str| session.parse(&format!("UPDATE images SET label = '{label}'")).unwrap().remove(0).unwrap();
    let version = store.version(schema::IMAGES).await.unwrap();
    let dropped = cancel::unless(std::future::ready(()), &session, session.run(update("early"))).await;
    assert!(dropped.is_none());
    assert_eq!(store.version(schema::IMAGES).await.unwrap(), version, "nothing was written");

    let committing = std::future::poll_fn(|context| {
        context.waker().wake_by_ref();
        if session.is_committing() { Poll::Ready(()) } else { Poll::Pending }
    });
    let done = cancel::unless(committing, &session, session.run(update("late"))).await;
    done.expect("it was waited for").unwrap();
    assert!(!session.is_committing());
    assert_eq!(number(&session, "SELECT count(*) FROM images WHERE label = 'late'").await, 91);
    // the lock is free again
    assert_eq!(number(&session, "DELETE FROM images WHERE label = 'early'").await, 0);
}
