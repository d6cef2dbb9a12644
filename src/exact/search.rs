//! The search: nearest cells first, each cell with all queries that still need it.
//!
//! Every query keeps the k nearest rows found so far and their largest distance τ. Round one brings each query to its
//! nearest cells, as many as hold k rows: then τ is finite. The next rounds bring it to every cell that may hold a row
//! within τ/2, then within τ: by the triangle inequality the others cannot. τ shrinks all the while.

use rayon::prelude::*;

use crate::best::Best;
use crate::lanes::{Line, dot, to_lines};
use crate::layout::Exact;
use crate::product::{Matrix, product};
use crate::scan;
use crate::vectors::{Vectors, distance};
use crate::work::Work;

/// Queries that one thread takes through the bank together.
const QUERIES: usize = 2048;
/// Queries up to which all threads work on the same ones, each in its own cells.
const FEW: usize = 64;
/// Numbers of a bank below which a thread pool costs more than it saves.
const SMALL: usize = 1 << 23;

/// Queries as a search needs them.
pub(crate) struct Queries<'a> {
    /// Number of the first among all that were asked.
    first: usize,
    pub(crate) values: Vectors<'a>,
    pub(crate) lines: Vec<Line>,
    /// Along the bank's directions; none where it has none: the head is the whole row.
    heads: Option<Vec<Line>>,
}

impl Queries<'_> {
    /// Heads, one query after the other.
    pub(crate) fn heads(&self) -> &[Line] {
        self.heads.as_deref().unwrap_or(&self.lines)
    }
}

/// How many of m queries one thread takes: all threads have some, and what they keep stays small.
pub(crate) fn step(m: usize, k: usize) -> usize {
    m.div_ceil(rayon::current_num_threads()).min(QUERIES).min((1 << 23) / (k + 64)).max(FEW)
}

impl Exact {
    /// Euclidean distance of each query (normalised, m×d) to its k-th nearest vector, 1 ≤ k ≤ n.
    ///
    /// The result is that of [`crate::kth_distances_brute`]: the last step is taken in f64.
    pub fn kth_distances(&self, queries: Vectors<'_>, k: usize) -> Vec<f32> {
        self.search(queries, k, None, |queries, i, best| self.kth(queries.values.row(i), best).unwrap_or(f32::NAN))
    }

    /// Whether the k-th nearest vector of each query is at most as far as its cutoff: the same answer as comparing
    /// [`Self::kth_distances`], found as soon as k vectors within the cutoff are.
    pub fn within(&self, queries: Vectors<'_>, k: usize, cutoffs: &[f32]) -> Vec<bool> {
        assert_eq!(queries.len(), cutoffs.len(), "one cutoff per query");
        self.search(queries, k, Some(cutoffs), |queries, i, best| {
            best.sure() || self.kth(queries.values.row(i), best).is_some_and(|kth| kth <= cutoffs[queries.first + i])
        })
    }

    /// What all searches so far did.
    pub fn work(&self) -> Work {
        self.counters.read()
    }

    fn search<T: Send>(
        &self,
        queries: Vectors<'_>,
        k: usize,
        cutoffs: Option<&[f32]>,
        answer: impl Fn(&Queries<'_>, usize, &Best) -> T + Sync,
    ) -> Vec<T> {
        assert_eq!(queries.dimension(), self.dimension, "queries and bank of one dimension");
        assert!((1..=self.len()).contains(&k), "1 ≤ k ≤ n");
        let m = queries.len();
        let run = |from: usize, to: usize, parts: usize| -> Vec<T> {
            let asked = self.prepare(queries.rows(from, to), from);
            let cutoff = |i: usize| cutoffs.map(|cutoffs| cutoffs[i]);
            let mut bests: Vec<Best> = (from..to).map(|i| Best::new(k, cutoff(i), self.slack.distance)).collect();
            self.travel(&asked, &mut bests, parts);
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

    /// Queries in lines, and along the directions.
    pub(crate) fn prepare<'a>(&self, values: Vectors<'a>, first: usize) -> Queries<'a> {
        let lines = to_lines(values);
        let heads = self.directions.as_ref().map(|directions| {
            let mut heads = vec![Line([0.0; 16]); values.len() * self.width];
            self.path.project(&lines, directions, self.dimension, &mut heads);
            heads
        });
        Queries { first, values, lines, heads }
    }

    /// Squared distance of centroid c to query i, at c·m + i.
    fn to_centroids(&self, queries: &Queries<'_>) -> Vec<f32> {
        let (m, d, cells) = (queries.values.len(), self.dimension, self.cells.len());
        let mut squares = vec![0.0; cells * m];
        if m == 0 {
            return squares;
        }
        let norms: Vec<f32> = queries.lines.chunks_exact(self.stride).map(|row| dot::<false>(row, row)).collect();
        let asked = Matrix::new(queries.values.values(), m, d, d).transposed();
        product(Matrix::new(&self.centroids, cells, d, d), asked, &mut squares);
        for (squares, norm) in squares.chunks_exact_mut(m).zip(&self.centroid_norms) {
            squares.iter_mut().zip(&norms).for_each(|(square, of_query)| *square = norm + of_query - 2.0 * *square);
        }
        squares
    }

    /// Take queries to every cell that may hold one of their k nearest rows.
    pub(crate) fn travel(&self, queries: &Queries<'_>, bests: &mut [Best], parts: usize) {
        let m = bests.len();
        let mut work = Work { queries: m as u64, ..Work::default() };
        let mut squares = self.to_centroids(queries);
        self.first_round(queries, &mut squares, bests, &mut work);
        if parts == 1 || m == 0 {
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
        self.counters.add(work);
    }

    /// The nearest cells of each query, as many as hold k rows. A cell that was seen is marked with NaN.
    fn first_round(&self, queries: &Queries<'_>, squares: &mut [f32], bests: &mut [Best], work: &mut Work) {
        let m = bests.len();
        let mut nearest = vec![(f32::INFINITY, 0usize); m];
        for (cell, squares) in squares.chunks_exact(m.max(1)).enumerate() {
            for (nearest, &square) in nearest.iter_mut().zip(squares) {
                if square < nearest.0 {
                    *nearest = (square, cell);
                }
            }
        }
        let mut reach = Vec::with_capacity(m);
        let mut order: Vec<(f32, usize)> = Vec::new();
        for (i, (&(square, cell), best)) in nearest.iter().zip(bests.iter()).enumerate() {
            if self.cells[cell].rows >= best.k {
                reach.push(square);
                continue;
            }
            order.clear();
            order.extend(self.cells.iter().enumerate().map(|(cell, found)| (squares[cell * m + i], found.rows)));
            order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
            let mut rows = 0;
            let enough = order.iter().find(|&&(_, more)| {
                rows += more;
                rows >= best.k
            });
            reach.push(enough.map_or(f32::INFINITY, |&(square, _)| square));
        }
        let mut visitors = Vec::new();
        for (number, squares) in squares.chunks_exact_mut(m.max(1)).enumerate() {
            visitors.clear();
            for (i, (square, &reach)) in squares.iter_mut().zip(&reach).enumerate() {
                if *square <= reach && !bests[i].done && self.reaches(number, *square, bests[i].tau()) {
                    visitors.push((i as u32, *square));
                    *square = f32::NAN;
                }
            }
            self.visit(number, &visitors, queries, bests, work);
        }
    }

    /// Cells from `first` on that may hold a row within τ/2, then within τ.
    fn next_rounds(
        &self,
        queries: &Queries<'_>,
        first: usize,
        squares: &mut [f32],
        bests: &mut [Best],
        work: &mut Work,
    ) {
        let m = bests.len();
        let mut visitors = Vec::new();
        for share in [0.5, 1.0] {
            for (number, squares) in squares.chunks_exact_mut(m.max(1)).enumerate() {
                visitors.clear();
                for (i, (square, best)) in squares.iter_mut().zip(&*bests).enumerate() {
                    if self.reaches(first + number, *square, share * best.tau()) && !best.done {
                        visitors.push((i as u32, *square));
                        *square = f32::NAN;
                    }
                }
                self.visit(first + number, &visitors, queries, bests, work);
            }
        }
    }

    /// Whether a cell whose centroid lies at this squared distance may hold a row within τ; never for NaN.
    #[inline(always)]
    fn reaches(&self, cell: usize, square: f32, tau: f32) -> bool {
        let cell = &self.cells[cell];
        let (far, near) = (tau + cell.high, (cell.low - tau).max(0.0));
        let slack = self.slack.centroid;
        (square + slack >= near * near * (1.0 - 1e-6)) & (square - slack <= far * far * (1.0 + 1e-6))
    }

    fn visit(&self, cell: usize, visitors: &[(u32, f32)], queries: &Queries<'_>, bests: &mut [Best], work: &mut Work) {
        if !visitors.is_empty() {
            work.visits += visitors.len() as u64;
            scan::scan(self, cell, visitors, queries, bests, work);
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
        let window = 4.0 * best.error;
        let (low, high) = (kth * (1.0 - window) - f32::MIN_POSITIVE, kth * (1.0 + window) + f32::MIN_POSITIVE);
        let below = kept.iter().filter(|&&(squared, _)| squared < low).count();
        let near = kept.iter().filter(|&&(squared, _)| (low..=high).contains(&squared));
        let mut near: Vec<f64> = near.map(|&(_, row)| distance(query, self.values(row as usize))).collect();
        let (_, kth, _) = near.select_nth_unstable_by(k - 1 - below, f64::total_cmp);
        Some(*kth as f32)
    }

    /// The vector at a position.
    pub(crate) fn values(&self, position: usize) -> &[f32] {
        self.rows.row(position)
    }
}

impl Queries<'_> {
    /// The distance in f64 of a query to the row at a position.
    pub(crate) fn exact<'a>(&'a self, bank: &'a Exact, query: usize) -> impl Fn(u32) -> f64 + 'a {
        move |row| distance(self.values.row(query), bank.values(row as usize))
    }
}
