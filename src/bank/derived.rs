//! What is derived from a bank and lies beside the tables: its exact index, and its graph where it keeps one. Each was made
//! from the bank at some version; what changed since is put into it when it is opened, until a fifth has changed.

use std::fs;
use std::path::PathBuf;

use super::graph::{build_hnsw, check_graph_memory, hnsw_path, hnsw_sidecar, save_hnsw, tune};
use super::origin::at_origin;
use super::rows::read_whole;
use super::shards::{counted, shards};
use super::{Definition, exact};
use crate::error::{Error, Result};
use crate::index::{Exact, IndexKind, index_files};
use crate::store::memory;
use crate::store::{Store, WriteLock};

/// An exact index is made of rows in memory where it takes no more than the free memory divided by this: else they are read
/// three times.
const FREE_MEMORY_PARTS: u64 = 2;

/// All files that may be the bank's, finished or not.
pub(super) fn files_of(store: &Store, bank: &Definition) -> Result<Vec<PathBuf>> {
    let mut files = vec![exact::exact_path(store, bank), hnsw_path(store, bank)];
    files.extend(shards(bank)?.iter().map(|shard| exact::exact_path(store, shard)));
    Ok(files.iter().flat_map(|path| index_files(path)).collect())
}

/// Files that a bank has beside the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Derived {
    Exact,
    Graph,
}

/// One of them: of the bank, or of a shard of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    /// The bank; or the shard, which is one of its own, and whose rows are not counted.
    pub(super) of: Definition,
    pub(super) which: Derived,
}

/// Those that the bank is to have.
pub(super) fn derived(bank: &Definition) -> Result<Vec<Part>> {
    let of_bank = |which| Part { of: bank.clone(), which };
    Ok(match bank.index_kind()? {
        IndexKind::Exact => vec![of_bank(Derived::Exact)],
        IndexKind::Hnsw(_) => vec![of_bank(Derived::Exact), of_bank(Derived::Graph)],
        IndexKind::Sharded(_) => {
            shards(bank)?.into_iter().map(|shard| Part { of: shard, which: Derived::Exact }).collect()
        }
    })
}

/// Where they are, finished.
pub(super) fn wanted_files(store: &Store, bank: &Definition) -> Result<Vec<PathBuf>> {
    Ok(derived(bank)?.iter().flat_map(|part| files_that_are(store, &part.of, part.which)).collect())
}

/// The bank as a file has it, perhaps of another version; `None` where there is none that fits. Whether all of it is whole
/// is left to whoever loads it.
pub(super) async fn base(store: &Store, Part { of: bank, which }: &Part) -> Result<Option<Definition>> {
    fetch(store, bank, *which).await;
    let origin = match which {
        Derived::Exact => exact::find(store, bank).map(|(_, origin)| origin),
        Derived::Graph => hnsw_sidecar(bank)?.beside(&hnsw_path(store, bank)).map(|found| found.origin),
    };
    match origin {
        Ok(origin) => Ok(Some(at_origin(store, bank, &origin).await?)),
        Err(_) => Ok(None),
    }
}

/// Make files of a bank, in place of those that are there, for all machines. Shards are made one after the other.
pub(super) async fn make(store: &Store, lock: &WriteLock, bank: &Definition, parts: &[Part]) -> Result<()> {
    if parts.is_empty() {
        return Ok(());
    }
    if !matches!(bank.index_kind()?, IndexKind::Sharded(_)) {
        let which: Vec<Derived> = parts.iter().map(|part| part.which).collect();
        return make_all(store, lock, bank, &which).await;
    }
    store.tell(format!("{}: counting the rows of its shards", bank.name));
    for shard in counted(store, bank).await? {
        // one without rows has no file
        if shard.row_count > 0 && parts.iter().any(|part| part.of.name == shard.name) {
            make_all(store, lock, &shard, &[Derived::Exact]).await?;
        }
    }
    Ok(())
}

async fn make_all(store: &Store, lock: &WriteLock, bank: &Definition, which: &[Derived]) -> Result<()> {
    make_here(store, lock, bank, which).await?;
    let files: Vec<PathBuf> = which.iter().flat_map(|one| files_that_are(store, bank, *one)).collect();
    store.publish_files(&files).await
}

/// The same of a bank or a shard, for this machine.
pub(super) async fn make_here(store: &Store, lock: &WriteLock, bank: &Definition, which: &[Derived]) -> Result<()> {
    let with_graph = which.contains(&Derived::Graph);
    if with_graph {
        check_graph_memory(bank, true)?;
    }
    let bytes = Exact::bytes(bank.row_count, bank.dimension);
    let fit = memory::available().is_none_or(|available| bytes <= available / FREE_MEMORY_PARTS);
    let rows = if !which.is_empty() && (with_graph || fit) { Some(read_whole(store, bank).await?) } else { None };
    if which.contains(&Derived::Exact) {
        exact::save(store, lock, bank, rows.as_ref()).await?;
    }
    match rows {
        Some(rows) if with_graph => {
            store.tell(format!("{}: building its graph", bank.name));
            let mut hnsw = build_hnsw(bank, &rows)?;
            drop(rows);
            store.tell(format!("{}: measuring its graph", bank.name));
            // where it cannot be measured it is searched as one that was not
            let quality = tune(store, bank, &mut hnsw).await.ok();
            save_hnsw(store, bank, &hnsw, quality, lock)
        }
        _ => Ok(()),
    }
}

/// Of a bank in a bucket: bring this machine's files up to what others have made. Where that fails they are made here.
pub(super) async fn fetch(store: &Store, bank: &Definition, which: Derived) {
    let _ = store.fetch_files(&files_that_are(store, bank, which)).await;
}

/// The finished files of one kind.
fn files_that_are(store: &Store, bank: &Definition, which: Derived) -> Vec<PathBuf> {
    match which {
        Derived::Exact => vec![exact::exact_path(store, bank)],
        Derived::Graph => index_files(&hnsw_path(store, bank)).into_iter().take(2).collect(),
    }
}

/// Remove what a bucket has for banks that are no more.
pub(super) async fn forget_others(store: &Store, banks: &[Definition]) -> Result<()> {
    let mut own = Vec::new();
    for bank in banks {
        own.extend(wanted_files(store, bank)?);
    }
    store.retain_files(&own).await
}

/// Index files that belong to no bank, and those that were never finished.
pub(super) fn leftover_files(store: &Store, banks: &[Definition]) -> Result<Vec<PathBuf>> {
    let folder = store.index_folder();
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::io("list", &folder))?,
    };
    let mut own = Vec::new();
    for bank in banks {
        own.extend(wanted_files(store, bank)?);
    }
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io("list", &folder))?.path();
        if path.is_file() && !own.contains(&path) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
