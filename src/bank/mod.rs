//! Banks: the in-distribution embeddings that a score is measured against. The one place where store and index meet.
//!
//! A bank is a definition (one row of `banks`: backbone, predicate, k, sampling, table version). Its vectors are
//! read from that version of `images`, so the same bank gives the same scores whatever is ingested later; its
//! HNSW graph is a file beside the tables that rebuilds where it is missing or damaged. Calibrations hold the
//! scores of held-out ID images. Not for SQL: functions ask [`Banks`].

mod build;
mod calibrate;
mod open;
mod stream;
mod verify;

use serde::{Deserialize, Serialize};

pub use build::{BankSpec, create, drop_bank};
pub use calibrate::{Calibration, calibrate};
pub use open::{Bank, Banks};
pub use verify::{Verification, verify};

use crate::error::{Error, Result};
use crate::index::IndexKind;
use crate::schema;
use crate::store::Store;

/// One row of `banks`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// The bank's name.
    pub name: String,
    /// The backbone whose embeddings it holds.
    pub backbone: String,
    /// SHA-256 of that backbone's weights.
    pub sha256: String,
    /// SQL over `images`: the ID images.
    pub predicate: String,
    /// Neighbours counted where a query does not say otherwise.
    pub k: usize,
    /// Share of the matching rows that is kept, in (0, 1].
    pub alpha: f64,
    /// Of that sampling.
    pub seed: u64,
    /// `exact`, or `hnsw`, `hnsw-bf16` or `hnsw-i8` where a graph is kept as well.
    pub index_kind: String,
    /// The version of `images` that it stands for.
    pub table_version: u64,
    /// Number of embeddings.
    pub row_count: usize,
    /// Numbers per embedding.
    pub dimension: usize,
    /// UTC.
    pub created_at: String,
}

impl Definition {
    /// What the bank keeps beside the table, as `banks.index_kind` says.
    pub fn index_kind(&self) -> Result<IndexKind> {
        self.index_kind.parse()
    }

    /// Refuse a k outside 1..=rows.
    pub fn check_k(&self, k: i128) -> Result<usize> {
        match usize::try_from(k) {
            Ok(k) if (1..=self.row_count).contains(&k) => Ok(k),
            _ => Err(Error::KOutOfRange { bank: self.name.clone(), k, rows: self.row_count }),
        }
    }

    /// The tag that keeps the bank's version of `images` from being pruned.
    fn tag(&self) -> String {
        format!("bank-{}", self.name)
    }
}

/// All banks, by name.
pub async fn list(store: &Store) -> Result<Vec<Definition>> {
    let mut all: Vec<Definition> = store.read_rows(schema::BANKS).await?;
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// All calibrations.
pub async fn list_calibrations(store: &Store) -> Result<Vec<Calibration>> {
    store.read_rows(schema::CALIBRATIONS).await
}

/// One bank by name.
pub async fn find(store: &Store, name: &str) -> Result<Definition> {
    let mut all = list(store).await?;
    match all.iter().position(|bank| bank.name == name) {
        Some(at) => Ok(all.swap_remove(at)),
        None => Err(Error::UnknownBank { name: name.into(), known: all.into_iter().map(|bank| bank.name).collect() }),
    }
}
