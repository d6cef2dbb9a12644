//! `knn_lid(embedding, bank [, k] [, id])`: local intrinsic dimensionality at an image.

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;
use datafusion_macros::user_doc;

use super::arguments::Asked;
use super::row_score::{RowScore, of_distances};
use crate::bank::{Bank, Banks};
use crate::error::Result;
use crate::statistics::thresholds;

#[user_doc(
    doc_section(label = "Scores"),
    description = "FLOAT ≥ 0, larger is more OOD: maximum-likelihood estimate of the local intrinsic dimensionality, −1 / mean(ln(r_i / r_k)) over the k nearest embeddings of the bank: how fast the number of neighbours grows with distance. Ma et al.: *Characterizing Adversarial Subspaces Using Local Intrinsic Dimensionality*, ICLR 2018 (estimator of Amsaleg et al., KDD 2015). 0 where a neighbour is a copy of the image; NULL where all k are equally far, as with k = 1.",
    syntax_example = "knn_lid(embedding, bank [, k] [, id])",
    argument(name = "embedding", description = "As for `knn_ood_score`, as are the others.")
)]
struct KnnLid;

pub(super) fn udf(banks: &Arc<Banks>) -> ScalarUDF {
    const DOC: &KnnLid = &KnnLid;
    RowScore::udf("knn_lid", banks, DOC.doc(), compute)
}

fn compute(bank: &Bank, asked: &Asked<'_>) -> Result<Vec<Option<f32>>> {
    of_distances(bank, asked, thresholds::intrinsic_dimension)
}
