//! `outskirt backbone list | show`.

use std::path::Path;

use clap::Subcommand;

use super::{Console, table};
use crate::backbone::{self, ARCHITECTURES, Checkpoint};
use crate::error::{Error, Result};
use crate::registry::registered_backbones;
use crate::store::Store;

/// List and show backbones.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the backbones that come with outskirt and those of the database
    List,
    /// Print a manifest, and check its weights
    Show {
        /// A name that 'backbone list' shows, or a manifest's path
        name: String,
    },
}

pub(super) async fn run(command: Command, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let registered = match Store::open(db).await {
        Ok(store) => registered_backbones(&store).await?,
        Err(Error::NoDatabase { .. }) => Vec::new(),
        Err(error) => return Err(error),
    };
    match command {
        Command::List => list(registered, console),
        Command::Show { name } => show(&backbone::find(&name, registered)?, console),
    }
}

fn list(registered: Vec<Checkpoint>, console: &mut Console<'_>) -> Result<()> {
    let mut all = backbone::built_in()?;
    let built_in: Vec<String> = all.iter().map(|checkpoint| checkpoint.manifest.name.clone()).collect();
    all.extend(registered.into_iter().filter(|checkpoint| !built_in.contains(&checkpoint.manifest.name)));
    let rows: Vec<Vec<String>> = all
        .into_iter()
        .map(|checkpoint| {
            let weights = if checkpoint.is_embedded() {
                "built in".to_string()
            } else if checkpoint.weights_path().exists() {
                checkpoint.weights_path().display().to_string()
            } else {
                format!("{} (not here: name it with --weights)", checkpoint.manifest.weights.display())
            };
            let manifest = checkpoint.manifest;
            vec![manifest.name, manifest.architecture, manifest.dimension.to_string(), weights, manifest.description]
        })
        .collect();
    console.line(table::render(&["name", "architecture", "d", "weights", "description"], &rows, &[2]))?;
    console.notice("architectures for a manifest of your own:")?;
    for known in ARCHITECTURES {
        let numbers = known.dimension.map_or_else(String::new, |dimension| format!(", {dimension} numbers"));
        console.notice(format!("  {:<18} {}{numbers}", known.name, known.about))?;
    }
    Ok(())
}

fn show(checkpoint: &Checkpoint, console: &mut Console<'_>) -> Result<()> {
    console.line(checkpoint.text.trim_end())?;
    match checkpoint.verify_weights(None) {
        Ok(None) => console.notice("weights: built in"),
        Ok(Some(path)) => console.notice(format!("weights: {}, sha256 as the manifest says", path.display())),
        Err(error) => console.notice(format!("weights: {error}")),
    }
}
