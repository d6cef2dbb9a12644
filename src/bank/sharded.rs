//! A bank in shards, searched: one shard after the other, each opened when a search comes to it.
//!
//! The k nearest rows of a query are among the k nearest of each shard; they are merged before anything is rounded, so that scores
//! are those of one index, to the bit.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;

use super::Definition;
use crate::error::{Error, Result};
use crate::index::vectors::Vectors;
use crate::index::{
    Bound, Exact, Found, Kth, MemoryLimit, Near, Neighbor, NeighborIndex, Question, SearchOptions, Work,
};

/// Neighbours of a batch of queries that are kept at a time, of 16 bytes.
const NEIGHBORS: usize = 1 << 24;

/// Opens a shard, and says what its user should know.
pub(super) type Opens =
    dyn Fn(&Definition, SearchOptions) -> Result<(Arc<dyn NeighborIndex>, Option<String>)> + Send + Sync;

/// A bank whose shards are opened as searches come to them.
pub(super) struct Sharded {
    bank: Definition,
    /// With their rows; some may have none.
    shards: Vec<Definition>,
    /// Bytes that opened shards may hold together.
    limit: u64,
    options: SearchOptions,
    opens: Box<Opens>,
    /// By number; the one that was asked for last is the last.
    opened: Mutex<Vec<(usize, Arc<dyn NeighborIndex>)>>,
    /// What happened while they were opened.
    notices: Mutex<BTreeSet<String>>,
    /// Held by whoever goes through more shards than fit: two would take them from each other.
    turn: Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Sharded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharded").field("bank", &self.bank).field("shards", &self.shards.len()).finish_non_exhaustive()
    }
}

impl Sharded {
    /// A bank in these shards, whose rows are counted; none is opened yet.
    pub(super) fn new(
        bank: &Definition,
        shards: Vec<Definition>,
        limit: u64,
        options: SearchOptions,
        opens: Box<Opens>,
    ) -> Self {
        let bank = bank.clone();
        Self {
            bank,
            shards,
            limit,
            options,
            opens,
            opened: Mutex::default(),
            notices: Mutex::default(),
            turn: Mutex::default(),
        }
    }

    /// What happened while shards were opened.
    pub(super) fn notice(&self) -> Option<String> {
        let notices = lock(&self.notices);
        (!notices.is_empty()).then(|| notices.iter().map(String::as_str).collect::<Vec<_>>().join("; "))
    }

    /// How many shards there are.
    #[cfg(feature = "cluster")]
    pub(super) fn count(&self) -> usize {
        self.shards.len()
    }

    /// A shard by its number, opened; `None` where it has no rows. Others that were opened are closed where there is no room.
    pub(super) fn shard(&self, number: usize) -> Result<Option<Arc<dyn NeighborIndex>>> {
        let shard = &self.shards[number];
        if shard.row_count == 0 {
            return Ok(None);
        }
        let mut opened = lock(&self.opened);
        if let Some(at) = opened.iter().position(|(known, _)| *known == number) {
            let found = opened.remove(at);
            let bank = Arc::clone(&found.1);
            opened.push(found);
            return Ok(Some(bank));
        }
        // where one search ends with a shard another begins with the next: there is room for two
        let most = self.limit / 2;
        let needed = most.min(Exact::bytes(shard.row_count, shard.dimension));
        let mut held: u64 = opened.iter().map(|(_, bank)| bank.bytes()).sum();
        opened.retain(|(_, bank)| {
            let goes = held + needed > self.limit;
            held -= if goes { bank.bytes() } else { 0 };
            !goes
        });
        let options = SearchOptions { memory_limit: MemoryLimit(Some(most)), ..self.options };
        let (bank, notice) = (self.opens)(shard, options).map_err(|error| match error {
            // there is room for two where one is opened
            Error::MemoryLimitTooSmall { dimension, least, .. } => {
                let (bank, limit) = (self.bank.name.clone(), self.limit);
                Error::MemoryLimitTooSmall { bank, limit, dimension, least: 2 * least }
            }
            other => other,
        })?;
        lock(&self.notices).extend(notice);
        opened.push((number, Arc::clone(&bank)));
        Ok(Some(bank))
    }

    /// All shards, those that are open first.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = lock(&self.opened).iter().rev().map(|(number, _)| *number).collect();
        let others: Vec<usize> = (0..self.shards.len()).filter(|number| !order.contains(number)).collect();
        order.extend(others);
        order
    }

    /// The k nearest rows of each query within its ceiling, among all shards, in no order: each is asked about what those before it
    /// have left open.
    fn search(&self, queries: Vectors<'_>, question: Question<'_>) -> Result<(Vec<Nearest>, Work)> {
        let fit = Exact::bytes(self.bank.row_count, self.bank.dimension) <= self.limit;
        let _turn = (!fit).then(|| lock(&self.turn));
        let (mut near, mut work) = (vec![Nearest::default(); queries.len()], Work::default());
        for number in self.order() {
            let Some(shard) = self.shard(number)? else { continue };
            let asked = Asked::of(queries, question, &near);
            let (found, done) = shard.nearest_within(asked.vectors(queries), asked.question(question.k))?;
            let mut found: Vec<Option<Near>> = found.into_iter().map(Some).collect();
            let mut of_query: Vec<Option<Near>> = vec![None; queries.len()];
            asked.queries.iter().zip(&mut found).for_each(|(&query, found)| of_query[query] = found.take());
            near.par_iter_mut().zip(of_query).for_each(|(near, found)| near.add(found.unwrap_or_default(), question.k));
            work.add(done);
        }
        work.queries = queries.len() as u64;
        Ok((near, work))
    }
}

/// What was found so far of a query.
#[derive(Debug, Clone, Default)]
struct Nearest {
    /// k at most, in no order.
    rows: Near,
    /// The distance of the k-th, once there are so many.
    kth: Option<f32>,
}

impl Nearest {
    fn add(&mut self, found: Near, k: usize) {
        self.rows.extend(found);
        if self.rows.len() >= k {
            let (_, &mut (kth, _), _) = self.rows.select_nth_unstable_by(k - 1, by_distance);
            self.rows.truncate(k);
            self.kth = Some(kth as f32);
        }
    }

    /// Nearest first.
    fn sorted(mut self) -> Near {
        self.rows.sort_unstable_by(by_distance);
        self.rows
    }
}

/// Nearer rows first, and of equally near ones that of the smaller id.
fn by_distance(a: &(f64, u64), b: &(f64, u64)) -> Ordering {
    a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
}

/// What the next shard is asked.
struct Asked {
    /// The queries whose answer is not known yet.
    queries: Vec<usize>,
    /// Their numbers, where they are not all.
    values: Option<Vec<f32>>,
    dimension: usize,
    /// How near a row must be to count.
    ceilings: Vec<f32>,
    /// Of each, the row that is left out.
    excluded: Option<Vec<Option<u64>>>,
}

impl Asked {
    fn of(queries: Vectors<'_>, question: Question<'_>, near: &[Nearest]) -> Self {
        let is_open = |&query: &usize| {
            let so_far = near[query].kth.map(|kth| question.answer(query, Some(kth)));
            so_far != Some(Kth::Within)
        };
        let open: Vec<usize> = (0..queries.len()).filter(is_open).collect();
        let ceiling = |&query: &usize| {
            let asked = question.ceiling_of(query).unwrap_or(f32::INFINITY);
            near[query].kth.map_or(asked, |kth| asked.min(kth))
        };
        let (ceilings, dimension) = (open.iter().map(ceiling).collect(), queries.dimension());
        let values = (open.len() < queries.len()).then(|| {
            let mut values = Vec::with_capacity(open.len() * dimension);
            open.iter().for_each(|&query| values.extend_from_slice(queries.row(query)));
            values
        });
        let excluded = question.excluded.map(|excluded| open.iter().map(|&query| excluded[query]).collect());
        Self { queries: open, values, dimension, ceilings, excluded }
    }

    fn vectors<'a>(&'a self, all: Vectors<'a>) -> Vectors<'a> {
        self.values.as_ref().map_or(all, |values| Vectors::new(values, self.dimension))
    }

    fn question(&self, k: usize) -> Question<'_> {
        let ceiling = Some(Bound::Each(&self.ceilings));
        Question { k, floor: None, ceiling, excluded: self.excluded.as_deref() }
    }
}

impl NeighborIndex for Arc<Sharded> {
    fn find(&self, queries: Vectors<'_>, question: Question<'_>) -> Result<Found> {
        let (near, work) = self.search(queries, question)?;
        let answer = |(query, near): (usize, &Nearest)| question.answer(query, near.kth);
        Ok(Found { kth: near.iter().enumerate().map(answer).collect(), work })
    }

    fn nearest(&self, queries: Vectors<'_>, k: usize, own: Option<&[Option<u64>]>) -> Result<Vec<Vec<Neighbor>>> {
        let (near, _) = self.search(queries, Question { excluded: own, ..Question::all(k) })?;
        let neighbor = |(distance, id)| Neighbor { id, distance: distance as f32 };
        Ok(near.into_par_iter().map(|near| near.sorted().into_iter().map(neighbor).collect()).collect())
    }

    fn nearest_within(&self, queries: Vectors<'_>, question: Question<'_>) -> Result<(Vec<Near>, Work)> {
        let (near, work) = self.search(queries, Question { floor: None, ..question })?;
        Ok((near.into_iter().map(|near| near.rows).collect(), work))
    }

    fn density_ratios(&self, _: Vectors<'_>, _: usize, _: Option<&[Option<u64>]>) -> Result<Vec<f32>> {
        Err(Error::NotInShards { bank: self.bank.name.clone(), what: "knn_density_ratio" })
    }

    fn at_once(&self) -> usize {
        // what is found is kept until the last shard has been asked
        (NEIGHBORS / self.bank.k.max(1)).max(1024)
    }

    fn bytes(&self) -> u64 {
        lock(&self.opened).iter().map(|(_, bank)| bank.bytes()).sum()
    }

    fn describe(&self) -> String {
        format!("exact, {}, {} shards", self.options.instructions.name(), self.shards.len())
    }
}
