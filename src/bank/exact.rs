//! A bank's vectors as exact search wants them, in a file beside the tables: laid out once, opened in the time that reading
//! takes, or left there but for 8 bits a number.

use std::collections::HashSet;
use std::path::PathBuf;

use super::Definition;
use super::changes::{Changes, changes};
use super::origin::{at_origin, origin};
use super::rows::{InMemory, for_each_row};
use crate::error::{Error, Result};
use crate::index::{Exact, Instructions, Layout, Origin, RowNumber, Sampling, Stored, replace, row_number};
use crate::store::memory;
use crate::store::{Store, WriteLock};

pub(super) fn exact_path(store: &Store, bank: &Definition) -> PathBuf {
    store.index_folder().join(format!("{}.exact", bank.name))
}

/// The bank's file, of whichever version, and what it was made from.
///
/// Errors: [`Error::BadIndexFile`] where there is none, or another bank's, or one that was damaged, as far as its beginning
/// tells.
pub(super) fn find(store: &Store, bank: &Definition) -> Result<(Stored, Origin)> {
    let path = exact_path(store, bank);
    let bad = |reason: String| Error::BadIndexFile { path: path.clone(), reason };
    let stored = Stored::open(&path).map_err(|error| bad(error.to_string()))?;
    let found: Origin = serde_json::from_str(stored.note()).map_err(|error| bad(error.to_string()))?;
    found.check(&origin(bank), &path)?;
    Ok((stored, found))
}

/// Write the bank's file, of rows that are in memory, or that are read three times.
pub(super) async fn save(store: &Store, _lock: &WriteLock, bank: &Definition, rows: Option<&InMemory>) -> Result<()> {
    let (n, d, path) = (bank.row_count, bank.dimension, exact_path(store, bank));
    memory::check(&format!("laying out bank '{}'", bank.name), Sampling::bytes(n, d), "--alpha keeps fewer rows")?;
    let note = serde_json::to_string(&origin(bank))
        .map_err(|error| Error::BadIndexFile { path: path.clone(), reason: error.to_string() })?;
    replace(&path, async |fresh| {
        store.tell(format!("{}: learning where {n} rows lie", bank.name));
        let mut sampling = Sampling::new(n, d, Layout { k: bank.k, ..Layout::default() });
        for_each(store, bank, rows, |_, unit| sampling.see(unit)).await?;
        store.tell(format!("{}: placing them", bank.name));
        let mut placing = sampling.placing();
        for_each(store, bank, rows, |id, unit| placing.place(id, unit)).await?;
        store.tell(format!("{}: writing its index", bank.name));
        let mut filing = placing.filing(fresh, &note).map_err(Error::io("write", fresh))?;
        let mut written = Ok(());
        for_each(store, bank, rows, |_, unit| {
            if written.is_ok() {
                written = filing.add(unit);
            }
        })
        .await?;
        written.and_then(|()| filing.finish()).map_err(Error::io("write", fresh))
    })
    .await
}

/// Call `each` with id and normalised embedding of every row of a bank, however often in the same order.
async fn for_each(
    store: &Store,
    bank: &Definition,
    rows: Option<&InMemory>,
    mut each: impl FnMut(u64, &[f32]),
) -> Result<()> {
    let (mut found, expected) = (0, bank.row_count);
    let mut counted = |id, unit: &[f32]| {
        found += 1;
        if found <= expected {
            each(id, unit);
        }
    };
    match rows {
        Some(rows) => (0..).zip(&rows.ids).for_each(|(row, &id)| counted(id, rows.vectors.row(row))),
        None => for_each_row(store, bank, counted).await?,
    }
    if found != expected {
        return Err(Error::BankChanged { bank: bank.name.clone(), expected, found });
    }
    Ok(())
}

/// A bank out of its file, brought up to the bank's version, within so many bytes; `None` where even its codes take more.
///
/// Errors: as for [`find`]; a file that was made from a later version, or from one that is not kept any more; damage.
pub(super) async fn load(
    store: &Store,
    bank: &Definition,
    instructions: Instructions,
    limit: u64,
) -> Result<Option<(Exact, Vec<u64>)>> {
    let (stored, found) = find(store, bank)?;
    let path = exact_path(store, bank);
    let bad = |reason: String| Error::BadIndexFile { path: path.clone(), reason };
    let base = at_origin(store, bank, &found).await?;
    if base.table_version > bank.table_version {
        return Err(bad(format!("it was made from version {} of images", base.table_version)));
    }
    let same = base.table_version == bank.table_version && base.row_count == bank.row_count;
    let changes = if same { Changes::none(bank) } else { changes(store, &base, bank).await? };
    let more = changes.ids.len();
    let opened = if stored.bytes_in_memory(more) <= limit {
        stored.load(instructions, more)
    } else if instructions == Instructions::Avx512Vnni && stored.bytes_in_file(more) <= limit {
        stored.search_in_place(instructions)
    } else {
        return Ok(None);
    };
    let (mut exact, mut ids) = opened.map_err(|error| bad(error.to_string()))?;
    if (exact.dimension(), ids.len()) != (bank.dimension, found.rows) {
        let (rows, dimension) = (ids.len(), exact.dimension());
        return Err(bad(format!("it holds {rows} rows of {dimension} numbers, and says that it was made from others")));
    }
    if !same {
        let known = ids;
        let removed: HashSet<u64> = changes.removed.into_iter().collect();
        let kept = || known.iter().filter(|id| !removed.contains(id));
        ids = kept().chain(&changes.ids).copied().collect();
        ids.sort_unstable();
        // those that are gone are not among the ids, unless they came again
        let before = known.iter().map(|&id| if removed.contains(&id) { None } else { row_number(&ids, id) });
        let numbers: Vec<Option<RowNumber>> =
            before.chain(changes.ids.iter().map(|&id| row_number(&ids, id))).collect();
        exact.change(&changes.vectors, &numbers);
    }
    if ids.len() != bank.row_count {
        let (expected, found) = (bank.row_count, ids.len());
        return Err(Error::BankChanged { bank: bank.name.clone(), expected, found });
    }
    Ok(Some((exact, ids)))
}
