//! Wrong inputs: each gets one line with the facts and the next step, and nothing is lost.

use outskirt::bank::{self, BankSpec};
use outskirt::index::IndexKind;
use outskirt::store::Store;
use outskirt::{Error, schema};

use super::fixture::{TOY, calibrated, circle, outskirt, toy_database};

async fn refused(db: &std::path::Path, arguments: &[&str]) -> String {
    let error = outskirt(db, arguments).await.unwrap_err();
    assert_eq!(error.lines().count(), 1, "one line: {error}");
    error
}

#[tokio::test]
async fn no_database() {
    let folder = tempfile::tempdir().unwrap();
    for command in [&["bank", "list"][..], &["sql", "SELECT 1"], &["evaluate", "b", "--id", "x", "--ood", "y"]] {
        let error = refused(folder.path(), command).await;
        assert!(error.starts_with("no database at ") && error.contains("outskirt ingest"), "{error}");
    }
    let error = Store::create("gs://bucket/db".as_ref()).await.unwrap_err();
    assert!(matches!(error, Error::RemoteDatabase { .. }), "{error}");
}

#[tokio::test]
async fn a_database_of_a_newer_schema() {
    let folder = tempfile::tempdir().unwrap();
    let store = toy_database(folder.path()).await;
    let row = serde_json::json!({"version": 99, "name": "from_the_future", "applied_at": "2030-01-01T00:00:00"});
    let lock = store.lock().await.unwrap();
    store.write_rows(&lock, schema::SCHEMA_MIGRATIONS, &[], &[row]).await.unwrap();
    drop(lock);
    let error = refused(folder.path(), &["bank", "list"]).await;
    assert!(error.contains("has schema 99, this outskirt knows up to 5: use a newer outskirt"), "{error}");
}

#[tokio::test]
async fn a_second_writer() {
    let folder = tempfile::tempdir().unwrap();
    let store = toy_database(folder.path()).await;
    let held = store.lock().await.unwrap();
    let error = bank::create(&store, &circle(IndexKind::Exact)).await.unwrap_err().to_string();
    assert!(error.starts_with("another program is writing to ") && error.contains("run this again"), "{error}");
    // reading goes on beside a writer
    outskirt(folder.path(), &["sql", "SELECT count(*) FROM images"]).await.unwrap();
    drop(held);
    bank::create(&store, &circle(IndexKind::Exact)).await.unwrap();
}

/// Each command that takes one says so of a predicate that is a number or a text, not of what it wrote around it.
#[tokio::test]
async fn predicates_that_are_no_conditions() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    calibrated(&db, IndexKind::Exact).await;
    let [out, page] = ["out", "out.html"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    for (predicate, what) in
        [("id", "a number"), ("uri", "a text"), ("toy", "a list"), ("knn_ood_score(toy, 'circle')", "a number")]
    {
        for command in [
            &["bank", "create", "b", "--backbone", TOY, "--k", "1", "--where", predicate][..],
            &["bank", "calibrate", "circle", "--where", predicate],
            &["delete", "--where", predicate],
            &["evaluate", "circle", "--id", "split = 'test'", "--ood", predicate],
            &["evaluate", "circle", "--ood", "split = 'test'", "--id", predicate],
            &["report", "--bank", "circle", "--out", &page, "--where", predicate],
            &["export", "--to", &out, "--as", "csv", "--where", predicate],
            &["curate", "sample", "--bank", "circle", "--n", "1", "--strategy", "outlier", "--where", predicate],
            &["curate", "dedup", "--by", "content", "--where", predicate],
            &["curate", "tag", "--set", "a=b", "--where", predicate],
            &["curate", "keep", "--where", predicate],
            &["curate", "delete", "--where", predicate],
            &["query", "top_outliers", "--param", &format!("where={predicate}")],
            &["query", "drift", "--param", "before=true", "--param", &format!("after={predicate}")],
        ] {
            let error = refused(&db, command).await;
            // a bank's own may not call functions that a bank has
            let expected = format!("predicate ({predicate}): it is {what}, where a condition is true or false");
            assert!(
                error.starts_with(&expected) || predicate.contains("knn") && command[0] == "bank",
                "{command:?}: {error}"
            );
        }
    }
    assert!(!std::path::Path::new(&out).exists() && !std::path::Path::new(&page).exists());
}

#[tokio::test]
async fn banks_that_cannot_be_made() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), IndexKind::Exact).await;
    let fails = async |change: fn(&mut BankSpec)| {
        let mut spec = BankSpec { name: "other".into(), ..circle(IndexKind::Exact) };
        change(&mut spec);
        bank::create(&store, &spec).await.unwrap_err().to_string()
    };
    let error = fails(|spec| spec.name = "circle".into()).await;
    assert!(error.contains("bank 'circle' exists already"), "{error}");
    let error = fails(|spec| spec.name = "My Bank".into()).await;
    assert!(error.contains("'My Bank' cannot name a bank"), "{error}");
    let error = fails(|spec| spec.k = 41).await;
    assert!(error.contains("k = 41 is out of range for bank 'other': it holds 40 embeddings"), "{error}");
    let error = fails(|spec| spec.k = 0).await;
    assert!(error.contains("k = 0 is out of range"), "{error}");
    let error = fails(|spec| spec.alpha = 1.5).await;
    assert!(error.contains("alpha = 1.5"), "{error}");
    let error = fails(|spec| spec.backbone = "vit".into()).await;
    assert!(error.contains("no images have an embedding of backbone 'vit': known are toy"), "{error}");
    let error = fails(|spec| spec.predicate = "dataset = 'nothing'".into()).await;
    assert!(error.contains("no images match (dataset = 'nothing')"), "{error}");
    let error = fails(|spec| spec.predicate = "colour = 'red'".into()).await;
    assert!(error.starts_with("predicate (colour = 'red'): ") && error.lines().count() == 1, "{error}");
    let error = fails(|spec| spec.predicate = "random() < 0.5".into()).await;
    assert!(error.contains("random() gives another answer each time"), "{error}");
    let error = fails(|spec| spec.predicate = "true) OR (true".into()).await;
    assert!(error.starts_with("predicate (true) OR (true): "), "{error}");
    assert_eq!(bank::list(&store).await.unwrap().len(), 1, "nothing was written");
}

#[tokio::test]
async fn unknown_banks_list_the_known_ones() {
    let folder = tempfile::tempdir().unwrap();
    toy_database(folder.path()).await;
    let error = refused(folder.path(), &["bank", "drop", "circle"]).await;
    assert!(error.contains("unknown bank 'circle': there is none yet"), "{error}");
    let (store, _) = (Store::open(folder.path()).await.unwrap(), ());
    bank::create(&store, &circle(IndexKind::Exact)).await.unwrap();
    for command in [
        &["bank", "drop", "square"][..],
        &["bank", "calibrate", "square", "--where", "true"],
        &["evaluate", "square", "--id", "true", "--ood", "true"],
    ] {
        let error = refused(folder.path(), command).await;
        assert!(error.contains("unknown bank 'square': known are circle"), "{error}");
    }
}

#[tokio::test]
async fn calibration_inside_the_bank_and_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = toy_database(folder.path()).await;
    bank::create(&store, &circle(IndexKind::Exact)).await.unwrap();
    let error = bank::calibrate(&store, "circle", "dataset = 'id'", None).await.unwrap_err().to_string();
    assert!(error.starts_with("40 of the 80 calibration images (dataset = 'id') are rows of bank 'circle'"), "{error}");
    let error = bank::calibrate(&store, "circle", "dataset = 'x'", None).await.unwrap_err().to_string();
    assert!(error.contains("no images match"), "{error}");
    let query = format!("SELECT is_ood({TOY}, 'circle') FROM images");
    let error = refused(folder.path(), &["sql", &query]).await;
    assert!(
        error.contains("bank 'circle' is not calibrated for k = 5: run 'outskirt bank calibrate circle"),
        "{error}"
    );
}

#[tokio::test]
async fn hnsw_search_without_a_graph() {
    let folder = tempfile::tempdir().unwrap();
    calibrated(folder.path(), IndexKind::Exact).await;
    let query = format!("SET outskirt.search = 'hnsw'; SELECT knn_ood_score({TOY}, 'circle') FROM images");
    let error = refused(folder.path(), &["sql", &query]).await;
    assert!(error.contains("bank 'circle' has no HNSW index"), "{error}");
}

#[tokio::test]
async fn wrong_sql_and_missing_files() {
    let folder = tempfile::tempdir().unwrap();
    toy_database(folder.path()).await;
    for query in ["SELEC 1", "SELECT nothing FROM images", "SELECT * FROM 'missing.csv'", ""] {
        refused(folder.path(), &["sql", query]).await;
    }
    for query in ["BEGIN", "COMMIT", "ROLLBACK"] {
        let error = refused(folder.path(), &["sql", query]).await;
        assert!(error.contains("several statements is not supported: each statement is one commit"), "{error}");
    }
    let error = refused(folder.path(), &["sql", "-f", "missing.sql"]).await;
    assert!(error.contains("no such file or folder: missing.sql"), "{error}");
}

#[tokio::test]
async fn an_embedding_of_another_network() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), IndexKind::Exact).await;
    let lock = store.lock().await.unwrap();
    let column = |backbone: &str, sha256: &str, dimension| outskirt::store::EmbeddingColumn {
        backbone: backbone.into(),
        sha256: sha256.repeat(64),
        dimension,
        precision: "f32".into(),
    };
    store.add_embedding_column(&lock, &column("twin", "b", 3)).await.unwrap();
    let error = refused(folder.path(), &["sql", "SELECT knn_ood_score(twin, 'circle') FROM images"]).await;
    assert!(
        error.contains("column twin holds embeddings of backbone 'twin', bank 'circle' holds those of 'toy'"),
        "{error}"
    );
    let error = store.add_embedding_column(&lock, &column(TOY, "b", 3)).await.unwrap_err().to_string();
    assert!(error.contains("holds embeddings of weights sha256 aaaa"), "{error}");
    let error = store.add_embedding_column(&lock, &column("label", "b", 3)).await.unwrap_err().to_string();
    assert!(error.contains("'label' is a column of the table images already"), "{error}");
}

#[tokio::test]
async fn a_creation_that_was_interrupted_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    for table in [schema::IMAGES, schema::SCHEMA_MIGRATIONS] {
        std::fs::create_dir_all(folder.path().join(format!("{table}.lance/data"))).unwrap();
    }
    let error = refused(folder.path(), &["bank", "list"]).await;
    assert!(error.starts_with("no database at "), "{error}");
    let store = toy_database(folder.path()).await;
    assert_eq!(store.count(schema::IMAGES).await.unwrap(), 91);
}

/// lancedb takes `..` off a path by letters, the system follows the link first.
#[cfg(unix)]
#[tokio::test]
async fn a_database_behind_a_link_and_dots_is_the_one_that_the_system_finds() {
    let folder = tempfile::tempdir().unwrap();
    let (real, other) = (folder.path().join("real/inner"), folder.path().join("here"));
    std::fs::create_dir_all(&real).unwrap();
    std::fs::create_dir_all(&other).unwrap();
    std::os::unix::fs::symlink(&real, other.join("link")).unwrap();
    // link/../db is real/db; by letters it would be here/db
    let store = toy_database(&folder.path().join("real/db")).await;
    let by_letters = toy_database(&other.join("db")).await;
    let lock = by_letters.lock().await.unwrap();
    by_letters.delete(&lock, schema::IMAGES, "id > 10").await.unwrap();
    drop(lock);
    let through = other.join("link/../db");
    let count = |store: Store| async move { store.count(schema::IMAGES).await.unwrap() };
    assert_eq!(count(Store::open(&through).await.unwrap()).await, 91);
    assert_eq!(count(Store::create(&through).await.unwrap()).await, 91, "creating it again destroys nothing");
    assert_eq!(count(store).await, 91);
    // nothing is there by letters
    std::fs::remove_dir_all(other.join("db")).unwrap();
    assert_eq!(count(Store::create(&through).await.unwrap()).await, 91);
    assert!(!other.join("db").exists());
}

#[tokio::test]
async fn files_of_a_half_restored_backup_are_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("images.lance/data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("0001.lance"), "rows").unwrap();
    let error = Store::create(folder.path()).await.unwrap_err().to_string();
    assert!(error.contains("is not a table of outskirt's") && error.contains("holds data/0001.lance"), "{error}");
    assert_eq!(std::fs::read(data.join("0001.lance")).unwrap(), b"rows");
    assert!(!folder.path().join("banks.lance").exists(), "nothing was made beside it");
}

#[tokio::test]
async fn a_table_of_somebody_else_is_refused_before_it_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    // a database of ours whose record is gone: its images are there, and nobody says that they are ours
    let store = toy_database(folder.path()).await;
    let version = store.version(schema::IMAGES).await.unwrap();
    drop(store);
    std::fs::remove_dir_all(folder.path().join("schema_migrations.lance")).unwrap();
    let error = Store::create(folder.path()).await.unwrap_err().to_string();
    assert!(error.contains("images.lance is not a table of outskirt's") && error.contains("91 rows"), "{error}");
    // and one of other columns
    let other = folder.path().join("other");
    std::fs::create_dir_all(&other).unwrap();
    let connection = folder.path().join("banks.lance");
    std::fs::rename(connection, other.join("images.lance")).unwrap();
    let error = Store::create(&other).await.unwrap_err().to_string();
    assert!(error.contains("its table has no column id of UInt64"), "{error}");
    assert!(!other.join("banks.lance").exists());
    // put together again, it is as it was
    std::fs::rename(other.join("images.lance"), folder.path().join("banks.lance")).unwrap();
    assert!(folder.path().join("images.lance").is_dir() && version > 0);
}

#[tokio::test]
async fn an_id_that_leaves_none_for_others_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = toy_database(folder.path()).await;
    let lock = store.lock().await.unwrap();
    let rows: Vec<arrow::array::RecordBatch> = {
        use futures::TryStreamExt;
        let names: Vec<String> =
            store.schema(schema::IMAGES).await.unwrap().fields().iter().map(|field| field.name().clone()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        store.scan(schema::IMAGES, None, &names, Some("id = 1")).await.unwrap().try_collect().await.unwrap()
    };
    let mut columns = rows[0].columns().to_vec();
    columns[rows[0].schema().index_of(schema::ID).unwrap()] =
        std::sync::Arc::new(arrow::array::UInt64Array::from(vec![u64::MAX]));
    let row = arrow::array::RecordBatch::try_new(rows[0].schema(), columns).unwrap();
    store.append(&lock, schema::IMAGES, row).await.unwrap();
    drop(lock);
    let insert = "INSERT INTO images (dataset, split, uri, width, height, content_hash) VALUES ('a','b','c',1,1,'')";
    let error = refused(folder.path(), &["sql", insert]).await;
    assert!(error.contains("images holds id 18446744073709551615"), "{error}");
    let error = refused(folder.path(), &["verify"]).await;
    assert!(error.contains("problem"), "{error}");
    // the row is not ours: without it all is as before
    outskirt(folder.path(), &["sql", "DELETE FROM images WHERE id = 18446744073709551615"]).await.unwrap();
    outskirt(folder.path(), &["sql", insert]).await.unwrap();
    // and nobody can choose an id after which there are none
    for id in [i64::MAX as u64, 1 << 61] {
        let columns = "INSERT INTO images (id, dataset, split, uri, width, height, content_hash)";
        let error = refused(folder.path(), &["sql", &format!("{columns} VALUES ({id},'a','b','d',1,1,'')")]).await;
        assert!(error.contains("is not below 2305843009213693952"), "{error}");
    }
}

#[tokio::test]
async fn csv_of_embeddings_is_refused_before_its_header() {
    let folder = tempfile::tempdir().unwrap();
    toy_database(folder.path()).await;
    let error = refused(folder.path(), &["sql", "SELECT * FROM images", "--format", "csv"]).await;
    assert!(error.contains("column toy holds") && error.contains("--format json"), "{error}");
}

#[tokio::test]
async fn an_evaluation_cannot_be_talked_out_of_its_parentheses() {
    let folder = tempfile::tempdir().unwrap();
    calibrated(folder.path(), IndexKind::Exact).await;
    let evaluate = ["evaluate", "circle", "--id", "split = 'test'", "--ood", "dataset = 'x') OR (dataset = 'unseen'"];
    let error = refused(folder.path(), &evaluate).await;
    assert!(error.starts_with("predicate (dataset = 'x') OR (dataset = 'unseen'): "), "{error}");
    let unseen = ["evaluate", "circle", "--id", "split = 'test'", "--ood", "dataset = 'unseen'"];
    let error = refused(folder.path(), &unseen).await;
    assert!(error.contains("matches no image with an embedding"), "{error}");
}

/// What DataFusion, Lance and object_store say is passed on in plain words.
#[tokio::test]
async fn errors_of_other_crates_are_one_line_of_facts() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    drop(toy_database(&db).await);
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let exhausted = "SET datafusion.runtime.memory_limit = '1M'; \
                     SELECT count(*) FROM (SELECT DISTINCT value FROM generate_series(1, 3000000))";
    for (query, says) in [
        (exhausted.into(), "SET datafusion.runtime.memory_limit higher"),
        ("SELECT * FROM 'http://me:secret@localhost:1/x.csv?key=secret'".into(), "http://localhost:1/x.csv is none"),
        ("SELECT * FROM 's3://bucket/x.csv'".into(), "s3://bucket/x.csv is none: copy it here"),
        ("COPY (SELECT 1) TO 's3://bucket/x.csv'".into(), "s3://bucket/x.csv is none"),
        (
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'gs://bucket/x.csv'".into(),
            "gs://bucket/x.csv is none: copy it here",
        ),
        ("SELECT * FROM 'nothing.csv'".into(), "no such file or folder: nothing.csv"),
        ("SELECT * FROM imagess".into(), "unknown table 'imagess': did you mean images?"),
        (format!("SELECT * FROM '{}'", file("bad.arrow", b"no arrow")), "Failed to parse Arrow file"),
        (format!("SELECT * FROM '{}'", file("bad.parquet", &[7; 3000])), "Invalid Parquet file"),
        ("SELECT id FROM images WHERE row_number() OVER (ORDER BY id) = 1".into(), "write QUALIFY instead of WHERE"),
        ("SELECT count(*) FROM images WHERE uri ~ '('".into(), "regex parse error"),
        ("SELECT count(*) FROM images WHERE uri = 3".into(), "uri is text and 3 is a number"),
    ] {
        let error = refused(&db, &["sql", &query]).await;
        assert!(error.contains(says), "{query}: {error}");
        for foreign in [".rs:", ".cargo", "/rustc/", "bug report", "issue tracker", "datafusion.public", "secret"] {
            assert!(!error.contains(foreign), "{query}: {error}");
        }
        assert!(error.chars().count() < 800, "{error}");
    }
}

/// Whatever happened to a file of values, the error says that one is damaged, and what to do.
#[tokio::test]
async fn a_damaged_data_file_is_one_line_with_the_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    drop(toy_database(db).await);
    let data = db.join("images.lance/data");
    let path = std::fs::read_dir(&data).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&path).unwrap();
    let end = whole.len();
    let with = |at: usize, bytes: &[u8]| {
        let mut damaged = whole.clone();
        damaged[at..at + bytes.len()].copy_from_slice(bytes);
        damaged
    };
    let damaged = [
        Some(Vec::new()),
        Some(whole[..100].to_vec()),
        Some(whole[..end - 1].to_vec()),
        Some(with(end - 4, b"XXXX")),
        Some(with(end - 40, &[0xff; 40])),
        Some(vec![0; end]),
        None,
    ];
    for (at, bytes) in damaged.iter().enumerate() {
        match bytes {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        for command in
            [&["sql", "SELECT * FROM images", "--format", "json"][..], &["sql", "SELECT min(uri) FROM images"]]
        {
            let error = refused(db, command).await;
            assert!(error.starts_with("a file of the database cannot be read or written ("), "{at}: {error}");
            assert!(error.contains("'outskirt verify' says what is damaged"), "{at}: {error}");
            assert!(!error.contains(".rs:"), "{at}: {error}");
        }
        let error = refused(db, &["verify"]).await;
        assert!(error.contains("problems in the database at "), "{at}: {error}");
    }
    std::fs::write(&path, &whole).unwrap();
    outskirt(db, &["verify"]).await.unwrap();
}

/// Lance panics where a data file says that a column begins beyond its end: a query says so, and the session lives.
#[tokio::test]
async fn a_panic_over_a_damaged_data_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    drop(toy_database(db).await);
    let path = std::fs::read_dir(db.join("images.lance/data")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 40..end - 24].fill(0x55);
    std::fs::write(&path, &bytes).unwrap();
    let error = refused(db, &["sql", "SELECT min(uri) FROM images"]).await;
    assert!(error.contains("'outskirt verify' says "), "{error}");
    let error = refused(db, &["verify"]).await;
    assert!(error.contains("problems in the database at "), "{error}");
}

/// A command that writes one table and then finds another missing would leave half of its work.
#[tokio::test]
async fn a_missing_table_is_told_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    drop(toy_database(&db).await);
    for table in schema::TABLES.into_iter().filter(|table| *table != schema::SCHEMA_MIGRATIONS) {
        let (here, away) = (db.join(format!("{table}.lance")), folder.path().join("away"));
        std::fs::rename(&here, &away).unwrap();
        let before = std::fs::read_dir(&db).unwrap().count();
        let error = refused(&db, &["sql", "UPDATE images SET label = 'x'"]).await;
        assert!(error.starts_with(&format!("table {table} is missing: there is no folder ")), "{error}");
        assert!(matches!(Store::create(&db).await.unwrap_err(), Error::MissingTable { .. }));
        assert_eq!(std::fs::read_dir(&db).unwrap().count(), before);
        std::fs::rename(&away, &here).unwrap();
    }
    outskirt(&db, &["sql", "UPDATE images SET label = 'x'"]).await.unwrap();
}

#[tokio::test]
async fn a_folder_of_somebody_elses_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("images.lance/data");
    std::fs::create_dir_all(&table).unwrap();
    std::fs::write(table.join("theirs"), "x").unwrap();
    let error = Store::create(folder.path()).await.unwrap_err();
    assert!(matches!(error, Error::ForeignTable { .. }), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no lock of ours is left in it");
}

#[tokio::test]
async fn a_damaged_manifest_is_one_line_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    drop(calibrated(db, IndexKind::Exact).await);
    for table in schema::TABLES {
        let versions = db.join(format!("{table}.lance/_versions"));
        let mut files: Vec<_> = std::fs::read_dir(&versions).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "manifest"));
        // the name is what is left of the largest number: the latest comes first
        files.sort();
        let whole = std::fs::read(&files[0]).unwrap();
        let end = whole.len();
        let with = |at: usize, bytes: &[u8]| {
            let mut damaged = whole.clone();
            damaged[at..at + bytes.len()].copy_from_slice(bytes);
            damaged
        };
        let begins = u64::from_le_bytes(whole[end - 16..end - 8].try_into().unwrap());
        let damaged = [
            Vec::new(),
            whole[..10].to_vec(),
            whole[..end / 2].to_vec(),
            whole[..end - 1].to_vec(),
            [&whole[..], &[0]].concat(),
            vec![0; end],
            with(end - 4, b"XXXX"),
            with(end - 16, &u64::MAX.to_le_bytes()),
            with(end - 16, &(end as u64).to_le_bytes()),
            with(end - 16, &(begins + 1).to_le_bytes()),
            with(begins as usize, &u32::MAX.to_le_bytes()),
        ];
        for bytes in damaged {
            std::fs::write(&files[0], &bytes).unwrap();
            let error = refused(db, &["sql", "SELECT count(*) FROM images"]).await;
            let expected = format!("table {table} is damaged: its latest manifest ");
            assert!(error.starts_with(&expected) && error.contains("move that file away"), "{error}");
        }
        // as the error says: the version before is whole
        if table == schema::IMAGES {
            std::fs::remove_file(&files[0]).unwrap();
            outskirt(db, &["sql", "SELECT 1"]).await.unwrap();
        }
        std::fs::write(&files[0], &whole).unwrap();
    }
    // within, every byte is wrong once: an error or an answer
    let versions = db.join("images.lance/_versions");
    let path = std::fs::read_dir(&versions).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    let whole = std::fs::read(&path).unwrap();
    for at in (0..whole.len() - 16).step_by(23) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        std::fs::write(&path, &damaged).unwrap();
        if let Err(error) = outskirt(db, &["sql", "SELECT count(*), min(uri) FROM images"]).await {
            assert!(!error.contains("panicked"), "{at}: {error}");
        }
    }
}
