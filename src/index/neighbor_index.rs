//! What an index is asked, and what it answers.

use outskirt_exact::{Kth, RowNumber, Work};

use super::vectors::Vectors;
use crate::error::{Error, Result};

/// What is asked about the k-th nearest neighbour of each query; rows that are excluded are known by `images.id`.
pub type Question<'a> = outskirt_exact::Question<'a, u64>;

/// The answers to a [`Question`].
#[derive(Debug)]
pub struct Found {
    /// One per query.
    pub kth: Vec<Kth>,
    /// What the search did, as far as it counts.
    pub work: Work,
}

/// A row of a bank near a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbor {
    /// `images.id`.
    pub id: u64,
    /// Euclidean, in [0, 2].
    pub distance: f32,
}

/// Rows near a query: distances, before they are rounded, and ids.
pub type Near = Vec<(f64, u64)>;

/// Search for nearest neighbours. Queries are normalised, m×d; 1 ≤ k ≤ number of vectors, or one less where a query
/// excludes its own.
pub trait NeighborIndex: Send + Sync + std::fmt::Debug {
    /// What is asked about each query's k-th nearest vector.
    fn find(&self, queries: Vectors<'_>, question: Question<'_>) -> Result<Found>;

    /// The k nearest vectors of each query, nearest first. `own` as [`Question::excluded`](outskirt_exact::Question).
    fn nearest(&self, queries: Vectors<'_>, k: usize, own: Option<&[Option<u64>]>) -> Result<Vec<Vec<Neighbor>>>;

    /// The k nearest vectors of each query, or as many as there are within its ceiling, in no order. Of several indexes, the k nearest of all are
    /// among these, so that a bank may lie in many. The floor says nothing. With them comes what it took.
    ///
    /// Errors: [`Error::OnlyOnProcessor`] where the index is not an exact one of the processor.
    fn nearest_within(&self, _queries: Vectors<'_>, _question: Question<'_>) -> Result<(Vec<Near>, Work)> {
        Err(Error::OnlyOnProcessor { what: "a search of a bank in shards" })
    }

    /// The mean over each query's k nearest vectors of: its k-th distance divided by theirs.
    ///
    /// Errors: [`Error::NeedsMemory`] where the vectors are not in memory.
    fn density_ratios(&self, _queries: Vectors<'_>, _k: usize, _own: Option<&[Option<u64>]>) -> Result<Vec<f32>> {
        Err(Error::NeedsMemory { what: "a density ratio" })
    }

    /// How many queries are worth asking at once: where each takes long, fewer, so that a search can be given up between.
    /// All there are, where every question reads the whole bank.
    fn at_once(&self) -> usize {
        usize::MAX
    }

    /// Bytes that it holds in the main memory, about; none where they lie elsewhere.
    fn bytes(&self) -> u64 {
        0
    }

    /// How it searches, in words.
    fn describe(&self) -> String;
}

/// The number of the row of an id, among ids in ascending order: of equally near rows the one of the smaller id comes first.
pub(crate) fn row_number(ids: &[u64], id: u64) -> Option<RowNumber> {
    ids.binary_search(&id).ok().map(|number| RowNumber(number as u32))
}
