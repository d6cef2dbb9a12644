//! The list of the SQL functions.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};

use super::embedding_samples::EmbeddingTest;
use super::samples::MetricFunction;
use super::{
    aupr_in, aupr_out, auroc, auroc_interval, bh_reject, classifier_two_sample_auroc, detection_error, embed,
    energy_score, fpr_at_tpr, fpr_at_tpr_interval, gen_score, hamming_distance, is_ood, knn_density_ratio, knn_lid,
    knn_mean_distance, knn_neighbors, knn_ood_pvalue, knn_ood_score, knn_ood_threshold, ks_test, mahalanobis_score,
    max_logit_score, mmd_test, msp_score, nnguide_score, rmds_score,
};
use crate::bank::Banks;
use crate::sql::networks::Networks;

pub(super) fn scalars(banks: &Arc<Banks>, networks: &Arc<Networks>) -> Vec<ScalarUDF> {
    vec![
        knn_ood_score::FUNCTION.udf(banks),
        knn_neighbors::FUNCTION.udf(banks),
        knn_mean_distance::FUNCTION.udf(banks),
        knn_density_ratio::FUNCTION.udf(banks),
        knn_lid::FUNCTION.udf(banks),
        is_ood::FUNCTION.udf(banks),
        knn_ood_threshold::FUNCTION.udf(banks),
        knn_ood_pvalue::FUNCTION.udf(banks),
        msp_score::FUNCTION.udf(),
        energy_score::FUNCTION.udf(),
        max_logit_score::FUNCTION.udf(),
        gen_score::FUNCTION.udf(),
        mahalanobis_score::FUNCTION.udf(banks),
        rmds_score::FUNCTION.udf(banks),
        nnguide_score::FUNCTION.udf(banks),
        hamming_distance::HammingDistance::new().into(),
        embed::Embed::new(networks).into(),
    ]
}

pub(crate) fn aggregates() -> Vec<AggregateUDF> {
    let metrics = [
        &auroc::FUNCTION,
        &auroc_interval::FUNCTION,
        &fpr_at_tpr::FUNCTION,
        &fpr_at_tpr_interval::FUNCTION,
        &aupr_in::FUNCTION,
        &aupr_out::FUNCTION,
        &detection_error::FUNCTION,
        &ks_test::FUNCTION,
    ];
    let of_embeddings = [&mmd_test::FUNCTION, &classifier_two_sample_auroc::FUNCTION];
    metrics.map(MetricFunction::udf).into_iter().chain(of_embeddings.map(EmbeddingTest::udf)).collect()
}

pub(crate) fn windows() -> Vec<WindowUDF> {
    vec![bh_reject::BhReject::new().into()]
}

/// A function of a row by name, over these banks; not `embed`, whose networks are a session's.
#[cfg(feature = "cluster")]
pub(crate) fn scalar(name: &str, banks: &Arc<Banks>) -> Option<ScalarUDF> {
    let networks = Arc::new(Networks::built_in());
    scalars(banks, &networks).into_iter().find(|function| function.name() == name && name != embed::NAME)
}

/// Register every function of Outskirt, over these banks and networks. The session's options need [`Settings`] as an
/// extension.
///
/// [`Settings`]: super::Settings
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
