//! The reference's table, computed through SQL; the data sets of its experiments; and what would make such a table wrong.
//!
//! [`evaluate`] asks a session for FPR95, AUROC, AUIN and AUOUT of each OOD set; [`benchmark`] finds the data sets of the
//! paper's experiments in a folder; [`sanity`] looks for collapsed embeddings, copies and leaks, [`held_back`] for choices that
//! were made by test images; [`baselines()`] says which scores a bank can be compared by. Not for the metrics themselves:
//! those are [`crate::statistics::metrics`].

mod baselines;
pub mod benchmark;
pub mod held_back;
pub mod sanity;
mod table;

pub use baselines::{Baselines, baselines};
pub use table::{Compared, EvaluatedSet, Evaluation, evaluate};
