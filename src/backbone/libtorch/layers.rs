//! Layers as libtorch runs them: their weights as tensors in a place, then a plain forward pass.

use std::ops::Deref;
use std::sync::Arc;

use outskirt_kernels::Precision;
use tch::{Device, Kind, TchError, Tensor};

use crate::backbone::layers::{BatchNorm, Conv, ConvNorm, LayerNorm, Linear};
use crate::backbone::weights::WeightTensor;

const BN_MOMENTUM: f64 = 0.1;

/// A tensor of a network. A clone shares the numbers: that is how each thread gets its own handle.
#[derive(Debug)]
pub(in crate::backbone) struct Weight {
    tensor: Tensor,
    /// What a tensor is made of that has no numbers of its own.
    values: Option<Arc<Vec<f32>>>,
}

impl Clone for Weight {
    fn clone(&self) -> Self {
        Self { tensor: self.tensor.shallow_clone(), values: self.values.clone() }
    }
}

impl Deref for Weight {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.tensor
    }
}

impl From<Tensor> for Weight {
    fn from(tensor: Tensor) -> Self {
        Self { tensor, values: None }
    }
}

/// Where a network runs, and in what its products are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backbone) struct Place {
    pub(in crate::backbone) device: Device,
    pub(in crate::backbone) kind: Kind,
}

impl Place {
    /// In f32 on the processor, where networks stay as they are in the file. Elsewhere normalisation is folded into convolutions,
    /// whose channels come last.
    pub(super) const CPU_F32: Self = Self { device: Device::Cpu, kind: Kind::Float };

    pub(super) fn new(device: Device, precision: Precision) -> Self {
        let kind = match precision {
            Precision::F32 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
        };
        Self { device, kind }
    }
}

impl Weight {
    /// A file's tensor there; `kind` is that of products or, for what is added and scaled, f32. In f32 on the processor it is
    /// not copied.
    fn of(tensor: &WeightTensor, device: Device, kind: Kind) -> Result<Self, TchError> {
        let shape: Vec<i64> = tensor.shape.iter().map(|&n| n as i64).collect();
        let values = &tensor.values;
        if values.is_empty() {
            return Ok(Tensor::f_zeros(shape, (kind, device))?.into());
        }
        let strides: Vec<i64> = (1..=shape.len()).map(|axis| shape[axis..].iter().product()).collect();
        let start = values.as_ptr().cast();
        // SAFETY: the shape has as many numbers as there are, `values` goes along with the tensor, and nothing of inference
        // writes into a weight.
        let shared = unsafe { Tensor::f_from_blob(start, &shape, &strides, Kind::Float, Device::Cpu) }?;
        if (device, kind) == (Device::Cpu, Kind::Float) {
            return Ok(Self { tensor: shared, values: Some(Arc::clone(values)) });
        }
        Ok(shared.f_to_device(device)?.f_to_kind(kind)?.into())
    }

    /// What is added and scaled stays f32.
    pub(super) fn kept(tensor: &WeightTensor, place: Place) -> Result<Self, TchError> {
        Self::of(tensor, place.device, Kind::Float)
    }

    /// Channels last, which is what fast convolutions read.
    fn channels_last(self) -> Result<Self, TchError> {
        Ok(channels_last(&self.tensor)?.into())
    }
}

/// n×c×h×w in the order n×h×w×c.
pub(super) fn channels_last(images: &Tensor) -> Result<Tensor, TchError> {
    images.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])
}

impl Conv {
    pub(super) fn on(&self, place: Place) -> Result<Conv<Weight>, TchError> {
        let Self { stride, padding, groups, .. } = *self;
        let weight = Weight::of(&self.weight, place.device, place.kind)?;
        let weight = if place == Place::CPU_F32 { weight } else { weight.channels_last()? };
        Ok(Conv { weight, stride, padding, groups })
    }
}

impl Conv<Weight> {
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        self.with_bias(x, None)
    }

    fn with_bias(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor, TchError> {
        x.f_conv2d(&self.weight, bias, [self.stride; 2], [self.padding; 2], [1; 2], self.groups)
    }
}

impl BatchNorm {
    pub(super) fn on(&self, place: Place) -> Result<BatchNorm<Weight>, TchError> {
        let Self { weight, bias, mean, var } = self;
        let [weight, bias, mean, var] = [weight, bias, mean, var].map(|tensor| Weight::kept(tensor, place));
        Ok(BatchNorm { weight: weight?, bias: bias?, mean: mean?, var: var? })
    }
}

impl BatchNorm<Weight> {
    /// `train` uses and updates batch statistics.
    pub(super) fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor, TchError> {
        let (weight, bias) = (Some(&*self.weight), Some(&*self.bias));
        let (mean, var) = (Some(&*self.mean), Some(&*self.var));
        x.f_batch_norm(weight, bias, mean, var, train, BN_MOMENTUM, Self::EPSILON, false)
    }
}

impl ConvNorm {
    pub(super) fn on(&self, place: Place) -> Result<ConvNorm<Weight>, TchError> {
        let norm = self.norm.on(place)?;
        if place == Place::CPU_F32 {
            return Ok(ConvNorm { conv: self.conv.on(place)?, norm, bias: None });
        }
        let (weights, bias) = self.folded();
        let weight = WeightTensor { values: weights.into(), ..self.conv.weight.clone() };
        let conv = Conv { weight, ..self.conv }.on(place)?;
        let bias = WeightTensor { shape: vec![bias.len()], values: bias.into() };
        let bias = Weight::of(&bias, place.device, place.kind)?;
        Ok(ConvNorm { conv, norm, bias: Some(bias) })
    }
}

impl ConvNorm<Weight> {
    pub(super) fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor, TchError> {
        match &self.bias {
            Some(bias) if !train => self.conv.with_bias(x, Some(bias)),
            _ => self.norm.forward(&self.conv.forward(x)?, train),
        }
    }
}

impl Linear {
    pub(super) fn on(&self, place: Place) -> Result<Linear<Weight>, TchError> {
        let there = |tensor: &WeightTensor| Weight::of(tensor, place.device, place.kind);
        Ok(Linear { weight: there(&self.weight)?, bias: self.bias.as_ref().map(there).transpose()? })
    }
}

impl Linear<Weight> {
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_to_kind(self.weight.kind())?.f_linear(&self.weight, self.bias.as_deref())
    }
}

impl LayerNorm {
    pub(super) fn on(&self, place: Place) -> Result<LayerNorm<Weight>, TchError> {
        let (weight, bias) = (Weight::kept(&self.weight, place)?, Weight::kept(&self.bias, place)?);
        Ok(LayerNorm { weight, bias, width: self.width, epsilon: self.epsilon })
    }
}

impl LayerNorm<Weight> {
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_layer_norm([self.width], Some(&*self.weight), Some(&*self.bias), self.epsilon, false)
    }
}

/// A feature map (n×c×h×w) to its global average (n×c).
pub(super) fn pooled(map: &Tensor) -> Result<Tensor, TchError> {
    map.f_mean_dim(&[2i64, 3][..], false, Kind::Float)
}
