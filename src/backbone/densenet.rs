//! DenseNet-BC in its CIFAR form (Huang et al. 2017): depth 100, growth 12, reduction 0.5.
//!
//! Names as in the paper authors' PyTorch port that OOD papers use: `block1.layer.0.bn1`, `trans1.conv1`, `bn1`. The
//! embedding is the global average after the last normalisation: 342 numbers.

use super::layers::{BatchNorm, Conv, Get};
use super::weights::WeightTensor;
use crate::error::Result;

const GROWTH: i64 = 12;
/// Layers per block: (100 − 4) / 3, of two convolutions each.
const LAYERS: usize = 16;
const BLOCKS: usize = 3;

/// Numbers per embedding.
pub(super) const DIMENSION: i64 = 342;

#[derive(Debug, Clone)]
pub(super) struct DenseNet<T = WeightTensor> {
    pub(super) stem: Conv<T>,
    pub(super) blocks: Vec<Block<T>>,
    pub(super) norm: BatchNorm<T>,
}

/// Layers that each see all before them in the block.
#[derive(Debug, Clone)]
pub(super) struct Block<T = WeightTensor> {
    pub(super) layers: Vec<Layer<T>>,
    /// To the next block, at half the size.
    pub(super) transition: Option<NormConv<T>>,
}

/// Normalisation, rectifier, convolution.
#[derive(Debug, Clone)]
pub(super) struct NormConv<T = WeightTensor> {
    pub(super) norm: BatchNorm<T>,
    pub(super) conv: Conv<T>,
}

/// Bottleneck: 1×1 to four times the growth, 3×3 to the growth.
#[derive(Debug, Clone)]
pub(super) struct Layer<T = WeightTensor> {
    pub(super) narrow: NormConv<T>,
    pub(super) wide: NormConv<T>,
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
            blocks.push(Block { layers, transition });
        }
        Ok(Self { stem, blocks, norm: BatchNorm::load(get, "bn1", channels)? })
    }
}

impl NormConv {
    fn load(get: &mut Get<'_>, at: &str, number: usize, channels: (i64, i64), size: i64) -> Result<Self> {
        let norm = BatchNorm::load(get, &format!("{at}.bn{number}"), channels.0)?;
        Ok(Self { norm, conv: Conv::load(get, &format!("{at}.conv{number}"), channels, size, 1)? })
    }
}
