//! What the commands that embed have in common: which network runs, how, and what is said of it afterwards.

use std::path::{Path, PathBuf};

use super::Console;
use super::backbone::registered;
use crate::backbone::{self, Backbone};
use crate::error::Result;
use crate::index::require_cuda;
use crate::ingest::IngestSummary;
use crate::ingest::StageTimes;
use crate::statistics::deviation::Deviation;

/// The network of a command.
#[derive(Debug, clap::Args)]
pub struct Network {
    /// A name that 'outskirt backbone list' shows, or a manifest's path
    #[arg(long)]
    backbone: String,
    /// The weights file, where it is not where the manifest says
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Keep the classifier's output as well, in the column BACKBONE_logits, for msp_score and energy_score
    #[arg(long)]
    with_logits: bool,
    /// Threads that decode and embed; all cores where it is not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    threads: Option<u16>,
    /// What the network computes in; bf16 may be faster on processors that have it, and is less exact, which is measured on
    /// some images and printed. A column holds embeddings of one precision only
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    precision: Precision,
    /// Where the network runs; cuda needs an NVIDIA GPU and the CUDA half of libtorch
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    device: Device,
    /// Print how long the threads were busy with each stage
    #[arg(long)]
    times: bool,
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

impl Network {
    /// Load it, found by name among those of the database too.
    pub(super) async fn load(&self, db: &Path) -> Result<Backbone> {
        let checkpoint = backbone::find(&self.backbone, registered(db).await?)?;
        let backbone = Backbone::load(checkpoint, self.weights.as_deref())?;
        let backbone = if self.with_logits { backbone.with_logits()? } else { backbone };
        let device = match self.device {
            Device::Cpu => None,
            Device::Cuda => Some(require_cuda(None)?),
        };
        let precision = match self.precision {
            Precision::F32 => backbone::Precision::F32,
            Precision::Bf16 => backbone::Precision::Bf16,
        };
        backbone.placed(device, precision)
    }

    /// Threads that decode and embed.
    pub(super) fn workers(&self) -> usize {
        self.threads.map_or_else(rayon::current_num_threads, usize::from)
    }

    /// Say what was asked for besides the result: what the precision does, how long the stages took, what was refused.
    pub(super) fn report(&self, backbone: &Backbone, summary: &IngestSummary, console: &mut Console<'_>) -> Result<()> {
        if let Some(deviation) = &summary.deviation {
            console.notice(describe_deviation(backbone.precision().name(), deviation))?;
        }
        if self.times {
            console.notice(describe_times(summary))?;
        }
        report_rejects(summary, console)
    }
}

/// How long it took, and how many images went through the network in that time.
pub(super) fn describe_rate(summary: &IngestSummary) -> String {
    let seconds = summary.wall.as_secs_f64();
    match summary.embedded() {
        0 => format!("{seconds:.1} s"),
        images => {
            let rate = images as f64 / seconds;
            let digits = usize::from(rate < 100.0);
            format!("{seconds:.1} s, {rate:.digits$} images/s")
        }
    }
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
    for reject in &summary.first_rejects {
        console.notice(format!("refused {}: {}", reject.uri, reject.reason))?;
    }
    let unnamed = summary.refused - summary.first_rejects.len();
    if unnamed > 0 {
        console.notice(format!("… and {unnamed} more: SELECT * FROM rejects"))?;
    }
    Ok(())
}
