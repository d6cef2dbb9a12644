//! Cholesky's factor of a covariance, and what is solved with it: dense, row-major, f64.

use rayon::prelude::*;

/// The least share of an untouched diagonal that may be left of a pivot.
const RELATIVE_PIVOT: f64 = 1e-14;

/// Σ a·b.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    // four sums, so that one addition need not wait for the last
    let (mut sums, (a4, b4)) = ([0.0; 4], (a.chunks_exact(4), b.chunks_exact(4)));
    let rest: f64 = a4.remainder().iter().zip(b4.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a4.zip(b4) {
        for lane in 0..4 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    rest + sums.iter().sum::<f64>()
}

/// The Cholesky factor L (A = L·Lᵀ) in place of the lower triangle of a symmetric d×d matrix; what lies above it is of no
/// account. `None` where the matrix is not positive definite.
pub(super) fn cholesky(matrix: &mut [f64], d: usize) -> Option<()> {
    for column in 0..d {
        let (above, below) = matrix.split_at_mut((column + 1) * d);
        let pivot_row = &mut above[column * d..];
        let diagonal = pivot_row[column];
        let pivot = diagonal - dot(&pivot_row[..column], &pivot_row[..column]);
        if pivot.is_nan() || pivot <= RELATIVE_PIVOT * diagonal {
            return None;
        }
        let root = pivot.sqrt();
        pivot_row[column] = root;
        let pivot_row = &pivot_row[..column];
        below.par_chunks_mut(d).with_min_len(64).for_each(|row| {
            row[column] = (row[column] - dot(&row[..column], pivot_row)) / root;
        });
    }
    Some(())
}

/// x with L·x = b, in place of b.
pub(super) fn solve_lower(factor: &[f64], d: usize, b: &mut [f64]) {
    for (at, row) in factor.chunks(d).enumerate() {
        let (done, rest) = b.split_at_mut(at);
        rest[0] = (rest[0] - dot(&row[..at], done)) / row[at];
    }
}
