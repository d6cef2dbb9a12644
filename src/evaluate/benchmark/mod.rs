//! The reference's two experiments, from the files of a folder to a bank and the scores that are compared.
//!
//! `data_sets` finds the data sets of an experiment; `networks` finds the backbones that are compared on them; `steps` says
//! what a [`Part`] is ingested as, and what the bank of a [`Plan`] holds. Not for the table: [`super::evaluate()`] computes it.

mod data_sets;
mod networks;
mod steps;

pub use data_sets::{Experiment, OOD_IMAGES, Part, Plan, is_test_set, plan};
pub use networks::networks;
pub use steps::check_ks;
