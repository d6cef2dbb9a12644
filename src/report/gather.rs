//! From a question to the facts: one scoring of the images, and everything that is counted from it.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use chrono::{DateTime, Datelike, SecondsFormat, TimeZone, Timelike, Utc};

use super::facts::{Asked, BankFacts, Copies, Group, HeldOut, NearCopies, Period, Report, Series, Set};
use super::levels::{levels, outlying};
use super::moved;
use super::pictures::{Shown, choose};
use super::scored::{Scored, everything_else, scores_of};
use super::verdicts::verdicts;
use crate::bank::{Calibration, Definition};
use crate::curate::{self, Alike, DedupOptions, Stays};
use crate::error::{Error, Result};
use crate::evaluate::{Compared, evaluate, sanity};
use crate::schema;
use crate::sql::session::Session;
use crate::statistics::intervals::{auroc_interval, excess_pvalue, share_interval};
use crate::statistics::metrics::{auroc, roc_curve};
use crate::statistics::thresholds::pvalue;

/// Of the intervals in a report.
const CONFIDENCE: f64 = 0.95;
/// Bins of a histogram.
const BINS: usize = 60;
/// Labels that a report lists.
const LABELS: usize = 50;
/// Periods that a report shows: beyond, they are longer.
const PERIODS: i64 = 60;
/// Bits in which the hashes of pictures that look alike may differ, as `curate dedup` has it.
const NEAR_BITS: u32 = 4;
/// Copies that are named.
const EXAMPLES: usize = 20;

/// What a report is asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// The bank, which must be calibrated.
    pub bank: String,
    /// SQL over `images`: which are measured; all but the bank's own and those of its calibration where there is none.
    pub predicate: Option<String>,
    /// SQL over `images`: ID images that the calibration has not seen, for its check and for `ood`.
    pub id: Option<String>,
    /// SQL over `images`: sets that do not belong, for AUROC and FPR95.
    pub ood: Vec<String>,
    /// The share of ID images that the threshold accepts.
    pub tpr: f64,
    /// What the report is called.
    pub title: Option<String>,
    /// Pictures that are shown, their neighbours not counted.
    pub max_images: usize,
}

impl Question {
    /// A report of a bank, as it is where nothing else is said.
    pub fn of(bank: &str) -> Self {
        let bank = bank.into();
        Self { bank, predicate: None, id: None, ood: Vec::new(), tpr: 0.95, title: None, max_images: 200 }
    }
}

/// Answer it. `tell` hears what is being done.
///
/// Errors: an unknown bank, one that is not calibrated at its k, a predicate that fails or matches nothing.
pub async fn report(session: &Session, question: &Question, mut tell: impl FnMut(&str)) -> Result<Report> {
    let bank = session.banks().definition(&question.bank)?;
    let calibration = session.banks().calibration(&bank, bank.k)?;
    let threshold = calibration.threshold(question.tpr)?;

    tell("scoring the images");
    let mut predicate = question.predicate.clone().unwrap_or_else(|| everything_else(&bank, calibration));
    let mut scored = Scored::read(session, &bank, &predicate).await;
    if question.predicate.is_none() && matches!(scored, Err(Error::NothingToReport { .. })) {
        // there is nothing else than those of the calibration: a warning tells of them
        predicate = format!("({}) IS NOT TRUE", bank.predicate);
        scored = Scored::read(session, &bank, &predicate).await;
    }
    let scored = scored?;
    let largest = scored.scores.iter().chain(&calibration.scores).copied().fold(0f32, f32::max);
    let bins = bins_up_to(f64::from(largest));
    let of_calibration = series("calibration".into(), &calibration.scores, &bins);
    let id = question.id.clone().unwrap_or_else(|| calibration.predicate.clone());

    tell("comparing datasets");
    let mut datasets = datasets(&scored, calibration, threshold, &bins);
    moved::compare(session, &bank, calibration, &predicate, &mut datasets).await?;
    let (labels, labels_in_all) = labels(&scored, calibration, threshold);
    let (period, periods) = periods(&scored, threshold);
    let sets = sets(session, &bank, &id, &question.ood, &mut tell).await?;
    let held_out = match &question.id {
        Some(id) if *id != calibration.predicate => Some(held_out(session, &bank, calibration, id).await?),
        _ => None,
    };
    tell("looking for copies");
    let copies = copies(session, &bank, &predicate).await?;
    let mut warnings = session.banks().notices();
    warnings.extend(sanity::seen_before(session, &bank.name, true, &predicate, "images measured").await?);
    if let Some(id) = question.id.as_ref().filter(|id| **id != calibration.predicate) {
        warnings.extend(sanity::seen_before(session, &bank.name, true, id, "held-out ID images").await?);
    }
    warnings.extend(if question.ood.is_empty() {
        sanity::of_bank(session, &bank.name).await?
    } else {
        sanity::of_evaluation(session, &bank.name, None, &id, &question.ood).await?
    });
    tell("choosing pictures");
    let asked = Shown { scored: &scored, bank: &bank, calibration, threshold, most: question.max_images };
    let (pictures, thumbnails) = choose(session, &asked, &mut tell).await?;

    let title = question.title.clone().unwrap_or_else(|| format!("What lies outside {}", bank.name));
    let ood = scored.scores.iter().filter(|score| **score > threshold).count();
    let mut report = Report {
        title,
        made_at: Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
        outskirt: env!("CARGO_PKG_VERSION"),
        bank: facts_of(&bank, Some(calibration.predicate.clone())),
        asked: Asked { predicate, tpr: question.tpr },
        images: scored.scores.len(),
        ood,
        excess_pvalue: excess_pvalue(ood, scored.scores.len(), above(calibration, threshold), calibration.scores.len()),
        verdicts: Vec::new(),
        threshold,
        threshold_interval: calibration.threshold_interval(question.tpr, CONFIDENCE).ok(),
        calibration: of_calibration,
        datasets,
        labels,
        labels_in_all,
        periods,
        period,
        sets,
        id,
        held_out,
        copies,
        warnings,
        pictures,
        thumbnails,
    };
    report.verdicts = verdicts(&report, &scored);
    Ok(report)
}

/// What is said of a bank.
pub(super) fn facts_of(bank: &Definition, calibrated_with: Option<String>) -> BankFacts {
    BankFacts {
        name: bank.name.clone(),
        version: bank.table_version,
        backbone: bank.backbone.clone(),
        k: bank.k,
        rows: bank.row_count,
        dimension: bank.dimension,
        predicate: bank.predicate.clone(),
        calibrated_with,
    }
}

/// Edges of bins of equal width, from 0 to a little beyond the largest score.
fn bins_up_to(largest: f64) -> Vec<f64> {
    let width = (largest.max(1e-6) / BINS as f64 * 1.001).max(1e-9);
    (0..=BINS).map(|at| at as f64 * width).collect()
}

/// Ascending scores, counted.
fn series(name: String, ascending: &[f32], bins: &[f64]) -> Series {
    let last = ascending.len().saturating_sub(1);
    let percentiles = (0..=100).map(|percent| ascending[(last * percent).div_ceil(100)]).collect();
    let below = |edge: &f64| ascending.partition_point(|score| f64::from(*score) < *edge);
    let counts = bins.windows(2).map(|bin| below(&bin[1]) - below(&bin[0])).collect();
    Series { name, images: ascending.len(), percentiles, counts, bins: bins.to_vec() }
}

/// Calibration images above the threshold.
fn above(calibration: &Calibration, threshold: f32) -> usize {
    calibration.scores.len() - calibration.scores.partition_point(|score| *score <= threshold)
}

fn group(
    (dataset, label): (String, Option<String>),
    ascending: &[f32],
    calibration: &Calibration,
    threshold: f32,
    bins: Option<&[f64]>,
) -> Group {
    let ood = ascending.len() - ascending.partition_point(|score| *score <= threshold);
    let wide = |scores: &[f32]| scores.iter().map(|score| f64::from(*score)).collect::<Vec<_>>();
    let (own, theirs) = (wide(ascending), wide(&calibration.scores));
    let between = auroc_interval(&theirs, &own, CONFIDENCE).map_or((0.0, 1.0), |sure| (sure.lower, sure.upper));
    let share = share_interval(ood, ascending.len(), CONFIDENCE);
    Group {
        images: ascending.len(),
        ood,
        share_interval: (share.lower, share.upper),
        excess_pvalue: excess_pvalue(ood, ascending.len(), above(calibration, threshold), calibration.scores.len()),
        auroc: auroc(&theirs, &own).unwrap_or(0.5),
        auroc_interval: between,
        embeddings: None,
        scores: bins.map(|bins| series(dataset.clone(), ascending, bins)),
        median: ascending[(ascending.len() - 1) / 2],
        largest: ascending[ascending.len() - 1],
        dataset,
        label,
    }
}

/// Every dataset, the one with the largest share outside first.
fn datasets(scored: &Scored, calibration: &Calibration, threshold: f32, bins: &[f64]) -> Vec<Group> {
    let mut members: BTreeMap<&str, Vec<f32>> = BTreeMap::new();
    for (score, group) in scored.scores.iter().zip(&scored.group) {
        members.entry(&scored.groups[*group as usize].0).or_default().push(*score);
    }
    let mut found = Vec::new();
    for (dataset, mut scores) in members {
        scores.sort_unstable_by(f32::total_cmp);
        found.push(group((dataset.into(), None), &scores, calibration, threshold, Some(bins)));
    }
    found.sort_by(|one, other| share(other).total_cmp(&share(one)));
    found
}

/// The labels of each dataset with most images outside, and how many labels there are.
fn labels(scored: &Scored, calibration: &Calibration, threshold: f32) -> (Vec<Group>, usize) {
    if scored.groups.iter().all(|(_, label)| label.is_none()) {
        return (Vec::new(), 0);
    }
    let mut members: Vec<Vec<f32>> = vec![Vec::new(); scored.groups.len()];
    scored.scores.iter().zip(&scored.group).for_each(|(score, group)| members[*group as usize].push(*score));
    let outside = |scores: &Vec<f32>| scores.iter().filter(|score| **score > threshold).count();
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|&at| (std::cmp::Reverse(outside(&members[at])), &scored.groups[at]));
    let found = order.iter().take(LABELS).map(|&at| {
        let mut scores = std::mem::take(&mut members[at]);
        scores.sort_unstable_by(f32::total_cmp);
        group(scored.groups[at].clone(), &scores, calibration, threshold, None)
    });
    (found.collect(), order.len())
}

/// The share of a group that lies outside.
fn share(group: &Group) -> f64 {
    group.ood as f64 / group.images.max(1) as f64
}

/// When images came: by hours, days or months, whichever are few enough.
fn periods(scored: &Scored, threshold: f32) -> (&'static str, Vec<Period>) {
    let (first, last) = (scored.came.iter().min(), scored.came.iter().max());
    let span = first.zip(last).map_or(0, |(first, last)| last - first);
    let name = match span / 3600 {
        hours if hours < PERIODS => "hour",
        hours if hours < 24 * PERIODS => "day",
        _ => "month",
    };
    let begins = |seconds: i64| -> DateTime<Utc> {
        let at = Utc.timestamp_opt(seconds, 0).single().unwrap_or_default();
        let day = if name == "month" { 1 } else { at.day() };
        let hour = if name == "hour" { at.hour() } else { 0 };
        Utc.with_ymd_and_hms(at.year(), at.month(), day, hour, 0, 0).single().unwrap_or(at)
    };
    let mut members: BTreeMap<DateTime<Utc>, Vec<f32>> = BTreeMap::new();
    for (score, came) in scored.scores.iter().zip(&scored.came) {
        members.entry(begins(*came)).or_default().push(*score);
    }
    let found = members.into_iter().map(|(begins, mut scores)| {
        scores.sort_unstable_by(f32::total_cmp);
        Period {
            begins: begins.to_rfc3339_opts(SecondsFormat::Secs, true),
            images: scores.len(),
            ood: scores.len() - scores.partition_point(|score| *score <= threshold),
            median: scores[(scores.len() - 1) / 2],
        }
    });
    (name, found.collect())
}

/// The table of `evaluate`, with curves.
async fn sets(
    session: &Session,
    bank: &Definition,
    id: &str,
    ood: &[String],
    tell: &mut impl FnMut(&str),
) -> Result<Vec<Set>> {
    if ood.is_empty() {
        return Ok(Vec::new());
    }
    tell("evaluating the OOD sets");
    let evaluation = evaluate(session, &bank.name, Compared::Knn(None), id, ood).await?;
    let inside = scores_of(session, bank, id).await?;
    let mut sets = Vec::with_capacity(ood.len());
    for (predicate, set) in ood.iter().zip(evaluation.sets) {
        let outside = scores_of(session, bank, predicate).await?;
        sets.push(Set {
            name: set.name,
            predicate: predicate.clone(),
            images: set.rows,
            fpr95: set.metrics.fpr95,
            fpr95_interval: (set.fpr95.lower, set.fpr95.upper),
            auroc: set.metrics.auroc,
            auroc_interval: (set.auroc.lower, set.auroc.upper),
            aupr_in: set.metrics.aupr_in,
            aupr_out: set.metrics.aupr_out,
            roc: roc_curve(&inside, &outside, 200),
        });
    }
    Ok(sets)
}

async fn held_out(session: &Session, bank: &Definition, calibration: &Calibration, id: &str) -> Result<HeldOut> {
    let scores = scores_of(session, bank, id).await?;
    let pvalues: Vec<f64> = scores.iter().map(|score| pvalue(&calibration.scores, *score)).collect();
    let mut counts = vec![0; 20];
    for p in &pvalues {
        counts[((p * 20.0).ceil() as usize).clamp(1, 20) - 1] += 1;
    }
    let at_most = |level: f64| (level, pvalues.iter().filter(|p| **p <= level).count());
    let levels = levels([0.01, 0.05, 0.1, 0.2, 0.5].map(at_most), pvalues.len(), calibration.scores.len());
    let holds = outlying(&levels).is_none();
    Ok(HeldOut { predicate: id.into(), images: pvalues.len(), counts, levels, holds })
}

/// Files of the same bytes, among the images and in the bank.
async fn copies(session: &Session, bank: &Definition, predicate: &str) -> Result<Copies> {
    let theirs = format!("({predicate}) AND ({}) IS NOT TRUE", bank.predicate);
    let (ours, banks, all) = (hashed(&theirs), hashed(&bank.predicate), hashed(predicate));
    let of_bank = format!("SELECT count(*) FROM {ours} a WHERE content_hash IN (SELECT content_hash FROM {banks} b)");
    let among = format!("SELECT count(content_hash) - count(DISTINCT content_hash) FROM {all} a");
    let mut copies = Copies {
        of_bank: number(session, &of_bank).await?,
        among_themselves: number(session, &among).await?,
        ..Copies::default()
    };
    if copies.of_bank > 0 {
        copies.examples =
            pairs(session, &format!("{ours} a JOIN {banks} b ON a.content_hash = b.content_hash")).await?;
    }
    if copies.among_themselves > 0 {
        let before = "a.content_hash = b.content_hash AND b.id < a.id";
        copies.examples_among = pairs(session, &format!("{all} a JOIN {all} b ON {before}")).await?;
    }
    let images = session.store().schema(schema::IMAGES).await?;
    if images.field_with_name(schema::DHASH).is_ok_and(schema::is_hash) {
        copies.near = Some(near_copies(session, bank, predicate, &theirs).await?);
    }
    Ok(copies)
}

/// Pictures that look alike, as `curate dedup` finds them.
async fn near_copies(session: &Session, bank: &Definition, predicate: &str, theirs: &str) -> Result<NearCopies> {
    let find = async |predicate: &str, against: Option<&str>| {
        let options = DedupOptions {
            alike: Alike::Picture { bits: NEAR_BITS },
            predicate: Some(predicate.into()),
            against: against.map(str::to_owned),
            stays: Stays::First,
        };
        let found = match curate::copies(session, &options, |_, _| ()).await {
            // all are marked 'ignore'
            Err(Error::NothingToCompare { .. }) => return Ok::<_, Error>((Vec::new(), 0)),
            found => found?,
        };
        let near: Vec<(u64, u64)> =
            found.copies.iter().filter(|copy| copy.apart.is_some()).map(|copy| (copy.id, copy.of)).collect();
        Ok((near, found.without))
    };
    let (of_bank, _) = find(theirs, Some(&bank.predicate)).await?;
    let (among, without) = find(predicate, None).await?;
    Ok(NearCopies {
        bits: NEAR_BITS,
        of_bank: of_bank.len(),
        among_themselves: among.len(),
        examples: named(session, &of_bank).await?,
        examples_among: named(session, &among).await?,
        without,
    })
}

/// The uris of the first pairs of ids.
async fn named(session: &Session, of: &[(u64, u64)]) -> Result<Vec<(String, String)>> {
    let some = &of[..of.len().min(EXAMPLES)];
    if some.is_empty() {
        return Ok(Vec::new());
    }
    let values: Vec<String> = some.iter().map(|(one, other)| format!("({one}, {other})")).collect();
    let listed = format!("(VALUES {}) p(one, other)", values.join(", "));
    pairs(session, &format!("{listed} JOIN images a ON a.id = p.one JOIN images b ON b.id = p.other")).await
}

/// Images whose file is known.
fn hashed(predicate: &str) -> String {
    format!("(SELECT id, uri, content_hash FROM images WHERE ({predicate}) AND content_hash IS NOT NULL)")
}

/// The uris of the first pairs of `a` and `b`, each of `a` once.
async fn pairs(session: &Session, joined: &str) -> Result<Vec<(String, String)>> {
    let query = format!("SELECT a.uri, min(b.uri) FROM {joined} GROUP BY a.uri ORDER BY a.uri LIMIT {EXAMPLES}");
    let mut found = Vec::new();
    for batch in session.sql(&query).await?.collect().await? {
        let [ones, others] = [0, 1].map(|at| cast(batch.column(at), &DataType::Utf8));
        let (ones, others) = (ones?, others?);
        let both = ones.as_string::<i32>().iter().zip(others.as_string::<i32>());
        found.extend(both.filter_map(|(one, other)| Some((one?.to_owned(), other?.to_owned()))));
    }
    Ok(found)
}

async fn number(session: &Session, query: &str) -> Result<usize> {
    let batches = session.sql(query).await?.collect().await?;
    let found = batches.first().map_or(0, |batch| batch.column(0).as_primitive::<Int64Type>().value(0));
    Ok(found.max(0) as usize)
}
