//! `outskirt embed`.

use std::path::{Path, PathBuf};

use super::ingest::report_rejects;
use super::{Console, bank};
use crate::backbone::{self, Backbone};
use crate::error::Result;
use crate::fill::{FillOptions, fill};
use crate::ingest::IngestSummary;
use crate::registry::registered_backbones;
use crate::store::Store;

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
    /// A name that 'outskirt backbone list' shows, or a manifest's path
    #[arg(long)]
    backbone: String,
    /// The weights file, where it is not where the manifest says
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// SQL over images: which rows; all where it is left out
    #[arg(long = "where", value_name = "SQL")]
    predicate: Option<String>,
    /// Keep the classifier's output as well, in the column BACKBONE_logits, for msp_score and energy_score
    #[arg(long)]
    with_logits: bool,
    /// Threads that decode and embed; all cores where it is not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    threads: Option<u16>,
    /// Leave banks as they are: 'outskirt bank refresh' brings them up to date later
    #[arg(long)]
    no_refresh: bool,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let store = Store::open(db).await?;
    let checkpoint = backbone::find(&args.backbone, registered_backbones(&store).await?)?;
    let backbone = Backbone::load(checkpoint, args.weights.as_deref())?;
    let backbone = if args.with_logits { backbone.with_logits()? } else { backbone };
    let workers = args.threads.map_or_else(rayon::current_num_threads, usize::from);
    let options = FillOptions { predicate: args.predicate, workers };
    let bar = console.progress("embedding", 1);
    let tell = |done: usize, all: usize| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    };
    let summary = fill(&store, &backbone, &options, tell).await;
    bar.finish_and_clear();
    let summary = summary?;
    console.line(describe(&backbone.manifest().name, &summary))?;
    report_rejects(&summary, console)?;
    if args.no_refresh { Ok(()) } else { bank::follow(&store, console).await }
}

fn describe(backbone: &str, summary: &IngestSummary) -> String {
    let mut parts = vec![format!("{} embedded by {backbone}", summary.filled)];
    for (count, what) in [(summary.unchanged, "there already"), (summary.refused, "refused")] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    let seconds = summary.wall.as_secs_f64();
    let rate = match summary.filled {
        0 => String::new(),
        images => format!(", {:.0} images/s", images as f64 / seconds),
    };
    format!("{} in {seconds:.1} s{rate}", parts.join(", "))
}
