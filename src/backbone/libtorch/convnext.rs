//! ConvNeXt as libtorch runs it.

use tch::{Kind, TchError, Tensor};

use super::layers::{Place, Weight, pooled};
use crate::backbone::convnext::{Block, ConvNeXt, Stage, WINDOW};
use crate::backbone::layers::{LayerNorm, Linear};

impl ConvNeXt {
    /// What flows beside the blocks stays f32.
    pub(super) fn on(&self, place: Place) -> Result<ConvNeXt<Weight>, TchError> {
        let block = |block: &Block| -> Result<Block<Weight>, TchError> {
            Ok(Block {
                window: block.window.on(place)?,
                norm: block.norm.on(place)?,
                widen: block.widen.on(place)?,
                narrow: block.narrow.on(place)?,
                scale: Weight::kept(&block.scale, place)?,
            })
        };
        let stage = |stage: &Stage| -> Result<Stage<Weight>, TchError> {
            Ok(Stage {
                smaller: stage.smaller.on(place)?,
                stride: stage.stride,
                norm: stage.norm.on(place)?,
                blocks: stage.blocks.iter().map(block).collect::<Result<_, _>>()?,
            })
        };
        let stages = self.stages.iter().map(stage).collect::<Result<_, _>>()?;
        Ok(ConvNeXt { stages, norm: self.norm.on(place)? })
    }
}

impl ConvNeXt<Weight> {
    /// Images (n×3×h×w) to embeddings (n×768).
    pub(super) fn embed(&self, images: &Tensor) -> Result<Tensor, TchError> {
        let mut x = images.shallow_clone();
        for (number, stage) in self.stages.iter().enumerate() {
            if number > 0 {
                x = by_channel(&x, &stage.norm)?;
            }
            x = convolve(&x, &stage.smaller, stage.stride, 0, 1)?;
            if number == 0 {
                x = by_channel(&x, &stage.norm)?;
            }
            for block in &stage.blocks {
                x = block.forward(&x)?;
            }
        }
        self.norm.forward(&pooled(&x)?)
    }
}

impl Block<Weight> {
    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let channels = x.size().get(1).copied().unwrap_or(1);
        let y = convolve(x, &self.window, 1, WINDOW / 2, channels)?.f_permute([0, 2, 3, 1])?;
        let wide = self.widen.forward(&self.norm.forward(&y)?)?.f_gelu("none")?;
        let y = self.narrow.forward(&wide)?.f_mul(&self.scale)?.f_permute([0, 3, 1, 2])?;
        x.f_add(&y)
    }
}

/// In the kind of the weights, to f32.
fn convolve(x: &Tensor, conv: &Linear<Weight>, stride: i64, padding: i64, groups: i64) -> Result<Tensor, TchError> {
    let x = x.f_to_kind(conv.weight.kind())?;
    let y = x.f_conv2d(&conv.weight, conv.bias.as_deref(), [stride; 2], [padding; 2], [1; 2], groups)?;
    y.f_to_kind(Kind::Float)
}

/// Normalise each pixel over its channels.
fn by_channel(x: &Tensor, norm: &LayerNorm<Weight>) -> Result<Tensor, TchError> {
    norm.forward(&x.f_permute([0, 2, 3, 1])?)?.f_permute([0, 3, 1, 2])
}
