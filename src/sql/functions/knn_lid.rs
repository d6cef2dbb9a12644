//! `knn_lid(embedding, bank [, k] [, id])`: local intrinsic dimensionality at an image.

use arrow::datatypes::{DataType, Field};
use datafusion_macros::user_doc;

use super::arguments::OF_SCORE;
use super::bank_function::{BankFunction, Compute};
use super::query_vectors::QueryVectors;
use crate::bank::Bank;
use crate::error::Result;
use crate::statistics::thresholds::intrinsic_dimension;

#[user_doc(
    doc_section(label = "Scores"),
    description = "FLOAT ≥ 0, larger is more OOD: maximum-likelihood estimate of the local intrinsic dimensionality, −1 / mean(ln(r_i / r_k)) over the k nearest embeddings of the bank: how fast the number of neighbours grows with distance. Ma et al.: *Characterizing Adversarial Subspaces Using Local Intrinsic Dimensionality*, ICLR 2018 (estimator of Amsaleg et al., KDD 2015). 0 where a neighbour is a copy of the image; NULL where all k are equally far, as with k = 1.",
    syntax_example = "knn_lid(embedding, bank [, k] [, id])",
    argument(name = "embedding", description = "As for `knn_ood_score`, as are the others.")
)]
struct KnnLid;

pub(super) static FUNCTION: BankFunction = BankFunction {
    name: "knn_lid",
    parameters: OF_SCORE,
    documentation: || KnnLid.doc(),
    plan: |_| Ok(Field::new(FUNCTION.name, DataType::Float32, true)),
    compute: Compute::Score(knn_lid),
};

/// The estimate from each query's k nearest distances.
fn knn_lid(bank: &Bank, queries: &QueryVectors, k: usize) -> Result<Vec<Option<f32>>> {
    let nearest = queries.nearest_distances(bank, k)?;
    Ok(nearest.iter().map(|distances| intrinsic_dimension(distances)).collect())
}
