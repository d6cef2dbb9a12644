//! `outskirt evaluate`.

use std::path::Path;

use super::console::Console;
use super::evaluation::{Labels, print};
use super::format::Format;
use super::plot::{Drawing, Plots, Strip};
use super::statements;
use crate::error::Result;
use crate::evaluate::{Compared, Evaluation, baselines, evaluate, sanity};
use crate::sql::session::Session;
use crate::statistics::metrics::threshold_at_tpr;

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
    #[arg(long, value_name = "SQL", allow_hyphen_values = true)]
    id: String,
    /// SQL over images: one OOD set; may be given again
    #[arg(long, required = true, value_name = "SQL", allow_hyphen_values = true)]
    ood: Vec<String>,
    /// Neighbours counted, where not the bank's own
    #[arg(long)]
    k: Option<usize>,
    /// Compare mahalanobis_score and rmds_score too, and nnguide_score, msp_score, energy_score, max_logit_score and gen_score of
    /// what 'ingest --with-logits' kept
    #[arg(long)]
    baselines: bool,
    /// How the table is printed: percent for people, fractions with all digits for machines
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    plots: Plots,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    args.format.check(console.is_terminal())?;
    let drawing = args.plots.drawing(args.format, console)?;
    let store = console.open(db).await?;
    let session = Session::with_policy(&store, &console.policy()?).await?;
    let mut compared = vec![Compared::Knn(args.k)];
    if args.baselines {
        let baselines = baselines(&session, &store, &args.bank).await?;
        compared.extend(baselines.scores);
        for left_out in baselines.left_out {
            console.notice(left_out)?;
        }
    }
    let mut evaluations = Vec::with_capacity(compared.len());
    for compared in compared {
        let evaluation = evaluate(&session, &args.bank, compared, &args.id, &args.ood).await?;
        let labels: Labels = if args.baselines { vec![("score", compared.name().into())] } else { Vec::new() };
        evaluations.push((labels, evaluation));
    }
    statements::notices(&session, console)?;
    console.warnings(sanity::of_evaluation(&session, &args.bank, args.k, &args.id, &args.ood).await?)?;
    print(&evaluations, args.format, console)?;
    if let (Some(drawing), Some((_, evaluation))) = (drawing, evaluations.first()) {
        console.line(format!("\n{}", plot(drawing, evaluation)))?;
    }
    Ok(())
}

/// The scores of the ID images and of each OOD set, and the threshold that FPR95 is of.
fn plot(drawing: Drawing, evaluation: &Evaluation) -> String {
    let ood = evaluation.sets.iter().map(|set| Strip { name: set.name.clone(), scores: &set.scores });
    let strips: Vec<Strip<'_>> =
        std::iter::once(Strip { name: "ID".into(), scores: &evaluation.id_scores }).chain(ood).collect();
    drawing.histograms(&strips, threshold_at_tpr(&evaluation.id_scores, 0.95), "where 95 % of ID lie below")
}
