//! Numbers about scores: plain functions on slices, without a table, a bank or SQL.
//!
//! [`thresholds`] has what a calibration decides (thresholds, p-values, Benjamini-Hochberg) and what neighbours tell beside
//! the k-th distance; [`metrics`] says how well scores tell ID from OOD, by the reference code's conventions; [`deviation`] how far
//! embeddings in one precision are from those in another; [`gaussian`] fits class-conditional Gaussians; `sampling`
//! decides which rows a share of a bank keeps. Not for searching: distances come from [`crate::index`].

pub mod deviation;
pub mod gaussian;
pub mod metrics;
pub(crate) mod sampling;
pub mod thresholds;
