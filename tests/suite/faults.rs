//! What a crash, a full disk, a damaged file or another program can do to a database: nothing that is committed is lost,
//! nothing is there twice, and no score is wrong.
//!
//! `OUTSKIRT_KILLS=1008` runs the long form of the kill test (`make faults`).

#![expect(clippy::print_stdout, reason = "what was done, or could not be done here")]

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Float32Type};
use futures::TryStreamExt;
use outskirt::bank;
use outskirt::index::{IndexKind, Storage};
use outskirt::schema;
use outskirt::sql::session::Session;
use outskirt::store::Store;
use outskirt::verify::{State, verify};

use super::fixture::{Image, TOY, calibrated, circle, database, outskirt, toy_database};
use super::migrations::version_1;

const PROGRAM: &str = env!("CARGO_BIN_EXE_outskirt");
/// Kills where nothing else is asked for.
const KILLS: usize = 16;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn share(&mut self) -> f64 {
        self.next() as f64 / (1u64 << 31) as f64
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Number and size of all files: it moves with the first one that is written.
fn footprint(folder: &Path) -> (usize, u64) {
    let Ok(entries) = std::fs::read_dir(folder) else { return (0, 0) };
    entries.flatten().fold((0, 0), |(count, size), entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => {
            let inside = footprint(&entry.path());
            (count + 1 + inside.0, size + inside.1)
        }
        Ok(metadata) => (count + 1, size + metadata.len()),
        Err(_) => (count, size),
    })
}

/// A database whose bank has a graph, a calibration and kept scores, and is behind its table by more than a fifth.
async fn behind(folder: &Path) {
    let mut random = Random(3);
    let rows: Vec<Image> = (0..2000)
        .map(|i| {
            let split = ["train", "train", "train", "val", "test"][i % 5];
            ("id", split, Some((0..16).map(|_| random.share() as f32 - 0.5).collect()))
        })
        .collect();
    let store = database(folder, 16, &rows).await;
    bank::create(&store, &circle(IndexKind::Hnsw(Storage::F32))).await.unwrap();
    bank::calibrate(&store, "circle", "split = 'val'", None).await.unwrap();
    outskirt(folder, &["score", "circle"]).await.unwrap();
    outskirt(folder, &["sql", "UPDATE images SET split = 'gone' WHERE id % 7 < 2 AND split = 'train'"]).await.unwrap();
    outskirt(folder, &["sql", "DELETE FROM images WHERE id % 40 = 5"]).await.unwrap();
}

/// One command, what it runs on, and what its database holds that must not depend on interruptions.
struct Operation {
    name: &'static str,
    template: PathBuf,
    arguments: Vec<String>,
    state: Vec<String>,
}

impl Operation {
    fn new(name: &'static str, template: &Path, arguments: &[&str], more: &[&str]) -> Self {
        let column = column(name);
        let scores = format!(
            "SET outskirt.stale_bank = 'ignore'; SELECT id, knn_ood_score({column}, 'circle') FROM images ORDER BY id"
        );
        let state = [
            "SELECT id, dataset, split, uri, label FROM images ORDER BY id",
            scores.as_str(),
            "SELECT name, row_count FROM banks",
            "SELECT bank, k, array_length(scores) FROM calibrations",
        ];
        Self {
            name,
            template: template.into(),
            arguments: arguments.iter().map(|argument| (*argument).into()).collect(),
            state: state.iter().chain(more).map(|query| (*query).into()).collect(),
        }
    }

    fn command(&self, db: &Path) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("--db").arg(db).args(&self.arguments).stdin(Stdio::null());
        command
    }

    async fn state(&self, db: &Path) -> Vec<String> {
        let mut state = Vec::new();
        for query in &self.state {
            state.push(outskirt(db, &["sql", query, "--format", "csv"]).await.unwrap().0);
        }
        state
    }
}

fn same(found: &[String], truth: &[String], what: &str) {
    for (found, truth) in found.iter().zip(truth) {
        let differing = found.lines().zip(truth.lines()).find(|(a, b)| a != b);
        assert!(found == truth, "{what}: {} and {} lines, {differing:?}", found.lines().count(), truth.lines().count());
    }
}

/// Ids of all images, which must be different.
async fn ids(db: &Path) -> Vec<String> {
    let (rows, _) = outskirt(db, &["sql", "SELECT id FROM images ORDER BY id", "--format", "csv"]).await.unwrap();
    let ids: Vec<String> = rows.lines().skip(1).map(str::to_owned).collect();
    let mut once = ids.clone();
    once.dedup();
    assert_eq!(ids, once, "no row twice");
    let twins = "SELECT uri FROM images GROUP BY uri HAVING count(*) > 1";
    assert_eq!(outskirt(db, &["sql", twins, "--format", "csv"]).await.unwrap().0, "uri\n");
    ids
}

/// Whether everything in a database is well; what a crash leaves is a leftover, and no problem.
async fn well(db: &Path, what: &str) {
    let store = Store::open(db).await.unwrap();
    for finding in verify(&store, 16, false).await.unwrap() {
        let well = matches!(finding.state, State::Well(_) | State::Leftover(_));
        assert!(well, "{what}: {finding:?}");
    }
}

/// All operations; those that take some seconds where `long` asks for them.
async fn operations(folder: &Path, long: bool) -> Vec<Operation> {
    let (stale, old) = (folder.join("stale.db"), folder.join("old"));
    behind(&stale).await;
    let old = version_1(&old);
    let refreshed = folder.join("refreshed.db");
    copy(&stale, &refreshed);
    outskirt(&refreshed, &["bank", "refresh", "circle"]).await.unwrap();
    let deleted = folder.join("deleted.db");
    copy(&refreshed, &deleted);
    let version = Store::open(&deleted).await.unwrap().version(schema::IMAGES).await.unwrap().to_string();
    outskirt(&deleted, &["delete", "--where", "id % 3 = 1"]).await.unwrap();
    let restored = ["SELECT id, circle_score, array_to_string(toy, ' ') FROM images ORDER BY id"];
    let mut all = vec![
        Operation::new("restore", &deleted, &["restore", "--version", &version], &restored),
        Operation::new("refresh", &stale, &["bank", "refresh", "circle"], &[]),
        Operation::new("calibrate", &stale, &["bank", "calibrate", "circle", "--where", "split = 'test'"], &[]),
        Operation::new("score", &refreshed, &["score", "circle"], &["SELECT id, circle_score FROM images ORDER BY id"]),
        Operation::new("optimize", &refreshed, &["optimize"], &["SELECT id, circle_score FROM images ORDER BY id"]),
        Operation::new("delete", &refreshed, &["delete", "--where", "id % 3 = 1"], &[]),
        Operation::new("update", &refreshed, &["sql", "UPDATE images SET label = 'x' WHERE id % 5 = 0"], &[]),
        Operation::new("undo", &deleted, &["undo"], &restored),
        Operation::new(
            "migrate",
            &old,
            &["migrate"],
            &["SELECT version, name, checksum FROM schema_migrations ORDER BY version"],
        ),
    ];
    all.extend(embedding(folder).await.into_iter().filter(|one| long || one.name != "ingest of several commits"));
    all
}

/// The embeddings of the bank that an operation's database has.
fn column(operation: &str) -> &'static str {
    if matches!(operation, "ingest" | "ingest of several commits" | "embed") { "demo_shapes" } else { TOY }
}

async fn embedding(folder: &Path) -> [Operation; 3] {
    use outskirt::demo::{Counts, write_pictures};
    let pictures = folder.join("pictures");
    write_pictures(&pictures, 7, Counts { train: 12, calibration: 6, test: 2, ood: 2 }).unwrap();
    let db = folder.join("ingested.db");
    let arguments = |part: &str| {
        let path = pictures.join(part).to_str().unwrap().to_owned();
        let split = part.rsplit('/').next().unwrap().to_owned();
        ["ingest", &path, "--dataset", "id", "--split", &split, "--backbone", "demo_shapes"].map(str::to_owned)
    };
    let run = async |part: &str| {
        let arguments = arguments(part);
        outskirt(&db, &arguments.each_ref().map(String::as_str)).await.unwrap();
    };
    run("id/calibration").await;
    let whole = [
        "bank",
        "create",
        "circle",
        "--backbone",
        "demo_shapes",
        "--where",
        "dataset = 'id'",
        "--k",
        "5",
        "--index",
        "hnsw",
    ];
    outskirt(&db, &whole).await.unwrap();
    let archive = folder.join("many.tar");
    std::fs::write(&archive, several_commits(&pictures.join("id/train"))).unwrap();
    let many = ["ingest", archive.to_str().unwrap(), "--dataset", "id", "--split", "many", "--backbone", "demo_shapes"];
    let logits = ["SELECT id, demo_shapes_logits[1], demo_shapes_logits[10] FROM images ORDER BY id"];
    [
        Operation::new("ingest", &db, &arguments("id/train").each_ref().map(String::as_str), &[]),
        Operation::new("ingest of several commits", &db, &many, &[]),
        Operation::new("embed", &db, &["embed", "--backbone", "demo_shapes", "--with-logits"], &logits),
    ]
}

/// An archive whose pictures are committed in four parts: between them lie as many files that are none as a commit may refuse.
fn several_commits(pictures: &Path) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |name: String, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes).unwrap();
    };
    let mut found: Vec<PathBuf> = Vec::new();
    for class in std::fs::read_dir(pictures).unwrap() {
        found.extend(std::fs::read_dir(class.unwrap().path()).unwrap().map(|entry| entry.unwrap().path()));
    }
    found.sort();
    for (at, picture) in found.iter().take(40).enumerate() {
        add(format!("class/{at}.png"), &std::fs::read(picture).unwrap());
        if at % 10 == 9 {
            (0..8200).for_each(|none| add(format!("class/{at}-{none}.png"), b"none"));
        }
    }
    archive.into_inner().unwrap()
}

/// An operation that ran once undisturbed, and what its kills came to.
struct Killed {
    operation: Operation,
    before: Vec<String>,
    after: Vec<String>,
    truth: Vec<String>,
    whole: Duration,
    /// From its first file on.
    writing: Duration,
    kills: usize,
    running: usize,
    wrote: usize,
    /// Some of its rows were there, and not all.
    between: usize,
}

impl Killed {
    async fn new(operation: Operation, db: &Path) -> Self {
        copy(&operation.template, db);
        let before = if operation.name == "migrate" { Vec::new() } else { ids(db).await };
        let (start, untouched) = (Instant::now(), footprint(db));
        let mut child = operation.command(db).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut first = None;
        while child.try_wait().unwrap().is_none() {
            if first.is_none() && footprint(db) != untouched {
                first = Some(start.elapsed());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(child.wait().unwrap().success(), "{}", operation.name);
        let whole = start.elapsed();
        let writing = whole - first.unwrap_or(whole);
        let (truth, after) = (operation.state(db).await, ids(db).await);
        std::fs::remove_dir_all(db).unwrap();
        Self { operation, before, after, truth, whole, writing, kills: 0, running: 0, wrote: 0, between: 0 }
    }

    async fn kill(&mut self, db: &Path, random: &mut Random) {
        let operation = &self.operation;
        let what = format!("{} of {}", self.kills, operation.name);
        copy(&operation.template, db);
        let untouched = footprint(db);
        let mut child = operation.command(db).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        if self.kills % 4 == 3 {
            std::thread::sleep(self.whole.mul_f64(1.1 * random.share()));
        } else {
            // from the first file on: that is where something can break
            while child.try_wait().unwrap().is_none() && footprint(db) == untouched {
                std::thread::sleep(Duration::from_micros(200));
            }
            std::thread::sleep(self.writing.mul_f64(1.1 * random.share()));
        }
        child.kill().unwrap();
        self.kills += 1;
        self.running += usize::from(child.wait().unwrap().signal() == Some(9));
        self.wrote += usize::from(footprint(db) != untouched);

        let mut again = operation.command(db);
        if operation.name != "migrate" {
            let found = ids(db).await;
            let is_one = found == self.before || found == self.after;
            self.between += usize::from(!is_one);
            match operation.name {
                "ingest" | "ingest of several commits" => {
                    assert!(self.before.iter().all(|id| found.contains(id)), "{what}: {} rows", found.len());
                }
                _ => assert!(is_one, "{what}: {} rows", found.len()),
            }
            // the bank opens, and its index and graph are built where there are none
            let column = column(operation.name);
            let score = format!("SELECT sum(knn_ood_score({column}, 'circle')) FROM images");
            let query = format!("SET outskirt.stale_bank = 'ignore'; {score}; SET outskirt.search = 'hnsw'; {score}");
            outskirt(db, &["sql", &query]).await.unwrap_or_else(|error| panic!("{what}: {error}"));
            well(db, &what).await;
            if operation.name == "undo" && found == self.after {
                // a second one would take back the change before
                again = Command::new(PROGRAM);
                again.arg("--db").arg(db).args(["bank", "refresh", "circle"]);
            }
        }
        let again = again.output().unwrap();
        assert!(again.status.success(), "{what}: {}", String::from_utf8_lossy(&again.stderr));
        same(&operation.state(db).await, &self.truth, &what);
        well(db, &what).await;
        std::fs::remove_dir_all(db).unwrap();
    }
}

#[tokio::test]
async fn a_process_killed_anywhere_leaves_what_it_found_or_what_it_was_to_do() {
    let kills = std::env::var("OUTSKIRT_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let (db, mut random) = (folder.path().join("killed.db"), Random(kills as u64));
    let mut all = Vec::new();
    for operation in operations(folder.path(), kills > KILLS).await {
        all.push(Killed::new(operation, &db).await);
    }
    let start = Instant::now();
    for round in 0..kills {
        let which = round % all.len();
        all[which].kill(&db, &mut random).await;
        if (round + 1) % 100 == 0 {
            println!("{} kills in {:.0} s", round + 1, start.elapsed().as_secs_f64());
        }
    }
    for Killed { operation, kills, running, wrote, between, .. } in &all {
        let name = operation.name;
        println!("{name}: {kills} kills, {running} while it ran, {wrote} had written, {between} between two commits");
    }
}

/// The column of the scores was there without that of their versions: `verify` called the database broken.
#[tokio::test]
async fn columns_of_scores_are_added_together_and_one_alone_is_no_problem() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), IndexKind::Exact).await;
    let of_bank = |name: &str, kind| {
        let metadata = [(schema::SCORE_BANK_KEY, "circle"), (schema::SCORE_K_KEY, "5")];
        Field::new(name, kind, true).with_metadata(metadata.map(|(key, value)| (key.into(), value.into())).into())
    };
    let fields = [of_bank("circle_score", DataType::Float32), of_bank("circle_score_version", DataType::UInt64)];
    let lock = store.lock().await.unwrap();
    store.add_null_columns(&lock, schema::IMAGES, &fields[..1]).await.unwrap();
    well(folder.path(), "one of two columns").await;
    store.drop_column(&lock, schema::IMAGES, "circle_score").await.unwrap();
    let before = store.version(schema::IMAGES).await.unwrap();
    store.add_null_columns(&lock, schema::IMAGES, &fields).await.unwrap();
    assert_eq!(store.version(schema::IMAGES).await.unwrap(), before + 1);
    let table = store.schema(schema::IMAGES).await.unwrap();
    fields.iter().for_each(|field| assert_eq!(table.field_with_name(field.name()).unwrap(), field));
    store.drop_column(&lock, schema::IMAGES, "circle_score_version").await.unwrap();
    drop(lock);
    outskirt(folder.path(), &["score", "circle"]).await.unwrap();
    well(folder.path(), "both columns").await;
    let scored = "SELECT count(circle_score) AS scores, count(circle_score_version) AS versions FROM images";
    let (scored, _) = outskirt(folder.path(), &["sql", scored, "--format", "csv"]).await.unwrap();
    assert_eq!(scored, "scores,versions\n90,90\n");
}

/// What is wrong, how it came about, and what is said of it.
type Fault<'a> = (&'a str, Box<dyn Fn() + 'a>, &'a str);

fn flip(file: &Path, at: fn(usize) -> usize) {
    let mut bytes = std::fs::read(file).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 0x40;
    std::fs::write(file, bytes).unwrap();
}

fn cut(file: &Path, length: u64) {
    std::fs::File::options().write(true).open(file).unwrap().set_len(length).unwrap();
}

/// After each fault a query gives what it gave, says why, and mends it; so does `verify --repair`.
async fn each_is_mended(db: &Path, query: &str, faults: Vec<Fault<'_>>) {
    let print = async || outskirt(db, &["sql", query, "--format", "csv"]).await.unwrap();
    let whole = print().await;
    assert_eq!(whole.1, "");
    for (name, damage, reason) in faults {
        damage();
        let told = outskirt(db, &["verify"]).await.unwrap_err();
        assert!(told.contains("1 problem in") && told.contains("--repair"), "{name}: {told}");
        let found = print().await;
        assert_eq!(found.0, whole.0, "{name}");
        assert!(found.1.contains(reason) && found.1.contains("rebuilt"), "{name}: {}", found.1);
        assert_eq!(print().await.1, "", "{name}: the repair was saved");
        damage();
        let (mended, _) = outskirt(db, &["verify", "--repair"]).await.unwrap();
        assert!(mended.contains("mended") && mended.contains(reason), "{name}: {mended}");
        assert_eq!(print().await, whole, "{name}");
        outskirt(db, &["verify"]).await.unwrap();
    }
}

#[tokio::test]
async fn a_damaged_index_is_refused_for_a_reason_and_built_again() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), IndexKind::Hnsw(Storage::F32)).await;
    let other = bank::BankSpec {
        name: "other".into(),
        predicate: "split <> 'train'".into(),
        ..circle(IndexKind::Hnsw(Storage::F32))
    };
    bank::create(&store, &other).await.unwrap();
    let query =
        format!("SET outskirt.search = 'hnsw'; SELECT id, knn_ood_score({TOY}, 'circle') FROM images ORDER BY id");
    let indexes = folder.path().join("indexes");
    let (graph, sidecar) = (indexes.join("circle.hnsw"), indexes.join("circle.hnsw.json"));
    let (flipped, cut) = (|at: fn(usize) -> usize| flip(&graph, at), |length: u64| cut(&graph, length));
    let length = std::fs::metadata(&graph).unwrap().len();
    let edited = |from: &str, to: &str| {
        let text = std::fs::read_to_string(&sidecar).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&sidecar, text.replace(from, to)).unwrap();
    };
    let faults: Vec<Fault<'_>> = vec![
        ("cut in half", Box::new(|| cut(length / 2)), "its checksum is wrong"),
        ("emptied", Box::new(|| cut(0)), "its checksum is wrong"),
        ("one byte more", Box::new(|| cut(length + 1)), "its checksum is wrong"),
        ("first byte", Box::new(|| flipped(|_| 0)), "its checksum is wrong"),
        ("middle byte", Box::new(|| flipped(|length| length / 2)), "its checksum is wrong"),
        ("last byte", Box::new(|| flipped(|length| length - 1)), "its checksum is wrong"),
        ("a later format", Box::new(|| edited("\"format\": 1", "\"format\": 9")), "format 9, this outskirt reads 1"),
        ("other options", Box::new(|| edited("\"connectivity\": 16", "\"connectivity\": 8")), "other options"),
        ("other weights", Box::new(|| edited(&"a".repeat(64), &"b".repeat(64))), "another bank or network"),
        (
            "a version to come",
            Box::new(|| edited("\"table_version\": ", "\"table_version\": 9")),
            "it was built from version 9",
        ),
        (
            "other rows",
            Box::new(|| edited("\"rows\": 40", "\"rows\": 41")),
            "it holds 40 rows, and says that it was made from 41",
        ),
        ("no sidecar left", Box::new(|| std::fs::remove_file(&sidecar).unwrap()), "its sidecar cannot be read"),
        ("half a sidecar", Box::new(|| std::fs::write(&sidecar, "{\"format\": 1").unwrap()), "sidecar: "),
        ("no graph left", Box::new(|| std::fs::remove_file(&graph).unwrap()), "no such file"),
        (
            "another bank's graph",
            Box::new(|| assert!(std::fs::copy(indexes.join("other.hnsw"), &graph).unwrap() > 0)),
            "its checksum is wrong",
        ),
        (
            "another bank's files",
            Box::new(|| {
                std::fs::copy(indexes.join("other.hnsw"), &graph).unwrap();
                std::fs::copy(indexes.join("other.hnsw.json"), &sidecar).unwrap();
            }),
            "another bank or network",
        ),
    ];
    each_is_mended(folder.path(), &query, faults).await;
}

/// A disk that comes back, a file that another program puts in place: what failed once does not stay in a session.
#[tokio::test]
async fn a_bank_that_could_not_be_read_once_is_read_by_the_next_query() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), IndexKind::Exact).await;
    let session = Session::open(&store).await.unwrap();
    let score = async || -> Result<f32, String> {
        let query = "SELECT knn_ood_score([1.0, 0.0, 0.0], 'circle') AS s";
        let frame = session.sql(query).await.map_err(|error| error.to_string())?;
        let batches = frame.collect().await.map_err(|error| error.to_string())?;
        Ok(batches[0].column(0).as_primitive::<Float32Type>().value(0))
    };
    let (data, away) = (folder.path().join("images.lance/data"), folder.path().join("away"));
    std::fs::remove_file(folder.path().join("indexes/circle.exact")).unwrap();
    std::fs::rename(&data, &away).unwrap();
    let error = score().await.unwrap_err();
    assert!(error.contains("circle"), "{error}");
    std::fs::rename(&away, &data).unwrap();
    assert!((0.0..1.0).contains(&score().await.unwrap()));
}

#[tokio::test]
async fn a_damaged_exact_index_is_refused_for_a_reason_and_built_again() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), IndexKind::Exact).await;
    let other =
        bank::BankSpec { name: "other".into(), predicate: "split <> 'train'".into(), ..circle(IndexKind::Exact) };
    bank::create(&store, &other).await.unwrap();
    let query = format!("SELECT id, knn_ood_score({TOY}, 'circle') FROM images ORDER BY id");
    let print = async || outskirt(folder.path(), &["sql", &query, "--format", "csv"]).await.unwrap();
    let whole = print().await;
    assert_eq!(whole.1, "");
    let indexes = folder.path().join("indexes");
    let file = indexes.join("circle.exact");
    let (flipped, cut) = (|at: fn(usize) -> usize| flip(&file, at), |length: u64| cut(&file, length));
    let length = std::fs::metadata(&file).unwrap().len();
    let faults: Vec<Fault<'_>> = vec![
        ("cut in half", Box::new(|| cut(length / 2)), "it was cut off"),
        ("emptied", Box::new(|| cut(0)), "it has 0 bytes"),
        ("one byte more", Box::new(|| cut(length + 1)), "its index is damaged"),
        ("first byte", Box::new(|| flipped(|_| 0)), "it was not finished, or is another kind of file"),
        ("a later format", Box::new(|| flipped(|_| 8)), "format 65, this outskirt reads 1"),
        ("its note", Box::new(|| flipped(|_| 120)), "its beginning is damaged"),
        ("its rows", Box::new(|| flipped(|_| 4096)), "rows are damaged"),
        ("last byte", Box::new(|| flipped(|length| length - 1)), "its index is damaged"),
        (
            "another bank's",
            Box::new(|| assert!(std::fs::copy(indexes.join("other.exact"), &file).unwrap() > 0)),
            "another bank or network",
        ),
    ];
    each_is_mended(folder.path(), &query, faults).await;
    // one that is not there is made without a word
    std::fs::remove_file(&file).unwrap();
    let (verified, _) = outskirt(folder.path(), &["verify"]).await.unwrap();
    assert!(verified.contains("none yet: the next search makes it") && !file.exists(), "{verified}");
    assert_eq!(print().await, whole);
    assert!(file.exists());
}

/// Run a script as root of a namespace of its own, where it may mount; `None` where the system does not allow that.
fn mounting(script: &str, variables: &[(&str, &Path)]) -> Option<Output> {
    let run = |script: &str| {
        Command::new("unshare").args(["-rm", "sh", "-c", script]).envs(variables.iter().copied()).output()
    };
    let probe = run("mount -t tmpfs -o size=64k tmpfs \"$AT\" && mount -o remount,ro \"$AT\"");
    if !probe.is_ok_and(|output| output.status.success()) {
        println!("skipped: 'unshare -rm' with a mount is not allowed here");
        return None;
    }
    run(script).ok()
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_the_next_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("mounted");
    std::fs::create_dir(&at).unwrap();
    let operations = operations(folder.path(), false).await;
    for operation in &operations {
        let whole = folder.path().join("whole");
        copy(&operation.template, &whole);
        assert!(operation.command(&whole).output().unwrap().status.success());
        let truth = operation.state(&whole).await;
        std::fs::remove_dir_all(&whole).unwrap();
        let quoted: Vec<String> =
            operation.arguments.iter().map(|argument| format!("'{}'", argument.replace('\'', "'\\''"))).collect();
        for free in [0, 8, 40, 200] {
            let out = folder.path().join(format!("{}-{free}", operation.name));
            let run = format!("\"$PROGRAM\" --db \"$AT/db\" {}", quoted.join(" "));
            // an undo that was done is not done again: what it could not do is to bring the bank up to date
            let next = match operation.name {
                "undo" => "\"$PROGRAM\" --db \"$AT/db\" bank refresh circle".to_owned(),
                _ => run.clone(),
            };
            let script = format!(
                "mount -t tmpfs -o size=200m tmpfs \"$AT\" && cp -r \"$TEMPLATE\" \"$AT/db\" || exit 9
                 used=$(df -k --output=used \"$AT\" | tail -1)
                 mount -o remount,size=$((used + {free}))k \"$AT\" || exit 9
                 {run}; first=$?; echo \"first $first\"
                 mount -o remount,size=200m \"$AT\"
                 if [ $first = 0 ]; then {next}; else {run}; fi; echo \"second $?\"
                 cp -r \"$AT/db\" \"$OUT\""
            );
            let variables = [
                ("AT", at.as_path()),
                ("PROGRAM", Path::new(PROGRAM)),
                ("TEMPLATE", &operation.template),
                ("OUT", &out),
            ];
            let Some(output) = mounting(&script, &variables) else { return };
            let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            let what = format!("{} with {free} KiB: {said}{told}", operation.name);
            assert!(said.contains("second 0"), "{what}");
            if said.contains("first 2") {
                let errors: Vec<&str> = told.lines().filter(|line| line.starts_with("error: ")).collect();
                assert!(matches!(errors[..], [error] if error.contains("the disk is full")), "{what}");
            } else {
                assert!(said.contains("first 0") && free > 0, "{what}");
            }
            same(&operation.state(&out).await, &truth, &what);
            well(&out, &what).await;
            std::fs::remove_dir_all(&out).unwrap();
        }
    }
}

#[tokio::test]
async fn a_read_only_database_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (at, db) = (folder.path().join("mounted"), folder.path().join("db"));
    std::fs::create_dir(&at).unwrap();
    calibrated(&db, IndexKind::Hnsw(Storage::F32)).await;
    std::fs::remove_file(db.join("indexes/circle.hnsw")).unwrap();
    let script = "mount --bind \"$DB\" \"$AT\" && mount -o remount,ro,bind \"$AT\" || exit 9
        run() { \"$PROGRAM\" --db \"$AT\" \"$@\"; echo \"exit $?\"; }
        run sql \"SET outskirt.search = 'hnsw'; SELECT count(*) AS n FROM images WHERE is_ood(toy, 'circle')\" --format csv
        run bank list
        run delete --where true
        run optimize
        run bank refresh circle
        run sql \"UPDATE images SET label = 'x'\"";
    let variables = [("AT", at.as_path()), ("DB", &db), ("PROGRAM", Path::new(PROGRAM))];
    let Some(output) = mounting(script, &variables) else { return };
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.starts_with("n\n") && said.contains("exit 0") && said.matches("exit 2").count() == 4, "{said}{told}");
    assert!(told.contains("rebuilt in memory only"), "{told}");
    assert_eq!(told.matches("can only be read here").count(), 5, "{told}");
}

#[tokio::test]
async fn of_two_writers_one_is_told_to_wait() {
    let folder = tempfile::tempdir().unwrap();
    toy_database(folder.path()).await;
    let spawn = |writer: usize| {
        let insert = format!(
            "INSERT INTO images (dataset, split, uri, width, height, content_hash) VALUES ('new', '', '/{writer}.png', 1, 1, '')"
        );
        let mut command = Command::new(PROGRAM);
        command.arg("--db").arg(folder.path()).args(["sql", &insert]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let writers: Vec<_> = (0..6).map(spawn).collect();
    let mut wrote = 0;
    for writer in writers {
        let output = writer.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => wrote += 1,
            _ => assert!(told.starts_with("error: another program is writing to "), "{told}"),
        }
    }
    assert!(wrote >= 1);
    let count = "SELECT count(*) AS n, count(DISTINCT id) AS ids FROM images WHERE dataset = 'new'";
    let (counted, _) = outskirt(folder.path(), &["sql", count, "--format", "csv"]).await.unwrap();
    assert_eq!(counted, format!("n,ids\n{wrote},{wrote}\n"));
    // a lock that a killed writer held is free
    let insert =
        "INSERT INTO images (dataset, split, uri, width, height, content_hash) VALUES ('new', '', '/6.png', 1, 1, '')";
    outskirt(folder.path(), &["sql", insert]).await.unwrap();
}

#[tokio::test]
async fn a_reader_keeps_its_version_while_others_delete_refresh_and_optimize() {
    let folder = tempfile::tempdir().unwrap();
    let (store, bank) = calibrated(folder.path(), IndexKind::Hnsw(Storage::F32)).await;
    let session = Session::open(&store).await.unwrap();
    drop(store);
    let query = format!("SELECT count(*) AS n, sum(knn_ood_score({TOY}, 'circle')) AS s FROM images");
    let read = async |session: &Session| {
        let rows: Vec<_> =
            session.sql(&query).await.unwrap().execute_stream().await.unwrap().try_collect().await.unwrap();
        arrow::util::pretty::pretty_format_batches(&rows).unwrap().to_string()
    };
    let command = |arguments: &[&str]| {
        let output = Command::new(PROGRAM).arg("--db").arg(folder.path()).args(arguments).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{told}");
        (String::from_utf8_lossy(&output.stdout).into_owned(), told)
    };
    command(&["delete", "--where", "id % 4 = 0"]);
    let (_, told) = command(&["optimize"]);
    assert!(told.contains("the database is being read by another program"), "{told}");
    // opened only now, and still what it was
    let before = read(&session).await;
    assert!(before.contains("| 91 |"), "{before}");
    assert_eq!(read(&session).await, before);
    assert_eq!(session.banks().definition("circle").unwrap().table_version, bank.table_version);
    let now = Session::open(&Store::open(folder.path()).await.unwrap()).await.unwrap();
    assert!(read(&now).await.contains("| 69 |"));
    drop((session, now));
    let (_, told) = command(&["optimize"]);
    assert_eq!(told, "");
    let store = Store::open(folder.path()).await.unwrap();
    assert_eq!(store.versions("images").await.unwrap().len(), 1);
}
