//! `outskirt watch`: pictures that come into a folder are ingested, scored and told; however it ends, none is lost.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use outskirt::backbone::{Backbone, LoadOptions, Precision, Trusted, load_in};
use outskirt::demo::{Counts, write_pictures};
use outskirt::index::Device;
use outskirt::ingest::IngestOptions;
use outskirt::store::Store;
use outskirt::watch::{Decided, Limit, Stop, Told, WatchOptions, state_file, watch};
use serde_json::Value;

use super::fixture::outskirt;

const PROGRAM: &str = env!("CARGO_BIN_EXE_outskirt");
/// What it says when it begins.
const WATCHING: &str = "watching ";
/// Nothing here takes so long, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(240);

/// A place with drawn pictures, a database with the calibrated bank `shapes`, and an empty folder to watch.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    async fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        let counts = Counts { train: 6, calibration: 3, test: 3, ood: 6 };
        write_pictures(place.folder.path(), 7, counts).unwrap();
        std::fs::create_dir(place.incoming()).unwrap();
        let (train, held_out) = (place.at("id/train"), place.at("id/calibration"));
        for (path, split) in [(&train, "train"), (&held_out, "val")] {
            let path = path.to_str().unwrap();
            let line = ["ingest", path, "--dataset", "shapes", "--split", split, "--backbone", "demo_shapes"];
            outskirt(&place.db(), &line).await.unwrap();
        }
        let bank = ["bank", "create", "shapes", "--backbone", "demo_shapes", "--where", "split = 'train'", "--k", "3"];
        outskirt(&place.db(), &bank).await.unwrap();
        outskirt(&place.db(), &["bank", "calibrate", "shapes", "--where", "split = 'val'"]).await.unwrap();
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn db(&self) -> PathBuf {
        self.at("db")
    }

    fn incoming(&self) -> PathBuf {
        self.at("incoming")
    }

    /// The drawn pictures that are in no split of the bank: those that belong, and others.
    fn drawn(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.at("id/test"), self.at("ood")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { found.push(path) }
            }
        }
        found.sort();
        found
    }

    /// A whole picture comes, as a program that is careful puts it there.
    fn comes(&self, from: &Path, name: &str) {
        let hidden = self.incoming().join(".coming");
        std::fs::copy(from, &hidden).unwrap();
        std::fs::rename(hidden, self.incoming().join(name)).unwrap();
    }

    /// The program, once it watches: from then on it hears signals.
    async fn watching(&self, more: &[&str]) -> Watching {
        let before = self.said().matches(WATCHING).count();
        let output = |name: &str| std::fs::OpenOptions::new().create(true).append(true).open(self.at(name)).unwrap();
        let mut command = Command::new(PROGRAM);
        command.arg("--db").arg(self.db()).arg("watch").arg(self.incoming());
        command.args([
            "--dataset",
            "incoming",
            "--bank",
            "shapes",
            "--settle",
            "0.3",
            "--poll",
            "0.1",
            "--threads",
            "1",
        ]);
        command.args(more).stdin(Stdio::null()).stdout(output("out")).stderr(output("err"));
        let watching = Watching { child: command.spawn().unwrap() };
        until("it watches", self, async || self.said().matches(WATCHING).count() > before).await;
        watching
    }

    /// The whole lines that were printed.
    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.at("out")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().filter(|line| !line.is_empty()).filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.at("err")).unwrap_or_default()
    }

    /// The names of the files in the lines, and how often each.
    fn told(&self) -> BTreeMap<String, usize> {
        let mut told = BTreeMap::new();
        for line in self.lines() {
            *told.entry(name_of(line["uri"].as_str().unwrap())).or_default() += 1;
        }
        told
    }

    async fn sql(&self, query: &str) -> String {
        outskirt(&self.db(), &["sql", query, "--format", "csv"]).await.unwrap().0
    }
}

fn name_of(uri: &str) -> String {
    uri.rsplit('/').next().unwrap().to_owned()
}

/// The program at work; killed where a test ends early.
struct Watching {
    child: Child,
}

impl Watching {
    fn signal(&self, signal: &str) {
        Command::new("kill").arg(signal).arg(self.child.id().to_string()).status().unwrap();
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asked to end, it does, with status 0.
    fn end(mut self, signal: &str) {
        self.signal(signal);
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                return;
            }
            assert!(start.elapsed() < PATIENCE, "it goes on");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn until(what: &str, place: &Place, holds: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "{what}: {:?}\n{}", place.lines(), place.said());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn what_comes_is_told_once_with_the_scores_of_sql() {
    let place = Place::new().await;
    let drawn = place.drawn();
    // there before it begins, and not in the table
    place.comes(&drawn[0], "0.png");
    let watching = place.watching(&["--all", "--neighbors", "2"]).await;
    std::fs::create_dir(place.incoming().join("left")).unwrap();
    for (at, path) in drawn.iter().enumerate().skip(1) {
        place.comes(path, &format!("left/{at}.png"));
    }
    until("all are told", &place, async || place.told().len() == drawn.len()).await;
    watching.end("-TERM");
    assert!(place.said().contains(&format!("{} images scored, ", drawn.len())), "{}", place.said());

    let mut told = place.lines();
    told.sort_by_key(|line| line["id"].as_u64());
    let rows = place
        .sql(
            "SELECT id, uri, knn_ood_score(demo_shapes, 'shapes'), knn_ood_pvalue(demo_shapes, 'shapes'), is_ood(demo_shapes, 'shapes'), label \
             FROM images WHERE dataset = 'incoming' ORDER BY id",
        )
        .await;
    let rows: Vec<Vec<&str>> = rows.lines().skip(1).map(|row| row.split(',').collect()).collect();
    assert_eq!(told.len(), rows.len(), "each once");
    for (line, row) in told.iter().zip(rows) {
        assert_eq!((line["id"].to_string(), line["uri"].as_str().unwrap()), (row[0].into(), row[1]));
        assert_eq!(line["score"].as_f64().unwrap() as f32, row[2].parse::<f32>().unwrap());
        assert!((line["pvalue"].as_f64().unwrap() - row[3].parse::<f64>().unwrap()).abs() < 1e-15, "{line}, {row:?}");
        assert_eq!(line["is_ood"].to_string(), row[4]);
        assert_eq!(row[5], if row[1].contains("/left/") { "left" } else { "" });
        assert_eq!(line["neighbors"].as_array().unwrap().len(), 2);
        assert!(line["threshold"].is_f64() && line["q"].is_null() && line["dataset"] == "incoming", "{line}");
    }
    assert!(told.iter().any(|line| line["is_ood"] == true) && told.iter().any(|line| line["is_ood"] == false));

    // a second run tells what comes then, and of that only what lies outside; a changed picture is another one
    let (inside, outside): (Vec<&Value>, Vec<&Value>) = told.iter().partition(|line| line["is_ood"] == false);
    let path = |line: &Value| PathBuf::from(line["uri"].as_str().unwrap());
    std::fs::write(place.at("out"), "").unwrap();
    let watching = place.watching(&[]).await;
    place.comes(&path(inside[0]), "inside.png");
    place.comes(&path(outside[0]), "outside.png");
    std::fs::copy(path(outside[1]), path(inside[1])).unwrap();
    let changed = name_of(inside[1]["uri"].as_str().unwrap());
    until("both are told", &place, async || place.told().len() >= 2).await;
    until("all are there", &place, async || place.sql("SELECT uri FROM images").await.contains("/inside.png")).await;
    watching.end("-INT");
    assert_eq!(place.told(), BTreeMap::from([(changed, 1), ("outside.png".into(), 1)]));
    let again = place.lines().into_iter().find(|line| line["uri"] == inside[1]["uri"]).unwrap();
    assert_eq!(again["id"], inside[1]["id"]);
}

#[tokio::test]
async fn a_file_that_is_written_slowly_or_broken_is_taken_when_it_is_whole() {
    let place = Place::new().await;
    let drawn = place.drawn();
    let watching = place.watching(&["--all"]).await;
    let bytes = std::fs::read(&drawn[0]).unwrap();
    let (slow, broken) = (place.incoming().join("slow.png"), place.incoming().join("broken.png"));
    std::fs::write(&broken, &bytes[..bytes.len() / 2]).unwrap();
    std::fs::write(place.incoming().join("notes.txt"), "x").unwrap();
    for end in (0..=bytes.len()).step_by(bytes.len() / 8).chain([bytes.len()]) {
        std::fs::write(&slow, &bytes[..end]).unwrap();
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    let rejects = "SELECT uri FROM rejects WHERE dataset = 'incoming'";
    until("the slow one is told", &place, async || place.told().contains_key("slow.png")).await;
    until("the broken one is named", &place, async || place.sql(rejects).await.contains("/broken.png")).await;
    assert!(place.said().contains("refused: ") && !place.told().contains_key("broken.png"), "{}", place.said());
    std::fs::write(&broken, &bytes).unwrap();
    until("it is told when it is mended", &place, async || place.told().contains_key("broken.png")).await;
    watching.end("-TERM");
    assert!(place.said().contains("files that are no pictures are left alone, 1 so far"), "{}", place.said());
    assert!(place.said().contains("; 1 that are no pictures left alone"), "{}", place.said());
    assert_eq!(place.sql(rejects).await.lines().count(), 1);
    assert_eq!(place.told(), BTreeMap::from([("broken.png".into(), 1), ("slow.png".into(), 1)]));
    let hashes =
        "SELECT count(DISTINCT content_hash) AS files, count(*) AS rows FROM images WHERE dataset = 'incoming'";
    assert_eq!(place.sql(hashes).await, "files,rows\n1,2\n", "as they are whole");
}

#[tokio::test]
async fn killed_at_any_moment_it_loses_nothing() {
    let place = Place::new().await;
    let drawn = place.drawn();
    let mut came = 0;
    let parts = drawn.chunks(drawn.len().div_ceil(6));
    for (at, some) in parts.enumerate() {
        let watching = place.watching(&["--all"]).await;
        for path in some {
            place.comes(path, &format!("{came}.png"));
            came += 1;
        }
        // once it is at work, at another moment each time
        let before = place.sql("SELECT count(*) FROM images").await;
        until("it ingests", &place, async || place.sql("SELECT count(*) FROM images").await != before).await;
        tokio::time::sleep(Duration::from_millis(13 * at as u64)).await;
        watching.kill();
    }
    let watching = place.watching(&["--all"]).await;
    until("all are told", &place, async || place.told().len() == came).await;
    watching.end("-TERM");
    let rows = "SELECT count(*) AS rows, count(DISTINCT uri) AS uris FROM images WHERE dataset = 'incoming'";
    assert_eq!(place.sql(rows).await, format!("rows,uris\n{came},{came}\n"));
}

#[tokio::test]
async fn what_was_ingested_and_not_told_is_told_at_the_start() {
    let place = Place::new().await;
    let drawn = place.drawn();
    let (incoming, db) = (place.incoming(), place.db());
    place.comes(&drawn[0], "first.png");
    let watching = place.watching(&["--all"]).await;
    until("the first is told", &place, async || place.told().len() == 1).await;
    watching.end("-TERM");
    // as one that was killed between leaves it
    place.comes(&drawn[1], "second.png");
    let ingest =
        ["ingest", incoming.to_str().unwrap(), "--dataset", "incoming", "--backbone", "demo_shapes", "--no-refresh"];
    outskirt(&db, &ingest).await.unwrap();
    let watching = place.watching(&["--all"]).await;
    until("the second is told", &place, async || place.told().len() == 2).await;
    watching.end("-TERM");
    assert!(place.told().values().all(|times| *times == 1), "{:?}", place.told());
    // and a picture that was put in place of another one
    let state = state_file(&std::fs::canonicalize(&db).unwrap(), &incoming, "incoming", "shapes");
    let mut kept: Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
    assert_eq!(kept["batch"], Value::Null);
    let since = chrono::Utc::now().timestamp_nanos_opt().unwrap();
    let uri = std::fs::canonicalize(&incoming).unwrap().join("first.png");
    kept["batch"] = serde_json::json!({ "since": since, "uris": [uri] });
    std::fs::copy(&drawn[2], incoming.join("first.png")).unwrap();
    outskirt(&db, &ingest).await.unwrap();
    std::fs::write(&state, kept.to_string()).unwrap();
    let watching = place.watching(&["--all"]).await;
    until("it is told again", &place, async || place.told()["first.png"] == 2).await;
    watching.end("-TERM");
    assert_eq!(place.told()["second.png"], 1);
    // a state that is none is not passed over
    std::fs::write(&state, "{").unwrap();
    let line = ["watch", incoming.to_str().unwrap(), "--dataset", "incoming", "--bank", "shapes"];
    let error = outskirt(&db, &line).await.unwrap_err();
    assert!(error.contains("which says up to which image was told") && error.contains("remove it"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_watched_is_said_at_once() {
    let place = Place::new().await;
    let (db, incoming) = (place.db(), place.incoming());
    let incoming = incoming.to_str().unwrap();
    let refused = async |folder: &str, bank: &str, more: &[&str]| {
        let line = [&["watch", folder, "--dataset", "incoming", "--bank", bank], more].concat();
        let error = outskirt(&db, &line).await.unwrap_err();
        assert!(!error.contains('\n') || error.contains("--help"), "{error}");
        error
    };
    let missing = place.at("nowhere");
    let error = refused(missing.to_str().unwrap(), "shapes", &[]).await;
    assert!(error.starts_with("no such file or folder: ") && error.contains("nowhere"), "{error}");
    let file = &place.drawn()[0];
    assert!(refused(file.to_str().unwrap(), "shapes", &[]).await.contains("is no folder"));
    assert!(refused(incoming, "cars", &[]).await.contains("unknown bank 'cars': known are shapes"));
    outskirt(&db, &["bank", "create", "plain", "--backbone", "demo_shapes", "--where", "split = 'train'", "--k", "2"])
        .await
        .unwrap();
    assert!(refused(incoming, "plain", &[]).await.contains("not calibrated"));
    assert!(refused(incoming, "shapes", &["--fdr", "1.5"]).await.contains("--fdr 1.5 must lie between 0 and 1"));
    assert!(refused(incoming, "shapes", &["--fdr", "0.001"]).await.contains("calibration images"));
    assert!(refused(incoming, "shapes", &["--tpr", "1"]).await.contains("tpr"));
    assert!(refused(incoming, "shapes", &["--tpr", "0.9", "--fdr", "0.1"]).await.contains("cannot be used with"));
    assert!(refused(incoming, "shapes", &["--poll=-1"]).await.contains("--poll"));
    let error = refused(incoming, "shapes", &["--weights", "/nowhere.safetensors"]).await;
    assert!(error.contains("nowhere.safetensors"), "{error}");
    // two would tell the same images
    let watching = place.watching(&[]).await;
    until("it has its state", &place, async || db.join("watch").is_dir()).await;
    let first = std::fs::read_dir(db.join("watch")).unwrap().next();
    assert!(first.is_some());
    assert!(refused(incoming, "shapes", &[]).await.contains("another 'outskirt watch' tells these images already"));
    watching.end("-TERM");
    let nothing = outskirt(&place.at("none"), &["watch", incoming, "--dataset", "x", "--bank", "shapes"]).await;
    assert!(nothing.unwrap_err().contains("none"));
}

/// Thirty calibration images give no p-value below 1/31: among thirteen that are decided of together one outlier could not be told
/// at a rate of 0.2, so no more than six are.
#[tokio::test]
async fn one_outlier_among_ordinary_pictures_is_told_at_a_false_discovery_rate() {
    let place = Place::new().await;
    let ordinary = place.drawn().into_iter().filter(|path| path.starts_with(place.at("id/test"))).take(12);
    for (at, path) in ordinary.enumerate() {
        place.comes(&path, &format!("{at}.png"));
    }
    place.comes(&place.at("ood/noise/0000.png"), "noise.png");
    let watching = place.watching(&["--fdr", "0.2", "--all"]).await;
    until("all are told", &place, async || place.told().len() == 13).await;
    watching.end("-TERM");
    let lines = place.lines();
    let noise = lines.iter().find(|line| name_of(line["uri"].as_str().unwrap()) == "noise.png").unwrap();
    assert!(noise["is_ood"] == true && noise["q"].as_f64().unwrap() <= 0.2, "{noise}");
}

/// Who relies on alerts must see that nobody reads them any more.
#[tokio::test]
async fn a_reader_that_goes_away_ends_it_with_an_error() {
    let place = Place::new().await;
    let db = place.db();
    let mut child = Command::new(PROGRAM)
        .arg("--db")
        .arg(&db)
        .arg("watch")
        .arg(place.incoming())
        .args(["--dataset", "incoming", "--bank", "shapes", "--settle", "0.3", "--poll", "0.1", "--all"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(place.at("err")).unwrap())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    until("it watches", &place, async || place.said().contains(WATCHING)).await;
    place.comes(&place.drawn()[0], "0.png");
    until("it has ended", &place, async || place.said().contains("error: nobody reads what is printed any more")).await;
    assert_eq!(child.wait().unwrap().code(), Some(2));
}

async fn network(db: &Path) -> Backbone {
    let options = LoadOptions {
        weights: None,
        with_logits: false,
        device: Device::Cpu,
        precision: Precision::F32,
        trusted: Trusted::default(),
    };
    load_in(db, "demo_shapes", &options).await.unwrap()
}

#[tokio::test]
async fn the_library_waits_for_other_writers_and_decides_by_a_rate() {
    let place = Place::new().await;
    let (drawn, backbone) = (place.drawn(), network(&place.db()).await);
    let store = Store::open(&place.db()).await.unwrap();
    let ingest = IngestOptions {
        dataset: "incoming".into(),
        split: "live".into(),
        store_images: true,
        workers: 1,
        strict: false,
        again: false,
    };
    let options = WatchOptions {
        folder: place.incoming(),
        ingest,
        bank: "shapes".into(),
        limit: Limit::Fdr(0.2),
        neighbors: 0,
        settle: Duration::ZERO,
        poll: Duration::from_millis(20),
        state: place.at("state.json"),
        follow: true,
    };
    drawn.iter().enumerate().for_each(|(at, path)| place.comes(path, &format!("{at}.png")));
    let (stop, mut held) = (Stop::default(), Some(store.lock().await.unwrap()));
    let (mut told, mut notices): (Vec<Decided>, Vec<String>) = (Vec::new(), Vec::new());
    let mut together: Vec<Vec<Decided>> = Vec::new();
    #[allow(clippy::result_large_err, reason = "the library's error")]
    let tell = |heard: Told<'_>| {
        match heard {
            Told::Images(images) => {
                told.extend_from_slice(images);
                together.push(images.to_vec());
            }
            Told::Notice(line) => {
                notices.push(line.into());
                // the other writer ends once it was said that it is waited for
                held = None;
            }
        }
        if told.len() == drawn.len() {
            stop.stop();
        }
        Ok(())
    };
    let watched = tokio::time::timeout(PATIENCE, watch(&store, &backbone, &options, &stop, tell)).await;
    let watched = watched.expect("it ends").unwrap();
    assert!(notices[0].contains("is tried again"), "{notices:?}");
    assert_eq!((watched.images, watched.ood), (drawn.len(), told.iter().filter(|image| image.is_ood).count()));
    assert!(told.iter().all(|image| image.threshold.is_none() && image.split == "live"));
    for image in &told {
        assert_eq!(image.is_ood, image.q.unwrap() <= 0.2, "{image:?}");
    }
    // Benjamini and Hochberg's procedure, over what was decided of together
    for images in together {
        assert!(images.len() <= 6, "{}", images.len());
        let mut pvalues: Vec<f64> = images.iter().map(|image| image.pvalue).collect();
        pvalues.sort_by(f64::total_cmp);
        let most = pvalues.len() as f64;
        let limit = pvalues.iter().zip(1..).filter(|(p, rank)| **p <= 0.2 * f64::from(*rank) / most).last();
        for image in images {
            assert_eq!(image.is_ood, limit.is_some_and(|(limit, _)| image.pvalue <= *limit), "{image:?}");
        }
    }
    assert!(told.iter().any(|image| image.is_ood));
}
