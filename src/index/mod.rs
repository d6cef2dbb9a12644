//! Nearest neighbours among normalised vectors: exact on the processor, exact on a GPU, or a usearch HNSW graph.
//!
//! An index is built once and then only read. It knows vectors and their ids, not tables, banks or SQL.
//! Vectors that come in are normalised already ([`crate::vectors::normalize`]); distances that go out are
//! Euclidean, in [0, 2]. `usearch` is named in this room alone; libtorch here only in `device`. Exact search on the
//! processor is a package of its own, [`outskirt_exact`], so that its loops are optimised in every build.

#[cfg(feature = "torch")]
mod device;
mod hnsw;
mod options;
mod sidecar;

#[cfg(feature = "torch")]
pub use device::{DeviceBank, Precision, require_cuda};
pub use hnsw::{Hnsw, HnswOptions};
pub use options::{Device, IndexKind, Instructions, MemoryLimit, Search, SearchOptions, Storage};
pub use outskirt_exact::{Exact, Layout, Running, Sampling, kth_distances_brute};
pub(crate) use sidecar::files as sidecar_files;
pub use sidecar::{FORMAT, Sidecar};

#[cfg(not(feature = "torch"))]
use crate::error::Error;
use crate::error::Result;
use crate::vectors::{Rows, Vectors};

/// Search for the k-th nearest neighbour.
pub trait NeighborIndex: Send + Sync + std::fmt::Debug {
    /// Euclidean distance of each query (normalised, n×d) to its k-th nearest vector, 1 ≤ k ≤ number of vectors.
    fn kth_distances(&self, queries: Vectors<'_>, k: usize) -> Result<Vec<f32>>;

    /// Whether the k-th nearest vector of each query is at most as far as its cutoff: what comparing
    /// [`Self::kth_distances`] says, at times found sooner.
    fn within(&self, queries: Vectors<'_>, k: usize, cutoffs: &[f32]) -> Result<Vec<bool>> {
        let distances = self.kth_distances(queries, k)?;
        Ok(distances.iter().zip(cutoffs).map(|(distance, cutoff)| distance <= cutoff).collect())
    }
}

impl NeighborIndex for Exact {
    fn kth_distances(&self, queries: Vectors<'_>, k: usize) -> Result<Vec<f32>> {
        Ok(Exact::kth_distances(self, queries, k))
    }

    fn within(&self, queries: Vectors<'_>, k: usize, cutoffs: &[f32]) -> Result<Vec<bool>> {
        Ok(Exact::within(self, queries, k, cutoffs))
    }
}

/// Exact search of normalised vectors where the options say.
///
/// Errors: a device that is not there.
pub fn exact(rows: Rows, k: usize, options: SearchOptions) -> Result<Box<dyn NeighborIndex>> {
    match options.device {
        Device::Cpu => {
            let layout = Layout { k, path: options.instructions, ..Layout::default() };
            Ok(Box::new(Exact::new(rows, layout)))
        }
        Device::Cuda => on_cuda(&rows),
    }
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
