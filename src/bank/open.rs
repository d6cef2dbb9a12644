//! Banks opened for search: vectors in memory, graphs loaded, each once.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use super::build::{Rows, build_hnsw, hnsw_path, hnsw_sidecar, read_rows, save_hnsw};
use super::{Calibration, Definition, list, list_calibrations};
use crate::error::{Error, Result};
use crate::index::{Exact, Hnsw, IndexKind, NeighborIndex};
use crate::store::Store;
use crate::vectors::Vectors;

/// A bank whose index is in memory.
#[derive(Debug)]
pub struct Bank {
    definition: Definition,
    ids: Vec<u64>,
    exact: Option<Exact>,
    hnsw: Option<Hnsw>,
    notice: Option<String>,
}

impl Bank {
    /// Open a bank for one kind of search. A graph that is missing or damaged is rebuilt, and [`Self::notice`]
    /// says so.
    pub async fn open(store: &Store, definition: Definition, kind: IndexKind) -> Result<Self> {
        let mut bank = Self { definition, ids: Vec::new(), exact: None, hnsw: None, notice: None };
        match kind {
            IndexKind::Exact => {
                let rows = read_whole(store, &bank.definition).await?;
                bank.exact = Some(Exact::new(rows.vectors, bank.definition.dimension));
                bank.ids = rows.ids;
            }
            IndexKind::Hnsw => {
                if bank.definition.index_kind()? != IndexKind::Hnsw {
                    return Err(Error::NoHnsw { bank: bank.definition.name });
                }
                let path = hnsw_path(store, &bank.definition);
                let wanted = hnsw_sidecar(&bank.definition);
                let loaded =
                    wanted.verify(&path).and_then(|()| Hnsw::load(&path, bank.definition.dimension, wanted.options));
                bank.hnsw = Some(match loaded {
                    Ok(hnsw) => hnsw,
                    Err(reason) => {
                        let rows = read_whole(store, &bank.definition).await?;
                        let hnsw = build_hnsw(&bank.definition, &rows)?;
                        // a reader repairs the file where it may: not beside a writer, nor without the right to
                        let saved = store.lock().and_then(|lock| save_hnsw(store, &bank.definition, &hnsw, &lock));
                        bank.notice = Some(match saved {
                            Ok(()) => format!("{reason}; rebuilt"),
                            Err(unsaved) => format!("{reason}; rebuilt in memory only ({unsaved})"),
                        });
                        hnsw
                    }
                });
            }
        }
        Ok(bank)
    }

    /// The bank's row in `banks`.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// `images.id` of its rows, in table order; empty where only a graph was loaded.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// What happened while opening that its user should know.
    pub fn notice(&self) -> Option<&str> {
        self.notice.as_deref()
    }

    /// Distance of each normalised query (n×d) to its k-th nearest row, in [0, 2].
    pub fn kth_distances(&self, queries: Vectors<'_>, k: usize, kind: IndexKind) -> Result<Vec<f32>> {
        let k = self.definition.check_k(k as i128)?;
        let index: &dyn NeighborIndex = match (kind, &self.exact, &self.hnsw) {
            (IndexKind::Exact, Some(exact), _) => exact,
            (IndexKind::Hnsw, _, Some(hnsw)) => hnsw,
            _ => return Err(Error::NoHnsw { bank: self.definition.name.clone() }),
        };
        index.kth_distances(queries, k)
    }
}

/// A bank's rows, which must be as many as when it was made.
async fn read_whole(store: &Store, bank: &Definition) -> Result<Rows> {
    let rows = read_rows(store, bank).await?;
    if rows.ids.len() != bank.row_count {
        let (expected, found) = (bank.row_count, rows.ids.len());
        return Err(Error::BankChanged { bank: bank.name.clone(), expected, found });
    }
    Ok(rows)
}

type Opened = Arc<OnceLock<Result<Arc<Bank>, String>>>;

/// The banks and calibrations of a database as they were when a session began, opened on first use.
#[derive(Debug)]
pub struct Banks {
    folder: PathBuf,
    definitions: Vec<Definition>,
    calibrations: Vec<Calibration>,
    opened: Mutex<HashMap<(String, IndexKind), Opened>>,
}

impl Banks {
    /// Read the definitions and calibrations; no vector is read yet.
    pub async fn load(store: &Store) -> Result<Self> {
        Ok(Self {
            folder: store.folder().into(),
            definitions: list(store).await?,
            calibrations: list_calibrations(store).await?,
            opened: Mutex::default(),
        })
    }

    /// A bank's definition by name.
    pub fn definition(&self, name: &str) -> Result<&Definition> {
        self.definitions.iter().find(|bank| bank.name == name).ok_or_else(|| Error::UnknownBank {
            name: name.into(),
            known: self.definitions.iter().map(|bank| bank.name.clone()).collect(),
        })
    }

    /// A bank's calibration at k.
    pub fn calibration(&self, bank: &Definition, k: usize) -> Result<&Calibration> {
        let of_bank =
            |found: &&Calibration| found.bank == bank.name && found.k == k && found.table_version == bank.table_version;
        let found = self.calibrations.iter().find(of_bank);
        found.ok_or_else(|| Error::NotCalibrated { bank: bank.name.clone(), k })
    }

    /// The opened bank. The first caller reads it; others wait for that.
    ///
    /// Called from SQL functions, which are synchronous and may run on any executor: the reading has a thread
    /// and a runtime of its own, so it cannot block the one it is called from.
    pub fn open(&self, name: &str, kind: IndexKind) -> Result<Arc<Bank>> {
        let definition = self.definition(name)?;
        let key = (name.to_string(), kind);
        let slot = {
            let mut opened = self.opened.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            Arc::clone(opened.entry(key).or_default())
        };
        let bank = slot.get_or_init(|| {
            let open = || -> Result<Bank> {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .enable_all()
                    .build()
                    .map_err(Error::io("start a runtime for", &self.folder))?;
                runtime.block_on(async {
                    let store = Store::open(&self.folder).await?;
                    Bank::open(&store, definition.clone(), kind).await
                })
            };
            let opened = std::thread::scope(|scope| scope.spawn(open).join());
            match opened {
                Ok(bank) => bank.map(Arc::new).map_err(|error| error.to_string()),
                Err(_) => Err("a thread panicked".into()),
            }
        });
        bank.clone().map_err(|reason| Error::BankUnreadable { bank: name.into(), reason })
    }

    /// Notices of the banks opened so far.
    pub fn notices(&self) -> Vec<String> {
        let opened = self.opened.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let banks = opened.values().filter_map(|slot| slot.get()?.as_ref().ok());
        banks.filter_map(|bank| bank.notice().map(str::to_owned)).collect()
    }
}
