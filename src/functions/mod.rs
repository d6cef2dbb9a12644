//! SQL functions, one per file and named as in SQL; [`register_all`] is the list.
//!
//! Functions check what they can at planning (bank, dimension, k, rate), read no table themselves, and keep
//! their meaning in [`crate::score`], [`crate::metrics`] and [`crate::bank`]. Shared pieces: `arguments` (what a
//! call may look like), `samples` (the state of the aggregates).

mod arguments;
mod auroc;
mod fpr_at_tpr;
mod is_ood;
mod knn_ood_score;
mod knn_ood_threshold;
mod samples;
mod settings;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

pub use settings::Settings;

use crate::bank::Banks;

/// Register every function of Outskirt. The session's options need [`Settings`] as an extension.
pub fn register_all(registry: &mut dyn FunctionRegistry, banks: &Arc<Banks>) -> Result<()> {
    let scalars: [ScalarUDF; 3] = [
        knn_ood_score::KnnOodScore::new(banks).into(),
        is_ood::IsOod::new(banks).into(),
        knn_ood_threshold::KnnOodThreshold::new(banks).into(),
    ];
    let aggregates: [AggregateUDF; 2] = [auroc::Auroc::new().into(), fpr_at_tpr::FprAtTpr::new().into()];
    for function in scalars {
        registry.register_udf(Arc::new(function))?;
    }
    for function in aggregates {
        registry.register_udaf(Arc::new(function))?;
    }
    Ok(())
}
