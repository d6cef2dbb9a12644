//! What a process of a cluster has open: databases, and banks, each once for all its tasks.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

use crate::bank::{Banks, Snapshot};
use crate::store::{OpensTable, Store};

/// Databases and banks of this process.
#[derive(Debug)]
pub(crate) struct Here {
    stores: Mutex<HashMap<PathBuf, Arc<OnceCell<Store>>>>,
    /// The one that was asked for last is the last.
    banks: Mutex<Vec<(Snapshot, Arc<Banks>)>>,
    none: Arc<Banks>,
    /// Bytes that banks may hold which nobody searches at the moment.
    most: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Here {
    /// Nothing yet; opened banks hold so many bytes at most, but for those that are being searched.
    pub(crate) fn new(most: u64) -> Arc<Self> {
        Arc::new(Self { stores: Mutex::default(), banks: Mutex::default(), none: Arc::new(Banks::none()), most })
    }

    /// The banks of functions that need none.
    pub(super) fn no_banks(&self) -> Arc<Banks> {
        Arc::clone(&self.none)
    }

    /// The banks that a plan means: the same value whenever it means the same.
    pub(super) fn banks(&self, snapshot: Snapshot) -> Arc<Banks> {
        let mut kept = lock(&self.banks);
        let at = kept.iter().position(|(known, _)| *known == snapshot);
        let found = match at {
            Some(at) => kept.remove(at),
            None => (snapshot.clone(), Arc::new(Banks::of(snapshot))),
        };
        let banks = Arc::clone(&found.1);
        kept.push(found);
        // the oldest go first; whoever searches one holds it
        let mut bytes: u64 = kept.iter().map(|(_, banks)| banks.bytes()).sum();
        kept.retain(|(_, banks)| {
            let goes = bytes > self.most && Arc::strong_count(banks) == 1;
            bytes -= if goes { banks.bytes() } else { 0 };
            !goes
        });
        banks
    }

    /// How many banks are open, and the bytes that they hold.
    pub(super) fn held(&self) -> (u64, u64) {
        let kept = lock(&self.banks);
        let counted = kept.iter().map(|(_, banks)| (banks.opened() as u64, banks.bytes()));
        counted.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    }

    /// Opens tables of databases, each of which is opened once.
    pub(super) fn opens(here: &Arc<Self>) -> OpensTable {
        let here = Arc::clone(here);
        Arc::new(move |recipe| {
            let cell = Arc::clone(lock(&here.stores).entry(recipe.place.clone()).or_default());
            Box::pin(async move {
                let store = cell.get_or_try_init(|| Store::open(&recipe.place)).await?;
                store.open_table(&recipe.table, recipe.version).await
            })
        })
    }
}
