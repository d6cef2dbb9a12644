//! TorchScript modules: code of somebody's, which runs where it is trusted.

use std::sync::Arc;

use tch::{CModule, Device, IValue, Kind, Tensor};

use super::layers::pooled;
use crate::backbone::checkpoint::Output;
use crate::error::{Error, Result};

/// A module, and what its manifest says that it gives. A clone shares the module.
#[derive(Debug, Clone)]
pub(in crate::backbone) struct Script {
    module: Arc<CModule>,
    output: Output,
    device: Device,
    /// The backbone's name, for messages.
    backbone: String,
}

impl Script {
    pub(super) fn load(mut bytes: &[u8], output: Output, backbone: &str) -> Result<Self> {
        let mut module = CModule::load_data(&mut bytes)?;
        module.f_set_eval()?;
        Ok(Self { module: Arc::new(module), output, device: Device::Cpu, backbone: backbone.into() })
    }

    /// The same module there, where nothing else uses it.
    pub(super) fn on(self, device: Device) -> Result<Self> {
        let mut module = Arc::into_inner(self.module).ok_or(Error::WorkerDied)?;
        module.to(device, Kind::Float, false);
        Ok(Self { module: Arc::new(module), device, ..self })
    }

    /// Embeddings of images (n×3×h×w), and logits where the module gives them.
    pub(super) fn forward(&self, images: &Tensor) -> Result<(Tensor, Option<Tensor>)> {
        let n = images.size().first().copied().unwrap_or(0);
        let given = self.module.forward_is(&[IValue::Tensor(images.f_to_device(self.device)?)])?;
        self.sort_out(given, n)
    }

    /// What a module gave, as the manifest says it is meant.
    fn sort_out(&self, given: IValue, n: i64) -> Result<(Tensor, Option<Tensor>)> {
        let output = self.output;
        let expected = match output {
            Output::Embedding => format!("one tensor, {n} × d"),
            Output::FeatureMap => format!("one tensor, {n} × channels × height × width"),
            Output::LogitsEmbedding => format!("a pair of tensors, {n} × classes and {n} × d"),
            Output::EmbeddingLogits => format!("a pair of tensors, {n} × d and {n} × classes"),
        };
        let wrong = Error::ModuleOutput {
            backbone: self.backbone.clone(),
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
