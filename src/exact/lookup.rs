//! Searches of a [`Collection`]: the nearest rows, all within a bound, and how many these are.

use std::sync::OnceLock;

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::best::{Best, by_distance};
use crate::bitmap::Bitmap;
use crate::collection::{Collection, checked};
use crate::error::{Error, Given};
use crate::layout::Exact;
use crate::numbers::RowNumber;
use crate::originals::Originals;
use crate::queries::Queries;
use crate::stop::Stop;
use crate::surrogate::Scaled;
use crate::vectors::Vectors;

#[cfg(test)]
mod tests;

/// Of so many rows one is allowed: fewer are compared one by one, which costs less than to look where they lie.
const SPARSE: usize = 32;
/// Rows that are compared before somebody asks whether to go on.
const AT_ONCE: usize = 1024;
/// Rows that a search within a bound is thought to find, where its queries are shared out.
const SOME: usize = 256;

/// A row that a search found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbor {
    /// Its place among the rows as they were given, from 0.
    pub row: usize,
    /// Its id: that place, where no ids were given.
    pub id: u64,
    /// [`crate::Metric::value`] of the query and it.
    pub value: f64,
}

/// A search to come: [`Collection::search`]. What is said of it holds for every call.
#[derive(Clone, Copy)]
pub struct Lookup<'a> {
    collection: &'a Collection,
    allowed: Option<&'a Bitmap>,
    pool: Option<&'a ThreadPool>,
    cancelled: Option<&'a (dyn Fn() -> bool + Sync)>,
}

/// What is asked of all queries.
#[derive(Clone, Copy)]
enum Asked {
    /// The k nearest rows.
    Nearest(usize),
    /// All whose key is at most this, or how many.
    Within { key: f64, counts: bool },
}

/// What was found for a query: rows counted and not kept, and those kept, nearest first.
struct Found {
    counted: usize,
    kept: Vec<(f64, RowNumber)>,
}

/// Queries that were checked, and how they are answered.
struct Prepared<'a> {
    asked: Asked,
    collection: &'a Collection,
    bank: &'a Exact,
    originals: Originals<'a>,
    /// Surrogates, and what figures are computed with; none: outside of the unit ball.
    surrogates: Vec<f32>,
    scaled: Vec<Option<Scaled>>,
    /// The rows that may be found, listed when first they are compared one by one.
    listed: OnceLock<Vec<u32>>,
}

impl Collection {
    /// Search all rows, by as many threads as the current rayon pool has.
    pub fn search(&self) -> Lookup<'_> {
        Lookup { collection: self, allowed: None, pool: None, cancelled: None }
    }
}

impl std::fmt::Debug for Lookup<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookup").field("allowed", &self.allowed.map(Bitmap::count)).finish_non_exhaustive()
    }
}

impl<'a> Lookup<'a> {
    /// Find these rows alone, by their places (not ids).
    pub fn allowed(self, rows: &'a Bitmap) -> Self {
        Self { allowed: Some(rows), ..self }
    }

    /// Use these threads.
    pub fn pool(self, pool: &'a ThreadPool) -> Self {
        Self { pool: Some(pool), ..self }
    }

    /// End with [`Error::Cancelled`] soon after this says true. It is called often, from many threads: let it read a flag.
    pub fn cancelled(self, is: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self { cancelled: Some(is), ..self }
    }

    /// The k nearest rows of each query (m×d numbers, row after row), nearest first; of equally near ones those of lower
    /// places. Fewer than k where there, or among those allowed, are fewer.
    ///
    /// Errors: [`Error::K`] for 0, [`Error::Length`], [`Error::NotFinite`], [`Error::Zero`] with cosines,
    /// [`Error::Bitmap`], [`Error::Cancelled`].
    pub fn nearest(&self, queries: &[f32], k: usize) -> Result<Vec<Vec<Neighbor>>, Error> {
        if k == 0 {
            return Err(Error::K { k, most: usize::MAX });
        }
        Ok(self.neighbors(self.found(queries, Asked::Nearest(k))?))
    }

    /// All rows within a bound of each query, nearest first as in [`Self::nearest`]: of distances at most `bound`, or of
    /// cosines and inner products at least that. Takes 16 bytes for each that is found, and 24 in the result: ask
    /// [`Self::count_within`] first where that may be too many.
    ///
    /// Errors: as [`Self::nearest`], and [`Error::Bound`] for NaN.
    pub fn within(&self, queries: &[f32], bound: f64) -> Result<Vec<Vec<Neighbor>>, Error> {
        Ok(self.neighbors(self.found(queries, self.bounded(bound, false)?)?))
    }

    /// How many rows [`Self::within`] finds, without keeping them.
    pub fn count_within(&self, queries: &[f32], bound: f64) -> Result<Vec<usize>, Error> {
        let found = self.found(queries, self.bounded(bound, true)?)?;
        Ok(found.into_iter().map(|found| found.counted + found.kept.len()).collect())
    }

    fn bounded(&self, bound: f64, counts: bool) -> Result<Asked, Error> {
        let key = self.collection.metric.turned(bound);
        if bound.is_nan() { Err(Error::Bound) } else { Ok(Asked::Within { key, counts }) }
    }

    fn neighbors(&self, found: Vec<Found>) -> Vec<Vec<Neighbor>> {
        let neighbor = |(key, RowNumber(row)): (f64, RowNumber)| {
            let (row, value) = (row as usize, self.collection.metric.turned(key));
            self.collection.id(row).map(|id| Neighbor { row, id, value })
        };
        found.into_iter().map(|found| found.kept.into_iter().filter_map(neighbor).collect()).collect()
    }

    fn found(&self, queries: &[f32], asked: Asked) -> Result<Vec<Found>, Error> {
        let collection = self.collection;
        let (metric, n) = (collection.metric, collection.len());
        if let Some(allowed) = self.allowed.filter(|allowed| allowed.rows() != n) {
            return Err(Error::Bitmap { bits: allowed.rows(), rows: n });
        }
        let stop = Stop::new(self.cancelled);
        let run = || {
            let queries = checked(queries, collection.dimension(), metric, Given::Query)?;
            let Some(bank) = &collection.bank else {
                return Ok((0..queries.len()).map(|_| Found { counted: 0, kept: Vec::new() }).collect());
            };
            let thinned = self.allowed.map_or(1, |allowed| n / allowed.count().max(1));
            let (rows, allowed, stop) = (collection.rows(), self.allowed, &stop);
            let originals = Originals { metric, rows, queries, allowed, thinned, stop };
            let found = Prepared::new(collection, bank, originals, asked).found();
            if stop.seen() { Err(Error::Cancelled) } else { Ok(found) }
        };
        self.pool.map_or_else(run, |pool| pool.install(run))
    }
}

impl<'a> Prepared<'a> {
    fn new(collection: &'a Collection, bank: &'a Exact, originals: Originals<'a>, asked: Asked) -> Self {
        let queries = originals.queries;
        let mut surrogates = Vec::with_capacity(queries.len() * bank.dimension());
        let scaled = (0..queries.len()).map(|query| collection.surrogates.query(queries.row(query), &mut surrogates));
        let scaled = scaled.collect();
        Self { asked, collection, bank, originals, surrogates, scaled, listed: OnceLock::new() }
    }

    /// Of each query.
    fn found(&self) -> Vec<Found> {
        let (m, n) = (self.scaled.len(), self.collection.len());
        if self.originals.allowed.is_some_and(|allowed| allowed.count() * SPARSE <= n) {
            return (0..m).into_par_iter().map(|query| self.one_by_one(query)).collect();
        }
        let surrogates = Vectors::new(&self.surrogates, self.bank.dimension());
        let k = if let Asked::Nearest(k) = self.asked { k.min(n) } else { SOME };
        self.bank.in_turns(m, k, |from, to, parts| {
            let originals = Originals { queries: self.originals.queries.rows(from, to), ..self.originals };
            let queries = Queries { originals: Some(originals), ..self.bank.prepare(surrogates.rows(from, to), from) };
            let mut bests: Vec<Best> = (from..to).map(|query| self.best(query)).collect();
            self.bank.counters.add(self.bank.visit_cells(&queries, &mut bests, parts));
            (0..).zip(bests).map(|(i, best)| self.answer(&queries, i, best)).collect()
        })
    }

    /// How far a query has to look.
    fn best(&self, query: usize) -> Best {
        let (surrogates, error) = (&self.collection.surrogates, self.bank.slack.distance);
        match (self.scaled[query], self.asked) {
            (None, _) => Best::none(error),
            (_, Asked::Nearest(k)) => Best::blurred(k.min(self.collection.len()), surrogates.blur, error),
            (Some(scaled), Asked::Within { key, counts }) => {
                let figure = surrogates.figure(scaled, self.collection.metric.turned(key));
                Best::all_within(figure, counts, surrogates.blur, error)
            }
        }
    }

    /// Compare the rows that may be right, as they were given.
    fn answer(&self, queries: &Queries<'_>, i: usize, best: Best) -> Found {
        if self.scaled[queries.first + i].is_none() {
            return self.one_by_one(queries.first + i);
        }
        let exact = queries.exact(self.bank, i);
        let candidates = best.candidates.iter().filter(|&&(squared, _)| squared <= best.limit && !queries.stopped());
        let kept = self.asked.sorted(candidates.map(|&(_, at)| exact(at)).collect());
        Found { counted: best.within(), kept }
    }

    /// Compare every row that may be found.
    fn one_by_one(&self, query: usize) -> Found {
        let Originals { allowed, stop, .. } = self.originals;
        let rows = self.listed.get_or_init(|| {
            let rows = 0..self.collection.len();
            rows.filter(|&row| allowed.is_none_or(|allowed| allowed.contains(row))).map(|row| row as u32).collect()
        });
        let some = |rows: &[u32]| {
            let rows = if stop.now() { &rows[..0] } else { rows };
            let keys = rows.iter().map(|&row| self.originals.key(query, RowNumber(row)));
            self.asked.sorted(keys.collect())
        };
        let kept = self.asked.sorted(rows.par_chunks(AT_ONCE).flat_map_iter(some).collect());
        Found { counted: 0, kept }
    }
}

impl Asked {
    /// Those of some keys that are asked for, nearest first.
    fn sorted(self, mut keys: Vec<(f64, RowNumber)>) -> Vec<(f64, RowNumber)> {
        match self {
            Self::Nearest(k) if k < keys.len() => {
                keys.select_nth_unstable_by(k, by_distance);
                keys.truncate(k);
            }
            Self::Nearest(_) => {}
            Self::Within { key: bound, .. } => keys.retain(|&(key, _)| key <= bound),
        }
        keys.sort_unstable_by(by_distance);
        keys
    }
}
