//! The scores of a report, in memory: 24 bytes an image.

use std::collections::HashMap;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, TimeUnit, TimestampSecondType, UInt64Type};
use futures::StreamExt;

use crate::bank::{Calibration, Definition};
use crate::error::{Error, Result};
use crate::sql::session::Session;

/// Images and their scores, in the order in which they were read.
#[derive(Debug, Default)]
pub(super) struct Scored {
    pub(super) ids: Vec<u64>,
    pub(super) scores: Vec<f32>,
    /// Which of `groups` an image belongs to.
    pub(super) group: Vec<u32>,
    /// When it came, seconds since 1970, UTC.
    pub(super) came: Vec<i64>,
    /// Datasets and labels that there are.
    pub(super) groups: Vec<(String, Option<String>)>,
}

impl Scored {
    /// Score the images for which `predicate` holds.
    pub(super) async fn read(session: &Session, bank: &Definition, predicate: &str) -> Result<Self> {
        let column = &bank.backbone;
        let query = format!(
            "SELECT id, dataset, label, ingested_at, knn_ood_score({column}, '{}') FROM images WHERE ({predicate}) AND {column} IS \
             NOT NULL",
            bank.name
        );
        session.check_condition(predicate).await?;
        let mut batches = session.sql(&query).await?.execute_stream().await?;
        let (mut found, mut known) = (Self::default(), HashMap::<(String, Option<String>), u32>::new());
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            found.ids.extend(batch.column(0).as_primitive::<UInt64Type>().values());
            found.scores.extend(batch.column(4).as_primitive::<Float32Type>().values());
            let came = cast(batch.column(3), &DataType::Timestamp(TimeUnit::Second, None))?;
            found.came.extend(came.as_primitive::<TimestampSecondType>().values());
            let (datasets, labels) = (cast(batch.column(1), &DataType::Utf8)?, cast(batch.column(2), &DataType::Utf8)?);
            let labels = labels.as_string::<i32>();
            for (dataset, label) in datasets.as_string::<i32>().iter().zip(labels) {
                let group = (dataset.unwrap_or_default().to_owned(), label.map(str::to_owned));
                let next = known.len() as u32;
                let at = *known.entry(group).or_insert_with_key(|group| {
                    found.groups.push(group.clone());
                    next
                });
                found.group.push(at);
            }
        }
        if found.ids.is_empty() {
            return Err(Error::NothingToReport { predicate: predicate.into(), backbone: column.clone() });
        }
        Ok(found)
    }

    /// The scores of some of them, ascending.
    pub(super) fn ascending(&self, is: impl Fn(usize) -> bool) -> Vec<f32> {
        let mut scores: Vec<f32> = (0..self.scores.len()).filter(|&at| is(at)).map(|at| self.scores[at]).collect();
        scores.sort_unstable_by(f32::total_cmp);
        scores
    }
}

/// Scores of ID or OOD images by themselves, ascending.
pub(super) async fn scores_of(session: &Session, bank: &Definition, predicate: &str) -> Result<Vec<f32>> {
    let scored = Scored::read(session, bank, predicate).await?;
    Ok(scored.ascending(|_| true))
}

/// What is measured where nobody says what: all but the images that the bank and its calibration were made of.
pub(super) fn everything_else(bank: &Definition, calibration: &Calibration) -> String {
    format!("({}) IS NOT TRUE AND ({}) IS NOT TRUE", bank.predicate, calibration.predicate)
}
