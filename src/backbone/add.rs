//! A manifest for a weights file, written after the network has run once; and the same check for one that is there.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::architecture::{TORCHSCRIPT, architecture};
use super::checkpoint::{Checkpoint, Manifest, Output};
use super::input::Input;
use super::torch::{Backbone, Measured};
use super::trusted::Trusted;
use super::weights::sha256_file;
use crate::error::{Error, Result};
use crate::image::Pixels;
use crate::index::vectors::normalize;

/// What is known of a network whose manifest is to be written.
#[derive(Debug, Clone, Default)]
pub struct NewBackbone {
    /// The weights file.
    pub weights: PathBuf,
    /// One of [`super::ARCHITECTURES`].
    pub architecture: String,
    /// The backbone's name; after the file where it is not given.
    pub name: Option<String>,
    /// One line for people.
    pub description: String,
    /// What a TorchScript module gives.
    pub output: Output,
    /// Width and height in pixels; as usual for the architecture where they are not given, as are the next three.
    pub size: Option<(u32, u32)>,
    /// The shorter side before the centre is cut out; 0: both sides are scaled.
    pub shorter_side: Option<u32>,
    /// Whether pictures are turned as their EXIF data ask for.
    pub exif_orientation: bool,
    /// Subtracted per channel.
    pub mean: Option<[f32; 3]>,
    /// Divided by per channel.
    pub std: Option<[f32; 3]>,
    /// The manifest's file; beside the weights and named after the backbone where it is not given.
    pub manifest: Option<PathBuf>,
}

/// What [`check`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// The weights file; `None` where it comes with the program.
    pub weights: Option<PathBuf>,
    /// What the network gives.
    pub measured: Measured,
    /// The test picture's embedding: its Euclidean norm.
    pub norm: f64,
    /// Cosine of the embeddings of two pictures that have nothing in common.
    pub likeness: f64,
    /// Time of one picture's forward pass.
    pub forward: Duration,
}

/// The cosine from which two pictures that have nothing in common count as one and the same to a network.
const ALIKE: f64 = 0.9999;

impl Checked {
    /// Whether the network can hardly tell two pictures apart: the wrong layer, or weights that were not trained.
    pub fn is_suspicious(&self) -> bool {
        self.likeness >= ALIKE
    }
}

/// Write a manifest for a weights file, once the network has embedded test pictures. Gives its path. A TorchScript module
/// runs here: whoever calls this trusts the file that it names.
///
/// Errors: those of [`Checkpoint::parse`] and [`Backbone::load`]; a TorchScript module without an input; a manifest that
/// is there already.
pub fn add(new: &NewBackbone) -> Result<(PathBuf, Checked)> {
    let weights = std::path::absolute(&new.weights).map_err(Error::io("find", &new.weights))?;
    let folder = weights.parent().unwrap_or(Path::new("/"));
    let file = weights.file_name().and_then(|name| name.to_str());
    let file = file.ok_or_else(|| Error::NotUtf8 { path: weights.clone() })?;
    let name = new.name.clone().unwrap_or_else(|| name_of(file));
    let path = match &new.manifest {
        Some(path) => std::path::absolute(path).map_err(Error::io("find", path))?,
        None => folder.join(format!("{name}.toml")),
    };
    let bad = |reason| Error::BadManifest { path: path.clone(), reason };
    let known = architecture(&new.architecture).map_err(bad)?;
    let mut manifest = Manifest {
        name,
        description: new.description.clone(),
        architecture: known.name.into(),
        // of a module only the module knows: it is measured below
        dimension: known.dimension.unwrap_or(1),
        output: new.output,
        weights: if path.parent() == Some(folder) { file.into() } else { weights.clone() },
        sha256: sha256_file(&weights)?,
        input: input(new, known.input).map_err(bad)?,
    };
    let manifest_folder = path.parent().unwrap_or(Path::new("/"));
    // whoever names a module's file here means it to run
    let trusted = Trusted::modules([&manifest.sha256]);
    if known.name == TORCHSCRIPT {
        let draft = Checkpoint::parse(&manifest.to_toml(), &path, manifest_folder)?;
        manifest.dimension = Backbone::measure(draft, &trusted)?.dimension;
    }
    let text = manifest.to_toml();
    let checked = check(Checkpoint::parse(&text, &path, manifest_folder)?, None, &trusted)?;

    let created = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
    let mut file = match created {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Error::ManifestExists { path });
        }
        Err(error) => return Err(Error::io("create", &path)(error)),
    };
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(Error::io("write", &path))?;
    Ok((path, checked))
}

/// Check a backbone: the weights' SHA-256, that they load, and that the network gives usable embeddings of the
/// manifest's dimension for two pictures.
///
/// Errors: as [`Backbone::load`]; an embedding that is zero or not finite.
pub fn check(checkpoint: Checkpoint, weights: Option<&Path>, trusted: &Trusted) -> Result<Checked> {
    let file = checkpoint.verify_weights(weights)?;
    let mut backbone = Backbone::load(checkpoint, weights, trusted)?;
    let measured = Measured { dimension: backbone.manifest().dimension, classes: backbone.classes() };
    if measured.classes.is_some() {
        backbone = backbone.with_logits()?;
    }
    let mut worker = backbone.worker();
    let mut input = vec![0.0; 2 * worker.input_len()];
    for (pixels, out) in test_pictures().iter().zip(input.chunks_mut(worker.input_len())) {
        worker.preprocess(pixels, out)?;
    }
    let start = Instant::now();
    let given = worker.embed(&input)?;
    let forward = start.elapsed() / 2;
    let unusable = |problem: &str| Error::UnusableNetwork {
        backbone: backbone.manifest().name.clone(),
        problem: problem.to_owned(),
    };
    let mut unit = Vec::with_capacity(given.embeddings.len());
    for row in given.embeddings.chunks(measured.dimension) {
        normalize(row, &mut unit).map_err(unusable)?;
    }
    if given.logits.iter().any(|logit| !logit.is_finite()) {
        return Err(unusable("its logits are not finite"));
    }
    let (first, second) = unit.split_at(measured.dimension);
    let likeness = first.iter().zip(second).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    let squares = given.embeddings.iter().take(measured.dimension).map(|&x| f64::from(x) * f64::from(x));
    Ok(Checked { weights: file, measured, norm: squares.sum::<f64>().sqrt(), likeness, forward })
}

/// The input that is asked for, over what is usual for the architecture.
fn input(new: &NewBackbone, usual: Option<Input>) -> Result<Input, String> {
    let missing: Vec<&str> =
        [("--input-size", new.size.is_some()), ("--mean", new.mean.is_some()), ("--std", new.std.is_some())]
            .into_iter()
            .filter_map(|(option, given)| (!given && usual.is_none()).then_some(option))
            .collect();
    let (size, mean, std) = match (usual, new.size, new.mean, new.std) {
        (Some(usual), size, mean, std) => {
            (size.unwrap_or((usual.width, usual.height)), mean.unwrap_or(usual.mean), std.unwrap_or(usual.std))
        }
        (None, Some(size), Some(mean), Some(std)) => (size, mean, std),
        _ => {
            let missing = missing.join(", ");
            return Err(format!(
                "nothing is usual for the input of {}: give {missing} as in training",
                new.architecture
            ));
        }
    };
    let shorter_side = new.shorter_side.or(usual.and_then(|usual| usual.shorter_side)).filter(|&side| side > 0);
    Ok(Input { width: size.0, height: size.1, shorter_side, exif_orientation: new.exif_orientation, mean, std })
}

/// A file's name as a backbone's: `ResNet-18.best.pth.tar` gives `resnet_18_best`.
fn name_of(file: &str) -> String {
    let lower = file.to_ascii_lowercase();
    let mut stem = lower.as_str();
    for ending in [".tar", ".pth", ".pt", ".th", ".ckpt", ".safetensors"] {
        stem = stem.strip_suffix(ending).unwrap_or(stem);
    }
    stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// A slope of colours, and a coarse chequerboard.
fn test_pictures() -> [Pixels; 2] {
    let (width, height) = (300, 200);
    let draw = |colour: fn(u32, u32) -> [u8; 3]| Pixels {
        width,
        height,
        rgb: (0..height).flat_map(|y| (0..width).flat_map(move |x| colour(x, y))).collect(),
    };
    [
        draw(|x, y| [(x * 255 / 300) as u8, (y * 255 / 200) as u8, 128]),
        draw(|x, y| if (x / 25 + y / 25) % 2 == 0 { [230, 200, 40] } else { [20, 30, 90] }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_files() {
        assert_eq!(name_of("ResNet-18.best.pth.tar"), "resnet_18_best");
        assert_eq!(name_of("supcon.pth"), "supcon");
        assert_eq!(name_of("net.safetensors"), "net");
    }

    #[test]
    fn what_is_usual_may_be_replaced() {
        let mut new = NewBackbone { architecture: "resnet50".into(), ..NewBackbone::default() };
        let usual = architecture("resnet50").unwrap().input;
        assert_eq!(input(&new, usual).unwrap(), usual.unwrap());
        new.shorter_side = Some(0);
        new.mean = Some([0.5; 3]);
        let found = input(&new, usual).unwrap();
        assert_eq!((found.width, found.shorter_side, found.mean), (224, None, [0.5; 3]));
        let error = input(&new, None).unwrap_err();
        assert!(error.contains("give --input-size, --std"), "{error}");
    }
}
