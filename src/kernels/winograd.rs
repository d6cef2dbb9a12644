//! Winograd's F(4×4, 3×3) (Lavin and Gray 2016): 36 multiplications where 144 would be.

use std::arch::x86_64::*;

use crate::conv::{Scratch, Shape};
use crate::product::{Finish, Packed, product};

/// Rows and columns of a tile's transform.
const SIDE: usize = 6;
const POINTS: usize = SIDE * SIDE;
/// Tiles that go through together: their transforms stay in the second cache.
const TILES: usize = 48;
/// As many channels as a vector of AVX2 has lanes.
const LANES: usize = 8;
/// Between rows, so that they do not share the lines of the first cache.
const PAD: usize = 16;

#[derive(Debug, Clone)]
pub(crate) struct Winograd {
    points: Vec<Packed>,
    from: usize,
    to: usize,
}

impl Winograd {
    /// `weights` are to × from × 3 × 3.
    pub(crate) fn new(weights: &[f32], from: usize, to: usize) -> Self {
        const G: [[f64; 3]; SIDE] = [
            [1.0 / 4.0, 0.0, 0.0],
            [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
            [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
            [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
            [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
            [0.0, 0.0, 1.0],
        ];
        let transformed = |at: &[f32], row: usize, column: usize| -> f32 {
            let sum = |y: usize| (0..3).map(|x| f64::from(at[3 * y + x]) * G[column][x]).sum::<f64>();
            (0..3).map(|y| G[row][y] * sum(y)).sum::<f64>() as f32
        };
        let point = |point: usize| {
            Packed::new(from, to, |channel, column| {
                let at = (column * from + channel) * 9;
                transformed(&weights[at..at + 9], point / SIDE, point % SIDE)
            })
        };
        Self { points: (0..POINTS).map(point).collect(), from, to }
    }

    pub(crate) fn run(&self, input: &[f32], shape: Shape, finish: Finish<'_>, scratch: &mut Scratch, out: &mut [f32]) {
        let (down, across) = (shape.height.div_ceil(4), shape.width.div_ceil(4));
        let all = shape.n * down * across;
        // many weights are read from far: more tiles for each reading
        let most = if self.from * self.to >= 1 << 16 { 2 * TILES } else { TILES };
        let stride = self.from + PAD;
        let Scratch { first: inward, second: outward, .. } = scratch;
        inward.resize((POINTS * most * stride).max(inward.len()), 0.0);
        outward.resize((POINTS * most * self.to).max(outward.len()), 0.0);
        let place = |tile: usize| {
            let (x, rest) = (tile % across, tile / across);
            (rest / down, 4 * (rest % down), 4 * x)
        };
        for start in (0..all).step_by(most) {
            let tiles = most.min(all - start);
            for tile in 0..tiles {
                let to = &mut inward[tile * stride..];
                // SAFETY: AVX2 and FMA were detected; sizes are checked inside
                unsafe { gather(input, shape, place(start + tile), to, tiles * stride) };
            }
            for (point, weights) in self.points.iter().enumerate() {
                let a = &inward[point * tiles * stride..];
                let to = &mut outward[point * tiles * self.to..(point + 1) * tiles * self.to];
                product(a, stride, tiles, weights, Finish::default(), to);
            }
            let to = Shape { channels: self.to, ..shape };
            for tile in 0..tiles {
                let from = &outward[tile * self.to..];
                // SAFETY: as above
                unsafe { scatter(from, tiles * self.to, to, place(start + tile), finish, out) };
            }
        }
    }
}

/// One line of six through Bᵀ.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn forward(d: [__m256; 6]) -> [__m256; 6] {
    let (two, four, five) = (_mm256_set1_ps(2.0), _mm256_set1_ps(4.0), _mm256_set1_ps(5.0));
    // 4d0 − 5d2 + d4
    let first = _mm256_fmadd_ps(four, d[0], _mm256_fnmadd_ps(five, d[2], d[4]));
    let (a, b) = (_mm256_fnmadd_ps(four, d[2], d[4]), _mm256_fnmadd_ps(four, d[1], d[3]));
    let (c, e) = (_mm256_sub_ps(d[4], d[2]), _mm256_mul_ps(two, _mm256_sub_ps(d[3], d[1])));
    let last = _mm256_fmadd_ps(four, d[1], _mm256_fnmadd_ps(five, d[3], d[5]));
    [first, _mm256_add_ps(a, b), _mm256_sub_ps(a, b), _mm256_add_ps(c, e), _mm256_sub_ps(c, e), last]
}

/// One line of six through Aᵀ.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn backward(m: [__m256; 6]) -> [__m256; 4] {
    let (two, four, eight) = (_mm256_set1_ps(2.0), _mm256_set1_ps(4.0), _mm256_set1_ps(8.0));
    let (a, b) = (_mm256_add_ps(m[1], m[2]), _mm256_sub_ps(m[1], m[2]));
    let (c, e) = (_mm256_add_ps(m[3], m[4]), _mm256_sub_ps(m[3], m[4]));
    [
        _mm256_add_ps(m[0], _mm256_add_ps(a, c)),
        _mm256_fmadd_ps(two, e, b),
        _mm256_fmadd_ps(four, c, a),
        _mm256_add_ps(_mm256_fmadd_ps(eight, e, b), m[5]),
    ]
}

/// Transform the 6×6 pixels about the tile at picture n, row y, column x; `apart` values lie between two points.
#[target_feature(enable = "avx2,fma")]
fn gather(input: &[f32], shape: Shape, (n, y, x): (usize, usize, usize), to: &mut [f32], apart: usize) {
    let channels = shape.channels;
    assert!(channels.is_multiple_of(LANES) && to.len() >= (POINTS - 1) * apart + channels);
    let zero = _mm256_setzero_ps();
    for channel in (0..channels).step_by(LANES) {
        let mut lines = [[zero; SIDE]; SIDE];
        for (dy, line) in lines.iter_mut().enumerate() {
            let row = (y + dy).wrapping_sub(1);
            if row >= shape.height {
                continue;
            }
            let mut pixels = [zero; SIDE];
            for (dx, pixel) in pixels.iter_mut().enumerate() {
                let column = (x + dx).wrapping_sub(1);
                if column < shape.width {
                    let at = ((n * shape.height + row) * shape.width + column) * channels + channel;
                    let values = &input[at..at + LANES];
                    // SAFETY: as many as a vector has lanes
                    *pixel = unsafe { _mm256_loadu_ps(values.as_ptr()) };
                }
            }
            *line = forward(pixels);
        }
        for column in 0..SIDE {
            let values = forward(lines.map(|line| line[column]));
            for (row, value) in values.into_iter().enumerate() {
                let at = (row * SIDE + column) * apart + channel;
                // SAFETY: at + LANES is within what was checked above
                unsafe { _mm256_storeu_ps(to.as_mut_ptr().add(at), value) };
            }
        }
    }
}

/// A tile's 36 products to its 4×4 pixels, finished.
#[target_feature(enable = "avx2,fma")]
fn scatter(
    from: &[f32],
    apart: usize,
    shape: Shape,
    (n, y, x): (usize, usize, usize),
    finish: Finish<'_>,
    out: &mut [f32],
) {
    let channels = shape.channels;
    assert!(channels.is_multiple_of(LANES) && from.len() >= (POINTS - 1) * apart + channels);
    let zero = _mm256_setzero_ps();
    for channel in (0..channels).step_by(LANES) {
        let mut lines = [[zero; 4]; SIDE];
        for (row, line) in lines.iter_mut().enumerate() {
            // SAFETY: within what was checked above
            let point = |column| unsafe { _mm256_loadu_ps(from.as_ptr().add((row * SIDE + column) * apart + channel)) };
            *line = backward([point(0), point(1), point(2), point(3), point(4), point(5)]);
        }
        // SAFETY: as many as a vector has lanes
        let load = |values: &[f32]| unsafe { _mm256_loadu_ps(values[..LANES].as_ptr()) };
        let bias = finish.bias.map_or(zero, |bias| load(&bias[channel..]));
        for dx in 0..4.min(shape.width - x) {
            let values = backward(lines.map(|line| line[dx]));
            for (dy, value) in values.into_iter().enumerate().take(shape.height - y) {
                let at = ((n * shape.height + y + dy) * shape.width + x + dx) * channels + channel;
                let mut value = _mm256_add_ps(value, bias);
                if let Some(add) = finish.add {
                    value = _mm256_add_ps(value, load(&add[at..]));
                }
                if finish.relu {
                    value = _mm256_max_ps(zero, value);
                }
                let out = &mut out[at..at + LANES];
                // SAFETY: as many as a vector has lanes
                unsafe { _mm256_storeu_ps(out.as_mut_ptr(), value) };
            }
        }
    }
}
