//! Class-conditional Gaussians of normalised embeddings, for Mahalanobis distances.
//!
//! Each class has its mean, and all share one covariance: that of the rows about their class means. Plain arithmetic in
//! f64: one pass over the rows, n·d² steps for the covariance, d³/3 for its factor.

use std::collections::HashMap;

use outskirt_exact::Vectors;
use outskirt_kernels::{COLUMNS, add_products, least_squares, solve_lower};
use rayon::prelude::*;

use super::cholesky;

/// Weight of the identity in the covariance, as a share of the mean variance. Directions in which the bank hardly varies
/// (numbers that are 0 in every row, fewer rows than numbers) would else be divided by nothing.
const SHRINKAGE: f64 = 1e-4;
/// Rows that are summed into the covariance at a time.
const ROWS: usize = 256;
/// Rows of the covariance's triangle that one thread takes at a time.
const TRIANGLE_ROWS: usize = 16;

/// Gaussians of one covariance.
#[derive(Debug)]
pub struct Gaussian {
    dimension: usize,
    /// Lower triangle of the covariance's Cholesky factor, row-major d×d.
    factor: Vec<f64>,
    /// Class means multiplied by the factor's inverse, classes×d.
    means: Vec<f64>,
}

impl Gaussian {
    /// Distance of each normalised embedding (n×d) to the nearest class mean, in standard deviations.
    pub fn distances(&self, units: Vectors<'_>) -> Vec<f64> {
        self.squared_distances(units).into_iter().map(f64::sqrt).collect()
    }

    /// The squares of [`Self::distances`].
    pub fn squared_distances(&self, units: Vectors<'_>) -> Vec<f64> {
        let (d, n) = (self.dimension, units.len());
        assert_eq!(units.dimension(), d, "embeddings and Gaussian of one dimension");
        let (mut sides, mut squares) = (vec![0.0; d * COLUMNS], Vec::with_capacity(n));
        for first in (0..n).step_by(COLUMNS) {
            // what is left of others where there are fewer is computed, and not read
            let count = COLUMNS.min(n - first);
            for column in 0..count {
                let values = units.row(first + column).iter().enumerate();
                values.for_each(|(at, &x)| sides[at * COLUMNS + column] = f64::from(x));
            }
            solve_lower(&self.factor, d, &mut sides);
            squares.extend_from_slice(&least_squares(&self.means, d, &sides)[..count]);
        }
        squares
    }

    /// A row on axes along which the rows of a class vary independently, by one standard deviation each.
    pub(crate) fn whiten(&self, unit: &[f32]) -> Vec<f64> {
        let mut whitened: Vec<f64> = unit.iter().map(|&x| f64::from(x)).collect();
        cholesky::solve_lower(&self.factor, self.dimension, &mut whitened);
        whitened
    }

    /// How many classes there are.
    pub fn classes(&self) -> usize {
        self.means.len() / self.dimension
    }
}

/// The squared distance of each normalised embedding to the nearest class, less its squared distance to the Gaussian of all rows:
/// what tells of no class does not count.
pub fn relative_distances(classes: &Gaussian, all: &Gaussian, units: Vectors<'_>) -> Vec<f64> {
    let of_all = all.squared_distances(units);
    classes.squared_distances(units).into_iter().zip(of_all).map(|(nearest, all)| nearest - all).collect()
}

/// Sums over the rows seen so far, from which the Gaussians come.
pub(crate) struct Fit {
    dimension: usize,
    pub(crate) rows: usize,
    /// The first row: it is taken from all, so that sums of squares of rows that lie close together do not cancel.
    first: Vec<f64>,
    /// Rows, less the first, that are not in `products` yet, at most [`ROWS`].
    waiting: Vec<f64>,
    /// Σ x·xᵀ, the upper triangle of d×d.
    products: Vec<f64>,
    /// By class: the number of rows and their sum.
    classes: HashMap<u32, (usize, Vec<f64>)>,
}

impl Fit {
    pub(crate) fn new(dimension: usize) -> Self {
        let (products, waiting) = (vec![0.0; dimension * dimension], Vec::with_capacity(ROWS * dimension));
        Self { dimension, rows: 0, first: Vec::new(), waiting, products, classes: HashMap::new() }
    }

    pub(crate) fn add(&mut self, class: u32, unit: &[f32]) {
        if self.rows == 0 {
            self.first = unit.iter().map(|&x| f64::from(x)).collect();
        }
        let (count, sum) = self.classes.entry(class).or_insert_with(|| (0, vec![0.0; self.dimension]));
        *count += 1;
        self.rows += 1;
        let begin = self.waiting.len();
        self.waiting.extend(unit.iter().zip(&self.first).map(|(&x, first)| f64::from(x) - first));
        for (sum, x) in sum.iter_mut().zip(&self.waiting[begin..]) {
            *sum += x;
        }
        if self.waiting.len() >= ROWS * self.dimension {
            self.flush();
        }
    }

    /// Some rows of the triangle on each thread.
    fn flush(&mut self) {
        let (d, waiting) = (self.dimension, &self.waiting);
        self.products.par_chunks_mut(TRIANGLE_ROWS * d).enumerate().for_each(|(part, products)| {
            add_products(waiting, d, part * TRIANGLE_ROWS, products);
        });
        self.waiting.clear();
    }

    /// `None` where the rows do not vary at all within their classes.
    pub(crate) fn finish(self) -> Option<Gaussian> {
        self.finish_shrunk(SHRINKAGE)
    }

    /// The same, with another weight of the identity in the covariance, as a share of the mean variance.
    pub(crate) fn finish_shrunk(mut self, shrinkage: f64) -> Option<Gaussian> {
        self.flush();
        let (d, n) = (self.dimension, self.rows as f64);
        let mut by_class: Vec<(u32, usize, Vec<f64>)> =
            self.classes.into_iter().map(|(class, (count, sum))| (class, count, sum)).collect();
        // sums in one order, whatever the map's was
        by_class.sort_by_key(|(class, ..)| *class);
        let mut covariance = self.products;
        let mut means = Vec::with_capacity(by_class.len() * d);
        for (_, count, sum) in by_class {
            let count = count as f64;
            for (at, row) in covariance.chunks_mut(d).enumerate() {
                row[at..].iter_mut().zip(&sum[at..]).for_each(|(total, y)| *total -= sum[at] * y / count);
            }
            means.extend(sum.into_iter().zip(&self.first).map(|(total, first)| first + total / count));
        }
        covariance.iter_mut().for_each(|value| *value /= n);
        let trace: f64 = (0..d).map(|at| covariance[at * d + at]).sum();
        let mean_variance = trace / d as f64;
        // of unit vectors: below this, what is left is their rounding to f32
        if mean_variance.is_nan() || mean_variance <= 1e-15 {
            return None;
        }
        for row in 0..d {
            for column in row..d {
                let value = (1.0 - shrinkage) * covariance[row * d + column];
                covariance[column * d + row] = value + if row == column { shrinkage * mean_variance } else { 0.0 };
            }
        }
        let mut factor = covariance;
        cholesky::cholesky(&mut factor, d)?;
        means.par_chunks_mut(d).for_each(|mean| cholesky::solve_lower(&factor, d, mean));
        Some(Gaussian { dimension: d, factor, means })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows that NumPy makes too: see [`distances_equal_numpy`].
    fn row(at: usize, d: usize) -> Vec<f32> {
        let numbers: Vec<f64> =
            (0..d).map(|i| ((at * 7 + i * 13) % 31) as f64 / 31.0 + 0.05 * ((at * at + 3 * i) % 11) as f64).collect();
        let norm = numbers.iter().map(|x| x * x).sum::<f64>().sqrt();
        numbers.iter().map(|x| (x / norm) as f32).collect()
    }

    /// ```python
    /// import numpy as np
    /// def row(a, d=6):
    ///     x = np.array([(a*7 + i*13) % 31 / 31 + 0.05*((a*a + 3*i) % 11) for i in range(d)])
    ///     return (x / np.linalg.norm(x)).astype(np.float32).astype(float)
    /// X = np.array([row(a) for a in range(200)])
    /// def scores(c):
    ///     mu = {k: X[c == k].mean(0) for k in np.unique(c)}
    ///     r = X - np.array([mu[k] for k in c])
    ///     S = r.T @ r / len(X)
    ///     P = np.linalg.inv((1 - 1e-4)*S + 1e-4*np.trace(S)/6*np.eye(6))
    ///     return [min(np.sqrt((q - m) @ P @ (q - m)) for m in mu.values()) for q in map(row, (1000, 1001, 1234))]
    /// print(scores(np.arange(200) % 3), scores(np.zeros(200)))
    /// ```
    #[test]
    fn distances_equal_numpy() {
        let three = [2.1030723923486554, 2.999169399156798, 2.257648486071887];
        let one = [2.107702954128418, 3.051570476705492, 2.2653966064042264];
        for (classes, expected) in [(3, three), (1, one)] {
            let mut fit = Fit::new(6);
            (0..200).for_each(|at| fit.add((at % classes) as u32, &row(at, 6)));
            let gaussian = fit.finish().unwrap();
            for (at, expected) in [1000, 1001, 1234].into_iter().zip(expected) {
                let found = gaussian.distances(Vectors::new(&row(at, 6), 6))[0];
                assert!((found - expected).abs() < 1e-9 * expected, "{classes} classes, row {at}: {found}, {expected}");
            }
        }
    }

    /// As above, with
    /// ```python
    /// def parts(c):
    ///     mu = {k: X[c == k].mean(0) for k in np.unique(c)}
    ///     r = X - np.array([mu[k] for k in c]); S = r.T @ r / len(X)
    ///     P = np.linalg.inv((1 - 1e-4)*S + 1e-4*np.trace(S)/6*np.eye(6))
    ///     return [min((q - m) @ P @ (q - m) for m in mu.values()) for q in map(row, (1000, 1001, 1234))]
    /// print(np.subtract(parts(np.arange(200) % 3), parts(np.zeros(200))))
    /// ```
    #[test]
    fn relative_distances_equal_numpy() {
        let fitted = |classes: usize| {
            let mut fit = Fit::new(6);
            (0..200).for_each(|at| fit.add((at % classes) as u32, &row(at, 6)));
            fit.finish().unwrap()
        };
        let (classes, all) = (fitted(3), fitted(1));
        assert_eq!((classes.classes(), all.classes()), (3, 1));
        for (at, expected) in
            [(1000, -0.019498255382562668), (1001, -0.31706528946203427), (1234, -0.035045097645102885)]
        {
            let found = relative_distances(&classes, &all, Vectors::new(&row(at, 6), 6))[0];
            assert!((found - expected).abs() < 1e-8, "row {at}: {found}, {expected}");
        }
    }

    #[test]
    fn many_numbers_and_few_rows_are_regular() {
        // 40 numbers, 10 rows, and more than one block of rows
        for rows in [10, 1000] {
            let mut fit = Fit::new(40);
            (0..rows).for_each(|at| fit.add(0, &row(at, 40)));
            let gaussian = fit.finish().unwrap();
            let far = row(5000, 40).iter().map(|x| -x).collect::<Vec<_>>();
            let found = gaussian.distances(Vectors::new(&[row(3, 40), far].concat(), 40));
            assert!(found[0].is_finite() && found[0] < found[1], "{found:?}");
        }
    }

    /// Sums of x·xᵀ less n·m·mᵀ would be rounding here: what is left of 1 is 1e-12.
    #[test]
    fn rows_that_lie_close_together_have_their_own_covariance() {
        let spread = |at: usize, i: usize| 1e-6 * (((at * 7 + i * 13) % 31) as f64 / 31.0 - 0.5);
        let rows: Vec<[f32; 3]> = (0..300)
            .map(|_| [0.6, 0.8, 0.5])
            .enumerate()
            .map(|(at, centre)| std::array::from_fn(|i| (centre[i] + spread(at, i)) as f32))
            .collect();
        let mut fit = Fit::new(3);
        rows.iter().for_each(|row| fit.add(0, row));
        let gaussian = fit.finish().unwrap();
        // two passes, with the same share of the identity
        let wide: Vec<[f64; 3]> = rows.iter().map(|row| row.map(f64::from)).collect();
        let mean: [f64; 3] = std::array::from_fn(|i| wide.iter().map(|row| row[i]).sum::<f64>() / 300.0);
        let mut covariance = vec![0.0; 9];
        for row in &wide {
            for (at, value) in covariance.iter_mut().enumerate() {
                *value += (row[at / 3] - mean[at / 3]) * (row[at % 3] - mean[at % 3]) / 300.0;
            }
        }
        let mean_variance = (covariance[0] + covariance[4] + covariance[8]) / 3.0;
        for (at, value) in covariance.iter_mut().enumerate() {
            *value *= 1.0 - SHRINKAGE;
            *value += if at % 4 == 0 { SHRINKAGE * mean_variance } else { 0.0 };
        }
        cholesky::cholesky(&mut covariance, 3).unwrap();
        for row in [&rows[0], &rows[17], &[0.6, 0.8, 0.500_002]] {
            let mut whitened: Vec<f64> = row.iter().zip(mean).map(|(&x, mean)| f64::from(x) - mean).collect();
            cholesky::solve_lower(&covariance, 3, &mut whitened);
            let expected = whitened.iter().map(|x| x * x).sum::<f64>().sqrt();
            let found = gaussian.distances(Vectors::new(row, 3))[0];
            assert!((found - expected).abs() < 1e-3 * expected.max(1.0), "{found}, {expected}");
        }
    }

    /// One row after the other, each by itself.
    #[test]
    fn distances_of_many_rows_are_those_of_each() {
        for d in [5, 64] {
            let mut fit = Fit::new(d);
            (0..400).for_each(|at| fit.add((at % 5) as u32, &row(at, d)));
            let gaussian = fit.finish().unwrap();
            let rows: Vec<Vec<f32>> = (1000..1037).map(|at| row(at, d)).collect();
            let found = gaussian.squared_distances(Vectors::new(&rows.concat(), d));
            for (row, found) in rows.iter().zip(found) {
                let whitened = gaussian.whiten(row);
                let to = |mean: &[f64]| mean.iter().zip(&whitened).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
                let expected = gaussian.means.chunks(d).map(to).fold(f64::INFINITY, f64::min);
                assert!((found - expected).abs() <= 1e-10 * expected, "{found}, {expected}");
            }
        }
    }

    #[test]
    fn rows_that_do_not_vary_have_no_covariance() {
        let mut fit = Fit::new(2);
        (0..5).for_each(|_| fit.add(0, &[0.6, 0.8]));
        assert!(fit.finish().is_none());
    }
}
