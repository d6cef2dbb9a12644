//! Convolutions, and the two kinds of pooling beside them.

use crate::product::{Finish, Packed, product};
#[cfg(target_arch = "x86_64")]
use crate::winograd::Winograd;

/// Output pixels that are gathered at once.
const ROWS: usize = 48;
/// Between gathered rows, so that they do not share the lines of the first cache.
const PAD: usize = 16;

/// The shape of a feature map: n × height × width, of so many channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Pictures.
    pub n: usize,
    /// Rows.
    pub height: usize,
    /// Pixels per row.
    pub width: usize,
    /// Values per pixel.
    pub channels: usize,
}

impl Shape {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.n * self.height * self.width * self.channels
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Buffers that calls on one thread share: fresh memory costs as much as a small convolution.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(crate) first: Vec<f32>,
    pub(crate) second: Vec<f32>,
    free: Vec<Vec<f32>>,
}

impl Scratch {
    /// A buffer of so many values, whatever they are.
    pub fn take(&mut self, len: usize) -> Vec<f32> {
        let fits = |buffer: &&Vec<f32>| buffer.capacity() >= len;
        let smallest = self.free.iter().filter(fits).map(Vec::capacity).min();
        let at = self.free.iter().position(|buffer| Some(buffer.capacity()) == smallest);
        let mut buffer = at.map_or_else(Vec::new, |at| self.free.swap_remove(at));
        buffer.resize(len, 0.0);
        buffer
    }

    /// Give a buffer back that [`Self::take`], [`Conv::run`] or [`max_pool`] gave.
    pub fn give(&mut self, buffer: Vec<f32>) {
        self.free.push(buffer);
    }
}

/// A square convolution with a bias, padded by half its size.
#[derive(Debug, Clone)]
pub struct Conv {
    kind: Kind,
    bias: Vec<f32>,
    from: usize,
    to: usize,
    size: usize,
    stride: usize,
}

#[derive(Debug, Clone)]
enum Kind {
    Gather(Packed),
    #[cfg(target_arch = "x86_64")]
    Winograd(Winograd),
}

impl Conv {
    /// `weights` are to × from × size × size; `bias` has one value for each of the output's channels.
    ///
    /// Panics where the lengths do not fit.
    pub fn new(weights: &[f32], bias: &[f32], size: usize, stride: usize) -> Self {
        let (to, from) = (bias.len(), weights.len() / (bias.len() * size * size));
        assert_eq!(weights.len(), to * from * size * size);
        #[cfg(target_arch = "x86_64")]
        if size == 3 && stride == 1 && from % 8 == 0 && to % 8 == 0 {
            let kind = Kind::Winograd(Winograd::new(weights, from, to));
            return Self { kind, bias: bias.to_vec(), from, to, size, stride };
        }
        let kind = Kind::Gather(Packed::new(size * size * from, to, |row, column| {
            let (pixel, channel) = (row / from, row % from);
            weights[(column * from + channel) * size * size + pixel]
        }));
        Self { kind, bias: bias.to_vec(), from, to, size, stride }
    }

    /// Values per pixel of its output.
    pub fn channels(&self) -> usize {
        self.to
    }

    /// The shape that it makes of `input`.
    pub fn output(&self, input: Shape) -> Shape {
        let side = |side: usize| (side + 2 * (self.size / 2) - self.size) / self.stride + 1;
        Shape { n: input.n, height: side(input.height), width: side(input.width), channels: self.to }
    }

    /// Convolve `input`, add the bias and `add`, and with `relu` cut at zero; the result is in a buffer of `scratch`.
    ///
    /// Panics where lengths do not fit, or where [`available`](crate::available) is not.
    pub fn run(&self, input: &[f32], shape: Shape, add: Option<&[f32]>, relu: bool, scratch: &mut Scratch) -> Vec<f32> {
        assert!(crate::available() && shape.channels == self.from && input.len() == shape.len());
        let to = self.output(shape);
        assert!(add.is_none_or(|add| add.len() == to.len()));
        let mut out = scratch.take(to.len());
        let finish = Finish { bias: Some(&self.bias), add, relu };
        match &self.kind {
            #[cfg(target_arch = "x86_64")]
            Kind::Winograd(winograd) => winograd.run(input, shape, finish, scratch, &mut out),
            Kind::Gather(weights) => self.gathered(weights, input, shape, finish, scratch, &mut out),
        }
        out
    }

    fn gathered(
        &self,
        weights: &Packed,
        input: &[f32],
        shape: Shape,
        finish: Finish<'_>,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        let to = self.output(shape);
        let (depth, pixels) = (self.size * self.size * self.from, to.n * to.height * to.width);
        let stride = depth + PAD;
        scratch.first.resize((ROWS * stride).max(scratch.first.len()), 0.0);
        for first in (0..pixels).step_by(ROWS) {
            let count = ROWS.min(pixels - first);
            for (pixel, row) in (first..first + count).zip(scratch.first.chunks_exact_mut(stride)) {
                let (x, rest) = (pixel % to.width, pixel / to.width);
                self.gather(input, shape, (rest / to.height, rest % to.height, x), row);
            }
            let here = first * self.to..(first + count) * self.to;
            let finish = Finish { add: finish.add.map(|add| &add[here.clone()]), ..finish };
            product(&scratch.first, stride, count, weights, finish, &mut out[here]);
        }
    }

    /// The values that the output at picture n, row y, column x is made of.
    fn gather(&self, input: &[f32], shape: Shape, (n, y, x): (usize, usize, usize), row: &mut [f32]) {
        let (size, from, pad) = (self.size, self.from, self.size / 2);
        let left = x * self.stride;
        // columns of the window that lie in the picture
        let (skip, end) = (pad.saturating_sub(left), size.min(shape.width + pad - left));
        for dy in 0..size {
            let line = &mut row[dy * size * from..(dy + 1) * size * from];
            let at = (y * self.stride + dy).wrapping_sub(pad);
            if at >= shape.height {
                line.fill(0.0);
                continue;
            }
            let start = ((n * shape.height + at) * shape.width + left + skip - pad) * from;
            line[..skip * from].fill(0.0);
            line[skip * from..end * from].copy_from_slice(&input[start..start + (end - skip) * from]);
            line[end * from..].fill(0.0);
        }
    }
}

/// The largest of each 3×3 window, every second pixel, the rim left out.
pub fn max_pool(input: &[f32], shape: Shape, scratch: &mut Scratch) -> (Vec<f32>, Shape) {
    let half = |side: usize| (side - 1) / 2 + 1;
    let to = Shape { height: half(shape.height), width: half(shape.width), ..shape };
    let mut out = scratch.take(to.len());
    out.fill(f32::NEG_INFINITY);
    for (pixel, out) in out.chunks_exact_mut(shape.channels).enumerate() {
        let (x, rest) = (pixel % to.width, pixel / to.width);
        let (n, y) = (rest / to.height, rest % to.height);
        for row in (2 * y).saturating_sub(1)..(2 * y + 2).min(shape.height) {
            for column in (2 * x).saturating_sub(1)..(2 * x + 2).min(shape.width) {
                let at = ((n * shape.height + row) * shape.width + column) * shape.channels;
                for (out, value) in out.iter_mut().zip(&input[at..at + shape.channels]) {
                    *out = if *value > *out || value.is_nan() { *value } else { *out };
                }
            }
        }
    }
    (out, to)
}

/// The mean of each channel of each picture.
pub fn mean(input: &[f32], shape: Shape) -> Vec<f32> {
    let pixels = shape.height * shape.width;
    let mut out = vec![0f32; shape.n * shape.channels];
    for (out, picture) in out.chunks_exact_mut(shape.channels).zip(input.chunks_exact(pixels * shape.channels)) {
        for pixel in picture.chunks_exact(shape.channels) {
            out.iter_mut().zip(pixel).for_each(|(out, value)| *out += value);
        }
        out.iter_mut().for_each(|out| *out /= pixels as f32);
    }
    out
}
