//! Calibration: the scores of held-out ID images, from which thresholds come.

use std::collections::{BinaryHeap, HashSet};

use serde::{Deserialize, Serialize};

use super::find;
use super::open::open_exact;
use super::rows::{for_each_embedding, for_each_id, rows_of};
use crate::error::{Error, Result};
use crate::index::vectors::Vectors;
use crate::schema;
use crate::statistics::sampling::mixed;
use crate::statistics::thresholds;
use crate::store::{Store, now};

/// Images per search: the block that is held in memory.
const SCORED_AT_ONCE: usize = 8192;

/// Rows of a bank that are scored by the others.
const OWN_ROWS: usize = 1_000;
/// Where a calibration's scores are compared with those of the bank's own rows.
pub const LIKENESS_TPR: f64 = 0.95;

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
        if !thresholds::supports_tpr(rows, tpr) {
            let bank = self.bank.clone();
            if !(tpr > 0.0 && tpr < 1.0) {
                return Err(Error::TprOutOfRange { bank, tpr });
            }
            return Err(Error::TprNeedsMore { bank, tpr, rows, needed: thresholds::rows_for_tpr(tpr) });
        }
        Ok(thresholds::threshold(&self.scores, tpr))
    }

    /// The score that at least a share `tpr` of all in-distribution images does not exceed, with this confidence: a tolerance limit.
    ///
    /// Errors: as [`Self::threshold`], a confidence outside (0, 1), and one that this many scores cannot give.
    pub fn tolerance_limit(&self, tpr: f64, confidence: f64) -> Result<f32> {
        let rows = self.scores.len();
        let bank = self.check_confidence(tpr, confidence)?;
        let needed = thresholds::rows_for_tolerance(tpr, confidence);
        let limit = thresholds::tolerance_limit(&self.scores, tpr, confidence);
        limit.ok_or(Error::ConfidenceNeedsMore { bank, tpr, confidence, rows, needed })
    }

    /// Between which scores the threshold of *all* in-distribution images lies at this rate, with this confidence, whatever the
    /// distribution of their scores.
    ///
    /// Errors: as [`Self::tolerance_limit`].
    pub fn threshold_interval(&self, tpr: f64, confidence: f64) -> Result<(f32, f32)> {
        let rows = self.scores.len();
        let bank = self.check_confidence(tpr, confidence)?;
        let needed = thresholds::rows_for_interval(tpr, confidence);
        let interval = thresholds::threshold_interval(&self.scores, tpr, confidence);
        interval.ok_or(Error::ConfidenceNeedsMore { bank, tpr, confidence, rows, needed })
    }

    /// The bank's name, where both can be rates.
    fn check_confidence(&self, tpr: f64, confidence: f64) -> Result<String> {
        let bank = self.bank.clone();
        if !(tpr > 0.0 && tpr < 1.0) {
            return Err(Error::TprOutOfRange { bank, tpr });
        }
        if !(confidence > 0.0 && confidence < 1.0) {
            return Err(Error::ConfidenceOutOfRange { bank, confidence });
        }
        Ok(bank)
    }

    /// Whether most of the images are further from the bank than nearly all of its own rows are from one another (`own`, of
    /// [`own_threshold`]): then they are hardly in-distribution images, and nothing will be OOD beside them.
    ///
    /// Held-out images are further away than those that a network was trained with, so half of them may be.
    pub fn is_unlike(&self, own: f32) -> bool {
        let further = self.scores.len() - self.scores.partition_point(|&score| score <= own);
        2 * further > self.scores.len()
    }
}

/// The threshold at [`LIKENESS_TPR`] of a bank's own rows, or of up to 1,000 of them, each scored by the others; `None` where
/// the bank has too few.
///
/// That of a calibration is near it where its images are such as the bank's: see [`Calibration::is_unlike`].
pub async fn own_threshold(store: &Store, bank: &str, k: usize) -> Result<Option<f32>> {
    let bank = find(store, bank).await?;
    let mut drawn = BinaryHeap::new();
    for_each_id(store, &bank, |id| {
        drawn.push((mixed(id, 0), id));
        if drawn.len() > OWN_ROWS {
            drawn.pop();
        }
    })
    .await?;
    if k >= bank.row_count || !thresholds::supports_tpr(drawn.len(), LIKENESS_TPR) {
        return Ok(None);
    }
    let ids: Vec<u64> = drawn.into_iter().map(|(_, id)| id).collect();
    let rows = rows_of(store, &bank, &ids).await?.to_values();
    // the nearest row of each is itself
    let mut scores = open_exact(store, &bank)?.kth_distances(Vectors::new(&rows, bank.dimension), k + 1)?;
    scores.sort_unstable_by(f32::total_cmp);
    Ok(Some(thresholds::threshold(&scores, LIKENESS_TPR)))
}

/// All calibrations.
pub async fn list_calibrations(store: &Store) -> Result<Vec<Calibration>> {
    store.read_rows(schema::CALIBRATIONS).await
}

/// Measure the scores of held-out ID images at the bank's k (or another) and keep them, in place of earlier ones.
///
/// Errors: an unknown bank, no image that matches, or some that are rows of the bank, whose scores would be too low.
pub async fn calibrate(store: &Store, bank: &str, predicate: &str, k: Option<usize>) -> Result<Calibration> {
    let lock = store.lock_in_turn().await?;
    let bank = find(store, bank).await?;
    store.check_predicate(predicate).await?;
    let k = bank.check_k(k.unwrap_or(bank.k) as i128)?;
    let opened = open_exact(store, &bank)?;
    let mut held = HashSet::with_capacity(bank.row_count);
    for_each_id(store, &bank, |id| {
        held.insert(id);
    })
    .await?;

    let (mut queries, mut scores, mut rows, mut inside) = (Vec::new(), Vec::new(), 0, 0);
    let mut score = |queries: &mut Vec<f32>| -> Result<()> {
        scores.extend(opened.kth_distances(Vectors::new(queries, bank.dimension), k)?);
        queries.clear();
        Ok(())
    };
    for_each_embedding(store, &bank, None, predicate, |id, unit| {
        rows += 1;
        inside += usize::from(held.contains(&id));
        queries.extend_from_slice(unit);
        if queries.len() >= SCORED_AT_ONCE * bank.dimension { score(&mut queries) } else { Ok(()) }
    })
    .await?;
    score(&mut queries)?;
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
