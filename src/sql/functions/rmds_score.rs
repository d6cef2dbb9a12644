//! `rmds_score(embedding, bank)`: distance to the nearest class of a bank beside the distance to all of it.

use std::sync::Arc;

use arrow::array::Float64Array;
use arrow::datatypes::{DataType, Field};
use datafusion_macros::user_doc;

use super::arguments::Parameter;
use super::bank_function::{BankFunction, Compute};
use super::query_vectors::QueryVectors;
use crate::bank::Classes;
use crate::error::Error;
use crate::statistics::gaussian::{Gaussian, relative_distances};

#[user_doc(
    doc_section(label = "Baselines"),
    description = "DOUBLE, larger is more OOD, about 0 between the classes: the squared Mahalanobis distance, of L2-normalised embeddings, to the nearest class mean of the bank, less that to the one Gaussian of the whole bank: directions that tell of no class do not count. Good for near-OOD images, and for transformers. Classes and covariances are those of `mahalanobis_score`; a bank of one class is refused. Ren, Fort, Liu, Roy, Padhy, Lakshminarayanan: *A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection*, 2021 (arXiv 2106.09022); on normalised embeddings, RMDS++: Müller, Hein: *Mahalanobis++*, ICML 2025 (arXiv 2505.18032). Both Gaussians are fitted when the first row asks, in n · d² steps each.",
    syntax_example = "rmds_score(embedding, bank)",
    argument(name = "embedding", description = "As for `knn_ood_score`."),
    argument(name = "bank", description = "As for `knn_ood_score`; it need not be calibrated.")
)]
struct RmdsScore;

pub(super) static FUNCTION: BankFunction = BankFunction {
    name: "rmds_score",
    parameters: &[Parameter::Embedding, Parameter::Bank],
    documentation: || RmdsScore.doc(),
    plan: |_| Ok(Field::new(FUNCTION.name, DataType::Float64, true)),
    compute: Compute::Column(|call, queries, options| {
        let classes = call.gaussian(Classes::Labels, options)?;
        if classes.classes() < 2 {
            return Err(Error::OneClass { bank: call.bank.name.clone(), function: FUNCTION.name }.into());
        }
        let found = rmds_score(&classes, &*call.gaussian(Classes::One, options)?, queries);
        Ok(Arc::new(queries.scatter(found).collect::<Float64Array>()))
    }),
};

/// The squared distance of each query to the nearest class, less that to the Gaussian of all rows.
fn rmds_score(classes: &Gaussian, all: &Gaussian, queries: &QueryVectors) -> Vec<Option<f64>> {
    relative_distances(classes, all, queries.vectors()).into_iter().map(Some).collect()
}
