//! The search: nearest cells first, each cell with all queries that still need it.
//!
//! Every query keeps the k nearest rows found so far and their largest distance τ. Round one brings each query to its
//! nearest cells, as many as hold k rows: then τ is finite. The next rounds bring it to every cell that may hold a row
//! within τ/2, then within τ: by the triangle inequality the others cannot. τ shrinks all the while.

use rayon::prelude::*;

use crate::best::{Best, NONE, by_distance};
use crate::lanes::{Line, dot};
use crate::layout::Exact;
use crate::path::Path;
use crate::product::{FEW as FEW_VECTORS, dots, panel, products};
use crate::queries::Queries;
use crate::scan;
use crate::vectors::{Vectors, distance};
use crate::work::{Counters, Work};

/// Queries that one thread takes through the bank together.
const QUERIES: usize = 2048;
/// Queries up to which all threads work on the same ones, each in its own cells.
const FEW: usize = 64;
/// Vectors of a bank that are asked about at once.
const OWN: usize = 16_384;
/// Numbers of a bank below which a thread pool costs more than it saves.
const SMALL: usize = 1 << 23;

/// How many of m queries one thread takes at a time: all threads take as many, and what they keep stays small.
pub(crate) fn step(m: usize, k: usize) -> usize {
    let (threads, most) = (rayon::current_num_threads(), QUERIES.min((1 << 23) / (k + 64)).max(FEW));
    let turns = m.div_ceil(threads * most).max(1);
    m.div_ceil(threads * turns).max(FEW)
}

/// What is asked about the k-th nearest vector of each query.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ask<'a> {
    /// Which neighbour, from 1.
    pub k: usize,
    /// Per query: a distance up to this need not be told. The search stops as soon as k vectors are that near.
    pub floors: Option<&'a [f32]>,
    /// Per query: a distance beyond this need not be told. The search goes no farther.
    pub ceilings: Option<&'a [f32]>,
    /// Per query: the number of a vector, as they were given, that is left out; [`Ask::NOBODY`]: none is.
    pub without: Option<&'a [u32]>,
}

/// What was found of a k-th distance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kth {
    /// It is at most the floor.
    Within,
    /// It is this, more than the floor and at most the ceiling.
    At(f32),
    /// It is more than the ceiling.
    Beyond,
}

impl<'a> Ask<'a> {
    /// In [`Ask::without`]: no vector is left out.
    pub const NOBODY: u32 = NONE;

    /// Every k-th distance.
    pub fn all(k: usize) -> Self {
        Self { k, ..Self::default() }
    }

    /// Whether it is at most a cutoff.
    pub fn within(k: usize, cutoffs: &'a [f32]) -> Self {
        Self { k, floors: Some(cutoffs), ceilings: Some(cutoffs), without: None }
    }

    pub(crate) fn floor(&self, query: usize) -> Option<f32> {
        self.floors.map(|floors| floors[query])
    }

    pub(crate) fn ceiling(&self, query: usize) -> Option<f32> {
        self.ceilings.map(|ceilings| ceilings[query])
    }

    /// Where a k-th distance lies; `None`: no k vectors were found within the ceiling.
    pub(crate) fn place(&self, query: usize, kth: Option<f32>) -> Kth {
        match kth {
            Some(kth) if self.floor(query).is_some_and(|floor| kth <= floor) => Kth::Within,
            Some(kth) if self.ceiling(query).is_none_or(|ceiling| kth <= ceiling) => Kth::At(kth),
            _ => Kth::Beyond,
        }
    }

    pub(crate) fn check(&self, m: usize, d: usize, bank: &Exact) {
        assert_eq!(d, bank.dimension, "queries and bank of one dimension");
        let lengths = [self.floors.map(<[_]>::len), self.ceilings.map(<[_]>::len), self.without.map(<[_]>::len)];
        assert!(lengths.iter().flatten().all(|&length| length == m), "one of each per query");
    }
}

impl Exact {
    /// Euclidean distance of each query (normalised, m×d) to its k-th nearest vector, 1 ≤ k ≤ n.
    ///
    /// The result is that of [`crate::kth_distances_brute`]: the last step is taken in f64.
    pub fn kth_distances(&self, queries: Vectors<'_>, k: usize) -> Vec<f32> {
        let told = |kth| if let Kth::At(distance) = kth { distance } else { f32::NAN };
        self.find(queries, Ask::all(k)).into_iter().map(told).collect()
    }

    /// Whether the k-th nearest vector of each query is at most as far as its cutoff: the same answer as comparing
    /// [`Self::kth_distances`], found as soon as k vectors within the cutoff are.
    pub fn within(&self, queries: Vectors<'_>, k: usize, cutoffs: &[f32]) -> Vec<bool> {
        self.find(queries, Ask::within(k, cutoffs)).into_iter().map(|kth| kth == Kth::Within).collect()
    }

    /// What is asked, of each query (normalised, m×d); 1 ≤ k ≤ n, or n − 1 where a vector is left out. The same
    /// answer as comparing [`Self::kth_distances`] with floors and ceilings.
    pub fn find(&self, queries: Vectors<'_>, ask: Ask<'_>) -> Vec<Kth> {
        self.find_counted(queries, ask).0
    }

    /// [`Self::find`], and what it took.
    pub fn find_counted(&self, queries: Vectors<'_>, ask: Ask<'_>) -> (Vec<Kth>, Work) {
        let counters = Counters::default();
        let found = self.search(queries, ask, &counters, |queries, i, best| {
            if best.sure() {
                return Kth::Within;
            }
            ask.place(queries.first + i, self.kth(queries.values.row(i), best))
        });
        let work = counters.read();
        self.counters.add(work);
        (found, work)
    }

    /// The k nearest vectors of each query: their numbers, as they were given, and distances, nearest first. Of equally
    /// near ones (in f64) those given first. `without` as in [`Ask::without`].
    pub fn nearest(&self, queries: Vectors<'_>, k: usize, without: Option<&[u32]>) -> Vec<Vec<(u32, f32)>> {
        let ask = Ask { without, ..Ask::all(k) };
        self.search(queries, ask, &self.counters, |queries, i, best| {
            let exact = queries.exact(self, i);
            let mut all: Vec<(f64, u32)> = best.kept.iter().map(|&(_, row)| exact(row)).collect();
            all.sort_unstable_by(by_distance);
            all.truncate(k);
            all.into_iter().map(|(distance, row)| (row, distance as f32)).collect()
        })
    }

    /// How far each vector, in the order in which they were given, is from the k-th nearest of the others (of all, where
    /// there are no more than k).
    pub fn own_distances(&self, k: usize) -> Vec<f32> {
        let (n, d) = (self.len(), self.dimension);
        let mut distances = vec![0.0; n];
        let k = k.min(n.saturating_sub(1));
        if k == 0 {
            return distances;
        }
        let mut scratch = Vec::new();
        let positions: Vec<usize> =
            (0..self.places()).filter(|&position| self.number(position as u32) != NONE).collect();
        for positions in positions.chunks(OWN) {
            let mut values = Vec::with_capacity(positions.len() * d);
            positions.iter().for_each(|&position| values.extend_from_slice(self.values(position, &mut scratch)));
            let numbers: Vec<u32> = positions.iter().map(|&position| self.number(position as u32)).collect();
            let ask = Ask { without: Some(&numbers), ..Ask::all(k) };
            for (number, kth) in numbers.iter().zip(self.find(Vectors::new(&values, d), ask)) {
                distances[*number as usize] = if let Kth::At(distance) = kth { distance } else { f32::NAN };
            }
        }
        distances
    }

    /// What all searches so far did.
    pub fn work(&self) -> Work {
        self.counters.read()
    }

    /// The number of the vector at a position, as they were given.
    #[inline(always)]
    pub(crate) fn number(&self, position: u32) -> u32 {
        self.order.as_ref().map_or(position, |order| order[position as usize])
    }

    /// The position of the vector of a number; [`NONE`] where there is no such.
    pub(crate) fn position(&self, number: u32) -> u32 {
        let Some(order) = &self.order else { return number };
        let positions = self.positions.get_or_init(|| {
            let there = |position: &u32| order[*position as usize] != NONE;
            let mut positions: Vec<u32> = (0..order.len() as u32).filter(there).collect();
            positions.par_sort_unstable_by_key(|&position| order[position as usize]);
            positions
        });
        let found = positions.binary_search_by_key(&number, |&position| order[position as usize]);
        found.map_or(NONE, |place| positions[place])
    }

    fn search<T: Send>(
        &self,
        queries: Vectors<'_>,
        ask: Ask<'_>,
        counters: &Counters,
        answer: impl Fn(&Queries<'_>, usize, &Best) -> T + Sync,
    ) -> Vec<T> {
        let (m, k) = (queries.len(), ask.k);
        ask.check(m, queries.dimension(), self);
        let rows = self.len() - usize::from(ask.without.is_some());
        assert!((1..=rows).contains(&k), "1 ≤ k ≤ n");
        let run = |from: usize, to: usize, parts: usize| -> Vec<T> {
            let asked = self.prepare(queries.rows(from, to), from);
            let own = |i: usize| ask.without.map_or(NONE, |without| self.position(without[i]));
            let best = |i: usize| Best::new(k, ask.floor(i), ask.ceiling(i), own(i), self.slack.distance);
            let mut bests: Vec<Best> = (from..to).map(best).collect();
            counters.add(self.travel(&asked, &mut bests, parts));
            bests.iter().enumerate().map(|(i, best)| answer(&asked, i, best)).collect()
        };
        // numbers that a search may have to look at, were nothing skipped
        let small = m.saturating_mul(self.len()).saturating_mul(self.head) < SMALL;
        let threads = rayon::current_num_threads();
        if m <= FEW || small {
            return run(0, m, if small { 1 } else { threads });
        }
        let step = step(m, k);
        let chunks: Vec<(usize, usize)> = (0..m).step_by(step).map(|from| (from, (from + step).min(m))).collect();
        chunks.par_iter().flat_map_iter(|&(from, to)| run(from, to, 1)).collect()
    }

    /// Squared distance of centroid c to query i, at c·m + i.
    #[inline(always)]
    pub(crate) fn to_centroids(&self, queries: &Queries<'_>) -> Vec<f32> {
        let (m, d, cells) = (queries.values.len(), self.dimension, self.cells.len());
        let norms: Vec<f32> = queries.lines.chunks_exact(self.stride).map(|row| dot::<false>(row, row)).collect();
        let mut squares = vec![0.0; cells * m];
        let (mut lines, mut sums) = (Vec::new(), vec![Line([0.0; 16]); cells]);
        let mut one = vec![0.0; cells];
        for first in (0..m).step_by(16) {
            let norms = &norms[first..m.min(first + 16)];
            if norms.len() <= FEW_VECTORS {
                for (i, of_query) in (first..).zip(norms) {
                    dots(self.path, &self.centroids, queries.line(self, i), &mut one);
                    for (cell, (sum, norm)) in one.iter().zip(&self.centroid_norms).enumerate() {
                        squares[cell * m + i] = norm + of_query - 2.0 * sum;
                    }
                }
                continue;
            }
            panel((first..m).map(|i| queries.values.row(i)), d, &mut lines);
            products(self.path, &self.centroid_table, &lines, &mut sums);
            for (cell, (sums, norm)) in sums.iter().zip(&self.centroid_norms).enumerate() {
                let squares = squares[cell * m + first..].iter_mut();
                squares
                    .zip(norms)
                    .zip(&sums.0)
                    .for_each(|((square, of_query), sum)| *square = norm + of_query - 2.0 * sum);
            }
        }
        squares
    }

    /// Take queries to every cell that may hold one of their k nearest rows.
    pub(crate) fn travel(&self, queries: &Queries<'_>, bests: &mut [Best], parts: usize) -> Work {
        match self.path {
            // SAFETY: a path is only used where the processor has its features.
            #[cfg(target_arch = "x86_64")]
            Path::Avx512Vnni => unsafe { self.travel_avx512(queries, bests, parts) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => unsafe { self.travel_avx2(queries, bests, parts) },
            _ => self.travel_with(queries, bests, parts),
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma")]
    fn travel_avx512(&self, queries: &Queries<'_>, bests: &mut [Best], parts: usize) -> Work {
        self.travel_with(queries, bests, parts)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn travel_avx2(&self, queries: &Queries<'_>, bests: &mut [Best], parts: usize) -> Work {
        self.travel_with(queries, bests, parts)
    }

    /// What follows is `inline(always)`, so that its loops use the instructions of the path.
    #[inline(always)]
    fn travel_with(&self, queries: &Queries<'_>, bests: &mut [Best], parts: usize) -> Work {
        let m = bests.len();
        let mut work = Work { queries: m as u64, ..Work::default() };
        if m == 0 {
            return work;
        }
        let mut squares = self.to_centroids(queries);
        self.first_round(queries, &mut squares, bests, &mut work);
        if parts == 1 {
            self.next_rounds(queries, 0, &mut squares, bests, &mut work);
        } else {
            let step = self.cells.len().div_ceil(parts * 4).max(1);
            let start: &[Best] = bests;
            let range = |(number, squares): (usize, &mut [f32])| {
                let mut work = Work::default();
                let mut part: Vec<Best> = start.iter().map(Best::part).collect();
                self.next_rounds(queries, number * step, squares, &mut part, &mut work);
                (part, work)
            };
            let done: Vec<(Vec<Best>, Work)> = squares.par_chunks_mut(step * m).enumerate().map(range).collect();
            let before: Vec<usize> = bests.iter().map(|best| best.within()).collect();
            for (part, more) in done {
                for ((best, part), before) in bests.iter_mut().zip(part).zip(&before) {
                    best.join(part, *before);
                }
                work.add(more);
            }
        }
        work
    }

    /// The nearest cells of each query, as many as hold 2k rows: τ is near its end then. A cell that was seen is marked
    /// with NaN.
    #[inline(always)]
    fn first_round(&self, queries: &Queries<'_>, squares: &mut [f32], bests: &mut [Best], work: &mut Work) {
        let m = bests.len();
        let (mut reach, mut nearest) = (vec![f32::INFINITY; m], vec![0u32; m]);
        for (cell, squares) in squares.chunks_exact(m).enumerate() {
            for ((reach, nearest), &square) in reach.iter_mut().zip(&mut nearest).zip(squares) {
                let nearer = square < *reach;
                *nearest = if nearer { cell as u32 } else { *nearest };
                *reach = if nearer { square } else { *reach };
            }
        }
        let mut order = Vec::new();
        for (i, ((reach, &nearest), best)) in reach.iter_mut().zip(&nearest).zip(&*bests).enumerate() {
            let enough = (2 * best.k).min(self.len());
            if self.cells[nearest as usize].rows < enough {
                order.clear();
                order
                    .extend(squares[i..].iter().step_by(m).zip(&self.cells).map(|(&square, cell)| (square, cell.rows)));
                *reach = self.reach(enough, &mut order);
            }
        }
        let mut taus: Vec<f32> = bests.iter().map(Best::tau).collect();
        let mut visitors = Vec::new();
        for (number, squares) in squares.chunks_exact_mut(m).enumerate() {
            visitors.clear();
            let near = |i: usize, square: f32| square <= reach[i] && self.reaches(number, square, taus[i]);
            take(squares, near, |i, square| visitors.push((i as u32, square)));
            self.visit(number, &visitors, queries, bests, &mut taus, work);
        }
        for (i, best) in bests.iter_mut().enumerate() {
            best.settle(&queries.exact(self, i));
        }
    }

    /// Squared distance within which centroids, of the given distances and rows, have that many rows.
    fn reach(&self, enough: usize, order: &mut [(f32, usize)]) -> f32 {
        let by_distance = |a: &(f32, usize), b: &(f32, usize)| a.0.total_cmp(&b.0);
        // seldom does it take many
        let some = (8 + 2 * enough * order.len() / self.len()).min(order.len());
        if some < order.len() {
            order.select_nth_unstable_by(some, by_distance);
        }
        let (near, all) = if order[..some].iter().map(|cell| cell.1).sum::<usize>() < enough {
            (order.len(), order)
        } else {
            (some, order)
        };
        all[..near].sort_unstable_by(by_distance);
        let mut rows = 0;
        let enough = all.iter().find(|&&(_, more)| {
            rows += more;
            rows >= enough
        });
        enough.map_or(f32::INFINITY, |&(square, _)| square)
    }

    /// Cells from `first` on that may hold a row within τ/2, then within τ.
    #[inline(always)]
    fn next_rounds(
        &self,
        queries: &Queries<'_>,
        first: usize,
        squares: &mut [f32],
        bests: &mut [Best],
        work: &mut Work,
    ) {
        let m = bests.len();
        let mut taus: Vec<f32> = bests.iter().map(Best::tau).collect();
        let mut visitors = Vec::new();
        for share in [0.5, 1.0] {
            for (number, squares) in squares.chunks_exact_mut(m).enumerate() {
                visitors.clear();
                let near = |i: usize, square: f32| self.reaches(first + number, square, share * taus[i]);
                take(squares, near, |i, square| visitors.push((i as u32, square)));
                self.visit(first + number, &visitors, queries, bests, &mut taus, work);
            }
        }
    }

    /// Whether a cell whose centroid lies at this squared distance may hold a row within τ; never for NaN.
    #[inline(always)]
    fn reaches(&self, cell: usize, square: f32, tau: f32) -> bool {
        let cell = &self.cells[cell];
        let (far, near) = (tau + cell.high, (cell.low - tau).max(0.0));
        let slack = self.slack.centroid;
        (square + slack >= near * near) & (square - slack <= far * far)
    }

    #[inline(always)]
    fn visit(
        &self,
        cell: usize,
        visitors: &[(u32, f32)],
        queries: &Queries<'_>,
        bests: &mut [Best],
        taus: &mut [f32],
        work: &mut Work,
    ) {
        if !visitors.is_empty() {
            work.visits += visitors.len() as u64;
            scan::scan(self, cell, visitors, queries, bests, work);
            visitors.iter().for_each(|&(i, _)| taus[i as usize] = bests[i as usize].tau());
        }
    }

    /// The k-th distance, among what was kept; `None` where fewer than k rows lie within the cutoff.
    fn kth(&self, query: &[f32], best: &Best) -> Option<f32> {
        let k = best.k;
        if best.kept.len() < k {
            return None;
        }
        let mut kept = best.kept.clone();
        let (_, &mut (kth, _), _) = kept.select_nth_unstable_by(k - 1, |a, b| a.0.total_cmp(&b.0));
        // rounding cannot tell these rows from the k-th: f64 can
        let window = 2.0 * best.error;
        let (low, high) = (kth * (1.0 - window) - f32::MIN_POSITIVE, kth * (1.0 + window) + f32::MIN_POSITIVE);
        let below = kept.iter().filter(|&&(squared, _)| squared < low).count();
        let near = kept.iter().filter(|&&(squared, _)| (low..=high).contains(&squared));
        let mut scratch = Vec::new();
        let mut near: Vec<f64> =
            near.map(|&(_, row)| distance(query, self.values(row as usize, &mut scratch))).collect();
        let (_, kth, _) = near.select_nth_unstable_by(k - 1 - below, f64::total_cmp);
        Some(*kth as f32)
    }
}

/// Call `each` for the squares that are wanted, and mark them with NaN.
#[inline(always)]
fn take(squares: &mut [f32], wanted: impl Fn(usize, f32) -> bool, mut each: impl FnMut(usize, f32)) {
    for (number, squares) in squares.chunks_mut(16).enumerate() {
        let first = number * 16;
        // most cells are wanted by few: one vectorised look tells
        if let Ok(squares) = <&[f32; 16]>::try_from(&*squares) {
            let mut any = false;
            for (lane, &square) in squares.iter().enumerate() {
                any |= wanted(first + lane, square);
            }
            if !any {
                continue;
            }
        }
        for (i, square) in (first..).zip(squares) {
            if wanted(i, *square) {
                each(i, *square);
                *square = f32::NAN;
            }
        }
    }
}
