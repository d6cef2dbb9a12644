//! A loaded network, and the worker that runs it on one thread.

use std::path::Path;
use std::sync::Arc;

use tch::{CModule, Device, Kind, Tensor};

use super::checkpoint::{Checkpoint, Manifest};
use super::resnet::CifarResNet;
use crate::error::{Error, Result};
use crate::image::{Pixels, Preprocess, Preprocessor};

/// A network with its weights, checked by one forward pass.
pub struct Backbone {
    checkpoint: Checkpoint,
    preprocess: Preprocess,
    network: Network,
}

impl std::fmt::Debug for Backbone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backbone").field("manifest", &self.checkpoint.manifest).finish()
    }
}

enum Network {
    ResNet(CifarResNet),
    Script(Arc<CModule>),
}

impl Backbone {
    /// Load a checkpoint's network; `weights` replaces the manifest's path, not its SHA-256.
    ///
    /// Errors: weights that are missing, others, unreadable or of another shape, and a network that does not
    /// give the manifest's dimension.
    pub fn load(checkpoint: Checkpoint, weights: Option<&Path>) -> Result<Self> {
        let manifest = &checkpoint.manifest;
        let network = match manifest.architecture.as_str() {
            "torchscript" => {
                let path = checkpoint.verify_weights(weights)?.unwrap_or_else(|| checkpoint.weights_path());
                let mut module = CModule::load(&path)?;
                module.f_set_eval()?;
                Network::Script(Arc::new(module))
            }
            resnet => {
                let depth = match resnet {
                    "resnet8-cifar" => 8,
                    "resnet56-cifar" => 56,
                    _ => 20,
                };
                let state = checkpoint.state_dict(weights)?;
                let path = weights.map_or_else(|| checkpoint.weights_path(), Path::to_path_buf);
                Network::ResNet(CifarResNet::from_state_dict(depth, &state, &path, resnet)?)
            }
        };
        let backbone = Self { preprocess: manifest.input.preprocess(), network, checkpoint };
        backbone.worker().check()?;
        Ok(backbone)
    }

    /// The manifest it was loaded by.
    pub fn manifest(&self) -> &Manifest {
        &self.checkpoint.manifest
    }

    /// The checkpoint it was loaded from.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// A worker for one thread; the weights are shared, not copied.
    pub fn worker(&self) -> Worker {
        let network = match &self.network {
            Network::ResNet(resnet) => Network::ResNet(resnet.share()),
            Network::Script(module) => Network::Script(Arc::clone(module)),
        };
        Worker { manifest: self.manifest().clone(), preprocessor: Preprocessor::new(&self.preprocess), network }
    }
}

/// Preprocesses and embeds on the thread that owns it.
pub struct Worker {
    manifest: Manifest,
    preprocessor: Preprocessor,
    network: Network,
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

    /// Resize and normalise one picture into `out`, [`Self::input_len`] values, planar RGB.
    pub fn preprocess(&mut self, pixels: &Pixels, out: &mut [f32]) -> Result<()> {
        self.preprocessor.run(pixels, out)
    }

    /// Embed n preprocessed pictures (n × [`Self::input_len`]): n × dimension values, as the network gives them.
    pub fn embed(&self, input: &[f32]) -> Result<Vec<f32>> {
        // thread-local in libtorch: it belongs around each call
        let _no_grad = tch::no_grad_guard();
        let n = (input.len() / self.input_len()) as i64;
        let (height, width) = (i64::from(self.manifest.input.height), i64::from(self.manifest.input.width));
        let input = Tensor::f_from_slice(input)?.f_view([n, 3, height, width])?;
        let output = match &self.network {
            Network::ResNet(resnet) => resnet.embed(&input, false)?,
            Network::Script(module) => module.forward_ts(&[input])?,
        };
        let output = output.f_flatten(1, -1)?.f_to_kind(Kind::Float)?.f_to_device(Device::Cpu)?.f_contiguous()?;
        let found = output.size().get(1).copied().unwrap_or(0) as usize;
        if output.size().first() != Some(&n) || found != self.manifest.dimension {
            return Err(Error::EmbeddingDimension {
                backbone: self.manifest.name.clone(),
                expected: self.manifest.dimension,
                found,
            });
        }
        let mut values = vec![0f32; n as usize * found];
        let count = values.len();
        output.f_copy_data(&mut values, count)?;
        Ok(values)
    }

    /// One forward pass of a grey picture: the dimension must be the manifest's.
    fn check(&self) -> Result<()> {
        self.embed(&vec![0.5; self.input_len()]).map(drop)
    }
}
