//! Queries taken through a bank on a device, a batch at a time.

use std::sync::PoisonError;

use super::bank::DeviceBank;
use super::batch::Batch;
use crate::error::{Error, Result};
use crate::index::neighbor_index::{Found, Neighbor, NeighborIndex, Question};
use crate::index::vectors::Vectors;
use outskirt_exact::Work;

/// Products kept beyond k + k/2: a margin that real embeddings seldom fill.
pub(super) const MARGIN: usize = 128;
impl NeighborIndex for DeviceBank {
    fn find(&self, queries: Vectors<'_>, question: Question<'_>) -> Result<Found> {
        if question.excluded.is_some() {
            return Err(Error::OnlyOnProcessor { what: "leaving a row's own entry out" });
        }
        let distances = Self::kth_distances(self, queries.values(), question.k)?;
        let kth = distances.into_iter().enumerate().map(|(row, kth)| question.answer(row, Some(kth))).collect();
        Ok(Found { kth, work: Work { queries: queries.len() as u64, ..Work::default() } })
    }

    fn nearest(&self, _queries: Vectors<'_>, _k: usize, _own: Option<&[Option<u64>]>) -> Result<Vec<Vec<Neighbor>>> {
        Err(Error::OnlyOnProcessor { what: "finding the neighbours themselves" })
    }

    fn density_ratios(&self, _queries: Vectors<'_>, _k: usize, _own: Option<&[Option<u64>]>) -> Result<Vec<f32>> {
        Err(Error::OnlyOnProcessor { what: "a density ratio" })
    }

    fn describe(&self) -> String {
        let place = if self.is_resident() { "resident" } else { "by blocks" };
        format!("exact, {:?}, {:?}, {place}", self.device, self.precision).to_lowercase()
    }
}

impl DeviceBank {
    /// Euclidean distance of each query (row-major m×d) to its k-th nearest row, 1 ≤ k ≤ [`Self::len`]: that of
    /// the exact distances, off by at most 2⁻²³ of itself.
    ///
    /// Errors: a failure of libtorch, queries that are not finite.
    pub fn kth_distances(&self, queries: &[f32], k: usize) -> Result<Vec<f32>> {
        Ok(self.search(queries, k)?.0)
    }

    /// Whether each query's k-th nearest row is at most its cutoff away.
    ///
    /// Errors: as [`Self::kth_distances`].
    pub fn within(&self, queries: &[f32], k: usize, cutoffs: &[f32]) -> Result<Vec<bool>> {
        assert_eq!(queries.len(), cutoffs.len() * self.dimension, "one cutoff per query");
        let distances = self.kth_distances(queries, k)?;
        Ok(distances.iter().zip(cutoffs).map(|(distance, cutoff)| distance <= cutoff).collect())
    }

    /// The k-th distances, and how many queries had no certificate and took the second pass.
    pub(super) fn search(&self, queries: &[f32], k: usize) -> Result<(Vec<f32>, usize)> {
        let d = self.dimension;
        assert!(queries.len().is_multiple_of(d), "m×d values in rows of d");
        assert!((1..=self.rows).contains(&k), "1 ≤ k ≤ n");
        // thread-local in libtorch: it belongs around each call
        let _no_grad = tch::no_grad_guard();
        let resident = self.resident.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = (k + k / 2 + MARGIN).min(self.rows);
        let (group, tile) = self.plan.queries(d, kept);
        let mut distances = Vec::with_capacity(queries.len() / d);
        let mut uncertified = 0;
        for group in queries.chunks(group * d) {
            let batches = group.chunks(tile * d).map(|rows| Batch::new(self, rows, k));
            let mut batches = batches.collect::<Result<Vec<_>>>()?;
            self.each_block(&resident, |block| batches.iter_mut().try_for_each(|batch| batch.keep(block, kept)))?;
            for batch in &mut batches {
                uncertified += batch.certify()?;
            }
            self.each_block(&resident, |block| batches.iter_mut().try_for_each(|batch| batch.measure(block)))?;
            for batch in batches {
                for distance in batch.finish() {
                    distances.push(distance?);
                }
            }
        }
        Ok((distances, uncertified))
    }
}
