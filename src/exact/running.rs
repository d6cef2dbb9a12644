//! A bank that is shown block by block.

use rayon::prelude::*;

use crate::best::{Best, NONE, by_distance};
use crate::layout::Exact;
use crate::search::{Ask, Kth, step};
use crate::vectors::Vectors;

/// One search through a bank that is shown block by block: each block is an [`Exact::block`], and may be forgotten before
/// the next one comes.
#[derive(Debug)]
pub struct Running<'a> {
    ask: Ask<'a>,
    /// The nearest vectors of each query so far, k at most: distances, ascending, and numbers.
    nearest: Vec<Vec<(f64, u32)>>,
}

impl<'a> Running<'a> {
    /// Ask so many queries.
    pub fn new(queries: usize, ask: Ask<'a>) -> Self {
        assert!(ask.k > 0, "k ≥ 1");
        Self { ask, nearest: vec![Vec::new(); queries] }
    }

    /// Show the next block; the queries are the same each time.
    pub fn visit(&mut self, block: &Exact, queries: Vectors<'_>) {
        assert_eq!(queries.len(), self.nearest.len(), "as many queries as at first");
        self.ask.check(queries.len(), queries.dimension(), block);
        let (ask, error) = (self.ask, block.slack.distance);
        let (here, step) = (ask.k.min(block.len()), step(queries.len(), ask.k));
        let visit = |(chunk, nearest): (usize, &mut [Vec<(f64, u32)>])| {
            let first = chunk * step;
            let asked = block.prepare(queries.rows(first, first + nearest.len()), first);
            let start = |(i, nearest): (usize, &Vec<(f64, u32)>)| {
                let own = ask.without.map_or(NONE, |without| block.position(without[first + i]));
                let mut best = Best::new(here, None, None, own, error);
                let ceiling = ask.ceiling(first + i).unwrap_or(f32::INFINITY);
                let kth = nearest.get(ask.k - 1).map(|&(kth, _)| kth as f32);
                // k rows within the floor are an answer, whatever else there is
                best.done = ceiling < 0.0 || kth.is_some() && ask.place(first + i, kth) == Kth::Within;
                let tau = kth.unwrap_or(f32::INFINITY).min(ceiling.max(0.0));
                best.limit = Best::limit_of(tau, error);
                best
            };
            let mut bests: Vec<Best> = nearest.iter().enumerate().map(start).collect();
            block.counters.add(block.travel(&asked, &mut bests, 1));
            // in the order of the rows: they are read once, one after the other, whoever is near them
            let near = (0u32..).zip(&bests).flat_map(|(i, best)| {
                let within = best.kept.iter().filter(|&&(squared, _)| squared <= best.limit);
                within.map(move |&(_, row)| (row, i))
            });
            let mut near: Vec<(u32, u32)> = near.collect();
            near.sort_unstable();
            for (row, i) in near {
                nearest[i as usize].push(asked.exact(block, i as usize)(row));
            }
            for nearest in nearest {
                nearest.sort_unstable_by(by_distance);
                nearest.truncate(ask.k);
            }
        };
        self.nearest.par_chunks_mut(step).enumerate().for_each(visit);
    }

    /// Where the k-th distances lie; fewer than k vectors so far are beyond any ceiling.
    pub fn found(&self) -> Vec<Kth> {
        let kth = |nearest: &Vec<(f64, u32)>| nearest.get(self.ask.k - 1).map(|&(kth, _)| kth as f32);
        self.nearest.iter().enumerate().map(|(query, nearest)| self.ask.place(query, kth(nearest))).collect()
    }

    /// The nearest vectors so far, k at most: numbers and distances, nearest first.
    pub fn nearest(&self) -> Vec<Vec<(u32, f32)>> {
        let told = |nearest: &Vec<(f64, u32)>| nearest.iter().map(|&(distance, row)| (row, distance as f32)).collect();
        self.nearest.iter().map(told).collect()
    }
}
