//! SQL functions, one per file and named as in SQL; [`register_all`] is the list.
//!
//! Functions check what they can at planning (bank, dimension, k, rate), read no table themselves, and keep their meaning
//! in [`crate::statistics::thresholds`], [`crate::statistics::metrics`] and [`crate::bank`]. A file says what a function
//! takes, its documentation, and in a plain function what it computes; DataFusion's interface is written once for each
//! family: `bank_function` (functions of a bank, whose calls `arguments` resolves and whose embeddings are
//! `query_vectors`), `logits` (those of a classifier's output), `samples` and `embedding_samples` (the aggregates, of scores and
//! of embeddings).

pub(crate) mod arguments;
mod aupr_in;
mod aupr_out;
mod auroc;
mod auroc_interval;
pub(crate) mod bank_function;
mod bh_reject;
mod classifier_two_sample_auroc;
mod detection_error;
pub(crate) mod embed;
mod embedding_samples;
mod energy_score;
mod fpr_at_tpr;
mod fpr_at_tpr_interval;
mod gen_score;
mod hamming_distance;
pub(crate) mod is_ood;
mod knn_density_ratio;
mod knn_lid;
mod knn_mean_distance;
mod knn_neighbors;
pub(crate) mod knn_ood_pvalue;
pub(crate) mod knn_ood_score;
pub(crate) mod knn_ood_threshold;
mod ks_test;
mod logits;
mod mahalanobis_score;
mod max_logit_score;
mod mmd_test;
mod msp_score;
mod nnguide_score;
pub(crate) mod query_vectors;
mod reference;
mod register;
mod rmds_score;
mod samples;
pub(crate) mod settings;
mod structs;

pub use reference::reference;
pub use register::register_all;
#[cfg(feature = "cluster")]
pub(crate) use register::{aggregates, scalar, windows};
pub use settings::Settings;
