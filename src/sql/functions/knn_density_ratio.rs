//! `knn_density_ratio(embedding, bank [, k] [, id])`: how much sparser the bank is at an image than at its neighbours.

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;
use datafusion_macros::user_doc;

use super::arguments::Asked;
use super::row_score::RowScore;
use crate::bank::{Bank, Banks};
use crate::error::Result;

#[user_doc(
    doc_section(label = "Scores"),
    description = "FLOAT > 0, about 1 inside the bank, larger is more OOD: r_k of the image divided by the r_k of a neighbour among the bank's others, mean over the k nearest embeddings. Judges an image by how dense the bank is around it, where dense and sparse classes live in one bank. Schubert, Zimek, Kriegel: *Local outlier detection reconsidered*, DMKD 2014 (simplified LOF). Radii below 1e-10, of copies, count as 1e-10. The first call at some k measures all rows of the bank; it must be in memory.",
    syntax_example = "knn_density_ratio(embedding, bank [, k] [, id])",
    argument(name = "embedding", description = "As for `knn_ood_score`, as are the others.")
)]
struct KnnDensityRatio;

pub(super) fn udf(banks: &Arc<Banks>) -> ScalarUDF {
    const DOC: &KnnDensityRatio = &KnnDensityRatio;
    RowScore::udf("knn_density_ratio", banks, DOC.doc(), compute)
}

fn compute(bank: &Bank, asked: &Asked<'_>) -> Result<Vec<Option<f32>>> {
    Ok(bank.density_ratios(asked.queries, asked.k, asked.own)?.into_iter().map(Some).collect())
}
