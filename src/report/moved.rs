//! Whether the embeddings of a dataset are others than those of the calibration, wherever its scores lie.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Float64Type;

use super::facts::{Embeddings, Group};
use crate::bank::{Calibration, Definition};
use crate::error::Result;
use crate::sql::session::Session;
use crate::store::quote;

/// Datasets that are compared, the largest: each takes a scan of its images and of the calibration's.
pub(super) const COMPARED: usize = 7;

/// Compare the largest of the datasets with the calibration.
pub(super) async fn compare(
    session: &Session,
    bank: &Definition,
    calibration: &Calibration,
    predicate: &str,
    datasets: &mut [Group],
) -> Result<()> {
    let mut largest: Vec<&mut Group> = datasets.iter_mut().collect();
    largest.sort_by_key(|group| std::cmp::Reverse(group.images));
    for group in largest.into_iter().take(COMPARED) {
        let sql = comparison(&bank.backbone, &calibration.predicate, predicate, &group.dataset);
        let batches = session.sql(&sql).await?.collect().await?;
        group.embeddings = batches.first().and_then(|batch| of_row(batch, sql));
    }
    Ok(())
}

/// The SQL of one dataset; what is in both sides is of the dataset.
fn comparison(column: &str, calibration: &str, predicate: &str, dataset: &str) -> String {
    let of_it = format!("({predicate}) AND dataset = {}", quote(dataset));
    format!(
        "SELECT told['auroc'], told['lower'], told['upper'], told['pvalue'], mmd['effect_size'], mmd['pvalue']\nFROM (SELECT \
         classifier_two_sample_auroc({column}, of_it) AS told, mmd_test({column}, of_it) AS mmd\n      FROM (SELECT {column}, coalesce({of_it}, \
         false) AS of_it FROM images\n            WHERE {column} IS NOT NULL AND (({calibration}) OR ({of_it}))))"
    )
}

/// `None` where a side has too few images, or no embedding differs.
fn of_row(batch: &RecordBatch, sql: String) -> Option<Embeddings> {
    let numbers: Vec<f64> = batch
        .columns()
        .iter()
        .map(|column| {
            column
                .as_primitive_opt::<Float64Type>()
                .filter(|numbers| numbers.is_valid(0))
                .map(|numbers| numbers.value(0))
        })
        .collect::<Option<_>>()?;
    let [auroc, lower, upper, pvalue, mmd_effect, mmd_pvalue] = numbers.try_into().ok()?;
    Some(Embeddings { auroc, auroc_interval: (lower, upper), pvalue, mmd_effect, mmd_pvalue, sql })
}
