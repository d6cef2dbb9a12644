//! The directions in which a sample of vectors varies most: its leading principal components.

use rayon::prelude::*;

use crate::lanes::{Line, lines_of, to_lines};
use crate::path::Path;
use crate::product::{Table, panel, products};
use crate::vectors::Vectors;

/// Rounds of orthogonal iteration: the directions need not be exact, only good, for they only order the work.
const ROUNDS: usize = 5;

/// `count` orthonormal directions (row-major count×d) of the row-major n×d sample, those of most variance first.
pub(crate) fn principal(path: Path, sample: &[f32], d: usize, count: usize, seed: u64) -> Vec<f32> {
    let n = sample.len() / d;
    let mean: Vec<f64> = (0..d).map(|j| sample.iter().skip(j).step_by(d).map(|&v| f64::from(v)).sum::<f64>()).collect();
    let mut centred = sample.to_vec();
    for row in centred.chunks_exact_mut(d) {
        row.iter_mut().zip(&mean).for_each(|(value, sum)| *value -= (sum / n as f64) as f32);
    }
    let rows = to_lines(Vectors::new(&centred, d));
    let mut random = Random(seed);
    let mut directions: Vec<f32> = (0..count * d).map(|_| random.unit() - 0.5).collect();
    orthonormalize(&mut directions, d, &mut random);
    for _ in 0..ROUNDS {
        // coordinates of the sample along the directions, count×n, and the sample's sum weighted by them
        let along = transposed_product(path, Table::new(&directions, count, d, d), &centred);
        let columns: Vec<Vec<Line>> = (0..lines_of(d))
            .into_par_iter()
            .map(|column| {
                let panel: Vec<Line> = rows.iter().skip(column).step_by(lines_of(d)).copied().collect();
                let mut sums = vec![Line([0.0; 16]); count];
                products(path, Table::new(&along, count, n, n), &panel, &mut sums);
                sums
            })
            .collect();
        for (i, direction) in directions.chunks_exact_mut(d).enumerate() {
            direction
                .chunks_mut(16)
                .zip(&columns)
                .for_each(|(out, column)| out.copy_from_slice(&column[i].0[..out.len()]));
        }
        orthonormalize(&mut directions, d, &mut random);
    }
    directions
}

/// ⟨rowᵢ, pointⱼ⟩ at i·n + j, for n row-major points.
fn transposed_product(path: Path, rows: Table<'_>, points: &[f32]) -> Vec<f32> {
    let (d, count) = (rows.dimension(), rows.len());
    let n = points.len() / d;
    let found: Vec<Vec<Line>> = points
        .par_chunks(16 * d)
        .map(|points| {
            let (mut lines, mut sums) = (Vec::new(), vec![Line([0.0; 16]); count]);
            panel(points.chunks_exact(d), d, &mut lines);
            products(path, rows, &lines, &mut sums);
            sums
        })
        .collect();
    (0..count).flat_map(|i| found.iter().flat_map(move |sums| sums[i].0).take(n)).collect()
}

/// Gram–Schmidt, twice for each row so that rounding leaves no overlap; a row that vanishes is drawn anew.
fn orthonormalize(directions: &mut [f32], d: usize, random: &mut Random) {
    for i in 0..directions.len() / d {
        let (before, rest) = directions.split_at_mut(i * d);
        let row = &mut rest[..d];
        let mut left = 0.0;
        for attempt in 0.. {
            let length = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
            for _ in 0..2 {
                for other in before.chunks_exact(d) {
                    let overlap: f64 = row.iter().zip(other).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                    row.iter_mut().zip(other).for_each(|(a, b)| *a -= (overlap * f64::from(*b)) as f32);
                }
            }
            left = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
            if left > 1e-3 * length || attempt == 8 {
                break;
            }
            row.iter_mut().for_each(|v| *v = random.unit() - 0.5);
        }
        let scale = 1.0 / left.max(f64::MIN_POSITIVE);
        row.iter_mut().for_each(|v| *v = (f64::from(*v) * scale) as f32);
    }
}

/// Rotate directions among themselves so that each holds about as much of a vector as the others, where their number is
/// a power of two (a Walsh–Hadamard transform): codes of equal steps then miss less.
pub(crate) fn spread(directions: &mut [f32], d: usize) {
    let count = directions.len() / d;
    if !count.is_power_of_two() {
        return;
    }
    let mut half = 1;
    while half < count {
        for block in directions.chunks_exact_mut(2 * half * d) {
            let (a, b) = block.split_at_mut(half * d);
            for (a, b) in a.iter_mut().zip(b) {
                (*a, *b) = ((*a + *b) * std::f32::consts::FRAC_1_SQRT_2, (*a - *b) * std::f32::consts::FRAC_1_SQRT_2);
            }
        }
        half *= 2;
    }
}

/// ‖VVᵀ − I‖ of directions V (rows): how far from orthonormal they are, measured in f64.
pub(crate) fn defect(directions: &[f32], d: usize) -> f64 {
    let mut sum = 0.0;
    for (i, a) in directions.chunks_exact(d).enumerate() {
        for (j, b) in directions.chunks_exact(d).enumerate().skip(i) {
            let product: f64 = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            let off = if i == j { (product - 1.0).powi(2) } else { 2.0 * product.powi(2) };
            sum += off;
        }
    }
    sum.sqrt()
}

/// Splitmix64: the same numbers for the same seed, everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [0, 1).
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// In 0..n.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// `count` of 0..n, ascending, without repetition; all of them where `count` ≥ n.
    pub(crate) fn sample(&mut self, n: usize, count: usize) -> Vec<usize> {
        if count >= n {
            return (0..n).collect();
        }
        let mut chosen: Vec<usize> = (0..count)
            .map(|i| {
                // one of each of `count` equal parts
                let (from, to) = (i * n / count, (i + 1) * n / count);
                from + self.below(to - from)
            })
            .collect();
        chosen.dedup();
        chosen
    }
}
