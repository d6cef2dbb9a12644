//! What gives the numbers of a network: loops of this processor, or libtorch.

use std::sync::{Arc, Mutex, PoisonError};

use outskirt_kernels::{Precision, Scratch};

use super::checkpoint::Output;
use super::fused::Fused;
use super::input::Pictures;
#[cfg(feature = "torch")]
use super::libtorch::Libtorch;
use super::network::Network;
#[cfg(not(feature = "torch"))]
use crate::error::Error;
use crate::error::Result;
use crate::index::Device;

/// What every thread gets one of. The tensors of libtorch may go to another thread and not be used by two at once, which would
/// be true of a [`Backbone`](super::Backbone), and of every future that holds one: behind a lock it may be shared.
#[derive(Debug)]
pub(super) struct Pattern(Mutex<Runs>);

impl Pattern {
    pub(super) fn of(runs: Runs) -> Self {
        Self(Mutex::new(runs))
    }

    /// One for a thread.
    pub(super) fn one(&self) -> Runs {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One per thread; the weights are shared, not copied.
#[derive(Debug, Clone)]
pub(super) enum Runs {
    Loops(Arc<Fused>),
    #[cfg(feature = "torch")]
    Libtorch(Libtorch),
}

impl Runs {
    /// A built-in network: in loops of this processor where there are such, else by libtorch.
    ///
    /// Errors: libtorch is needed, and missing; no CUDA where it is asked for.
    pub(super) fn of(network: &Network, architecture: &str, device: Device, precision: Precision) -> Result<Self> {
        if device == Device::Cpu
            && let Some(fused) = Fused::of(network, precision)
        {
            return Ok(Self::Loops(Arc::new(fused)));
        }
        Self::by_libtorch(network, architecture, device, precision)
    }

    #[cfg(feature = "torch")]
    pub(super) fn by_libtorch(network: &Network, _: &str, device: Device, precision: Precision) -> Result<Self> {
        Libtorch::network(network, device, precision).map(Self::Libtorch)
    }

    #[cfg(not(feature = "torch"))]
    fn by_libtorch(_: &Network, architecture: &str, device: Device, precision: Precision) -> Result<Self> {
        let what = match device {
            Device::Cpu if !outskirt_kernels::available(precision) && outskirt_kernels::available(Precision::F32) => {
                "bf16 on a processor without AVX512-BF16".into()
            }
            Device::Cpu => format!("architecture {architecture} on this processor"),
            Device::Cuda => "cuda".into(),
        };
        Err(Error::NoTorch { what })
    }

    /// A TorchScript module, on the processor.
    #[cfg(feature = "torch")]
    pub(super) fn script(bytes: &[u8], output: Output, backbone: &str) -> Result<Self> {
        Libtorch::script(bytes, output, backbone).map(Self::Libtorch)
    }

    #[cfg(not(feature = "torch"))]
    pub(super) fn script(_: &[u8], _: Output, backbone: &str) -> Result<Self> {
        Err(Error::NoTorch { what: format!("TorchScript module {backbone}") })
    }

    /// A TorchScript module on another device.
    pub(super) fn script_on(self, device: Device) -> Result<Self> {
        match self {
            #[cfg(feature = "torch")]
            Self::Libtorch(module) => module.script_on(device).map(Self::Libtorch),
            loops @ Self::Loops(_) => {
                let _ = device;
                Ok(loops)
            }
        }
    }

    /// Run on the calling thread alone.
    pub(super) fn use_one_thread(&self) {
        match self {
            // they do already
            Self::Loops(_) => {}
            #[cfg(feature = "torch")]
            Self::Libtorch(_) => Libtorch::use_one_thread(),
        }
    }

    /// Embeddings (n×d), and logits (n×classes) where they are asked for and there.
    pub(super) fn forward(
        &self,
        pictures: Pictures<'_>,
        with_logits: bool,
        scratch: &mut Scratch,
    ) -> Result<(Vec<f32>, Option<Vec<f32>>)> {
        match self {
            Self::Loops(fused) => {
                let embeddings = fused.embed(pictures.values, (pictures.height, pictures.width), scratch);
                let logits = with_logits.then(|| fused.classify(&embeddings, scratch)).flatten();
                Ok((embeddings, logits))
            }
            #[cfg(feature = "torch")]
            Self::Libtorch(network) => network.forward(pictures, with_logits),
        }
    }
}
