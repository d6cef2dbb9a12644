//! How long a head pays: the cost of a search on a sample, for several lengths.

use rayon::prelude::*;

use crate::lanes::{Line, Rows, lines_of, squared_distance};
use crate::principal::Random;

/// Lengths that are tried, besides the whole row.
const LENGTHS: [usize; 4] = [16, 32, 64, 128];
/// Rows of the sample that stand for the bank, and queries that stand for those to come.
const ROWS: usize = 4096;
const QUERIES: usize = 64;

/// What the layout knows when it asks.
pub(crate) struct Sampled<'a> {
    pub(crate) rows: &'a Rows,
    /// Rows along the directions.
    pub(crate) along: &'a [f32],
    /// Some of the rows.
    pub(crate) sample: &'a [usize],
    pub(crate) directions: usize,
    pub(crate) k: usize,
}

/// The length with the least estimated cost; `None`: the whole row.
pub(crate) fn choose(from: &Sampled<'_>) -> Option<usize> {
    let d = from.rows.dimension();
    let width = from.directions;
    let row = |i: usize| from.rows.lines(i);
    let mut random = Random(7);
    let rows: Vec<usize> = random.sample(from.sample.len(), ROWS).iter().map(|&i| from.sample[i]).collect();
    let n = from.rows.len();
    let rank = (from.k * rows.len()).div_ceil(n).clamp(1, rows.len());
    let lengths: Vec<usize> = LENGTHS.into_iter().filter(|&length| length <= from.directions).collect();
    // half of the queries are rows, half lie between two rows, where out-of-distribution ones may be
    let pairs: Vec<(usize, usize, bool)> = (0..QUERIES)
        .map(|query| (rows[random.below(rows.len())], rows[random.below(rows.len())], query % 2 == 1))
        .collect();
    let along = |i: usize| &from.along[i * width..(i + 1) * width];
    let pass = |&(a, b, between): &(usize, usize, bool)| -> Vec<u64> {
        let mix = |a: f32, b: f32| if between { 0.6 * a + 0.6 * b } else { a };
        let mixed = |(a, b): (&Line, &Line)| Line(std::array::from_fn(|lane| mix(a.0[lane], b.0[lane])));
        let q: Vec<Line> = row(a).iter().zip(row(b)).map(mixed).collect();
        let q_along: Vec<f32> = along(a).iter().zip(along(b)).map(|(&a, &b)| mix(a, b)).collect();
        let q_norm: f32 = q.iter().flat_map(|line| line.0).map(|v| v * v).sum();
        let mut distances: Vec<f32> = rows.iter().map(|&x| squared_distance::<false>(&q, row(x))).collect();
        let radius = *distances.select_nth_unstable_by(rank - 1, f32::total_cmp).1;
        let mut passed = vec![0; lengths.len()];
        for &x in &rows {
            // ‖tail‖² of both from the whole difference is not at hand: norms of what the directions leave out are
            let (mut head, mut done) = (0.0f32, 0);
            let (mut q_left, mut x_left) = (q_norm, 1.0);
            for (length, passed) in lengths.iter().zip(&mut passed) {
                for (a, b) in q_along[done..*length].iter().zip(&along(x)[done..*length]) {
                    head += (a - b) * (a - b);
                    q_left -= a * a;
                    x_left -= b * b;
                }
                done = *length;
                let tails = q_left.max(0.0).sqrt() - x_left.max(0.0).sqrt();
                *passed += u64::from(head + tails * tails <= radius * 1.1 + 0.002);
            }
        }
        passed
    };
    let each: Vec<Vec<u64>> = pairs.par_iter().map(pass).collect();
    let passed: Vec<u64> = (0..lengths.len()).map(|length| each.iter().map(|passed| passed[length]).sum()).collect();
    // in units of one 16-lane instruction: the codes of a panel for one query, where cells skip half of them; a row
    // compared in f32
    let scanned = 0.5 * (QUERIES * rows.len()) as f64;
    let cost = |length: f64, passed: f64| scanned * (length / 64.0 + 0.4) + passed * (2.0 * lines_of(d) as f64 + 24.0);
    let all = cost(d as f64, (QUERIES * rank) as f64);
    let costs = lengths.iter().zip(&passed).map(|(&length, &passed)| (length, cost(length as f64, passed as f64)));
    costs.min_by(|a, b| a.1.total_cmp(&b.1)).filter(|&(_, cost)| cost < all).map(|(length, _)| length)
}
