//! A residual network.

use outskirt_kernels::{Conv, Precision, Scratch, Shape, max_pool, mean};

use crate::backbone::layers::ConvNorm;
use crate::backbone::resnet::{self, Between, ResNet};
use crate::error::Result;

/// Pixels that go through together: the maps of one step should find room in the caches.
const PIXELS: usize = 1 << 16;

/// Pictures of so many pixels that go through together.
pub(super) fn together(pixels: usize) -> usize {
    (PIXELS / pixels).clamp(4, 64)
}

#[derive(Debug)]
pub(in crate::backbone) struct Residual {
    stem: Conv,
    max_pool: bool,
    blocks: Vec<Block>,
}

#[derive(Debug)]
struct Block {
    convs: Vec<Conv>,
    shortcut: Shortcut,
}

#[derive(Debug)]
enum Shortcut {
    Identity,
    Pad(usize),
    Projection(Conv),
}

impl Residual {
    pub(super) fn of(resnet: &ResNet, precision: Precision) -> Result<Self> {
        let conv = |layer: &ConvNorm| -> Result<Conv> {
            let (weights, bias) = layer.folded()?;
            Ok(Conv::new(&weights, &bias, layer.size(), layer.stride(), precision))
        };
        let block = |block: &resnet::Block| -> Result<Block> {
            let shortcut = match &block.shortcut {
                Between::Identity => Shortcut::Identity,
                Between::Pad(channels) => Shortcut::Pad(*channels as usize),
                Between::Projection(projection) => Shortcut::Projection(conv(projection)?),
            };
            Ok(Block { convs: block.convs.iter().map(&conv).collect::<Result<_>>()?, shortcut })
        };
        let blocks = resnet.blocks.iter().map(block).collect::<Result<_>>()?;
        Ok(Self { stem: conv(&resnet.stem)?, max_pool: resnet.max_pool, blocks })
    }

    /// A map of pictures to their embeddings.
    pub(super) fn run(&self, pictures: &[f32], shape: Shape, scratch: &mut Scratch) -> Vec<f32> {
        let mut x = self.stem.run(pictures, shape, None, true, scratch);
        let mut shape = self.stem.output(shape);
        if self.max_pool {
            let (pooled, to) = max_pool(&x, shape, scratch);
            scratch.give(std::mem::replace(&mut x, pooled));
            shape = to;
        }
        for block in &self.blocks {
            let (y, to) = block.run(&x, shape, scratch);
            scratch.give(std::mem::replace(&mut x, y));
            shape = to;
        }
        let means = mean(&x, shape);
        scratch.give(x);
        means
    }
}

impl Block {
    fn run(&self, x: &[f32], shape: Shape, scratch: &mut Scratch) -> (Vec<f32>, Shape) {
        let shortcut = match &self.shortcut {
            Shortcut::Identity => None,
            Shortcut::Pad(channels) => Some(halved(x, shape, *channels, scratch)),
            Shortcut::Projection(projection) => Some(projection.run(x, shape, None, false, scratch)),
        };
        let add = shortcut.as_deref().unwrap_or(x);
        let mut at = shape;
        let mut y: Option<Vec<f32>> = None;
        for (number, conv) in self.convs.iter().enumerate() {
            let add = (number + 1 == self.convs.len()).then_some(add);
            let next = conv.run(y.as_deref().unwrap_or(x), at, add, true, scratch);
            at = conv.output(at);
            if let Some(last) = y.replace(next) {
                scratch.give(last);
            }
        }
        if let Some(shortcut) = shortcut {
            scratch.give(shortcut);
        }
        (y.unwrap_or_default(), at)
    }
}

/// Every second pixel, and zero channels on each side.
fn halved(x: &[f32], shape: Shape, zeros: usize, scratch: &mut Scratch) -> Vec<f32> {
    let (height, width) = (shape.height.div_ceil(2), shape.width.div_ceil(2));
    let channels = shape.channels + 2 * zeros;
    let mut out = scratch.take(shape.n * height * width * channels);
    out.fill(0.0);
    for (pixel, out) in out.chunks_exact_mut(channels).enumerate() {
        let (column, rest) = (pixel % width, pixel / width);
        let (n, row) = (rest / height, rest % height);
        let at = ((n * shape.height + 2 * row) * shape.width + 2 * column) * shape.channels;
        out[zeros..zeros + shape.channels].copy_from_slice(&x[at..at + shape.channels]);
    }
    out
}
