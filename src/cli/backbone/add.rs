//! `outskirt backbone add`.

use std::path::{Path, PathBuf};

use crate::backbone::{External, Output, register_external};
use crate::cli::console::Console;
use crate::error::Result;

/// Arguments of `backbone add`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  outskirt backbone add checkpoint_500.pth.tar --arch resnet18-cifar --name resnet18_supcon
  outskirt backbone add supcon.pth --arch resnet50
  outskirt backbone add module.pt --arch torchscript --output 'logits, embedding' \\
      --input-size 224 --shorter-side 256 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
  outskirt backbone add clip_b32 --external --dimension 512 --model-version ViT-B-32/openai

'outskirt backbone list' names the architectures. Where size, mean or std are not given, those
that are usual for the architecture are written: they must be the training's, or every score is
wrong.")]
pub struct Args {
    /// The weights: .safetensors, .pth, .pt, .pth.tar, .ckpt, .bin or .th; or a TorchScript module. With --external the
    /// name of a model whose embeddings another program makes
    file: PathBuf,
    /// The architecture
    #[arg(long, visible_alias = "architecture", value_name = "A", required_unless_present = "external")]
    arch: Option<String>,
    /// Another program makes the embeddings: the database gets a column for them, 'outskirt ingest --embedding-column' fills it
    #[arg(long, requires_all = ["dimension", "model_version"], conflicts_with_all = ["arch", "name", "output", "state_dict",
        "input_size", "shorter_side", "exif_orientation", "mean", "std", "out"])]
    external: bool,
    /// Numbers per embedding of an external model
    #[arg(long, value_name = "D", requires = "external")]
    dimension: Option<usize>,
    /// The version of an external model: a text by which embeddings of another one are told apart
    #[arg(long, value_name = "TEXT", requires = "external")]
    model_version: Option<String>,
    /// The backbone's name and its column's; the file's name where it is not given
    #[arg(long)]
    name: Option<String>,
    /// A line about it
    #[arg(long, default_value = "")]
    description: String,
    /// What a TorchScript module gives: 'embedding', 'logits, embedding', 'embedding, logits' or 'feature map'
    #[arg(long, value_name = "WHAT", value_parser = output)]
    output: Option<Output>,
    /// The key of the file that the weights are under, where there are several: state_dict_ema, teacher, …
    #[arg(long, value_name = "KEY")]
    state_dict: Option<String>,
    /// The network's input in pixels: 224, or width×height as 320x240
    #[arg(long, value_name = "N", value_parser = size)]
    input_size: Option<(u32, u32)>,
    /// Scale the shorter side to this, then cut out the centre; 0: scale both sides
    #[arg(long, value_name = "N")]
    shorter_side: Option<u32>,
    /// Turn pictures as their EXIF data ask for, where it was trained so; without it they stay as they are stored
    #[arg(long)]
    exif_orientation: bool,
    /// Mean of red, green and blue in [0, 1], separated by commas; or one number for all
    #[arg(long, value_name = "R,G,B", value_parser = channels)]
    mean: Option<[f32; 3]>,
    /// Standard deviation, likewise
    #[arg(long, value_name = "R,G,B", value_parser = channels)]
    std: Option<[f32; 3]>,
    /// The manifest to write; NAME.toml beside the weights where it is not given
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

fn output(text: &str) -> Result<Output, String> {
    let plain = |text: &str| text.replace([' ', '-', '_'], "").to_ascii_lowercase();
    let found = Output::ALL.into_iter().find(|kind| plain(&kind.to_string()) == plain(text));
    found.ok_or_else(|| {
        let known: Vec<String> = Output::ALL.iter().map(|kind| format!("'{kind}'")).collect();
        format!("there are {}", known.join(", "))
    })
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let number = |text: &str| text.trim().parse().map_err(|_| "such as 224 or 320x240".to_string());
    match text.split_once(['x', '×']) {
        Some((width, height)) => Ok((number(width)?, number(height)?)),
        None => number(text).map(|side| (side, side)),
    }
}

fn channels(text: &str) -> Result<[f32; 3], String> {
    let wrong = "three numbers separated by commas, or one".to_string();
    let numbers = text.split(',').map(|number| number.trim().parse().ok()).collect::<Option<Vec<f32>>>();
    match numbers.as_deref() {
        Some(&[all]) => Ok([all; 3]),
        Some(&[red, green, blue]) => Ok([red, green, blue]),
        _ => Err(wrong),
    }
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    if args.external { declare(args, db, console).await } else { write_manifest(args, console) }
}

/// Declare an external backbone.
async fn declare(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let (dimension, version) = (args.dimension.unwrap_or_default(), args.model_version.unwrap_or_default());
    let external = External::new(&args.file.to_string_lossy(), dimension, &version)?;
    let store = console.create(db).await?;
    let lock = store.lock_in_turn().await?;
    register_external(&store, &lock, &external).await?;
    let External { name, dimension, version } = external;
    console.line(format!("external backbone {name}: {dimension} numbers, version {version}"))?;
    console.notice(format!("next: outskirt ingest FILE… --embedding-column COLUMN --dataset D --backbone {name}"))
}

fn write_manifest(args: Args, console: &mut Console<'_>) -> Result<()> {
    use super::checked::{describe, print_doubts};
    use super::trust::remember;
    use crate::backbone::{self, Checkpoint};

    let is_usual = args.input_size.is_none() || args.mean.is_none() || args.std.is_none();
    let new = backbone::NewBackbone {
        weights: args.file,
        architecture: args.arch.unwrap_or_default(),
        name: args.name,
        description: args.description,
        output: args.output.unwrap_or_default(),
        state_dict: args.state_dict,
        size: args.input_size,
        shorter_side: args.shorter_side,
        exif_orientation: args.exif_orientation,
        mean: args.mean,
        std: args.std,
        manifest: args.out,
    };
    let (path, checked) = backbone::add(&new)?;
    let manifest = Checkpoint::read(&path)?.manifest;
    if manifest.architecture == backbone::TORCHSCRIPT {
        remember(&manifest.sha256, &manifest.name, console)?;
    }
    console.line(format!("wrote {}: {}", path.display(), describe(&manifest.architecture, &checked)))?;
    if is_usual {
        let backbone::Input { width, height, shorter_side, mean, std, .. } = manifest.input;
        let cut = shorter_side.map_or_else(String::new, |side| format!(" cut out of a shorter side of {side}"));
        console.notice(format!(
            "its input: {width}×{height}{cut}, mean {mean:?}, std {std:?}; what was not given is as usual for {}, check that \
             it was trained so",
            manifest.architecture
        ))?;
    }
    print_doubts(&checked, console)?;
    console.notice(format!("next: outskirt ingest PATH… --dataset D --backbone {}", path.display()))
}
