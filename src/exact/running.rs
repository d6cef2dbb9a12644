//! A bank that is shown block by block.

use rayon::prelude::*;

use crate::best::{Best, by_distance};
use crate::layout::Exact;
use crate::numbers::{Position, RowNumber};
use crate::question::{Kth, Question};
use crate::search::step;
use crate::vectors::Vectors;

/// One search through a bank that is shown block by block: each block is an [`Exact::block`], and may be forgotten before
/// the next one comes.
#[derive(Debug)]
pub struct Running<'a> {
    question: Question<'a>,
    /// The nearest vectors of each query so far, k at most: distances, ascending, and numbers.
    nearest: Vec<Vec<(f64, RowNumber)>>,
}

impl<'a> Running<'a> {
    /// Of so many queries.
    pub fn new(queries: usize, question: Question<'a>) -> Self {
        assert!(question.k > 0, "k ≥ 1");
        Self { question, nearest: vec![Vec::new(); queries] }
    }

    /// Show the next block; the queries are the same each time.
    pub fn visit(&mut self, block: &Exact, queries: Vectors<'_>) {
        assert_eq!(queries.len(), self.nearest.len(), "as many queries as at first");
        block.check(queries, self.question);
        if block.is_empty() {
            return;
        }
        let (question, error) = (self.question, block.slack.distance);
        let (count, step) = (question.k.min(block.len()), step(queries.len(), question.k));
        let visit = |(chunk, nearest): (usize, &mut [Vec<(f64, RowNumber)>])| {
            let first = chunk * step;
            let prepared = block.prepare(queries.rows(first, first + nearest.len()), first);
            let start = |(i, nearest): (usize, &Vec<(f64, RowNumber)>)| {
                let mut best = Best::new(count, None, None, block.excluded(question, first + i), error);
                let ceiling = question.ceiling_of(first + i).unwrap_or(f32::INFINITY);
                let kth = nearest.get(question.k - 1).map(|&(kth, _)| kth as f32);
                // k rows within the floor are an answer, whatever else there is
                best.done = ceiling < 0.0 || kth.is_some() && question.answer(first + i, kth) == Kth::Within;
                let tau = kth.unwrap_or(f32::INFINITY).min(ceiling.max(0.0));
                best.limit = Best::limit_of(tau, error);
                best
            };
            let mut bests: Vec<Best> = nearest.iter().enumerate().map(start).collect();
            block.counters.add(block.visit_cells(&prepared, &mut bests, 1));
            // in the order of the rows: they are read once, one after the other, whoever is near them
            let candidates = (0usize..).zip(&bests).flat_map(|(i, best)| {
                let within = best.candidates.iter().filter(|&&(squared, _)| squared <= best.limit);
                within.map(move |&(_, position)| (position, i))
            });
            let mut candidates: Vec<(Position, usize)> = candidates.collect();
            candidates.sort_unstable();
            for (position, i) in candidates {
                nearest[i].push(prepared.exact(block, i)(position));
            }
            for nearest in nearest {
                nearest.sort_unstable_by(by_distance);
                nearest.truncate(question.k);
            }
        };
        self.nearest.par_chunks_mut(step).enumerate().for_each(visit);
    }

    /// Where the k-th distances lie; fewer than k vectors so far are beyond any ceiling.
    pub fn found(&self) -> Vec<Kth> {
        let kth = |nearest: &Vec<(f64, RowNumber)>| nearest.get(self.question.k - 1).map(|&(kth, _)| kth as f32);
        self.nearest.iter().enumerate().map(|(query, nearest)| self.question.answer(query, kth(nearest))).collect()
    }

    /// The nearest vectors so far, k at most: distances and numbers, nearest first.
    pub fn nearest(&self) -> &[Vec<(f64, RowNumber)>] {
        &self.nearest
    }
}
