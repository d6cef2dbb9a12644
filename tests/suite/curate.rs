//! The verbs of a curator that change something: copies found as comparing each with each finds them, and taken back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field};
use outskirt::demo::{Counts, write_pictures};
use outskirt::image::{Orientation, decode, thumbnail};
use outskirt::index::IndexKind;
use outskirt::schema;

use super::fixture::{calibrated, outskirt};

/// Rows as CSV, by column.
async fn rows(db: &Path, line: &[&str]) -> (Vec<BTreeMap<String, String>>, String) {
    let (text, notices) = outskirt(db, &[line, &["--format", "csv"]].concat()).await.unwrap();
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let row =
        |line: &str| names.iter().zip(line.split(',')).map(|(name, value)| ((*name).into(), value.into())).collect();
    (lines.map(row).collect(), notices)
}

async fn value(db: &Path, query: &str) -> String {
    let (text, _) = outskirt(db, &["sql", query, "--format", "csv"]).await.unwrap();
    text.lines().nth(1).unwrap_or_default().into()
}

/// Drawn pictures in the dataset `first`; in `second` JPEG copies of every fifth, two files that are the same, and others.
async fn with_copies(folder: &Path) -> (std::path::PathBuf, usize) {
    let db = folder.join("db");
    write_pictures(folder, 7, Counts { train: 8, calibration: 1, test: 4, ood: 1 }).unwrap();
    let (first, second) = (folder.join("id/train"), folder.join("id/test"));
    let mut originals = Vec::new();
    for class in std::fs::read_dir(&first).unwrap() {
        originals.extend(std::fs::read_dir(class.unwrap().path()).unwrap().map(|file| file.unwrap().path()));
    }
    originals.sort();
    let mut copies = 0;
    for (number, file) in originals.iter().enumerate().filter(|(number, _)| number % 5 == 0) {
        let bytes = std::fs::read(file).unwrap();
        let pixels = decode("x", &bytes, Orientation::Stored).unwrap();
        let (jpeg, ..) = thumbnail("x", &pixels, 128).unwrap();
        std::fs::write(second.join(format!("copy-{number}.jpg")), jpeg).unwrap();
        if number < 10 {
            std::fs::write(second.join(format!("same-{number}.png")), bytes).unwrap();
        }
        copies += 1;
    }
    for (dataset, pictures) in [("first", &first), ("second", &second)] {
        let ingest = ["ingest", pictures.to_str().unwrap(), "--dataset", dataset, "--backbone", "demo_shapes"];
        outskirt(&db, &ingest).await.unwrap();
    }
    (db, copies)
}

#[tokio::test]
async fn copies_are_those_of_comparing_each_with_each() {
    let folder = tempfile::tempdir().unwrap();
    let (db, copies) = with_copies(folder.path()).await;
    let (found, notices) = rows(&db, &["curate", "dedup"]).await;
    assert!(notices.contains("hashed, into the column dhash") && notices.contains("--yes deletes them"), "{notices}");
    // a JPEG is found where its hash is near that of what it was made from; drawn in plain colours, a few are not
    let goes: BTreeSet<&str> = found.iter().map(|row| row["id"].as_str()).collect();
    assert_eq!(goes.len(), found.len(), "each once");
    let of_made = |row: &&BTreeMap<String, String>| row["uri"].contains("/copy-") || row["uri"].contains("/same-");
    let found_made = found.iter().filter(of_made).count();
    assert!(found_made >= copies * 3 / 4 + 2, "{found_made} of {copies} and two");
    let same = found.iter().filter(|row| row["uri"].contains("/same-"));
    assert!(
        same.clone().all(|row| row["because"] == "same bytes" || goes.contains(row["copy_of"].as_str())),
        "{found:?}"
    );
    // what stays is no copy, and is the nearest of what stays; and what stays is far from each other
    let pairs = "SELECT a.id AS a, b.id AS b, hamming_distance(a.dhash, b.dhash) AS bits FROM images a JOIN images b ON b.id <> a.id";
    let (pairs, _) = rows(&db, &["sql", pairs]).await;
    let bits = |a: &str, b: &str| -> u32 {
        pairs.iter().find(|pair| pair["a"] == a && pair["b"] == b).map(|pair| pair["bits"].parse().unwrap()).unwrap()
    };
    for row in &found {
        assert!(!goes.contains(row["copy_of"].as_str()), "{row:?} is a copy of a copy");
        if row["because"] != "same bytes" {
            let apart = row["apart"].parse::<f64>().unwrap() as u32;
            assert!(apart <= 4 && apart == bits(&row["id"], &row["copy_of"]), "{row:?}");
        }
    }
    let near = pairs.iter().filter(|pair| pair["bits"].parse::<u32>().unwrap() <= 4);
    let near = near.filter(|pair| ![&pair["a"], &pair["b"]].into_iter().any(|id| goes.contains(id.as_str())));
    let blank = value(
        &db,
        "SELECT count(*) FROM images WHERE hamming_distance(dhash, 0) <= 4 OR hamming_distance(dhash, 0) >= 60",
    )
    .await;
    assert_eq!((near.count(), blank.as_str()), (0, "0"));

    // again nothing is hashed; across datasets alone, the first dataset's images are not compared among each other
    let line = ["curate", "dedup", "--where", "dataset = 'second'", "--against", "dataset = 'first'"];
    let (across, notices) = rows(&db, &line).await;
    assert!(!notices.contains("hashed"), "{notices}");
    assert!(across.iter().all(|row| row["dataset"] == "second" && row["of_dataset"] == "first"));
    assert!(across.iter().all(|row| row["stays"] == "stays as asked") && across.len() >= found_made);
    // looking changes nothing, so another writer is no hindrance; deleting waits for it
    let store = outskirt::store::Store::open(&db).await.unwrap();
    let lock = store.lock().await.unwrap();
    assert_eq!(rows(&db, &line).await.0, across);
    let error = outskirt(&db, &[&line[..], &["--yes"]].concat()).await.unwrap_err();
    assert!(error.contains("writ"), "{error}");
    drop(lock);
    // by bytes alone there are two
    let (same, _) = rows(&db, &["curate", "dedup", "--by", "content"]).await;
    assert_eq!(same.iter().filter(|row| row["because"] == "same bytes" && row["apart"].is_empty()).count(), 2);
    assert_eq!(same.len(), 2);
}

#[tokio::test]
async fn copies_are_deleted_in_one_commit_and_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let (db, _) = with_copies(folder.path()).await;
    let (found, _) = rows(&db, &["curate", "dedup"]).await;
    let before = value(&db, "SELECT count(*) FROM images").await;
    let (rows_gone, said) = rows(&db, &["curate", "dedup", "--yes"]).await;
    assert_eq!(rows_gone, found, "what is deleted is what was said");
    assert!(said.contains(&format!("deleted {} images of {before} images, which are copies", found.len())), "{said}");
    let left = value(&db, "SELECT count(*) FROM images").await;
    assert_eq!(left.parse::<usize>().unwrap() + found.len(), before.parse::<usize>().unwrap());
    let log = "SELECT verb, row_count FROM curation_log ORDER BY version_before DESC LIMIT 1";
    let (log, _) = rows(&db, &["sql", log]).await;
    assert_eq!((log[0]["verb"].as_str(), log[0]["row_count"].clone()), ("dedup", found.len().to_string()));
    // twice is once
    let (_, again) = outskirt(&db, &["curate", "dedup", "--yes"]).await.unwrap();
    assert!(again.contains(&format!("no copies among {left} images")), "{again}");
    outskirt(&db, &["undo"]).await.map_or_else(|error| panic!("{error}"), drop);
    assert_eq!(value(&db, "SELECT count(*) FROM images").await, before);
    // the hashes are there still: the next undo takes the ingest back, and not them
    assert_eq!(value(&db, "SELECT count(dhash) FROM images").await, before);
    assert_eq!(rows(&db, &["curate", "dedup"]).await.0, found);
}

#[tokio::test]
async fn what_is_marked_keep_stays_and_what_is_marked_ignore_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let (db, copies) = with_copies(folder.path()).await;
    let jpegs = "uri LIKE '%.jpg'";
    let (would, _) = outskirt(&db, &["curate", "keep", "--where", jpegs]).await.unwrap();
    assert_eq!(would, format!("would set curation = 'keep' in {copies} images; --yes does it\n"));
    let versions = value(&db, "SELECT count(*) FROM curation_log").await;
    let (did, _) = outskirt(&db, &["curate", "keep", "--where", jpegs, "--yes"]).await.unwrap();
    assert_eq!(did, format!("curation = 'keep' in {copies} images\n"));
    assert_eq!(
        value(&db, "SELECT count(*) FROM curation_log").await,
        (versions.parse::<u32>().unwrap() + 1).to_string()
    );
    let (again, _) = outskirt(&db, &["curate", "keep", "--where", jpegs, "--yes"]).await.unwrap();
    assert_eq!(again, format!("curation = 'keep' in 0 images; {copies} have it already\n"));
    // now the pictures that they were made from are the copies
    let (found, _) = rows(&db, &["curate", "dedup"]).await;
    assert!(found.iter().all(|row| !row["uri"].contains(".jpg")), "{found:?}");
    let of_kept = found.iter().filter(|row| row["of_uri"].contains("/copy-") && row["stays"] == "is marked keep");
    assert!(of_kept.count() >= copies * 3 / 4);
    let line = ["curate", "delete", "--where", "dataset = 'second'"];
    let (would, _) = outskirt(&db, &line).await.unwrap();
    assert!(would.contains(&format!("{copies} images marked keep stay; --yes does it")), "{would}");
    outskirt(&db, &[&line[..], &["--yes"]].concat()).await.unwrap();
    assert_eq!(value(&db, "SELECT count(*) FROM images WHERE dataset = 'second'").await, copies.to_string());
    // what is kept is not ignored on the way, and a copy that stays for its mark is counted
    let (ignored, _) = outskirt(&db, &["curate", "ignore", "--where", jpegs, "--yes"]).await.unwrap();
    assert_eq!(ignored, format!("curation = 'ignore' in 0 images; {copies} are marked keep, and stay so\n"));
    let leak = ["curate", "dedup", "--where", jpegs, "--against", "dataset = 'first'"];
    let (found, notices) = rows(&db, &leak).await;
    assert!(found.is_empty() && notices.contains(" are copies too, and stay: marked keep"), "{notices}");
    // the history says what was typed
    let log = value(&db, "SELECT predicate FROM curation_log ORDER BY version_before DESC LIMIT 1").await;
    assert_eq!(log, "dataset = 'second'");
    // a mark is one entry of the history, and an undo takes it back whole
    outskirt(&db, &["undo"]).await.unwrap();
    outskirt(&db, &["undo"]).await.unwrap();
    assert!(value(&db, "SELECT count(*) FROM information_schema.columns WHERE column_name = 'curation'").await == "0");
    outskirt(&db, &["curate", "ignore", "--where", "dataset = 'second'", "--yes"]).await.unwrap();
    let (found, _) = rows(&db, &["curate", "dedup"]).await;
    assert!(found.iter().all(|row| row["dataset"] == "first"), "{found:?}");
    let (_, notices) = rows(&db, &["curate", "dedup"]).await;
    assert!(notices.contains("left out: marked ignore"), "{notices}");
    let sample = ["curate", "sample", "--n", "500", "--strategy", "random"];
    assert!(rows(&db, &sample).await.0.iter().all(|row| row["dataset"] == "first"));
    let (no_more, _) = outskirt(&db, &["curate", "ignore", "--where", jpegs, "--no-more", "--yes"]).await.unwrap();
    assert_eq!(no_more, format!("curation = NULL in {copies} images\n"));
}

/// A mark that is set while a deletion waits for the lock counts, also where it is the first of the database.
#[tokio::test]
async fn what_is_marked_keep_while_a_deletion_waits_stays() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    let (store, _) = calibrated(&db, IndexKind::Exact).await;
    let lock = store.lock().await.unwrap();
    let said = folder.path().join("err");
    let mut deleting = std::process::Command::new(env!("CARGO_BIN_EXE_outskirt"))
        .args(["--db", db.to_str().unwrap(), "--wait", "200", "curate", "delete", "--where", "id <= 20", "--yes"])
        .stdout(std::process::Stdio::null())
        .stderr(std::fs::File::create(&said).unwrap())
        .spawn()
        .unwrap();
    let start = std::time::Instant::now();
    while !std::fs::read_to_string(&said).unwrap().contains("waiting up to 200 s") {
        assert!(start.elapsed().as_secs() < 200, "it does not wait");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let curation = Field::new("curation", DataType::Utf8, true);
    store.add_column(&lock, schema::IMAGES, curation.into()).await.unwrap();
    let ids: ArrayRef = Arc::new(UInt64Array::from_iter_values(1..=20));
    let marks: ArrayRef = Arc::new(StringArray::from(vec!["keep"; 20]));
    let marked = RecordBatch::try_from_iter_with_nullable([("id", ids, false), ("curation", marks, true)]).unwrap();
    store.update_images(&lock, marked).await.unwrap();
    drop(lock);
    assert!(deleting.wait().unwrap().success());
    assert_eq!(value(&db, "SELECT count(*) FROM images WHERE id <= 20").await, "20");
}

#[tokio::test]
async fn a_picture_that_changed_is_hashed_again_and_one_that_is_gone_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (db, _) = with_copies(folder.path()).await;
    outskirt(&db, &["curate", "dedup"]).await.unwrap();
    let hashes = "SELECT count(*) FROM images WHERE dhash IS NULL";
    assert_eq!(value(&db, hashes).await, "0");
    let train = folder.path().join("id/train");
    std::fs::copy(train.join("star/0001.png"), train.join("circle/0000.png")).unwrap();
    let ingest = ["ingest", train.to_str().unwrap(), "--dataset", "first", "--backbone", "demo_shapes"];
    outskirt(&db, &ingest).await.unwrap();
    assert_eq!(value(&db, hashes).await, "1", "what the old picture was says nothing of the new one");
    std::fs::remove_file(train.join("circle/0000.png")).unwrap();
    let (_, notices) = rows(&db, &["curate", "dedup"]).await;
    assert!(
        notices.contains("1 image could not be hashed, such as ") && notices.contains("circle/0000.png"),
        "{notices}"
    );
    std::fs::copy(train.join("star/0001.png"), train.join("circle/0000.png")).unwrap();
    let (found, notices) = rows(&db, &["curate", "dedup"]).await;
    assert!(notices.contains("1 image hashed"), "{notices}");
    assert!(
        found.iter().any(|row| row["uri"].ends_with("circle/0000.png") || row["of_uri"].ends_with("circle/0000.png"))
    );
    // nobody else writes the column
    let error = outskirt(&db, &["sql", "UPDATE images SET dhash = 1"]).await.unwrap_err();
    assert!(error.contains("hashes come from the picture"), "{error}");
}

#[tokio::test]
async fn the_report_counts_pictures_that_look_alike() {
    let folder = tempfile::tempdir().unwrap();
    let (db, _) = with_copies(folder.path()).await;
    let bank = ["bank", "create", "b", "--backbone", "demo_shapes", "--where", "dataset = 'first'", "--k", "3"];
    outskirt(&db, &bank).await.unwrap();
    outskirt(&db, &["bank", "calibrate", "b", "--where", "dataset = 'second' AND id % 2 = 0"]).await.unwrap();
    let copies = async || {
        let line = ["report", "--bank", "b", "--where", "dataset = 'second'", "--max-images", "0", "--format", "json"];
        let (text, _) = outskirt(&db, &line).await.unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["copies"].clone()
    };
    let before = copies().await;
    assert_eq!((before["of_bank"].as_u64(), before["near"].is_null()), (Some(2), true));
    let (found, _) = rows(&db, &["curate", "dedup", "--where", "dataset = 'second'", "--bank", "b"]).await;
    let near = found.iter().filter(|row| row["because"] == "alike").count();
    let after = copies().await;
    assert_eq!(after["near"]["of_bank"].as_u64(), Some(near as u64));
    let first = &after["near"]["examples"][0];
    assert!(
        found.iter().any(|row| row["uri"] == first[0].as_str().unwrap() && row["of_uri"] == first[1].as_str().unwrap())
    );
    let page = folder.path().join("r.html");
    outskirt(&db, &["report", "--bank", "b", "--max-images", "0", "--out", page.to_str().unwrap()]).await.unwrap();
    assert!(
        std::fs::read_to_string(page)
            .unwrap()
            .contains("Pictures that look alike, their difference hashes within 4 of 64 bits")
    );
}

#[tokio::test]
async fn embeddings_that_are_near_are_copies_too() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    calibrated(db, IndexKind::Exact).await;
    // the training images lie half a degree apart: 2·sin(0.25°) = 0.008727
    let near = ["curate", "dedup", "--by", "embedding", "--backbone", "toy", "--where", "split = 'train'", "--within"];
    let (found, notices) = rows(db, &[&near[..], &["0.0088"]].concat()).await;
    assert!(notices.contains("20 images of 40 images are copies; --yes deletes them"), "{notices}");
    assert!(found.iter().all(|row| row["id"].parse::<u64>().unwrap() == row["copy_of"].parse::<u64>().unwrap() + 1));
    assert!(rows(db, &[&near[..], &["0.0086"]].concat()).await.0.is_empty());
    // against a bank: test images within reach of a training image
    let line =
        ["curate", "dedup", "--by", "embedding", "--bank", "circle", "--where", "dataset = 'ood' OR split = 'test'"];
    let (found, notices) = rows(db, &[&line[..], &["--within", "0.02"]].concat()).await;
    let query = "SELECT count(*) FROM images WHERE split = 'test' AND knn_ood_score(toy, 'circle', 1) <= 0.02";
    assert_eq!(found.len().to_string(), value(db, query).await);
    assert!(notices.contains("1 image compared by bytes alone: they have no embedding"), "{notices}");
}

#[tokio::test]
async fn what_is_wrong_is_said_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    calibrated(db, IndexKind::Exact).await;
    let versions = value(db, "SELECT count(*) FROM curation_log").await;
    for (line, reason) in [
        (&["dedup", "--bits", "11"][..], "hashes of 11 different bits are no copies: 0 to 10 of 64"),
        (&["dedup", "--where", "false"], "nothing to compare: no image matches (false)"),
        (&["dedup", "--where", "true) OR (true"], "(true) OR (true)"),
        (&["dedup", "--against", "nonsense(", "--by", "content"], "nonsense("),
        (&["dedup", "--bank", "square"], "unknown bank 'square'"),
        (&["dedup", "--by", "embedding"], "--by embedding needs --backbone"),
        (&["dedup", "--by", "content", "--bits", "3"], "--bits is of --by dhash"),
        (&["dedup", "--within", "0.5"], "--within is of --by embedding"),
        (
            &["dedup", "--against", "dataset = 'nix'", "--by", "content"],
            "nothing to compare with: no image matches (dataset = 'nix')",
        ),
        (&["dedup", "--where", "true -- x"], "predicate (true -- x): a comment at its end"),
        (&["sample", "--n", "1", "--strategy", "random", "--per", "nix"], "nix"),
        (&["dedup", "--by", "embedding", "--backbone", "uri"], "column uri holds no embeddings"),
        (&["dedup", "--by", "embedding", "--backbone", "toy", "--within", "3"], "--within 3 is no distance"),
        (&["tag", "--where", "true", "--set", "x"], "'x' sets no column: write --set COLUMN=VALUE"),
        (&["tag", "--where", "true", "--set", "toy=1", "--yes"], "embeddings come from the picture"),
        (&["tag", "--where", "true", "--set", "id=1", "--yes"], "banks and graphs know the image by it"),
        (&["tag", "--where", "true", "--set", "a b=1", "--yes"], "a b"),
        // a dry run refuses what would be refused
        (&["tag", "--where", "true", "--unset", "split"], "column 'split' of images cannot be NULL"),
        (&["tag", "--where", "true", "--unset", "dataset"], "column 'dataset' of images is none of your own"),
        (&["tag", "--where", "id = 1", "--set", "uri=x", "--yes"], "column 'uri' of images is none of your own"),
        (&["tag", "--where", "true", "--set", "width=10", "--yes"], "column 'width' of images is none of your own"),
        (&["tag", "--where", "true", "--set", "dhash=3", "--yes"], "a column cannot be called 'dhash'"),
        (&["tag", "--where", "true", "--set", "from=c", "--yes"], "a column cannot be called 'from'"),
        (&["tag", "--where", "true", "--unset", "nix", "--yes"], "has no column nix"),
        (&["tag", "--where", "true", "--set", "curation=Keep", "--yes"], "'Keep' is no mark"),
        (&["tag", "--where", "nothing = 1", "--set", "x=1", "--yes"], "nothing"),
        (&["delete", "--where", "nothing = 1", "--yes"], "nothing"),
        (&["keep", "--where", "true) OR (true", "--yes"], "true) OR (true"),
    ] {
        let error = outskirt(db, &[&["curate"], line].concat()).await.unwrap_err();
        assert!(error.contains(reason), "{line:?}: {error}");
    }
    assert_eq!(value(db, "SELECT count(*) FROM curation_log").await, versions);
    // pictures that are nowhere: none is hashed, and that is said
    let (found, notices) = rows(db, &["curate", "dedup"]).await;
    assert!(found.is_empty() && notices.contains("91 images could not be hashed"), "{notices}");
    let label = ["curate", "tag", "--where", "dataset = 'ood'", "--set", "label=it's", "--yes"];
    assert_eq!(outskirt(db, &label).await.unwrap().0, "label = 'it's' in 10 images\n");
    assert_eq!(value(db, "SELECT count(*) FROM images WHERE label = 'it''s'").await, "10");
    let no_label = ["curate", "tag", "--where", "true", "--unset", "label", "--yes"];
    assert_eq!(outskirt(db, &no_label).await.unwrap().0, "label = NULL in 10 images; 81 have it already\n");
}

/// `examples/curation.sh`, which people read and copy from.
#[cfg(unix)]
#[test]
fn a_curators_day_runs_from_ingest_to_the_second_page() {
    let folder = tempfile::tempdir().unwrap();
    let day = folder.path().join("day");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/curation.sh");
    let ran = std::process::Command::new("bash")
        .arg(script)
        .arg(&day)
        .env("OUTSKIRT", env!("CARGO_BIN_EXE_outskirt"))
        .env_remove("OUTSKIRT_DB")
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{out}\n{err}");
    assert!(err.contains("deleted 3 images of "), "the copies of what the bank has: {err}");
    assert!(out.contains("state = 'to_label' in 12 images\n"), "{out}");
    let junk = out.lines().find(|line| line.starts_with("deleted ")).unwrap();
    assert!(junk.starts_with("deleted ") && !junk.starts_with("deleted 0 "), "{junk}");
    for (file, least) in [("before.html", 100_000), ("after.html", 50_000), ("review/tasks-00000.json", 1_000)] {
        let length = std::fs::metadata(day.join(file)).map_or(0, |file| file.len());
        assert!(length > least, "{file}: {length} bytes");
    }
    for verb in ["ingest", "score", "dedup", "tag", "update", "delete"] {
        assert!(out.lines().any(|line| line.split_whitespace().any(|word| word == verb)), "{verb}: {out}");
    }
}
