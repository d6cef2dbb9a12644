//! `outskirt evaluate`.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt64Array};

use super::output::print_batch;
use super::{Console, Format, table};
use crate::error::Result;
use crate::evaluate::{Evaluation, evaluate};
use crate::metrics::Metrics;
use crate::session::Session;
use crate::store::Store;

/// Compare ID with OOD images: the table of the paper, in percent
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  outskirt evaluate cifar10 --id \"dataset = 'cifar10' AND split = 'test'\" \\
      --ood \"dataset = 'textures'\" --ood \"dataset = 'places'\"")]
pub struct Args {
    /// The bank
    bank: String,
    /// SQL over images: in-distribution images that are not in the bank
    #[arg(long, value_name = "SQL")]
    id: String,
    /// SQL over images: one OOD set; may be given again
    #[arg(long, required = true, value_name = "SQL")]
    ood: Vec<String>,
    /// Neighbours counted, where not the bank's own
    #[arg(long)]
    k: Option<usize>,
    /// How the table is printed: percent for people, fractions with all digits for machines
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    args.format.check(console)?;
    let session = Session::open(&Store::open(db).await?).await?;
    let evaluation = evaluate(&session, &args.bank, args.k, &args.id, &args.ood).await?;
    for notice in session.banks().notices() {
        console.notice(notice)?;
    }
    print(&evaluation, args.format, console)
}

/// Print the table.
pub(super) fn print(evaluation: &Evaluation, format: Format, console: &mut Console<'_>) -> Result<()> {
    if evaluation.id_inside_bank > 0 {
        console.notice(format!(
            "{} of the {} ID images are rows of the bank itself: their scores are too low, and the table too good",
            evaluation.id_inside_bank, evaluation.id_rows
        ))?;
    }
    let lines = evaluation.sets.iter().map(|set| (set.name.as_str(), set.rows, set.metrics));
    let total = evaluation.sets.iter().map(|set| set.rows).sum();
    let lines: Vec<(&str, usize, Metrics)> = lines.chain([("average", total, evaluation.mean)]).collect();
    if format == Format::Table {
        let row = |(name, rows, m): &(&str, usize, Metrics)| {
            let percent = [m.fpr95, m.auroc, m.aupr_in, m.aupr_out].map(|number| format!("{:.2}", 100.0 * number));
            [name.to_string(), rows.to_string()].into_iter().chain(percent).collect()
        };
        let header = ["OOD set", "images", "FPR95", "AUROC", "AUIN", "AUOUT"];
        return console.line(table::render(&header, &lines.iter().map(row).collect::<Vec<_>>(), &[1, 2, 3, 4, 5]));
    }
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(lines.iter().map(|(name, ..)| name)));
    let images: ArrayRef = Arc::new(UInt64Array::from_iter_values(lines.iter().map(|(_, rows, _)| *rows as u64)));
    let fractions = |number: fn(&Metrics) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(lines.iter().map(|(.., metrics)| number(metrics))))
    };
    let rows = RecordBatch::try_from_iter([
        ("ood_set", names),
        ("images", images),
        ("fpr95", fractions(|metrics| metrics.fpr95)),
        ("auroc", fractions(|metrics| metrics.auroc)),
        ("auin", fractions(|metrics| metrics.aupr_in)),
        ("auout", fractions(|metrics| metrics.aupr_out)),
    ])?;
    print_batch(&rows, format, console)
}
