//! What the numbers of a report mean, in sentences, each with the SQL that gives its numbers.

use std::collections::BTreeMap;

use chrono::{TimeZone, Utc};

use super::facts::{Group, Report, Verdict};
use super::levels::{can_tell, sentence, spoken};
use super::scored::Scored;
use super::words::{count, images, percent};
use crate::statistics::intervals::share_interval;
use crate::statistics::thresholds::bh_limit;
use crate::store::quote;

/// Datasets that have a sentence of their own.
const DATASETS: usize = 3;
/// Images below which a share is not compared with that of another time.
const FEWEST: usize = 30;
/// Chance that an excess is taken for one, and the share of the datasets named that are named by chance.
const LEVEL: f64 = 0.05;
/// Days that are compared with as many before them.
const DAYS: i64 = 30;

/// The sentences, the most important first.
pub(super) fn verdicts(report: &Report, scored: &Scored) -> Vec<Verdict> {
    let mut found = vec![in_all(report)];
    found.extend(by_dataset(report, scored));
    found.extend(calibration(report));
    found.extend(report.sets.iter().map(|set| Verdict {
        tone: "note",
        text: format!(
            "{} beside ID images: AUROC {} % ({} to {}); where 95 % of the ID images are accepted, {} % of it is too ({} to {}).",
            set.name,
            percent(set.auroc),
            percent(set.auroc_interval.0),
            percent(set.auroc_interval.1),
            percent(set.fpr95),
            percent(set.fpr95_interval.0),
            percent(set.fpr95_interval.1),
        ),
        // each side by itself, as the metrics are
        sql: format!(
            "SELECT auroc(score, ood), fpr_at_tpr(score, ood)\nFROM (SELECT false AS ood, {score} AS score FROM images WHERE ({id}) AND {column} IS NOT \
             NULL\n      UNION ALL\n      SELECT true, {score} FROM images WHERE ({ood}) AND {column} IS NOT NULL)",
            score = score(report),
            column = report.bank.backbone,
            id = report.id,
            ood = set.predicate,
        ),
    }));
    found.extend(copies(report));
    found
}

fn score(report: &Report) -> String {
    format!("knn_ood_score({}, '{}')", report.bank.backbone, report.bank.name)
}

fn is_ood(report: &Report) -> String {
    let tpr = if report.asked.tpr == 0.95 { String::new() } else { format!(", {}", report.asked.tpr) };
    format!("is_ood({}, '{}'{tpr})", report.bank.backbone, report.bank.name)
}

/// The images that were asked about.
fn rows(report: &Report) -> String {
    format!("({}) AND {} IS NOT NULL", report.asked.predicate, report.bank.backbone)
}

fn in_all(report: &Report) -> Verdict {
    let share = report.ood as f64 / report.images as f64;
    let expected = 1.0 - report.asked.tpr;
    let sure = share_interval(report.ood, report.images, 0.95);
    let own = format!("the threshold's own share, which is {} % of ID images", percent(expected));
    let (tone, means) = if report.excess_pvalue <= LEVEL {
        ("bad", format!("more than {own}"))
    } else if sure.upper > 2.0 * expected.max(0.05) && sure.upper > share {
        (
            "note",
            format!(
                "too few to tell from {own} ({} to {} % with 95 % confidence)",
                percent(sure.lower),
                percent(sure.upper)
            ),
        )
    } else {
        ("good", format!("no more than {own}, allowing for chance"))
    };
    Verdict {
        tone,
        text: format!(
            "{} of {} ({} %) {} outside {}: {means}.",
            count(report.ood),
            images(report.images),
            percent(share),
            if report.ood == 1 { "lies" } else { "lie" },
            report.bank.name,
        ),
        sql: format!(
            "SELECT count(*) FILTER (WHERE {}) AS outside, count(*) AS images\nFROM images WHERE {}",
            is_ood(report),
            rows(report)
        ),
    }
}

/// The datasets of which more lies outside than the threshold's own share, those first of which more does than before.
fn by_dataset(report: &Report, scored: &Scored) -> Vec<Verdict> {
    let lately = Lately::of(report, scored);
    let outside = outside(report, lately.as_ref());
    let mut found: Vec<Verdict> = outside
        .iter()
        .take(DATASETS)
        // of a single dataset that is what the first sentence says
        .filter(|group| report.datasets.len() > 1 || lately.as_ref().is_some_and(|lately| lately.rise(group).is_some()))
        .map(|group| {
            let share = group.ood as f64 / group.images as f64;
            let text = format!(
                "{} % of {} lies outside ({} to {} with 95 % confidence).",
                percent(share),
                group.dataset,
                percent(group.share_interval.0),
                percent(group.share_interval.1)
            );
            let then = lately.as_ref().and_then(|lately| lately.sentence(group));
            Verdict {
                tone: "bad",
                text: text + &then.unwrap_or_default(),
                sql: format!(
                    "SELECT avg(outside) AS outside, count(*) AS images{}\nFROM (SELECT ingested_at, CASE WHEN {} THEN 1.0 ELSE 0.0 END AS \
                     outside\n      FROM images WHERE {} AND dataset = {})",
                    lately.as_ref().map(Lately::columns).unwrap_or_default(),
                    is_ood(report),
                    rows(report),
                    quote(&group.dataset)
                ),
            }
        })
        .collect();
    if outside.len() > DATASETS {
        let more = outside.len() - DATASETS;
        found.push(Verdict {
            tone: "note",
            text: format!("So it is with {more} more {}, in the table below.", if more == 1 { "dataset" } else { "datasets" }),
            sql: format!(
                "SELECT dataset, avg(CASE WHEN {} THEN 1.0 ELSE 0.0 END) AS outside\nFROM images WHERE {} GROUP BY dataset ORDER BY \
                 outside DESC",
                is_ood(report),
                rows(report)
            ),
        });
    }
    found
}

/// Datasets of which more lies outside than chance explains: of those named, about a share [`LEVEL`] is wrong (Benjamini-Hochberg).
fn outside<'r>(report: &'r Report, lately: Option<&Lately<'_>>) -> Vec<&'r Group> {
    let mut pvalues: Vec<f64> = report.datasets.iter().map(|group| group.excess_pvalue).collect();
    pvalues.sort_unstable_by(f64::total_cmp);
    let Some(limit) = bh_limit(&pvalues, LEVEL) else { return Vec::new() };
    let mut found: Vec<&Group> = report.datasets.iter().filter(|group| group.excess_pvalue <= limit).collect();
    // a stable sort: those without a time before stay in their order, by share
    let rise = |group: &Group| lately.and_then(|lately| lately.rise(group)).unwrap_or(0.0).max(0.0);
    found.sort_by(|one, other| rise(other).total_cmp(&rise(one)));
    found
}

/// Shares outside of each dataset in the days up to the newest image, and in as many before, where both have enough images.
struct Lately<'s> {
    shares: BTreeMap<&'s str, (f64, f64)>,
    /// When the newest image came, and when the two times begin, as SQL has them.
    newest: String,
    begins: [String; 2],
}

impl<'s> Lately<'s> {
    /// `None` where no dataset has both.
    fn of(report: &Report, scored: &'s Scored) -> Option<Self> {
        let last = *scored.came.iter().max()?;
        let mut counts: BTreeMap<&str, [(usize, usize); 2]> = BTreeMap::new();
        for ((score, group), came) in scored.scores.iter().zip(&scored.group).zip(&scored.came) {
            let age = ((last - came) / (DAYS * 86_400)) as usize;
            if age < 2 {
                let count = &mut counts.entry(&scored.groups[*group as usize].0).or_default()[age];
                count.0 += usize::from(*score > report.threshold);
                count.1 += 1;
            }
        }
        let share = |(ood, all): (usize, usize)| ood as f64 / all as f64;
        let enough = counts.into_iter().filter(|(_, count)| count.iter().all(|(_, all)| *all >= FEWEST));
        let shares: BTreeMap<&str, (f64, f64)> =
            enough.map(|(dataset, [now, then])| (dataset, (share(now), share(then)))).collect();
        let at = |seconds: i64| {
            let at = Utc.timestamp_opt(seconds, 0).single().unwrap_or_default();
            at.format("%Y-%m-%d %H:%M:%S").to_string()
        };
        // an age of DAYS days is of the time before: it begins a second later
        let begins = [1, 2].map(|times| at(last - times * DAYS * 86_400 + 1));
        (!shares.is_empty()).then(|| Self { shares, newest: at(last), begins })
    }

    /// By how much more of a dataset lies outside than before.
    fn rise(&self, group: &Group) -> Option<f64> {
        self.shares.get(group.dataset.as_str()).map(|(now, then)| now - then)
    }

    fn sentence(&self, group: &Group) -> Option<String> {
        let (now, then) = self.shares.get(group.dataset.as_str())?;
        let times = if *then > 0.0 { format!(", {:.1} times that before", now / then) } else { String::new() };
        Some(format!(
            " Of what came in the {DAYS} days up to {} {} %, in the {DAYS} days before {} %{times}.",
            &self.newest[..10],
            percent(*now),
            percent(*then)
        ))
    }

    /// The two shares, of a query that has `outside` and `ingested_at`.
    fn columns(&self) -> String {
        let [now, then] = &self.begins;
        format!(
            ",\n       avg(outside) FILTER (WHERE ingested_at >= '{now}') AS lately,\n       avg(outside) FILTER (WHERE ingested_at >= '{then}' \
             AND ingested_at < '{now}') AS before"
        )
    }
}

fn calibration(report: &Report) -> Vec<Verdict> {
    let mut found = Vec::new();
    let sql = |predicate: &str, level: f64| {
        format!(
            "SELECT avg(CASE WHEN knn_ood_pvalue({column}, '{bank}') <= {level} THEN 1.0 ELSE 0.0 END)\nFROM images WHERE ({predicate}) AND {column} \
             IS NOT NULL",
            column = report.bank.backbone,
            bank = report.bank.name
        )
    };
    if let Some(held_out) = &report.held_out {
        found.push(Verdict {
            tone: match held_out.holds {
                true if can_tell(report.calibration.images) => "good",
                true => "note",
                false => "bad",
            },
            text: sentence(&held_out.levels, held_out.images, report.calibration.images),
            sql: sql(&held_out.predicate, spoken(&held_out.levels).map_or(0.05, |level| level.level)),
        });
    }
    let images = count(report.calibration.images);
    match report.threshold_interval {
        Some((lower, upper)) => found.push(Verdict {
            tone: "note",
            text: format!(
                "The threshold {:.4} comes from {images} calibration images; that of all ID images lies between {lower:.4} and {upper:.4} with \
                 95 % confidence.",
                report.threshold
            ),
            sql: format!("SELECT knn_ood_threshold('{}', {})", report.bank.name, report.asked.tpr),
        }),
        None => found.push(Verdict {
            tone: "bad",
            text: format!(
                "The threshold {:.4} comes from {images} calibration images: too few to say how sure it is.",
                report.threshold
            ),
            sql: format!("SELECT knn_ood_threshold('{}', {})", report.bank.name, report.asked.tpr),
        }),
    }
    found
}

fn copies(report: &Report) -> Option<Verdict> {
    let copies = &report.copies;
    let is = if copies.of_bank == 1 { "is a file" } else { "are files" };
    (copies.of_bank > 0).then(|| Verdict {
        tone: "bad",
        text: format!(
            "{} of those measured {is} that the bank holds as well: scores are low where a copy is among the nearest images.",
            images(copies.of_bank)
        ),
        sql: format!(
            "SELECT uri FROM images WHERE ({}) AND ({bank}) IS NOT TRUE\n  AND content_hash IN (SELECT content_hash FROM images WHERE {bank})",
            report.asked.predicate,
            bank = report.bank.predicate
        ),
    })
}
