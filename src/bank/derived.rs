//! What is derived from a bank and lies beside the tables: its exact index, and its graph where it keeps one. Each was made
//! from the bank at some version; what changed since is put into it when it is opened, until a fifth has changed.

use std::path::PathBuf;

use super::build::read_whole;
use super::graph::{build_hnsw, check_graph_memory, hnsw_path, hnsw_sidecar, save_hnsw};
use super::{Definition, exact};
use crate::error::Result;
use crate::index::{Exact, IndexKind, Origin, index_files};
use crate::schema;
use crate::store::memory;
use crate::store::{Store, WriteLock};

/// Share of the memory that there is which rows may take while an exact index is made of them: else they are read again.
const ROWS_SHARE: u64 = 2;

/// What files of this bank must have been made from.
pub(super) fn origin(bank: &Definition) -> Origin {
    Origin {
        bank: bank.name.clone(),
        table_version: bank.table_version,
        backbone_sha256: bank.sha256.clone(),
        predicate: bank.predicate.clone(),
        alpha: bank.alpha,
        seed: bank.seed,
        rows: bank.row_count,
        dimension: bank.dimension,
    }
}

/// All files that may be the bank's, finished or not.
pub(super) fn files_of(store: &Store, bank: &Definition) -> Vec<PathBuf> {
    [exact::exact_path(store, bank), hnsw_path(store, bank)].iter().flat_map(|path| index_files(path)).collect()
}

/// Files that a bank has beside the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Derived {
    Exact,
    Graph,
}

/// Those that the bank is to have.
pub(super) fn derived(bank: &Definition) -> Result<&'static [Derived]> {
    match bank.index_kind()? {
        IndexKind::Exact => Ok(&[Derived::Exact]),
        IndexKind::Hnsw(_) => Ok(&[Derived::Exact, Derived::Graph]),
    }
}

/// Where they are, finished.
pub(super) fn wanted_files(store: &Store, bank: &Definition) -> Result<Vec<PathBuf>> {
    let mut files = vec![exact::exact_path(store, bank)];
    if derived(bank)?.contains(&Derived::Graph) {
        files.extend(index_files(&hnsw_path(store, bank)).into_iter().take(2));
    }
    Ok(files)
}

/// The bank as a file has it, perhaps of another version; `None` where there is none that fits. Whether all of it is whole
/// is left to whoever loads it.
pub(super) async fn base(store: &Store, bank: &Definition, of: Derived) -> Result<Option<Definition>> {
    let origin = match of {
        Derived::Exact => exact::find(store, bank).map(|(_, origin)| origin),
        Derived::Graph => hnsw_sidecar(bank)?.beside(&hnsw_path(store, bank)).map(|found| found.origin),
    };
    match origin {
        Ok(origin) => Ok(Some(at_origin(store, bank, &origin).await?)),
        Err(_) => Ok(None),
    }
}

/// A bank at the version from which a file was made.
pub(super) async fn at_origin(store: &Store, bank: &Definition, found: &Origin) -> Result<Definition> {
    let (table_version, row_count) = (found.table_version, found.rows);
    if table_version == bank.table_version {
        return Ok(Definition { row_count, ..bank.clone() });
    }
    let mut then = Definition { table_version, row_count, checked_version: None, ..bank.clone() };
    let tags = store.tags(schema::IMAGES).await?;
    then.checked_version = tags.into_iter().filter(|(tag, _)| then.has_tag(tag)).map(|(_, version)| version).max();
    Ok(then)
}

/// Make files of a bank, in place of those that are there.
pub(super) async fn make(store: &Store, lock: &WriteLock, bank: &Definition, which: &[Derived]) -> Result<()> {
    let with_graph = which.contains(&Derived::Graph);
    if with_graph {
        check_graph_memory(bank, true)?;
    }
    let bytes = Exact::bytes(bank.row_count, bank.dimension);
    let fit = memory::available().is_none_or(|available| bytes <= available / ROWS_SHARE);
    let rows = if !which.is_empty() && (with_graph || fit) { Some(read_whole(store, bank).await?) } else { None };
    if which.contains(&Derived::Exact) {
        exact::save(store, lock, bank, rows.as_ref()).await?;
    }
    match rows {
        Some(rows) if with_graph => save_hnsw(store, bank, &build_hnsw(bank, &rows)?, lock),
        _ => Ok(()),
    }
}
