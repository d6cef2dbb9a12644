//! `outskirt bank verify`.

use std::path::Path;

use crate::bank::{self, Recall};
use crate::cli::console::Console;
use crate::cli::table;
use crate::error::Result;
use crate::index::Storage;

/// Arguments of `bank verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  outskirt bank verify cifar10 --ood \"dataset = 'textures'\"")]
pub struct Args {
    /// The bank
    name: String,
    /// Images of each side that are searched for in both ways
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    sample: u32,
    /// SQL over images: in-distribution images; without it those of the calibration, or else the bank's own
    #[arg(long, value_name = "SQL", allow_hyphen_values = true)]
    id: Option<String>,
    /// SQL over images: out-of-distribution images, to see what FPR95 and AUROC lose
    #[arg(long, value_name = "SQL", allow_hyphen_values = true)]
    ood: Option<String>,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let store = console.open(db).await?;
    let bar = console.spinner("searching in both ways");
    let sample = args.sample as usize;
    let found = bank::recall(&store, &args.name, sample, args.id.as_deref(), args.ood.as_deref()).await;
    bar.finish_and_clear();
    print(&found?, console)
}

fn print(found: &Recall, console: &mut Console<'_>) -> Result<()> {
    let bank = &found.bank;
    if let Some(notice) = &found.notice {
        console.notice(notice)?;
    }
    console.line(format!(
        "bank {}: {} embeddings, {}, k = {}; {} ID images ({}), {} OOD images",
        bank.name, bank.row_count, bank.index_kind, bank.k, found.id_images, found.id_predicate, found.ood_images
    ))?;
    let rounding = match found.storage {
        Storage::F32 => "",
        Storage::Bf16 => " within the rounding of bf16",
        Storage::I8 => " within the rounding of i8",
    };
    console.line(format!(
        "k-th distance equal to the exact one{rounding}: {:.2} % of the images; error {:.6} on average, {:.6} at most",
        100.0 * found.recall,
        found.mean_error,
        found.largest_error
    ))?;
    if let Some((exact, graph)) = &found.metrics {
        let row = |name: &str, exact: f64, graph: f64| {
            let drift = format!("{:+.2}", 100.0 * (graph - exact));
            vec![name.into(), format!("{:.2}", 100.0 * exact), format!("{:.2}", 100.0 * graph), drift]
        };
        let rows = [row("FPR95", exact.fpr95, graph.fpr95), row("AUROC", exact.auroc, graph.auroc)];
        console.line(table::render(&["percent", "exact", "graph", "drift"], &rows, &[1, 2, 3]))?;
    }
    Ok(())
}
