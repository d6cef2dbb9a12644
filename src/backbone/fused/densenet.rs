//! A dense network: normalisation stands before each convolution, and maps grow by what the layers add.

use outskirt_kernels::{Conv, Precision, Rectifier, Scratch, Shape, halved, mean, place};

use crate::backbone::densenet::{self, DenseNet, NormConv};
use crate::backbone::layers::{self, BatchNorm};

/// Pictures that go through together: a block's map should find room in the caches.
pub(super) const TOGETHER: usize = 4;

#[derive(Debug)]
pub(super) struct Dense {
    stem: Conv,
    blocks: Vec<Block>,
    norm: Rectifier,
}

#[derive(Debug)]
struct Block {
    layers: Vec<Layer>,
    /// To the next block.
    transition: Option<(Rectifier, Conv)>,
}

#[derive(Debug)]
struct Layer {
    norm: Rectifier,
    /// With the second normalisation in it.
    narrow: Conv,
    wide: Conv,
}

impl Dense {
    pub(super) fn of(densenet: &DenseNet, precision: Precision) -> Self {
        // without a bias
        let plain = |conv: &layers::Conv, size: usize| {
            Conv::new(&conv.weight.values, &vec![0.0; conv.channels()], size, 1, precision)
        };
        let layer = |layer: &densenet::Layer| {
            let (weights, channels) = (&layer.narrow.conv.weight.values, layer.narrow.conv.channels());
            let (scale, shift) = affine(&layer.wide.norm);
            let each = weights.len() / channels;
            let folded: Vec<f32> =
                weights.chunks_exact(each).zip(&scale).flat_map(|(w, s)| w.iter().map(move |w| w * s)).collect();
            Layer {
                norm: rectifier(&layer.narrow.norm),
                narrow: Conv::new(&folded, &shift, 1, 1, precision),
                wide: plain(&layer.wide.conv, 3),
            }
        };
        let transition = |between: &NormConv| (rectifier(&between.norm), plain(&between.conv, 1));
        let block = |block: &densenet::Block| Block {
            layers: block.layers.iter().map(layer).collect(),
            transition: block.transition.as_ref().map(transition),
        };
        let blocks = densenet.blocks.iter().map(block).collect();
        Self { stem: plain(&densenet.stem, 3), blocks, norm: rectifier(&densenet.norm) }
    }

    /// A map of pictures to their embeddings.
    pub(super) fn run(&self, pictures: &[f32], shape: Shape, scratch: &mut Scratch) -> Vec<f32> {
        let mut x = self.stem.run(pictures, shape, None, false, scratch);
        let mut shape = self.stem.output(shape);
        for Block { layers, transition } in &self.blocks {
            let first = shape.channels;
            let grown = layers.iter().fold(first, |channels, layer| channels + layer.wide.channels());
            let mut map = scratch.take(shape.len() / first * grown);
            place(&x, first, &mut map, grown, 0);
            scratch.give(std::mem::replace(&mut x, map));
            for layer in layers {
                let at = Shape { channels: layer.norm.channels(), ..shape };
                let narrow = layer.narrow.run_behind(&layer.norm, &x, grown, true, scratch);
                let wide = layer.wide.run(&narrow, layer.narrow.output(at), None, false, scratch);
                place(&wide, layer.wide.channels(), &mut x, grown, at.channels);
                [narrow, wide].into_iter().for_each(|buffer| scratch.give(buffer));
            }
            shape.channels = grown;
            if let Some((norm, conv)) = transition {
                let narrow = conv.run_behind(norm, &x, grown, false, scratch);
                let (half, to) = halved(&narrow, conv.output(shape), scratch);
                shape = to;
                [narrow, std::mem::replace(&mut x, half)].into_iter().for_each(|buffer| scratch.give(buffer));
            }
        }
        let last = self.norm.run(&x, shape.channels, scratch);
        let means = mean(&last, shape);
        [x, last].into_iter().for_each(|buffer| scratch.give(buffer));
        means
    }
}

/// A normalisation with running statistics: scale and shift of each channel.
fn affine(norm: &BatchNorm) -> (Vec<f32>, Vec<f32>) {
    let (scale, shift) = norm.affine();
    let narrow = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
    (narrow(scale), narrow(shift))
}

fn rectifier(norm: &BatchNorm) -> Rectifier {
    let (scale, shift) = affine(norm);
    Rectifier::new(scale, shift)
}
