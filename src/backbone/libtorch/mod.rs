//! Networks as libtorch runs them, and trains the demo's. `tch` is named here, and for search on a GPU in `index`'s
//! `device`, alone; libtorch is opened ([`outskirt_libtorch::load`]) where a network is made.

mod convnext;
mod densenet;
mod layers;
mod resnet;
mod script;
#[cfg(test)]
mod tests;
mod train;
mod vit;

use outskirt_kernels::Precision;
use tch::{Device, Kind, TchError, Tensor};

pub(super) use self::layers::Weight;
use self::layers::{Place, channels_last};
use self::script::Script;
pub(super) use self::train::train;
use super::body::Body;
use super::checkpoint::Output;
use super::input::Pictures;
use super::layers::Linear;
use super::network::Network;
use crate::error::Result;
use crate::index::require_cuda;

/// A network in a place. A clone shares its tensors.
#[derive(Debug, Clone)]
pub(super) enum Libtorch {
    BuiltIn(Box<BuiltIn>),
    Script(Script),
}

impl Libtorch {
    /// A built-in network.
    ///
    /// Errors: no libtorch; no CUDA where it is asked for.
    pub(super) fn network(network: &Network, device: crate::index::Device, precision: Precision) -> Result<Self> {
        outskirt_libtorch::load()?;
        let _no_grad = tch::no_grad_guard();
        Ok(Self::BuiltIn(Box::new(BuiltIn::of(network, Place::new(device_of(device)?, precision))?)))
    }

    /// A TorchScript module, on the processor.
    ///
    /// Errors: no libtorch; what is no such module.
    pub(super) fn script(bytes: &[u8], output: Output, backbone: &str) -> Result<Self> {
        outskirt_libtorch::load()?;
        Script::load(bytes, output, backbone).map(Self::Script)
    }

    /// A module elsewhere.
    pub(super) fn script_on(self, device: crate::index::Device) -> Result<Self> {
        match self {
            Self::Script(script) => Ok(Self::Script(script.on(device_of(device)?)?)),
            built_in @ Self::BuiltIn(_) => Ok(built_in),
        }
    }

    /// Limit libtorch to the calling thread.
    pub(super) fn use_one_thread() {
        tch::set_num_threads(1);
    }

    /// Embeddings (n×d), and logits (n×classes) where they are asked for and there.
    pub(super) fn forward(&self, pictures: Pictures<'_>, with_logits: bool) -> Result<(Vec<f32>, Option<Vec<f32>>)> {
        // thread-local in libtorch: it belongs around each call
        let _no_grad = tch::no_grad_guard();
        let (height, width) = (pictures.height as i64, pictures.width as i64);
        let input = Tensor::f_from_slice(pictures.values)?.f_view([-1, 3, height, width])?;
        let (embeddings, logits) = match self {
            Self::BuiltIn(network) => network.forward(&input, with_logits)?,
            Self::Script(script) => script.forward(&input)?,
        };
        let logits = logits.filter(|_| with_logits);
        Ok((numbers(&embeddings)?, logits.as_ref().map(numbers).transpose()?))
    }
}

fn device_of(device: crate::index::Device) -> Result<Device> {
    match device {
        crate::index::Device::Cpu => Ok(Device::Cpu),
        crate::index::Device::Cuda => require_cuda(None),
    }
}

/// A built-in network.
#[derive(Debug, Clone)]
pub(super) struct BuiltIn {
    body: Body<Weight>,
    classifier: Option<Linear<Weight>>,
    place: Place,
}

impl BuiltIn {
    fn of(network: &Network, place: Place) -> Result<Self, TchError> {
        let body = match &network.body {
            Body::ResNet(resnet) => Body::ResNet(resnet.on(place)?),
            Body::DenseNet(densenet) => Body::DenseNet(densenet.on(place)?),
            Body::Vit(vit) => Body::Vit(vit.on(place)?),
            Body::ConvNeXt(convnext) => Body::ConvNeXt(convnext.on(place)?),
        };
        // the classifier is small, and logits are compared with exponentials: f32
        let apart = Place { kind: Kind::Float, ..place };
        let classifier = network.classifier.as_ref().map(|classifier| classifier.on(apart)).transpose()?;
        Ok(Self { body, classifier, place })
    }

    fn forward(&self, images: &Tensor, with_logits: bool) -> Result<(Tensor, Option<Tensor>), TchError> {
        let images = images.f_to_device(self.place.device)?;
        let images = match self.place {
            Place::CPU_F32 => images,
            Place { kind, .. } => channels_last(&images.f_to_kind(kind)?)?,
        };
        let embeddings = match &self.body {
            Body::ResNet(resnet) => resnet.embed(&images, false),
            Body::DenseNet(densenet) => densenet.embed(&images),
            Body::Vit(vit) => vit.embed(&images),
            Body::ConvNeXt(convnext) => convnext.embed(&images),
        };
        let embeddings = embeddings?.f_to_kind(Kind::Float)?;
        let classifier = self.classifier.as_ref().filter(|_| with_logits);
        let logits = classifier.map(|classifier| classifier.forward(&embeddings)).transpose()?;
        Ok((embeddings, logits))
    }
}

/// The values of a matrix, row-major.
fn numbers(matrix: &Tensor) -> Result<Vec<f32>, TchError> {
    let matrix = matrix.f_to_kind(Kind::Float)?.f_to_device(Device::Cpu)?.f_contiguous()?;
    let mut values = vec![0f32; matrix.numel()];
    let count = values.len();
    matrix.f_copy_data(&mut values, count)?;
    Ok(values)
}
