//! `outskirt export`: what is in its folder, and what cannot get there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, UInt64Type};
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use outskirt::export::{ExportFiles, ExportFormat, ExportOptions, export};
use outskirt::sql::session::Session;
use outskirt::store::Store;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::fixture::outskirt;

const PROGRAM: &str = env!("CARGO_BIN_EXE_outskirt");
/// Labels that are no names of folders, by the row's number.
const LABELS: [&str; 6] = ["cat", "Cat", "../../up", "a/b", "", "=HYPERLINK(\"\"x\"\")"];

fn picture(row: u32) -> Vec<u8> {
    let pixels = image::RgbImage::from_pixel(10 + row, 7, image::Rgb([8 * row as u8, 90, 200]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    pixels.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// Bare pixels, which no browser shows.
fn netpbm(row: u32) -> Vec<u8> {
    [format!("P6 {} 7 255\n", 10 + row).into_bytes(), [8 * row as u8, 90, 200].repeat(7 * (10 + row as usize))].concat()
}

/// Thirty rows: files, members of an archive (every third), bare pixels (every seventh), in three splits and with labels of all kinds.
/// The bank `b` is calibrated.
async fn world(folder: &Path) -> PathBuf {
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let mut rows = String::from("uri,label,split,camera,file,v\n");
    for row in 0..30u32 {
        let bytes = if row % 7 == 0 { netpbm(row) } else { picture(row) };
        let name = format!("{row}.x"); // its ending says nothing
        let uri = if row % 3 == 2 {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, format!("in/{row}.png"), bytes.as_slice()).unwrap();
            format!("a.tar.gz!/in/{row}.png")
        } else {
            std::fs::write(folder.join(&name), bytes).unwrap();
            name
        };
        let split = ["train", "val", "day 1"][row as usize % 3];
        let angle = f64::from(row) / 40.0 + f64::from(row / 27);
        rows += &format!(
            "{uri},\"{}\",{split},\"c,{row}\",f{row},\"[{}, {}]\"\n",
            LABELS[row as usize % LABELS.len()],
            angle.cos(),
            angle.sin()
        );
    }
    std::fs::write(folder.join("a.tar.gz"), archive.into_inner().unwrap().finish().unwrap()).unwrap();
    std::fs::write(folder.join("rows.csv"), rows).unwrap();
    let db = folder.join("db");
    let line = ["ingest", folder.join("rows.csv").to_str().unwrap(), "--embedding-column", "v", "--backbone", "m"]
        .map(str::to_owned);
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    outskirt(&db, &[&line[..], &["--dataset", "d", "--model-version", "1"]].concat()).await.unwrap();
    outskirt(&db, &["bank", "create", "b", "--backbone", "m", "--where", "split = 'train'", "--k", "3"]).await.unwrap();
    outskirt(&db, &["bank", "calibrate", "b", "--where", "split = 'val'"]).await.unwrap();
    db
}

/// Export to `folder/name`: what was said, and the folder.
async fn exported(db: &Path, name: &str, line: &[&str]) -> (String, PathBuf) {
    let to = db.with_file_name(name);
    let all = [&["export", "--to", to.to_str().unwrap()], line].concat();
    let (out, err) = outskirt(db, &all).await.unwrap_or_else(|error| panic!("{line:?}: {error}"));
    (out + &err, to)
}

fn csv(path: &Path) -> Vec<BTreeMap<String, String>> {
    let file = std::fs::File::open(path).unwrap();
    let format = arrow::csv::reader::Format::default().with_header(true);
    let (schema, _) = format.infer_schema(file.try_clone().unwrap(), Some(0)).unwrap();
    let texts = schema.fields().iter().map(|field| arrow::datatypes::Field::new(field.name(), DataType::Utf8, true));
    let schema = arrow::datatypes::Schema::new(texts.collect::<Vec<_>>());
    let mut file = file;
    std::io::Seek::rewind(&mut file).unwrap();
    let reader = arrow::csv::ReaderBuilder::new(std::sync::Arc::new(schema)).with_header(true).build(file).unwrap();
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.unwrap();
        for row in 0..batch.num_rows() {
            let value =
                |column: &arrow::array::ArrayRef| arrow::util::display::array_value_to_string(column, row).unwrap();
            let fields = batch.schema_ref().fields().iter().zip(batch.columns());
            rows.push(fields.map(|(field, column)| (field.name().clone(), value(column))).collect());
        }
    }
    rows
}

fn rows_of(path: &Path) -> Vec<arrow::array::RecordBatch> {
    let file = std::fs::File::open(path).unwrap();
    ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().map(|batch| batch.unwrap()).collect()
}

async fn sql(db: &Path, query: &str) -> Vec<Value> {
    let (text, _) = outskirt(db, &["sql", query, "--format", "json"]).await.unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn files(folder: &Path) -> BTreeSet<String> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// What lies in a folder is there and nothing else: everything that came to be beside it.
fn beside(db: &Path) -> BTreeSet<String> {
    let made =
        |name: &String| !name.ends_with(".x") && !["db", "rows.csv", "a.tar.gz", "db.trusted"].contains(&name.as_str());
    files(db.parent().unwrap()).into_iter().filter(made).collect()
}

const SCORES: &str = "SELECT id, uri, knn_ood_score(m, 'b', 3, id) AS score, knn_ood_score(m, 'b', 3, id) > knn_ood_threshold('b', 0.9) AS is_ood, \
                      knn_neighbors(m, 'b', 2, id) AS near FROM images ORDER BY id";

#[tokio::test]
async fn a_csv_has_what_sql_says_and_the_bytes_of_every_picture() {
    let folder = tempfile::tempdir().unwrap();
    let db = world(folder.path()).await;
    let line = ["--as", "csv", "--bank", "b", "--tpr", "0.9", "--neighbors", "2", "--column", "m"];
    let (said, to) = exported(&db, "out", &line).await;
    assert!(
        said.contains("30 images, 30 pictures copied") && said.contains("column file is called file_ there"),
        "{said}"
    );
    let rows = csv(&to.join("images.csv"));
    let known = sql(&db, SCORES).await;
    assert_eq!(rows.len(), 30);
    for (row, (found, known)) in rows.iter().zip(&known).enumerate() {
        assert_eq!(
            (&found["id"], &found["uri"]),
            (&known["id"].to_string(), &known["uri"].as_str().unwrap().to_owned())
        );
        assert_eq!(found["ood_score"].parse::<f32>().unwrap(), known["score"].to_string().parse::<f32>().unwrap());
        assert_eq!(found["is_ood"], known["is_ood"].to_string());
        let near: Vec<Value> = serde_json::from_str(&found["neighbors"]).unwrap();
        let theirs = known["near"].as_array().unwrap();
        assert_eq!(near.len(), 2);
        for (one, other) in near.iter().zip(theirs) {
            assert_eq!(one["id"], other["id"]);
            assert!(one["uri"].as_str().unwrap().starts_with('/'));
        }
        // quoted, and not altered
        assert_eq!(found["label"], LABELS[row % 6].replace("\"\"", "\""));
        assert_eq!((found["camera"].clone(), found["file_"].clone()), (format!("c,{row}"), format!("f{row}")));
        assert_eq!(serde_json::from_str::<Vec<f64>>(&found["m"]).unwrap().len(), 2);
        let bytes = std::fs::read(to.join(&found["file"])).unwrap();
        assert_eq!(bytes, if row % 7 == 0 { netpbm(row as u32) } else { picture(row as u32) });
        assert_eq!(found["file"], format!("images/{}.{}", found["id"], if row % 7 == 0 { "ppm" } else { "png" }));
    }
    assert_eq!(files(&to.join("images")).len(), 30);
    // without a bank there are no scores
    let (_, to) = exported(&db, "plain", &["--as", "csv", "--where", "split = 'val'", "--limit", "4"]).await;
    let rows = csv(&to.join("images.csv"));
    assert!(rows.len() == 4 && rows.iter().all(|row| row["split"] == "val" && !row.contains_key("ood_score")));
    // those with the largest scores, by their ids
    let (_, to) = exported(&db, "worst", &["--as", "csv", "--bank", "b", "--tpr", "0.9", "--limit", "3"]).await;
    let ids: Vec<String> = csv(&to.join("images.csv")).into_iter().map(|row| row["id"].clone()).collect();
    let worst = sql(
        &db,
        "SELECT id FROM (SELECT id FROM images ORDER BY knn_ood_score(m, 'b', 3, id) DESC, id LIMIT 3) ORDER BY id",
    )
    .await;
    assert_eq!(ids, worst.iter().map(|row| row["id"].to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn links_lead_to_the_files_and_what_cannot_be_linked_is_copied() {
    let folder = tempfile::tempdir().unwrap();
    let db = world(folder.path()).await;
    let (said, to) = exported(&db, "out", &["--as", "csv", "--files", "link"]).await;
    assert!(said.contains("10 pictures copied, 20 pictures linked"), "{said}");
    for row in csv(&to.join("images.csv")) {
        let path = to.join(&row["file"]);
        let is_link = std::fs::symlink_metadata(&path).unwrap().is_symlink();
        assert_eq!(is_link, !row["uri"].contains("!/"));
        if is_link {
            assert_eq!(std::fs::read_link(&path).unwrap(), Path::new(&row["uri"]));
        }
    }
    // what a browser does not show is no link but a PNG
    let (said, to) = exported(&db, "shown", &["--as", "fiftyone", "--files", "link"]).await;
    assert!(
        said.contains("14 pictures copied, 16 pictures linked")
            && said.contains("as PNG, for browsers do not show what they were: 5"),
        "{said}"
    );
    assert!(files(&to.join("data")).iter().all(|name| name.ends_with(".png")));
    // named where they are
    let (said, to) = exported(&db, "named", &["--as", "csv", "--files", "none"]).await;
    assert!(
        said.contains("20 pictures named where they are, 0.0 MB") && said.contains("cannot be named: 10"),
        "{said}"
    );
    for row in csv(&to.join("images.csv")) {
        assert_eq!(row["file"], if row["uri"].contains("!/") { "" } else { &row["uri"] });
    }
    let (said, to) = exported(&db, "left", &["--as", "fiftyone", "--files", "none"]).await;
    assert!(said.contains("20 images, ") && said.contains("images left out for want of a picture: 10"), "{said}");
    assert_eq!(csv(&to.join("labels.csv")).len(), 20);
}

#[tokio::test]
async fn missing_and_changed_pictures_are_counted_and_strict_ends_there() {
    let folder = tempfile::tempdir().unwrap();
    let db = world(folder.path()).await;
    std::fs::remove_file(folder.path().join("1.x")).unwrap();
    std::fs::write(folder.path().join("3.x"), "no picture").unwrap();
    let (said, to) = exported(&db, "out", &["--as", "csv"]).await;
    assert!(said.contains("30 images, 28 pictures copied") && said.contains("pictures missing: 2, such as "), "{said}");
    assert!(said.contains("1.x (") && said.contains("3.x ("), "{said}");
    let without: Vec<String> = csv(&to.join("images.csv"))
        .into_iter()
        .filter(|row| row["file"].is_empty())
        .map(|row| row["camera"].clone())
        .collect();
    assert_eq!(without, ["c,1", "c,3"]);
    let (said, to) = exported(&db, "coco", &["--as", "coco"]).await;
    assert!(said.contains("28 images") && said.contains("left out for want of a picture: 2"), "{said}");
    let coco: Value = serde_json::from_slice(&std::fs::read(to.join("annotations.json")).unwrap()).unwrap();
    assert_eq!(coco["images"].as_array().unwrap().len(), 28);
    let to = folder.path().join("strict");
    let error = outskirt(&db, &["export", "--as", "csv", "--strict", "--to", to.to_str().unwrap()]).await.unwrap_err();
    assert!(error.contains("1.x is missing: ") && !error.contains('\n'), "{error}");
    assert_eq!(beside(&db), BTreeSet::from(["coco".into(), "out".into()]), "nothing is left");
    // pictures that were embedded have a hash: another file there is told
    let pictures = folder.path().join("pictures");
    std::fs::create_dir(&pictures).unwrap();
    (0..3).for_each(|row| std::fs::write(pictures.join(format!("{row}.png")), picture(row)).unwrap());
    let other = folder.path().join("other");
    let store = Store::create(&other).await.unwrap();
    drop(store);
    let hash = |row: u32| format!("{:x}", Sha256::digest(picture(row)));
    for row in 0..3 {
        let uri = pictures.join(format!("{row}.png"));
        let query = format!(
            "INSERT INTO images (dataset, split, uri, width, height, content_hash) VALUES ('d', 's', '{}', {}, 7, '{}')",
            uri.display(),
            10 + row,
            hash(row)
        );
        outskirt(&other, &["sql", &query]).await.unwrap();
    }
    std::fs::write(pictures.join("1.png"), picture(20)).unwrap();
    let (said, to) = exported(&other, "changed", &["--as", "coco"]).await;
    assert!(said.contains("no longer what was embedded, so that their scores are of the former ones: 1"), "{said}");
    let coco: Value = serde_json::from_slice(&std::fs::read(to.join("annotations.json")).unwrap()).unwrap();
    let widths: Vec<u64> =
        coco["images"].as_array().unwrap().iter().map(|image| image["width"].as_u64().unwrap()).collect();
    assert_eq!(widths, [10, 30, 12], "of the file that is there");
}

#[tokio::test]
async fn stored_pictures_need_no_files() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    drop(Store::create(&db).await.unwrap());
    for row in 0..4u32 {
        let hex: String = picture(row).iter().map(|byte| format!("{byte:02x}")).collect();
        let query = format!(
            "INSERT INTO images (dataset, split, uri, width, height, content_hash, bytes) VALUES ('d', 's', '/gone/{row}.png', {}, 7, \
             '{row:064x}', X'{hex}')",
            10 + row
        );
        outskirt(&db, &["sql", &query]).await.unwrap();
    }
    let (said, to) = exported(&db, "out", &["--as", "imagefolder"]).await;
    assert!(said.contains("4 images, 4 pictures copied"), "{said}");
    assert_eq!(files(&to.join("s/unlabelled")).len(), 4);
    let table = rows_of(&to.join("s/metadata.parquet"));
    for row in 0..4 {
        let name = table[0].column_by_name("file_name").unwrap().as_string::<i32>().value(row);
        assert_eq!(std::fs::read(to.join("s").join(name)).unwrap(), picture(row as u32));
    }
}

#[tokio::test]
async fn labels_become_folders_and_none_leads_out() {
    let folder = tempfile::tempdir().unwrap();
    let db = world(folder.path()).await;
    let (said, to) = exported(&db, "out", &["--as", "imagefolder"]).await;
    assert_eq!(beside(&db), BTreeSet::from(["out".into()]));
    assert_eq!(files(&to), ["README.md", "day_1", "folders.csv", "train", "val"].map(str::to_owned).into());
    assert!(said.contains("labels cannot name folders as they are: folders.csv has the folder of each"), "{said}");
    let mapping: BTreeMap<String, String> =
        csv(&to.join("folders.csv")).into_iter().map(|row| (row["label"].clone(), row["folder"].clone())).collect();
    assert_eq!((mapping["../../up"].as_str(), mapping["a/b"].as_str()), ("%2E.%2F..%2Fup", "a%2Fb"));
    assert!(!mapping.contains_key("cat") && mapping["Cat"] != "Cat", "no file system takes them for one: {mapping:?}");
    let mut seen = 0;
    for split in ["train", "val", "day_1"] {
        for batch in rows_of(&to.join(split).join("metadata.parquet")) {
            let text = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().clone();
            let (names, labels, splits) = (text("file_name"), text("label"), text("split"));
            for row in 0..batch.num_rows() {
                let label = if labels.is_null(row) { "" } else { labels.value(row) };
                let folder =
                    mapping.get(label).map_or(if label.is_empty() { "unlabelled" } else { label }, String::as_str);
                let id = batch.column_by_name("id").unwrap().as_primitive::<UInt64Type>().value(row);
                assert!(names.value(row).starts_with(&format!("{folder}/{id}.")), "{}", names.value(row));
                assert!(to.join(split).join(names.value(row)).is_file());
                assert_eq!(splits.value(row).replace(' ', "_"), split);
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 30);
}

#[tokio::test]
async fn parquet_holds_the_pictures_and_croissant_its_checksum() {
    let folder = tempfile::tempdir().unwrap();
    let db = world(folder.path()).await;
    let (_, to) = exported(&db, "out", &["--as", "huggingface", "--bank", "b", "--tpr", "0.9"]).await;
    assert_eq!(files(&to), ["README.md", "croissant.json", "data"].map(str::to_owned).into());
    let names = ["day_1", "train", "val"].map(|split| format!("{split}-00000-of-00001.parquet"));
    assert_eq!(files(&to.join("data")), names.clone().into());
    let mut ids = Vec::new();
    for name in &names {
        let file = std::fs::File::open(to.join("data").join(name)).unwrap();
        let features =
            ParquetRecordBatchReaderBuilder::try_new(file).unwrap().schema().metadata()["huggingface"].clone();
        assert!(features.contains("\"_type\":\"Image\""), "{features}");
        for batch in rows_of(&to.join("data").join(name)) {
            let found = batch.column_by_name("id").unwrap().as_primitive::<UInt64Type>().values().to_vec();
            let images = batch.column_by_name("image").unwrap().as_struct();
            for (row, id) in found.iter().enumerate() {
                let number = *id as u32 - 1;
                let bytes = images.column_by_name("bytes").unwrap().as_binary::<i32>().value(row);
                assert_eq!(bytes, if number.is_multiple_of(7) { netpbm(number) } else { picture(number) });
                let path = images.column_by_name("path").unwrap().as_string::<i32>().value(row);
                assert!(path.starts_with(&format!("{id}.")));
            }
            ids.extend(found);
        }
    }
    ids.sort_unstable();
    assert_eq!(ids, (1..=30).collect::<Vec<u64>>());
    let croissant: Value = serde_json::from_slice(&std::fs::read(to.join("croissant.json")).unwrap()).unwrap();
    for file in croissant["distribution"].as_array().unwrap() {
        let bytes = std::fs::read(to.join(file["contentUrl"].as_str().unwrap())).unwrap();
        assert_eq!(file["sha256"], format!("{:x}", Sha256::digest(&bytes)));
        assert_eq!(file["contentSize"], format!("{} B", bytes.len()));
    }
}

#[tokio::test]
async fn label_studio_is_told_what_its_server_must_know() {
    let folder = tempfile::tempdir().unwrap();
    let db = world(folder.path()).await;
    let (said, to) = exported(&db, "out & in", &["--as", "label-studio", "--bank", "b", "--tpr", "0.9"]).await;
    let root = folder.path().canonicalize().unwrap();
    assert!(said.contains(&format!("LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={}\n", root.display())), "{said}");
    assert!(said.contains(&format!("with the path {}/out & in\n", root.display())), "{said}");
    let config = std::fs::read_to_string(to.join("config.xml")).unwrap();
    assert!(said.contains(&config) && config.contains("<Choice value=\"=HYPERLINK(&quot;x&quot;)\"/>"), "{config}");
    let tasks: Vec<Value> = serde_json::from_slice(&std::fs::read(to.join("tasks-00000.json")).unwrap()).unwrap();
    assert_eq!(tasks.len(), 30);
    for task in &tasks {
        let image = task["data"]["image"].as_str().unwrap();
        assert!(image.starts_with("/data/local-files/?d=out%20%26%20in/images/") && image.ends_with(".png"), "{image}");
        // the least confident first: the furthest outside
        assert_eq!(task["predictions"][0]["score"], task["data"]["pvalue"]);
        let decision = &task["predictions"][0]["result"][0]["value"]["choices"][0];
        assert_eq!(decision == "out of distribution", task["data"]["is_ood"].as_bool().unwrap());
    }
}

#[tokio::test]
async fn wrong_calls_are_one_line_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let db = world(folder.path()).await;
    let full = folder.path().join("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("mine"), "1").unwrap();
    let out = folder.path().join("out").display().to_string();
    let out = out.as_str();
    let gone = folder.path().join("gone/out");
    let file = folder.path().join("rows.csv");
    for (line, why) in [
        (vec!["--as", "csv", "--to", full.to_str().unwrap()], "it is not empty"),
        (vec!["--as", "csv", "--to", file.to_str().unwrap()], "it is a file"),
        (vec!["--as", "csv", "--to", gone.to_str().unwrap()], "no such file or folder"),
        (vec!["--as", "imagefolder", "--files", "none", "--to", out], "--files copy or link"),
        (vec!["--as", "huggingface", "--files", "link", "--to", out], "--files copy or none"),
        (vec!["--as", "csv", "--neighbors", "3", "--to", out], "add --bank NAME"),
        (vec!["--as", "csv", "--bank", "c", "--to", out], "bank 'c'"),
        (vec!["--as", "csv", "--bank", "b", "--tpr", "2", "--to", out], "2"),
        (vec!["--as", "csv", "--where", "split = 'nowhere'", "--to", out], "nothing to export: no image matches"),
        (vec!["--as", "csv", "--limit", "0", "--to", out], "nothing to export"),
        (vec!["--as", "csv", "--where", "true) OR (true", "--to", out], "true) OR (true"),
        (vec!["--as", "csv", "--where", "splitt = 'x'", "--to", out], "splitt"),
        (vec!["--as", "csv", "--column", "bytes", "--to", out], "--column bytes: images has no such column to export"),
        (vec!["--as", "csv", "--column", "x\" FROM banks --", "--to", out], "no such column to export"),
    ] {
        let error = outskirt(&db, &[&["export"], &line[..]].concat()).await.unwrap_err();
        assert!(error.contains(why) && !error.contains('\n'), "{line:?}: {error}");
    }
    outskirt(&db, &["bank", "create", "raw", "--backbone", "m", "--where", "split = 'val'", "--k", "2"]).await.unwrap();
    let error = outskirt(&db, &["export", "--as", "csv", "--bank", "raw", "--to", out]).await.unwrap_err();
    assert!(error.contains("outskirt bank calibrate raw"), "{error}");
    assert_eq!(beside(&db), BTreeSet::from(["full".into()]));
    assert_eq!(files(&full), BTreeSet::from(["mine".into()]));
}

#[tokio::test]
async fn a_killed_export_leaves_no_folder_and_the_next_one_removes_what_it_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let db = world(folder.path()).await;
    // a picture that nobody finishes sending holds the export up
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/x.png", server.local_addr().unwrap());
    let query = format!(
        "INSERT INTO images (dataset, split, uri, width, height, content_hash) VALUES ('d', 'val', '{address}', 1, 1, '{:064x}')",
        1
    );
    outskirt(&db, &["sql", &query]).await.unwrap();
    let to = folder.path().join("out");
    let mut command = Command::new(PROGRAM);
    command.args(["--db", db.to_str().unwrap(), "export", "--as", "csv", "--to", to.to_str().unwrap()]);
    let mut child = command.env("NO_PROXY", "127.0.0.1").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    let under_way = || beside(&db).into_iter().find(|name| name.starts_with(".out.export-"));
    let written = || under_way().is_some_and(|name| !files(&folder.path().join(name).join("images")).is_empty());
    while !written() {
        assert!(start.elapsed() < Duration::from_secs(60), "nothing is written");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!to.exists(), "half of it is not there under its name");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(under_way().is_some() && !to.exists());
    let (_, to) = exported(&db, "out", &["--as", "csv", "--where", "split = 'train'"]).await;
    assert_eq!(beside(&db), BTreeSet::from(["out".into()]));
    assert_eq!(files(&to.join("images")).len(), 10);
    drop(server);
}

#[tokio::test]
async fn a_program_exports_by_the_library() {
    let folder = tempfile::tempdir().unwrap();
    let db = world(folder.path()).await;
    let session = Session::open(&Store::open(&db).await.unwrap()).await.unwrap();
    let mut options = ExportOptions::new(folder.path().join("out"), ExportFormat::Csv);
    options.files = ExportFiles::None;
    let mut told = Vec::new();
    let found = export(&session, &options, |done, all| told.push((done, all))).await.unwrap();
    assert_eq!((found.rows, found.referenced, found.in_archives, told.last()), (30, 20, 10, Some(&(30, 30))));
    assert_eq!(found.folder, folder.path().canonicalize().unwrap().join("out"));
    // an empty folder is taken
    let mut file = std::fs::File::create(folder.path().join("note")).unwrap();
    file.write_all(b"x").unwrap();
    options.to = folder.path().join("empty");
    std::fs::create_dir(&options.to).unwrap();
    export(&session, &options, |_, _| ()).await.unwrap();
    assert!(options.to.join("images.csv").is_file());
}

/// torchvision's `ImageFolder` refuses a folder without pictures, and passes over files of endings that it does not know.
#[tokio::test]
async fn folders_of_pictures_are_such_as_torchvision_takes() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    std::fs::write(folder.path().join("bit.x"), "P1 3 2\n0 1 1\n0 0 1\n").unwrap();
    std::fs::write(folder.path().join("a.png"), picture(1)).unwrap();
    let rows = "uri,label,split,v\nbit.x,bits,train,\"[1, 0]\"\na.png,cat,train,\"[0, 1]\"\ngone.png,gone,train,\"[1, 1]\"\n\
                ,numbers,val,\"[1, 2]\"\n";
    std::fs::write(folder.path().join("rows.csv"), rows).unwrap();
    let csv = folder.path().join("rows.csv");
    let ingest =
        ["ingest", csv.to_str().unwrap(), "--embedding-column", "v", "--backbone", "m", "--model-version", "1"];
    outskirt(&db, &[&ingest[..], &["--dataset", "d"]].concat()).await.unwrap();
    let (said, to) = exported(&db, "out", &["--as", "imagefolder"]).await;
    let labels: BTreeSet<String> = files(&to.join("train"));
    assert_eq!(labels, BTreeSet::from(["bits".into(), "cat".into(), "metadata.parquet".into()]), "{said}");
    assert_eq!(files(&to.join("train/bits")), BTreeSet::from(["1.png".into()]), "{said}");
    assert!(!to.join("val/numbers").exists(), "{said}");
    // one that is in an archive has no name: COCO's entry could not be opened
    let apart = folder.path().join("world");
    std::fs::create_dir(&apart).unwrap();
    let db = world(&apart).await;
    let (said, to) = exported(&db, "named", &["--as", "coco", "--files", "none"]).await;
    let found: Value = serde_json::from_slice(&std::fs::read(to.join("annotations.json")).unwrap()).unwrap();
    let names: Vec<&str> =
        found["images"].as_array().unwrap().iter().map(|of| of["file_name"].as_str().unwrap()).collect();
    assert!(names.len() == 20 && names.iter().all(|name| Path::new(name).is_file()), "{said}\n{names:?}");
}
