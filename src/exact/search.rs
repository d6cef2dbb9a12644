//! The search: nearest cells first, each cell with all queries that still need it.
//!
//! Every query keeps the k nearest rows found so far and their largest distance τ. Round one brings each query to its
//! nearest cells, as many as hold k rows: then τ is finite. The next rounds bring it to every cell that may hold a row
//! within τ/2, then within τ: by the triangle inequality the others cannot. τ shrinks all the while.

use rayon::prelude::*;

use crate::best::{Best, by_distance};
use crate::error::{Error, Given};
use crate::lanes::{Line, dot};
use crate::layout::Exact;
use crate::numbers::{Position, RowNumber};
use crate::path::Path;
use crate::product::{FEW as FEW_VECTORS, dots, panel, products};
use crate::queries::Queries;
use crate::question::{Bound, Kth, Question};
use crate::scan;
use crate::vectors::{Vectors, distance, is_unit};
use crate::work::{Counters, Work};

/// Queries that one thread takes through the bank together.
const QUERIES: usize = 2048;
/// Queries up to which all threads work on the same ones, each in its own cells.
const FEW: usize = 64;
/// Vectors of a bank that are asked about at once.
const AT_ONCE: usize = 16_384;
/// How far from one a query's norm is only where it was not normalised.
const NORMALISED: f64 = 1.0 / (1u32 << 16) as f64;
/// Numbers of a bank below which a thread pool costs more than it saves.
const SMALL: usize = 1 << 23;

/// How many of m queries one thread takes at a time: all threads take as many, and what they keep stays small.
pub(crate) fn step(m: usize, k: usize) -> usize {
    let (threads, most) = (rayon::current_num_threads(), QUERIES.min((1 << 23) / (k + 64)).max(FEW));
    let turns = m.div_ceil(threads * most).max(1);
    m.div_ceil(threads * turns).max(FEW)
}

impl Exact {
    /// Euclidean distance of each query (normalised, m×d) to its k-th nearest vector, 1 ≤ k ≤ n.
    ///
    /// The result is that of [`crate::kth_distances_brute`]: the last step is taken in f64.
    pub fn kth_distances(&self, queries: Vectors<'_>, k: usize) -> Vec<f32> {
        self.find(queries, Question::all(k)).into_iter().map(Kth::distance).collect()
    }

    /// Whether the k-th nearest vector of each query is at most as far as its cutoff: the same answer as comparing
    /// [`Self::kth_distances`], found as soon as k vectors within the cutoff are.
    pub fn within(&self, queries: Vectors<'_>, k: usize, cutoffs: &[f32]) -> Vec<bool> {
        self.find(queries, Question::within(k, Bound::Each(cutoffs)))
            .into_iter()
            .map(|kth| kth == Kth::Within)
            .collect()
    }

    /// What is asked, of each query (normalised, m×d); 1 ≤ k ≤ n, or n − 1 where a vector is excluded. The same
    /// answer as comparing [`Self::kth_distances`] with floors and ceilings.
    pub fn find(&self, queries: Vectors<'_>, question: Question<'_>) -> Vec<Kth> {
        self.find_counted(queries, question).0
    }

    /// [`Self::find`], and what it took.
    pub fn find_counted(&self, queries: Vectors<'_>, question: Question<'_>) -> (Vec<Kth>, Work) {
        assert!((1..=self.most_asked(question)).contains(&question.k), "1 ≤ k ≤ n");
        let counters = Counters::default();
        let found = self.search(queries, question, &counters, |queries, i, best| {
            if best.sure() {
                return Kth::Within;
            }
            question.answer(queries.first + i, self.kth(queries.values.row(i), best))
        });
        let work = counters.read();
        self.counters.add(work);
        (found, work)
    }

    /// The k nearest vectors of each query: their numbers, as they were given, and distances, nearest first. Of equally
    /// near ones (in f64) those given first. `excluded` as in [`Question::excluded`].
    pub fn nearest(
        &self,
        queries: Vectors<'_>,
        k: usize,
        excluded: Option<&[Option<RowNumber>]>,
    ) -> Vec<Vec<(RowNumber, f32)>> {
        let question = Question { excluded, ..Question::all(k) };
        assert!((1..=self.most_asked(question)).contains(&k), "1 ≤ k ≤ n");
        self.search(queries, question, &self.counters, |queries, i, best| {
            let mut near = self.nearest_of(queries, i, best, k);
            near.sort_unstable_by(by_distance);
            near.into_iter().map(|(distance, number)| (number, distance as f32)).collect()
        })
    }

    /// The k nearest vectors of each query, or as many as there are within its ceiling: distances and numbers, in no order. Of
    /// several banks, the k nearest of all are among these. Floors say nothing here; k is at least 1.
    /// With them comes what it took.
    pub fn nearest_within(&self, queries: Vectors<'_>, question: Question<'_>) -> (Vec<Vec<(f64, RowNumber)>>, Work) {
        self.check(queries, question);
        assert!(question.k > 0, "k ≥ 1");
        if self.is_empty() {
            return (vec![Vec::new(); queries.len()], Work::default());
        }
        let question = Question { k: question.k.min(self.len()), floor: None, ..question };
        let counters = Counters::default();
        let near =
            self.search(queries, question, &counters, |queries, i, best| self.nearest_of(queries, i, best, question.k));
        let work = counters.read();
        self.counters.add(work);
        (near, work)
    }

    /// The k nearest of a query's candidates, in no order: distances in f64, and numbers.
    fn nearest_of(&self, queries: &Queries<'_>, i: usize, best: &Best, k: usize) -> Vec<(f64, RowNumber)> {
        let exact = queries.exact(self, i);
        let mut all: Vec<(f64, RowNumber)> = best.candidates.iter().map(|&(_, position)| exact(position)).collect();
        if all.len() > k {
            all.select_nth_unstable_by(k - 1, by_distance);
            all.truncate(k);
        }
        all
    }

    /// How far each vector, in the order in which they were given, is from the k-th nearest of the others (of all, where
    /// there are no more than k).
    pub fn leave_one_out_distances(&self, k: usize) -> Vec<f32> {
        let (n, d) = (self.len(), self.dimension);
        let mut distances = vec![0.0; n];
        let k = k.min(n.saturating_sub(1));
        if k == 0 {
            return distances;
        }
        let mut scratch = Vec::new();
        let positions: Vec<Position> = self.positions().filter(|&at| self.number(at) != RowNumber::NONE).collect();
        for positions in positions.chunks(AT_ONCE) {
            let mut values = Vec::with_capacity(positions.len() * d);
            positions.iter().for_each(|&at| values.extend_from_slice(self.values(at, &mut scratch)));
            let numbers: Vec<Option<RowNumber>> = positions.iter().map(|&at| Some(self.number(at))).collect();
            let question = Question { excluded: Some(&numbers), ..Question::all(k) };
            for (number, kth) in numbers.iter().flatten().zip(self.find(Vectors::new(&values, d), question)) {
                distances[number.0 as usize] = kth.distance();
            }
        }
        distances
    }

    /// What all searches so far did.
    pub fn work(&self) -> Work {
        self.counters.read()
    }

    /// The number of the vector at a position.
    #[inline(always)]
    pub(crate) fn number(&self, at: Position) -> RowNumber {
        self.numbers.as_ref().map_or(RowNumber(at.0), |numbers| numbers[at.index()])
    }

    /// The position of the vector that a question excludes for a query; [`Position::NONE`] where there is no such.
    pub(crate) fn excluded(&self, question: Question<'_>, query: usize) -> Position {
        let Some(number) = question.excluded.and_then(|excluded| excluded[query]) else { return Position::NONE };
        let Some(numbers) = &self.numbers else { return Position(number.0) };
        let by_number = self.by_number.get_or_init(|| {
            let is_there = |at: &Position| numbers[at.index()] != RowNumber::NONE;
            let mut by_number: Vec<Position> = self.positions().filter(is_there).collect();
            by_number.par_sort_unstable_by_key(|at| numbers[at.index()]);
            by_number
        });
        let found = by_number.binary_search_by_key(&number, |at| numbers[at.index()]);
        found.map_or(Position::NONE, |place| by_number[place])
    }

    /// Whether [`Self::find`] answers this, or why it would panic: the check for what comes from outside.
    pub fn accepts(&self, queries: Vectors<'_>, question: Question<'_>) -> Result<(), Error> {
        let (d, most) = (self.dimension, self.most_asked(question));
        if queries.dimension() != d {
            return Err(Error::OtherDimension { given: queries.dimension(), wanted: d });
        }
        if let Some(wrong) = wrong_query(queries) {
            return Err(Error::NotUnit(Given::Query(wrong)));
        }
        if !question.fits(queries.len()) {
            return Err(Error::PerQuery);
        }
        if (1..=most).contains(&question.k) { Ok(()) } else { Err(Error::K { k: question.k, most }) }
    }

    /// The largest k that there may be.
    fn most_asked(&self, question: Question<'_>) -> usize {
        self.len().saturating_sub(usize::from(question.excluded.is_some()))
    }

    /// Panics where a question does not fit queries and bank.
    pub(crate) fn check(&self, queries: Vectors<'_>, question: Question<'_>) {
        assert_eq!(queries.dimension(), self.dimension, "queries and bank of one dimension");
        let wrong = wrong_query(queries);
        assert!(wrong.is_none(), "queries of norm one: {} is not", wrong.unwrap_or_default());
        assert!(question.fits(queries.len()), "one of each per query");
    }

    fn search<T: Send>(
        &self,
        queries: Vectors<'_>,
        question: Question<'_>,
        counters: &Counters,
        answer: impl Fn(&Queries<'_>, usize, &Best) -> T + Sync,
    ) -> Vec<T> {
        let (m, k) = (queries.len(), question.k);
        self.check(queries, question);
        let run = |from: usize, to: usize, parts: usize| -> Vec<T> {
            let prepared = self.prepare(queries.rows(from, to), from);
            let best = |i: usize| {
                let (floor, ceiling) = (question.floor_of(i), question.ceiling_of(i));
                Best::new(k, floor, ceiling, self.excluded(question, i), self.slack.distance)
            };
            let mut bests: Vec<Best> = (from..to).map(best).collect();
            counters.add(self.visit_cells(&prepared, &mut bests, parts));
            bests.iter().enumerate().map(|(i, best)| answer(&prepared, i, best)).collect()
        };
        self.in_turns(m, k, run)
    }

    /// Have m queries searched, from one up to another at a time and in so many parts at once, by as many threads as there
    /// are.
    pub(crate) fn in_turns<T: Send>(
        &self,
        m: usize,
        k: usize,
        run: impl Fn(usize, usize, usize) -> Vec<T> + Sync,
    ) -> Vec<T> {
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

    /// Have queries visit every cell that may hold one of their k nearest rows.
    pub(crate) fn visit_cells(&self, queries: &Queries<'_>, bests: &mut [Best], parts: usize) -> Work {
        match self.path {
            // SAFETY: a path is only used where the processor has its features.
            #[cfg(target_arch = "x86_64")]
            Path::Avx512Vnni => unsafe { self.visit_cells_avx512(queries, bests, parts) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => unsafe { self.visit_cells_avx2(queries, bests, parts) },
            _ => self.visit_cells_with(queries, bests, parts),
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma")]
    fn visit_cells_avx512(&self, queries: &Queries<'_>, bests: &mut [Best], parts: usize) -> Work {
        self.visit_cells_with(queries, bests, parts)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn visit_cells_avx2(&self, queries: &Queries<'_>, bests: &mut [Best], parts: usize) -> Work {
        self.visit_cells_with(queries, bests, parts)
    }

    /// What follows is `inline(always)`, so that its loops use the instructions of the path.
    #[inline(always)]
    fn visit_cells_with(&self, queries: &Queries<'_>, bests: &mut [Best], parts: usize) -> Work {
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
            let enough = queries.thinned(best.at_first()).min(self.len());
            if self.present[nearest as usize] < enough {
                order.clear();
                order.extend(squares[i..].iter().step_by(m).zip(&self.present).map(|(&square, &rows)| (square, rows)));
                *reach = self.reach(enough, &mut order);
            }
        }
        let mut taus: Vec<f32> = bests.iter().map(Best::tau).collect();
        let mut visitors = Vec::new();
        for (number, squares) in squares.chunks_exact_mut(m).enumerate() {
            visitors.clear();
            let is_near = |i: usize, square: f32| square <= reach[i] && self.is_within(number, square, taus[i]);
            select(squares, is_near, |i, square| visitors.push((i as u32, square)));
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
        let (count, all) = if order[..some].iter().map(|cell| cell.1).sum::<usize>() < enough {
            (order.len(), order)
        } else {
            (some, order)
        };
        all[..count].sort_unstable_by(by_distance);
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
                let is_near = |i: usize, square: f32| self.is_within(first + number, square, share * taus[i]);
                select(squares, is_near, |i, square| visitors.push((i as u32, square)));
                self.visit(first + number, &visitors, queries, bests, &mut taus, work);
            }
        }
    }

    /// Whether a cell whose centroid lies at this squared distance may hold a row within τ; never for NaN.
    #[inline(always)]
    fn is_within(&self, cell: usize, square: f32, tau: f32) -> bool {
        let cell = &self.cells[cell];
        let (least, most) = ((cell.low - tau).max(0.0), tau + cell.high);
        let slack = self.slack.centroid;
        (square + slack >= least * least) & (square - slack <= most * most)
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
        if !visitors.is_empty() && self.present[cell] > 0 && !queries.stopped() {
            work.visits += visitors.len() as u64;
            scan::scan(self, cell, visitors, queries, bests, work);
            visitors.iter().for_each(|&(i, _)| taus[i as usize] = bests[i as usize].tau());
        }
    }

    /// The k-th distance, among candidates; `None` where fewer than k rows lie within the cutoff.
    fn kth(&self, query: &[f32], best: &Best) -> Option<f32> {
        let k = best.k;
        if best.candidates.len() < k {
            return None;
        }
        let mut candidates = best.candidates.clone();
        let (_, &mut (kth, _), _) = candidates.select_nth_unstable_by(k - 1, |a, b| a.0.total_cmp(&b.0));
        // rounding cannot tell these rows from the k-th: f64 can
        let window = 2.0 * best.error;
        let (low, high) = (kth * (1.0 - window) - f32::MIN_POSITIVE, kth * (1.0 + window) + f32::MIN_POSITIVE);
        let below = candidates.iter().filter(|&&(squared, _)| squared < low).count();
        let ties = candidates.iter().filter(|&&(squared, _)| (low..=high).contains(&squared));
        let mut scratch = Vec::new();
        let mut ties: Vec<f64> = ties.map(|&(_, at)| distance(query, self.values(at, &mut scratch))).collect();
        let (_, kth, _) = ties.select_nth_unstable_by(k - 1 - below, f64::total_cmp);
        Some(*kth as f32)
    }
}

/// A query that was not normalised.
fn wrong_query(queries: Vectors<'_>) -> Option<usize> {
    (0..queries.len()).find(|&query| !is_unit(queries.row(query), NORMALISED))
}

/// Call `each` for the squares that are wanted, and mark them with NaN.
#[inline(always)]
fn select(squares: &mut [f32], is_wanted: impl Fn(usize, f32) -> bool, mut each: impl FnMut(usize, f32)) {
    for (number, squares) in squares.chunks_mut(16).enumerate() {
        let first = number * 16;
        let bit = |lane: usize, square: f32| u32::from(is_wanted(first + lane, square)) << lane;
        let mut wanted = match <&[f32; 16]>::try_from(&*squares) {
            // one vectorised look at all of them
            Ok(squares) => {
                let mut bits = [0; 16];
                (0..16).for_each(|lane| bits[lane] = bit(lane, squares[lane]));
                bits.iter().fold(0, |all, bit| all | bit)
            }
            Err(_) => squares.iter().enumerate().fold(0, |all, (lane, &square)| all | bit(lane, square)),
        };
        while wanted != 0 {
            let lane = wanted.trailing_zeros() as usize;
            wanted &= wanted - 1;
            each(first + lane, squares[lane]);
            squares[lane] = f32::NAN;
        }
    }
}
