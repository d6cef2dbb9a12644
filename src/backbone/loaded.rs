//! A loaded network, and the worker that runs it on one thread.

use std::path::Path;

use outskirt_kernels::{Precision, Scratch};

use super::architecture::TORCHSCRIPT;
use super::checkpoint::{Checkpoint, Manifest};
use super::input::Pictures;
use super::kind;
use super::network::Network;
use super::runs::{Pattern, Runs};
use super::trusted::Trusted;
use crate::error::{Error, Result};
use crate::image::{Orientation, Pixels, Preprocess, Preprocessor};
use crate::index::Device;

/// A network with its weights, checked by one forward pass.
pub struct Backbone {
    checkpoint: Checkpoint,
    preprocess: Preprocess,
    /// As the file has it; `None` of a TorchScript module.
    network: Option<Network>,
    runs: Pattern,
    classes: Option<usize>,
    with_logits: bool,
    precision: Precision,
    /// The network in f32 on the processor, where another precision runs.
    reference: Option<Pattern>,
    notes: Vec<String>,
}

impl std::fmt::Debug for Backbone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backbone").field("manifest", &self.checkpoint.manifest).finish()
    }
}

/// What a network gives for n pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct Outputs {
    /// n×dimension.
    pub embeddings: Vec<f32>,
    /// n×classes; empty where they are not asked for.
    pub logits: Vec<f32>,
}

/// What a network gives for a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// Numbers per embedding.
    pub dimension: usize,
    /// Numbers per picture of its classifier, where it has one.
    pub classes: Option<usize>,
}

impl Backbone {
    /// Load a checkpoint's network; `weights` replaces the manifest's path, not its SHA-256.
    ///
    /// Errors: weights that are missing, others, unreadable or of another shape, a TorchScript module that is not trusted,
    /// and a network that does not give the manifest's dimension.
    pub fn load(checkpoint: Checkpoint, weights: Option<&Path>, trusted: &Trusted) -> Result<Self> {
        let (mut backbone, measured) = Self::measured(checkpoint, weights, trusted)?;
        let (expected, found) = (backbone.manifest().dimension, measured.dimension);
        if expected != found {
            let backbone = backbone.manifest().name.clone();
            return Err(Error::EmbeddingDimension { backbone, expected, found });
        }
        backbone.classes = measured.classes;
        Ok(backbone)
    }

    /// What the network of a checkpoint gives for a grey picture, whatever the manifest says of its dimension.
    ///
    /// Errors: as [`Self::load`].
    pub fn measure(checkpoint: Checkpoint, trusted: &Trusted) -> Result<Measured> {
        Self::measured(checkpoint, None, trusted).map(|(_, measured)| measured)
    }

    fn measured(checkpoint: Checkpoint, weights: Option<&Path>, trusted: &Trusted) -> Result<(Self, Measured)> {
        let checkpoint = match weights {
            Some(path) => checkpoint.with_weights(path)?,
            None => checkpoint,
        };
        let manifest = &checkpoint.manifest;
        trusted.check(manifest)?;
        let mut notes = Vec::new();
        let (network, runs) = if manifest.architecture == TORCHSCRIPT {
            (None, module(&checkpoint, weights)?)
        } else {
            let found = checkpoint.find_state_dict(weights)?;
            let path = checkpoint.weights_path();
            let network = Network::from_state_dict(&manifest.architecture, &found.tensors, &path)?;
            if let (Some(key), others @ [_, ..]) = (&found.key, found.others.as_slice()) {
                notes.push(format!(
                    "the weights under '{key}' are taken; the file has others under {} (--state-dict KEY takes those)",
                    others.join(", ")
                ));
            }
            notes.extend(network.notes.iter().cloned());
            let runs = Runs::of(&network, &manifest.architecture, Device::Cpu, Precision::F32)?;
            (Some(network), runs)
        };
        let preprocess = manifest.input.preprocess();
        let precision = Precision::F32;
        let backbone = Self {
            preprocess,
            network,
            runs: Pattern::of(runs),
            checkpoint,
            classes: None,
            with_logits: true,
            precision,
            reference: None,
            notes,
        };
        let mut worker = backbone.worker();
        let (embedding, logits) = worker.forward(&vec![0.5; worker.input_len()])?;
        let measured = Measured { dimension: embedding.len(), classes: logits.map(|logits| logits.len()) };
        Ok((Self { with_logits: false, ..backbone }, measured))
    }

    /// Run on this device, in this precision. Results are f32; in bf16 convolutions and matrix products take operands of 8 bits'
    /// precision, and batches may be compared with f32 ([`Worker::in_f32`]).
    ///
    /// Errors: bf16 for a TorchScript module, which says itself what it computes in; no libtorch or no CUDA where it is
    /// needed.
    pub fn placed(self, device: Device, precision: Precision) -> Result<Self> {
        if (device, precision) == (Device::Cpu, Precision::F32) {
            return Ok(self);
        }
        let (runs, reference) = match &self.network {
            Some(network) => {
                let runs = Runs::of(network, &self.manifest().architecture, device, precision)?;
                (Pattern::of(runs), (precision != Precision::F32).then_some(self.runs))
            }
            None if precision != Precision::F32 => {
                return Err(Error::ScriptPrecision { backbone: self.checkpoint.manifest.name.clone() });
            }
            None => (Pattern::of(self.runs.one().script_on(device)?), None),
        };
        Ok(Self { runs, reference, precision, ..self })
    }

    /// What its products are taken in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Have the classifier's output as well.
    ///
    /// Errors: a network without a classifier.
    pub fn with_logits(self) -> Result<Self> {
        match self.classes {
            Some(_) => Ok(Self { with_logits: true, ..self }),
            None => Err(Error::NoLogits { backbone: self.manifest().name.clone() }),
        }
    }

    /// Numbers per picture of its classifier, where it has one.
    pub fn classes(&self) -> Option<usize> {
        self.classes
    }

    /// Numbers per picture that workers give as logits; `None` where they are not asked for.
    pub fn logits(&self) -> Option<usize> {
        self.classes.filter(|_| self.with_logits)
    }

    /// The manifest it was loaded by.
    pub fn manifest(&self) -> &Manifest {
        &self.checkpoint.manifest
    }

    /// What of the weights file was taken and what was left out, for people; empty where that is all of it.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The checkpoint it was loaded from, with the weights file that it was loaded from.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// f32 values per preprocessed image: 3 × height × width.
    pub fn input_len(&self) -> usize {
        self.preprocess.input_len()
    }

    /// A worker for one thread; the weights are shared, not copied.
    pub fn worker(&self) -> Worker {
        Worker {
            manifest: self.manifest().clone(),
            preprocessor: Preprocessor::new(&self.preprocess),
            runs: self.runs.one(),
            scratch: Scratch::default(),
            classes: self.classes,
            with_logits: self.with_logits,
            reference: self.reference.as_ref().map(Pattern::one),
        }
    }
}

/// Preprocesses and embeds on the thread that owns it.
pub struct Worker {
    manifest: Manifest,
    preprocessor: Preprocessor,
    runs: Runs,
    scratch: Scratch,
    /// Numbers per picture that logits must have.
    classes: Option<usize>,
    with_logits: bool,
    reference: Option<Runs>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("backbone", &self.manifest.name).finish()
    }
}

impl Worker {
    /// Run on the calling thread alone: workers run side by side, one per core.
    pub fn use_one_thread(&self) {
        self.runs.use_one_thread();
    }

    /// f32 values per preprocessed image: 3 × height × width.
    pub fn input_len(&self) -> usize {
        3 * self.manifest.input.width as usize * self.manifest.input.height as usize
    }

    /// How pictures are to be turned when they are decoded.
    pub fn orientation(&self) -> Orientation {
        self.manifest.input.orientation()
    }

    /// Resize and normalise one picture into `out`, [`Self::input_len`] values, planar RGB.
    pub fn preprocess(&mut self, pixels: &Pixels, out: &mut [f32]) -> Result<()> {
        self.preprocessor.run(pixels, out)
    }

    /// Embed n preprocessed pictures (n × [`Self::input_len`]): n × dimension values, as the network gives them, and its
    /// logits where the backbone was asked for them. Whether their last bits depend on the batch, the
    /// [room](crate::backbone) says.
    pub fn embed(&mut self, input: &[f32]) -> Result<Outputs> {
        let n = input.len() / self.input_len();
        let (embeddings, logits) = self.forward(input)?;
        let width = |rows: &[f32]| rows.len().checked_div(n).unwrap_or(0);
        let (found, backbone) = (width(&embeddings), || self.manifest.name.clone());
        if found != self.manifest.dimension {
            let expected = self.manifest.dimension;
            return Err(Error::EmbeddingDimension { backbone: backbone(), expected, found });
        }
        if let (Some(expected), Some(found)) = (self.classes, logits.as_deref().map(width))
            && expected != found
        {
            return Err(Error::LogitsChanged { backbone: backbone(), expected, found });
        }
        Ok(Outputs { embeddings, logits: logits.unwrap_or_default() })
    }

    /// Embeddings of the same pictures in f32 on the processor; `None` where that is what [`Self::embed`] gives.
    pub fn in_f32(&mut self, input: &[f32]) -> Result<Option<Vec<f32>>> {
        let Some(reference) = &self.reference else { return Ok(None) };
        let (embeddings, _) = reference.forward(pictures(&self.manifest, input), false, &mut self.scratch)?;
        Ok(Some(embeddings))
    }

    /// Embeddings (n×d) of pictures, and logits (n×classes) where they are asked for and there.
    fn forward(&mut self, input: &[f32]) -> Result<(Vec<f32>, Option<Vec<f32>>)> {
        self.runs.forward(pictures(&self.manifest, input), self.with_logits, &mut self.scratch)
    }
}

fn pictures<'p>(manifest: &Manifest, values: &'p [f32]) -> Pictures<'p> {
    Pictures { values, height: manifest.input.height as usize, width: manifest.input.width as usize }
}

/// A TorchScript module on the processor.
fn module(checkpoint: &Checkpoint, weights: Option<&Path>) -> Result<Runs> {
    let Manifest { name, output, .. } = &checkpoint.manifest;
    let bytes = checkpoint.verified_bytes(weights)?;
    if let Some(reason) = kind::instead_of_torchscript(&bytes) {
        return Err(Error::BadWeights { path: checkpoint.weights_path(), reason });
    }
    Runs::script(&bytes, *output, name)
}
