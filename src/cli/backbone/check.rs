//! `outskirt backbone check`.

use std::path::{Path, PathBuf};

use crate::backbone;
use crate::cli::console::Console;
use crate::error::Result;

/// Arguments of `backbone check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A name that 'backbone list' shows, or a manifest's path
    name: String,
    /// The weights file, where it is not where the manifest says
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    use super::checked::{describe, print_doubts};

    let checkpoint = backbone::find_in(db, &args.name).await?;
    let (name, architecture) = (checkpoint.manifest.name.clone(), checkpoint.manifest.architecture.clone());
    let checked = backbone::check(checkpoint, args.weights.as_deref(), &console.trusted()?)?;
    match &checked.weights {
        Some(path) => console.line(format!("weights: {}, sha256 as the manifest says", path.display()))?,
        None => console.line("weights: built in")?,
    }
    console.line(format!("{name}: {}", describe(&architecture, &checked)))?;
    print_doubts(&checked, console)
}
