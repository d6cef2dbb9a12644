//! DenseNet-BC in its CIFAR form (Huang et al. 2017): depth 100, growth 12, reduction 0.5.
//!
//! Names as in the paper authors' PyTorch port that OOD papers use: `block1.layer.0.bn1`, `trans1.conv1`, `bn1`. The
//! embedding is the global average after the last normalisation: 342 numbers.

use tch::{TchError, Tensor};

use super::layers::{BatchNorm, Conv, Get, Place, pooled};
use crate::error::Result;

const GROWTH: i64 = 12;
/// Layers per block: (100 − 4) / 3, of two convolutions each.
const LAYERS: usize = 16;
const BLOCKS: usize = 3;

/// Numbers per embedding.
pub(super) const DIMENSION: i64 = 342;

#[derive(Debug, Clone)]
pub(super) struct DenseNet {
    pub(super) stem: Conv,
    pub(super) blocks: Vec<(Vec<Layer>, Option<NormConv>)>,
    pub(super) norm: BatchNorm,
}

/// Normalisation, rectifier, convolution.
#[derive(Debug, Clone)]
pub(super) struct NormConv {
    pub(super) norm: BatchNorm,
    pub(super) conv: Conv,
}

/// Bottleneck: 1×1 to four times the growth, 3×3 to the growth.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) narrow: NormConv,
    pub(super) wide: NormConv,
}

impl DenseNet {
    /// Build from tensors that `get` gives.
    pub(super) fn build(get: &mut Get<'_>) -> Result<Self> {
        let mut channels = 2 * GROWTH;
        let stem = Conv::load(get, "conv1", (3, channels), 3, 1)?;
        let mut blocks = Vec::with_capacity(BLOCKS);
        for block in 1..=BLOCKS {
            let mut layers = Vec::with_capacity(LAYERS);
            for layer in 0..LAYERS {
                let at = format!("block{block}.layer.{layer}");
                let narrow = NormConv::load(get, &at, 1, (channels, 4 * GROWTH), 1)?;
                let wide = NormConv::load(get, &at, 2, (4 * GROWTH, GROWTH), 3)?;
                layers.push(Layer { narrow, wide });
                channels += GROWTH;
            }
            let transition = if block < BLOCKS {
                let half = channels / 2;
                let transition = NormConv::load(get, &format!("trans{block}"), 1, (channels, half), 1)?;
                channels = half;
                Some(transition)
            } else {
                None
            };
            blocks.push((layers, transition));
        }
        Ok(Self { stem, blocks, norm: BatchNorm::load(get, "bn1", channels)? })
    }

    /// For inference elsewhere.
    pub(super) fn moved(&self, place: Place) -> Result<Self, TchError> {
        let layer = |layer: &Layer| -> Result<Layer, TchError> {
            Ok(Layer { narrow: layer.narrow.moved(place)?, wide: layer.wide.moved(place)? })
        };
        let mut blocks = Vec::with_capacity(BLOCKS);
        for (layers, transition) in &self.blocks {
            let transition = transition.as_ref().map(|transition| transition.moved(place)).transpose()?;
            blocks.push((layers.iter().map(layer).collect::<Result<_, _>>()?, transition));
        }
        Ok(Self { stem: self.stem.moved(place)?, blocks, norm: self.norm.moved(place)? })
    }

    /// Images (n×3×h×w) to embeddings (n×342).
    pub(super) fn embed(&self, images: &Tensor) -> Result<Tensor, TchError> {
        let mut x = self.stem.forward(images)?;
        for (layers, transition) in &self.blocks {
            for layer in layers {
                let new = layer.wide.forward(&layer.narrow.forward(&x)?)?;
                x = Tensor::f_cat(&[x, new], 1)?;
            }
            if let Some(transition) = transition {
                x = transition.forward(&x)?.f_avg_pool2d([2; 2], [2; 2], [0; 2], false, true, None)?;
            }
        }
        pooled(&self.norm.forward(&x, false)?.f_relu()?)
    }
}

impl NormConv {
    fn load(get: &mut Get<'_>, at: &str, number: usize, channels: (i64, i64), size: i64) -> Result<Self> {
        let norm = BatchNorm::load(get, &format!("{at}.bn{number}"), channels.0)?;
        Ok(Self { norm, conv: Conv::load(get, &format!("{at}.conv{number}"), channels, size, 1)? })
    }

    fn moved(&self, place: Place) -> Result<Self, TchError> {
        Ok(Self { norm: self.norm.moved(place)?, conv: self.conv.moved(place)? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        self.conv.forward(&self.norm.forward(x, false)?.f_relu()?)
    }
}
