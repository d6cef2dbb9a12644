//! Calibration: the scores of held-out ID images, from which thresholds come.

use std::collections::HashSet;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float32Type, UInt64Type};
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};

use super::{Bank, Definition};
use crate::error::{Error, Result};
use crate::index::IndexKind;
use crate::schema;
use crate::score;
use crate::store::{Store, now};
use crate::vectors::{Vectors, normalize};

/// One row of `calibrations`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The bank's name.
    pub bank: String,
    /// The version of the bank it was measured against.
    pub table_version: u64,
    /// SQL over `images`: the held-out ID images.
    pub predicate: String,
    /// Neighbours counted.
    pub k: usize,
    /// Exact scores, ascending.
    pub scores: Vec<f32>,
    /// UTC.
    pub created_at: String,
}

impl Calibration {
    /// The score that a share `tpr` of the held-out images does not exceed; an image above it is OOD.
    ///
    /// Errors: a rate outside (0, 1), or one that this many scores cannot hold.
    pub fn threshold(&self, tpr: f64) -> Result<f32> {
        let rows = self.scores.len();
        if !score::supports_tpr(rows, tpr) {
            return Err(Error::BadTpr { bank: self.bank.clone(), tpr, rows, most: 1.0 - 1.0 / rows as f64 });
        }
        Ok(score::threshold(&self.scores, tpr))
    }
}

/// Measure the scores of held-out ID images at the bank's k (or another) and keep them, in place of earlier ones.
///
/// Errors: no image matches, or some are rows of the bank, whose scores would be too low.
pub async fn calibrate(store: &Store, bank: &Definition, predicate: &str, k: Option<usize>) -> Result<Calibration> {
    let lock = store.lock()?;
    let k = bank.check_k(k.unwrap_or(bank.k) as i64)?;
    let opened = Bank::open(store, bank.clone(), IndexKind::Exact).await?;
    let held: HashSet<u64> = opened.ids().iter().copied().collect();

    let as_predicate = |error: Error| Error::BadPredicate {
        predicate: predicate.into(),
        reason: error.to_string().lines().next().unwrap_or_default().to_string(),
    };
    let filter = format!("({predicate}) AND {} IS NOT NULL", bank.backbone);
    let columns = [schema::ID, bank.backbone.as_str()];
    let mut batches = store.scan(schema::IMAGES, None, &columns, Some(&filter)).await.map_err(as_predicate)?;
    let (mut scores, mut rows, mut inside) = (Vec::new(), 0, 0);
    while let Some(batch) = batches.try_next().await.map_err(as_predicate)? {
        let ids = batch.column(0).as_primitive::<UInt64Type>();
        let embeddings = batch.column(1).as_fixed_size_list();
        let mut queries = Vec::with_capacity(batch.num_rows() * bank.dimension);
        for row in (0..batch.num_rows()).filter(|&row| embeddings.is_valid(row)) {
            rows += 1;
            inside += usize::from(held.contains(&ids.value(row)));
            let embedding = embeddings.value(row);
            normalize(embedding.as_primitive::<Float32Type>().values(), &mut queries).map_err(|problem| {
                Error::BadVector {
                    what: format!("images (id {}), column {}", ids.value(row), bank.backbone),
                    row,
                    problem,
                }
            })?;
        }
        scores.extend(opened.kth_distances(Vectors::new(&queries, bank.dimension), k, IndexKind::Exact)?);
    }
    if rows == 0 {
        return Err(Error::NoRows { predicate: predicate.into(), backbone: bank.backbone.clone() });
    }
    if inside > 0 {
        let (bank, predicate) = (bank.name.clone(), predicate.into());
        return Err(Error::CalibrationInsideBank { bank, predicate, inside, rows });
    }
    scores.sort_unstable_by(f32::total_cmp);
    let calibration = Calibration {
        bank: bank.name.clone(),
        table_version: bank.table_version,
        predicate: predicate.into(),
        k,
        scores,
        created_at: now(),
    };
    store.write_rows(&lock, schema::CALIBRATIONS, &["bank", "k"], std::slice::from_ref(&calibration)).await?;
    Ok(calibration)
}
