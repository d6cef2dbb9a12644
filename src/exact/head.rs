//! How long a head pays: the cost of a search on a sample, for several lengths.

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
    let mut passed = vec![0u64; lengths.len()];
    for query in 0..QUERIES {
        // half of the queries are rows, half lie between two rows, where out-of-distribution ones may be
        let (a, b) = (rows[random.below(rows.len())], rows[random.below(rows.len())]);
        let between = query % 2 == 1;
        let mix = |a: &[Line], b: &[Line]| -> Vec<Line> {
            let mix = |(a, b): (&Line, &Line)| {
                let mut out = *a;
                if between {
                    out.0.iter_mut().zip(&b.0).for_each(|(a, b)| *a = 0.6 * *a + 0.6 * b);
                }
                out
            };
            a.iter().zip(b).map(mix).collect()
        };
        let q = mix(row(a), row(b));
        let along = |i: usize| &from.along[i * width..(i + 1) * width];
        let q_along: Vec<f32> = if between {
            along(a).iter().zip(along(b)).map(|(a, b)| 0.6 * a + 0.6 * b).collect()
        } else {
            along(a).to_vec()
        };
        let mut distances: Vec<f32> = rows.iter().map(|&x| squared_distance::<false>(&q, row(x))).collect();
        let radius = *distances.select_nth_unstable_by(rank - 1, f32::total_cmp).1;
        for &x in &rows {
            let (mut head, mut done) = (0.0f32, 0);
            let (mut q_left, mut x_left) = (0.0f32, 0.0f32);
            // ‖tail‖² of both from the whole difference is not at hand: norms of what the directions leave out are
            let (q_norm, x_norm) = (norm(&q), norm(row(x)));
            for (length, passed) in lengths.iter().zip(&mut passed) {
                for (a, b) in q_along[done..*length].iter().zip(&along(x)[done..*length]) {
                    head += (a - b) * (a - b);
                    q_left += a * a;
                    x_left += b * b;
                }
                done = *length;
                let tails = (q_norm - q_left).max(0.0).sqrt() - (x_norm - x_left).max(0.0).sqrt();
                if head + tails * tails <= radius * 1.1 + 0.002 {
                    *passed += 1;
                }
            }
        }
    }
    // in units of one 16-lane instruction: the codes of a panel for one query, where cells skip half of them; a row
    // compared in f32
    let scanned = 0.5 * (QUERIES * rows.len()) as f64;
    let cost = |length: f64, passed: f64| scanned * (length / 64.0 + 0.4) + passed * (2.0 * lines_of(d) as f64 + 24.0);
    let all = cost(d as f64, (QUERIES * rank) as f64);
    let costs = lengths.iter().zip(&passed).map(|(&length, &passed)| (length, cost(length as f64, passed as f64)));
    costs.min_by(|a, b| a.1.total_cmp(&b.1)).filter(|&(_, cost)| cost < all).map(|(length, _)| length)
}

fn norm(row: &[Line]) -> f32 {
    row.iter().flat_map(|line| line.0).map(|v| v * v).sum()
}
