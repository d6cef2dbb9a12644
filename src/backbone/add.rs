//! A manifest for a weights file, written after the network has run once; and the same check for one that is there.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::architecture::{TORCHSCRIPT, architecture};
use super::checkpoint::{Checkpoint, Manifest, Output};
use super::input::Input;
use super::loaded::{Backbone, Measured};
use super::trusted::Trusted;
use super::weights::sha256_file;
use crate::error::{Error, Result};
use crate::image::Pixels;

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
    /// The key of the file under which its state dict is, where it is not the usual one.
    pub state_dict: Option<String>,
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
    /// The Euclidean norms of two test pictures' embeddings.
    pub norms: [f64; 2],
    /// Cosine of these embeddings, which have nothing in common; `None` where one is zero.
    pub likeness: Option<f64>,
    /// Time of one picture's forward pass, once the network has run before.
    pub forward: Duration,
    /// Why the embedding looks like a classifier's output; `None` where it does not.
    pub looks_like_logits: Option<String>,
    /// What of the weights file was taken and what was left out.
    pub notes: Vec<String>,
}

/// Numbers of classes of the usual data sets: embeddings seldom have as many numbers.
const CLASSES: [usize; 9] = [2, 10, 100, 200, 365, 1000, 11_221, 21_841, 21_843];
/// Passes of a module that are not measured, beside the first.
const MODULE_WARM_UP: usize = 3;
/// How long a network is measured, and how often at most.
const MEASURED: (Duration, usize) = (Duration::from_secs(2), 5);

/// The cosine from which two pictures that have nothing in common count as one and the same to a network.
const ALIKE: f64 = 0.9999;

impl Checked {
    /// Whether an embedding is zero, which has no direction and is refused by every bank.
    pub fn has_zero(&self) -> bool {
        self.norms.contains(&0.0)
    }

    /// Whether the network can hardly tell two pictures apart: the wrong layer, or weights that were not trained.
    pub fn is_suspicious(&self) -> bool {
        self.likeness.is_some_and(|likeness| likeness >= ALIKE)
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
        state_dict: new.state_dict.clone(),
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
/// Errors: as [`Backbone::load`]; an embedding that is not finite.
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
    // the first pass allocates, and libtorch watches the first passes of a module before it makes it faster
    let is_script = backbone.manifest().architecture == TORCHSCRIPT;
    let given = worker.embed(&input)?;
    for _ in 0..if is_script { MODULE_WARM_UP } else { 0 } {
        worker.embed(&input)?;
    }
    let begun = Instant::now();
    let mut forward = Duration::MAX;
    for pass in 0..MEASURED.1 {
        let start = Instant::now();
        worker.embed(&input)?;
        forward = forward.min(start.elapsed() / 2);
        if pass > 0 && begun.elapsed() > MEASURED.0 {
            break;
        }
    }
    let unusable = |problem: &str| Error::UnusableNetwork {
        backbone: backbone.manifest().name.clone(),
        problem: problem.to_owned(),
    };
    let row = |at: usize| given.embeddings.chunks(measured.dimension).nth(at).unwrap_or_default();
    let norms = [row(0), row(1)].map(|row| row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt());
    if !norms.iter().all(|norm| norm.is_finite()) {
        return Err(unusable("its embeddings are not finite"));
    }
    if given.logits.iter().any(|logit| !logit.is_finite()) {
        return Err(unusable("its logits are not finite"));
    }
    let product: f64 = row(0).iter().zip(row(1)).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    let likeness = norms.iter().all(|&norm| norm > 0.0).then(|| product / (norms[0] * norms[1]));
    let looks_like_logits = if is_script && measured.classes.is_none() { like_logits([row(0), row(1)]) } else { None };
    let notes = backbone.notes().to_vec();
    Ok(Checked { weights: file, measured, norms, likeness, forward, looks_like_logits, notes })
}

/// Why embeddings of two pictures look like a classifier's output.
fn like_logits(rows: [&[f32]; 2]) -> Option<String> {
    let is_distribution = |row: &&[f32]| {
        let sum: f64 = row.iter().map(|&x| f64::from(x)).sum();
        (sum - 1.0).abs() < 1e-4 && row.iter().all(|&x| x >= 0.0)
    };
    let dimension = rows[0].len();
    if dimension > 1 && rows.iter().all(is_distribution) {
        return Some("its numbers are not negative and their sum is 1, as of a softmax".into());
    }
    CLASSES.contains(&dimension).then(|| format!("it has {dimension} numbers, as many as a usual data set has classes"))
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
    if mean.iter().any(|mean| !(0.0..=1.0).contains(mean)) || std.iter().any(|std| *std > 1.0) {
        return Err(format!("mean {mean:?} and std {std:?} are of pixels from 0 to 255: divide them by 255"));
    }
    // as much of the picture is cut away at another size
    let in_proportion = |usual: Input| {
        let side =
            f64::from(usual.shorter_side?) * f64::from(size.0.max(size.1)) / f64::from(usual.width.max(usual.height));
        Some((side.round() as u32).max(size.0.max(size.1)))
    };
    let shorter_side = new.shorter_side.or(usual.and_then(in_proportion)).filter(|&side| side > 0);
    Ok(Input { width: size.0, height: size.1, shorter_side, exif_orientation: new.exif_orientation, mean, std })
}

/// A file's name as a backbone's: `ResNet-18.best.pth.tar` gives `resnet_18_best`.
fn name_of(file: &str) -> String {
    let lower = file.to_ascii_lowercase();
    let mut stem = lower.as_str();
    for ending in [".tar", ".pth", ".pt", ".th", ".ckpt", ".bin", ".safetensors"] {
        stem = stem.strip_suffix(ending).unwrap_or(stem);
    }
    let name: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    // a name begins with a letter
    if name.starts_with(|c: char| c.is_ascii_lowercase()) { name } else { format!("net_{name}") }
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
        assert_eq!(name_of("2024_best.ckpt"), "net_2024_best");
    }

    #[test]
    fn outputs_of_a_classifier_are_told() {
        let softmax = [&[0.25f32, 0.75][..], &[1.0, 0.0]];
        assert!(like_logits(softmax).unwrap().contains("softmax"));
        let wide = vec![0.5; 1000];
        assert!(like_logits([&wide, &wide]).unwrap().contains("1000 numbers"));
        assert_eq!(like_logits([&wide[..768], &wide[..768]]), None);
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
        // as much is cut away at another size, and constants of bytes are told
        (new.shorter_side, new.size) = (None, Some((384, 384)));
        assert_eq!(input(&new, usual).unwrap().shorter_side, Some(439), "256 of 224 is 438.9 of 384");
        new.mean = Some([123.675, 116.28, 103.53]);
        let error = input(&new, usual).unwrap_err();
        assert!(error.contains("are of pixels from 0 to 255: divide them by 255"), "{error}");
    }
}
