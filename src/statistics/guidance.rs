//! Similarity to the rows of a bank, each weighed by how sure its classifier was: what NNGuide multiplies an energy with.

use outskirt_exact::Vectors;
use rayon::prelude::*;

use super::cholesky::dot;

/// Rows that a block of queries is compared with while they are in the cache.
const ROWS: usize = 128;
/// Queries of a block.
const QUERIES: usize = 16;

/// log Σ exp(logits / t), times t, of finite logits, at least one.
pub fn log_sum_exp(logits: &[f32], t: f64) -> f64 {
    let largest = logits.iter().fold(f64::NEG_INFINITY, |most, &logit| most.max(f64::from(logit)));
    let sum: f64 = logits.iter().map(|&logit| ((f64::from(logit) - largest) / t).exp()).sum();
    largest + t * sum.ln()
}

/// Normalised rows of a bank, n×d, each with a weight.
#[derive(Debug)]
pub struct Guide {
    dimension: usize,
    classes: usize,
    units: Vec<f32>,
    weights: Vec<f64>,
}

impl Guide {
    /// `classes` is how many logits each weight is of.
    pub(crate) fn with_capacity(rows: usize, dimension: usize, classes: usize) -> Self {
        Self { dimension, classes, units: Vec::with_capacity(rows * dimension), weights: Vec::with_capacity(rows) }
    }

    pub(crate) fn push(&mut self, unit: &[f32], weight: f64) {
        self.units.extend_from_slice(unit);
        self.weights.push(weight);
    }

    /// Number of rows, n.
    pub fn rows(&self) -> usize {
        self.weights.len()
    }

    /// Logits that a row's classifier gives.
    pub(crate) fn classes(&self) -> usize {
        self.classes
    }

    /// Bytes that it holds, about.
    pub(crate) fn bytes(&self) -> u64 {
        (size_of_val(&*self.units) + size_of_val(&*self.weights)) as u64
    }

    /// For each normalised query (m×d) the mean of the k largest of weight · cosine over the rows, 1 ≤ k ≤ n. Every row is
    /// compared, in f64: which of them are the largest is never estimated.
    pub fn mean_of_largest(&self, queries: Vectors<'_>, k: usize) -> Vec<f64> {
        let blocks: Vec<Vec<f64>> = (0..queries.len().div_ceil(QUERIES))
            .into_par_iter()
            .map(|block| {
                let from = block * QUERIES;
                self.block(queries.rows(from, (from + QUERIES).min(queries.len())), k)
            })
            .collect();
        blocks.concat()
    }

    fn block(&self, queries: Vectors<'_>, k: usize) -> Vec<f64> {
        let wide = |row: &[f32]| row.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let queries: Vec<Vec<f64>> = (0..queries.len()).map(|query| wide(queries.row(query))).collect();
        let mut largest = vec![Largest::new(k); queries.len()];
        for (rows, weights) in self.units.chunks(ROWS * self.dimension).zip(self.weights.chunks(ROWS)) {
            let rows = wide(rows);
            for (query, largest) in queries.iter().zip(&mut largest) {
                for (row, weight) in rows.chunks(self.dimension).zip(weights) {
                    largest.offer(weight * dot(row, query));
                }
            }
        }
        largest.into_iter().map(Largest::mean).collect()
    }
}

/// The k largest of many numbers.
#[derive(Debug, Clone)]
struct Largest {
    k: usize,
    /// Those and some that may turn out not to be, fewer than 2k + 64.
    kept: Vec<f64>,
    /// What a number must exceed, once k were as large as this.
    bar: f64,
}

impl Largest {
    fn new(k: usize) -> Self {
        Self { k, kept: Vec::with_capacity(2 * k + 64), bar: f64::NEG_INFINITY }
    }

    fn offer(&mut self, number: f64) {
        if number > self.bar {
            self.kept.push(number);
            if self.kept.len() == 2 * self.k + 64 {
                self.cut();
            }
        }
    }

    fn cut(&mut self) {
        if self.kept.len() > self.k {
            self.bar = *self.kept.select_nth_unstable_by(self.k - 1, |a, b| b.total_cmp(a)).1;
            self.kept.truncate(self.k);
        }
    }

    /// Added up from the largest on, so that the sum does not depend on the order in which they came.
    fn mean(mut self) -> f64 {
        self.cut();
        self.kept.sort_unstable_by(|a, b| b.total_cmp(a));
        self.kept.iter().sum::<f64>() / self.k as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows and logits that NumPy makes too.
    fn row(at: usize) -> Vec<f32> {
        let numbers: Vec<f64> =
            (0..6).map(|i| ((at * 7 + i * 13) % 31) as f64 / 31.0 + 0.05 * ((at * at + 3 * i) % 11) as f64).collect();
        let norm = numbers.iter().map(|x| x * x).sum::<f64>().sqrt();
        numbers.iter().map(|x| (x / norm) as f32).collect()
    }

    fn logits(at: usize) -> Vec<f32> {
        (0..4).map(|class| ((at * 5 + class * 11) % 17) as f32 / 4.0).collect()
    }

    /// ```python
    /// import numpy as np; from scipy.special import logsumexp
    /// def row(a, d=6):
    ///     x = np.array([(a*7 + i*13) % 31 / 31 + 0.05*((a*a + 3*i) % 11) for i in range(d)])
    ///     return (x / np.linalg.norm(x)).astype(np.float32).astype(float)
    /// logits = lambda a: np.array([((a*5 + c*11) % 17) / 4 for c in range(4)])
    /// X = np.array([row(a) for a in range(200)]); w = logsumexp([logits(a) for a in range(200)], axis=1)
    /// for a in (1000, 1001, 1234):
    ///     for k in (1, 10): print(a, k, -logsumexp(logits(a)) * np.sort(w * (X @ row(a)))[-k:].mean())
    /// ```
    #[test]
    fn scores_equal_numpy() {
        let mut guide = Guide::with_capacity(200, 6, 4);
        (0..200).for_each(|at| guide.push(&row(at), log_sum_exp(&logits(at), 1.0)));
        assert_eq!(guide.rows(), 200);
        for (at, k, expected) in [
            (1000, 1, -16.299776066036177),
            (1000, 10, -15.4974137114162),
            (1001, 1, -15.68935777177138),
            (1001, 10, -14.91029584657209),
            (1234, 1, -21.60618513710063),
            (1234, 10, -20.59448249323174),
        ] {
            let found = guide.mean_of_largest(Vectors::new(&row(at), 6), k)[0] * -log_sum_exp(&logits(at), 1.0);
            assert!((found - expected).abs() < 1e-9 * expected.abs(), "{at}, {k}: {found}, {expected}");
        }
    }

    /// Sorting all products, for more queries and rows than a block has, negative weights and copies among them.
    #[test]
    fn blocks_and_bars_leave_nothing_out() {
        let mut guide = Guide::with_capacity(700, 6, 4);
        let weight = |at: usize| ((at * 37) % 101) as f64 / 10.0 - 5.0;
        (0..700).for_each(|at| guide.push(&row(at % 450), weight(at)));
        let queries: Vec<f32> = (0..50).flat_map(|at| row(2000 + at)).collect();
        let queries = Vectors::new(&queries, 6);
        for k in [1, 7, 300, 700] {
            let found = guide.mean_of_largest(queries, k);
            for (query, found) in found.iter().enumerate() {
                let product = |at: usize| {
                    let pairs = row(at % 450).into_iter().zip(queries.row(query));
                    weight(at) * pairs.map(|(x, &y)| f64::from(x) * f64::from(y)).sum::<f64>()
                };
                let mut all: Vec<f64> = (0..700).map(product).collect();
                all.sort_unstable_by(f64::total_cmp);
                let expected = all[700 - k..].iter().sum::<f64>() / k as f64;
                assert!((found - expected).abs() < 1e-12, "{query}, {k}: {found}, {expected}");
            }
        }
    }
}
