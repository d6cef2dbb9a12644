//! Random statements over scores, beside the same statements over a table in which the scores are columns.
//!
//! What the planner does with a score (bounds, one computation for several uses, early filters) must not change a row.
//! `make test` runs a few hundred statements of one seed; `make sqlfuzz` runs as many as it is given, and writes statements,
//! rows and the table for DuckDB (tests/sqlfuzz.py), which does not share DataFusion's faults as the twin does.
#![expect(clippy::print_stdout, reason = "what was run")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Float64Type};
use futures::TryStreamExt;
use outskirt::bank;
use outskirt::index::IndexKind;
use outskirt::schema;
use outskirt::sql::session::Session;
use outskirt::store::Store;

use super::fixture::{Image, circle, database, outskirt};

/// Random numbers, the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    fn one<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.below(of.len())]
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// A score, and the twin's column that holds it. `@` is where the alias of the table goes.
const SCORES: [(&str, &str); 5] = [
    ("knn_ood_score(@toy, 'circle')", "@s5"),
    ("knn_ood_score(@toy, 'circle', 3)", "@s3"),
    ("knn_ood_score(@toy, 'circle', 5, @id)", "@own"),
    ("knn_ood_pvalue(@toy, 'circle')", "@p"),
    ("is_ood(@toy, 'circle')", "@far"),
];
const NUMBERS: usize = 4;

/// A text with `{n:a}` where score n of the table with alias a stands, and `{images}` where the table does.
fn written(template: &str, images: &str, is_twin: bool) -> String {
    let mut text = template.replace("{images}", images);
    for (at, (score, column)) in SCORES.iter().enumerate() {
        for alias in ["", "a.", "b.", "c."] {
            let with = if is_twin { column } else { score };
            text = text.replace(&format!("{{{at}:{alias}}}"), &with.replace('@', alias));
        }
    }
    text
}

/// Statements. Every one has an order that decides each place, or its rows are compared as a set.
struct Statements {
    random: Random,
}

impl Statements {
    fn score(&mut self, alias: &str) -> String {
        format!("{{{}:{alias}}}", self.random.below(NUMBERS))
    }

    fn number(&mut self, alias: &str, depth: usize) -> String {
        match self.random.below(if depth == 0 { 4 } else { 8 }) {
            0 | 1 | 4 => self.score(alias),
            2 => format!("{alias}camera"),
            3 => format!("{alias}id"),
            5 => format!("abs({} * -2)", self.score(alias)),
            6 => {
                let condition = self.condition(alias, depth - 1);
                format!("CASE WHEN {condition} THEN {} ELSE {} END", self.score(alias), self.score(alias))
            }
            _ => format!("coalesce({}, 0.25)", self.score(alias)),
        }
    }

    /// Exact in f32, and near real scores.
    fn constant(&mut self) -> String {
        let sixteenths = self.random.below(34);
        format!("{}", sixteenths as f64 / 16.0)
    }

    fn text(&mut self, alias: &str) -> String {
        let column = self.random.one(&["dataset", "split", "label"]);
        format!("{alias}{column}")
    }

    fn value(&mut self) -> String {
        let value = self.random.one(&["id", "ood", "unseen", "train", "val", "test", "star", "ring", "none of them"]);
        format!("'{value}'")
    }

    fn condition(&mut self, alias: &str, depth: usize) -> String {
        let kinds = if depth == 0 { 9 } else { 16 };
        match self.random.below(kinds) {
            0 | 1 => {
                let comparison = self.random.one(&[">", ">=", "<", "<=", "=", "<>"]);
                format!("{} {comparison} {}", self.score(alias), self.constant())
            }
            2 => format!("{{4:{alias}}}"),
            3 => format!("{} = {}", self.text(alias), self.value()),
            4 => {
                let not = self.random.one(&["", "NOT "]);
                format!("{} {not}IN ({}, {})", self.text(alias), self.value(), self.value())
            }
            5 => {
                let not = self.random.one(&["", "NOT "]);
                let (low, high) = (self.constant(), self.constant());
                format!("{} {not}BETWEEN {low} AND {high}", self.score(alias))
            }
            6 => format!("{} IS {}NULL", self.number(alias, 0), self.random.one(&["", "NOT "])),
            7 => format!("{alias}id % {} = {}", 2 + self.random.below(5), self.random.below(3)),
            8 => format!("{alias}camera < {}", self.random.below(6)),
            9 | 10 => {
                let (one, other) = (self.condition(alias, depth - 1), self.condition(alias, depth - 1));
                format!("({one} {} {other})", self.random.one(&["AND", "OR"]))
            }
            11 => format!("NOT ({})", self.condition(alias, depth - 1)),
            12 => {
                // with NULLs among the labels
                let not = self.random.one(&["", "NOT "]);
                let inner = self.condition("", 0);
                let column = self.random.one(&["dataset", "split", "label"]);
                format!("{alias}{column} {not}IN (SELECT {column} FROM {{images}} WHERE {inner})")
            }
            13 => {
                let not = self.random.one(&["", "NOT "]);
                let inner = self.condition("c.", 0);
                let outer = if alias.is_empty() { "1 = 1".into() } else { format!("c.id = {alias}id + 1") };
                format!("{not}EXISTS (SELECT 1 FROM {{images}} AS c WHERE {outer} AND {inner})")
            }
            14 => {
                let (inner, score) = (self.condition("", 0), self.score(""));
                let aggregate = self.random.one(&["min", "max"]);
                let comparison = self.random.one(&[">", "<="]);
                format!(
                    "{} {comparison} (SELECT {aggregate}({score}) FROM {{images}} WHERE {inner})",
                    self.score(alias)
                )
            }
            _ => format!("{} > {}", self.number(alias, depth - 1), self.number(alias, depth - 1)),
        }
    }

    fn order(&mut self, alias: &str, id: &str) -> String {
        let mut keys = Vec::new();
        for _ in 0..self.random.below(3) {
            let key = if self.random.chance(70) { self.number(alias, 1) } else { self.text(alias) };
            let direction = self.random.one(&["", " DESC"]);
            keys.push(format!("{key}{direction} NULLS {}", self.random.one(&["FIRST", "LAST"])));
        }
        keys.push(format!("{id}{}", self.random.one(&["", " DESC"])));
        format!(" ORDER BY {}", keys.join(", "))
    }

    fn limit(&mut self) -> String {
        let mut text = String::new();
        if self.random.chance(60) {
            let _ = write!(text, " LIMIT {}", self.random.below(40));
            if self.random.chance(40) {
                let _ = write!(text, " OFFSET {}", self.random.below(20));
            }
        }
        text
    }

    fn filter(&mut self, alias: &str) -> String {
        if self.random.chance(85) { format!(" WHERE {}", self.condition(alias, 2)) } else { String::new() }
    }

    /// A query, and whether its order decides each place.
    fn query(&mut self) -> (String, bool) {
        match self.random.below(10) {
            0..=2 => {
                let (one, other) = (self.number("", 2), self.text(""));
                let distinct = if self.random.chance(10) { "DISTINCT " } else { "" };
                let (filter, order, limit) = (self.filter(""), self.order("", "id"), self.limit());
                if !distinct.is_empty() {
                    return (format!("SELECT DISTINCT {other} AS t, {{4:}} AS f FROM {{images}}{filter}"), false);
                }
                // the keys of the order are not always among the columns
                let first = if self.random.chance(50) { "id".into() } else { format!("{one} AS n") };
                (format!("SELECT {first}, {other} AS t FROM {{images}}{filter}{order}{limit}"), true)
            }
            3 | 4 => {
                let (group, filter) = (self.text(""), self.filter(""));
                let (low, high) = (self.score(""), self.score(""));
                let having = match self.random.below(3) {
                    0 => format!(" HAVING max({}) > {}", self.score(""), self.constant()),
                    1 => " HAVING count(*) > 3".into(),
                    _ => String::new(),
                };
                let ordered =
                    self.random.one(&["g NULLS FIRST", "n DESC, g NULLS LAST", "m NULLS FIRST, g NULLS LAST"]);
                let limit = self.limit();
                (
                    format!(
                        "SELECT {group} AS g, count(*) AS n, count({low}) AS c, min({low}) AS m, max({high}) AS x, \
                         avg({high}) AS v, sum(camera) AS w FROM {{images}}{filter} GROUP BY {group}{having} \
                         ORDER BY {ordered}{limit}"
                    ),
                    true,
                )
            }
            5 => {
                let (filter, part, key) = (self.filter(""), self.text(""), self.score(""));
                let function = self.random.one(&["row_number()", "rank()", "count(*)"]);
                let direction = self.random.one(&["", " DESC"]);
                let tie = if function.starts_with("row") { ", id" } else { "" };
                (
                    format!(
                        "SELECT id, {function} OVER (PARTITION BY {part} ORDER BY {key}{direction} NULLS LAST{tie}) AS r, \
                         lag(id) OVER (ORDER BY id) AS l FROM {{images}}{filter} ORDER BY id{}",
                        self.limit()
                    ),
                    true,
                )
            }
            6 => {
                let kind = self.random.one(&["JOIN", "LEFT JOIN"]);
                let (one, other) = (self.score("a."), self.score("b."));
                let (more, filter) = (self.condition("b.", 0), self.filter("a."));
                let order = self.order("a.", "a.id");
                (
                    format!(
                        "SELECT a.id, b.id AS other, {one} AS x, {other} AS y FROM {{images}} AS a {kind} {{images}} AS b \
                         ON a.id = b.id + {} AND {more}{filter}{order}{}",
                        1 + self.random.below(3),
                        self.limit()
                    ),
                    true,
                )
            }
            7 => {
                let (inner, score, limit) = (self.filter(""), self.score(""), self.limit());
                let outer = self.random.one(&["x > 0.25", "x IS NULL", "f", "NOT f", "x <= 1 OR f"]);
                (
                    format!(
                        "WITH t AS (SELECT id, {score} AS x, {{4:}} AS f FROM {{images}}{inner}) \
                         SELECT id, x FROM t WHERE {outer} ORDER BY x DESC NULLS LAST, id{limit}"
                    ),
                    true,
                )
            }
            8 => {
                let (one, other) = (self.filter(""), self.filter(""));
                let set = self.random.one(&["UNION ALL", "UNION", "EXCEPT", "INTERSECT"]);
                (
                    format!(
                        "SELECT dataset, {{4:}} AS f FROM {{images}}{one} {set} SELECT dataset, {{4:}} FROM {{images}}{other}"
                    ),
                    false,
                )
            }
            _ => {
                let (filter, score) = (self.filter(""), self.score(""));
                let condition = self.condition("", 0);
                (
                    format!(
                        "SELECT count(*) AS n, count(*) FILTER (WHERE {condition}) AS k, max({score}) AS x, \
                         sum(CASE WHEN {condition} THEN 1 ELSE 0 END) AS c FROM {{images}}{filter}"
                    ),
                    true,
                )
            }
        }
    }
}

/// A value as it is compared: floats of sums may differ in their last bits.
#[derive(Debug, Clone, PartialEq, PartialOrd, serde::Serialize)]
#[serde(untagged)]
enum Cell {
    Null,
    Number(f64),
    Text(String),
}

fn cells(batches: &[RecordBatch]) -> Vec<Vec<Cell>> {
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<ArrayRef> = batch
            .columns()
            .iter()
            .map(|column| match column.data_type() {
                kind if kind.is_numeric() || *kind == DataType::Boolean => cast(column, &DataType::Float64).unwrap(),
                _ => cast(column, &DataType::Utf8).unwrap(),
            })
            .collect();
        rows.extend((0..batch.num_rows()).map(|row| {
            let cell = |column: &ArrayRef| match column.data_type() {
                _ if column.is_null(row) => Cell::Null,
                DataType::Float64 => Cell::Number(column.as_primitive::<Float64Type>().value(row)),
                _ => Cell::Text(column.as_string::<i32>().value(row).into()),
            };
            columns.iter().map(cell).collect::<Vec<_>>()
        }));
    }
    rows
}

fn settle(mut rows: Vec<Vec<Cell>>, ordered: bool) -> Vec<Vec<Cell>> {
    if !ordered {
        rows.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    }
    rows
}

fn are_equal(one: &[Vec<Cell>], other: &[Vec<Cell>]) -> bool {
    let equal = |(a, b): (&Cell, &Cell)| match (a, b) {
        (Cell::Number(a), Cell::Number(b)) => (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0) || a == b,
        _ => a == b,
    };
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a.len() == b.len() && a.iter().zip(b).all(equal))
}

async fn run(session: &Session, query: &str) -> Result<Vec<Vec<Cell>>, String> {
    let mut batches = Vec::new();
    for statement in session.parse(query).map_err(|error| error.to_string())? {
        let stream = session.run(statement).await.map_err(|error| error.to_string())?;
        batches = stream.try_collect().await.map_err(|error| outskirt::Error::from(error).to_string())?;
    }
    Ok(cells(&batches))
}

/// 260 images: ties, NULLs in every column, and rows that lie in another order than their ids.
async fn shuffled(folder: &Path, random: &mut Random) -> Store {
    let angle = |degrees: f64| Some(vec![degrees.to_radians().cos() as f32, degrees.to_radians().sin() as f32, 0.0]);
    let mut rows: Vec<Image> = Vec::new();
    rows.extend((0..60).map(|i| ("id", "train", angle(f64::from(i % 50) * 0.5))));
    rows.extend((0..30).map(|i| ("id", "val", angle(f64::from(i) * 0.9))));
    rows.extend((0..80).map(|i| ("id", "test", angle(f64::from(i % 40) * 0.8))));
    rows.extend((0..70).map(|i| ("ood", "test", angle(25.0 + 2.0 * f64::from(i % 60)))));
    rows.extend((0..20).map(|_| ("unseen", "test", None)));
    let store = database(folder, 3, &rows).await;
    bank::create(&store, &circle(IndexKind::Exact)).await.unwrap();
    bank::calibrate(&store, "circle", "dataset = 'id' AND split = 'val'", None).await.unwrap();
    let own = "ALTER TABLE images ADD COLUMN camera INT; \
               UPDATE images SET camera = id % 7 WHERE id % 5 <> 0; \
               UPDATE images SET label = CASE id % 3 WHEN 0 THEN 'star' ELSE 'ring' END WHERE id % 4 <> 1";
    outskirt(folder, &["sql", own]).await.unwrap();
    let lock = store.lock().await.unwrap();
    let columns: Vec<String> =
        store.schema(schema::IMAGES).await.unwrap().fields().iter().map(|field| field.name().clone()).collect();
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    for _ in 0..4 {
        // a row that is written anew moves to the end
        let some = format!("id % {} = {}", 3 + random.below(9), random.below(3));
        let batches: Vec<RecordBatch> =
            store.scan(schema::IMAGES, None, &columns, Some(&some)).await.unwrap().try_collect().await.unwrap();
        let Some(first) = batches.first() else { continue };
        let all = concat_batches(&first.schema(), &batches).unwrap();
        let mut order: Vec<u32> = (0..all.num_rows() as u32).collect();
        (1..order.len()).rev().for_each(|at| order.swap(at, random.below(at + 1)));
        let all = take_record_batch(&all, &UInt32Array::from(order)).unwrap();
        store.upsert(&lock, schema::IMAGES, &[schema::ID], all, false).await.unwrap();
    }
    drop(lock);
    bank::refresh(&store, "circle").await.unwrap();
    bank::calibrate(&store, "circle", "dataset = 'id' AND split = 'val'", None).await.unwrap();
    store
}

fn twin() -> String {
    let scores = SCORES.map(|(score, column)| format!("{} AS {}", score.replace('@', ""), column.replace('@', "")));
    format!("SELECT id, dataset, split, label, camera, {} FROM images", scores.join(", "))
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_statements_over_scores_give_what_they_give_over_columns() {
    let seed = setting("OUTSKIRT_SQLFUZZ_SEED").unwrap_or(20_221_128);
    let count = setting("OUTSKIRT_SQLFUZZ_COUNT").unwrap_or(250);
    let out = std::env::var_os("OUTSKIRT_SQLFUZZ_OUT").map(PathBuf::from);
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(seed);
    let store = shuffled(folder.path(), &mut random).await;
    let session = Session::open(&store).await.unwrap();
    run(&session, &format!("CREATE TABLE twin AS {}", twin())).await.unwrap();
    let mut lines = String::new();
    let mut statements = Statements { random };
    let (mut wrong, mut refused, mut empty) = (Vec::new(), 0, 0);
    for number in 0..count {
        let (template, ordered) = statements.query();
        let over_twin = written(&template, "twin", true);
        let over_images = written(&template, "images", false);
        // some of them prepared
        let over_images = match number % 5 {
            0 => format!("PREPARE p{number} AS {over_images}; EXECUTE p{number}"),
            _ => over_images,
        };
        let (expected, found) = (run(&session, &over_twin).await, run(&session, &over_images).await);
        match (expected, found) {
            (Ok(expected), Ok(found)) => {
                empty += usize::from(expected.is_empty());
                let (expected, found) = (settle(expected, ordered), settle(found, ordered));
                if !are_equal(&expected, &found) {
                    wrong.push(format!(
                        "{over_images}\n-- gives {} rows, its twin {}\n{over_twin}",
                        found.len(),
                        expected.len()
                    ));
                }
                let line = serde_json::json!({"sql": over_twin, "ordered": ordered, "rows": found});
                let _ = writeln!(lines, "{line}");
            }
            // what DataFusion cannot do, it cannot do over columns either
            (Err(_), Err(_)) => refused += 1,
            (expected, found) => {
                wrong.push(format!("{over_images}\n-- {:?}, its twin {:?}", found.err(), expected.err()));
            }
        }
    }
    println!("{count} statements of seed {seed}: {refused} refused, {empty} without rows, {} wrong", wrong.len());
    if let Some(out) = out {
        std::fs::create_dir_all(&out).unwrap();
        std::fs::write(out.join("statements.jsonl"), lines).unwrap();
        let table = out.join("twin.parquet");
        run(&session, &format!("COPY twin TO '{}'", table.display())).await.unwrap();
    }
    assert!(wrong.is_empty(), "{} of seed {seed}:\n{}", wrong.len(), wrong.join("\n\n"));
    assert!(refused * 20 < count as usize, "{refused} of {count} refused: the generator has to learn what there is");
    assert!(empty * 2 < count as usize, "{empty} of {count} give no rows: nothing is compared");
}

/// A copy of a database's folder.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_changes_touch_the_rows_that_their_condition_names() {
    let seed = setting("OUTSKIRT_SQLFUZZ_SEED").unwrap_or(20_221_128);
    let count = setting("OUTSKIRT_SQLFUZZ_COUNT").map_or(16, |count| count / 20);
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let mut random = Random(seed ^ 0xdead_beef);
    let store = shuffled(&whole, &mut random).await;
    let session = Session::open(&store).await.unwrap();
    run(&session, &format!("CREATE TABLE twin AS {}", twin())).await.unwrap();
    let mut statements = Statements { random };
    let mut wrong = Vec::new();
    for number in 0..count {
        let condition = statements.condition("", 2);
        let (over_images, over_twin) = (written(&condition, "images", false), written(&condition, "twin", true));
        let named = format!("SELECT id FROM twin WHERE {over_twin} ORDER BY id");
        let Ok(expected) = run(&session, &named).await else { continue };
        let db = folder.path().join(format!("copy{number}"));
        copy(&whole, &db);
        let copied = Store::open(&db).await.unwrap();
        let changing = Session::open(&copied).await.unwrap();
        let (change, found) = if number % 2 == 0 {
            ("UPDATE images SET split = 'changed'", "SELECT id FROM images WHERE split = 'changed' ORDER BY id")
        } else {
            ("DELETE FROM images", "SELECT id FROM twin WHERE id NOT IN (SELECT id FROM images) ORDER BY id")
        };
        run(&changing, "CREATE TABLE twin AS SELECT id FROM images").await.unwrap();
        let change = format!("{change} WHERE {over_images}");
        match run(&changing, &change).await {
            Ok(_) => {
                let found = run(&changing, found).await.unwrap();
                if found != expected {
                    wrong.push(format!(
                        "{change}\n-- {} rows, and the condition names {}",
                        found.len(),
                        expected.len()
                    ));
                }
            }
            Err(error) => wrong.push(format!("{change}\n-- {error}")),
        }
    }
    assert!(wrong.is_empty(), "{} of seed {seed}:\n{}", wrong.len(), wrong.join("\n\n"));
}
