//! Views: kept in the database, planned anew in every session, refused where they would not last.

use std::path::Path;

use outskirt::index::IndexKind;

use super::fixture::{calibrated, outskirt};

/// Rows of a query as CSV without the header.
async fn rows(db: &Path, query: &str) -> Vec<String> {
    let (out, _) =
        outskirt(db, &["sql", query, "--format", "csv"]).await.unwrap_or_else(|error| panic!("{query}: {error}"));
    out.lines().skip(1).map(String::from).collect()
}

async fn run(db: &Path, text: &str) {
    outskirt(db, &["sql", text]).await.unwrap_or_else(|error| panic!("{text}: {error}"));
}

async fn refused(db: &Path, text: &str) -> String {
    let before = rows(db, "SELECT name, definition FROM views ORDER BY name").await;
    let error = outskirt(db, &["sql", text]).await.expect_err(text);
    assert_eq!(error.lines().count(), 1, "one line: {error}");
    assert_eq!(before, rows(db, "SELECT name, definition FROM views ORDER BY name").await, "{text}: {error}");
    error
}

#[tokio::test]
async fn views_stay() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    calibrated(db, IndexKind::Exact).await;
    let scored = "CREATE VIEW scored AS SELECT id, dataset, knn_ood_score(toy, 'circle') AS score FROM images";
    run(db, scored).await;
    run(db, "CREATE VIEW odd AS SELECT * FROM scored WHERE score > knn_ood_threshold('circle')").await;
    assert_eq!(rows(db, "SELECT count(*) FROM odd WHERE dataset = 'ood'").await, ["10"]);
    let listed = "SELECT table_name FROM information_schema.tables WHERE table_type = 'VIEW' AND table_schema = 'public' ORDER BY 1";
    assert_eq!(rows(db, listed).await, ["odd", "scored"]);
    let (tables, _) = outskirt(db, &["sql", "SHOW TABLES"]).await.unwrap();
    assert!(tables.contains("| scored"), "{tables}");
    assert_eq!(
        rows(db, "SELECT name FROM views WHERE definition LIKE 'CREATE VIEW %' ORDER BY created_at").await,
        ["scored", "odd"]
    );

    // a session sees its own changes through them
    let text = "DELETE FROM images WHERE id IN (SELECT id FROM odd WHERE dataset = 'ood'); SELECT count(*) FROM odd WHERE dataset = 'ood'";
    let (out, _) = outskirt(db, &["sql", text, "--format", "csv"]).await.unwrap();
    assert_eq!(out, "count\n10\ncount(*)\n0\n");

    // replaced: what reads it follows, in this session and the next
    let error = refused(db, scored).await;
    assert!(error.contains("'scored' is a view of this database: CREATE OR REPLACE VIEW changes it"), "{error}");
    run(db, "CREATE VIEW IF NOT EXISTS scored AS SELECT 1").await;
    run(db, "CREATE VIEW base AS SELECT id, dataset, toy FROM images WHERE split = 'val'").await;
    let text = "CREATE OR REPLACE VIEW scored AS SELECT id, dataset, knn_ood_score(toy, 'circle') AS score FROM base;
                CREATE OR REPLACE VIEW odd AS SELECT count(*) FROM scored; SELECT * FROM odd";
    assert_eq!(rows(db, text).await, ["20"]);
    assert_eq!(rows(db, "SELECT * FROM odd").await, ["20"], "although base was made after scored");
    let error = refused(db, "DROP VIEW base").await;
    assert!(error.contains("view 'base' is read by view 'scored': drop that one first"), "{error}");
    run(db, "DROP VIEW odd; DROP VIEW scored; DROP VIEW base; DROP VIEW IF EXISTS base").await;
    assert!(rows(db, "SELECT * FROM views").await.is_empty());
    assert!(rows(db, listed).await.is_empty());
    // columns with names, and quotes in the text
    run(db, "CREATE VIEW public.\"order\" AS SELECT 1 AS one; CREATE VIEW Two AS SELECT one + 1 FROM \"order\"").await;
    assert_eq!(rows(db, "SELECT * FROM two").await, ["2"]);
    run(db, "CREATE VIEW named (a, \"B c\") AS SELECT 'it''s', id FROM public.images WHERE uri <> '\"'").await;
    assert_eq!(rows(db, "SELECT a, count(\"B c\") FROM named GROUP BY a").await, ["it's,81"]);
}

#[tokio::test]
async fn views_that_would_not_last() {
    let folder = tempfile::tempdir().unwrap();
    let db = &folder.path().join("toy.db");
    calibrated(db, IndexKind::Exact).await;
    let csv = folder.path().join("cameras.csv");
    std::fs::write(&csv, "uri,camera\n/pictures/0.png,left\n").unwrap();
    let csv = csv.display();
    run(db, &format!("CREATE VIEW cameras AS SELECT i.id, c.camera FROM images i JOIN '{csv}' c ON i.uri = c.uri"))
        .await;
    assert_eq!(rows(db, "SELECT * FROM cameras").await, ["1,left"]);
    run(db, "CREATE VIEW loop AS SELECT id FROM cameras").await;

    let external =
        format!("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '{csv}' OPTIONS ('format.has_header' 'true')");
    for (text, says) in [
        (
            "CREATE TABLE x AS SELECT 1 AS a; CREATE VIEW v AS SELECT * FROM x".to_string(),
            "view 'v' would read 'x', which is there in this session only",
        ),
        (
            format!("{external}; CREATE VIEW v AS SELECT 1 WHERE EXISTS (SELECT * FROM x)"),
            "view 'v' would read 'x', which is there in this session only",
        ),
        (
            "CREATE SCHEMA s; CREATE TABLE s.x AS SELECT 1; CREATE VIEW v AS SELECT * FROM s.x".into(),
            "would read 'x', which is there in this session only",
        ),
        (
            "CREATE TABLE v AS SELECT 1 AS a; CREATE OR REPLACE VIEW v AS SELECT 1".into(),
            "'v' is a table of this session: choose another name",
        ),
        (
            "CREATE OR REPLACE VIEW cameras AS SELECT * FROM loop".into(),
            "view 'cameras' would read 'loop', and so itself",
        ),
        ("CREATE OR REPLACE VIEW loop AS SELECT * FROM loop".into(), "view 'loop' would read 'loop', and so itself"),
        ("CREATE VIEW v AS SELECT knn_ood_score(toy, 'square') FROM images".into(), "unknown bank 'square'"),
        ("CREATE VIEW v AS SELECT id FROM images WHERE is_ood(toy, 'square')".into(), "unknown bank 'square'"),
        ("CREATE VIEW v AS SELECT nothing FROM images".into(), "nothing"),
        ("CREATE VIEW v AS SELECT * FROM nowhere".into(), "nowhere"),
        ("CREATE VIEW v AS SELECT a.id, b.id FROM images a, images b".into(), "id"),
        ("CREATE VIEW \"My view\" AS SELECT 1".into(), "'My view' cannot name a view"),
        ("CREATE VIEW views AS SELECT 1".into(), "'views' is a table of the database"),
        ("CREATE VIEW other.v AS SELECT 1".into(), "'other.v' cannot name a view"),
        ("CREATE TEMPORARY VIEW v AS SELECT 1".into(), "Temporary views not supported"),
        ("CREATE MATERIALIZED VIEW v AS SELECT 1".into(), "Materialized views not supported"),
        ("DROP VIEW v".into(), "unknown view 'v': known are cameras, loop"),
        ("DROP VIEW loop, cameras".into(), "drop them one by one"),
        ("DROP TABLE cameras".into(), "'cameras' is a view of this database"),
        ("CREATE OR REPLACE TABLE cameras AS SELECT 1".into(), "'cameras' is a view of this database"),
        ("DELETE FROM loop".into(), "'loop' is a view of this database: rows are changed in the table"),
    ] {
        let error = refused(db, &text).await;
        assert!(error.contains(says), "{text}: {error}");
        assert_eq!(rows(db, "SELECT * FROM loop").await, ["1"], "{text}");
    }
    let relative = refused(db, "CREATE VIEW v AS SELECT * FROM 'Cargo.toml.csv'").await;
    assert!(relative.contains("Cargo.toml.csv"), "{relative}");
    // the writer's lock
    let store = outskirt::store::Store::open(db).await.unwrap();
    let held = store.lock().await.unwrap();
    for text in ["CREATE VIEW v AS SELECT 1", "DROP VIEW loop"] {
        let error = refused(db, text).await;
        assert!(error.starts_with("another program is writing to "), "{error}");
    }
    drop(held);
}

#[tokio::test]
async fn a_view_that_lost_its_bank_breaks_itself_only() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    calibrated(db, IndexKind::Exact).await;
    run(db, "CREATE VIEW scored AS SELECT id, knn_ood_score(toy, 'circle') AS score FROM images").await;
    run(db, "CREATE VIEW top AS SELECT * FROM scored ORDER BY score DESC LIMIT 3").await;
    run(db, "CREATE VIEW fine AS SELECT count(*) FROM images").await;
    outskirt(db, &["bank", "drop", "circle"]).await.unwrap();
    assert_eq!(rows(db, "SELECT * FROM fine").await, ["91"]);
    assert_eq!(rows(db, "SELECT name FROM views ORDER BY name").await, ["fine", "scored", "top"]);
    for text in [
        "SELECT score FROM scored",
        "SELECT 1 WHERE 1 IN (SELECT id FROM scored)",
        "DELETE FROM images WHERE id IN (SELECT id FROM scored)",
    ] {
        let error = refused(db, text).await;
        assert!(
            error.starts_with("view 'scored' does not work: ") && error.contains("unknown bank 'circle'"),
            "{error}"
        );
    }
    let error = refused(db, "SELECT * FROM top").await;
    assert!(error.starts_with("view 'top' does not work: "), "{error}");
    let error = refused(db, "CREATE VIEW v AS SELECT * FROM scored").await;
    assert!(error.starts_with("view 'scored' does not work: "), "{error}");
    // dropped, replaced, or whole again with its bank
    let bank = ["bank", "create", "circle", "--backbone", "toy", "--where", "split = 'train'", "--k", "5"];
    outskirt(db, &bank).await.unwrap();
    assert_eq!(rows(db, "SELECT count(*) FROM top").await, ["3"]);
    outskirt(db, &["bank", "drop", "circle"]).await.unwrap();
    run(db, "CREATE OR REPLACE VIEW scored AS SELECT id, id * 2 AS score FROM images").await;
    assert_eq!(rows(db, "SELECT max(score) FROM top").await, ["182"]);
    run(db, "DROP VIEW top; DROP VIEW scored").await;
    assert_eq!(rows(db, "SELECT name FROM views").await, ["fine"]);
}
