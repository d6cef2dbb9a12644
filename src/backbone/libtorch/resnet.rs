//! ResNets as libtorch runs and trains them.

use tch::{TchError, Tensor};

use super::layers::{Place, Weight, pooled};
use crate::backbone::resnet::{Between, Block, ResNet};

impl ResNet {
    pub(super) fn on(&self, place: Place) -> Result<ResNet<Weight>, TchError> {
        let block = |block: &Block| -> Result<Block<Weight>, TchError> {
            let convs = block.convs.iter().map(|conv| conv.on(place)).collect::<Result<_, _>>()?;
            let shortcut = match &block.shortcut {
                Between::Identity => Between::Identity,
                Between::Pad(channels) => Between::Pad(*channels),
                Between::Projection(projection) => Between::Projection(projection.on(place)?),
            };
            Ok(Block { convs, shortcut })
        };
        let blocks = self.blocks.iter().map(block).collect::<Result<_, _>>()?;
        Ok(ResNet { stem: self.stem.on(place)?, max_pool: self.max_pool, blocks })
    }
}

impl ResNet<Weight> {
    /// Images (n×3×h×w) to embeddings (n×d). `train` uses and updates batch statistics.
    pub(super) fn embed(&self, images: &Tensor, train: bool) -> Result<Tensor, TchError> {
        let mut x = self.stem.forward(images, train)?.f_relu()?;
        if self.max_pool {
            x = x.f_max_pool2d([3; 2], [2; 2], [1; 2], [1; 2], false)?;
        }
        for block in &self.blocks {
            x = block.forward(&x, train)?;
        }
        pooled(&x)
    }
}

impl Block<Weight> {
    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor, TchError> {
        let mut y = x.shallow_clone();
        for (at, conv) in self.convs.iter().enumerate() {
            if at > 0 {
                y = y.f_relu()?;
            }
            y = conv.forward(&y, train)?;
        }
        let shortcut = match &self.shortcut {
            Between::Identity => x.shallow_clone(),
            Between::Pad(channels) => {
                let halved = x.f_slice(2, 0, None, 2)?.f_slice(3, 0, None, 2)?;
                halved.f_constant_pad_nd([0, 0, 0, 0, *channels, *channels])?
            }
            Between::Projection(projection) => projection.forward(x, train)?,
        };
        (y.f_add(&shortcut)?).f_relu()
    }
}
