//! Nearest neighbours among normalised vectors: exact by blocks of a matrix product, or a usearch HNSW graph.
//!
//! An index is built once and then only read. It knows vectors and their ids, not tables, banks or SQL.
//! Vectors that come in are normalised already ([`crate::vectors::normalize`]); distances that go out are
//! Euclidean, in [0, 2]. `usearch` and `gemm` are named in this room alone.

mod exact;
mod hnsw;
mod sidecar;

pub use exact::{Exact, kth_distances_brute};
pub use hnsw::{Hnsw, HnswOptions};
pub(crate) use sidecar::files as sidecar_files;
pub use sidecar::{FORMAT, Sidecar};

use crate::error::{Error, Result};
use crate::vectors::Vectors;

/// What a bank is searched with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum IndexKind {
    /// Every vector is compared: the default.
    #[default]
    Exact,
    /// A usearch HNSW graph: approximate, and its k-th distance can only be too large.
    Hnsw,
}

/// The one table of names.
const KINDS: [(&str, IndexKind); 2] = [("exact", IndexKind::Exact), ("hnsw", IndexKind::Hnsw)];

impl IndexKind {
    /// The kind's name, as in SQL settings and in `banks.index_kind`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Hnsw => "hnsw",
        }
    }
}

impl std::fmt::Display for IndexKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for IndexKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = KINDS.iter().find(|(known, _)| *known == name);
        found.map(|(_, kind)| *kind).ok_or_else(|| Error::UnknownSearch { name: name.into() })
    }
}

/// Search for the k-th nearest neighbour.
pub trait NeighborIndex: Send + Sync {
    /// Number of vectors.
    fn len(&self) -> usize;

    /// Whether there is no vector.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Euclidean distance of each query (normalised, n×d) to its k-th nearest vector, 1 ≤ k ≤ [`Self::len`].
    fn kth_distances(&self, queries: Vectors<'_>, k: usize) -> Result<Vec<f32>>;
}
