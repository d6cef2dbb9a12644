//! One bank checked: its rows against the table, its distances against brute force, what is derived from it against it.

use arrow::array::AsArray;
use arrow::datatypes::{Float32Type, UInt64Type};
use futures::TryStreamExt;

use super::changes::churn_of;
use super::derived::{Derived, Part, leftover_files, make};
use super::graph::{hnsw_path, hnsw_sidecar};
use super::origin::at_origin;
use super::rows::{draw, read_whole};
use super::shards::counted;
use super::{Bank, Calibration, Definition, exact, list_calibrations};
use crate::error::{Error, Result};
use crate::index::vectors::{Rows, Vectors, embedding, normalize};
use crate::index::{Exact, IndexKind, LEAST_RECALL, Origin, Search, SearchOptions, kth_distances_brute, tolerance};
use crate::schema;
use crate::store::memory;
use crate::store::{Store, WriteLock};

/// How far distances of exact search may be from brute force, kept scores from both, and a graph's below them.
const TOLERANCE: f32 = 1e-5;
/// By how much the share of sampled k-th distances that a graph has right may be below what it was measured at, and is to be:
/// others were sampled then, and chance is in both.
const MOST_BELOW: f64 = 0.06;

/// How something was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// As it should be, and what was looked at.
    Well(String),
    /// It was not, and is now.
    Mended(String),
    /// There is something that nobody needs: repairing removes it. No problem.
    Leftover(String),
    /// Something derived was made for a version that the bank never got to: the next search makes it anew. No problem.
    Behind(String),
    /// Something derived is missing or wrong: repairing makes it again.
    Derived(String),
    /// Something is wrong that no other data can mend.
    Broken(String),
}

impl State {
    /// Well, or broken for a reason.
    pub(crate) fn of(checked: Result<String>) -> Self {
        checked.map_or_else(|error| Self::Broken(error.to_string()), Self::Well)
    }
}

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub subject: String,
    /// How it was found.
    pub state: State,
}

/// Check a bank, its graph, its calibrations and its kept scores with `sample` images. With a lock, mend what is derived.
pub async fn examine(store: &Store, bank: &Definition, sample: usize, lock: Option<&WriteLock>) -> Vec<Finding> {
    let (mut findings, opened) = examine_index(store, bank, sample, lock).await;
    let Some(exact) = opened else { return findings };
    let finding = |what: &str, state| Finding { subject: format!("{what} {}", bank.name), state };
    if bank.index_kind().is_ok_and(IndexKind::has_graph) {
        findings.push(finding("graph of", graph(store, bank, &exact, sample, lock).await));
    }
    match list_calibrations(store).await {
        Ok(all) => findings.extend(
            all.iter()
                .filter(|made| made.bank == bank.name)
                .map(|made| finding("calibration of", State::of(calibration(bank, made)))),
        ),
        Err(error) => findings.push(finding("calibrations of", State::Broken(error.to_string()))),
    }
    match score_columns(store, bank).await {
        Ok(columns) => {
            for column in columns {
                let kept = kept_scores(store, &exact, &column, sample).await;
                findings.push(Finding { subject: format!("scores {column}"), state: State::of(kept) });
            }
        }
        Err(error) => findings.push(finding("scores of", State::Broken(error.to_string()))),
    }
    findings
}

/// The bank's exact index, or those of its shards, its rows and its distances; and the bank, opened where it is well.
async fn examine_index(
    store: &Store,
    bank: &Definition,
    sample: usize,
    lock: Option<&WriteLock>,
) -> (Vec<Finding>, Option<Bank>) {
    let broken = |error: Error| {
        (vec![Finding { subject: format!("bank {}", bank.name), state: State::Broken(error.to_string()) }], None)
    };
    let sharded = matches!(bank.index_kind(), Ok(IndexKind::Sharded(_)));
    let parts = match sharded {
        true => match counted(store, bank).await {
            Ok(shards) => shards.into_iter().filter(|shard| shard.row_count > 0).collect(),
            Err(error) => return broken(error),
        },
        false => vec![bank.clone()],
    };
    let (mut findings, mut opened) = (Vec::new(), None);
    for part in &parts {
        // one at a time
        drop(opened.take());
        let finding = |what: &str, state| Finding { subject: format!("{what} {}", part.name), state };
        // the index is held in f32, or else all rows, twice for a moment, that it is compared with
        let needed = Exact::bytes(part.row_count, part.dimension).max(8 * (part.row_count * part.dimension) as u64);
        let what = format!("verifying bank '{}'", part.name);
        if let Err(error) = memory::check(&what, needed, "do it on a larger machine") {
            findings.push(finding("bank", State::Broken(error.to_string())));
            return (findings, None);
        }
        let (index, is_whole) = exact_index(store, bank, part, lock).await;
        findings.push(finding("index of", index));
        let state = match compare(store, part, sample.div_ceil(parts.len()), is_whole).await {
            Ok((facts, exact)) => {
                opened = Some(exact);
                State::Well(facts)
            }
            Err(error) => {
                findings.push(finding("bank", State::Broken(error.to_string())));
                return (findings, None);
            }
        };
        let is_last = part.name == parts[parts.len() - 1].name;
        let state = match is_last {
            true => tagged(store, bank, lock).await.unwrap_or_else(|error| State::Broken(error.to_string())).or(state),
            false => state,
        };
        findings.push(finding("bank", state));
    }
    if sharded {
        drop(opened.take());
        match Bank::open(store, bank.clone(), SearchOptions::default()).await {
            Ok(all) => opened = Some(all),
            Err(error) => findings.extend(broken(error).0),
        }
    }
    (findings, opened)
}

impl State {
    /// What `self` says where it is a problem, else the other.
    fn or(self, other: Self) -> Self {
        if matches!(self, Self::Well(_)) { other } else { self }
    }
}

/// Files beside the tables that belong to no bank, removed with a lock; `None` where there are none.
pub fn leftovers(store: &Store, banks: &[Definition], lock: Option<&WriteLock>) -> Result<Option<State>> {
    let files = leftover_files(store, banks)?;
    let names: Vec<String> =
        files.iter().map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned()).collect();
    if names.is_empty() {
        return Ok(None);
    }
    let facts = format!("files of no bank: {}", names.join(", "));
    if lock.is_none() {
        return Ok(Some(State::Leftover(facts)));
    }
    for file in &files {
        std::fs::remove_file(file).map_err(Error::io("remove", file))?;
    }
    Ok(Some(State::Mended(format!("{facts}; removed"))))
}

/// The bank read and searched, out of its index where that is whole, its distances from sampled images compared with
/// brute force.
async fn compare(store: &Store, bank: &Definition, sample: usize, is_whole: bool) -> Result<(String, Bank)> {
    let columns = store.embedding_columns().await?;
    if !columns.iter().any(|column| column.backbone == bank.backbone && column.sha256 == bank.sha256) {
        let known = columns.into_iter().map(|column| column.backbone).collect();
        return Err(Error::NoEmbeddings { name: bank.backbone.clone(), known });
    }
    // a shard may have fewer rows
    let k = if bank.bank() == bank.name { bank.check_k(bank.k as i128)? } else { bank.k.min(bank.row_count) };
    let queries = sampled(store, bank, sample).await?;
    let truth = {
        let rows = read_whole(store, bank).await?.vectors.to_values();
        kth_distances_brute(Vectors::new(&rows, bank.dimension), Vectors::new(&queries, bank.dimension), k)
    };
    let opened = match is_whole {
        true => Bank::load_exact(store, bank).await?,
        false => Bank::lay_out(store, bank, Search::Exact.into()).await?,
    };
    let found = opened.kth_distances(Vectors::new(&queries, bank.dimension), k)?;
    let off = largest(truth.iter().zip(&found).map(|(a, b)| (a - b).abs()));
    if !within(off) {
        let reason = format!("exact search is off by {off:.1e} from comparing every row, on {} images", truth.len());
        return Err(Error::BankUnreadable { bank: bank.name.clone(), reason });
    }
    let (rows, version, count) = (bank.row_count, bank.follows(), truth.len());
    let as_brute_force = if off == 0.0 { "equal".into() } else { format!("within {off:.0e} of") };
    let facts = format!("{rows} rows in version {version}; {count} distances at k = {k} {as_brute_force} brute force");
    Ok((facts, opened))
}

/// Whether the version that the bank is read from is kept.
async fn tagged(store: &Store, bank: &Definition, lock: Option<&WriteLock>) -> Result<State> {
    let tags = store.tags(schema::IMAGES).await?;
    if tags.iter().any(|(tag, version)| bank.owns(tag) && *version == bank.follows()) {
        return Ok(State::Well(String::new()));
    }
    let facts = format!("nothing keeps version {} of images from being pruned", bank.follows());
    if lock.is_none() {
        return Ok(State::Derived(facts));
    }
    store.tag(schema::IMAGES, &bank.tag(), bank.follows()).await?;
    Ok(State::Mended(format!("{facts}; tagged")))
}

/// The exact index as it lies on disk: all of it is read, and compared with its checksums. Whether it is whole, too.
async fn exact_index(store: &Store, whole: &Definition, bank: &Definition, lock: Option<&WriteLock>) -> (State, bool) {
    let check = async || -> Result<String> {
        let (_, origin) = exact::find(store, bank)?;
        let base = at_origin(store, bank, &origin).await?;
        // not kept: there is to be room for the rows that it is compared with
        drop(Bank::load_exact(store, bank).await?);
        let changed = 100.0 * churn_of(store, bank, &base).await?;
        Ok(format!("checksums right; made from version {}, {changed:.1} % changed since", base.table_version))
    };
    let reason = match check().await {
        Ok(facts) => return (State::Well(facts), true),
        Err(reason) => reason,
    };
    let missing = !exact::exact_path(store, bank).exists();
    let Some(lock) = lock else {
        let none = || State::Well("none yet: the next search makes it".into());
        let state = match ahead(store, bank, exact::find(store, bank).map(|(_, origin)| origin)).await {
            _ if missing => none(),
            Some(facts) => State::Behind(facts),
            None => State::Derived(reason.to_string()),
        };
        return (state, false);
    };
    let mended = async {
        make(store, lock, whole, &[Part { of: bank.clone(), which: Derived::Exact }]).await?;
        check().await
    };
    match mended.await {
        Ok(facts) => (State::Mended(format!("{reason}; built anew: {facts}")), true),
        Err(error) => (State::Broken(format!("{reason}; building it anew: {error}")), false),
    }
}

/// What to say of a file that was made for a later version than the bank's: a refresh was ended before its last step.
async fn ahead(store: &Store, bank: &Definition, origin: Result<Origin>) -> Option<String> {
    let (made, follows) = (origin.ok()?.table_version, bank.table_version);
    let latest = store.version(schema::IMAGES).await.ok()?;
    (follows < made && made <= latest).then(|| {
        format!("made for version {made}, where a refresh was interrupted; the bank is at {follows}: the next search or refresh makes it anew")
    })
}

async fn graph(store: &Store, bank: &Definition, exact: &Bank, sample: usize, lock: Option<&WriteLock>) -> State {
    let checked = check_graph(store, bank, exact, sample).await;
    let reason = match checked {
        Ok(facts) => return State::Well(facts),
        Err(reason) => reason,
    };
    let Some(lock) = lock else {
        let origin =
            hnsw_sidecar(bank).and_then(|wanted| wanted.beside(&hnsw_path(store, bank))).map(|found| found.origin);
        return match ahead(store, bank, origin).await {
            Some(facts) => State::Behind(facts),
            None => State::Derived(reason.to_string()),
        };
    };
    let mended = async {
        make(store, lock, bank, &[Part { of: bank.clone(), which: Derived::Graph }]).await?;
        check_graph(store, bank, exact, sample).await
    };
    match mended.await {
        Ok(facts) => State::Mended(format!("{reason}; built anew: {facts}")),
        Err(error) => State::Broken(format!("{reason}; building it anew: {error}")),
    }
}

/// The graph as it lies on disk, brought up to the bank in memory, beside exact search.
async fn check_graph(store: &Store, bank: &Definition, exact: &Bank, sample: usize) -> Result<String> {
    let path = hnsw_path(store, bank);
    let found = hnsw_sidecar(bank)?.verify(&path)?;
    let (base, opened) = (at_origin(store, bank, &found.origin).await?, Bank::load_hnsw(store, bank, &found).await?);
    let queries = sampled(store, bank, sample).await?;
    let queries = Vectors::new(&queries, bank.dimension);
    let (truth, distances) = (exact.kth_distances(queries, bank.k)?, opened.kth_distances(queries, bank.k)?);
    let bad = |reason| Error::BadIndexFile { path: path.clone(), reason };
    // a graph misses neighbours: what it finds instead is farther. Numbers in fewer bits move both ways
    let tolerance = |query| tolerance(found.options.storage, found.step, queries.row(query));
    let differences: Vec<f32> = truth.iter().zip(&distances).map(|(exact, graph)| graph - exact).collect();
    let nearer = differences.iter().enumerate().any(|(query, &off)| off < -tolerance(query));
    if nearer {
        return Err(bad("it finds neighbours nearer than there are".into()));
    }
    let right = differences.iter().enumerate().filter(|&(query, off)| off.abs() <= tolerance(query)).count();
    // where the data allow no more, building it anew would not help: the bank's list and every search by it say so
    let (kept, sampled) =
        (found.quality.map_or(LEAST_RECALL, |kept| kept.recall.min(LEAST_RECALL)), truth.len() as f64);
    if (right as f64) < (kept - MOST_BELOW) * sampled {
        let percent = 100.0 * kept;
        return Err(bad(format!("of {sampled} sampled k-th distances only {right} are right, and not {percent:.1} %")));
    }
    let off = largest(differences.iter().map(|off| off.abs()));
    let churn = churn_of(store, bank, &base).await?;
    let measured =
        found.quality.map_or(String::new(), |kept| format!(", {:.1} % when it was measured", 100.0 * kept.recall));
    Ok(format!(
        "checksum right; built from version {}, {:.1} % changed since; {right} of {} k-th distances right, off by {off:.1e} at most{measured}",
        base.table_version,
        100.0 * churn,
        truth.len()
    ))
}

fn calibration(bank: &Definition, made: &Calibration) -> Result<String> {
    let bad = |reason: &str| Error::BadRow {
        table: schema::CALIBRATIONS.into(),
        reason: format!("scores of bank '{}' at k = {} {reason}: calibrate it again", made.bank, made.k),
    };
    bank.check_k(made.k as i128)?;
    if !made.scores.iter().all(|score| (0.0..=2.0 + TOLERANCE).contains(score)) {
        return Err(bad("lie outside [0, 2]"));
    }
    if !made.scores.is_sorted() {
        return Err(bad("are not in order"));
    }
    let older = if made.table_version == bank.table_version { "" } else { ", measured at an older version" };
    Ok(format!("{} scores at k = {}{older}", made.scores.len(), made.k))
}

/// Columns of the bank's scores. One without its versions holds no scores: `score` was killed before it had both.
async fn score_columns(store: &Store, bank: &Definition) -> Result<Vec<String>> {
    let table = store.schema(schema::IMAGES).await?;
    let of_bank = table.fields().iter().filter(|field| {
        field.metadata().get(schema::SCORE_BANK_KEY) == Some(&bank.name)
            && field.data_type() == &arrow::datatypes::DataType::Float32
            && table.field_with_name(&format!("{}_version", field.name())).is_ok()
    });
    Ok(of_bank.map(|field| field.name().clone()).collect())
}

/// Some of the scores that stand for the bank as it is, computed again.
async fn kept_scores(store: &Store, exact: &Bank, column: &str, sample: usize) -> Result<String> {
    let bank = exact.definition();
    let current = format!("{column}_version = {} AND {} IS NOT NULL", bank.table_version, bank.backbone);
    let columns = [schema::ID, bank.backbone.as_str(), column];
    let mut batches = store.scan(schema::IMAGES, None, &columns, Some(&current)).await?;
    let (mut queries, mut kept, mut rows) = (Vec::new(), Vec::new(), 0);
    while let Some(batch) = batches.try_next().await? {
        // spread over the table, and no more than a sample of each batch
        let step = batch.num_rows().div_ceil(sample.max(1)).max(1);
        for row in (0..batch.num_rows()).step_by(step) {
            let bad = |reason: &str| {
                let id = batch.column(0).as_primitive::<UInt64Type>().value(row);
                Error::BadRow { table: schema::IMAGES.into(), reason: format!("id {id}: {column} {reason}") }
            };
            let Some(values) = embedding(batch.column(1).as_fixed_size_list(), row).map_err(bad)? else { continue };
            normalize(values, &mut queries).map_err(bad)?;
            kept.push(batch.column(2).as_primitive::<Float32Type>().value(row));
        }
        rows += batch.num_rows();
    }
    let found = exact.kth_distances(Vectors::new(&queries, bank.dimension), bank.k)?;
    let wrong = kept.iter().zip(&found).filter(|(kept, found)| !within((*kept - *found).abs())).count();
    if wrong > 0 {
        let (table, of) = (schema::IMAGES.into(), kept.len());
        let reason = format!(
            "{wrong} of {of} sampled scores in {column} are wrong: ALTER TABLE images DROP COLUMN {column}, and 'outskirt score {}' again",
            bank.name
        );
        return Err(Error::BadRow { table, reason });
    }
    Ok(format!("{rows} scores of version {}; {} computed again, all equal", bank.table_version, kept.len()))
}

/// Normalised embeddings of some images in the bank's version, rows of the bank or not.
async fn sampled(store: &Store, bank: &Definition, sample: usize) -> Result<Vec<f32>> {
    let rows: Rows = draw(store, bank, Some(bank.follows()), "true", sample).await?;
    Ok(rows.to_values())
}

/// Not for NaN.
fn within(difference: f32) -> bool {
    difference <= TOLERANCE
}

fn largest(values: impl Iterator<Item = f32>) -> f32 {
    values.fold(0.0, |most, value| if value.is_nan() { f32::NAN } else { most.max(value) })
}
