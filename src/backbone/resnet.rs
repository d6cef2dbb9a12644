//! ResNet in its CIFAR form (He et al. 2016, §4.2): 3×3 stem, three stages of 16, 32 and 64 channels, depth 6n + 2.
//!
//! Shortcuts between stages take every second pixel and pad channels with zeros (option A), so they have no
//! weights. The embedding is the global average of the last feature map: 64 numbers.

use std::collections::BTreeSet;
use std::path::Path;

use tch::{TchError, Tensor};

use super::weights::StateDict;
use crate::error::{Error, Result};

/// Channels of the three stages; the last is the embedding's dimension.
const WIDTHS: [i64; 3] = [16, 32, 64];
const BN_EPSILON: f64 = 1e-5;
const BN_MOMENTUM: f64 = 0.1;

pub(super) struct CifarResNet {
    stem: ConvNorm,
    blocks: Vec<Block>,
    linear_weight: Tensor,
    linear_bias: Tensor,
}

struct Block {
    first: ConvNorm,
    second: ConvNorm,
    /// Zero channels on each side of the shortcut; the stride is 2 where there are any.
    padding: i64,
}

/// A 3×3 convolution without bias, and batch normalisation.
struct ConvNorm {
    conv: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
    stride: i64,
}

impl CifarResNet {
    /// Build the network from tensors that `get` gives by name and shape: out of a file, or freshly made.
    pub(super) fn build(
        depth: usize,
        classes: i64,
        get: &mut impl FnMut(&str, &[i64]) -> Result<Tensor>,
    ) -> Result<Self> {
        let mut conv_norm = |conv: &str, norm: &str, from: i64, to: i64, stride: i64| {
            Ok::<_, Error>(ConvNorm {
                conv: get(&format!("{conv}.weight"), &[to, from, 3, 3])?,
                weight: get(&format!("{norm}.weight"), &[to])?,
                bias: get(&format!("{norm}.bias"), &[to])?,
                mean: get(&format!("{norm}.running_mean"), &[to])?,
                var: get(&format!("{norm}.running_var"), &[to])?,
                stride,
            })
        };
        let stem = conv_norm("conv1", "bn1", 3, WIDTHS[0], 1)?;
        let mut blocks = Vec::new();
        let mut from = WIDTHS[0];
        for (stage, to) in WIDTHS.into_iter().enumerate() {
            for block in 0..(depth - 2) / 6 {
                let stride = if from == to { 1 } else { 2 };
                let at = format!("layer{}.{block}", stage + 1);
                blocks.push(Block {
                    first: conv_norm(&format!("{at}.conv1"), &format!("{at}.bn1"), from, to, stride)?,
                    second: conv_norm(&format!("{at}.conv2"), &format!("{at}.bn2"), to, to, 1)?,
                    padding: (to - from) / 2,
                });
                from = to;
            }
        }
        let linear_weight = get("linear.weight", &[classes, from])?;
        let linear_bias = get("linear.bias", &[classes])?;
        Ok(Self { stem, blocks, linear_weight, linear_bias })
    }

    /// Load from a state dict. Every missing, extra and mis-shaped tensor is named in the error.
    pub(super) fn from_state_dict(depth: usize, state: &StateDict, path: &Path, architecture: &str) -> Result<Self> {
        let classes = state.get("linear.bias").map_or(10, |bias| bias.values.len() as i64);
        let mut problems = Vec::new();
        let mut used = BTreeSet::new();
        let network = Self::build(depth, classes, &mut |name, shape| {
            used.insert(name.to_string());
            match state.get(name) {
                Some(tensor) if tensor.shape.iter().map(|&n| n as i64).eq(shape.iter().copied()) => {
                    return Ok(Tensor::f_from_slice(&tensor.values)?.f_view(shape)?);
                }
                Some(tensor) => problems.push(format!("{name} has shape {:?}, expected {shape:?}", tensor.shape)),
                None => problems.push(format!("{name} is missing")),
            }
            Ok(Tensor::f_zeros(shape, (tch::Kind::Float, tch::Device::Cpu))?)
        })?;
        // a counter that newer PyTorch keeps beside the running mean: no weight
        let extra = state.keys().filter(|name| !used.contains(*name) && !name.ends_with("num_batches_tracked"));
        problems.extend(extra.map(|name| format!("{name} is not part of it")));
        if problems.is_empty() {
            return Ok(network);
        }
        let shown = problems.iter().take(8).cloned().collect::<Vec<_>>().join("; ");
        let more = problems.len().saturating_sub(8);
        Err(Error::WeightsMismatch {
            path: path.into(),
            architecture: architecture.into(),
            problems: if more > 0 { format!("{shown}; and {more} more") } else { shown },
        })
    }

    /// The same tensors for another thread.
    pub(super) fn share(&self) -> Self {
        let blocks = self.blocks.iter().map(|block| Block {
            first: block.first.share(),
            second: block.second.share(),
            padding: block.padding,
        });
        Self {
            stem: self.stem.share(),
            blocks: blocks.collect(),
            linear_weight: self.linear_weight.shallow_clone(),
            linear_bias: self.linear_bias.shallow_clone(),
        }
    }

    /// Images (n×3×h×w) to embeddings (n×64). `train` uses and updates batch statistics.
    pub(super) fn embed(&self, images: &Tensor, train: bool) -> Result<Tensor, TchError> {
        let mut x = self.stem.forward(images, train)?.f_relu()?;
        for block in &self.blocks {
            x = block.forward(&x, train)?;
        }
        x.f_mean_dim(&[2i64, 3][..], false, tch::Kind::Float)
    }

    /// Embeddings (n×64) to class logits.
    pub(super) fn classify(&self, embeddings: &Tensor) -> Result<Tensor, TchError> {
        embeddings.f_linear(&self.linear_weight, Some(&self.linear_bias))
    }
}

impl Block {
    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor, TchError> {
        let y = self.first.forward(x, train)?.f_relu()?;
        let y = self.second.forward(&y, train)?;
        let shortcut = if self.padding == 0 {
            x.shallow_clone()
        } else {
            let halved = x.f_slice(2, 0, None, 2)?.f_slice(3, 0, None, 2)?;
            halved.f_constant_pad_nd([0, 0, 0, 0, self.padding, self.padding])?
        };
        (y.f_add(&shortcut)?).f_relu()
    }
}

impl ConvNorm {
    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor, TchError> {
        let y = x.f_conv2d(&self.conv, None::<&Tensor>, [self.stride; 2], [1; 2], [1; 2], 1)?;
        y.f_batch_norm(
            Some(&self.weight),
            Some(&self.bias),
            Some(&self.mean),
            Some(&self.var),
            train,
            BN_MOMENTUM,
            BN_EPSILON,
            false,
        )
    }

    fn share(&self) -> Self {
        Self {
            conv: self.conv.shallow_clone(),
            weight: self.weight.shallow_clone(),
            bias: self.bias.shallow_clone(),
            mean: self.mean.shallow_clone(),
            var: self.var.shallow_clone(),
            stride: self.stride,
        }
    }
}
