//! What the numbers of a report mean, in sentences, each with the SQL that gives its numbers.

use std::collections::BTreeMap;

use super::facts::{Report, Verdict};
use super::scored::Scored;
use crate::statistics::intervals::share_interval;

/// Datasets that have a sentence of their own.
const DATASETS: usize = 3;
/// Images below which a share is not compared with that of another time.
const FEWEST: usize = 30;
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
            "{} is told from ID images with AUROC {} % ({} to {}); where 95 % of the ID images are accepted, {} % of it is too ({} to {}).",
            set.name,
            percent(set.auroc),
            percent(set.auroc_interval.0),
            percent(set.auroc_interval.1),
            percent(set.fpr95),
            percent(set.fpr95_interval.0),
            percent(set.fpr95_interval.1),
        ),
        sql: format!(
            "SELECT auroc(score, ood), fpr_at_tpr(score, ood)\nFROM (SELECT NOT coalesce(({}), false) AS ood, {} AS score FROM images\n      WHERE \
             {} IS NOT NULL)",
            report.id,
            score(report),
            report.bank.backbone
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
    let sure = share_interval(report.ood, report.images, 0.95);
    let expected = 1.0 - report.asked.tpr;
    let (tone, means) = if sure.lower > expected {
        ("bad", "more than the threshold's own share")
    } else if sure.upper < expected {
        ("good", "less than the threshold's own share")
    } else {
        ("good", "about the threshold's own share")
    };
    Verdict {
        tone,
        text: format!(
            "{} of {} images ({} %) lie outside {}: {means}, which is {} % of ID images.",
            count(report.ood),
            count(report.images),
            percent(share),
            report.bank.name,
            percent(expected)
        ),
        sql: format!(
            "SELECT count(*) FILTER (WHERE {}) AS outside, count(*) AS images\nFROM images WHERE {}",
            is_ood(report),
            rows(report)
        ),
    }
}

/// The datasets of which more lies outside than the threshold's own share, and whether that was so before.
fn by_dataset(report: &Report, scored: &Scored) -> Vec<Verdict> {
    let expected = 1.0 - report.asked.tpr;
    let before = lately(report, scored);
    let outside: Vec<_> = report.datasets.iter().filter(|group| group.share_interval.0 > expected).collect();
    let mut found: Vec<Verdict> = outside
        .iter()
        .take(DATASETS)
        .filter(|_| report.datasets.len() > 1 || !before.is_empty())
        .map(|group| {
            let share = group.ood as f64 / group.images as f64;
            let then = before.get(group.dataset.as_str()).map(|(now, then)| {
                let times = if *then > 0.0 { format!(", {:.1} times that before", now / then) } else { String::new() };
                format!(
                    " Of what came in the last {DAYS} days {} %, of the {DAYS} days before {} %{times}.",
                    percent(*now),
                    percent(*then)
                )
            });
            Verdict {
                tone: "bad",
                text: format!(
                    "{} % of {} lies outside ({} to {} with 95 % confidence).{}",
                    percent(share),
                    group.dataset,
                    percent(group.share_interval.0),
                    percent(group.share_interval.1),
                    then.unwrap_or_default()
                ),
                sql: format!(
                    "SELECT date_trunc('month', ingested_at) AS month, avg(CASE WHEN {} THEN 1.0 ELSE 0.0 END) AS outside, count(*) AS \
                     images\nFROM images WHERE {} AND dataset = '{}' GROUP BY month ORDER BY month",
                    is_ood(report),
                    rows(report),
                    group.dataset.replace('\'', "''")
                ),
            }
        })
        .collect();
    if outside.len() > DATASETS {
        found.push(Verdict {
            tone: "note",
            text: format!("So it is with {} more datasets, in the table below.", outside.len() - DATASETS),
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

/// Shares outside of each dataset, in the last days and in as many before, where both have enough images.
fn lately<'s>(report: &Report, scored: &'s Scored) -> BTreeMap<&'s str, (f64, f64)> {
    let Some(last) = scored.came.iter().max() else { return BTreeMap::new() };
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
    enough.map(|(dataset, [now, then])| (dataset, (share(now), share(then)))).collect()
}

fn calibration(report: &Report) -> Vec<Verdict> {
    let mut found = Vec::new();
    let sql = |predicate: &str| {
        format!(
            "SELECT avg(CASE WHEN knn_ood_pvalue({column}, '{bank}') <= 0.05 THEN 1.0 ELSE 0.0 END)\nFROM images WHERE ({predicate}) AND {column} \
             IS NOT NULL",
            column = report.bank.backbone,
            bank = report.bank.name
        )
    };
    if let Some(held_out) = &report.held_out {
        let at = held_out.levels.iter().find(|level| level.level == 0.05);
        let share = at.map_or(0.0, |level| level.share);
        let (tone, means) = if held_out.holds {
            ("good", "The calibration holds")
        } else if share > 0.05 {
            ("bad", "The calibration does not hold, and calls too many images OOD")
        } else {
            ("bad", "The calibration does not hold, and calls too few images OOD")
        };
        let within = at.map_or(0.0, |level| level.within);
        found.push(Verdict {
            tone,
            text: format!(
                "{means}: of {} held-out ID images {} % have a p-value of at most 0.05, where 5 % are expected, give or take {} %.",
                count(held_out.images),
                percent(share),
                percent(within)
            ),
            sql: sql(&held_out.predicate),
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
    (copies.of_bank > 0).then(|| Verdict {
        tone: "bad",
        text: format!(
            "{} of the images are files that the bank holds as well: their scores are those of their copies.",
            count(copies.of_bank)
        ),
        sql: format!(
            "SELECT uri FROM images WHERE ({}) AND ({bank}) IS NOT TRUE\n  AND content_hash IN (SELECT content_hash FROM images WHERE {bank})",
            report.asked.predicate,
            bank = report.bank.predicate
        ),
    })
}

/// A share in percent: with more digits where it is near the ends.
pub(super) fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent == 0.0 || percent == 100.0 {
        format!("{percent:.0}")
    } else if (1.0..=99.0).contains(&percent) {
        format!("{percent:.1}")
    } else {
        format!("{percent:.2}")
    }
}

/// A count with commas: 12,345.
pub(super) fn count(count: usize) -> String {
    let digits = count.to_string();
    let first = digits.len() % 3;
    let mut parts: Vec<&str> = if first == 0 { Vec::new() } else { vec![&digits[..first]] };
    parts.extend((first..digits.len()).step_by(3).map(|at| &digits[at..at + 3]));
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        let counts = [0, 999, 1000, 12_345, 123_456, 1_234_567].map(count);
        assert_eq!(counts, ["0", "999", "1,000", "12,345", "123,456", "1,234,567"]);
        let shares = [0.0, 0.0042, 0.05, 0.9951, 1.0].map(percent);
        assert_eq!(shares, ["0", "0.42", "5.0", "99.51", "100"]);
    }
}
