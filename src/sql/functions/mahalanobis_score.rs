//! `mahalanobis_score(embedding, bank)`: distance to the nearest class of a bank, in standard deviations.

use std::sync::Arc;

use arrow::array::Float64Array;
use arrow::datatypes::{DataType, Field};
use datafusion_macros::user_doc;

use super::arguments::Parameter;
use super::bank_function::{BankFunction, Compute};
use super::query_vectors::QueryVectors;
use crate::bank::Classes;
use crate::statistics::gaussian::Gaussian;

#[user_doc(
    doc_section(label = "Baselines"),
    description = "DOUBLE ≥ 0, larger is more OOD: Mahalanobis distance, of L2-normalised embeddings, to the nearest class mean of the bank. Classes are the values of `label` in the bank's version of `images`; rows without one are a class of their own, so a bank without labels has one class. The covariance is one for all classes: that of the bank's rows about their class means, (1 − 1e-4)·S + 1e-4·(tr S / d)·I, so that directions in which the bank does not vary stay finite. Sehwag, Chiang, Mittal: *SSD: A Unified Framework for Self-Supervised Outlier Detection*, ICLR 2021, whose score is its square with a covariance for each class. It is fitted when the first row asks, in n · d² steps.",
    syntax_example = "mahalanobis_score(embedding, bank)",
    argument(name = "embedding", description = "As for `knn_ood_score`."),
    argument(name = "bank", description = "As for `knn_ood_score`; it need not be calibrated.")
)]
struct MahalanobisScore;

pub(super) static FUNCTION: BankFunction = BankFunction {
    name: "mahalanobis_score",
    parameters: &[Parameter::Embedding, Parameter::Bank],
    documentation: || MahalanobisScore.doc(),
    plan: |_| Ok(Field::new(FUNCTION.name, DataType::Float64, true)),
    compute: Compute::Column(|call, queries, options| {
        let found = mahalanobis_score(&*call.gaussian(Classes::Labels, options)?, queries);
        Ok(Arc::new(queries.scatter(found).collect::<Float64Array>()))
    }),
};

/// The distance of each query to the nearest class mean, in standard deviations.
fn mahalanobis_score(gaussian: &Gaussian, queries: &QueryVectors) -> Vec<Option<f64>> {
    gaussian.distances(queries.vectors()).into_iter().map(Some).collect()
}
