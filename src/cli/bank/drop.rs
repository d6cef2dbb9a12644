//! `outskirt bank drop`.

use std::path::Path;

use crate::bank;
use crate::cli::console::Console;
use crate::error::Result;

/// Arguments of `bank drop`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The bank
    name: String,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let store = console.open(db).await?;
    let dropped = bank::drop_bank(&store, &args.name).await?;
    console.line(format!("bank {}: dropped; its {} images stay", dropped.name, dropped.row_count))
}
