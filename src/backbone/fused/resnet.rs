//! A residual network.

use outskirt_kernels::{Conv, Precision, Scratch, Shape, max_pool, mean, pooled, thinned};

use crate::backbone::layers::ConvNorm;
use crate::backbone::resnet::{self, Between, ResNet};

/// Pixels that go through together.
const PIXELS: usize = 1 << 16;
/// Values of a map that go through a stage together: the maps of one step should find room in the second cache. Early
/// maps are large, and late stages have many weights to read, so each stage has its own number of pictures.
const VALUES: usize = 1 << 18;
const FEWEST: usize = 4;

/// Pictures of so many pixels that go through together.
pub(super) fn together(pixels: usize) -> usize {
    (PIXELS / pixels).clamp(FEWEST, 64)
}

#[derive(Debug)]
pub(super) struct Residual {
    stages: Vec<Stage>,
}

/// Blocks between which maps keep their size, and what comes before the first of all.
#[derive(Debug)]
struct Stage {
    stem: Option<Stem>,
    blocks: Vec<Block>,
}

#[derive(Debug)]
struct Stem {
    conv: Conv,
    max_pool: bool,
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
    pub(super) fn of(resnet: &ResNet, precision: Precision) -> Self {
        let conv = |layer: &ConvNorm| {
            let (weights, bias) = layer.folded();
            Conv::new(&weights, &bias, layer.size(), layer.stride(), precision)
        };
        let block = |block: &resnet::Block| {
            let shortcut = match &block.shortcut {
                Between::Identity => Shortcut::Identity,
                Between::Pad(channels) => Shortcut::Pad(*channels as usize),
                Between::Projection(projection) => Shortcut::Projection(conv(projection)),
            };
            Block { convs: block.convs.iter().map(&conv).collect(), shortcut }
        };
        let stem = Stem { conv: conv(&resnet.stem), max_pool: resnet.max_pool };
        let mut stages = vec![Stage { stem: Some(stem), blocks: Vec::new() }];
        for from in &resnet.blocks {
            if from.convs.iter().any(|conv| conv.stride() > 1) {
                stages.push(Stage { stem: None, blocks: Vec::new() });
            }
            stages.last_mut().expect("the first is there").blocks.push(block(from));
        }
        Self { stages }
    }

    /// A map of pictures to their embeddings.
    pub(super) fn run(&self, pictures: &[f32], mut shape: Shape, scratch: &mut Scratch) -> Vec<f32> {
        let mut x: Option<Vec<f32>> = None;
        for stage in &self.stages {
            let (y, to) = stage.in_parts(x.as_deref().unwrap_or(pictures), shape, scratch);
            shape = to;
            if let Some(last) = x.replace(y) {
                scratch.give(last);
            }
        }
        let x = x.expect("there is a stage");
        let means = mean(&x, shape);
        scratch.give(x);
        means
    }
}

impl Stage {
    /// The shape that it makes of `input`.
    fn output(&self, input: Shape) -> Shape {
        let stem = self.stem.as_ref().map_or(input, |Stem { conv, max_pool }| {
            let shape = conv.output(input);
            if *max_pool { pooled(shape) } else { shape }
        });
        self.blocks.iter().flat_map(|block| &block.convs).fold(stem, |shape, conv| conv.output(shape))
    }

    /// As many pictures at a time as the cache has room for.
    fn in_parts(&self, x: &[f32], shape: Shape, scratch: &mut Scratch) -> (Vec<f32>, Shape) {
        let to = self.output(shape);
        let (each, each_out) = (x.len() / shape.n, to.len() / to.n);
        let most = (VALUES / each_out).max(FEWEST);
        if shape.n <= most {
            return (self.run(x, shape, scratch), to);
        }
        let mut out = scratch.take(to.len());
        for (x, out) in x.chunks(most * each).zip(out.chunks_mut(most * each_out)) {
            let y = self.run(x, Shape { n: x.len() / each, ..shape }, scratch);
            out.copy_from_slice(&y);
            scratch.give(y);
        }
        (out, to)
    }

    fn run(&self, input: &[f32], mut shape: Shape, scratch: &mut Scratch) -> Vec<f32> {
        let mut x: Option<Vec<f32>> = None;
        if let Some(Stem { conv, max_pool: pool }) = &self.stem {
            let mut stem = conv.run(input, shape, None, true, scratch);
            shape = conv.output(shape);
            if *pool {
                let (pooled, to) = max_pool(&stem, shape, scratch);
                scratch.give(std::mem::replace(&mut stem, pooled));
                shape = to;
            }
            x = Some(stem);
        }
        for block in &self.blocks {
            let (y, to) = block.run(x.as_deref().unwrap_or(input), shape, scratch);
            shape = to;
            if let Some(last) = x.replace(y) {
                scratch.give(last);
            }
        }
        x.expect("a stage has a block")
    }
}

impl Block {
    fn run(&self, x: &[f32], shape: Shape, scratch: &mut Scratch) -> (Vec<f32>, Shape) {
        let shortcut = match &self.shortcut {
            Shortcut::Identity => None,
            Shortcut::Pad(channels) => Some(thinned(x, shape, *channels, scratch)),
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
