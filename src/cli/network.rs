//! The arguments that say which network embeds, and how.

use std::path::{Path, PathBuf};

use super::console::Console;
use super::counts::report_rejects;
use super::summary::{describe_deviation, describe_times};
use crate::backbone::{self, Backbone, LoadOptions};
use crate::error::Result;
use crate::index;
use crate::ingest::IngestSummary;

/// The network of a command.
#[derive(Debug, clap::Args)]
pub struct Network {
    /// A name that 'outskirt backbone list' shows, or a manifest's path
    #[arg(long)]
    backbone: String,
    /// The weights file, where it is not where the manifest says; the database remembers it
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

/// Where a network runs.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Device {
    Cpu,
    Cuda,
}

impl Device {
    /// The same, as the library has it.
    pub(super) fn of_index(self) -> index::Device {
        match self {
            Self::Cpu => index::Device::Cpu,
            Self::Cuda => index::Device::Cuda,
        }
    }
}

impl Network {
    /// Load it, found by name among those of the database too.
    pub(super) async fn load(&self, db: &Path, console: &Console<'_>) -> Result<Backbone> {
        let options = LoadOptions {
            weights: self.weights.clone(),
            with_logits: self.with_logits,
            device: self.device.of_index(),
            precision: match self.precision {
                Precision::F32 => backbone::Precision::F32,
                Precision::Bf16 => backbone::Precision::Bf16,
            },
            trusted: console.trusted()?,
        };
        backbone::load_in(db, &self.backbone, &options).await
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        &self.backbone
    }

    /// What was said of how it runs.
    pub(super) fn given(&self) -> impl Iterator<Item = &'static str> {
        let given = [
            ("--weights", self.weights.is_some()),
            ("--with-logits", self.with_logits),
            ("--precision", matches!(self.precision, Precision::Bf16)),
            ("--device", matches!(self.device, Device::Cuda)),
            ("--times", self.times),
        ];
        given.into_iter().filter(|(_, is_given)| *is_given).map(|(option, _)| option)
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
