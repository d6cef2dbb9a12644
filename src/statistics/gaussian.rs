//! Class-conditional Gaussians of normalised embeddings, for Mahalanobis distances.
//!
//! Each class has its mean, and all share one covariance: that of the rows about their class means. Plain arithmetic in
//! f64: one pass over the rows, n·d² steps for the covariance, d³/3 for its factor.

use std::collections::HashMap;

use rayon::prelude::*;

use super::cholesky::{cholesky, solve_lower};

/// Weight of the identity in the covariance, as a share of the mean variance. Directions in which the bank hardly varies
/// (numbers that are 0 in every row, fewer rows than numbers) would else be divided by nothing.
const SHRINKAGE: f64 = 1e-4;
/// Rows that are summed into the covariance at a time.
const ROWS: usize = 256;

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
    /// Distance of a normalised embedding to the nearest class mean, in standard deviations.
    pub fn distance(&self, unit: &[f32]) -> f64 {
        self.squared_distance(unit).sqrt()
    }

    /// The square of [`Self::distance`].
    pub fn squared_distance(&self, unit: &[f32]) -> f64 {
        let whitened = self.whiten(unit);
        let squares = self
            .means
            .chunks(self.dimension)
            .map(|mean| mean.iter().zip(&whitened).map(|(a, b)| (a - b) * (a - b)).sum::<f64>());
        squares.fold(f64::INFINITY, f64::min)
    }

    /// A row on axes along which the rows of a class vary independently, by one standard deviation each.
    pub(crate) fn whiten(&self, unit: &[f32]) -> Vec<f64> {
        let mut whitened: Vec<f64> = unit.iter().map(|&x| f64::from(x)).collect();
        solve_lower(&self.factor, self.dimension, &mut whitened);
        whitened
    }

    /// How many classes there are.
    pub fn classes(&self) -> usize {
        self.means.len() / self.dimension
    }
}

/// The squared distance of a normalised embedding to the nearest class, less its squared distance to the Gaussian of all rows:
/// what tells of no class does not count.
pub fn relative_distance(classes: &Gaussian, all: &Gaussian, unit: &[f32]) -> f64 {
    classes.squared_distance(unit) - all.squared_distance(unit)
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

    /// Each row of the triangle by itself; four of the waiting rows at a time, so that it is read and written less often.
    fn flush(&mut self) {
        let (d, waiting) = (self.dimension, &self.waiting);
        self.products.par_chunks_mut(d).enumerate().for_each(|(at, products)| {
            let products = &mut products[at..];
            let mut four = waiting.chunks_exact(4 * d);
            for rows in &mut four {
                let (r0, rest) = rows.split_at(d);
                let (r1, rest) = rest.split_at(d);
                let (r2, r3) = rest.split_at(d);
                let (x0, x1, x2, x3) = (r0[at], r1[at], r2[at], r3[at]);
                let others = r0[at..].iter().zip(&r1[at..]).zip(r2[at..].iter().zip(&r3[at..]));
                for (sum, ((y0, y1), (y2, y3))) in products.iter_mut().zip(others) {
                    *sum += x0 * y0 + x1 * y1 + x2 * y2 + x3 * y3;
                }
            }
            for row in four.remainder().chunks(d) {
                let x = row[at];
                products.iter_mut().zip(&row[at..]).for_each(|(sum, y)| *sum += x * y);
            }
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
        cholesky(&mut factor, d)?;
        means.par_chunks_mut(d).for_each(|mean| solve_lower(&factor, d, mean));
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
                let found = gaussian.distance(&row(at, 6));
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
            let found = relative_distance(&classes, &all, &row(at, 6));
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
            assert!(gaussian.distance(&row(3, 40)).is_finite());
            assert!(
                gaussian.distance(&row(3, 40))
                    < gaussian.distance(&row(5000, 40).iter().map(|x| -x).collect::<Vec<_>>())
            );
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
        cholesky(&mut covariance, 3).unwrap();
        for row in [&rows[0], &rows[17], &[0.6, 0.8, 0.500_002]] {
            let mut whitened: Vec<f64> = row.iter().zip(mean).map(|(&x, mean)| f64::from(x) - mean).collect();
            solve_lower(&covariance, 3, &mut whitened);
            let expected = whitened.iter().map(|x| x * x).sum::<f64>().sqrt();
            let found = gaussian.distance(row);
            assert!((found - expected).abs() < 1e-3 * expected.max(1.0), "{found}, {expected}");
        }
    }

    #[test]
    fn rows_that_do_not_vary_have_no_covariance() {
        let mut fit = Fit::new(2);
        (0..5).for_each(|_| fit.add(0, &[0.6, 0.8]));
        assert!(fit.finish().is_none());
    }
}
