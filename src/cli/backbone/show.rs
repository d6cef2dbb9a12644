//! `outskirt backbone show`.

use std::path::Path;

use crate::backbone;
use crate::cli::console::Console;
use crate::error::Result;

/// Arguments of `backbone show`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A name that 'backbone list' shows, or a manifest's path
    name: String,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let checkpoint = backbone::find_in(db, &args.name).await?;
    console.line(checkpoint.text.trim_end())?;
    match checkpoint.verify_weights(None) {
        Ok(None) => console.notice("weights: built in"),
        Ok(Some(path)) => console.notice(format!("weights: {}, sha256 as the manifest says", path.display())),
        Err(error) => console.notice(format!("weights: {error}")),
    }
}
