//! The reference's table, computed through SQL; the data sets of its experiments; and what would make such a table wrong.
//!
//! [`evaluate`] asks a session for FPR95, AUROC, AUIN and AUOUT of each OOD set; [`benchmark`] finds the data sets of the
//! paper's experiments in a folder; [`sanity`] looks for collapsed embeddings, copies and leaks. Not for the metrics themselves:
//! those are [`crate::statistics::metrics`].

pub mod benchmark;
pub mod sanity;
mod table;

pub use table::{Compared, EvaluatedSet, Evaluation, evaluate, has_logits};
