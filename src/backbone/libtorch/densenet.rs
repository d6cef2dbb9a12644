//! DenseNets as libtorch runs them.

use tch::{TchError, Tensor};

use super::layers::{Place, Weight, pooled};
use crate::backbone::densenet::{Block, DenseNet, Layer, NormConv};

impl DenseNet {
    pub(super) fn on(&self, place: Place) -> Result<DenseNet<Weight>, TchError> {
        let layer = |layer: &Layer| -> Result<Layer<Weight>, TchError> {
            Ok(Layer { narrow: layer.narrow.on(place)?, wide: layer.wide.on(place)? })
        };
        let block = |block: &Block| -> Result<Block<Weight>, TchError> {
            let transition = block.transition.as_ref().map(|transition| transition.on(place)).transpose()?;
            Ok(Block { layers: block.layers.iter().map(layer).collect::<Result<_, _>>()?, transition })
        };
        let blocks = self.blocks.iter().map(block).collect::<Result<_, _>>()?;
        Ok(DenseNet { stem: self.stem.on(place)?, blocks, norm: self.norm.on(place)? })
    }
}

impl DenseNet<Weight> {
    /// Images (n×3×h×w) to embeddings (n×342).
    pub(super) fn embed(&self, images: &Tensor) -> Result<Tensor, TchError> {
        let mut x = self.stem.forward(images)?;
        for Block { layers, transition } in &self.blocks {
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
    fn on(&self, place: Place) -> Result<NormConv<Weight>, TchError> {
        Ok(NormConv { norm: self.norm.on(place)?, conv: self.conv.on(place)? })
    }
}

impl NormConv<Weight> {
    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        self.conv.forward(&self.norm.forward(x, false)?.f_relu()?)
    }
}
