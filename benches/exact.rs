//! Exact search beside its slow twin, on one machine, the same data and one run: `make bench`.
//!
//! Clustered unit vectors from a seed; queries in one batch and one at a time. Prints queries per second (median of
//! five rounds) and how many times the twin's they are; both give the same distances, which is checked.

use std::time::Instant;

use outskirt::index::{Exact, NeighborIndex, kth_distances_brute};
use outskirt::vectors::{Vectors, normalize};

const K: usize = 50;
const ROUNDS: usize = 5;

#[expect(clippy::print_stdout, reason = "a bench prints its table")]
fn main() {
    println!("{} threads, k = {K}", rayon::current_num_threads());
    println!("{:>8} {:>5} {:>8} {:>12} {:>12} {:>8}", "bank", "d", "queries", "queries/s", "twin's", "ratio");
    for (rows, dimension) in [(50_000, 64), (20_000, 512)] {
        let bank = Exact::new(clustered(rows, dimension, 1), dimension);
        let values = clustered(2048, dimension, 2);
        let queries = Vectors::new(&values, dimension);
        // the twin is slow: a few of the queries tell its speed
        let few = queries.rows(0, 32);
        let start = Instant::now();
        let slow = kth_distances_brute(bank.vectors(), few, K);
        let twin = few.len() as f64 / start.elapsed().as_secs_f64();
        for count in [queries.len(), 1] {
            let batch = queries.rows(0, count);
            let mut rates: Vec<f64> = (0..ROUNDS)
                .map(|_| {
                    let start = Instant::now();
                    let fast = bank.kth_distances(batch, K).unwrap_or_default();
                    let rate = count as f64 / start.elapsed().as_secs_f64();
                    assert!(fast.iter().zip(&slow).all(|(fast, slow)| fast == slow) && fast.len() == count);
                    rate
                })
                .collect();
            rates.sort_by(f64::total_cmp);
            let rate = rates[ROUNDS / 2];
            println!("{rows:>8} {dimension:>5} {count:>8} {rate:>12.0} {twin:>12.0} {:>8.1}", rate / twin);
        }
    }
}

/// n unit vectors of dimension d around 100 centres.
fn clustered(n: usize, d: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let centres: Vec<f32> = (0..100 * d).map(|_| next()).collect();
    let mut out = Vec::with_capacity(n * d);
    for row in 0..n {
        let centre = &centres[(row % 100) * d..][..d];
        let around: Vec<f32> = centre.iter().map(|value| value + 0.5 * next()).collect();
        assert!(normalize(&around, &mut out).is_ok());
    }
    out
}
