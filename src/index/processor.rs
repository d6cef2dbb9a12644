//! Exact search on the processor, with the ids of the bank's rows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use outskirt_exact::{Exact, RowNumber, Work};

use super::neighbor_index::{Found, Near, Neighbor, NeighborIndex, Question, row_number};
use crate::error::{Error, Result};
use crate::index::vectors::Vectors;

/// Smallest radius that a density is measured by: copies of one image have none.
const LEAST_RADIUS: f32 = 1e-10;

/// A bank in memory, or its codes: [`Exact`] knows its rows by number, SQL by id.
#[derive(Debug)]
pub(crate) struct Processor {
    exact: Exact,
    /// By number, ascending.
    ids: Arc<[u64]>,
    /// By k: how far each row is from the k-th of the others.
    radii: Mutex<HashMap<usize, Arc<[f32]>>>,
}

impl Processor {
    /// `ids` by the numbers of the bank's rows, ascending: of equally near rows the one of the smaller id comes first.
    pub(crate) fn new(exact: Exact, ids: Arc<[u64]>) -> Self {
        debug_assert!(ids.is_sorted() && ids.len() == exact.len(), "an id for every row, ascending");
        Self { exact, ids, radii: Mutex::default() }
    }

    /// Row numbers of ids; none where it is not in the bank.
    fn rows(&self, own: Option<&[Option<u64>]>) -> Option<Vec<Option<RowNumber>>> {
        own.map(|own| own.iter().map(|id| id.and_then(|id| row_number(&self.ids, id))).collect())
    }

    /// What a search finds, unless rows that stay in their file could not be read meanwhile: the next one reads them again.
    fn sure<T>(&self, find: impl FnOnce() -> T) -> Result<T> {
        let before = self.exact.failures();
        let found = find();
        match self.exact.failure().filter(|_| self.exact.failures() > before) {
            None => Ok(found),
            Some(reason) => Err(Error::VectorsUnreadable { reason }),
        }
    }

    /// Found by the first who asks; several may at once.
    fn radii(&self, k: usize) -> Result<Arc<[f32]>> {
        let known = || self.radii.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(radii) = known().get(&k) {
            return Ok(Arc::clone(radii));
        }
        // outside the lock: other k need not wait
        let radii: Arc<[f32]> = self.sure(|| self.exact.leave_one_out_distances(k))?.into();
        Ok(Arc::clone(known().entry(k).or_insert(radii)))
    }
}

/// Products of a block of queries with a bank, were all of them computed: seconds of work.
const BLOCK: usize = 1 << 39;
/// Queries below which a block shares too little.
const LEAST_QUERIES: usize = 1024;

impl NeighborIndex for Processor {
    fn find(&self, queries: Vectors<'_>, question: Question<'_>) -> Result<Found> {
        let rows = self.rows(question.excluded);
        let (kth, work) = self.sure(|| self.exact.find_counted(queries, question.excluding(rows.as_deref())))?;
        Ok(Found { kth, work })
    }

    fn nearest(&self, queries: Vectors<'_>, k: usize, own: Option<&[Option<u64>]>) -> Result<Vec<Vec<Neighbor>>> {
        let near = self.sure(|| self.exact.nearest(queries, k, self.rows(own).as_deref()))?;
        let neighbor = |(row, distance): (RowNumber, f32)| Neighbor { id: self.ids[row.0 as usize], distance };
        Ok(near.into_iter().map(|near| near.into_iter().map(neighbor).collect()).collect())
    }

    fn nearest_within(&self, queries: Vectors<'_>, question: Question<'_>) -> Result<(Vec<Near>, Work)> {
        let rows = self.rows(question.excluded);
        let (near, work) = self.sure(|| self.exact.nearest_within(queries, question.excluding(rows.as_deref())))?;
        let with_id = |(distance, row): (f64, RowNumber)| (distance, self.ids[row.0 as usize]);
        Ok((near.into_iter().map(|near| near.into_iter().map(with_id).collect()).collect(), work))
    }

    fn density_ratios(&self, queries: Vectors<'_>, k: usize, own: Option<&[Option<u64>]>) -> Result<Vec<f32>> {
        let radii = self.radii(k)?;
        let ratio = |near: Vec<(RowNumber, f32)>| {
            let radius = near.last().map_or(0.0, |&(_, kth)| kth).max(LEAST_RADIUS);
            let ratios =
                near.iter().map(|&(row, _)| f64::from(radius) / f64::from(radii[row.0 as usize].max(LEAST_RADIUS)));
            (ratios.sum::<f64>() / k as f64) as f32
        };
        let near = self.sure(|| self.exact.nearest(queries, k, self.rows(own).as_deref()))?;
        Ok(near.into_iter().map(ratio).collect())
    }

    fn at_once(&self) -> usize {
        (BLOCK / (self.exact.len() * self.exact.dimension()).max(1)).max(LEAST_QUERIES)
    }

    fn bytes(&self) -> u64 {
        let (n, d) = (self.exact.len() as u64, self.exact.dimension() as u64);
        // an id, a code of a byte per number and what belongs to it; and the numbers, where they are not in their file
        n * (d + 60) + if self.exact.is_in_file() { 0 } else { 4 * n * d }
    }

    fn describe(&self) -> String {
        let place = if self.exact.is_in_file() { ", rows in their file" } else { "" };
        format!("exact, {}{place}", self.exact.describe())
    }
}
