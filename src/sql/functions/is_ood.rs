//! `is_ood(embedding, bank [, tpr [, confidence]])`: whether an image's score lies above the bank's calibrated threshold.

use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::datatypes::{DataType, Field};
use datafusion_macros::user_doc;

use super::arguments::Parameter;
use super::bank_function::{BankFunction, Compute};
use super::knn_ood_threshold::knn_ood_threshold;
use super::query_vectors::QueryVectors;
use crate::bank::Bank;
use crate::error::Result;
use crate::index::{Bound, Kth, Question};

#[user_doc(
    doc_section(label = "Decisions"),
    description = "BOOLEAN: whether `knn_ood_score(embedding, bank)` > `knn_ood_threshold(bank, tpr, confidence)`. It stops searching as soon as k neighbours within the threshold are found: where most rows are in-distribution it takes a fraction of the time that the comparison takes.",
    syntax_example = "is_ood(embedding, bank [, tpr [, confidence]])",
    argument(name = "embedding", description = "As for `knn_ood_score`."),
    argument(name = "bank", description = "A literal; the bank must be calibrated."),
    argument(name = "tpr", description = "As for `knn_ood_threshold`."),
    argument(name = "confidence", description = "As for `knn_ood_threshold`.")
)]
struct IsOod;

pub(crate) static FUNCTION: BankFunction = BankFunction {
    name: "is_ood",
    parameters: &[Parameter::Embedding, Parameter::Bank, Parameter::Tpr, Parameter::Confidence],
    documentation: || IsOod.doc(),
    plan: |call| {
        knn_ood_threshold(call)?;
        Ok(Field::new(FUNCTION.name, DataType::Boolean, true))
    },
    compute: Compute::Column(|call, queries, options| {
        let found = is_ood(&*call.open(options)?, queries, call.k, knn_ood_threshold(call)?)?;
        Ok(Arc::new(queries.scatter(found).collect::<BooleanArray>()))
    }),
};

/// Whether the distance of each query to its k-th nearest row is above a threshold; the search goes no further than that.
fn is_ood(bank: &Bank, queries: &QueryVectors, k: usize, threshold: f32) -> Result<Vec<Option<bool>>> {
    let found = bank.find(queries.vectors(), Question::within(k, Bound::All(threshold)))?;
    Ok(found.kth.into_iter().map(|kth| Some(kth != Kth::Within)).collect())
}
