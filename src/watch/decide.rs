//! Images beside a bank: their scores, and which of them lie outside.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{TimestampNanosecondType, UInt64Type};
use chrono::{SecondsFormat, Utc};
use serde::Serialize;

use super::options::{Limit, WatchOptions};
use crate::bank::{Bank, Banks, Calibration, Definition, find, list_calibrations};
use crate::error::{Error, Result};
use crate::index::vectors::{Vectors, embedding, normalize};
use crate::index::{Kth, Question, SearchOptions, Stale};
use crate::schema;
use crate::statistics::thresholds::{bh_limit, pvalue, rows_for_fdr, supports_fdr};
use crate::store::Store;

/// An image that was scored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decided {
    /// When: UTC.
    pub time: String,
    /// `images.id`.
    pub id: u64,
    /// `images.uri`.
    pub uri: String,
    /// `images.dataset`.
    pub dataset: String,
    /// `images.split`.
    pub split: String,
    /// The bank.
    pub bank: String,
    /// Its distance to the bank's k-th nearest image, in [0, 2].
    pub score: f32,
    /// What the score is compared with, where a threshold decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f32>,
    /// The least false discovery rate at which it is told, where such a rate decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q: Option<f64>,
    /// The conformal p-value.
    pub pvalue: f64,
    /// Whether it lies outside.
    pub is_ood: bool,
    /// The nearest images of the bank, nearest first, where they are asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub neighbors: Vec<Near>,
}

/// An image of the bank near another one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Near {
    /// `images.id`.
    pub id: u64,
    /// In [0, 2].
    pub distance: f32,
}

/// Columns that [`Decider::decide`] reads, before that of the backbone.
pub(super) const COLUMNS: [&str; 5] = [schema::ID, schema::URI, schema::DATASET, schema::SPLIT, schema::INGESTED_AT];

/// A bank and its calibration, to decide by.
#[derive(Debug)]
pub(super) struct Decider {
    bank: Arc<Bank>,
    pub(super) definition: Arc<Definition>,
    calibration: Calibration,
    limit: Limit,
    neighbors: usize,
    /// What the user should know of the bank.
    pub(super) notices: Vec<String>,
    /// The bank's version is not pruned.
    _banks: Banks,
}

impl Decider {
    /// Open the bank.
    ///
    /// Errors: an unknown bank, one that is not calibrated at its k, or with too few images for the limit; one that cannot be read.
    pub(super) async fn open(store: &Store, options: &WatchOptions) -> Result<Self> {
        let banks = Banks::load(store).await?;
        let definition = banks.definition(&options.bank)?;
        let calibration = banks.calibration(&definition, definition.k)?.clone();
        let rows = calibration.scores.len();
        match options.limit {
            Limit::Tpr(tpr) => drop(calibration.threshold(tpr)?),
            Limit::Fdr(fdr) if !(fdr > 0.0 && fdr < 1.0) => return Err(Error::FdrOutOfRange { fdr }),
            Limit::Fdr(fdr) if !supports_fdr(rows, fdr) => {
                return Err(Error::BadFdr { fdr, rows, needed: rows_for_fdr(fdr) });
            }
            Limit::Fdr(_) => {}
        }
        // it is behind the table as soon as the first image is there
        let bank = banks.open(&definition, SearchOptions { stale: Stale::Ignore, ..SearchOptions::default() })?;
        let (notices, limit) = (banks.notices(), options.limit);
        let neighbors = options.neighbors.min(definition.row_count.saturating_sub(1));
        Ok(Self { bank, definition, calibration, limit, neighbors, notices, _banks: banks })
    }

    /// Images that are decided of together: with a false discovery rate q so many that one of them alone can be told, whatever the others
    /// are. The least p-value of n calibration images is 1 / (n + 1), and that of one image among m must be q / m at most.
    pub(super) fn together(&self) -> usize {
        match self.limit {
            Limit::Tpr(_) => usize::MAX,
            // what is a whole number but for rounding is one
            Limit::Fdr(fdr) => ((self.calibration.scores.len() + 1) as f64 * fdr + 1e-9) as usize,
        }
        .max(1)
    }

    /// Whether bank and calibration are still what the database has.
    pub(super) async fn is_current(&self, store: &Store) -> Result<bool> {
        let now = find(store, &self.definition.name).await?;
        let is_same = |one: &Definition, other: &Definition| {
            (one.table_version, one.k, &one.predicate, &one.created_at)
                == (other.table_version, other.k, &other.predicate, &other.created_at)
        };
        if !is_same(&now, &self.definition) {
            return Ok(false);
        }
        let calibrations = list_calibrations(store).await?;
        let mut own = calibrations.iter().filter(|made| made.bank == now.name && made.k == now.k);
        Ok(own.any(|made| made.created_at == self.calibration.created_at))
    }

    /// Score rows of [`COLUMNS`] and the backbone's, for which `wanted(id, ingested_at)` holds, and decide about them together. What has
    /// no direction has no score, and is counted.
    pub(super) fn decide(
        &self,
        rows: &RecordBatch,
        wanted: impl Fn(u64, i64) -> bool,
    ) -> Result<(Vec<Decided>, usize)> {
        let ids = rows.column(0).as_primitive::<UInt64Type>().values();
        let text = |column: usize, row: usize| rows.column(column).as_string::<i32>().value(row).to_owned();
        let came = rows.column(4).as_primitive::<TimestampNanosecondType>().values();
        let vectors = rows.column(5).as_fixed_size_list();
        let (mut units, mut kept, mut without) = (Vec::new(), Vec::new(), 0);
        for row in (0..rows.num_rows()).filter(|&row| wanted(ids[row], came[row])) {
            match embedding(vectors, row) {
                Ok(None) => {}
                Ok(Some(values)) if normalize(values, &mut units).is_ok() => kept.push(row),
                _ => without += 1,
            }
        }
        if kept.is_empty() {
            return Ok((Vec::new(), without));
        }
        let queries = Vectors::new(&units, self.definition.dimension);
        let own: Vec<Option<u64>> = kept.iter().map(|&row| Some(ids[row])).collect();
        // where the bank is as small as k, no entry can be left out
        let own = (self.definition.k < self.definition.row_count).then_some(&own[..]);
        let found = self.bank.find(queries, Question { excluded: own, ..Question::all(self.definition.k) })?;
        let scores: Vec<f32> = found.kth.into_iter().map(Kth::distance).collect();
        let pvalues: Vec<f64> = scores.iter().map(|score| pvalue(&self.calibration.scores, *score)).collect();
        let near = match self.neighbors {
            0 => vec![Vec::new(); kept.len()],
            neighbors => self.bank.nearest(queries, neighbors, own)?,
        };
        let threshold = match self.limit {
            Limit::Tpr(tpr) => Some(self.calibration.threshold(tpr)?),
            Limit::Fdr(_) => None,
        };
        let (rejected, rates) = match self.limit {
            Limit::Tpr(_) => (None, Vec::new()),
            Limit::Fdr(fdr) => (bh_limit(&ascending(&pvalues), fdr), rates(&pvalues)),
        };
        let time = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let decided = |(at, (&row, near)): (usize, (&usize, Vec<crate::index::Neighbor>))| Decided {
            time: time.clone(),
            id: ids[row],
            uri: text(1, row),
            dataset: text(2, row),
            split: text(3, row),
            bank: self.definition.name.clone(),
            score: scores[at],
            threshold,
            q: rates.get(at).copied(),
            pvalue: pvalues[at],
            is_ood: match threshold {
                Some(threshold) => scores[at] > threshold,
                None => rejected.is_some_and(|limit| pvalues[at] <= limit),
            },
            neighbors: near.into_iter().map(|near| Near { id: near.id, distance: near.distance }).collect(),
        };
        Ok((kept.iter().zip(near).enumerate().map(decided).collect(), without))
    }
}

fn ascending(pvalues: &[f64]) -> Vec<f64> {
    let mut ascending = pvalues.to_vec();
    ascending.sort_unstable_by(f64::total_cmp);
    ascending
}

/// Of each p-value the least rate at which Benjamini-Hochberg rejects it: min over j ≥ i of m·p_j / j.
fn rates(pvalues: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..pvalues.len()).collect();
    order.sort_by(|&one, &other| pvalues[one].total_cmp(&pvalues[other]));
    let (mut rates, mut least) = (vec![1.0; pvalues.len()], 1.0_f64);
    for (place, &at) in order.iter().enumerate().rev() {
        least = least.min(pvalues[at] * pvalues.len() as f64 / (place + 1) as f64);
        rates[at] = least;
    }
    rates
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scipy.stats.false_discovery_control([0.01, 0.04, 0.03, 0.5, 0.005])`
    #[test]
    fn the_least_rates_are_those_of_scipy() {
        let found = rates(&[0.01, 0.04, 0.03, 0.5, 0.005]);
        let expected = [0.025, 0.05, 0.05, 0.5, 0.025];
        assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-12), "{found:?}");
        assert_eq!(rates(&[]), Vec::<f64>::new());
    }
}
