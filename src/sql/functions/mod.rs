//! SQL functions, one per file and named as in SQL; [`register_all`] is the list.
//!
//! Functions check what they can at planning (bank, dimension, k, rate), read no table themselves, and keep
//! their meaning in [`crate::statistics::thresholds`], [`crate::statistics::metrics`] and [`crate::bank`]. Shared pieces: `arguments` (what a
//! call may look like), `row_score` (functions that give each row a number), `logits` (those of a classifier's output), `samples` (the aggregates).

pub(crate) mod arguments;
mod aupr_in;
mod aupr_out;
mod auroc;
mod bh_reject;
mod detection_error;
pub(crate) mod embed;
mod energy_score;
mod fpr_at_tpr;
pub(crate) mod is_ood;
mod knn_density_ratio;
mod knn_lid;
mod knn_mean_distance;
mod knn_neighbors;
pub(crate) mod knn_ood_pvalue;
pub(crate) mod knn_ood_score;
mod knn_ood_threshold;
mod logits;
pub(crate) mod mahalanobis_score;
mod msp_score;
mod reference;
mod row_score;
mod samples;
pub(crate) mod settings;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};

pub use reference::reference;
pub use settings::Settings;

use crate::bank::Banks;
use crate::sql::networks::Networks;

/// Metadata key of a column of p-values: the number of calibration images that they come from.
const CALIBRATION_ROWS: &str = "outskirt.calibration_rows";

fn scalars(banks: &Arc<Banks>, networks: &Arc<Networks>) -> Vec<ScalarUDF> {
    vec![
        knn_ood_score::udf(banks),
        knn_neighbors::KnnNeighbors::new(banks).into(),
        knn_mean_distance::udf(banks),
        knn_density_ratio::udf(banks),
        knn_lid::udf(banks),
        is_ood::IsOod::new(banks).into(),
        knn_ood_threshold::KnnOodThreshold::new(banks).into(),
        knn_ood_pvalue::KnnOodPvalue::new(banks).into(),
        msp_score::MspScore::new().into(),
        energy_score::EnergyScore::new().into(),
        mahalanobis_score::MahalanobisScore::new(banks).into(),
        embed::Embed::new(networks).into(),
    ]
}

/// Whether a function of this name compares every row with a bank.
pub(crate) fn searches(name: &str) -> bool {
    name == is_ood::NAME
        || name == mahalanobis_score::NAME
        || name.starts_with("knn_") && name != knn_ood_threshold::NAME
}

fn aggregates() -> Vec<AggregateUDF> {
    vec![auroc::udf(), fpr_at_tpr::FprAtTpr::new().into(), aupr_in::udf(), aupr_out::udf(), detection_error::udf()]
}

fn windows() -> Vec<WindowUDF> {
    vec![bh_reject::BhReject::new().into()]
}

/// Register every function of Outskirt, over these banks and networks. The session's options need [`Settings`] as an extension.
pub fn register_all(registry: &mut dyn FunctionRegistry, banks: &Arc<Banks>, networks: &Arc<Networks>) -> Result<()> {
    for function in scalars(banks, networks) {
        registry.register_udf(Arc::new(function))?;
    }
    for function in aggregates() {
        registry.register_udaf(Arc::new(function))?;
    }
    for function in windows() {
        registry.register_udwf(Arc::new(function))?;
    }
    Ok(())
}
