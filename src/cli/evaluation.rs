//! Evaluations printed as a table: percent for people, fractions with all digits for programs.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt64Array};

use super::console::Console;
use super::format::Format;
use super::output::print_batch;
use super::table;
use crate::error::Result;
use crate::evaluate::Evaluation;
use crate::statistics::intervals::Interval;
use crate::statistics::metrics::Metrics;

/// Columns that tell an evaluation from the others of a table, by name: the same names for all of them.
pub(super) type Labels = Vec<(&'static str, String)>;

/// A line of the table: an OOD set, or the mean over those of an evaluation.
struct Row<'a> {
    labels: &'a Labels,
    set: &'a str,
    images: usize,
    metrics: Metrics,
    /// Of FPR95 and of AUROC; a mean has none.
    intervals: Option<[Interval; 2]>,
}

/// Print the table.
pub(super) fn print(evaluations: &[(Labels, Evaluation)], format: Format, console: &mut Console<'_>) -> Result<()> {
    if let Some((_, evaluation)) = evaluations.iter().find(|(_, evaluation)| evaluation.id_inside_bank > 0) {
        console.notice(format!(
            "{} of the {} ID images are rows of the bank itself: their scores are too low, and the table too good",
            evaluation.id_inside_bank, evaluation.id_rows
        ))?;
    }
    let rows: Vec<Row<'_>> = evaluations.iter().flat_map(|(labels, evaluation)| rows(labels, evaluation)).collect();
    let names: Vec<&str> =
        evaluations.first().into_iter().flat_map(|(labels, _)| labels).map(|(name, _)| *name).collect();
    match format {
        Format::Table => console.line(percent(&names, &rows)),
        _ => print_batch(&fractions(&names, &rows)?, format, console),
    }
}

fn rows<'a>(labels: &'a Labels, evaluation: &'a Evaluation) -> impl Iterator<Item = Row<'a>> {
    let images = evaluation.sets.iter().map(|set| set.rows).sum();
    let sets = evaluation.sets.iter();
    let sets = sets.map(|set| Row {
        labels,
        set: &set.name,
        images: set.rows,
        metrics: set.metrics,
        intervals: Some([set.fpr95, set.auroc]),
    });
    sets.chain([Row { labels, set: "average", images, metrics: evaluation.mean, intervals: None }])
}

fn percent(names: &[&str], rows: &[Row<'_>]) -> String {
    let cells = |row: &Row<'_>| {
        let Metrics { fpr95, auroc, aupr_in, aupr_out } = row.metrics;
        let percent = |number: f64| format!("{:.2}", 100.0 * number);
        let interval = |of: usize| {
            let shown =
                |intervals: [Interval; 2]| format!("{}–{}", percent(intervals[of].lower), percent(intervals[of].upper));
            row.intervals.map(shown).unwrap_or_default()
        };
        let numbers = [percent(fpr95), interval(0), percent(auroc), interval(1), percent(aupr_in), percent(aupr_out)];
        let labels = row.labels.iter().map(|(_, value)| value.clone());
        labels.chain([row.set.to_string(), row.images.to_string()]).chain(numbers).collect()
    };
    let header =
        [names, &["OOD set", "images", "FPR95", "95 % interval", "AUROC", "95 % interval", "AUIN", "AUOUT"]].concat();
    let right: Vec<usize> = (names.len() + 1..header.len()).collect();
    table::render(&header, &rows.iter().map(cells).collect::<Vec<_>>(), &right)
}

fn fractions(names: &[&str], rows: &[Row<'_>]) -> Result<RecordBatch> {
    let text = |cell: &dyn Fn(&Row<'_>) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(cell)))
    };
    let numbers = |metric: fn(&Metrics) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| metric(&row.metrics))))
    };
    let limits = |limit: fn(&[Interval; 2]) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.intervals.as_ref().map(limit))))
    };
    let images: ArrayRef = Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.images as u64)));
    let labels = names.iter().enumerate().map(|(at, name)| (*name, text(&|row| row.labels[at].1.clone())));
    let columns = [
        ("ood_set", text(&|row| row.set.to_string())),
        ("images", images),
        ("fpr95", numbers(|metrics| metrics.fpr95)),
        ("auroc", numbers(|metrics| metrics.auroc)),
        ("auin", numbers(|metrics| metrics.aupr_in)),
        ("auout", numbers(|metrics| metrics.aupr_out)),
        ("fpr95_lower", limits(|[fpr95, _]| fpr95.lower)),
        ("fpr95_upper", limits(|[fpr95, _]| fpr95.upper)),
        ("auroc_lower", limits(|[_, auroc]| auroc.lower)),
        ("auroc_upper", limits(|[_, auroc]| auroc.upper)),
    ];
    Ok(RecordBatch::try_from_iter(labels.chain(columns))?)
}
