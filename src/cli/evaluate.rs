//! `outskirt evaluate`.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt64Array};

use super::output::print_batch;
use super::{Console, Format, table};
use crate::error::Result;
use crate::evaluate::sanity;
use crate::evaluate::{Compared, Evaluation, evaluate};
use crate::schema;
use crate::sql::session::Session;
use crate::statistics::metrics::Metrics;
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
    /// Compare mahalanobis_score, msp_score and energy_score too; the last two read what 'ingest --with-logits' kept
    #[arg(long)]
    baselines: bool,
    /// How the table is printed: percent for people, fractions with all digits for machines
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    args.format.check(console)?;
    let store = Store::open(db).await?;
    let session = Session::open(&store).await?;
    let mut compared = vec![Compared::Knn(args.k)];
    if args.baselines {
        compared.extend([Compared::Mahalanobis, Compared::Msp, Compared::Energy]);
        let logits = schema::logits_column(&session.banks().definition(&args.bank)?.backbone);
        if store.schema(schema::IMAGES).await?.field_with_name(&logits).is_err() {
            compared.retain(|score| !score.reads_logits());
            console.notice(format!(
                "msp_score and energy_score are left out: there is no column {logits}, 'outskirt ingest --with-logits' writes it"
            ))?;
        }
    }
    let mut evaluations = Vec::with_capacity(compared.len());
    for compared in compared {
        let evaluation = evaluate(&session, &args.bank, compared, &args.id, &args.ood).await?;
        let about = if args.baselines { vec![("score", compared.name().into())] } else { Vec::new() };
        evaluations.push(Line { about, evaluation });
    }
    for notice in session.banks().notices() {
        console.notice(notice)?;
    }
    warn(&session, &args.bank, args.k, &args.id, console).await?;
    print(&evaluations, args.format, console)
}

/// Say what is suspicious about a bank and the ID images that it is compared with.
pub(super) async fn warn(
    session: &Session,
    bank: &str,
    k: Option<usize>,
    id: &str,
    console: &mut Console<'_>,
) -> Result<()> {
    let k = k.unwrap_or(session.banks().definition(bank)?.k);
    let mut warnings = sanity::of_bank(session, bank).await?;
    warnings.extend(sanity::of_id(session, bank, k, id).await?);
    warnings.into_iter().try_for_each(|warning| console.notice(format!("warning: {warning}")))
}

/// An evaluation, and what tells it from the others: columns that are the same in all of them.
pub(super) struct Line {
    pub(super) about: Vec<(&'static str, String)>,
    pub(super) evaluation: Evaluation,
}

/// Print the table.
pub(super) fn print(evaluations: &[Line], format: Format, console: &mut Console<'_>) -> Result<()> {
    if let Some(Line { evaluation, .. }) = evaluations.iter().find(|line| line.evaluation.id_inside_bank > 0) {
        console.notice(format!(
            "{} of the {} ID images are rows of the bank itself: their scores are too low, and the table too good",
            evaluation.id_inside_bank, evaluation.id_rows
        ))?;
    }
    type Printed<'l> = (&'l Line, &'l str, usize, Metrics);
    let mut lines: Vec<Printed<'_>> = Vec::new();
    for line in evaluations {
        let evaluation = &line.evaluation;
        let total = evaluation.sets.iter().map(|set| set.rows).sum();
        lines.extend(evaluation.sets.iter().map(|set| (line, set.name.as_str(), set.rows, set.metrics)));
        lines.push((line, "average", total, evaluation.mean));
    }
    let about: Vec<&str> =
        evaluations.first().into_iter().flat_map(|line| &line.about).map(|(name, _)| *name).collect();
    if format == Format::Table {
        let row = |(line, name, rows, m): &Printed<'_>| {
            let percent = [m.fpr95, m.auroc, m.aupr_in, m.aupr_out].map(|number| format!("{:.2}", 100.0 * number));
            let about = line.about.iter().map(|(_, value)| value.clone());
            about.chain([name.to_string(), rows.to_string()]).chain(percent).collect()
        };
        let header = [&about[..], &["OOD set", "images", "FPR95", "AUROC", "AUIN", "AUOUT"]].concat();
        let right: Vec<usize> = (about.len() + 1..header.len()).collect();
        let rows: Vec<Vec<String>> = lines.iter().map(row).collect();
        return console.line(table::render(&header, &rows, &right));
    }
    let text = |get: &dyn Fn(&Printed<'_>) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(lines.iter().map(get)))
    };
    let images: ArrayRef = Arc::new(UInt64Array::from_iter_values(lines.iter().map(|(_, _, rows, _)| *rows as u64)));
    let fractions = |number: fn(&Metrics) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(lines.iter().map(|(.., metrics)| number(metrics))))
    };
    let about = about.iter().enumerate().map(|(at, name)| (*name, text(&|(line, ..)| line.about[at].1.clone())));
    let columns = [
        ("ood_set", text(&|(_, name, ..)| name.to_string())),
        ("images", images),
        ("fpr95", fractions(|metrics| metrics.fpr95)),
        ("auroc", fractions(|metrics| metrics.auroc)),
        ("auin", fractions(|metrics| metrics.aupr_in)),
        ("auout", fractions(|metrics| metrics.aupr_out)),
    ];
    print_batch(&RecordBatch::try_from_iter(about.chain(columns))?, format, console)
}
