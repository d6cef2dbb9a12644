//! `knn_ood_pvalue(embedding, bank)`: how unusual a score would be for an in-distribution image.

use std::sync::Arc;

use arrow::array::Float64Array;
use arrow::datatypes::{DataType, Field};
use datafusion_macros::user_doc;

use super::arguments::Parameter;
use super::bank_function::{BankFunction, Compute};
use super::query_vectors::QueryVectors;
use crate::bank::{Bank, Calibration};
use crate::error::Result;
use crate::statistics::thresholds::pvalue;

/// Metadata key of a column of p-values: the number of calibration images that they come from.
pub(super) const CALIBRATION_ROWS: &str = "outskirt.calibration_rows";

#[user_doc(
    doc_section(label = "Decisions"),
    description = "DOUBLE in [1 / (n + 1), 1], smaller is more OOD: conformal p-value, (1 + #{calibration scores ≥ score}) / (n + 1), at the bank's k. For an image drawn like the n calibration images it is at most p with a chance of at most p. Bates, Candès, Lei, Romano, Sesia: *Testing for outliers with conformal p-values*, Annals of Statistics 2023.",
    syntax_example = "knn_ood_pvalue(embedding, bank)",
    argument(name = "embedding", description = "As for `knn_ood_score`."),
    argument(name = "bank", description = "A literal; the bank must be calibrated.")
)]
struct KnnOodPvalue;

pub(crate) static FUNCTION: BankFunction = BankFunction {
    name: "knn_ood_pvalue",
    parameters: &[Parameter::Embedding, Parameter::Bank],
    documentation: || KnnOodPvalue.doc(),
    plan: |call| {
        // bh_reject reads it, to refuse a rate that so few images cannot hold
        let metadata = [(CALIBRATION_ROWS.to_owned(), call.calibration()?.scores.len().to_string())];
        Ok(Field::new(FUNCTION.name, DataType::Float64, true).with_metadata(metadata.into()))
    },
    compute: Compute::Column(|call, queries, options| {
        let found = knn_ood_pvalue(&*call.open(options)?, queries, call.calibration()?)?;
        Ok(Arc::new(queries.scatter(found).collect::<Float64Array>()))
    }),
};

/// The p-value of each query's score at the calibration's k.
fn knn_ood_pvalue(bank: &Bank, queries: &QueryVectors, calibration: &Calibration) -> Result<Vec<Option<f64>>> {
    let scores = bank.kth_distances(queries.vectors(), calibration.k)?;
    Ok(scores.into_iter().map(|score| Some(pvalue(&calibration.scores, score))).collect())
}
