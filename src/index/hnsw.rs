//! Approximate search by usearch's HNSW graph.
//!
//! A missed neighbour is replaced by a farther one, so the graph's k-th distance is too large where it is wrong (rounding
//! of [`Storage`] apart). So the search keeps [`HnswOptions::expansion_per_k`] × k candidates, and exact search stays the
//! default.
//! Not for scores that must be exact, nor for k in the thousands, where the graph loses its advantage.

use std::collections::HashSet;
use std::path::Path;
use std::sync::RwLock;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use usearch::{Index, IndexOptions, MetricKind, ScalarKind, VectorType};

use outskirt_exact::Work;

use super::neighbor_index::{Found, Neighbor, NeighborIndex, Question};
use super::options::Storage;
use crate::error::{Error, Result};
use crate::index::vectors::{Rows, Vectors};

/// Everything that changes a graph's results: nothing is left to usearch's own defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HnswOptions {
    /// Links per node (M of the HNSW paper).
    pub connectivity: usize,
    /// Candidates while building (ef_construction).
    pub expansion_add: usize,
    /// Candidates while searching, per neighbour asked for: ef = this × k, at least 64.
    pub expansion_per_k: usize,
    /// How vectors are held.
    #[serde(default)]
    pub storage: Storage,
}

impl Default for HnswOptions {
    fn default() -> Self {
        Self { connectivity: 16, expansion_add: 128, expansion_per_k: 4, storage: Storage::F32 }
    }
}

/// A graph of normalised vectors under squared Euclidean distance.
pub struct Hnsw {
    /// Held shared while searching with the expansion it names, exclusively to change that.
    expansion: RwLock<usize>,
    index: Index,
    options: HnswOptions,
    /// What one step of an 8-bit code stands for.
    step: f32,
    threads: usize,
    /// Keys that are left out of what is found.
    gone: HashSet<u64>,
}

/// Rows that one thread adds before all do. Of nodes that two threads add at once, about one in a thousand ends up with
/// nothing that leads to it: a small graph should not lose any, a large one does not miss it.
const FIRST: usize = 1024;
/// Marks the key of an id that was taken out and came back. Ids are smaller.
const AGAIN: u64 = 1 << 62;

impl std::fmt::Debug for Hnsw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hnsw").field("len", &self.index.size()).field("options", &self.options).finish()
    }
}

impl Hnsw {
    /// Build a graph on all cores. Ids must be unique and below u64::MAX, which usearch keeps for itself.
    pub fn build(vectors: &Rows, ids: &[u64], options: HnswOptions) -> Result<Self> {
        assert_eq!(vectors.len(), ids.len(), "one id per vector");
        let mut hnsw = Self::empty(vectors.dimension(), options)?;
        if options.storage == Storage::I8 {
            let largest = |row| vectors.row(row).iter().fold(0.0f32, |most, value| most.max(value.abs()));
            hnsw.step = (0..vectors.len()).into_par_iter().map(largest).reduce(|| f32::MIN_POSITIVE, f32::max) / 127.0;
        }
        // memory is taken before the first add, and as many thread slots as rayon has threads:
        // usearch refuses one caller too many instead of letting it wait
        hnsw.reserve(ids.len())?;
        let first = ids.len().min(FIRST);
        (0..first).try_for_each(|row| hnsw.add(ids[row], vectors.row(row)))?;
        (first..ids.len()).into_par_iter().try_for_each(|row| hnsw.add(ids[row], vectors.row(row)))?;
        Ok(hnsw)
    }

    fn add(&self, id: u64, vector: &[f32]) -> Result<()> {
        match self.options.storage {
            Storage::I8 => self.index.add(id, &self.codes(vector)),
            Storage::F32 | Storage::Bf16 => self.index.add(id, vector),
        }
        .map_err(failed)
    }

    /// Take rows out, by id, and put others in; an id that is taken out may come back with another vector.
    ///
    /// What is taken out stays as a way to others and is left out of what is found: where usearch gives a removed
    /// node's place to a new one, neighbours of both go missing. For a graph that is not saved afterwards.
    pub fn change(&mut self, gone: &[u64], vectors: &Rows, ids: &[u64]) -> Result<()> {
        assert_eq!(vectors.len(), ids.len(), "one id per vector");
        self.gone.extend(gone);
        self.reserve(self.index.size() + ids.len())?;
        // one after the other, so that none is lost: see FIRST
        ids.iter().enumerate().try_for_each(|(row, id)| {
            let key = if self.gone.contains(id) { id | AGAIN } else { *id };
            self.add(key, vectors.row(row))
        })
    }

    /// Write the graph to `path`. The caller gives a temporary path and renames: usearch neither syncs nor swaps.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.index.save(&path_text(path)?).map_err(failed)
    }

    /// What one step of an 8-bit code stands for, to be given to [`Self::load`]; 0 where numbers are stored otherwise.
    pub fn step(&self) -> f32 {
        self.step
    }

    /// Read a graph that [`Self::save`] wrote with the same options and step.
    pub fn load(path: &Path, dimension: usize, options: HnswOptions, step: f32) -> Result<Self> {
        let hnsw = Self { step, ..Self::empty(dimension, options)? };
        hnsw.index.load(&path_text(path)?).map_err(failed)?;
        let refuse = |reason: String| Err(Error::BadIndexFile { path: path.into(), reason });
        if hnsw.index.dimensions() != dimension {
            return refuse(format!("dimension {}, expected {dimension}", hnsw.index.dimensions()));
        }
        if hnsw.index.scalar_kind() != scalar(options.storage) || hnsw.index.metric_kind() != MetricKind::L2sq {
            return refuse("it holds other numbers, or another distance than squared Euclidean".into());
        }
        hnsw.reserve(hnsw.index.size())?;
        Ok(hnsw)
    }

    fn empty(dimension: usize, options: HnswOptions) -> Result<Self> {
        let index = Index::new(&IndexOptions {
            dimensions: dimension,
            metric: MetricKind::L2sq,
            quantization: scalar(options.storage),
            connectivity: options.connectivity,
            expansion_add: options.expansion_add,
            expansion_search: 64,
            multi: false,
        })
        .map_err(failed)?;
        Ok(Self {
            expansion: RwLock::new(64),
            index,
            options,
            step: 0.0,
            threads: rayon::current_num_threads(),
            gone: HashSet::new(),
        })
    }

    fn reserve(&self, rows: usize) -> Result<()> {
        // + 1: a caller outside rayon's pool
        self.index.reserve_capacity_and_threads(rows, self.threads + 1).map_err(failed)
    }

    /// Numbers in steps; usearch's own conversion cuts off instead of rounding, and loses a part of every distance.
    fn codes(&self, vector: &[f32]) -> Vec<i8> {
        vector.iter().map(|value| (value / self.step).round().clamp(-127.0, 127.0) as i8).collect()
    }

    /// The k nearest that the graph finds of a query, its own left out: keys and distances.
    fn search(&self, row: usize, query: &[f32], k: usize, own: Option<u64>) -> Result<Vec<Neighbor>> {
        let wanted = k + usize::from(own.is_some());
        let (found, unit) = match self.options.storage {
            Storage::I8 => (self.reach(&self.codes(query), wanted), self.step),
            Storage::F32 | Storage::Bf16 => (self.reach(query, wanted), 1.0),
        };
        let (keys, squares) = found?;
        let near = keys.iter().map(|key| key & !AGAIN).zip(&squares);
        let near = near.filter(|&(id, _)| Some(id) != own).take(k);
        let near = near.map(|(id, squared)| Neighbor { id, distance: unit * squared.max(0.0).sqrt() });
        let near: Vec<Neighbor> = near.collect();
        if near.len() == k {
            return Ok(near);
        }
        let reached = near.len();
        Err(Error::Hnsw {
            reason: format!(
                "reached {reached} of k = {k} neighbours for row {row} of the batch: SET outskirt.search = 'exact'"
            ),
        })
    }

    /// Keys and squared distances of the nearest that the graph finds.
    fn reach<T: VectorType>(&self, query: &[T], wanted: usize) -> Result<(Vec<u64>, Vec<f32>)> {
        let found = match self.gone.is_empty() {
            true => self.index.search(query, wanted),
            false => self.index.filtered_search(query, wanted, |key| !self.gone.contains(&key)),
        };
        found.map(|found| (found.keys, found.distances)).map_err(failed)
    }

    /// Run with the graph's expansion set for k.
    fn expanded<T>(&self, k: usize, run: impl FnOnce() -> T) -> T {
        let wanted = (self.options.expansion_per_k * k).max(64);
        let mut held = self.expansion.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        while *held != wanted {
            drop(held);
            let mut change = self.expansion.write().unwrap_or_else(|poisoned| poisoned.into_inner());
            self.index.change_expansion_search(wanted);
            *change = wanted;
            held = std::sync::RwLockWriteGuard::downgrade(change);
        }
        run()
    }
}

impl NeighborIndex for Hnsw {
    fn find(&self, queries: Vectors<'_>, question: Question<'_>) -> Result<Found> {
        let near = self.nearest(queries, question.k, question.excluded)?;
        let kth = near.iter().map(|near| near.last().map(|kth| kth.distance)).enumerate();
        let kth = kth.map(|(row, kth)| question.answer(row, kth)).collect();
        Ok(Found { kth, work: Work { queries: queries.len() as u64, ..Work::default() } })
    }

    fn nearest(&self, queries: Vectors<'_>, k: usize, own: Option<&[Option<u64>]>) -> Result<Vec<Vec<Neighbor>>> {
        let one = |row: usize| self.search(row, queries.row(row), k, own.and_then(|own| own[row]));
        self.expanded(k, || (0..queries.len()).into_par_iter().map(one).collect())
    }

    fn describe(&self) -> String {
        format!("hnsw, {:?}", self.options.storage).to_lowercase()
    }
}

fn scalar(storage: Storage) -> ScalarKind {
    match storage {
        Storage::F32 => ScalarKind::F32,
        Storage::Bf16 => ScalarKind::BF16,
        Storage::I8 => ScalarKind::I8,
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Hnsw { reason: error.to_string() }
}

fn path_text(path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Error::BadIndexFile { path: path.into(), reason: "its path is not UTF-8".into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::vectors::normalize;
    use crate::index::{Kth, kth_distances_brute};

    /// Whatever is taken out and put in, a small graph finds what is there.
    #[test]
    fn small_graphs_find_every_row_after_changes() {
        let (d, n) = (8, 400);
        let mut state = 9u64;
        let mut rows = |count: usize| {
            let mut rows = Rows::with_capacity(count, d);
            for _ in 0..count {
                let mut unit = || {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
                };
                let (drawn, mut row): (Vec<f32>, _) = ((0..d).map(|_| unit()).collect(), Vec::new());
                normalize(&drawn, &mut row).unwrap();
                rows.push(&row);
            }
            rows
        };
        for round in 0..20 {
            let (old, new) = (rows(n), rows(40));
            let ids: Vec<u64> = (1..=n as u64).collect();
            let mut hnsw = Hnsw::build(&old, &ids, HnswOptions::default()).unwrap();
            // twenty are gone, twenty others come back with another vector, twenty are new
            let gone: Vec<u64> = (1..=40).collect();
            let fresh: Vec<u64> = (21..=40).chain(1001..=1020).collect();
            hnsw.change(&gone, &new, &fresh).unwrap();
            let mut now = Rows::with_capacity(n, d);
            (40..n).for_each(|row| now.push(old.row(row)));
            (0..40).for_each(|row| now.push(new.row(row)));
            let values = now.to_values();
            let queries = Vectors::new(&values, d);
            let found = hnsw.find(queries, Question::all(5)).unwrap().kth;
            let same = |(found, truth): (&Kth, &f32)| matches!(found, Kth::At(kth) if (kth - truth).abs() < 1e-5);
            let truth = kth_distances_brute(queries, queries, 5);
            assert!(found.iter().zip(&truth).all(same), "round {round}");
            let nearest = hnsw.nearest(queries, 1, None).unwrap();
            let expected = (41..=n as u64).chain(fresh);
            assert!(nearest.iter().map(|near| near[0].id).eq(expected), "round {round}: each finds itself");
        }
    }
}
