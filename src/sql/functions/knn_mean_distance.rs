//! `knn_mean_distance(embedding, bank [, k] [, id])`: mean distance to the k nearest embeddings of a bank.

use arrow::datatypes::{DataType, Field};
use datafusion_macros::user_doc;

use super::arguments::OF_SCORE;
use super::bank_function::{BankFunction, Compute};
use super::query_vectors::QueryVectors;
use crate::bank::Bank;
use crate::error::Result;
use crate::statistics::thresholds::mean_distance;

#[user_doc(
    doc_section(label = "Scores"),
    description = "FLOAT in [0, 2], larger is more OOD: mean distance to the k nearest embeddings of the bank. Steadier than the k-th distance alone where k is small. Angiulli, Pizzuti: *Fast Outlier Detection in High Dimensional Spaces*, PKDD 2002 (their weight, divided by k).",
    syntax_example = "knn_mean_distance(embedding, bank [, k] [, id])",
    argument(name = "embedding", description = "As for `knn_ood_score`, as are the others.")
)]
struct KnnMeanDistance;

pub(super) static FUNCTION: BankFunction = BankFunction {
    name: "knn_mean_distance",
    parameters: OF_SCORE,
    documentation: || KnnMeanDistance.doc(),
    plan: |_| Ok(Field::new(FUNCTION.name, DataType::Float32, true)),
    compute: Compute::Score(knn_mean_distance),
};

/// The mean of each query's k nearest distances.
fn knn_mean_distance(bank: &Bank, queries: &QueryVectors, k: usize) -> Result<Vec<Option<f32>>> {
    let nearest = queries.nearest_distances(bank, k)?;
    Ok(nearest.iter().map(|distances| Some(mean_distance(distances))).collect())
}
