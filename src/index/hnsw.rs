//! Approximate search by usearch's HNSW graph.
//!
//! The graph's k-th distance can only be too large: a missed neighbour is replaced by a farther one. So the
//! search keeps [`HnswOptions::expansion_per_k`] × k candidates, and exact search stays the default.
//! Not for scores that must be exact, nor for k in the thousands, where the graph loses its advantage.

use std::path::Path;
use std::sync::RwLock;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use usearch::{Index, IndexOptions, MetricKind, ScalarKind};

use super::NeighborIndex;
use crate::error::{Error, Result};
use crate::vectors::{Rows, Vectors};

/// Everything that changes a graph's results: nothing is left to usearch's own defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HnswOptions {
    /// Links per node (M of the HNSW paper).
    pub connectivity: usize,
    /// Candidates while building (ef_construction).
    pub expansion_add: usize,
    /// Candidates while searching, per neighbour asked for: ef = this × k, at least 64.
    pub expansion_per_k: usize,
}

impl Default for HnswOptions {
    fn default() -> Self {
        Self { connectivity: 16, expansion_add: 128, expansion_per_k: 4 }
    }
}

/// A graph of normalised f32 vectors under squared Euclidean distance.
pub struct Hnsw {
    /// Held shared while searching with the expansion it names, exclusively to change that.
    expansion: RwLock<usize>,
    index: Index,
    options: HnswOptions,
    threads: usize,
}

impl std::fmt::Debug for Hnsw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hnsw").field("len", &self.index.size()).field("options", &self.options).finish()
    }
}

impl Hnsw {
    /// Build a graph on all cores. Ids must be unique and below u64::MAX, which usearch keeps for itself.
    pub fn build(vectors: &Rows, ids: &[u64], options: HnswOptions) -> Result<Self> {
        assert_eq!(vectors.len(), ids.len(), "one id per vector");
        let hnsw = Self::empty(vectors.dimension(), options)?;
        // memory is taken before the first add, and as many thread slots as rayon has threads:
        // usearch refuses one caller too many instead of letting it wait
        hnsw.reserve(ids.len())?;
        (0..ids.len())
            .into_par_iter()
            .try_for_each(|row| hnsw.index.add(ids[row], vectors.row(row)).map_err(failed))?;
        Ok(hnsw)
    }

    /// Write the graph to `path`. The caller gives a temporary path and renames: usearch neither syncs nor swaps.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.index.save(&path_text(path)?).map_err(failed)
    }

    /// Read a graph that [`Self::save`] wrote with the same options.
    pub fn load(path: &Path, dimension: usize, options: HnswOptions) -> Result<Self> {
        let hnsw = Self::empty(dimension, options)?;
        hnsw.index.load(&path_text(path)?).map_err(failed)?;
        let refuse = |reason: String| Err(Error::BadIndexFile { path: path.into(), reason });
        if hnsw.index.dimensions() != dimension {
            return refuse(format!("dimension {}, expected {dimension}", hnsw.index.dimensions()));
        }
        if hnsw.index.scalar_kind() != ScalarKind::F32 || hnsw.index.metric_kind() != MetricKind::L2sq {
            return refuse("it does not hold f32 vectors under squared Euclidean distance".into());
        }
        hnsw.reserve(hnsw.index.size())?;
        Ok(hnsw)
    }

    fn empty(dimension: usize, options: HnswOptions) -> Result<Self> {
        let index = Index::new(&IndexOptions {
            dimensions: dimension,
            metric: MetricKind::L2sq,
            quantization: ScalarKind::F32,
            connectivity: options.connectivity,
            expansion_add: options.expansion_add,
            expansion_search: 64,
            multi: false,
        })
        .map_err(failed)?;
        Ok(Self { expansion: RwLock::new(64), index, options, threads: rayon::current_num_threads() })
    }

    fn reserve(&self, rows: usize) -> Result<()> {
        // + 1: a caller outside rayon's pool
        self.index.reserve_capacity_and_threads(rows, self.threads + 1).map_err(failed)
    }

    fn kth_distance(&self, row: usize, query: &[f32], k: usize) -> Result<f32> {
        let found = self.index.search(query, k).map_err(failed)?;
        match found.distances.get(k - 1) {
            Some(squared) => Ok(squared.max(0.0).sqrt()),
            None => Err(Error::Hnsw {
                reason: format!(
                    "reached {} of k = {k} neighbours for row {row} of the batch: SET outskirt.search = 'exact'",
                    found.distances.len()
                ),
            }),
        }
    }
}

impl NeighborIndex for Hnsw {
    fn kth_distances(&self, queries: Vectors<'_>, k: usize) -> Result<Vec<f32>> {
        let wanted = (self.options.expansion_per_k * k).max(64);
        let mut held = self.expansion.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        while *held != wanted {
            drop(held);
            let mut change = self.expansion.write().unwrap_or_else(|poisoned| poisoned.into_inner());
            self.index.change_expansion_search(wanted);
            *change = wanted;
            held = std::sync::RwLockWriteGuard::downgrade(change);
        }
        (0..queries.len()).into_par_iter().map(|row| self.kth_distance(row, queries.row(row), k)).collect()
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Hnsw { reason: error.to_string() }
}

fn path_text(path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Error::BadIndexFile { path: path.into(), reason: "its path is not UTF-8".into() })
}
