//! `outskirt ingest`.

use std::path::{Path, PathBuf};

use super::{Console, bank};
use crate::backbone::{self, Backbone};
use crate::deviation::Deviation;
use crate::embed::StageTimes;
use crate::error::{Error, Result};
use crate::image::{self, ImageFiles};
use crate::index::require_cuda;
use crate::ingest::{IngestOptions, IngestSummary, ingest};
use crate::registry::registered_backbones;
use crate::store::Store;

/// Rejected files that are named; the rest is counted.
const NAMED_REJECTS: usize = 10;

/// Embed images with a backbone and add them to the database, which is created where there is none
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  outskirt ingest data/train --dataset pets --split train --backbone pets.toml
  outskirt ingest cifar10/train-0.tar.gz cifar10/train-1.tar.gz --dataset cifar10 --split train \\
      --backbone resnet20_cifar10 --weights resnet20-12fca82f.th

Class folders give the column label: cats/1.png is labelled 'cats'. Files that are in the table already
are left alone, so the same command can be run again.")]
pub struct Args {
    /// Folders (any depth), PNG or JPEG files, .tar and .tar.gz archives
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Value of the column dataset
    #[arg(long)]
    dataset: String,
    /// Value of the column split
    #[arg(long, default_value = "")]
    split: String,
    /// A name that 'outskirt backbone list' shows, or a manifest's path
    #[arg(long)]
    backbone: String,
    /// The weights file, where it is not where the manifest says
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Keep the classifier's output as well, in the column BACKBONE_logits, for msp_score and energy_score
    #[arg(long)]
    with_logits: bool,
    /// Keep the bytes of new files in the table as well
    #[arg(long)]
    store_images: bool,
    /// Threads that decode and embed; all cores where it is not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    threads: Option<u16>,
    /// What the network computes in; bf16 is faster on processors that have it and less exact, which is measured on some
    /// images and printed. A column holds embeddings of one precision only
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    precision: Precision,
    /// Where the network runs; cuda needs an NVIDIA GPU and the CUDA half of libtorch
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    device: Device,
    /// Print how long the threads were busy with each stage
    #[arg(long)]
    times: bool,
    /// Leave banks as they are: 'outskirt bank refresh' brings them up to date later
    #[arg(long)]
    no_refresh: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Precision {
    F32,
    Bf16,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Device {
    Cpu,
    Cuda,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let files = image::open(&args.paths)?;
    let registered = match Store::open(db).await {
        Ok(store) => registered_backbones(&store).await?,
        Err(Error::NoDatabase { .. }) => Vec::new(),
        Err(error) => return Err(error),
    };
    let backbone = Backbone::load(backbone::find(&args.backbone, registered)?, args.weights.as_deref())?;
    let backbone = if args.with_logits { backbone.with_logits()? } else { backbone };
    let device = match args.device {
        Device::Cpu => None,
        Device::Cuda => Some(require_cuda(None)?),
    };
    let backbone = backbone.placed(
        device,
        match args.precision {
            Precision::F32 => backbone::Precision::F32,
            Precision::Bf16 => backbone::Precision::Bf16,
        },
    )?;
    let store = Store::create(db).await?;
    let options = IngestOptions {
        dataset: args.dataset,
        split: args.split,
        store_images: args.store_images,
        workers: args.threads.map_or_else(rayon::current_num_threads, usize::from),
    };
    let summary = with_progress(&store, &backbone, files, &options, console).await?;
    console.line(describe(&options, &summary))?;
    if let Some(deviation) = &summary.deviation {
        console.notice(describe_deviation(backbone.precision().name(), deviation))?;
    }
    if args.times {
        console.notice(describe_times(&summary))?;
    }
    report_rejects(&summary, console)?;
    if args.no_refresh { Ok(()) } else { bank::follow(&store, console).await }
}

/// Ingest under a progress bar.
pub(super) async fn with_progress(
    store: &Store,
    backbone: &Backbone,
    files: ImageFiles,
    options: &IngestOptions,
    console: &Console<'_>,
) -> Result<IngestSummary> {
    let bar = console.progress("embedding images", files.total() as u64);
    let summary = ingest(store, backbone, files, options, |done| bar.set_position(done as u64)).await;
    bar.finish_and_clear();
    summary
}

fn describe(options: &IngestOptions, summary: &IngestSummary) -> String {
    let mut parts = vec![format!("{} added", summary.added)];
    for (count, what) in [
        (summary.replaced, "replaced (the file had changed)"),
        (summary.filled, "embedded by this backbone too"),
        (summary.unchanged, "there already"),
        (summary.rejects.len(), "refused"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    let seconds = summary.wall.as_secs_f64();
    let rate = if summary.embedded() > 0 {
        let rate = summary.embedded() as f64 / seconds;
        format!(", {rate:.*} images/s", usize::from(rate < 100.0))
    } else {
        String::new()
    };
    let split = if options.split.is_empty() { String::new() } else { format!("/{}", options.split) };
    format!("{}{split}: {} in {seconds:.1} s{rate}", options.dataset, parts.join(", "))
}

fn describe_deviation(precision: &str, deviation: &Deviation) -> String {
    let Deviation { images, embedding, k, score } = deviation;
    format!(
        "{precision} beside f32, on {images} images: unit embeddings are {:.1e} apart (median; at most {:.1e}), distances to \
         the {k}th neighbour among them differ by {:.2} % (median; at most {:.2} %)",
        embedding.0,
        embedding.1,
        100.0 * score.0,
        100.0 * score.1,
    )
}

/// Seconds, summed over threads; those of the network are what a faster one would save.
fn describe_times(summary: &IngestSummary) -> String {
    let StageTimes { read, decode, preprocess, forward } = summary.stages;
    let stages = [("read", read), ("decode", decode), ("preprocess", preprocess), ("forward", forward)];
    let stages = stages.into_iter().chain([("write", summary.write)]);
    let parts: Vec<String> = stages.map(|(stage, time)| format!("{stage} {:.2} s", time.as_secs_f64())).collect();
    format!("busy: {}", parts.join(", "))
}

pub(super) fn report_rejects(summary: &IngestSummary, console: &mut Console<'_>) -> Result<()> {
    for reject in summary.rejects.iter().take(NAMED_REJECTS) {
        console.notice(format!("refused {}: {}", reject.uri, reject.reason))?;
    }
    if summary.rejects.len() > NAMED_REJECTS {
        console.notice(format!("… and {} more", summary.rejects.len() - NAMED_REJECTS))?;
    }
    Ok(())
}
