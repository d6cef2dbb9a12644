//! Convolutions, and the two kinds of pooling beside them.

#[cfg(target_arch = "x86_64")]
use crate::bf16::Bf16;
use crate::maps::{Scratch, Shape};
use crate::precision::{Precision, available};
use crate::product::{Finish, Packed, Value, product};
use crate::rectifier::Rectifier;
#[cfg(target_arch = "x86_64")]
use crate::winograd::{Transform, Winograd};

/// Output pixels that are gathered at once.
const ROWS: usize = 48;
/// Between gathered rows, so that they do not share the lines of the first cache.
const PAD: usize = 16;

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
    F32(Form<f32>),
    #[cfg(target_arch = "x86_64")]
    Bf16(Form<Bf16>),
}

#[derive(Debug, Clone)]
enum Form<V> {
    Gather(Packed<V>),
    #[cfg(target_arch = "x86_64")]
    Winograd(Winograd<V>),
}

#[cfg(not(target_arch = "x86_64"))]
use Value as Transform;

impl<V: Transform> Form<V> {
    fn new(weights: &[f32], (from, to): (usize, usize), size: usize, stride: usize) -> Self {
        #[cfg(target_arch = "x86_64")]
        if size == 3 && stride == 1 && V::takes(from, to) {
            return Self::Winograd(Winograd::new(weights, from, to));
        }
        Self::Gather(Packed::new(size * size * from, to, |row, column| {
            let (pixel, channel) = (row / from, row % from);
            weights[(column * from + channel) * size * size + pixel]
        }))
    }
}

impl Conv {
    /// `weights` are to × from × size × size; `bias` has one value for each of the output's channels. In bf16 products take
    /// operands of that precision; sums, and the maps between layers, are f32.
    ///
    /// Panics where the lengths do not fit, or where [`available`] is not.
    pub fn new(weights: &[f32], bias: &[f32], size: usize, stride: usize, precision: Precision) -> Self {
        let (to, from) = (bias.len(), weights.len() / (bias.len() * size * size));
        assert!(available(precision) && weights.len() == to * from * size * size);
        let kind = match precision {
            Precision::F32 => Kind::F32(Form::new(weights, (from, to), size, stride)),
            #[cfg(target_arch = "x86_64")]
            Precision::Bf16 => Kind::Bf16(Form::new(weights, (from, to), size, stride)),
            #[cfg(not(target_arch = "x86_64"))]
            Precision::Bf16 => unreachable!("it is not available"),
        };
        Self { kind, bias: bias.to_vec(), from, to, size, stride }
    }

    /// Values per pixel of its input.
    pub fn inputs(&self) -> usize {
        self.from
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
    /// Panics where lengths do not fit.
    pub fn run(&self, input: &[f32], shape: Shape, add: Option<&[f32]>, relu: bool, scratch: &mut Scratch) -> Vec<f32> {
        assert!(shape.channels == self.from && input.len() == shape.len());
        let to = self.output(shape);
        assert!(add.is_none_or(|add| add.len() == to.len()));
        let mut out = scratch.take(to.len());
        let finish = Finish { bias: Some(&self.bias), add, relu };
        match &self.kind {
            Kind::F32(form) => self.run_in(form, input, shape, finish, scratch, &mut out),
            #[cfg(target_arch = "x86_64")]
            Kind::Bf16(form) => self.run_in(form, input, shape, finish, scratch, &mut out),
        }
        out
    }

    /// [`Self::run`] of what `before` makes of `input`, whose pixels lie `stride` values apart, without a map in between:
    /// for convolutions of size 1.
    ///
    /// Panics where lengths do not fit, and for other convolutions.
    pub fn run_behind(
        &self,
        before: &Rectifier,
        input: &[f32],
        stride: usize,
        relu: bool,
        scratch: &mut Scratch,
    ) -> Vec<f32> {
        assert!(self.size == 1 && self.stride == 1 && before.channels() == self.from && stride >= self.from);
        let mut out = scratch.take(input.len() / stride * self.to);
        let finish = Finish { bias: Some(&self.bias), add: None, relu };
        match &self.kind {
            Kind::F32(form) => self.run_in_behind(form, before, (input, stride), finish, scratch, &mut out),
            #[cfg(target_arch = "x86_64")]
            Kind::Bf16(form) => self.run_in_behind(form, before, (input, stride), finish, scratch, &mut out),
        }
        out
    }

    fn run_in<V: Transform>(
        &self,
        form: &Form<V>,
        input: &[f32],
        shape: Shape,
        finish: Finish<'_>,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        match form {
            #[cfg(target_arch = "x86_64")]
            Form::Winograd(winograd) => winograd.run(input, shape, finish, scratch, out),
            Form::Gather(weights) => {
                let to = self.output(shape);
                let gather = |pixel: usize, row: &mut [V]| {
                    let (x, rest) = (pixel % to.width, pixel / to.width);
                    self.gather(input, shape, (rest / to.height, rest % to.height, x), row);
                };
                gathered(weights, self.to, gather, finish, scratch, out);
            }
        }
    }

    fn run_in_behind<V: Transform>(
        &self,
        form: &Form<V>,
        before: &Rectifier,
        (input, stride): (&[f32], usize),
        finish: Finish<'_>,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        #[cfg_attr(not(target_arch = "x86_64"), expect(irrefutable_let_patterns))]
        let Form::Gather(weights) = form else { unreachable!("of size 1") };
        let gather = |pixel: usize, row: &mut [V]| {
            let (row, rest) = row.split_at_mut(self.from);
            V::rectify(&input[pixel * stride..][..self.from], before, row);
            rest.fill(V::default());
        };
        gathered(weights, self.to, gather, finish, scratch, out);
    }

    /// The values that the output at picture n, row y, column x is made of.
    fn gather<V: Value>(&self, input: &[f32], shape: Shape, (n, y, x): (usize, usize, usize), row: &mut [V]) {
        let (size, from, pad) = (self.size, self.from, self.size / 2);
        let left = x * self.stride;
        // columns of the window that lie in the picture
        let (skip, end) = (pad.saturating_sub(left), size.min(shape.width + pad - left));
        row[size * size * from..].fill(V::default());
        for dy in 0..size {
            let line = &mut row[dy * size * from..(dy + 1) * size * from];
            let at = (y * self.stride + dy).wrapping_sub(pad);
            if at >= shape.height {
                line.fill(V::default());
                continue;
            }
            let start = ((n * shape.height + at) * shape.width + left + skip - pad) * from;
            line[..skip * from].fill(V::default());
            V::copy(&input[start..start + (end - skip) * from], &mut line[skip * from..end * from]);
            line[end * from..].fill(V::default());
        }
    }
}

/// Rows that `gather` gives for each pixel of the output, times the weights.
fn gathered<V: Value>(
    weights: &Packed<V>,
    channels: usize,
    gather: impl Fn(usize, &mut [V]),
    finish: Finish<'_>,
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    let (depth, pixels) = (weights.depth(), out.len() / channels);
    let stride = depth + PAD;
    let rows = V::buffers(scratch).rows;
    rows.resize((ROWS * stride).max(rows.len()), V::default());
    for first in (0..pixels).step_by(ROWS) {
        let count = ROWS.min(pixels - first);
        for (pixel, row) in (first..first + count).zip(rows.chunks_exact_mut(stride)) {
            gather(pixel, &mut row[..depth]);
        }
        let here = first * channels..(first + count) * channels;
        let finish = Finish { add: finish.add.map(|add| &add[here.clone()]), ..finish };
        product(rows, stride, count, weights, finish, &mut out[here]);
    }
}

/// The shape that [`max_pool`] makes.
pub fn pooled(shape: Shape) -> Shape {
    let half = |side: usize| (side - 1) / 2 + 1;
    Shape { height: half(shape.height), width: half(shape.width), ..shape }
}

/// The largest of each 3×3 window, every second pixel, the rim left out.
pub fn max_pool(input: &[f32], shape: Shape, scratch: &mut Scratch) -> (Vec<f32>, Shape) {
    let to = pooled(shape);
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

/// Every second pixel, and zero channels on each side.
pub fn thinned(x: &[f32], shape: Shape, zeros: usize, scratch: &mut Scratch) -> Vec<f32> {
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

/// Pictures of three planes, each of so many pixels, to maps of three channels.
pub fn interleave(planes: &[f32], pixels: usize, out: &mut [f32]) {
    for (from, to) in planes.chunks_exact(3 * pixels).zip(out.chunks_exact_mut(3 * pixels)) {
        let (red, rest) = from.split_at(pixels);
        let (green, blue) = rest.split_at(pixels);
        for (to, ((red, green), blue)) in to.as_chunks_mut().0.iter_mut().zip(red.iter().zip(green).zip(blue)) {
            *to = [*red, *green, *blue];
        }
    }
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
