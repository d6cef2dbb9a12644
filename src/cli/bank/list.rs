//! `outskirt bank list`.

use std::path::Path;

use crate::bank::{self, Status};
use crate::cli::console::Console;
use crate::cli::table;
use crate::error::Result;

/// Arguments of `bank list`.
#[derive(Debug, clap::Args)]
pub struct Args {}

const HEADER: [&str; 13] = [
    "name",
    "backbone",
    "rows",
    "d",
    "k",
    "alpha",
    "index",
    "churn",
    "version",
    "state",
    "made",
    "calibrated",
    "where",
];

pub(super) async fn run(_: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let store = console.open(db).await?;
    let banks = bank::status(&store).await?;
    if banks.is_empty() {
        return console.notice("no banks yet: 'outskirt bank create' makes one");
    }
    let rows: Vec<Vec<String>> = banks.into_iter().map(row).collect();
    console.line(table::render(&HEADER, &rows, &[2, 3, 4, 5, 7, 8]))
}

fn row(status: Status) -> Vec<String> {
    let older = if status.is_calibration_older() { " (older version)" } else { "" };
    let Status { bank, is_current, churn, quality, calibration } = status;
    vec![
        bank.name,
        bank.backbone,
        bank.row_count.to_string(),
        bank.dimension.to_string(),
        bank.k.to_string(),
        bank.alpha.to_string(),
        quality.map_or(bank.index_kind.clone(), |found| {
            // numbers of fewer bits are right as far as those tell
            let exactly = if bank.index_kind == "hnsw" { "right" } else { "right but for rounding" };
            format!("{}, {:.1} % {exactly}", bank.index_kind, 100.0 * found.recall)
        }),
        churn.map_or("".into(), |churn| format!("{:.1} %", 100.0 * churn)),
        bank.table_version.to_string(),
        if is_current { "current" } else { "behind" }.into(),
        bank.created_at.split('T').next().unwrap_or_default().into(),
        calibration.map_or("no".into(), |made| format!("{} images{older}", made.scores.len())),
        bank.predicate,
    ]
}
