//! `knn_density_ratio(embedding, bank [, k] [, id])`: how much sparser the bank is at an image than at its neighbours.

use arrow::datatypes::{DataType, Field};
use datafusion_macros::user_doc;

use super::arguments::OF_SCORE;
use super::bank_function::{BankFunction, Compute};
use super::query_vectors::QueryVectors;
use crate::bank::Bank;
use crate::error::Result;

#[user_doc(
    doc_section(label = "Scores"),
    description = "FLOAT > 0, about 1 inside the bank, larger is more OOD: r_k of the image divided by the r_k of a neighbour among the bank's others, mean over the k nearest embeddings. Judges an image by how dense the bank is around it, where dense and sparse classes live in one bank. Schubert, Zimek, Kriegel: *Local outlier detection reconsidered*, DMKD 2014 (simplified LOF). Radii below 1e-10, of copies, count as 1e-10. The first call at some k measures all rows of the bank; it must be in memory.",
    syntax_example = "knn_density_ratio(embedding, bank [, k] [, id])",
    argument(name = "embedding", description = "As for `knn_ood_score`, as are the others.")
)]
struct KnnDensityRatio;

pub(super) static FUNCTION: BankFunction = BankFunction {
    name: "knn_density_ratio",
    parameters: OF_SCORE,
    documentation: || KnnDensityRatio.doc(),
    plan: |_| Ok(Field::new(FUNCTION.name, DataType::Float32, true)),
    compute: Compute::Score(knn_density_ratio),
};

/// The mean over each query's k nearest rows of: its k-th distance divided by theirs.
fn knn_density_ratio(bank: &Bank, queries: &QueryVectors, k: usize) -> Result<Vec<Option<f32>>> {
    Ok(bank.density_ratios(queries.vectors(), k, queries.excluded())?.into_iter().map(Some).collect())
}
