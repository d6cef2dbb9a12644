//! Approximate search by usearch's HNSW graph.
//!
//! A missed neighbour is replaced by a farther one, so the graph's k-th distance is too large where it is wrong (rounding
//! of [`Storage`] apart). How often that happens is luck in usearch: of nodes that two threads add at once about one in a
//! thousand is left without anything that leads to it, and of rows in the order of a table, class after class, those added
//! first lose their far links. So rows come in a shuffled order; those to which no links lead once the graph is built, and those
//! that a search for them misses, are put in again; and the search is made as wide as it takes to be right on a sample
//! ([`Hnsw::tune`]). Exact search stays the default.
//! Not for scores that must be exact, nor for k in the thousands, where the graph loses its advantage.

use std::collections::{HashMap, HashSet};
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
use crate::statistics::sampling::mixed;

/// Everything that changes a graph's links: nothing is left to usearch's own defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HnswOptions {
    /// Links per node (M of the HNSW paper).
    pub connectivity: usize,
    /// Candidates while building (ef_construction).
    pub expansion_add: usize,
    /// How vectors are held.
    #[serde(default)]
    pub storage: Storage,
}

impl Default for HnswOptions {
    fn default() -> Self {
        Self { connectivity: 16, expansion_add: 128, storage: Storage::F32 }
    }
}

/// How a graph answers beside exact search, on a sample of queries.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Share of the k-th distances that are the exact ones, as far as the numbers of its storage tell; in [0, 1].
    pub recall: f64,
    /// Queries of the sample.
    pub queries: usize,
    /// Candidates while searching, per neighbour asked for, that it takes: ef = this × k, at least 64.
    pub expansion_per_k: usize,
}

impl Quality {
    /// Whether as many k-th distances are right as are to be.
    pub fn is_enough(&self) -> bool {
        self.recall >= LEAST_RECALL
    }
}

/// Share of the k-th distances of a sample that a graph is to have right.
pub const LEAST_RECALL: f64 = 0.99;

/// Candidates per neighbour asked for, one after the other until the graph is right often enough.
const EXPANSIONS: [usize; 5] = [4, 8, 16, 32, 64];
/// Least candidates of any search.
const LEAST_EXPANSION: usize = 64;

/// A graph of normalised vectors under squared Euclidean distance.
pub struct Hnsw {
    /// Held shared while searching with the expansion it names, exclusively to change that.
    expansion: RwLock<usize>,
    index: Index,
    options: HnswOptions,
    /// Candidates while searching, per neighbour asked for.
    expansion_per_k: usize,
    /// What one step of an 8-bit code stands for.
    step: f32,
    threads: usize,
    /// Keys that are left out of what is found.
    gone: HashSet<u64>,
    /// Ids that were taken out and came back, as often as they did; the key of each is its place after [`AGAIN`].
    came_back: Vec<u64>,
}

/// Rows that one thread adds before all do: a graph of so many loses no row.
const FIRST: usize = 1024;
/// How often rows to which no links lead are put in again, and the share of a graph that is: more were not lost by chance.
const REPAIRS: usize = 3;
const MOST_REPAIRED: usize = 10;
/// The first key of an id that was taken out and came back: a key stays that of the vector that is gone. Ids are smaller.
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
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_by_cached_key(|&row| mixed(ids[row], 0));
        let (first, rest) = order.split_at(ids.len().min(FIRST));
        first.iter().try_for_each(|&row| hnsw.add(ids[row], vectors.row(row)))?;
        rest.par_iter().try_for_each(|&row| hnsw.add(ids[row], vectors.row(row)))?;
        if let Some(&row) = order.first() {
            hnsw.repair(vectors, ids, ids[row])?;
        }
        Ok(hnsw)
    }

    fn add(&self, key: u64, vector: &[f32]) -> Result<()> {
        match self.options.storage {
            Storage::I8 => self.index.add(key, &self.codes(vector)),
            Storage::F32 | Storage::Bf16 => self.index.add(key, vector),
        }
        .map_err(failed)
    }

    /// Put rows in again to which no links lead from a row that others lead to, or that a search for them misses.
    fn repair(&self, vectors: &Rows, ids: &[u64], start: u64) -> Result<()> {
        for _ in 0..REPAIRS {
            let reached = self.reached(start);
            let is_lost = |row: usize| -> Result<Option<usize>> {
                // a copy of it is as good
                let (_, squares) = self.nearby(vectors.row(row), 1)?;
                let is_found = squares.first().is_some_and(|&square| square == 0.0);
                Ok((!is_found || !reached.contains(&ids[row])).then_some(row))
            };
            let lost: Vec<Option<usize>> = (0..ids.len()).into_par_iter().map(is_lost).collect::<Result<_>>()?;
            let lost: Vec<usize> = lost.into_iter().flatten().collect();
            if lost.is_empty() || lost.len() > FIRST.max(ids.len() / MOST_REPAIRED) {
                break;
            }
            // one after the other: each gets the place that it had, and with it the links that it has
            for row in lost {
                self.index.remove(ids[row]).map_err(failed)?;
                self.add(ids[row], vectors.row(row))?;
            }
        }
        Ok(())
    }

    /// The keys to which links of the ground floor lead from one of them.
    fn reached(&self, start: u64) -> HashSet<u64> {
        let (mut reached, mut open) = (HashSet::from([start]), vec![start]);
        while let Some(key) = open.pop() {
            open.extend(self.index.neighbors(key, 0).filter(|&next| reached.insert(next)));
        }
        reached
    }

    /// Make the search as wide as it takes to find [`LEAST_RECALL`] of the k-th distances of normalised queries (n×d);
    /// where none is wide enough, as wide as finds most.
    pub fn tune(&mut self, queries: Vectors<'_>, truth: &[f32], k: usize) -> Quality {
        let mut best = Quality { recall: 0.0, queries: queries.len(), expansion_per_k: EXPANSIONS[0] };
        for expansion_per_k in EXPANSIONS {
            self.expansion_per_k = expansion_per_k;
            let is_right = |&row: &usize| {
                let query = queries.row(row);
                let within = tolerance(self.options.storage, self.step, query);
                let found = self.search(row, query, k, None);
                // finding fewer than k is being wrong
                found.is_ok_and(|near| near.last().is_some_and(|kth| (kth.distance - truth[row]).abs() <= within))
            };
            let right = self.expanded(k, || (0..queries.len()).into_par_iter().filter(is_right).count());
            let recall = right as f64 / queries.len().max(1) as f64;
            if recall > best.recall {
                best = Quality { recall, expansion_per_k, ..best };
            }
            if best.is_enough() || expansion_per_k * k >= self.index.size() {
                break;
            }
        }
        self.expansion_per_k = best.expansion_per_k;
        best
    }

    /// Search as widely as [`Self::tune`] found that it takes.
    pub fn widen(&mut self, quality: &Quality) {
        let [least, .., most] = EXPANSIONS;
        self.expansion_per_k = quality.expansion_per_k.clamp(least, most);
    }

    /// Take rows out, by id, and put others in; an id that is taken out may come back with another vector.
    ///
    /// What is taken out stays as a way to others and is left out of what is found: where usearch gives a removed
    /// node's place to a new one, neighbours of both go missing. For a graph that is not saved afterwards.
    pub fn change(&mut self, gone: &[u64], vectors: &Rows, ids: &[u64]) -> Result<()> {
        assert_eq!(vectors.len(), ids.len(), "one id per vector");
        let came_back = self.came_back.iter().zip(AGAIN..).map(|(&id, key)| (id, key));
        let again: HashMap<u64, u64> = came_back.collect();
        self.gone.extend(gone.iter().map(|id| again.get(id).unwrap_or(id)));
        self.reserve(self.index.size() + ids.len())?;
        // one after the other, so that none is lost: see FIRST
        ids.iter().enumerate().try_for_each(|(row, &id)| {
            let key = match self.gone.contains(&id) {
                true => {
                    self.came_back.push(id);
                    AGAIN + self.came_back.len() as u64 - 1
                }
                false => id,
            };
            self.add(key, vectors.row(row))
        })
    }

    /// The id that a key stands for.
    fn id_of(&self, key: u64) -> u64 {
        let place = key.checked_sub(AGAIN).and_then(|place| usize::try_from(place).ok());
        place.and_then(|place| self.came_back.get(place)).copied().unwrap_or(key)
    }

    /// Rows that it holds, those that were taken out among them.
    pub fn len(&self) -> usize {
        self.index.size()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
        if options.storage == Storage::I8 && !(step.is_finite() && step > 0.0) {
            return refuse(format!("a step of {step} between its numbers"));
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
            expansion_search: LEAST_EXPANSION,
            multi: false,
        })
        .map_err(failed)?;
        Ok(Self {
            expansion: RwLock::new(LEAST_EXPANSION),
            index,
            options,
            expansion_per_k: EXPANSIONS[0],
            step: 0.0,
            threads: rayon::current_num_threads(),
            gone: HashSet::new(),
            came_back: Vec::new(),
        })
    }

    fn reserve(&self, rows: usize) -> Result<()> {
        // + 1: a caller outside rayon's pool
        self.index.reserve_capacity_and_threads(rows, self.threads + 1).map_err(failed)
    }

    fn codes(&self, vector: &[f32]) -> Vec<i8> {
        vector.iter().map(|&value| code(value, self.step)).collect()
    }

    /// The k nearest that the graph finds of a query, its own left out: keys and distances.
    fn search(&self, row: usize, query: &[f32], k: usize, own: Option<u64>) -> Result<Vec<Neighbor>> {
        let wanted = k + usize::from(own.is_some());
        let unit = if self.options.storage == Storage::I8 { self.step } else { 1.0 };
        let (keys, squares) = self.nearby(query, wanted)?;
        let near = keys.iter().map(|&key| self.id_of(key)).zip(&squares);
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

    /// Keys and squared distances, in steps where numbers are 8 bits, of the nearest that the graph finds.
    fn nearby(&self, query: &[f32], wanted: usize) -> Result<(Vec<u64>, Vec<f32>)> {
        match self.options.storage {
            Storage::I8 => self.reach(&self.codes(query), wanted),
            Storage::F32 | Storage::Bf16 => self.reach(query, wanted),
        }
    }

    /// The same, of a query as it is stored.
    fn reach<T: VectorType>(&self, query: &[T], wanted: usize) -> Result<(Vec<u64>, Vec<f32>)> {
        let found = match self.gone.is_empty() {
            true => self.index.search(query, wanted),
            false => self.index.filtered_search(query, wanted, |key| !self.gone.contains(&key)),
        };
        found.map(|found| (found.keys, found.distances)).map_err(failed)
    }

    /// Run with the graph's expansion set for k.
    fn expanded<T>(&self, k: usize, run: impl FnOnce() -> T) -> T {
        let wanted = (self.expansion_per_k * k).max(LEAST_EXPANSION);
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

    fn bytes(&self) -> u64 {
        self.index.memory_usage() as u64
    }

    fn describe(&self) -> String {
        format!("hnsw, {:?}", self.options.storage).to_lowercase()
    }
}

/// A number in steps; usearch's own conversion cuts off instead of rounding, and loses a part of every distance.
fn code(value: f32, step: f32) -> i8 {
    (value / step).round().clamp(-127.0, 127.0) as i8
}

/// How far a graph's distances of a query may be from exact ones where it found the same neighbour.
pub(crate) fn tolerance(storage: Storage, step: f32, query: &[f32]) -> f32 {
    match storage {
        Storage::F32 => 1e-5,
        // 2⁻⁸ of each of two vectors of length one, where numbers are cut off
        Storage::Bf16 => 1.0 / 128.0,
        // of the rows half a step of each number; a query may have larger numbers than there are steps for
        Storage::I8 => {
            let lost = |&value: &f32| (value - step * f32::from(code(value, step))).powi(2);
            query.iter().map(lost).sum::<f32>().sqrt() + 0.5 * step * (query.len() as f32).sqrt() + 1e-5
        }
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

    /// Classes one after the other, as folders are read, and points halfway between rows.
    fn classes(per_class: usize, d: usize) -> (Rows, Vec<f32>) {
        let mut state = 11u64;
        let mut drawn = move || {
            state += 1;
            (mixed(state, 0) >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        let (mut rows, mut unit) = (Rows::with_capacity(10 * per_class, d), Vec::new());
        for _ in 0..10 {
            let center: Vec<f32> = (0..d).map(|_| drawn()).collect();
            for _ in 0..per_class {
                unit.clear();
                let row: Vec<f32> = center.iter().map(|value| value + 0.3 * drawn()).collect();
                normalize(&row, &mut unit).unwrap();
                rows.push(&unit);
            }
        }
        let mut between = Vec::new();
        for query in 0..500 {
            let [a, b] = [1, 2].map(|seed| rows.row((mixed(query, seed) % rows.len() as u64) as usize));
            normalize(&a.iter().zip(b).map(|(a, b)| a + b).collect::<Vec<f32>>(), &mut between).unwrap();
        }
        (rows, between)
    }

    #[test]
    fn quality_does_not_depend_on_the_order_of_threads() {
        let (d, k) = (64, 10);
        let (rows, between) = classes(300, d);
        let (ids, values): (Vec<u64>, _) = ((1..=rows.len() as u64).collect(), rows.to_values());
        let queries = Vectors::new(&between, d);
        let truth = kth_distances_brute(Vectors::new(&values, d), queries, k);
        let (sample, others) = (queries.rows(0, 200), queries.rows(200, 500));
        let threads = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
        for build in 0..6 {
            let mut hnsw = threads.install(|| Hnsw::build(&rows, &ids, HnswOptions::default())).unwrap();
            let quality = hnsw.tune(sample, &truth[..200], k);
            assert!(quality.is_enough() && quality.queries == 200, "build {build}: {quality:?}");
            let found = hnsw.find(others, Question::all(k)).unwrap().kth;
            let wrong =
                found.iter().zip(&truth[200..]).filter(|(found, truth)| (found.distance() - *truth).abs() > 1e-5);
            let wrong = wrong.count();
            assert!(wrong <= 9, "build {build}: {wrong} of 300 points between rows are wrong, {quality:?}");
            let nearest = hnsw.nearest(Vectors::new(&values, d), 1, None).unwrap();
            let lost = nearest.iter().zip(&ids).filter(|(near, id)| near[0].id != **id).count();
            assert_eq!(lost, 0, "build {build}: rows that do not find themselves");
        }
    }

    #[test]
    fn an_id_that_came_back_can_be_taken_out_again() {
        let d = 2;
        let at = |degrees: f32| [degrees.to_radians().cos(), degrees.to_radians().sin()];
        let one = |degrees: f32| {
            let mut rows = Rows::with_capacity(1, d);
            rows.push(&at(degrees));
            rows
        };
        let mut rows = Rows::with_capacity(8, d);
        (0..8).for_each(|row| rows.push(&at(10.0 * row as f32)));
        let mut hnsw = Hnsw::build(&rows, &(0..8).collect::<Vec<u64>>(), HnswOptions::default()).unwrap();
        let nearest =
            |hnsw: &Hnsw, degrees: f32| hnsw.nearest(Vectors::new(&at(degrees), d), 1, None).unwrap()[0][0].id;
        for degrees in [100.0, 120.0, 140.0] {
            hnsw.change(&[3], &one(degrees), &[3]).unwrap();
            assert_eq!(nearest(&hnsw, degrees), 3);
            // where it was before, there is nothing any more
            assert_eq!(nearest(&hnsw, degrees - 20.0), if degrees > 100.0 { 3 } else { 7 });
            assert_eq!(nearest(&hnsw, 29.0), 2);
        }
        hnsw.change(&[3], &Rows::with_capacity(0, d), &[]).unwrap();
        assert_eq!(nearest(&hnsw, 140.0), 7);
    }
}
