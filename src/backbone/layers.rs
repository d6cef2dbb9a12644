//! The layers that networks are built of: weights asked for by name and shape, then a plain forward pass.

use std::ops::Deref;

use outskirt_kernels::Precision;
use tch::{Device, Kind, TchError, Tensor};

use crate::error::Result;

const BN_EPSILON: f64 = 1e-5;
const BN_MOMENTUM: f64 = 0.1;

/// Gives a tensor by name and shape: out of a file, or freshly made.
pub(super) type Get<'a> = dyn FnMut(&str, &[i64]) -> Result<Tensor> + 'a;

/// A tensor of a network. A clone shares the numbers: that is how each thread gets its own handle.
#[derive(Debug)]
pub(super) struct Weight(pub(super) Tensor);

impl Clone for Weight {
    fn clone(&self) -> Self {
        Self(self.0.shallow_clone())
    }
}

impl Deref for Weight {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.0
    }
}

/// Where a network runs, and in what its products are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) device: Device,
    pub(super) kind: Kind,
}

impl Place {
    pub(super) fn precision(self) -> Precision {
        if self.kind == Kind::BFloat16 { Precision::Bf16 } else { Precision::F32 }
    }
}

impl Weight {
    /// A copy there; `kind` is that of products or, for what is added and scaled, f32.
    fn moved(&self, device: Device, kind: Kind) -> Result<Self, TchError> {
        Ok(Self(self.f_to_device(device)?.f_to_kind(kind)?))
    }

    /// What is added and scaled stays f32.
    pub(super) fn kept(&self, place: Place) -> Result<Self, TchError> {
        self.moved(place.device, Kind::Float)
    }
}

pub(super) fn weight(get: &mut Get<'_>, name: &str, shape: &[i64]) -> Result<Weight> {
    Ok(Weight(get(name, shape)?))
}

/// A square convolution without bias, padded so that stride 1 keeps the size.
#[derive(Debug, Clone)]
pub(super) struct Conv {
    weight: Weight,
    stride: i64,
    padding: i64,
    /// Channels are convolved with those of their group alone.
    groups: i64,
}

impl Conv {
    pub(super) fn load(get: &mut Get<'_>, name: &str, channels: (i64, i64), size: i64, stride: i64) -> Result<Self> {
        Self::grouped(get, name, channels, size, stride, 1)
    }

    fn grouped(
        get: &mut Get<'_>,
        name: &str,
        (from, to): (i64, i64),
        size: i64,
        stride: i64,
        groups: i64,
    ) -> Result<Self> {
        let weight = weight(get, &format!("{name}.weight"), &[to, from / groups, size, size])?;
        Ok(Self { weight, stride, padding: size / 2, groups })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        self.with_bias(x, None)
    }

    fn with_bias(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor, TchError> {
        x.f_conv2d(&self.weight, bias, [self.stride; 2], [self.padding; 2], [1; 2], self.groups)
    }

    /// Its weights (to × from × size × size), and the number of output channels.
    pub(super) fn numbers(&self) -> Result<(Vec<f32>, usize), TchError> {
        let weights = numbers(&self.weight)?.into_iter().map(|weight| weight as f32).collect();
        Ok((weights, self.weight.size().first().copied().unwrap_or(0) as usize))
    }

    pub(super) fn moved(&self, place: Place) -> Result<Self, TchError> {
        let weight = self.weight.moved(place.device, place.kind)?;
        // channels last, which is what fast convolutions read
        let weight = Weight(weight.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])?);
        Ok(Self { weight, ..*self })
    }
}

/// Batch normalisation.
#[derive(Debug, Clone)]
pub(super) struct BatchNorm {
    weight: Weight,
    bias: Weight,
    mean: Weight,
    var: Weight,
}

impl BatchNorm {
    pub(super) fn load(get: &mut Get<'_>, name: &str, channels: i64) -> Result<Self> {
        Ok(Self {
            weight: weight(get, &format!("{name}.weight"), &[channels])?,
            bias: weight(get, &format!("{name}.bias"), &[channels])?,
            mean: weight(get, &format!("{name}.running_mean"), &[channels])?,
            var: weight(get, &format!("{name}.running_var"), &[channels])?,
        })
    }

    pub(super) fn moved(&self, place: Place) -> Result<Self, TchError> {
        let Self { weight, bias, mean, var } = self;
        let [weight, bias, mean, var] = [weight, bias, mean, var].map(|tensor| tensor.kept(place));
        Ok(Self { weight: weight?, bias: bias?, mean: mean?, var: var? })
    }

    /// What it does with running statistics: scale and shift of each channel.
    pub(super) fn affine(&self) -> Result<(Vec<f64>, Vec<f64>), TchError> {
        let Self { weight, bias, mean, var } = self;
        let (bias, mean) = (numbers(bias)?, numbers(mean)?);
        let scale: Vec<f64> = numbers(weight)?
            .iter()
            .zip(numbers(var)?)
            .map(|(weight, var)| weight / (var + BN_EPSILON).sqrt())
            .collect();
        let shift = bias.iter().zip(mean.iter().zip(&scale)).map(|(bias, (mean, scale))| bias - mean * scale).collect();
        Ok((scale, shift))
    }

    /// `train` uses and updates batch statistics.
    pub(super) fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor, TchError> {
        let (weight, bias) = (Some(&*self.weight), Some(&*self.bias));
        let (mean, var) = (Some(&*self.mean), Some(&*self.var));
        x.f_batch_norm(weight, bias, mean, var, train, BN_MOMENTUM, BN_EPSILON, false)
    }
}

/// A convolution and its batch normalisation.
#[derive(Debug, Clone)]
pub(super) struct ConvNorm {
    conv: Conv,
    norm: BatchNorm,
    /// Only for inference: `conv` has the normalisation in it, and this is its bias.
    bias: Option<Weight>,
}

impl ConvNorm {
    /// `names`: of the convolution and the normalisation.
    pub(super) fn load(
        get: &mut Get<'_>,
        names: (&str, &str),
        channels: (i64, i64),
        size: i64,
        stride: i64,
    ) -> Result<Self> {
        Self::grouped(get, names, channels, size, stride, 1)
    }

    /// The same in groups of channels.
    pub(super) fn grouped(
        get: &mut Get<'_>,
        names: (&str, &str),
        channels: (i64, i64),
        size: i64,
        stride: i64,
        groups: i64,
    ) -> Result<Self> {
        let conv = Conv::grouped(get, names.0, channels, size, stride, groups)?;
        Ok(Self { conv, norm: BatchNorm::load(get, names.1, channels.1)?, bias: None })
    }

    /// For inference elsewhere, the normalisation folded into the convolution.
    pub(super) fn moved(&self, place: Place) -> Result<Self> {
        let (weights, bias) = self.folded()?;
        let weight = Tensor::f_from_slice(&weights)?.f_view(self.conv.weight.size().as_slice())?;
        let conv = Conv { weight: Weight(weight), ..self.conv }.moved(place)?;
        let bias = Weight(Tensor::f_from_slice(&bias)?).moved(place.device, place.kind)?;
        Ok(Self { conv, norm: self.norm.moved(place)?, bias: Some(bias) })
    }

    pub(super) fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor, TchError> {
        match &self.bias {
            Some(bias) if !train => self.conv.with_bias(x, Some(bias)),
            _ => self.norm.forward(&self.conv.forward(x)?, train),
        }
    }

    /// Weights (to × from × size × size) and biases of the convolution that gives the same, with running statistics.
    pub(super) fn folded(&self) -> Result<(Vec<f32>, Vec<f32>)> {
        let (scale, shift) = self.norm.affine()?;
        let mut weights = numbers(&self.conv.weight)?;
        let each = weights.len() / scale.len();
        for (weights, scale) in weights.chunks_exact_mut(each).zip(&scale) {
            weights.iter_mut().for_each(|weight| *weight *= scale);
        }
        let narrow = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
        Ok((narrow(weights), narrow(shift)))
    }

    /// Rows and columns of the window.
    pub(super) fn size(&self) -> usize {
        2 * self.conv.padding as usize + 1
    }

    pub(super) fn stride(&self) -> usize {
        self.conv.stride as usize
    }

    /// Whether its channels are in groups.
    pub(super) fn is_grouped(&self) -> bool {
        self.conv.groups > 1
    }
}

/// A linear map, with a bias.
#[derive(Debug, Clone)]
pub(super) struct Linear {
    pub(super) weight: Weight,
    pub(super) bias: Option<Weight>,
}

impl Linear {
    pub(super) fn load(get: &mut Get<'_>, name: &str, (from, to): (i64, i64)) -> Result<Self> {
        let matrix = weight(get, &format!("{name}.weight"), &[to, from])?;
        Ok(Self { weight: matrix, bias: Some(weight(get, &format!("{name}.bias"), &[to])?) })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_to_kind(self.weight.kind())?.f_linear(&self.weight, self.bias.as_deref())
    }

    /// Its weights (to × from), and its biases: zeros where it has none.
    pub(super) fn numbers(&self) -> Result<(Vec<f32>, Vec<f32>), TchError> {
        let narrow = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
        let to = self.weight.size().first().copied().unwrap_or(0) as usize;
        let bias = self.bias.as_ref().map_or_else(|| Ok(vec![0.0; to]), |bias| numbers(bias))?;
        Ok((narrow(numbers(&self.weight)?), narrow(bias)))
    }

    pub(super) fn moved(&self, place: Place) -> Result<Self, TchError> {
        let moved = |weight: &Weight| weight.moved(place.device, place.kind);
        Ok(Self { weight: moved(&self.weight)?, bias: self.bias.as_ref().map(moved).transpose()? })
    }
}

/// Layer normalisation over the last axis.
#[derive(Debug, Clone)]
pub(super) struct LayerNorm {
    weight: Weight,
    bias: Weight,
    width: i64,
    epsilon: f64,
}

impl LayerNorm {
    pub(super) fn load(get: &mut Get<'_>, name: &str, width: i64, epsilon: f64) -> Result<Self> {
        let (weight_name, bias_name) = (format!("{name}.weight"), format!("{name}.bias"));
        let (scale, bias) = (weight(get, &weight_name, &[width])?, weight(get, &bias_name, &[width])?);
        Ok(Self { weight: scale, bias, width, epsilon })
    }

    pub(super) fn moved(&self, place: Place) -> Result<Self, TchError> {
        Ok(Self { weight: self.weight.kept(place)?, bias: self.bias.kept(place)?, ..*self })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_layer_norm([self.width], Some(&*self.weight), Some(&*self.bias), self.epsilon, false)
    }
}

/// The values of a tensor.
fn numbers(tensor: &Tensor) -> Result<Vec<f64>, TchError> {
    Vec::try_from(tensor.f_flatten(0, -1)?.f_to_kind(Kind::Double)?)
}

/// A feature map (n×c×h×w) to its global average (n×c).
pub(super) fn pooled(map: &Tensor) -> Result<Tensor, TchError> {
    map.f_mean_dim(&[2i64, 3][..], false, Kind::Float)
}
