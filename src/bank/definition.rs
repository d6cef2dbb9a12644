//! What a bank is: one row of `banks`, and the names of the tags that keep its rows.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::index::IndexKind;
use crate::schema;
use crate::store::Store;

/// Between a bank's name and the number of its shard: in no bank's name.
pub(super) const MARK: char = '-';

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
    /// `exact`; `hnsw`, `hnsw-bf16` or `hnsw-i8` where a graph is kept as well; `sharded-8` where the exact index lies in 8 files.
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
        let most = self.row_count.saturating_sub(usize::from(leaves_out));
        match usize::try_from(k) {
            Ok(k) if (1..=most).contains(&k) => Ok(k),
            _ => Err(Error::KOutOfRange { bank: self.name.clone(), k, rows: self.row_count, most }),
        }
    }

    /// The bank's name; of a shard, that of its bank.
    pub(super) fn bank(&self) -> &str {
        self.name.split_once(MARK).map_or(&self.name, |(bank, _)| bank)
    }

    /// The tag that keeps the bank's rows from being pruned: it is on the version that the bank follows.
    pub(super) fn tag(&self) -> String {
        format!("bank-{}-{}-{}", self.bank(), self.table_version, self.follows())
    }

    /// Whether a tag keeps rows of this version of the bank.
    pub(super) fn has_tag(&self, tag: &str) -> bool {
        let rest = tag.strip_prefix(&format!("bank-{}-{}", self.bank(), self.table_version));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }

    /// Whether a tag is some bank's.
    pub(super) fn is_tag(tag: &str) -> bool {
        tag.starts_with("bank-")
    }

    /// Whether a tag is this bank's: of any of its versions, or without one, as schema 1 had it.
    pub(super) fn owns(&self, tag: &str) -> bool {
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

/// One bank by name.
pub async fn find(store: &Store, name: &str) -> Result<Definition> {
    let mut all = list(store).await?;
    match all.iter().position(|bank| bank.name == name) {
        Some(at) => Ok(all.swap_remove(at)),
        None => Err(Error::UnknownBank { name: name.into(), known: all.into_iter().map(|bank| bank.name).collect() }),
    }
}
