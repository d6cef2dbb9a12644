//! `outskirt backbone add | list | show | check`.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::{Console, table};
use crate::backbone::registered_backbones;
use crate::backbone::{self, ARCHITECTURES, Checkpoint, Output};
use crate::error::{Error, Result};
use crate::store::Store;

/// Add, list, show and check backbones.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a manifest for a weights file, after a forward pass
    Add(Box<Add>),
    /// List the backbones that come with outskirt and those of the database
    List,
    /// Print a manifest, and whether its weights are there
    Show {
        /// A name that 'backbone list' shows, or a manifest's path
        name: String,
    },
    /// Check a backbone: sha256, that the weights load, and a forward pass of test pictures
    Check {
        /// A name that 'backbone list' shows, or a manifest's path
        name: String,
        /// The weights file, where it is not where the manifest says
        #[arg(long, value_name = "FILE")]
        weights: Option<PathBuf>,
    },
}

/// What `backbone add` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  outskirt backbone add checkpoint_500.pth.tar --arch resnet18-cifar --name resnet18_supcon
  outskirt backbone add supcon.pth --arch resnet50
  outskirt backbone add module.pt --arch torchscript --output 'logits, embedding' \\
      --input-size 224 --shorter-side 256 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225

'outskirt backbone list' names the architectures. Where size, mean or std are not given, those
that are usual for the architecture are written: they must be the training's, or every score is
wrong.")]
pub struct Add {
    /// The weights: .safetensors, .pth, .pt, .pth.tar or .th; or a TorchScript module
    file: PathBuf,
    /// The architecture
    #[arg(long, visible_alias = "architecture", value_name = "A")]
    arch: String,
    /// The backbone's name and its column's; the file's name where it is not given
    #[arg(long)]
    name: Option<String>,
    /// A line about it
    #[arg(long, default_value = "")]
    description: String,
    /// What a TorchScript module gives: 'embedding', 'logits, embedding', 'embedding, logits' or 'feature map'
    #[arg(long, value_name = "WHAT", value_parser = output)]
    output: Option<Output>,
    /// The network's input in pixels: 224, or width×height as 320x240
    #[arg(long, value_name = "N", value_parser = size)]
    input_size: Option<(u32, u32)>,
    /// Scale the shorter side to this, then cut out the centre; 0: scale both sides
    #[arg(long, value_name = "N")]
    shorter_side: Option<u32>,
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

pub(super) async fn run(command: Command, db: &Path, console: &mut Console<'_>) -> Result<()> {
    match command {
        Command::Add(add) => self::add(*add, console),
        Command::List => list(registered(db).await?, console),
        Command::Show { name } => show(&backbone::find(&name, registered(db).await?)?, console),
        Command::Check { name, weights } => {
            check(backbone::find(&name, registered(db).await?)?, weights.as_deref(), console)
        }
    }
}

/// The backbones of the database, where there is one.
pub(super) async fn registered(db: &Path) -> Result<Vec<Checkpoint>> {
    match Store::open(db).await {
        Ok(store) => registered_backbones(&store).await,
        Err(Error::NoDatabase { .. }) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn list(registered: Vec<Checkpoint>, console: &mut Console<'_>) -> Result<()> {
    let mut all = backbone::built_in()?;
    let built_in: Vec<String> = all.iter().map(|checkpoint| checkpoint.manifest.name.clone()).collect();
    all.extend(registered.into_iter().filter(|checkpoint| !built_in.contains(&checkpoint.manifest.name)));
    let rows: Vec<Vec<String>> = all
        .into_iter()
        .map(|checkpoint| {
            let weights = if checkpoint.is_embedded() {
                "built in".to_string()
            } else if checkpoint.weights_path().exists() {
                checkpoint.weights_path().display().to_string()
            } else {
                format!("{} (not here: name it with --weights)", checkpoint.manifest.weights.display())
            };
            let manifest = checkpoint.manifest;
            vec![manifest.name, manifest.architecture, manifest.dimension.to_string(), weights, manifest.description]
        })
        .collect();
    console.line(table::render(&["name", "architecture", "d", "weights", "description"], &rows, &[2]))?;
    console.notice("architectures for a manifest of your own:")?;
    for known in ARCHITECTURES {
        let numbers = known.dimension.map_or_else(String::new, |dimension| format!(", {dimension} numbers"));
        console.notice(format!("  {:<18} {}{numbers}", known.name, known.about))?;
    }
    Ok(())
}

fn show(checkpoint: &Checkpoint, console: &mut Console<'_>) -> Result<()> {
    console.line(checkpoint.text.trim_end())?;
    match checkpoint.verify_weights(None) {
        Ok(None) => console.notice("weights: built in"),
        Ok(Some(path)) => console.notice(format!("weights: {}, sha256 as the manifest says", path.display())),
        Err(error) => console.notice(format!("weights: {error}")),
    }
}

#[cfg(feature = "torch")]
fn add(add: Add, console: &mut Console<'_>) -> Result<()> {
    let usual = add.input_size.is_none() || add.mean.is_none() || add.std.is_none();
    let new = backbone::NewBackbone {
        weights: add.file,
        architecture: add.arch,
        name: add.name,
        description: add.description,
        output: add.output.unwrap_or_default(),
        size: add.input_size,
        shorter_side: add.shorter_side,
        mean: add.mean,
        std: add.std,
        manifest: add.out,
    };
    let (path, checked) = backbone::add(&new)?;
    let manifest = Checkpoint::read(&path)?.manifest;
    console.line(format!("wrote {}: {}", path.display(), describe(&manifest.architecture, &checked)))?;
    if usual {
        let backbone::Input { width, height, shorter_side, mean, std } = manifest.input;
        let cut = shorter_side.map_or_else(String::new, |side| format!(" cut out of a shorter side of {side}"));
        console.notice(format!(
            "its input: {width}×{height}{cut}, mean {mean:?}, std {std:?}; what was not given is as usual for {}, check that \
             it was trained so",
            manifest.architecture
        ))?;
    }
    unlike(&checked, console)?;
    console.notice(format!("next: outskirt ingest PATH… --dataset D --backbone {}", path.display()))
}

#[cfg(feature = "torch")]
fn check(checkpoint: Checkpoint, weights: Option<&Path>, console: &mut Console<'_>) -> Result<()> {
    let (name, architecture) = (checkpoint.manifest.name.clone(), checkpoint.manifest.architecture.clone());
    let checked = backbone::check(checkpoint, weights)?;
    match &checked.weights {
        Some(path) => console.line(format!("weights: {}, sha256 as the manifest says", path.display()))?,
        None => console.line("weights: built in")?,
    }
    console.line(format!("{name}: {}", describe(&architecture, &checked)))?;
    unlike(&checked, console)
}

#[cfg(feature = "torch")]
fn describe(architecture: &str, checked: &backbone::Checked) -> String {
    let classes = match checked.measured.classes {
        Some(classes) => format!("{classes} classes"),
        None => "no classifier".into(),
    };
    let milliseconds = 1e3 * checked.forward.as_secs_f64();
    let (dimension, norm) = (checked.measured.dimension, checked.norm);
    format!("{architecture}, {dimension} numbers per image (norm {norm:.4}), {classes}, {milliseconds:.1} ms per image")
}

/// Two pictures that have nothing in common should not look the same to a network.
#[cfg(feature = "torch")]
fn unlike(checked: &backbone::Checked, console: &mut Console<'_>) -> Result<()> {
    if checked.likeness < 0.9999 {
        return Ok(());
    }
    console.notice(format!(
        "a slope of colours and a chequerboard have nearly the same embedding (cosine {:.6}): is this the right layer, and \
         were the weights trained?",
        checked.likeness
    ))
}

#[cfg(not(feature = "torch"))]
fn add(_add: Add, _console: &mut Console<'_>) -> Result<()> {
    Err(Error::NoTorch { what: "outskirt backbone add".into() })
}

#[cfg(not(feature = "torch"))]
fn check(_checkpoint: Checkpoint, _weights: Option<&Path>, _console: &mut Console<'_>) -> Result<()> {
    Err(Error::NoTorch { what: "outskirt backbone check".into() })
}
