//! One bank checked: its rows against the table, its distances against brute force, what is derived from it against it.

use arrow::array::AsArray;
use arrow::datatypes::{Float32Type, UInt64Type};
use futures::TryStreamExt;

mod finding;
mod index;
mod shards;

pub use self::finding::{Finding, State};
use self::index::{TOLERANCE, ahead, examine_index, largest, sampled, within};
use self::shards::examine_shards;
use super::changes::churn_of;
use super::derived::{Derived, Part, leftover_files, make};
use super::graph::{hnsw_path, hnsw_sidecar};
use super::origin::at_origin;
use super::{Bank, Calibration, Definition, list_calibrations};
use crate::error::{Error, Result};
use crate::index::vectors::{Vectors, embedding, normalize};
use crate::index::{IndexKind, LEAST_RECALL, tolerance};
use crate::schema;
use crate::store::{Store, WriteLock};

/// By how much the share of sampled k-th distances that a graph has right may be below what it was measured at, and is to be:
/// others were sampled then, and chance is in both.
const MOST_BELOW: f64 = 0.06;

/// Check a bank, its graph, its calibrations and its kept scores with `sample` images. With a lock, mend what is derived.
pub async fn examine(store: &Store, bank: &Definition, sample: usize, lock: Option<&WriteLock>) -> Vec<Finding> {
    let (mut findings, opened) = match bank.index_kind() {
        Ok(IndexKind::Sharded(_)) => examine_shards(store, bank, sample, lock).await,
        _ => examine_index(store, bank, sample, lock).await,
    };
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
