//! Files that SQL names: what a name means, what is read of it, and what is said of what is not.

use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use outskirt::image::{Selection, open};

use super::fixture::{outskirt, toy_database};

fn gz(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn utf16(text: &str) -> Vec<u8> {
    std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}

/// What `SELECT * FROM 'file' ORDER BY 1` prints, or the error.
async fn read(db: &Path, file: &str) -> String {
    let query = format!("SELECT * FROM '{file}' ORDER BY 1");
    outskirt(db, &["sql", &query, "--format", "csv"]).await.map_or_else(|error| error, |(rows, _)| rows)
}

#[tokio::test]
async fn sql_reads_what_the_name_says() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    toy_database(&db).await;
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (csv, tsv, lines) = ("a,b\n1,x\n2,y\n", "a\tb\n1\tx\n2\ty\n", "{\"a\":1,\"b\":\"x\"}\n{\"a\":2,\"b\":\"y\"}\n");
    let array = "[{\"a\":1,\n\"b\":\"x\"},\n {\"a\":2,\"b\":\"y\"}]\n";
    let pretty = "{\n  \"a\": 1,\n  \"b\": \"x\"\n}\n{\n  \"a\": 2,\n  \"b\": \"y\"\n}\n";
    let marked = |text: &str| format!("\u{feff}{text}").into_bytes();
    for (name, bytes) in [
        ("x.csv", csv.into()),
        ("marked.csv", marked(csv)),
        ("X.TSV", tsv.into()),
        ("marked.tsv", marked(tsv)),
        ("x.jsonl", lines.into()),
        ("x.ndjson", lines.into()),
        ("lines.json", lines.into()),
        ("marked.jsonl", marked(lines)),
        ("array.json", array.into()),
        ("marked.json", marked(array)),
        ("pretty.json", pretty.into()),
        ("x.csv.gz", gz(csv)),
        ("x.tsv.gz", gz(tsv)),
        ("x.jsonl.gz", gz(lines)),
        ("array.json.gz", gz(array)),
        ("x.csv.zst", zstd::encode_all(csv.as_bytes(), 1).unwrap()),
        ("x.jsonl.zst", zstd::encode_all(lines.as_bytes(), 1).unwrap()),
        ("cameras [v2].csv", csv.into()),
        ("st*r.csv", csv.into()),
        ("what?.csv", csv.into()),
        ("h#sh.csv", csv.into()),
        ("p%20c.csv", csv.into()),
        ("sp ace.csv", csv.into()),
        ("größe 日本.csv", csv.into()),
    ] {
        std::fs::write(at(name), bytes).unwrap();
        assert_eq!(read(&db, &at(name)).await, "a,b\n1,x\n2,y\n", "{name}");
    }
    // addresses of files, as other programs print them
    for name in ["file://{}/sp%20ace.csv", "file://localhost{}/p%2520c.csv", "file:{}/h%23sh.csv", "FILE://{}/x.csv"] {
        let address = name.replace("{}", &folder.path().display().to_string());
        assert_eq!(read(&db, &address).await, "a,b\n1,x\n2,y\n", "{address}");
    }
    // wildcards, folders of one format, and what COPY wrote
    assert_eq!(read(&db, &at("[xy].csv")).await, "a,b\n1,x\n2,y\n");
    for target in [
        "many/1.csv",
        "out [1].csv",
        "all/o*.csv",
        "o.tsv",
        "o.jsonl",
        "o.ndjson",
        "o.arrow",
        "o.feather",
        "o.parquet",
        "o.json",
    ] {
        std::fs::create_dir_all(Path::new(&at(target)).parent().unwrap()).unwrap();
        let copy = format!("COPY (SELECT a, b FROM '{}') TO '{}'", at("x.csv"), at(target));
        assert_eq!(outskirt(&db, &["sql", &copy]).await.unwrap().0, "COPY 2\n", "{target}");
        assert!(Path::new(&at(target)).is_file(), "{target}");
        assert_eq!(read(&db, &at(target)).await, "a,b\n1,x\n2,y\n", "{target}");
    }
    assert_eq!(std::fs::read_to_string(at("o.tsv")).unwrap(), tsv);
    std::fs::write(at("many/2.csv"), "a,b\n3,z\n").unwrap();
    std::fs::write(at("many/_SUCCESS"), "").unwrap();
    for several in ["many", "many/", "many/*.csv", "ma*/?.csv"] {
        assert_eq!(read(&db, &at(several)).await, "a,b\n1,x\n2,y\n3,z\n", "{several}");
    }
    // a Lance table of anybody's, also with functions that Lance does not have
    let theirs = format!(
        "SELECT count(*) AS n FROM '{}' WHERE knn_ood_score(toy, 'circle') > 1 OR id < 3",
        at("db/images.lance")
    );
    assert!(outskirt(&db, &["sql", &theirs]).await.unwrap_err().contains("unknown bank"), "it is planned");
    let theirs = format!("SELECT count(*) AS n FROM '{}' WHERE dataset = 'id' AND id < 3", at("db/images.lance"));
    assert_eq!(outskirt(&db, &["sql", &theirs, "--format", "csv"]).await.unwrap().0, "n\n2\n");
}

#[tokio::test]
async fn what_is_no_table_is_said_in_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    toy_database(&db).await;
    let at = |name: &str| folder.path().join(name).display().to_string();
    for name in ["mixed", "pictures", "broken.lance"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    let files: [(&str, Vec<u8>); 10] = [
        ("x.csv", "a\n1\n".into()),
        ("noext", "a\n1\n".into()),
        ("x.xlsx", "PK".into()),
        ("u16.csv", utf16("a\n1\n")),
        ("u16.jsonl", utf16("{}")),
        ("u16.txt", utf16("1.png\n")),
        ("bad.csv.gz", "no gzip, and long enough to be one".into()),
        ("mixed/a.csv", "a\n1\n".into()),
        ("mixed/b.jsonl", "{\"a\":1}\n".into()),
        ("pictures/a.png", "x".into()),
    ];
    for (name, bytes) in files {
        std::fs::write(at(name), bytes).unwrap();
    }
    for (name, says) in [
        ("noext", "as a table: its name does not end in what tells its format; SQL reads .csv, .tsv, .json"),
        ("x.xlsx", "as a table: its name does not end in"),
        ("mixed", "it is a folder of .csv and .jsonl files: name those that are meant by wildcards"),
        ("pictures", "it is a folder without files of these"),
        ("broken.lance", "it is no Lance table: it has no folder _versions"),
        ("u16.csv", "it is a text in UTF-16: convert it to UTF-8, as 'iconv -f UTF-16 -t UTF-8' does"),
        ("u16.jsonl", "it is a text in UTF-16"),
        ("bad.csv.gz", "bad.csv.gz: invalid gzip header"),
        ("x.cvs", "x.cvs: did you mean x.csv?"),
        ("gone/x.csv", "no such file or folder: "),
        ("z*.csv", "z*.csv: no file there matches it"),
        ("{mixed,x}*.csv", "no file there matches it"),
    ] {
        let error = read(&db, &at(name)).await;
        assert!(error.contains(says) && error.lines().count() == 1, "{name}: {error}");
    }
    for scheme in ["gs", "hf", "ftp", "az", "abfss", "sftp", "s3a", "http", "s3"] {
        let address = format!("{scheme}://me:secret@host/x.csv?key=secret");
        let copy = format!("COPY (SELECT 1 AS a) TO '{address}'");
        for error in [read(&db, &address).await, outskirt(&db, &["sql", &copy]).await.unwrap_err()] {
            assert!(error.contains(&format!("{scheme}://host/x.csv is none: copy it here")), "{error}");
            assert!(
                !error.contains("secret") && error.contains("ingest") == ["http", "s3"].contains(&scheme),
                "{error}"
            );
        }
    }
    assert!(read(&db, "file://host/x.csv").await.contains("it names a file of another machine"));
    for target in ["x.xlsx", "noext.", "x.csv.gz"] {
        let copy = format!("COPY (SELECT 1 AS a) TO '{}'", at(target));
        let error = outskirt(&db, &["sql", &copy]).await.unwrap_err();
        assert!(error.contains("what to write: end it in .csv, .tsv, .json"), "{target}: {error}");
    }
}

#[test]
fn lists_have_marks_and_addresses_of_files() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let at = |name: &str| root.join(name);
    std::fs::write(at("a b#1.ppm"), b"P6 1 1 255 \x01\x02\x03").unwrap();
    let address = format!("file://localhost{}/a%20b%231.ppm", root.display());
    let list = format!("\u{feff}a b#1.ppm\n{address}\ngs://bucket/1.png\n");
    std::fs::write(at("l.txt"), &list).unwrap();
    std::fs::write(
        at("l.csv"),
        format!("\u{feff}uri,label\n{}", list.trim_start_matches('\u{feff}').replace('\n', ",x\n")),
    )
    .unwrap();
    std::fs::write(
        at("l.jsonl"),
        format!("\u{feff}{{\"uri\":\"a b#1.ppm\"}}\n{{\"uri\":\"{address}\"}}\n{{\"uri\":\"gs://bucket/1.png\"}}\n"),
    )
    .unwrap();
    for name in ["l.txt", "l.csv", "l.jsonl"] {
        let found: Vec<_> = open(&[at(name)], &Selection::default()).unwrap().collect();
        let uris: Vec<String> = found.iter().flatten().map(|image| image.uri.clone()).collect();
        // the same image twice is one
        assert!(!uris.is_empty() && uris.iter().all(|uri| Path::new(uri) == at("a b#1.ppm")), "{name}: {uris:?}");
        let refused: Vec<String> =
            found.iter().filter_map(|image| image.as_ref().err()).map(ToString::to_string).collect();
        let says = "cannot read image gs://bucket/1.png: gs:// addresses are not read, but http://, https://, s3:// and file:// ones";
        assert!(refused.len() == 1 && refused[0].starts_with(says), "{name}: {refused:?}");
    }
    let given: Vec<_> = open(&[address.into()], &Selection::default()).unwrap().flatten().collect();
    assert_eq!(given.len(), 1);
    let error = |path: &str| open(&[path.into()], &Selection::default()).err().unwrap().to_string();
    for (scheme, instead) in [
        ("gs", "https://storage.googleapis.com/BUCKET/NAME"),
        ("hf", "https://huggingface.co/datasets/"),
        ("ftp", "copy it to this machine first"),
        ("az", "at their https:// address"),
        ("abfss", "at their https:// address"),
        ("sftp", "copy it to this machine first"),
    ] {
        let error = error(&format!("{scheme}://me:secret@host/x.zip"));
        assert!(
            error.starts_with(&format!("cannot read {scheme}://host/x.zip: {scheme}:// addresses are not read")),
            "{error}"
        );
        assert!(error.ends_with(instead) || error.contains(instead), "{error}");
    }
    assert!(error("file://host/x.zip").contains("it names a file of another machine"));
    for name in ["u.txt", "u.csv", "u.jsonl"] {
        std::fs::write(at(name), utf16("uri\n1.png\n")).unwrap();
        let error = error(at(name).to_str().unwrap());
        assert!(error.contains("it is a text in UTF-16: convert it to UTF-8"), "{name}: {error}");
    }
    std::fs::write(at("no.csv"), "a,b\n1,2\n").unwrap();
    let no_uri = format!(
        "cannot read {}: it has no column 'uri', which says where each picture is: its columns are 'a', 'b'",
        at("no.csv").display()
    );
    assert_eq!(error(at("no.csv").to_str().unwrap()), no_uri);
}

#[tokio::test]
async fn csv_keeps_leading_zeros_and_may_be_apart_by_semicolons() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    drop(toy_database(&db).await);
    let file = folder.path().join("a.csv");
    std::fs::write(&file, "zip;n;long\n01234;7;12345678901234567890\n00001;8;1\n").unwrap();
    let query = format!("SELECT zip, n + 1 AS n, long FROM '{}'", file.display());
    let (found, _) = outskirt(&db, &["sql", &query, "--format", "csv"]).await.unwrap();
    assert_eq!(found, "zip,n,long\n01234,8,12345678901234567890\n00001,9,1\n");
    std::fs::write(&file, "zip,n\n01234,7\n").unwrap();
    let (found, _) =
        outskirt(&db, &["sql", &format!("SELECT * FROM '{}'", file.display()), "--format", "csv"]).await.unwrap();
    assert_eq!(found, "zip,n\n01234,7\n");
}
