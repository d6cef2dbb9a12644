//! `outskirt migrate`.

use std::path::Path;

use super::console::Console;
use crate::bank::{self, Followed};
use crate::error::Result;
use crate::store::Store;

/// Bring a database that an older outskirt made up to date
#[derive(Debug, clap::Args)]
#[command(after_help = "All data is kept. A run that is interrupted can be run again.")]
pub struct Args {
    /// List what would be applied, and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let (verb, files) = match args.dry_run {
        true => ("would apply", Store::pending_migrations(db).await?),
        false => ("applied", Store::migrate_in_turn(db, console.patience()).await?),
    };
    for file in &files {
        console.line(format_args!("{verb} {file}"))?;
    }
    if !args.dry_run && !files.is_empty() {
        // of what the tables are now, banks need only know that they have it all
        for Followed { bank, refreshed } in bank::follow(&console.open(db).await?).await? {
            if let Err(error) = refreshed {
                console.notice(format!("bank {bank} was not refreshed: {error}"))?;
            }
        }
    }
    if files.is_empty() {
        console.line(format_args!("the database at {} is up to date", db.display()))?;
    }
    Ok(())
}
