//! A confined session: what is not named is refused.

use std::path::Path;

use outskirt::backbone::Trusted;
use outskirt::index::IndexKind;
use outskirt::sql::policy::{Confinement, Policy};
use outskirt::sql::session::Session;
use outskirt::store::Store;

use super::fixture::calibrated;

async fn confined(store: &Store, confinement: Confinement) -> Session {
    Session::with_policy(store, &Policy::confined(confinement, Trusted::default())).await.unwrap()
}

/// The number of rows that a statement gives, or its error.
async fn run(session: &Session, statement: &str) -> Result<usize, String> {
    use futures::TryStreamExt;
    let parsed = session.parse(statement).unwrap().pop_front().unwrap();
    let rows = session.run(parsed).await.map_err(|error| error.to_string())?;
    let batches: Vec<_> = rows.try_collect().await.map_err(|error| error.to_string())?;
    Ok(batches.iter().map(|batch: &arrow::array::RecordBatch| batch.num_rows()).sum())
}

async fn refused(session: &Session, statement: &str, missing: &str) {
    let error = run(session, statement).await.expect_err(statement);
    assert!(error.contains("this session is confined, and ") && error.contains(missing), "{statement}: {error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

const NOT_READ: &str = "it is not among the folders and addresses that it may read";

fn csv(path: &Path) -> String {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, "a,b\n1,2\n3,4\n").unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn a_confined_session_reads_its_database_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(&folder.path().join("db"), IndexKind::Exact).await;
    let file = csv(&folder.path().join("in/a.csv"));
    let free = Session::open(&store).await.unwrap();
    assert_eq!(run(&free, &format!("SELECT * FROM '{file}'")).await, Ok(2));
    run(&free, &format!("CREATE VIEW of_file AS SELECT * FROM '{file}'")).await.unwrap();
    run(&free, "CREATE VIEW few AS SELECT id FROM images WHERE id < 4").await.unwrap();

    let session = confined(&store, Confinement::default()).await;
    for (query, rows) in [
        ("SELECT id, knn_ood_score(toy, 'circle') FROM images WHERE id <= 5", 5),
        ("SELECT * FROM few", 3),
        ("WITH few AS (SELECT 1 AS n) SELECT * FROM few", 1),
        ("PREPARE p AS SELECT id FROM images WHERE id <= $1", 0),
        ("EXECUTE p(2)", 2),
        ("DEALLOCATE p", 0),
        ("DESCRIBE few", 1),
    ] {
        assert_eq!(run(&session, query).await, Ok(rows), "{query}");
    }
    assert!(run(&session, "EXPLAIN ANALYZE SELECT * FROM few").await.is_ok());
    let out = folder.path().join("out.csv").display().to_string();
    for (statement, missing) in [
        (format!("SELECT * FROM '{file}'"), NOT_READ),
        (format!("SELECT * FROM 'file://{file}'"), NOT_READ),
        (format!("SELECT 1 WHERE EXISTS (SELECT * FROM '{file}')"), NOT_READ),
        (format!("SELECT * FROM '{}/in/*.csv'", folder.path().display()), NOT_READ),
        ("SELECT * FROM 'https://host/a.csv'".into(), NOT_READ),
        ("SELECT * FROM of_file".into(), NOT_READ),
        ("SELECT * FROM images@1".into(), "may not read earlier versions of tables"),
        (format!("EXPLAIN SELECT * FROM '{file}'"), NOT_READ),
        (format!("COPY (SELECT 1) TO '{out}'"), "it is not in a folder that it may write into"),
        (format!("EXPLAIN ANALYZE COPY (SELECT 1) TO '{out}'"), "it is not in a folder that it may write into"),
        (format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{file}'"), "may not define or drop anything"),
        ("CREATE TABLE t AS SELECT 1".into(), "may not define or drop anything"),
        ("CREATE VIEW v AS SELECT 1 AS n".into(), "may not define or drop anything"),
        ("DROP VIEW few".into(), "may not define or drop anything"),
        ("CREATE SCHEMA s".into(), "may not define or drop anything"),
        ("DELETE FROM images WHERE id = 1".into(), "may not change data"),
        ("UPDATE images SET label = 'x'".into(), "may not change data"),
        ("TRUNCATE TABLE images".into(), "may not change data"),
        ("INSERT INTO images (dataset, split, uri) VALUES ('a', 'b', 'c')".into(), "may not change data"),
        ("ALTER TABLE images ADD COLUMN camera TEXT".into(), "may not change data"),
        ("SET outskirt.memory_limit = 'unlimited'".into(), "may not change settings"),
        ("RESET outskirt.memory_limit".into(), "may not change settings"),
    ] {
        refused(&session, &statement, missing).await;
    }
    // prepared, they are refused as they are executed
    run(&session, "PREPARE p AS DELETE FROM images WHERE id = 1").await.unwrap();
    refused(&session, "EXECUTE p", "may not change data").await;
    // a name that is no path is what it is to everybody
    let error = run(&session, "SELECT * FROM nothing").await.unwrap_err();
    assert!(error.contains("nothing") && !error.contains("confined"), "{error}");
    let error = session.sql("SET outskirt.memory_limit = '1GB'").await.unwrap_err().to_string();
    assert!(error.contains("may not change settings"), "{error}");
    let error = session.delete_where("id = 1").await.unwrap_err().to_string();
    assert!(error.contains("may not change data"), "{error}");
    assert_eq!(run(&free, "SELECT * FROM images").await, Ok(91), "nothing was changed");
    assert!(!Path::new(&out).exists());
}

#[tokio::test]
async fn a_confined_session_may_do_what_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(&folder.path().join("db"), IndexKind::Exact).await;
    let (inside, outside) = (csv(&folder.path().join("in/a.csv")), csv(&folder.path().join("other/a.csv")));
    csv(&folder.path().join("inner/a.csv"));
    std::os::unix::fs::symlink(&outside, folder.path().join("in/link.csv")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("other"), folder.path().join("in/folder")).unwrap();
    let root = folder.path().display();
    let write = folder.path().join("out");
    std::fs::create_dir(&write).unwrap();
    let session = confined(
        &store,
        Confinement {
            read_folders: vec![folder.path().join("in")],
            write_folders: vec![write.clone()],
            changes: true,
            definitions: true,
            settings: true,
            ..Confinement::default()
        },
    )
    .await;
    for file in
        [&inside, &format!("{root}/in/*a.csv"), &format!("{root}/in/../in/./a.csv"), &format!("file://{inside}")]
    {
        assert_eq!(run(&session, &format!("SELECT * FROM '{file}'")).await, Ok(2), "{file}");
    }
    for file in [
        &outside,
        &format!("{root}/in/../other/a.csv"),
        &format!("{root}/in/link.csv"),
        &format!("{root}/in/folder/a.csv"),
        &format!("{root}/inner/a.csv"),
        &format!("file://{root}/in/%2e%2e/other/a.csv"),
        &format!("{root}/*/a.csv"),
        &format!("{root}/in/*.csv"),
        &format!("{root}/in/f*/a.csv"),
        &format!("{root}/in/[x]/../../other/a.csv"),
        &format!("{root}/in/a.csv*/../../other/a.csv"),
        &format!("file://localhost{root}/in/..%2Fother/a.csv"),
        &format!("file:{root}/other/a.csv"),
    ] {
        refused(&session, &format!("SELECT * FROM '{file}'"), NOT_READ).await;
        let create = format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{file}'");
        refused(&session, &create, NOT_READ).await;
    }
    for statement in [
        format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{inside}'"),
        format!("COPY (SELECT 1 AS n) TO '{}/a.csv'", write.display()),
        "CREATE VIEW v AS SELECT 1 AS n".into(),
        "SET outskirt.memory_limit = '1GB'".into(),
        "DELETE FROM images WHERE id = 1".into(),
    ] {
        run(&session, &statement).await.unwrap();
    }
    refused(&session, "INSERT INTO t VALUES (5, 6)", "may change no table but images").await;
    let not_written = "it is not in a folder that it may write into";
    refused(&session, &format!("COPY (SELECT 1) TO '{root}/out/../a.csv'"), not_written).await;
    refused(&session, &format!("COPY (SELECT 1) TO '{root}/in/b.csv'"), not_written).await;
    refused(&session, &format!("INSERT INTO '{inside}' VALUES (5, 6)"), not_written).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confined_session_embeds_with_its_backbones_what_it_may_read() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(&folder.path().join("db"), IndexKind::Exact).await;
    let picture = b"P6 2 2 255\n............";
    for name in ["in/a.ppm", "other/a.ppm"] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, picture).unwrap();
    }
    let server = super::server::Server::of([
        ("/pictures/a.ppm".to_owned(), picture.to_vec()),
        ("/secret/a.ppm".to_owned(), picture.to_vec()),
    ]);
    let root = folder.path().display();
    std::os::unix::fs::symlink(folder.path().join("other"), folder.path().join("in/link")).unwrap();
    // a list in the folder names what lies outside of it
    std::fs::write(
        folder.path().join("in/list.txt"),
        format!("{root}/other/a.ppm\n{}\n", server.address("/secret/a.ppm")),
    )
    .unwrap();
    let embed = |uri: &str| format!("SELECT embed('{uri}', 'demo_shapes') FROM images WHERE id = 1");
    let bytes = "SELECT embed(X'503620312031203235350aff0000', 'demo_shapes')";
    let none = confined(&store, Confinement::default()).await;
    refused(&none, bytes, "this backbone is not among those that it may use").await;
    let only = Confinement { backbones: vec!["demo_shapes".into()], ..Confinement::default() };
    let only = confined(&store, only).await;
    assert_eq!(run(&only, bytes).await, Ok(1));
    refused(&only, &embed(&format!("{root}/in/a.ppm")), NOT_READ).await;
    refused(&only, &embed(&server.address("/pictures/a.ppm?sig=geheim")), NOT_READ).await;
    refused(&only, "SELECT embed(uri, 'demo_shapes') FROM images", NOT_READ).await;

    let session = Confinement {
        read_folders: vec![folder.path().join("in")],
        addresses: vec![server.address("/pictures")],
        backbones: vec!["demo_shapes".into()],
        ..Confinement::default()
    };
    let session = confined(&store, session).await;
    assert_eq!(run(&session, &embed(&format!("{root}/in/a.ppm"))).await, Ok(1));
    assert_eq!(run(&session, &embed(&server.address("/pictures/a.ppm?sig=1"))).await, Ok(1));
    for uri in [
        format!("{root}/other/a.ppm"),
        format!("{root}/in/../other/a.ppm"),
        format!("{root}/in/link/a.ppm"),
        format!("{root}/in/none/../../other/a.ppm"),
        format!("{root}/in/link/a.zip!/a.ppm"),
        server.address("/secret/a.ppm"),
        server.address("/pictures/../secret/a.ppm"),
        server.address("/pictures/%2e%2e/secret/a.ppm"),
        server.address("/pictures2/a.ppm"),
        server.url.replace("http://", "http://me@") + "/pictures/a.ppm",
        "s3://bucket/pictures/a.ppm".into(),
    ] {
        refused(&session, &embed(&uri), NOT_READ).await;
    }
    let error = run(&session, &embed(&format!("{root}/in/list.txt!/a.ppm"))).await.unwrap_err();
    assert!(error.contains("it is not in ") && error.contains("list.txt any more"), "{error}");
    assert_eq!(server.requests("/secret"), 0, "nobody was asked");
    let error = run(&session, "SELECT embed('a', 'resnet20_cifar10')").await.unwrap_err();
    assert!(error.contains("this backbone is not among those that it may use"), "{error}");
}
