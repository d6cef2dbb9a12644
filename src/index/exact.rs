//! Exact search: matrix products by blocks in f32 choose candidates, exact distances rank them.
//!
//! For unit vectors ‖q − x‖² = 2 − 2⟨q, x⟩, so near means large dot product. A product in f32 is off by at most
//! ε = γ_d·‖q‖·‖x‖ with γ_d = d·u / (1 − d·u) and u = 2⁻²⁴, whatever the order of summation (Higham, *Accuracy
//! and Stability of Numerical Algorithms*, §3.1). So every true k-nearest neighbour has a computed product of
//! at least (k-th largest computed one) − 2ε: these candidates, k and a few, are kept, and their distances
//! are summed from differences in f64. The result is that of [`kth_distances_brute`], not an approximation.

use rayon::prelude::*;

use super::NeighborIndex;
use crate::error::Result;
use crate::vectors::{Vectors, distance};

/// Queries per matrix product: enough that a tile of the bank, read once, is used many times.
const QUERY_BLOCK: usize = 128;
/// Bank rows per matrix product: 128 × 1,024 products of f32 stay in half a megabyte of L2 cache.
const TILE: usize = 1024;

/// All bank vectors in memory, searched without an approximation.
#[derive(Debug)]
pub struct Exact {
    values: Vec<f32>,
    dimension: usize,
}

impl Exact {
    /// Take normalised vectors, row-major n×`dimension`.
    pub fn new(values: Vec<f32>, dimension: usize) -> Self {
        assert!(dimension > 0 && values.len().is_multiple_of(dimension), "n×d values in rows of d");
        Self { values, dimension }
    }

    /// The vectors, n×d.
    pub fn vectors(&self) -> Vectors<'_> {
        Vectors::new(&self.values, self.dimension)
    }
}

impl NeighborIndex for Exact {
    fn len(&self) -> usize {
        self.values.len() / self.dimension
    }

    fn kth_distances(&self, queries: Vectors<'_>, k: usize) -> Result<Vec<f32>> {
        let bank = self.vectors();
        assert_eq!(queries.dimension(), self.dimension, "queries and bank of one dimension");
        assert!((1..=bank.len()).contains(&k), "1 ≤ k ≤ n");
        let blocks = ranges(queries.len(), QUERY_BLOCK);
        let slack = 2.0 * product_error(self.dimension);
        let threads = rayon::current_num_threads();
        if blocks.len() >= threads {
            // a block is ranked by the thread that searched it: only its own candidates are held
            let rank_block = |&(from, to): &(usize, usize)| {
                let block = queries.rows(from, to);
                let found = search_segment(block, bank, 0, k, slack);
                found.into_iter().enumerate().map(move |(row, found)| kth_of(&[found], block.row(row), bank, k))
            };
            return Ok(blocks.par_iter().flat_map_iter(rank_block).collect());
        }
        // few queries: every block meets every part of the bank, so that every core has work
        let parts = threads.div_ceil(blocks.len().max(1)).min(bank.len().div_ceil(TILE));
        let segments = ranges(bank.len(), bank.len().div_ceil(parts));
        let mut distances = Vec::with_capacity(queries.len());
        for (from, to) in blocks {
            let block = queries.rows(from, to);
            let search = |&(start, end): &(usize, usize)| search_segment(block, bank.rows(start, end), start, k, slack);
            let mut found: Vec<_> =
                segments.par_iter().map(search).collect::<Vec<_>>().into_iter().map(Vec::into_iter).collect();
            for row in 0..block.len() {
                let parts: Vec<Candidates> = found.iter_mut().filter_map(Iterator::next).collect();
                distances.push(kth_of(&parts, block.row(row), bank, k));
            }
        }
        Ok(distances)
    }
}

/// Bound of |computed − exact| for an f32 dot product of two normalised vectors of length d.
fn product_error(d: usize) -> f32 {
    // d + 4: the normalised vectors themselves may be longer than one by rounding
    let d_u = (d as f64 + 4.0) * 2f64.powi(-24);
    (d_u / (1.0 - d_u)) as f32 * 1.001
}

/// `0..n` cut into ranges of `step` rows.
fn ranges(n: usize, step: usize) -> Vec<(usize, usize)> {
    (0..n).step_by(step.max(1)).map(|from| (from, (from + step).min(n))).collect()
}

/// What one query has found so far: (dot product, bank row).
#[derive(Debug)]
struct Candidates {
    k: usize,
    slack: f32,
    /// No vector with a smaller product can be among the k nearest.
    floor: f32,
    kept: Vec<(f32, u32)>,
    /// How many may be kept before they are thinned out.
    limit: usize,
}

impl Candidates {
    fn new(k: usize, slack: f32) -> Self {
        Self { k, slack, floor: f32::NEG_INFINITY, kept: Vec::new(), limit: 2 * k + 64 }
    }

    /// Raise the floor to the k-th best product less the slack, and drop what lies below.
    fn shrink(&mut self) {
        if self.kept.len() >= self.k {
            let (_, kth, _) = self.kept.select_nth_unstable_by(self.k - 1, |a, b| b.0.total_cmp(&a.0));
            self.floor = kth.0 - self.slack;
            let floor = self.floor;
            self.kept.retain(|&(product, _)| product >= floor);
            // duplicates may all lie within the slack: thinning out pays only once they have doubled
            self.limit = self.limit.max(2 * self.kept.len());
        }
    }
}

/// Candidates of every query of a block among the bank rows of a segment that begins at bank row `start`.
fn search_segment(queries: Vectors<'_>, segment: Vectors<'_>, start: usize, k: usize, slack: f32) -> Vec<Candidates> {
    let mut found: Vec<Candidates> = (0..queries.len()).map(|_| Candidates::new(k, slack)).collect();
    let mut products = vec![0f32; queries.len() * TILE.min(segment.len())];
    for (from, to) in ranges(segment.len(), TILE) {
        let width = to - from;
        dot_products(queries, segment.rows(from, to), &mut products[..queries.len() * width]);
        for (query, row) in found.iter_mut().zip(products.chunks(width)) {
            for (piece, run) in row.chunks(16).enumerate() {
                // most runs hold nothing: one vectorised count tells
                if run.iter().map(|&product| u32::from(product >= query.floor)).sum::<u32>() == 0 {
                    continue;
                }
                for (i, &product) in run.iter().enumerate() {
                    if product >= query.floor {
                        query.kept.push((product, (start + from + piece * 16 + i) as u32));
                    }
                }
                if query.kept.len() >= query.limit {
                    query.shrink();
                }
            }
        }
    }
    found.iter_mut().for_each(Candidates::shrink);
    found
}

/// `products[i][j]` = ⟨queries[i], tile[j]⟩, row-major.
fn dot_products(queries: Vectors<'_>, tile: Vectors<'_>, products: &mut [f32]) {
    let (m, n, d) = (queries.len(), tile.len(), queries.dimension());
    assert_eq!(products.len(), m * n);
    assert_eq!(tile.dimension(), d);
    // SAFETY: the three pointers cover m×d, n×d and m×n values, as asserted, and the strides stay within them:
    // both inputs are row-major, `tile` is read transposed, and `products` borrows nothing else.
    unsafe {
        gemm::gemm(
            m,
            n,
            d,
            products.as_mut_ptr(),
            1,
            n as isize,
            false,
            queries.values().as_ptr(),
            1,
            d as isize,
            tile.values().as_ptr(),
            d as isize,
            1,
            0.0f32,
            1.0f32,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// The exact k-th distance among the candidates of all parts of the bank, which hold the k nearest for certain.
fn kth_of(parts: &[Candidates], query: &[f32], bank: Vectors<'_>, k: usize) -> f32 {
    let kept = parts.iter().flat_map(|part| &part.kept);
    let mut distances: Vec<f64> = kept.map(|&(_, row)| distance(query, bank.row(row as usize))).collect();
    let (_, kth, _) = distances.select_nth_unstable_by(k - 1, f64::total_cmp);
    *kth as f32
}

/// The slow twin: every distance of every query in f64, row by row. Tests and benches compare with it.
pub fn kth_distances_brute(bank: Vectors<'_>, queries: Vectors<'_>, k: usize) -> Vec<f32> {
    (0..queries.len())
        .map(|query| {
            let mut all: Vec<f64> = (0..bank.len()).map(|row| distance(queries.row(query), bank.row(row))).collect();
            all.sort_unstable_by(f64::total_cmp);
            all[k - 1] as f32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::normalize;

    /// Clustered unit vectors from a seed, with exact duplicates among them.
    fn unit_vectors(n: usize, d: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        let centres: Vec<f32> = (0..8 * d).map(|_| next()).collect();
        let mut out = Vec::with_capacity(n * d);
        for i in 0..n {
            if i % 10 == 9 {
                out.extend_from_within((i - 1) * d..);
                continue;
            }
            let row: Vec<f32> = centres[(i % 8) * d..][..d].iter().map(|c| c + 0.2 * next()).collect();
            normalize(&row, &mut out).unwrap();
        }
        out
    }

    #[test]
    fn equals_brute_force_for_any_shape_and_k() {
        for (n, d, queries) in [(1, 1, 3), (7, 3, 1), (1500, 16, 200), (2500, 65, 1), (300, 257, 129)] {
            let bank = Exact::new(unit_vectors(n, d, 1), d);
            let queries = unit_vectors(queries, d, 2);
            let queries = Vectors::new(&queries, d);
            for k in [1, 2, 50, n / 2, n - 1, n].into_iter().filter(|k| (1..=n).contains(k)) {
                let fast = bank.kth_distances(queries, k).unwrap();
                let slow = kth_distances_brute(bank.vectors(), queries, k);
                assert_eq!(fast, slow, "n = {n}, d = {d}, k = {k}");
            }
        }
    }

    #[test]
    fn a_bank_of_copies_is_searched_in_one_pass() {
        let one = unit_vectors(1, 16, 4);
        let bank = Exact::new(one.repeat(5000), 16);
        let query = unit_vectors(300, 16, 5);
        let query = Vectors::new(&query, 16);
        assert_eq!(bank.kth_distances(query, 7).unwrap(), kth_distances_brute(Vectors::new(&one, 16), query, 1));
    }

    #[test]
    fn a_vector_of_the_bank_is_at_distance_zero_from_itself() {
        let bank = Exact::new(unit_vectors(100, 8, 3), 8);
        let first = bank.vectors().row(0).to_vec();
        assert_eq!(bank.kth_distances(Vectors::new(&first, 8), 1).unwrap(), [0.0]);
    }
}
