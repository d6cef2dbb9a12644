//! The directions in which a sample of vectors varies most: its leading principal components.

use rayon::prelude::*;

use crate::lanes::{Line, Rows, floats, lines_of, to_lines};
use crate::path::Path;
use crate::product::{Table, dots, panel, products};
use crate::vectors::{Vectors, product as product_f64};

/// Rounds of orthogonal iteration: the directions need not be exact, only good, for they only order the work.
const ROUNDS: usize = 4;

/// `count` orthonormal directions (row-major count×d) of a sample, those of most variance first.
pub(crate) fn principal(path: Path, sample: &Rows, count: usize, seed: u64) -> Vec<f32> {
    let (n, d) = (sample.len(), sample.dimension());
    let mut mean = vec![0.0f64; d];
    for row in 0..n {
        mean.iter_mut().zip(sample.row(row)).for_each(|(sum, &value)| *sum += f64::from(value) / n as f64);
    }
    let mut rows = sample.lines.clone();
    for row in rows.chunks_exact_mut(lines_of(d)) {
        bytemuck::cast_slice_mut(row)
            .iter_mut()
            .zip(&mean)
            .for_each(|(value, mean): (&mut f32, _)| *value -= *mean as f32);
    }
    let mut random = Random(seed);
    let mut directions: Vec<f32> = (0..count * d).map(|_| random.unit() - 0.5).collect();
    orthonormalize(path, &mut directions, d, &mut random);
    for _ in 0..ROUNDS {
        // coordinates of the sample along the directions, count×n, and the sample's sum weighted by them
        let along = transposed_product(path, &Table::new(path, directions.chunks_exact(d), d), &rows, d);
        let along = Table::new(path, along.chunks_exact(n), n);
        let columns: Vec<Vec<Line>> = (0..lines_of(d))
            .into_par_iter()
            .map(|column| {
                let panel: Vec<Line> = rows.iter().skip(column).step_by(lines_of(d)).copied().collect();
                let mut sums = vec![Line([0.0; 16]); count];
                products(path, &along, &panel, &mut sums);
                sums
            })
            .collect();
        for (i, direction) in directions.chunks_exact_mut(d).enumerate() {
            let parts = direction.chunks_mut(16).zip(&columns);
            parts.for_each(|(out, column)| out.copy_from_slice(&column[i].0[..out.len()]));
        }
        orthonormalize(path, &mut directions, d, &mut random);
    }
    directions
}

/// ⟨rowᵢ, pointⱼ⟩ at i·n + j, for n points in lines.
fn transposed_product(path: Path, rows: &Table, points: &[Line], d: usize) -> Vec<f32> {
    let count = rows.len();
    let stride = lines_of(d);
    let n = points.len() / stride;
    let found: Vec<Vec<Line>> = points
        .par_chunks(16 * stride)
        .map(|points| {
            let (mut lines, mut sums) = (Vec::new(), vec![Line([0.0; 16]); count]);
            panel(floats(points).chunks_exact(16 * stride).map(|point| &point[..d]), d, &mut lines);
            products(path, rows, &lines, &mut sums);
            sums
        })
        .collect();
    (0..count).flat_map(|i| found.iter().flat_map(move |sums| sums[i].0).take(n)).collect()
}

/// Gram–Schmidt, twice for each row so that rounding leaves little overlap; a row that vanishes is drawn anew.
fn orthonormalize(path: Path, directions: &mut [f32], d: usize, random: &mut Random) {
    let (count, stride) = (directions.len() / d, lines_of(d));
    let mut lines = to_lines(Vectors::new(directions, d));
    let mut overlaps = vec![0.0f32; count];
    let norm = |row: &[Line]| floats(row).iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    for i in 0..count {
        let (before, rest) = lines.split_at_mut(i * stride);
        let row = &mut rest[..stride];
        let mut left = 0.0;
        for attempt in 0.. {
            let length = norm(row);
            for _ in 0..2 {
                dots(path, before, row, &mut overlaps[..i]);
                for (other, &overlap) in before.chunks_exact(stride).zip(&overlaps) {
                    for (line, other) in row.iter_mut().zip(other) {
                        line.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a -= overlap * b);
                    }
                }
            }
            left = norm(row);
            if left > 1e-3 * length || attempt == 8 {
                break;
            }
            bytemuck::cast_slice_mut::<Line, f32>(row)[..d].iter_mut().for_each(|v| *v = random.unit() - 0.5);
        }
        let scale = 1.0 / left.max(f64::MIN_POSITIVE);
        row.iter_mut().for_each(|line| line.0.iter_mut().for_each(|v| *v = (f64::from(*v) * scale) as f32));
    }
    let rows = lines.chunks_exact(stride).zip(directions.chunks_exact_mut(d));
    rows.for_each(|(line, direction)| direction.copy_from_slice(&floats(line)[..d]));
}

/// Rotate directions among themselves so that each holds about as much of a vector as its neighbours (Walsh–Hadamard
/// transforms of as many as their number has factors of two): codes of equal steps then miss less.
pub(crate) fn spread(directions: &mut [f32], d: usize) {
    let count = directions.len() / d;
    let mut half = 1;
    while count.is_multiple_of(2 * half) && count > half {
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
    let rows: Vec<&[f32]> = directions.chunks_exact(d).collect();
    let sum = |(i, a): (usize, &&[f32])| -> f64 {
        let others = rows[i..].iter().enumerate().map(|(j, b)| {
            let product = product_f64(a, b);
            if j == 0 { (product - 1.0).powi(2) } else { 2.0 * product.powi(2) }
        });
        others.sum()
    };
    rows.par_iter().enumerate().map(sum).sum::<f64>().sqrt()
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
