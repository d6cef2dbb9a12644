//! A bank that is shown block by block.

use rayon::prelude::*;

use crate::best::Best;
use crate::layout::Exact;
use crate::search::step;
use crate::vectors::{Vectors, distance};

/// One search through a bank that is shown block by block: each block is an [`Exact`] of its own, and may be forgotten
/// before the next one comes.
#[derive(Debug)]
pub struct Running {
    k: usize,
    cutoffs: Option<Vec<f32>>,
    /// The nearest distances of each query so far, ascending, k at most.
    nearest: Vec<Vec<f64>>,
}

impl Running {
    /// For m queries, to find their k-th distances.
    pub fn new(queries: usize, k: usize) -> Self {
        assert!(k > 0, "k ≥ 1");
        Self { k, cutoffs: None, nearest: vec![Vec::new(); queries] }
    }

    /// For queries that only ask whether their k-th distance is at most a cutoff.
    pub fn within(k: usize, cutoffs: Vec<f32>) -> Self {
        Self { cutoffs: Some(cutoffs.clone()), ..Self::new(cutoffs.len(), k) }
    }

    /// Show the next block; the queries are the same each time.
    pub fn visit(&mut self, block: &Exact, queries: Vectors<'_>) {
        assert_eq!(queries.len(), self.nearest.len(), "as many queries as at first");
        assert_eq!(queries.dimension(), block.dimension, "queries and bank of one dimension");
        let (k, cutoffs, error) = (self.k, self.cutoffs.as_deref(), block.slack.distance);
        let (here, step) = (k.min(block.len()), step(queries.len(), k));
        let visit = |(number, nearest): (usize, &mut [Vec<f64>])| {
            let first = number * step;
            let asked = block.prepare(queries.rows(first, first + nearest.len()), first);
            let mut bests: Vec<Best> = nearest
                .iter()
                .enumerate()
                .map(|(i, nearest)| {
                    let mut best = Best::new(here, None, error);
                    let cutoff = cutoffs.map_or(f32::INFINITY, |cutoffs| cutoffs[first + i]);
                    let kth = nearest.get(k - 1).map(|&kth| kth as f32);
                    // k rows within the cutoff are an answer, whatever else there is
                    best.done = cutoff < 0.0 || cutoffs.is_some() && kth.is_some_and(|kth| kth <= cutoff);
                    let tau = kth.unwrap_or(f32::INFINITY).min(cutoff.max(0.0));
                    best.limit = tau * tau * (1.0 + 8.0 * error) + f32::MIN_POSITIVE;
                    best
                })
                .collect();
            block.travel(&asked, &mut bests, 1);
            for ((i, nearest), best) in nearest.iter_mut().enumerate().zip(bests) {
                let query = asked.values.row(i);
                let near = best.kept.iter().filter(|&&(squared, _)| squared <= best.limit);
                let mut scratch = Vec::new();
                nearest.extend(near.map(|&(_, row)| distance(query, block.values(row as usize, &mut scratch))));
                nearest.sort_unstable_by(f64::total_cmp);
                nearest.truncate(k);
            }
        };
        self.nearest.par_chunks_mut(step).enumerate().for_each(visit);
    }

    /// The k-th distances; `None` where fewer than k rows were shown, or lie within the cutoff.
    pub fn kth_distances(&self) -> Vec<Option<f32>> {
        self.nearest.iter().map(|nearest| nearest.get(self.k - 1).map(|&kth| kth as f32)).collect()
    }

    /// Whether the k-th distances are at most the cutoffs.
    pub fn are_within(&self) -> Vec<bool> {
        let cutoffs = self.cutoffs.iter().flatten();
        self.kth_distances()
            .into_iter()
            .zip(cutoffs)
            .map(|(kth, &cutoff)| kth.is_some_and(|kth| kth <= cutoff))
            .collect()
    }
}
