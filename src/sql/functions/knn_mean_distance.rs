//! `knn_mean_distance(embedding, bank [, k] [, id])`: mean distance to the k nearest embeddings of a bank.

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
    description = "FLOAT in [0, 2], larger is more OOD: mean distance to the k nearest embeddings of the bank. Steadier than the k-th distance alone where k is small. Angiulli, Pizzuti: *Fast Outlier Detection in High Dimensional Spaces*, PKDD 2002 (their weight, divided by k).",
    syntax_example = "knn_mean_distance(embedding, bank [, k] [, id])",
    argument(name = "embedding", description = "As for `knn_ood_score`, as are the others.")
)]
struct KnnMeanDistance;

pub(super) fn udf(banks: &Arc<Banks>) -> ScalarUDF {
    const DOC: &KnnMeanDistance = &KnnMeanDistance;
    RowScore::udf("knn_mean_distance", banks, DOC.doc(), compute)
}

fn compute(bank: &Bank, asked: &Asked<'_>) -> Result<Vec<Option<f32>>> {
    of_distances(bank, asked, |nearest| Some(thresholds::mean_distance(nearest)))
}
