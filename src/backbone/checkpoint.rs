//! Manifests: what a network is, what it wants as input, and which weights file belongs to it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::architecture::{TORCHSCRIPT, architecture};
use super::input::Input;
use super::weights::{Found, StateDict, find_state_dict, parse_found, sha256_file};
use crate::error::{Error, Result};
use crate::regular;
use crate::schema;

/// The manifests that come with the program: (TOML, weights where they come with it too).
const BUILT_IN: [(&str, Option<&[u8]>); 3] = [
    (
        include_str!("../../checkpoints/demo_shapes.toml"),
        Some(include_bytes!("../../checkpoints/demo_shapes.safetensors")),
    ),
    (include_str!("../../checkpoints/resnet20_cifar10.toml"), None),
    (include_str!("../../checkpoints/densenet_cifar10.toml"), None),
];

/// No manifest is longer.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// A manifest, as its TOML file gives it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The backbone's name, and that of its column in `images`.
    pub name: String,
    /// One line for people.
    #[serde(default)]
    pub description: String,
    /// One of [`super::ARCHITECTURES`].
    pub architecture: String,
    /// Numbers per embedding.
    pub dimension: usize,
    /// What a TorchScript module gives; built-in networks need not be told.
    #[serde(default, skip_serializing_if = "Output::is_embedding")]
    pub output: Output,
    /// The weights file, relative to the manifest's folder.
    pub weights: PathBuf,
    /// SHA-256 of the weights file, hexadecimal.
    pub sha256: String,
    /// The key of the weights file under which the state dict is, where it is not the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_dict: Option<String>,
    /// How a decoded picture becomes the network's input.
    pub input: Input,
}

impl Manifest {
    /// The manifest as a TOML file's text.
    pub fn to_toml(&self) -> String {
        use std::fmt::Write as _;
        let quoted = |text: &str| toml::Value::String(text.into()).to_string();
        let mut text = format!("name = {}\n", quoted(&self.name));
        let mut line = |key: &str, value: String| {
            let _ = writeln!(text, "{key} = {value}"); // a String takes everything
        };
        if !self.description.is_empty() {
            line("description", quoted(&self.description));
        }
        line("architecture", quoted(&self.architecture));
        line("dimension", self.dimension.to_string());
        if !self.output.is_embedding() {
            line("output", quoted(&self.output.to_string()));
        }
        line("weights", quoted(&self.weights.to_string_lossy()));
        line("sha256", quoted(&self.sha256));
        if let Some(key) = &self.state_dict {
            line("state_dict", quoted(key));
        }
        let Input { width, height, shorter_side, exif_orientation, mean, std } = self.input;
        line("\n[input]\nwidth", width.to_string());
        line("height", height.to_string());
        if let Some(side) = shorter_side {
            line("shorter_side", side.to_string());
        }
        if exif_orientation {
            line("exif_orientation", "true".into());
        }
        // an f32 prints as the shortest decimal that reads back as itself
        line("mean", format!("{mean:?}"));
        line("std", format!("{std:?}"));
        text
    }
}

/// What a TorchScript module gives for n images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// Embeddings, n×d; more axes are flattened.
    #[default]
    #[serde(rename = "embedding")]
    Embedding,
    /// A pair: class logits (n×classes), and embeddings (n×d).
    #[serde(rename = "logits, embedding")]
    LogitsEmbedding,
    /// The same, the other way round.
    #[serde(rename = "embedding, logits")]
    EmbeddingLogits,
    /// A feature map (n×d×h×w), whose average over h and w is the embedding.
    #[serde(rename = "feature map")]
    FeatureMap,
}

impl Output {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Embedding, Self::LogitsEmbedding, Self::EmbeddingLogits, Self::FeatureMap];

    /// Whether it is the one that a manifest need not name.
    fn is_embedding(&self) -> bool {
        *self == Self::Embedding
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Embedding => "embedding",
            Self::LogitsEmbedding => "logits, embedding",
            Self::EmbeddingLogits => "embedding, logits",
            Self::FeatureMap => "feature map",
        })
    }
}

/// A manifest and where its weights are.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// What the network is.
    pub manifest: Manifest,
    /// The manifest's text.
    pub text: String,
    /// The folder in which relative weights paths start; empty for built-in manifests.
    pub folder: PathBuf,
    embedded: Option<&'static [u8]>,
}

impl Checkpoint {
    /// Parse a manifest's text. `origin` is named in errors.
    pub fn parse(text: &str, origin: &Path, folder: &Path) -> Result<Self> {
        let bad = |reason: String| Error::BadManifest { path: origin.into(), reason };
        let mut manifest: Manifest = toml::from_str(text).map_err(|error| bad(error.message().to_string()))?;
        if !schema::is_name(&manifest.name) {
            return Err(Error::BadName { what: "backbone", name: manifest.name });
        }
        if schema::is_sql_word(&manifest.name) {
            let name = &manifest.name;
            return Err(bad(format!(
                "name '{name}' is a word of SQL and could not name a column: choose another, such as {name}_net (--name \
                 {name}_net)"
            )));
        }
        let known = architecture(&manifest.architecture).map_err(bad)?;
        manifest.architecture = known.name.into();
        if !manifest.output.is_embedding() && known.name != TORCHSCRIPT {
            return Err(bad(format!("output is for {TORCHSCRIPT} modules: {} gives its embedding", known.name)));
        }
        let input = &manifest.input;
        let sizes = [input.width, input.height, input.shorter_side.unwrap_or(1)];
        if manifest.dimension == 0 || sizes.contains(&0) || sizes.iter().any(|&size| size > 4096) {
            return Err(bad("dimension and input sizes must be 1 to 4096 or more for the dimension".into()));
        }
        if let Some(pixels) = known.pixels.filter(|&pixels| (input.width, input.height) != (pixels, pixels)) {
            let (name, width, height) = (known.name, input.width, input.height);
            return Err(bad(format!("{name} takes {pixels}×{pixels} pixels, and the input is {width}×{height}")));
        }
        if let Some(multiple) = known.multiple.filter(|multiple| input.width % multiple + input.height % multiple > 0) {
            let (name, width, height) = (known.name, input.width, input.height);
            return Err(bad(format!(
                "{name} takes sizes that are multiples of {multiple} pixels, and the input is {width}×{height}"
            )));
        }
        if input.shorter_side.is_some_and(|side| side < input.width.max(input.height)) {
            return Err(bad("shorter_side must be at least width and height, which are cropped from it".into()));
        }
        if input.std.iter().any(|&std| !(std > 0.0 && std.is_finite())) || input.mean.iter().any(|m| !m.is_finite()) {
            return Err(bad("mean must be finite and std greater than 0 in every channel".into()));
        }
        if manifest.sha256.len() != 64 || !manifest.sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad("sha256 must be the 64 hexadecimal digits that 'sha256sum' prints for the weights".into()));
        }
        Ok(Self { manifest, text: text.into(), folder: folder.into(), embedded: None })
    }

    /// Read a manifest file.
    pub fn read(path: &Path) -> Result<Self> {
        if fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() > MAX_MANIFEST_BYTES) || is_weights(path)
        {
            let reason = "it is no manifest but looks like weights: 'outskirt backbone add FILE --arch ARCHITECTURE' writes a manifest";
            return Err(Error::BadManifest { path: path.into(), reason: reason.into() });
        }
        let text = regular::read_text(path, MAX_MANIFEST_BYTES).map_err(Error::io("read", path))?;
        let absolute = std::path::absolute(path).map_err(Error::io("find", path))?;
        Self::parse(&text, path, absolute.parent().unwrap_or(Path::new("/")))
    }

    /// The same with its weights in this file, wherever it is read: so a database remembers them.
    ///
    /// Errors: a path that cannot be made absolute.
    pub(super) fn with_weights(mut self, path: &Path) -> Result<Self> {
        let path = std::path::absolute(path).map_err(Error::io("find", path))?;
        if self.embedded.is_none() && path != self.weights_path() {
            self.manifest.weights = path;
            self.text = self.manifest.to_toml();
        }
        Ok(self)
    }

    /// The weights file, where it is not built in.
    pub fn weights_path(&self) -> PathBuf {
        self.folder.join(&self.manifest.weights)
    }

    /// Whether the weights come with the program.
    pub fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// Check that the weights are the manifest's: `override_path` where given, else the manifest's own.
    ///
    /// Gives the file's path, or `None` for embedded weights.
    pub fn verify_weights(&self, override_path: Option<&Path>) -> Result<Option<PathBuf>> {
        if override_path.is_none() && self.embedded.is_some() {
            return Ok(None);
        }
        let path = self.weights_file(override_path)?;
        let found = sha256_file(&path)?;
        self.check_weights(found, path).map(Some)
    }

    /// The bytes of verified weights: those that were compared with the manifest, whatever happens to the file meanwhile.
    pub(super) fn verified_bytes(&self, override_path: Option<&Path>) -> Result<Vec<u8>> {
        let path = self.weights_file(override_path)?;
        let bytes = regular::read(&path).map_err(Error::io("read", &path))?;
        let found = format!("{:x}", Sha256::digest(&bytes));
        self.check_weights(found, path).map(|_| bytes)
    }

    fn weights_file(&self, override_path: Option<&Path>) -> Result<PathBuf> {
        let path = override_path.map_or_else(|| self.weights_path(), Path::to_path_buf);
        if !path.exists() && override_path.is_none() {
            return Err(Error::NoWeights { backbone: self.manifest.name.clone(), path });
        }
        Ok(path)
    }

    fn check_weights(&self, found: String, path: PathBuf) -> Result<PathBuf> {
        if found.eq_ignore_ascii_case(&self.manifest.sha256) {
            return Ok(path);
        }
        let (backbone, expected) = (self.manifest.name.clone(), self.manifest.sha256.clone());
        Err(Error::WeightsHash { backbone, path, expected, found })
    }

    /// Read the state dict of verified weights.
    pub fn state_dict(&self, override_path: Option<&Path>) -> Result<StateDict> {
        self.find_state_dict(override_path).map(|found| found.tensors)
    }

    /// The same, with where in the file it was.
    pub(super) fn find_state_dict(&self, override_path: Option<&Path>) -> Result<Found> {
        let key = self.manifest.state_dict.as_deref();
        match (self.verify_weights(override_path)?, self.embedded) {
            (Some(path), _) => find_state_dict(&path, key),
            (None, Some(bytes)) => parse_found(&self.manifest.weights, bytes, key),
            (None, None) => unreachable!("verify_weights gives a path for weights that are not embedded"),
        }
    }
}

/// Whether a file is weights, by its name.
fn is_weights(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    path.is_file() && ["pth", "pt", "th", "ckpt", "bin", "safetensors", "tar"].contains(&ending.as_str())
}

/// The manifests that come with the program.
pub fn built_in() -> Result<Vec<Checkpoint>> {
    let read = |(text, embedded): (&str, Option<&'static [u8]>)| {
        let mut checkpoint = Checkpoint::parse(text, Path::new("built in"), Path::new(""))?;
        checkpoint.embedded = embedded;
        Ok(checkpoint)
    };
    BUILT_IN.into_iter().map(read).collect()
}

/// Find a backbone: a manifest's path (with `/` or ending in `.toml`), else a name among `registered`, those that a
/// database knows, and the built-in ones.
pub fn find(name_or_path: &str, registered: Vec<Checkpoint>) -> Result<Checkpoint> {
    if is_path(name_or_path) {
        return Checkpoint::read(Path::new(name_or_path));
    }
    let built_in = built_in()?;
    // what filled the database's columns comes first; where that is a built-in network, its weights are at hand
    let same = |a: &Manifest, b: &Manifest| {
        (&a.name, &a.architecture, &a.sha256, &a.state_dict, a.output, a.input)
            == (&b.name, &b.architecture, &b.sha256, &b.state_dict, b.output, b.input)
    };
    let at_hand =
        |own: &Checkpoint| built_in.iter().any(|known| known.is_embedded() && same(&known.manifest, &own.manifest));
    let own = registered.into_iter().filter(|own| !at_hand(own));
    let mut all: Vec<Checkpoint> = own.collect();
    all.extend(built_in);
    match all.iter().position(|checkpoint| checkpoint.manifest.name == name_or_path) {
        Some(at) => Ok(all.swap_remove(at)),
        None => Err(Error::UnknownBackbone { name: name_or_path.into(), known: names(all)? }),
    }
}

/// Whether what names a backbone is the path of its manifest.
pub(crate) fn is_path(name_or_path: &str) -> bool {
    name_or_path.contains('/') || name_or_path.ends_with(".toml")
}

/// The names of these backbones and of the built-in ones, in order.
pub(crate) fn names(registered: Vec<Checkpoint>) -> Result<Vec<String>> {
    let all = registered.into_iter().chain(built_in()?);
    let mut names: Vec<String> = all.map(|checkpoint| checkpoint.manifest.name).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(change: impl Fn(String) -> String) -> Result<Checkpoint> {
        let text = change(include_str!("../../checkpoints/resnet20_cifar10.toml").to_string());
        Checkpoint::parse(&text, Path::new("m.toml"), Path::new("/nowhere"))
    }

    #[test]
    fn the_built_in_manifests_and_weights_are_whole() {
        for checkpoint in built_in().unwrap() {
            if let Some(bytes) = checkpoint.embedded {
                use sha2::Digest;
                let found = format!("{:x}", sha2::Sha256::digest(bytes));
                assert_eq!(found, checkpoint.manifest.sha256, "{}", checkpoint.manifest.name);
            }
        }
    }

    #[test]
    fn a_written_manifest_reads_back() {
        for mut manifest in built_in().unwrap().into_iter().map(|checkpoint| checkpoint.manifest) {
            manifest.description = "with \"quotes\" and a \\".into();
            manifest.input.shorter_side = Some(256);
            manifest.input.exif_orientation = true;
            let text = manifest.to_toml();
            assert_eq!(Checkpoint::parse(&text, Path::new("m.toml"), Path::new("/")).unwrap().manifest, manifest);
            assert!(!text.contains("0.48500"), "{text}");
        }
        let module = Output::ALL.map(|output| {
            let text = include_str!("../../checkpoints/resnet20_cifar10.toml").replace("resnet20-cifar", "torchscript");
            let mut manifest = Checkpoint::parse(&text, Path::new("m.toml"), Path::new("/")).unwrap().manifest;
            manifest.output = output;
            Checkpoint::parse(&manifest.to_toml(), Path::new("m.toml"), Path::new("/")).unwrap().manifest.output
        });
        assert_eq!(module, Output::ALL);
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        let refused =
            |from: &'static str, to: &'static str| manifest(|text| text.replace(from, to)).unwrap_err().to_string();
        assert!(refused("resnet20-cifar", "resnet19").contains("known are resnet8-cifar"));
        assert!(refused("name = \"resnet20_cifar10\"", "name = \"ResNet 20\"").contains("cannot name a backbone"));
        assert!(refused("name = \"resnet20_cifar10\"", "name = \"true\"").contains("is a word of SQL"));
        assert!(refused("name = \"resnet20_cifar10\"", "name = \"true\"").contains("(--name true_net)"));
        assert!(refused("resnet20-cifar", "dinov2-vits14").contains("takes sizes that are multiples of 14 pixels"));
        assert!(refused("sha256 = \"12", "sha256 = \"zz").contains("sha256 must be"));
        assert!(refused("std = [0.229", "std = [0.0").contains("std greater than 0"));
        assert!(refused("dimension = 64", "dimensions = 64").contains("dimensions"));
        assert!(refused("width = 32", "width = 32\nshorter_side = 16").contains("shorter_side"));
        assert!(refused("dimension", "output = \"feature map\"\ndimension").contains("output is for torchscript"));
        assert!(refused("resnet20-cifar", "vit-b16-224").contains("takes 224×224 pixels, and the input is 32×32"));
        let kinds = refused("dimension", "output = \"features\"\ndimension");
        assert!(Output::ALL.iter().all(|kind| kinds.contains(&kind.to_string())), "{kinds}");
    }

    #[test]
    fn unknown_names_list_the_known_ones() {
        let error = find("resnet9000", vec![]).unwrap_err().to_string();
        assert!(error.contains("known are demo_shapes, densenet_cifar10, resnet20_cifar10"), "{error}");
        assert!(matches!(find("no/such.toml", vec![]), Err(Error::MissingPath { .. })));
    }

    #[test]
    fn where_the_weights_of_a_built_in_network_are_is_remembered() {
        let here = |text: String| text.replace("weights = \"", "weights = \"/where/it/was/");
        let own = manifest(here).unwrap();
        let found = find("resnet20_cifar10", vec![own.clone()]).unwrap();
        assert_eq!(found.weights_path(), own.weights_path());
        assert!(found.weights_path().starts_with("/where/it/was"));
    }

    #[test]
    fn weights_that_are_missing_or_others_are_refused() {
        let checkpoint = manifest(|text| text).unwrap();
        assert!(matches!(checkpoint.verify_weights(None), Err(Error::NoWeights { .. })));
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = checkpoint.verify_weights(Some(file.path())).unwrap_err();
        assert!(matches!(error, Error::WeightsHash { .. }), "{error}");
    }
}
