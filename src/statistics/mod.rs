//! Numbers about scores: plain functions on slices, without a table, a bank or SQL.
//!
//! [`thresholds`] has what a calibration decides (thresholds, p-values, Benjamini-Hochberg) and what neighbours tell beside
//! the k-th distance; [`metrics`] says how well scores tell ID from OOD, by the reference code's conventions, and [`intervals`]
//! how sure that is. Whether two samples differ is asked in three ways: [`kolmogorov`] of scores, [`discrepancy`] and
//! [`classifier`] of embeddings. [`gaussian`] fits class-conditional Gaussians (`cholesky` is its algebra), [`guidance`] weighs
//! neighbours by their logits, [`coverage`] chooses a few rows that stand for many, [`hamming`] finds words that differ in few bits, [`deviation`] tells how far embeddings in one precision are from those in another, `sampling`
//! decides which rows a share of a bank keeps. Not for searching: distances come from [`crate::index`].

mod cholesky;
pub mod classifier;
pub mod coverage;
pub mod deviation;
pub mod discrepancy;
pub mod gaussian;
pub mod guidance;
pub mod hamming;
pub mod intervals;
pub mod kolmogorov;
pub mod metrics;
mod normal;
pub(crate) mod sampling;
#[cfg(test)]
pub(crate) mod simulated;
pub mod thresholds;
