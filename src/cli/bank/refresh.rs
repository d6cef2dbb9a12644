//! `outskirt bank refresh`.

use std::path::Path;

use crate::bank;
use crate::cli::console::Console;
use crate::cli::follow::{describe, tidy};
use crate::error::Result;
use crate::schema;

/// Arguments of `bank refresh`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Only what changed is read. A bank none of whose images changed keeps its version, and with it its
calibration and kept scores. 'outskirt ingest' refreshes all banks when it is done.

Examples:
  outskirt bank refresh cifar10
  outskirt bank refresh cifar10 --calibrate
  outskirt bank refresh --all")]
pub struct Args {
    /// The bank
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    name: Option<String>,
    /// Every bank
    #[arg(long)]
    all: bool,
    /// Measure the calibrations of a bank that changed again, with the images that their predicates find now
    #[arg(long)]
    calibrate: bool,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let (store, bar) = console.told(console.open(db).await?, "looking for changes");
    let before = store.version(schema::IMAGES).await?;
    let done = match &args.name {
        Some(name) => vec![bank::refresh(&store, name).await],
        None => bank::refresh_all(&store).await?.into_iter().map(|(_, refreshed)| refreshed).collect(),
    };
    bar.finish_and_clear();
    for refreshed in done {
        let refreshed = refreshed?;
        console.line(describe(&refreshed))?;
        if args.calibrate {
            let mut printed = Ok(());
            let measured = bank::calibrate_again(&store, &refreshed.bank, |made| {
                let images = made.scores.len();
                let line =
                    console.line(format!("bank {}: calibrated with {images} images at k = {}", made.bank, made.k));
                printed = std::mem::replace(&mut printed, Ok(())).and(line);
            });
            measured.await?;
            printed?;
        }
    }
    tidy(&store, before, console).await
}
