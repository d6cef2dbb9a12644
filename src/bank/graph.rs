//! A bank's HNSW graph, in a file beside the tables.

use std::path::PathBuf;

use super::Definition;
use super::origin::origin;
use super::rows::InMemory;
use crate::error::Result;
use crate::index::{FORMAT, Hnsw, HnswOptions, IndexKind, Sidecar, Storage};
use crate::store::memory;
use crate::store::{Store, WriteLock};

pub(super) fn hnsw_path(store: &Store, bank: &Definition) -> PathBuf {
    store.index_folder().join(format!("{}.hnsw", bank.name))
}

/// What the graph's file must have been built from to be this bank's.
pub(super) fn hnsw_sidecar(bank: &Definition) -> Result<Sidecar> {
    let storage = match bank.index_kind()? {
        IndexKind::Hnsw(storage) => storage,
        IndexKind::Exact => Storage::default(),
    };
    Ok(Sidecar {
        format: FORMAT,
        origin: origin(bank),
        options: HnswOptions { storage, ..HnswOptions::default() },
        step: 0.0,
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

/// Put a bank's graph beside the tables.
pub(super) fn save_hnsw(store: &Store, bank: &Definition, hnsw: &Hnsw, _lock: &WriteLock) -> Result<()> {
    Sidecar { step: hnsw.step(), ..hnsw_sidecar(bank)? }.commit(&hnsw_path(store, bank), |fresh| hnsw.save(fresh))
}
