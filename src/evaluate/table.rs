//! The reference's table: how well a bank's score separates ID images from each OOD set.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, UInt64Type};

use crate::bank::Definition;
use crate::error::{Error, Result};
use crate::index::SearchOptions;
use crate::schema;
use crate::sql::session::Session;
use crate::statistics::intervals::{Interval, auroc_interval, fpr_interval};
use crate::statistics::metrics::Metrics;

/// Of the intervals beside the numbers.
const CONFIDENCE: f64 = 0.95;

/// The score that is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// `knn_ood_score` at k, the bank's own where it is `None`.
    Knn(Option<usize>),
    /// `mahalanobis_score`.
    Mahalanobis,
    /// `rmds_score`.
    Rmds,
    /// `nnguide_score` of embedding and logits, at the bank's k.
    NnGuide,
    /// `msp_score` of the backbone's logits.
    Msp,
    /// `energy_score` of the backbone's logits, T = 1.
    Energy,
    /// `max_logit_score` of the backbone's logits.
    MaxLogit,
    /// `gen_score` of the backbone's logits, γ = 0.1.
    Gen,
}

impl Compared {
    /// The function's name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Knn(_) => "knn_ood_score",
            Self::Mahalanobis => "mahalanobis_score",
            Self::Rmds => "rmds_score",
            Self::NnGuide => "nnguide_score",
            Self::Msp => "msp_score",
            Self::Energy => "energy_score",
            Self::MaxLogit => "max_logit_score",
            Self::Gen => "gen_score",
        }
    }

    /// The call, and the column that it reads.
    fn call(self, bank: &Definition) -> Result<(String, String)> {
        let (name, column) = (self.name(), bank.backbone.clone());
        Ok(match self {
            Self::Knn(k) => {
                let k = bank.check_k(k.unwrap_or(bank.k) as i128)?;
                (format!("{name}({column}, '{}', {k})", bank.name), column)
            }
            Self::Mahalanobis | Self::Rmds => (format!("{name}({column}, '{}')", bank.name), column),
            Self::NnGuide => {
                let logits = schema::logits_column(&column);
                (format!("{name}({column}, {logits}, '{}')", bank.name), logits)
            }
            Self::Msp | Self::Energy | Self::MaxLogit | Self::Gen => {
                let logits = schema::logits_column(&column);
                (format!("{name}({logits})"), logits)
            }
        })
    }
}

/// Metrics of one bank and score.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Number of ID images scored.
    pub id_rows: usize,
    /// How many of them are rows of the bank itself, whose scores are too low.
    pub id_inside_bank: usize,
    /// Their scores, in no order.
    pub id_scores: Vec<f64>,
    /// One line per OOD set, in the order asked for.
    pub sets: Vec<EvaluatedSet>,
    /// The mean over the sets.
    pub mean: Metrics,
}

/// Metrics of one OOD set.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluatedSet {
    /// The dataset where the predicate matches just one and no other set does, else the predicate.
    pub name: String,
    /// Number of OOD images scored.
    pub rows: usize,
    /// ID against this set.
    pub metrics: Metrics,
    /// How sure FPR95 is, with a confidence of 95 %: see [`fpr_interval`].
    pub fpr95: Interval,
    /// How sure AUROC is: see [`auroc_interval`].
    pub auroc: Interval,
    /// The set's scores, in no order.
    pub scores: Vec<f64>,
}

struct Scored {
    ids: Vec<u64>,
    scores: Vec<f64>,
    datasets: Vec<String>,
}

/// Score the images of `id` and of each of `ood` (SQL over `images`) against a bank, and compare.
///
/// Errors: an unknown bank, k out of range, a predicate that fails or matches nothing; no logits where the score reads them.
pub async fn evaluate(
    session: &Session,
    bank: &str,
    compared: Compared,
    id: &str,
    ood: &[String],
) -> Result<Evaluation> {
    let definition = session.banks().definition(bank)?;
    let call = compared.call(&definition)?;
    let id_scored = score(session, &definition, &call, "the ID side", id).await?;
    let opened = session.banks().open(&definition, SearchOptions::default())?;
    let bank_ids: std::collections::HashSet<u64> = opened.ids().iter().copied().collect();
    let mut sets = Vec::with_capacity(ood.len());
    for predicate in ood {
        let scored = score(session, &definition, &call, "the OOD side", predicate).await?;
        let name = match scored.datasets.as_slice() {
            [only] => only.clone(),
            _ => predicate.clone(),
        };
        let set = compare(name, &id_scored.scores, scored.scores).ok_or_else(|| Error::EmptySide {
            side: "the OOD side",
            predicate: predicate.clone(),
            backbone: definition.backbone.clone(),
        })?;
        sets.push(set);
    }
    tell_apart(&mut sets, ood);
    let all: Vec<Metrics> = sets.iter().map(|set| set.metrics).collect();
    let mean = Metrics::mean(&all).ok_or_else(|| Error::EmptySide {
        side: "the OOD side",
        predicate: "none given".into(),
        backbone: definition.backbone.clone(),
    })?;
    Ok(Evaluation {
        id_rows: id_scored.scores.len(),
        id_inside_bank: id_scored.ids.iter().filter(|id| bank_ids.contains(id)).count(),
        id_scores: id_scored.scores,
        sets,
        mean,
    })
}

/// Sets of one dataset are called by their predicates.
fn tell_apart(sets: &mut [EvaluatedSet], predicates: &[String]) {
    let names: Vec<String> = sets.iter().map(|set| set.name.clone()).collect();
    for (set, predicate) in sets.iter_mut().zip(predicates) {
        if names.iter().filter(|name| **name == set.name).count() > 1 {
            set.name.clone_from(predicate);
        }
    }
}

/// `None` where a side is empty.
fn compare(name: String, id: &[f64], ood: Vec<f64>) -> Option<EvaluatedSet> {
    Some(EvaluatedSet {
        name,
        rows: ood.len(),
        metrics: Metrics::of(id, &ood)?,
        fpr95: fpr_interval(id, &ood, 0.95, CONFIDENCE)?,
        auroc: auroc_interval(id, &ood, CONFIDENCE)?,
        scores: ood,
    })
}

async fn score(
    session: &Session,
    bank: &Definition,
    (call, column): &(String, String),
    side: &'static str,
    predicate: &str,
) -> Result<Scored> {
    session.check_condition(predicate).await?;
    let query = format!(
        "SELECT {id}, {dataset}, {call} FROM {images} WHERE ({predicate}) AND {column} IS NOT NULL",
        id = schema::ID,
        dataset = schema::DATASET,
        images = schema::IMAGES,
    );
    let batches: Vec<RecordBatch> = session.sql(&query).await?.collect().await?;
    let mut scored = Scored { ids: Vec::new(), scores: Vec::new(), datasets: Vec::new() };
    for batch in &batches {
        scored.ids.extend(batch.column(0).as_primitive::<UInt64Type>().values());
        let scores = arrow::compute::cast(batch.column(2), &DataType::Float64)?;
        scored.scores.extend(scores.as_primitive::<Float64Type>().iter().flatten());
        let names = arrow::compute::cast(batch.column(1), &DataType::Utf8)?;
        scored.datasets.extend(names.as_string::<i32>().iter().flatten().map(str::to_owned));
        scored.datasets.sort();
        scored.datasets.dedup();
    }
    if scored.scores.is_empty() {
        return Err(Error::EmptySide { side, predicate: predicate.into(), backbone: bank.backbone.clone() });
    }
    Ok(scored)
}
