//! Pictures at s3:// addresses, ingested by the program from a server that runs in the test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch};
use outskirt::demo::{Counts, write_pictures};

use super::server::{Server, Site};

/// The program, with the environment that S3 needs here.
fn outskirt(db: &Path, server: &Server, arguments: &[&str]) -> (String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_outskirt"))
        .arg("--db")
        .arg(db)
        .args(arguments)
        .env("AWS_ENDPOINT", &server.url)
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_SKIP_SIGNATURE", "true")
        .output()
        .unwrap();
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn buckets_are_read_as_folders_are() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    write_pictures(folder.path(), 7, Counts { train: 2, calibration: 1, test: 1, ood: 1 }).unwrap();
    let root = folder.path().join("id/train");
    let mut local: Vec<PathBuf> = Vec::new();
    for class in std::fs::read_dir(&root).unwrap() {
        local.extend(std::fs::read_dir(class.unwrap().path()).unwrap().map(|file| file.unwrap().path()));
    }
    let key = |path: &Path| format!("/pets/id/train/{}", path.strip_prefix(&root).unwrap().display());
    let server = Server::of(local.iter().map(|path| (key(path), std::fs::read(path).unwrap())));
    {
        let Site { files, .. } = &mut *server.site.lock().unwrap();
        files.insert("/pets/id/train/.hidden/1.png".into(), b"no".to_vec());
        files.insert("/pets/id/train-notes.txt".into(), b"no".to_vec());
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_dir_all("train", &root).unwrap();
        files.insert("/pets/train.tar".into(), builder.into_inner().unwrap());
        files.insert("/pets/m.csv".into(), b"uri,camera\nid/train/star/0000.png,7\ns3://pets/gone.png,8\n".to_vec());
    }
    let ingest = |path: &str, dataset: &str, more: &[&str]| {
        let line = ["ingest", path, "--dataset", dataset, "--backbone", "demo_shapes"];
        outskirt(&db, &server, &[&line[..], more].concat())
    };
    let csv = |query: &str| outskirt(&db, &server, &["sql", query, "--format", "csv"]).0;

    // a folder, the same one here, and an archive
    for (path, dataset) in
        [("s3://pets/id/train/", "there"), (root.to_str().unwrap(), "here"), ("s3://pets/train.tar", "tar")]
    {
        let (added, said) = ingest(path, dataset, &[]);
        assert!(added.starts_with(&format!("{dataset}: 20 added in ")), "{added}{said}");
    }
    let same = "SELECT count(*) AS n FROM images a JOIN images b ON a.content_hash = b.content_hash \
                AND a.label = b.label AND a.demo_shapes = b.demo_shapes WHERE a.dataset = 'here'";
    assert_eq!(csv(same), "n\n60\n");
    let (again, _) = ingest("s3://pets/id/train", "there", &[]);
    assert!(again.starts_with("there: 0 added, 20 there already in "), "{again}");
    // samples and wildcards
    ingest("s3://pets/id/train", "drawn there", &["--sample", "5"]);
    ingest(root.to_str().unwrap(), "drawn here", &["--sample", "5"]);
    let drawn = "SELECT count(*) AS n FROM images a JOIN images b USING (content_hash) \
                 WHERE a.dataset = 'drawn here' AND b.dataset = 'drawn there'";
    assert_eq!(csv(drawn), "n\n5\n");
    let (stars, _) = ingest("s3://pets/id/train/s*/*1.png", "stars", &[]);
    assert!(stars.starts_with("stars: 2 added in "), "{stars}");
    let (folders, _) = ingest("s3://pets/id/train/s*", "folders", &[]);
    assert!(folders.starts_with("folders: 4 added in "), "{folders}");
    let (_, none) = ingest("s3://pets/id/train/*.jpg", "none", &[]);
    assert_eq!(none, "error: s3://pets/id/train/*.jpg: nothing there matches it\n");
    let (_, none) = ingest("s3://pets/id/trai", "none", &[]);
    assert_eq!(none, "error: no such file or folder: s3://pets/id/trai\n");

    // a table with more to say, one of its pictures missing
    let (table, refused) = ingest("s3://pets/m.csv", "table", &[]);
    assert!(table.starts_with("table: 1 added, 1 refused in "), "{table}");
    assert!(refused.contains("refused s3://pets/gone.png: the server answers 404 Not Found"), "{refused}");
    assert_eq!(
        csv("SELECT uri, camera FROM images WHERE dataset = 'table'"),
        "uri,camera\ns3://pets/id/train/star/0000.png,7\n"
    );
    assert_eq!(csv("SELECT uri FROM rejects"), "uri\ns3://pets/gone.png\n");

    // tables by a wildcard
    let star = "uri,camera,lens\nid/train/star/0001.png,9,wide\n";
    server.site.lock().unwrap().files.insert("/pets/m2.csv".into(), star.into());
    let (tables, _) = ingest("s3://pets/m*.csv", "tables", &[]);
    assert!(tables.starts_with("tables: 2 added, 1 refused in "), "{tables}");
    assert_eq!(
        csv("SELECT camera, lens FROM images WHERE dataset = 'tables' ORDER BY uri"),
        "camera,lens\n7,\n9,wide\n"
    );

    // columns of a table that holds images, in a folder and by itself
    let star = std::fs::read(root.join("star/0000.png")).unwrap();
    let image: ArrayRef = Arc::new(BinaryArray::from_iter_values([star]));
    let camera: ArrayRef = Arc::new(Int64Array::from(vec![12]));
    let batch = RecordBatch::try_from_iter([("image", image), ("camera", camera)]).unwrap();
    let mut writer = datafusion::parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    server.site.lock().unwrap().files.insert("/pets/held/a.parquet".into(), writer.into_inner().unwrap());
    ingest("s3://pets/held/", "held", &[]);
    ingest(&server.address("/pets/held/a.parquet?token=secret"), "held", &[]);
    let cameras = csv("SELECT camera, uri FROM images WHERE dataset = 'held' ORDER BY uri DESC");
    let http = server.address("/pets/held/a.parquet!/00000000");
    assert_eq!(cameras, format!("camera,uri\n12,s3://pets/held/a.parquet!/00000000\n12,{http}\n"));

    // a broken file in a folder is one of those that are refused, and the rest goes on
    {
        let Site { files, .. } = &mut *server.site.lock().unwrap();
        let star = files["/pets/id/train/star/0000.png"].clone();
        files.insert("/pets/broken/1.png".into(), star);
        files.insert("/pets/broken/0.parquet".into(), b"no table".to_vec());
        files.insert("/pets/broken/2_32x32.mat".into(), b"no matrix".to_vec());
    }
    let (added, refused) = ingest("s3://pets/broken/", "broken", &[]);
    assert!(added.starts_with("broken: 1 added, 2 refused in "), "{added}{refused}");
    let rejects = "SELECT uri FROM rejects WHERE dataset = 'broken' ORDER BY uri";
    assert_eq!(csv(rejects), "uri\ns3://pets/broken/0.parquet\ns3://pets/broken/2_32x32.mat\n");

    // read again, for SQL
    let again = "SELECT count(*) AS n FROM images WHERE embed(uri, 'demo_shapes')[1] = demo_shapes[1]";
    assert_eq!(csv(again), csv("SELECT count(*) AS n FROM images"));
}
