//! Asynchronous reading from synchronous code: SQL functions run on an executor's threads and must not block them, so what they
//! read has a thread and a runtime of its own.

use std::path::Path;

use crate::error::{Error, Result};
use crate::store::Store;

/// Told how far a long reading has come.
pub(super) struct ReadProgress(Box<Report>);

type Report = dyn Fn(&str, usize, usize) + Send + Sync;

impl ReadProgress {
    pub(super) fn new(report: impl Fn(&str, usize, usize) + Send + Sync + 'static) -> Self {
        Self(Box::new(report))
    }

    pub(super) fn report(&self, bank: &str, done: usize, all: usize) {
        (self.0)(bank, done, all);
    }
}

impl std::fmt::Debug for ReadProgress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReadProgress")
    }
}

/// Run something on the database in `folder` from any thread that is not an executor's own.
pub(super) fn block_on_own_runtime<T>(folder: &Path, run: impl AsyncFnOnce(Store) -> Result<T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(Error::io("start a runtime for", folder))?;
    runtime.block_on(async { run(Store::open(folder).await?).await })
}

/// Run on a thread that is no executor's own.
pub(super) fn on_own_thread<T: Send>(bank: &str, run: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let panicked = |_| Err(Error::BankUnreadable { bank: bank.into(), reason: "a thread panicked".into() });
    std::thread::scope(|scope| scope.spawn(run).join().unwrap_or_else(panicked))
}
