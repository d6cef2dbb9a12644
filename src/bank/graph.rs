//! A bank's HNSW graph, in a file beside the tables.

use std::path::PathBuf;

use super::changes::changes;
use super::origin::{at_origin, origin};
use super::rows::{InMemory, rows_of};
use super::{Definition, exact};
use crate::error::{Error, Result};
use crate::index::vectors::{Vectors, normalize};
use crate::index::{FORMAT, Hnsw, HnswOptions, IndexKind, Quality, SearchOptions, Sidecar, Storage};
use crate::statistics::sampling::mixed;
use crate::store::memory;
use crate::store::{Store, WriteLock};

/// Rows of a bank on which its graph is measured, and as many points between them.
const SAMPLE: usize = 128;
/// Others than those of [`super::rows::draw`].
const SAMPLE_SEED: u64 = 1;
/// By how much a graph may have fewer distances right than before: chance alone is that much.
const WORN: f64 = 0.02;

pub(super) fn hnsw_path(store: &Store, bank: &Definition) -> PathBuf {
    store.index_folder().join(format!("{}.hnsw", bank.name))
}

/// What the graph's file must have been built from to be this bank's.
pub(super) fn hnsw_sidecar(bank: &Definition) -> Result<Sidecar> {
    let storage = match bank.index_kind()? {
        IndexKind::Hnsw(storage) => storage,
        IndexKind::Exact | IndexKind::Sharded(_) => Storage::default(),
    };
    Ok(Sidecar {
        format: FORMAT,
        origin: origin(bank),
        options: HnswOptions { storage, ..HnswOptions::default() },
        step: 0.0,
        quality: None,
        checksum: String::new(),
    })
}

/// Refuse a graph that there is no memory for: loaded, or built, with the bank's rows beside it.
pub(super) fn check_graph_memory(bank: &Definition, build: bool) -> Result<()> {
    let options = hnsw_sidecar(bank)?.options;
    let (n, d) = (bank.row_count as u64, bank.dimension as u64);
    let per_number = match options.storage {
        Storage::F32 => 4,
        Storage::Bf16 => 2,
        Storage::I8 => 1,
    };
    // links of 4 bytes: twice as many on the ground floor, and about as many on all others; keys and slots
    let graph = n * (d * per_number + 4 * 3 * options.connectivity as u64 + 64);
    let (what, rows) = if build { ("building", n * d * 4) } else { ("loading", 0) };
    let what = format!("{what} the graph of bank '{}'", bank.name);
    memory::check(&what, graph + rows, "exact search (--index exact) needs none of it")
}

/// Build a bank's graph.
pub(super) fn build_hnsw(bank: &Definition, rows: &InMemory) -> Result<Hnsw> {
    Hnsw::build(&rows.vectors, &rows.ids, hnsw_sidecar(bank)?.options)
}

/// Put a bank's graph beside the tables, with how it answered.
pub(super) fn save_hnsw(
    store: &Store,
    bank: &Definition,
    hnsw: &Hnsw,
    quality: Option<Quality>,
    _lock: &WriteLock,
) -> Result<()> {
    let sidecar = Sidecar { step: hnsw.step(), quality, ..hnsw_sidecar(bank)? };
    sidecar.commit(&hnsw_path(store, bank), |fresh| hnsw.save(fresh))
}

/// The graph that a sidecar stands beside, brought up to the bank.
pub(super) async fn load_hnsw(store: &Store, bank: &Definition, found: &Sidecar) -> Result<Hnsw> {
    let path = hnsw_path(store, bank);
    let mut hnsw = Hnsw::load(&path, bank.dimension, found.options, found.step)?;
    if hnsw.len() != found.origin.rows {
        let reason = format!("it holds {} rows, and says that it was made from {}", hnsw.len(), found.origin.rows);
        return Err(Error::BadIndexFile { path, reason });
    }
    if let Some(quality) = &found.quality {
        hnsw.widen(quality);
    }
    match found.origin.table_version {
        base if base == bank.table_version && found.origin.rows == bank.row_count => {}
        base if base < bank.table_version => {
            let changes = changes(store, &at_origin(store, bank, &found.origin).await?, bank).await?;
            hnsw.change(&changes.removed, &changes.vectors, &changes.ids)?;
        }
        base => {
            let reason = format!("it was built from version {base} of images");
            return Err(Error::BadIndexFile { path, reason });
        }
    }
    Ok(hnsw)
}

/// How the bank's graph answered when it was last measured; `None` where there is no graph, or it was not.
pub(super) fn quality_of(store: &Store, bank: &Definition) -> Option<Quality> {
    if !bank.index_kind().ok()?.has_graph() {
        return None;
    }
    hnsw_sidecar(bank).and_then(|wanted| wanted.beside(&hnsw_path(store, bank))).ok()?.quality
}

/// Compare a graph of a bank with exact search, on rows of the bank and on points halfway between two, which lie outside it as
/// OOD images do; and let it search as widely as it takes.
///
/// Errors: those of opening the exact index, also where there is no memory for it.
pub(super) async fn tune(store: &Store, bank: &Definition, hnsw: &mut Hnsw) -> Result<Quality> {
    let limit = memory::available().map_or(u64::MAX, |bytes| bytes / 10 * 9);
    let found = exact::load(store, bank, SearchOptions::default().instructions, limit).await?;
    let (exact, ids) = found.ok_or(Error::NeedsMemory { what: "measuring a graph" })?;
    let mut sample = ids;
    sample.sort_by_cached_key(|&id| mixed(id, SAMPLE_SEED));
    sample.truncate(SAMPLE);
    let rows = rows_of(store, bank, &sample).await?;
    let mut queries = Vec::new();
    let mut between = Vec::new();
    for row in 0..rows.len() {
        // neighbours in the table are of one class: far from each other more lies between
        let other = rows.row((row + rows.len() / 3) % rows.len());
        queries.extend(rows.row(row));
        between.clear();
        between.extend(rows.row(row).iter().zip(other).map(|(a, b)| a + b));
        // of two opposite rows there is none
        let _ = normalize(&between, &mut queries);
    }
    let queries = Vectors::new(&queries, bank.dimension);
    let truth = exact.kth_distances(queries, bank.k);
    if let Some(reason) = exact.failure() {
        return Err(Error::VectorsUnreadable { reason });
    }
    Ok(hnsw.tune(queries, &truth, bank.k))
}

/// Measure the graph on disk, brought up to the bank, and keep what was found beside it. Whether it is to be built anew: it has
/// fewer distances right than is enough, and than it had before.
///
/// What cannot be measured is left to who opens it, or verifies it.
pub(super) async fn has_worn(store: &Store, bank: &Definition, _lock: &WriteLock) -> bool {
    let measured = async || -> Result<bool> {
        check_graph_memory(bank, false)?;
        let path = hnsw_path(store, bank);
        let found = hnsw_sidecar(bank)?.verify(&path)?;
        let mut hnsw = load_hnsw(store, bank, &found).await?;
        let quality = tune(store, bank, &mut hnsw).await?;
        let before = found.quality.map_or(1.0, |quality| quality.recall);
        Sidecar { quality: Some(quality), ..found }.replace(&path)?;
        Ok(!quality.is_enough() && quality.recall < before - WORN)
    };
    measured().await.unwrap_or(false)
}
