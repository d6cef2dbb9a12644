//! A loaded network, and the worker that runs it on one thread.

use std::path::Path;
use std::sync::Arc;

use outskirt_kernels::{Precision, Scratch};
use tch::{CModule, Device, IValue, Kind, Tensor};

use super::architecture::TORCHSCRIPT;
use super::checkpoint::{Checkpoint, Manifest, Output};
use super::kind;
use super::layers::{Place, pooled};
use super::network::Network;
use super::trusted::Trusted;
use crate::error::{Error, Result};
use crate::image::{Orientation, Pixels, Preprocess, Preprocessor};

const CPU_F32: Place = Place { device: Device::Cpu, kind: Kind::Float };

/// A network with its weights, checked by one forward pass.
pub struct Backbone {
    checkpoint: Checkpoint,
    preprocess: Preprocess,
    runs: Runs,
    classes: Option<usize>,
    with_logits: bool,
    place: Place,
    /// The network in f32 on the processor, where another place runs.
    reference: Option<Box<Network>>,
    notes: Vec<String>,
}

impl std::fmt::Debug for Backbone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backbone").field("manifest", &self.checkpoint.manifest).finish()
    }
}

/// What gives the numbers.
enum Runs {
    BuiltIn(Box<Network>),
    Script(Arc<CModule>, Output),
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
        let runs = if manifest.architecture == TORCHSCRIPT {
            let bytes = checkpoint.verified_bytes(weights)?;
            if let Some(reason) = kind::instead_of_torchscript(&bytes) {
                return Err(Error::BadWeights { path: checkpoint.weights_path(), reason });
            }
            let mut module = CModule::load_data(&mut bytes.as_slice())?;
            module.f_set_eval()?;
            Runs::Script(Arc::new(module), manifest.output)
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
            Runs::BuiltIn(Box::new(network))
        };
        let preprocess = manifest.input.preprocess();
        let place = CPU_F32;
        let backbone =
            Self { preprocess, runs, checkpoint, classes: None, with_logits: true, place, reference: None, notes };
        let mut worker = backbone.worker();
        let (embedding, logits) = worker.forward(&vec![0.5; worker.input_len()], 1)?;
        let measured = Measured { dimension: embedding.len(), classes: logits.map(|logits| logits.len()) };
        Ok((Self { with_logits: false, ..backbone }, measured))
    }

    /// Run on this device, the processor where it is `None`, in this precision. Results are f32; in bf16 convolutions and matrix products take operands of
    /// 8 bits' precision, and batches may be compared with f32 ([`Worker::in_f32`]).
    ///
    /// Errors: bf16 for a TorchScript module, which says itself what it computes in.
    pub fn placed(self, device: Option<Device>, precision: Precision) -> Result<Self> {
        let kind = match precision {
            Precision::F32 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
        };
        let device = device.unwrap_or(Device::Cpu);
        let place = Place { device, kind };
        if place == self.place {
            return Ok(self);
        }
        let _no_grad = tch::no_grad_guard();
        let (runs, reference) = match self.runs {
            Runs::BuiltIn(network) => {
                let reference = (precision != Precision::F32).then(|| network.clone());
                (Runs::BuiltIn(Box::new(network.moved(place)?)), reference)
            }
            Runs::Script(..) if precision != Precision::F32 => {
                return Err(Error::ScriptPrecision { backbone: self.checkpoint.manifest.name.clone() });
            }
            Runs::Script(module, output) => {
                let mut module = Arc::into_inner(module).ok_or(Error::WorkerDied)?;
                module.to(device, Kind::Float, false);
                (Runs::Script(Arc::new(module), output), None)
            }
        };
        Ok(Self { runs, reference, place, ..self })
    }

    /// What its products are taken in.
    pub fn precision(&self) -> Precision {
        self.place.precision()
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
        let runs = match &self.runs {
            Runs::BuiltIn(network) => Runs::BuiltIn(network.clone()),
            Runs::Script(module, output) => Runs::Script(Arc::clone(module), *output),
        };
        Worker {
            manifest: self.manifest().clone(),
            preprocessor: Preprocessor::new(&self.preprocess),
            runs,
            scratch: Scratch::default(),
            classes: self.classes,
            with_logits: self.with_logits,
            place: self.place,
            reference: self.reference.clone(),
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
    place: Place,
    reference: Option<Box<Network>>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("backbone", &self.manifest.name).finish()
    }
}

impl Worker {
    /// Limit libtorch to the calling thread: workers run side by side, one per core.
    pub fn use_one_thread(&self) {
        tch::set_num_threads(1);
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
        let (embeddings, logits) = self.forward(input, n)?;
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
        let Some(network) = &self.reference else { return Ok(None) };
        let (height, width) = (self.manifest.input.height, self.manifest.input.width);
        if let Some(fused) = network.fused() {
            return Ok(Some(fused.embed(input, (height as usize, width as usize), &mut self.scratch)));
        }
        let _no_grad = tch::no_grad_guard();
        let images = Tensor::f_from_slice(input)?.f_view([-1, 3, i64::from(height), i64::from(width)])?;
        numbers(&network.embed(&images)?).map(Some)
    }

    /// Embeddings (n×d) of n pictures, and logits (n×classes) where they are asked for and there.
    fn forward(&mut self, input: &[f32], n: usize) -> Result<(Vec<f32>, Option<Vec<f32>>)> {
        let (height, width) = (self.manifest.input.height, self.manifest.input.width);
        if let Runs::BuiltIn(network) = &self.runs
            && let Some(fused) = network.fused()
        {
            let embeddings = fused.embed(input, (height as usize, width as usize), &mut self.scratch);
            let logits = self.with_logits.then(|| fused.classify(&embeddings, &mut self.scratch)).flatten();
            return Ok((embeddings, logits));
        }
        // thread-local in libtorch: it belongs around each call
        let _no_grad = tch::no_grad_guard();
        let n = n as i64;
        let input = Tensor::f_from_slice(input)?.f_view([n, 3, i64::from(height), i64::from(width)])?;
        let input = input.f_to_device(self.place.device)?;
        let (embeddings, logits) = match &self.runs {
            Runs::BuiltIn(network) => {
                let input =
                    if self.place == CPU_F32 { input } else { channels_last(&input.f_to_kind(self.place.kind)?)? };
                let embeddings = network.embed(&input)?.f_to_kind(Kind::Float)?;
                let logits = if self.with_logits { network.classify(&embeddings).transpose()? } else { None };
                (embeddings, logits)
            }
            Runs::Script(module, output) => {
                let given = module.forward_is(&[IValue::Tensor(input)])?;
                let (embeddings, logits) = self.sort_out(given, *output, n)?;
                (embeddings, logits.filter(|_| self.with_logits))
            }
        };
        Ok((numbers(&embeddings)?, logits.as_ref().map(numbers).transpose()?))
    }

    /// What a module gave, as the manifest says it is meant.
    fn sort_out(&self, given: IValue, output: Output, n: i64) -> Result<(Tensor, Option<Tensor>)> {
        let expected = match output {
            Output::Embedding => format!("one tensor, {n} × d"),
            Output::FeatureMap => format!("one tensor, {n} × channels × height × width"),
            Output::LogitsEmbedding => format!("a pair of tensors, {n} × classes and {n} × d"),
            Output::EmbeddingLogits => format!("a pair of tensors, {n} × d and {n} × classes"),
        };
        let wrong = Error::ModuleOutput {
            backbone: self.manifest.name.clone(),
            output: output.to_string(),
            expected,
            found: describe(&given),
        };
        let rows = |tensor: &Tensor| tensor.dim() >= 2 && tensor.size().first() == Some(&n);
        let flat = |tensor: Tensor| tensor.f_flatten(1, -1)?.f_to_kind(Kind::Float)?.f_to_device(Device::Cpu);
        let mut tensors = match given {
            IValue::Tensor(tensor) => vec![tensor],
            IValue::TensorList(tensors) => tensors,
            IValue::Tuple(values) => {
                let tensor = |value| if let IValue::Tensor(tensor) = value { Some(tensor) } else { None };
                let Some(tensors) = values.into_iter().map(tensor).collect::<Option<Vec<_>>>() else {
                    return Err(wrong);
                };
                tensors
            }
            _ => return Err(wrong),
        };
        if !tensors.iter().all(rows) {
            return Err(wrong);
        }
        let (last, first) = (tensors.pop(), tensors.pop());
        match (output, first, last, tensors.is_empty()) {
            (Output::Embedding, None, Some(embedding), true) => Ok((flat(embedding)?, None)),
            (Output::FeatureMap, None, Some(map), true) if map.dim() == 4 => Ok((flat(pooled(&map)?)?, None)),
            (Output::LogitsEmbedding, Some(logits), Some(embedding), true)
            | (Output::EmbeddingLogits, Some(embedding), Some(logits), true) => {
                Ok((flat(embedding)?, Some(flat(logits)?)))
            }
            _ => Err(wrong),
        }
    }
}

/// n×c×h×w in the order n×h×w×c, which the moved convolutions read.
fn channels_last(images: &Tensor) -> Result<Tensor> {
    Ok(images.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])?)
}

/// The values of a matrix, row-major.
fn numbers(matrix: &Tensor) -> Result<Vec<f32>> {
    let matrix = matrix.f_to_kind(Kind::Float)?.f_to_device(Device::Cpu)?.f_contiguous()?;
    let mut values = vec![0f32; matrix.numel()];
    let count = values.len();
    matrix.f_copy_data(&mut values, count)?;
    Ok(values)
}

/// What a module gave, for messages.
fn describe(value: &IValue) -> String {
    let several = |parts: Vec<String>| format!("{} values ({})", parts.len(), parts.join(", "));
    match value {
        IValue::Tensor(tensor) => format!("a tensor of shape {:?}", tensor.size()),
        IValue::TensorList(tensors) => {
            several(tensors.iter().map(|tensor| format!("a tensor of shape {:?}", tensor.size())).collect())
        }
        IValue::Tuple(values) | IValue::GenericList(values) => several(values.iter().map(describe).collect()),
        IValue::GenericDict(entries) => format!("a dict of {}", entries.len()),
        IValue::None => "nothing".into(),
        _ => "a value that is no tensor".into(),
    }
}
