//! Nearest neighbours among normalised vectors: exact on the processor, exact on a GPU, or a usearch HNSW graph.
//!
//! An index is built once and then only read. It knows vectors and their ids, not tables, banks or SQL.
//! Vectors that come in are normalised already ([`crate::index::vectors::normalize`]); distances that go out are
//! Euclidean, in [0, 2]. `usearch` is named in this room alone; libtorch here only in `device`. Exact search on the
//! processor is a package of its own, [`outskirt_exact`], so that its loops are optimised in every build.

#[cfg(feature = "torch")]
mod device;
mod exact;
mod hnsw;
mod neighbor_index;
mod options;
mod processor;
mod sidecar;
pub mod vectors;

#[cfg(feature = "torch")]
pub use device::{DeviceBank, Precision, require_cuda};
pub(crate) use exact::{check_device, exact};
pub(crate) use hnsw::tolerance;
pub use hnsw::{Hnsw, HnswOptions, LEAST_RECALL, Quality};
pub(crate) use neighbor_index::row_number;
pub use neighbor_index::{Found, Near, Neighbor, NeighborIndex, Question};
pub use options::{Device, IndexKind, Instructions, MemoryLimit, Search, SearchOptions, Stale, Storage};
pub(crate) use outskirt_exact::Stored;
pub use outskirt_exact::{
    Bound, Exact, Kth, Layout, MOST_NUMBERS, RowNumber, Running, Sampling, Work, kth_distances_brute,
};
pub(crate) use processor::Processor;
pub use sidecar::{FORMAT, Origin, Sidecar};
pub(crate) use sidecar::{files as index_files, replace};
