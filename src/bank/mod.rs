//! Banks: the in-distribution embeddings that a score is measured against. The one place where store and index meet.
//!
//! A bank is a definition (one row of `banks`: backbone, predicate, k, sampling, table version). Its vectors are
//! read from that version of `images`, so the same bank gives the same scores whatever is ingested later; its exact index,
//! and an HNSW graph, are files beside the tables that are made anew where they are missing or damaged. Calibrations hold the
//! scores of held-out ID images. Not for SQL: functions ask [`Banks`].

mod build;
mod calibrate;
mod derived;
mod ensure;
mod exact;
mod examine;
mod follow;
mod gaussian;
mod graph;
mod keep;
mod open;
mod optimize;
mod refresh;
mod status;
mod stream;
mod verify;

use serde::{Deserialize, Serialize};

pub use build::{BankSpec, create, drop_bank};
pub use calibrate::{Calibration, calibrate};
pub use ensure::ensure;
pub use examine::{Finding, State, examine, leftovers};
pub use follow::{Followed, calibrate_again, follow};
pub use gaussian::Gaussian;
pub use keep::{Kept, keep_scores};
pub use open::{Bank, Banks};
pub use optimize::{Optimized, optimize};
pub use refresh::{Refreshed, churn, refresh, refresh_all};
pub use status::{Status, status};
pub use verify::{Verification, verify};

use refresh::churn_of;

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
    /// The latest version of `images` that is known to give the same rows; `None`: its own.
    #[serde(default)]
    pub checked_version: Option<u64>,
}

impl Definition {
    /// The latest version of `images` that the bank is known to follow: its rows are read from there.
    pub fn follows(&self) -> u64 {
        self.checked_version.unwrap_or(self.table_version).max(self.table_version)
    }

    /// What the bank keeps beside the table, as `banks.index_kind` says.
    pub fn index_kind(&self) -> Result<IndexKind> {
        self.index_kind.parse()
    }

    /// Refuse a k outside 1..=rows.
    pub fn check_k(&self, k: i128) -> Result<usize> {
        self.check_k_of(k, false)
    }

    /// The same, or outside 1..rows where queries leave their own row out.
    pub fn check_k_of(&self, k: i128, leaves_out: bool) -> Result<usize> {
        let most = self.row_count - usize::from(leaves_out);
        match usize::try_from(k) {
            Ok(k) if (1..=most).contains(&k) => Ok(k),
            _ => Err(Error::KOutOfRange { bank: self.name.clone(), k, rows: self.row_count, most }),
        }
    }

    /// The tag that keeps the bank's rows from being pruned: it is on the version that the bank follows.
    fn tag(&self) -> String {
        format!("bank-{}-{}-{}", self.name, self.table_version, self.follows())
    }

    /// Whether a tag keeps rows of this version of the bank.
    fn has_tag(&self, tag: &str) -> bool {
        let rest = tag.strip_prefix(&format!("bank-{}-{}", self.name, self.table_version));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }

    /// Whether a tag is some bank's.
    fn is_tag(tag: &str) -> bool {
        tag.starts_with("bank-")
    }

    /// Whether a tag is this bank's: of any of its versions, or without one, as schema 1 had it.
    fn owns(&self, tag: &str) -> bool {
        let rest = tag.strip_prefix("bank-").and_then(|rest| rest.strip_prefix(self.name.as_str()));
        // `-` is in no bank's name
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }
}

/// All banks, by name.
pub async fn list(store: &Store) -> Result<Vec<Definition>> {
    let mut all: Vec<Definition> = store.read_rows(schema::BANKS).await?;
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// A bank as it would be of another version of `images`: the same predicate, other rows.
///
/// Errors: a version that is not kept, or that holds no such image.
pub async fn at_version(store: &Store, bank: &Definition, version: u64) -> Result<Definition> {
    let kept = store.versions(schema::IMAGES).await?;
    if !kept.contains(&version) {
        let (bank, current) = (bank.name.clone(), bank.table_version);
        return Err(Error::UnknownVersion {
            bank,
            version,
            current,
            first: kept.iter().min().copied(),
            last: kept.iter().max().copied(),
        });
    }
    let mut older = Definition { table_version: version, row_count: 0, checked_version: None, ..bank.clone() };
    let mut rows = 0;
    build::for_each_id(store, &older, |_| rows += 1).await?;
    if rows == 0 {
        return Err(Error::NoRows { predicate: bank.predicate.clone(), backbone: bank.backbone.clone() });
    }
    older.row_count = rows;
    Ok(older)
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
