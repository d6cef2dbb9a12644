//! Networks for inference on the processor: batch normalisation goes into the convolutions' weights where it can, and
//! bias, shortcut and rectifier into their last pass ([`outskirt_kernels`]).
//!
//! They give what the layers of libtorch give, to rounding (`golden.rs`); where the processor lacks AVX2, or AVX512-BF16
//! for bf16, and on other devices those run.

mod densenet;
mod resnet;

use outskirt_kernels::{Precision, Scratch, Shape, interleave};

use self::densenet::Dense;
use self::resnet::Residual;
use super::network::Body;
use crate::error::Result;

#[derive(Debug)]
pub(super) enum Fused {
    ResNet(Residual),
    DenseNet(Dense),
}

impl Fused {
    /// `None` where there are no such loops: for this network, or on this processor.
    pub(super) fn of(body: &Body, precision: Precision) -> Result<Option<Self>> {
        if !outskirt_kernels::available(precision) {
            return Ok(None);
        }
        Ok(match body {
            Body::ResNet(resnet) => Some(Self::ResNet(Residual::of(resnet, precision)?)),
            Body::DenseNet(densenet) => Some(Self::DenseNet(Dense::of(densenet, precision)?)),
            Body::Vit(_) => None,
        })
    }

    /// Pictures (n×3×h×w, of h rows and w columns) to embeddings (n×d).
    pub(super) fn embed(&self, pictures: &[f32], (height, width): (usize, usize), scratch: &mut Scratch) -> Vec<f32> {
        let together = match self {
            Self::ResNet(_) => resnet::together(height * width),
            Self::DenseNet(_) => densenet::TOGETHER,
        };
        let parts = pictures.chunks(together * 3 * height * width);
        parts.flat_map(|part| self.embed_together(part, (height, width), scratch)).collect()
    }

    fn embed_together(&self, pictures: &[f32], (height, width): (usize, usize), scratch: &mut Scratch) -> Vec<f32> {
        let pixels = height * width;
        let shape = Shape { n: pictures.len() / (3 * pixels), height, width, channels: 3 };
        let mut interleaved = scratch.take(shape.len());
        interleave(pictures, pixels, &mut interleaved);
        let embeddings = match self {
            Self::ResNet(resnet) => resnet.run(&interleaved, shape, scratch),
            Self::DenseNet(densenet) => densenet.run(&interleaved, shape, scratch),
        };
        scratch.give(interleaved);
        embeddings
    }
}
