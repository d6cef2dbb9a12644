//! `outskirt backbone list`.

use std::path::Path;

use crate::backbone::{self, ARCHITECTURES, Checkpoint};
use crate::cli::console::Console;
use crate::cli::table;
use crate::error::Result;

/// Arguments of `backbone list`.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub(super) async fn run(_: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let mut rows: Vec<Vec<String>> = backbone::list_in(db).await?.into_iter().map(row).collect();
    rows.extend(backbone::external_in(db).await?.into_iter().map(|known| {
        let version = format!("version {}: embeddings come from files", known.version);
        vec![known.name, "external".into(), known.dimension.to_string(), version, String::new()]
    }));
    console.line(table::render(&["name", "architecture", "d", "weights", "description"], &rows, &[2]))?;
    console.notice("architectures for a manifest of your own:")?;
    for known in ARCHITECTURES {
        let numbers = known.dimension.map_or_else(String::new, |dimension| format!(", {dimension} numbers"));
        console.notice(format!("  {:<18} {}{numbers}", known.name, known.about))?;
    }
    Ok(())
}

fn row(checkpoint: Checkpoint) -> Vec<String> {
    let weights = if checkpoint.is_embedded() {
        "built in".to_string()
    } else if checkpoint.weights_path().exists() {
        checkpoint.weights_path().display().to_string()
    } else {
        format!("{} (not here: name it with --weights)", checkpoint.manifest.weights.display())
    };
    let manifest = checkpoint.manifest;
    vec![manifest.name, manifest.architecture, manifest.dimension.to_string(), weights, manifest.description]
}
