//! COPY … TO files: whole or not at all, and what is no file.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::fixture::{outskirt, toy_database};

const PROGRAM: &str = env!("CARGO_BIN_EXE_outskirt");
/// Rows enough for several batches, of which the last fails.
const FAILS: &str = "SELECT 1 / (99999 - value) AS one FROM generate_series(1, 100000)";

async fn copied(db: &Path, query: &str, to: &Path) -> Result<(), String> {
    let statement = format!("COPY ({query}) TO '{}'", to.display());
    outskirt(db, &["sql", &statement]).await.map(|_| ())
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_copy_makes_no_folders_that_are_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    drop(toy_database(&db).await);
    for name in ["typo/x.csv", "typo/deeper/x.parquet"] {
        let error = copied(&db, "SELECT 1 AS a", &folder.path().join(name)).await.unwrap_err();
        let missing = folder.path().join(if name.contains("deeper") { "typo/deeper" } else { "typo" });
        assert_eq!(error, format!("no such file or folder: {}", missing.display()));
    }
    assert_eq!(names(folder.path()), ["db"]);
}

#[tokio::test]
async fn a_copy_that_fails_leaves_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    drop(toy_database(&db).await);
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    for ending in ["csv", "json", "parquet", "arrow"] {
        let file = out.join(format!("kept.{ending}"));
        fs::write(&file, "mine").unwrap();
        let error = copied(&db, FAILS, &file).await.unwrap_err();
        assert!(error.contains("Divide by zero") && error.lines().count() == 1, "{error}");
        assert_eq!(fs::read(&file).unwrap(), b"mine", "{ending}");
        let new = out.join(format!("new.{ending}"));
        copied(&db, FAILS, &new).await.unwrap_err();
    }
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let error = outskirt(&db, &["sql", &format!("COPY ({FAILS}) TO '{}' STORED AS CSV", empty.display())]).await;
    assert!(error.is_err() && names(&empty).is_empty(), "an empty folder stays one");
    let parted = out.join("parted");
    let error = outskirt(&db, &["sql", &format!("COPY ({FAILS}) TO '{}' STORED AS CSV", parted.display())]).await;
    assert!(error.unwrap_err().contains("Divide by zero"));
    assert_eq!(names(&out), ["kept.arrow", "kept.csv", "kept.json", "kept.parquet"], "and nothing is left beside it");

    // replaced, with the permissions that it had
    let file = out.join("kept.csv");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    copied(&db, "SELECT 7 AS seven", &file).await.unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "seven\n7\n");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // also within EXPLAIN ANALYZE, which runs it
    let analyze = format!("EXPLAIN ANALYZE COPY (SELECT 8 AS eight) TO '{}'", file.display());
    outskirt(&db, &["sql", &analyze]).await.unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "eight\n8\n");
    outskirt(&db, &["sql", &format!("EXPLAIN COPY (SELECT 9 AS nine) TO '{}'", file.display())]).await.unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "eight\n8\n");
    // a name that looks like a wildcard is a name
    let odd = out.join("odd [1].csv");
    copied(&db, "SELECT 1 AS one", &odd).await.unwrap();
    assert_eq!(fs::read_to_string(&odd).unwrap(), "one\n1\n");
    // into a folder, beside what is there
    copied(&db, "SELECT 1 AS one", &out.join("many/")).await.unwrap_err();
    for _ in 0..2 {
        outskirt(&db, &["sql", &format!("COPY (SELECT 1 AS one) TO '{}/many/' STORED AS CSV", out.display())])
            .await
            .unwrap();
    }
    let many = names(&out.join("many"));
    assert!(many.len() == 2 && many.iter().all(|name| name.ends_with(".csv")), "{many:?}");
}

#[tokio::test]
async fn of_a_link_the_target_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    drop(toy_database(&db).await);
    let (target, link, chain) = ["t.csv", "link.csv", "chain.csv"].map(|name| folder.path().join(name)).into();
    fs::write(&target, "mine").unwrap();
    symlink("t.csv", &link).unwrap();
    symlink(&link, &chain).unwrap();
    copied(&db, FAILS, &chain).await.unwrap_err();
    assert_eq!(fs::read_to_string(&target).unwrap(), "mine");
    copied(&db, "SELECT 1 AS one", &chain).await.unwrap();
    assert_eq!(fs::read_to_string(&target).unwrap(), "one\n1\n");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && fs::symlink_metadata(&chain).unwrap().is_symlink());
    // one that leads nowhere is filled, and one into the database is none
    let (dangling, inside, circle) = ["d.csv", "i.csv", "c.csv"].map(|name| folder.path().join(name)).into();
    symlink(folder.path().join("new.csv"), &dangling).unwrap();
    copied(&db, "SELECT 1 AS one", &dangling).await.unwrap();
    assert_eq!(fs::read_to_string(folder.path().join("new.csv")).unwrap(), "one\n1\n");
    symlink(db.join("images.lance/x.csv"), &inside).unwrap();
    let error = copied(&db, "SELECT 1", &inside).await.unwrap_err();
    assert!(error.contains("lies in the database's folder"), "{error}");
    symlink(&circle, &circle).unwrap();
    let error = copied(&db, "SELECT 1", &circle).await.unwrap_err();
    assert!(error.contains("round in a circle") && error.lines().count() == 1, "{error}");
}

#[tokio::test]
async fn pipes_and_devices_are_written_to_and_stay() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    drop(toy_database(&db).await);
    let run = |statement: &str| {
        let output = Command::new(PROGRAM).arg("--db").arg(&db).args(["sql", statement, "--format", "csv"]).output();
        let output = output.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (status, out, _) = run("COPY (SELECT 5 AS five) TO '/dev/stdout' STORED AS CSV");
    assert_eq!((status, out.as_str()), (Some(0), "five\n5\n"), "rows, and no count among them");
    // where that is a file, nothing is written over the rows, nor over what is there
    let file = folder.path().join("out.csv");
    let rows = "COPY (SELECT value FROM range(3)) TO '/dev/stdout' STORED AS CSV; SELECT 7 AS n";
    let mut program = Command::new(PROGRAM);
    program.arg("--db").arg(&db).args(["sql", rows, "--format", "csv"]).stdout(fs::File::create(&file).unwrap());
    assert!(program.status().unwrap().success());
    assert_eq!(fs::read_to_string(&file).unwrap(), "value\n0\n1\n2\nn\n7\n");
    let (status, _, _) = run("COPY (SELECT 5 AS five) TO '/dev/null' STORED AS PARQUET");
    assert_eq!(status, Some(0));
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    let (status, _, error) = run("COPY (SELECT 5 AS five) TO '/dev/full' STORED AS CSV");
    assert_eq!(status, Some(2));
    assert!(error.starts_with("error: the disk is full (write /dev/full: ") && error.lines().count() == 1, "{error}");
    let pipe = folder.path().join("pipe.csv");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read_to_string(pipe).unwrap()
    });
    let (status, _, error) = run(&format!("COPY (SELECT 5 AS five) TO '{}'", pipe.display()));
    assert_eq!(status, Some(0), "{error}");
    assert_eq!(reader.join().unwrap(), "five\n5\n");
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
}
