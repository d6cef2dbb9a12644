//! Nearest neighbours among normalised vectors: exact on the processor, exact on a GPU, or a usearch HNSW graph.
//!
//! An index is built once and then only read. It knows vectors and their ids, not tables, banks or SQL.
//! Vectors that come in are normalised already ([`crate::index::vectors::normalize`]); distances that go out are
//! Euclidean, in [0, 2]. `usearch` is named in this room alone; libtorch here only in `device`. Exact search on the
//! processor is a package of its own, [`outskirt_exact`], so that its loops are optimised in every build.

#[cfg(feature = "torch")]
mod device;
mod hnsw;
mod options;
mod processor;
mod sidecar;
pub mod vectors;

#[cfg(feature = "torch")]
pub use device::{DeviceBank, Precision, require_cuda};
pub use hnsw::{Hnsw, HnswOptions};
pub use options::{Device, IndexKind, Instructions, MemoryLimit, Search, SearchOptions, Stale, Storage};
pub(crate) use outskirt_exact::Stored;
pub use outskirt_exact::{Bound, Exact, Kth, Layout, RowNumber, Running, Sampling, Work, kth_distances_brute};
pub(crate) use processor::Processor;
pub use sidecar::{FORMAT, Origin, Sidecar};
pub(crate) use sidecar::{files as index_files, replace};

use crate::error::{Error, Result};
use crate::index::vectors::{Rows, Vectors};

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

/// Search for nearest neighbours. Queries are normalised, m×d; 1 ≤ k ≤ number of vectors, or one less where a query
/// excludes its own.
pub trait NeighborIndex: Send + Sync + std::fmt::Debug {
    /// What is asked about each query's k-th nearest vector.
    fn find(&self, queries: Vectors<'_>, question: Question<'_>) -> Result<Found>;

    /// The k nearest vectors of each query, nearest first. `own` as [`Question::excluded`](outskirt_exact::Question).
    fn nearest(&self, queries: Vectors<'_>, k: usize, own: Option<&[Option<u64>]>) -> Result<Vec<Vec<Neighbor>>>;

    /// The mean over each query's k nearest vectors of: its k-th distance divided by theirs.
    ///
    /// Errors: [`Error::NeedsMemory`] where the vectors are not in memory.
    fn density_ratios(&self, _queries: Vectors<'_>, _k: usize, _own: Option<&[Option<u64>]>) -> Result<Vec<f32>> {
        Err(Error::NeedsMemory { what: "a density ratio" })
    }

    /// How it searches, in words.
    fn describe(&self) -> String;
}

/// Exact search of normalised vectors, whose ids are given in their order, where the options say.
///
/// Errors: a device that is not there.
pub(crate) fn exact(rows: Rows, ids: &[u64], k: usize, options: SearchOptions) -> Result<Box<dyn NeighborIndex>> {
    match options.device {
        Device::Cpu => {
            let layout = Layout { k, path: options.instructions, ..Layout::default() };
            let dimension = rows.dimension();
            let mut bank = Exact::new(rows, layout);
            let mut ascending: Vec<u64> = ids.to_vec();
            ascending.sort_unstable();
            if ascending != ids {
                let numbers: Vec<Option<RowNumber>> = ids.iter().map(|&id| row_number(&ascending, id)).collect();
                bank.change(&Rows::with_capacity(0, dimension), &numbers);
            }
            Ok(Box::new(Processor::new(bank, ascending.into())))
        }
        Device::Cuda => on_cuda(&rows),
    }
}

/// The number of the row of an id, among ids in ascending order: of equally near rows the one of the smaller id comes first.
pub(crate) fn row_number(ids: &[u64], id: u64) -> Option<RowNumber> {
    ids.binary_search(&id).ok().map(|number| RowNumber(number as u32))
}

#[cfg(feature = "torch")]
fn on_cuda(rows: &Rows) -> Result<Box<dyn NeighborIndex>> {
    let values = std::sync::Arc::new(rows.to_values());
    Ok(Box::new(DeviceBank::new(values, rows.dimension(), require_cuda(None)?, None, None)?))
}

#[cfg(not(feature = "torch"))]
fn on_cuda(_rows: &Rows) -> Result<Box<dyn NeighborIndex>> {
    Err(Error::NoTorch { what: "outskirt.device = 'cuda'".into() })
}

/// The device must be there before a bank is read for it.
pub(crate) fn check_device(device: Device) -> Result<()> {
    match device {
        Device::Cpu => Ok(()),
        #[cfg(feature = "torch")]
        Device::Cuda => require_cuda(None).map(|_| ()),
        #[cfg(not(feature = "torch"))]
        Device::Cuda => Err(Error::NoTorch { what: "outskirt.device = 'cuda'".into() }),
    }
}
