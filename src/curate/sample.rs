//! A few images of many: for people to look at, or to label.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Int64Type, UInt64Type};
use futures::StreamExt;

use super::marks::not_ignored;
use crate::bank::Definition;
use crate::error::{Error, Result};
use crate::index::vectors::{embedding, normalize};
use crate::sql::session::{Session, expression};
use crate::statistics::coverage::farthest_first;
use crate::statistics::sampling::mixed;
use crate::store::memory;

/// How images are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// The largest scores of a bank.
    Outlier,
    /// The scores of a bank that are nearest to its threshold, on both sides.
    Borderline,
    /// Such that all are like one of them: see [`farthest_first`].
    Diverse,
    /// Any, as a seed has it.
    Random,
}

/// What is chosen from, and how many.
#[derive(Debug, Clone)]
pub struct SampleOptions {
    /// How.
    pub strategy: Strategy,
    /// How many, of each group where there are groups.
    pub n: usize,
    /// SQL over `images`: which; all where there is none.
    pub predicate: Option<String>,
    /// SQL over `images`, such as a column: images of which it has the same value are a group.
    pub per: Option<String>,
    /// Whose scores count, and whose backbone's embeddings.
    pub bank: Option<String>,
    /// Whose embeddings count, where there is no bank.
    pub backbone: Option<String>,
    /// The share of ID images that the threshold accepts, for [`Strategy::Borderline`].
    pub tpr: f64,
    /// Of [`Strategy::Random`].
    pub seed: u64,
}

/// An image that was chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// `images.id`.
    pub id: u64,
    /// The value of [`SampleOptions::per`], as text.
    pub group: Option<String>,
    /// Its score, where there is a bank.
    pub score: Option<f32>,
    /// Of a diverse one: how many images of its group are more like it than like the others.
    pub stands_for: Option<usize>,
}

/// What is known of the images of a group.
#[derive(Default)]
struct Group {
    ids: Vec<u64>,
    scores: Vec<f32>,
    /// Unit vectors, one behind the other.
    units: Vec<f32>,
}

/// Choose images, but for those marked `ignore`: group by group in the order of its name, in each the first one first. The same database gives the same.
///
/// Errors: a predicate or group that is no expression, fails or holds for nothing; a strategy without the bank or the embeddings that it needs; a bank
/// that is unknown or not calibrated; embeddings that do not fit into memory.
pub async fn sample(session: &Session, options: &SampleOptions) -> Result<Vec<Sampled>> {
    let needs = |what: &'static str| Error::SampleNeeds { strategy: options.strategy.name(), what };
    let bank = options.bank.as_deref().map(|name| session.banks().definition(name)).transpose()?;
    let column = bank.as_ref().map(|bank| bank.backbone.clone()).or_else(|| options.backbone.clone());
    let threshold = match (options.strategy, &bank) {
        (Strategy::Outlier | Strategy::Borderline, None) => return Err(needs("--bank, whose scores decide")),
        (Strategy::Borderline, Some(bank)) => Some(session.banks().calibration(bank, bank.k)?.threshold(options.tpr)?),
        _ => None,
    };
    let vectors = match (options.strategy, &column) {
        (Strategy::Diverse, None) => return Err(needs("--bank or --backbone, whose embeddings decide")),
        (Strategy::Diverse, Some(column)) => Some(column.as_str()),
        _ => None,
    };
    let groups = read(session, options, bank.as_deref(), column.as_deref(), vectors).await?;
    let mut found = Vec::new();
    for (name, group) in groups {
        found.extend(chosen(options, &group, threshold, name.as_deref()));
    }
    Ok(found)
}

impl Strategy {
    /// As the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Outlier => "outlier",
            Self::Borderline => "borderline",
            Self::Diverse => "diverse",
            Self::Random => "random",
        }
    }
}

/// The images by groups, with what the strategy looks at.
async fn read(
    session: &Session,
    options: &SampleOptions,
    bank: Option<&Definition>,
    column: Option<&str>,
    vectors: Option<&str>,
) -> Result<BTreeMap<Option<String>, Group>> {
    let predicate = options.predicate.as_deref().unwrap_or("true");
    session.check_condition(predicate).await?;
    if let Some(per) = &options.per {
        // one expression, or its parentheses could close ours
        expression(per).map_err(|reason| Error::BadPredicate { predicate: per.clone(), reason })?;
    }
    let score = bank.map_or_else(|| "NULL".into(), score);
    let has_vector = column.map_or_else(|| "true".into(), |column| format!("{column} IS NOT NULL"));
    let query = format!(
        "SELECT id, CAST(({per}) AS VARCHAR) AS of_group, {score} AS of_score, {vector} AS of_vector FROM images WHERE ({predicate}) AND \
         {has_vector} AND {looked_at} ORDER BY id",
        looked_at = not_ignored(session.store()).await?,
        per = options.per.as_deref().unwrap_or("NULL"),
        vector = vectors.unwrap_or("NULL"),
    );
    let failed = |error: Error| Error::BadPredicate { predicate: predicate.into(), reason: error.to_string() };
    if let Some(column) = vectors {
        fits(session, column, predicate).await.map_err(|error| match error {
            Error::NotEnoughMemory { .. } => error,
            other => failed(other),
        })?;
    }
    let mut batches = session.sql(&query).await.map_err(failed)?.execute_stream().await?;
    let mut groups: BTreeMap<Option<String>, Group> = BTreeMap::new();
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        let names = cast(batch.column(1), &DataType::Utf8)?;
        let scores = cast(batch.column(2), &DataType::Float32)?;
        let (names, scores) = (names.as_string::<i32>(), scores.as_primitive::<Float32Type>());
        for (row, id) in batch.column(0).as_primitive::<UInt64Type>().values().iter().enumerate() {
            let group = groups.entry(names.is_valid(row).then(|| names.value(row).to_owned())).or_default();
            if vectors.is_some() {
                let column = batch.column(3).as_fixed_size_list();
                // what is no direction is like nothing
                let Ok(Some(values)) = embedding(column, row) else { continue };
                if normalize(values, &mut group.units).is_err() {
                    continue;
                }
            }
            group.ids.push(*id);
            group.scores.push(if scores.is_valid(row) { scores.value(row) } else { f32::NAN });
        }
    }
    groups.retain(|_, group| !group.ids.is_empty());
    if groups.is_empty() {
        return Err(Error::NothingToSample { predicate: predicate.into() });
    }
    Ok(groups)
}

/// The score of a row, without its own entry in the bank where that leaves enough.
fn score(bank: &Definition) -> String {
    let own_entry = if bank.k < bank.row_count { format!(", {}, id", bank.k) } else { String::new() };
    format!("knn_ood_score({}, '{}'{own_entry})", bank.backbone, bank.name)
}

/// Refuse embeddings that there is no memory for.
async fn fits(session: &Session, column: &str, predicate: &str) -> Result<()> {
    let query =
        format!("SELECT count(*), first_value({column}) FROM images WHERE ({predicate}) AND {column} IS NOT NULL");
    let batches = session.sql(&query).await?.collect().await?;
    let Some(batch) = batches.first() else { return Ok(()) };
    let rows = batch.column(0).as_primitive::<Int64Type>().value(0).max(0) as u64;
    let numbers = batch.column(1).as_fixed_size_list_opt().map_or(0, |list| list.value_length().max(0) as u64);
    // grown by doubling while they are read, and a place each in two lists
    memory::check("the embeddings to choose from", rows * (8 * numbers + 32), "--where chooses from fewer")
}

/// The images of a group that are chosen.
fn chosen(options: &SampleOptions, group: &Group, threshold: Option<f32>, name: Option<&str>) -> Vec<Sampled> {
    let score = |at: usize| Some(group.scores[at]).filter(|score| !score.is_nan());
    let sampled = |at: usize, stands_for| Sampled {
        id: group.ids[at],
        group: name.map(str::to_owned),
        score: score(at),
        stands_for,
    };
    if options.strategy == Strategy::Diverse {
        let dimension = group.units.len() / group.ids.len();
        let cover = farthest_first(&group.units, dimension, options.n);
        return cover.chosen.iter().zip(&cover.members).map(|(at, members)| sampled(*at, Some(*members))).collect();
    }
    let mut order: Vec<usize> = (0..group.ids.len()).collect();
    let off = |at: usize| (group.scores[at] - threshold.unwrap_or_default()).abs();
    order.sort_by(|&one, &other| {
        let by = match options.strategy {
            Strategy::Outlier | Strategy::Diverse => group.scores[other].total_cmp(&group.scores[one]),
            Strategy::Borderline => off(one).total_cmp(&off(other)),
            Strategy::Random => mixed(group.ids[one], options.seed).cmp(&mixed(group.ids[other], options.seed)),
        };
        by.then(group.ids[one].cmp(&group.ids[other]))
    });
    order.into_iter().take(options.n).map(|at| sampled(at, None)).collect()
}
