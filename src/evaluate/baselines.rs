//! The scores that `knn_ood_score` is compared with.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;

use super::table::Compared;
use crate::bank::Definition;
use crate::error::Result;
use crate::schema;
use crate::sql::session::Session;
use crate::store::Store;

/// Which scores a bank has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baselines {
    /// Those of embeddings, then those of logits.
    pub scores: Vec<Compared>,
    /// What is left out, and why: a sentence each.
    pub left_out: Vec<String>,
}

/// The scores beside `knn_ood_score` that can be computed of a bank: those of classes where its images have two labels or more,
/// those of logits where images have these.
pub async fn baselines(session: &Session, store: &Store, bank: &str) -> Result<Baselines> {
    let bank = session.banks().definition(bank)?;
    let (mut scores, mut left_out) = (Vec::new(), Vec::new());
    // it is fitted here, and kept
    let column = &bank.backbone;
    let fit =
        format!("SELECT mahalanobis_score({column}, '{}') FROM images WHERE {column} IS NOT NULL LIMIT 1", bank.name);
    match session.sql(&fit).await?.collect().await {
        Ok(_) => scores.push(Compared::Mahalanobis),
        Err(error) if error.to_string().contains("has no covariance") => left_out.push(format!(
            "mahalanobis_score and rmds_score are left out: the images of bank {} do not vary within their classes (column label)",
            bank.name
        )),
        Err(error) => return Err(error.into()),
    }
    let at = format!("images@{}", bank.follows());
    let classes = "count(DISTINCT label) + CAST(count(*) > count(label) AS BIGINT)";
    if scores.is_empty() {
        // it has no covariance either
    } else if count(session, &bank, classes, &at).await? >= 2 {
        scores.push(Compared::Rmds);
    } else {
        left_out
            .push(format!("rmds_score is left out: the images of bank {} are of one class (column label)", bank.name));
    }
    let logits = schema::logits_column(&bank.backbone);
    let has_logits = async |version| -> Result<bool> {
        Ok(store.schema_at(schema::IMAGES, version).await?.field_with_name(&logits).is_ok())
    };
    if !has_logits(store.version(schema::IMAGES).await?).await? {
        left_out.push(format!(
            "the scores of logits are left out: there is no column {logits}, 'outskirt ingest --with-logits' writes it"
        ));
        return Ok(Baselines { scores, left_out });
    }
    let without = format!("count(*) - count({logits})");
    if has_logits(bank.follows()).await? && count(session, &bank, &without, &at).await? == 0 {
        scores.push(Compared::NnGuide);
    } else {
        left_out.push(format!(
            "nnguide_score is left out: images of bank {name} have no {logits}, 'outskirt ingest --with-logits' writes it and \
             'outskirt bank refresh {name}' reads it",
            name = bank.name
        ));
    }
    scores.extend([Compared::Msp, Compared::Energy, Compared::MaxLogit, Compared::Gen]);
    Ok(Baselines { scores, left_out })
}

/// A number of the bank's images in a version of the table.
async fn count(session: &Session, bank: &Definition, what: &str, table: &str) -> Result<i64> {
    let query = format!("SELECT {what} FROM {table} WHERE ({}) AND {} IS NOT NULL", bank.predicate, bank.backbone);
    let batches: Vec<RecordBatch> = session.sql(&query).await?.collect().await?;
    Ok(batches.first().map_or(0, |batch| batch.column(0).as_primitive::<Int64Type>().value(0)))
}
