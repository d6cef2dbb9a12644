//! Surrogates: vectors in the unit ball whose Euclidean distances are in the order of a metric.
//!
//! | metric | a row x | a query q | D² = ‖q̂ − x̂‖² |
//! |---|---|---|---|
//! | Euclidean | s(x − m), in a ball of radius ¼ | s(q − m), where that is in the unit ball | s²‖q − x‖² |
//! | cosine | x / ‖x‖ | q / ‖q‖ | 2 − 2 cos |
//! | inner product | (sx, √(1 − ‖sx‖²)) | (q / ‖q‖, 0) | ‖q̂‖² + 1 − 2s⟨q, x⟩ / ‖q‖ |
//!
//! m is the mean of the rows, and s brings the longest of them to ¼ or to 1. The right column, as a function of the
//! value that a metric has in f64, is the *figure*; surrogates in f32 miss it by no more than a [`Blur`], which
//! [`crate::slack`] derives. The mapping to the sphere for inner products is that of Bachrach et al., *Speeding Up the
//! Xbox Recommender System Using a Euclidean Transformation for Inner-Product Spaces*, RecSys 2014.

use rayon::prelude::*;

use crate::lanes::Rows;
use crate::metric::Metric;
use crate::slack::{BALL, Blur};
use crate::vectors::{Vectors, product};

/// How the vectors of one collection become surrogates.
#[derive(Debug)]
pub(crate) struct Surrogates {
    metric: Metric,
    /// m; none: 0.
    mean: Option<Vec<f64>>,
    scale: f64,
    /// How much they miss.
    pub(crate) blur: Blur,
}

/// What a query's figures are computed with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scaled {
    /// What inner products with the query are multiplied by.
    scale: f64,
    /// ‖q̂‖².
    square: f64,
}

impl Surrogates {
    /// For rows, n ≥ 1, all finite.
    pub(crate) fn new(metric: Metric, rows: Vectors<'_>) -> Self {
        let mean = (metric == Metric::Euclidean).then(|| mean(rows));
        let mut this = Self { metric, mean, scale: 1.0, blur: Blur::of(metric, rows.dimension()) };
        let square = |row: usize| this.placed(rows.row(row)).map(|value| value * value).sum::<f64>();
        let squares = (0..rows.len()).into_par_iter().with_min_len(64).map(square);
        let longest = squares.reduce(|| 0.0, f64::max).sqrt();
        if longest > 0.0 && metric != Metric::Cosine {
            this.scale = (if metric == Metric::Euclidean { BALL } else { 1.0 }) / longest;
        }
        this
    }

    /// Numbers of the surrogate of a vector of d.
    pub(crate) fn dimension(metric: Metric, d: usize) -> usize {
        d + usize::from(metric == Metric::InnerProduct)
    }

    /// Of rows.
    pub(crate) fn rows(&self, rows: Vectors<'_>) -> Rows {
        let d = Self::dimension(self.metric, rows.dimension());
        let mut all = Rows::with_capacity(rows.len(), d);
        let mut row = Vec::with_capacity(d);
        for i in 0..rows.len() {
            let scale = self.scale / if self.metric == Metric::Cosine { norm(rows.row(i)) } else { 1.0 };
            row.clear();
            row.extend(self.placed(rows.row(i)).map(|value| (value * scale) as f32));
            if self.metric == Metric::InnerProduct {
                row.push((1.0 - product(&row, &row)).max(0.0).sqrt() as f32);
            }
            all.push(&row);
        }
        all
    }

    /// Append that of a query; `None`, and a vector of zeros in its place, where it would be outside of the unit ball.
    pub(crate) fn query(&self, query: &[f32], out: &mut Vec<f32>) -> Option<Scaled> {
        let first = out.len();
        let scale = match (self.metric, norm(query)) {
            (Metric::Euclidean, _) => self.scale,
            (_, norm) => 1.0 / if norm > 0.0 { norm } else { 1.0 },
        };
        let square = self.placed(query).map(|value| (value * scale) * (value * scale)).sum::<f64>();
        let is_inside = self.metric != Metric::Euclidean || square <= 1.0;
        out.extend(self.placed(query).map(|value| if is_inside { (value * scale) as f32 } else { 0.0 }));
        if self.metric == Metric::InnerProduct {
            out.push(0.0);
        }
        is_inside.then(|| Scaled { scale: scale * self.scale, square: product(&out[first..], &out[first..]) })
    }

    /// The figure of a value; below any where nothing is that near.
    pub(crate) fn figure(&self, query: Scaled, value: f64) -> f64 {
        match self.metric {
            Metric::Euclidean if value < 0.0 => f64::NEG_INFINITY,
            Metric::Euclidean => (self.scale * value) * (self.scale * value),
            Metric::Cosine => 2.0 - 2.0 * value,
            Metric::InnerProduct => query.square + 1.0 - 2.0 * query.scale * value,
        }
    }

    /// x − m, or x. Of two f32, or of one and an f64, the difference is off by a rounding of itself.
    fn placed<'a>(&'a self, vector: &'a [f32]) -> impl Iterator<Item = f64> + 'a {
        let mean = self.mean.iter().flatten().copied().chain(std::iter::repeat(0.0));
        vector.iter().zip(mean).map(|(&value, mean)| f64::from(value) - mean)
    }
}

fn norm(vector: &[f32]) -> f64 {
    product(vector, vector).sqrt()
}

/// Mean of the rows.
fn mean(rows: Vectors<'_>) -> Vec<f64> {
    let mut sums = vec![0.0; rows.dimension()];
    for row in 0..rows.len() {
        sums.iter_mut().zip(rows.row(row)).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    sums.iter_mut().for_each(|sum| *sum /= rows.len() as f64);
    sums
}
