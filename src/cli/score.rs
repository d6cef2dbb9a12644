//! `outskirt score`.

use std::path::Path;

use super::console::{Console, advance};
use super::follow::tidy;
use crate::bank::keep_scores;
use crate::error::Result;
use crate::schema;

/// Keep a bank's scores as a column of images; only rows that are new or stale are computed
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The column's scores are knn_ood_score(embedding, bank) at the bank's k. Beside it, COLUMN_version
holds the version of the bank that each score stands for; a score of another version is computed
again. An interrupted run goes on where it was.

Examples:
  outskirt score cifar10
  outskirt score cifar10 --where \"dataset = 'camera_7'\" --into camera_score
  outskirt sql \"SELECT dataset, avg(cifar10_score) FROM images GROUP BY dataset\"")]
pub struct Args {
    /// The bank
    bank: String,
    /// SQL over images: which rows; all with an embedding where it is left out
    #[arg(long = "where", value_name = "SQL", allow_hyphen_values = true)]
    predicate: Option<String>,
    /// The column; BANK_score where it is left out
    #[arg(long, value_name = "COLUMN")]
    into: Option<String>,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let store = console.open(db).await?;
    let before = store.version(schema::IMAGES).await?;
    let bar = console.progress("scoring", 1);
    let tell = |done, all| advance(&bar, done, all);
    let kept = keep_scores(&store, &args.bank, args.predicate.as_deref(), args.into.as_deref(), tell).await;
    bar.finish_and_clear();
    let kept = kept?;
    console.line(format!(
        "bank {}: {} scores written to images.{} (k = {}, version {}), {} were up to date",
        kept.bank.name, kept.computed, kept.column, kept.bank.k, kept.bank.table_version, kept.fresh
    ))?;
    tidy(&store, before, console).await
}
