//! `outskirt embed`.

use std::path::Path;

use super::console::{Console, advance};
use super::counts::describe_rate;
use super::follow::{follow, tidy};
use super::network::Network;
use crate::error::Result;
use crate::ingest::{FillOptions, IngestSummary, fill};
use crate::schema;

/// Embed the images of the database with another backbone, into its own column
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Images whose bytes are stored are embedded from those, the others are read again from where they
were. Images that the backbone has seen are left alone, so that a run that was interrupted goes on
where it was. Rows are written anew: 'outskirt optimize' gives the space of the old ones back.

Examples:
  outskirt embed --backbone resnet50_supcon.toml
  outskirt embed --backbone resnet20_cifar10 --weights resnet20-12fca82f.th --where \"dataset = 'cifar10'\"
  outskirt embed --backbone my_net --with-logits")]
pub struct Args {
    #[command(flatten)]
    network: Network,
    /// SQL over images: which rows; all where it is left out
    #[arg(long = "where", value_name = "SQL", allow_hyphen_values = true)]
    predicate: Option<String>,
    /// Leave banks as they are: 'outskirt bank refresh' brings them up to date later
    #[arg(long)]
    no_refresh: bool,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let store = console.open(db).await?;
    let before = store.version(schema::IMAGES).await?;
    let backbone = args.network.load(db, console).await?;
    let options = FillOptions { predicate: args.predicate, workers: args.network.workers() };
    let bar = console.progress("embedding images", 1);
    let tell = |done, all| advance(&bar, done, all);
    let summary = fill(&store, &backbone, &options, tell).await;
    bar.finish_and_clear();
    let summary = summary?;
    console.line(describe(&backbone.manifest().name, &summary))?;
    args.network.report(&backbone, &summary, console)?;
    if !args.no_refresh {
        follow(&store, console).await?;
    }
    tidy(&store, before, console).await
}

fn describe(backbone: &str, summary: &IngestSummary) -> String {
    let mut parts = vec![format!("{} embedded by {backbone}", summary.filled)];
    for (count, what) in [(summary.unchanged, "there already"), (summary.refused, "refused")] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    format!("{} in {}", parts.join(", "), describe_rate(summary, "images"))
}
