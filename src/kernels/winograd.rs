//! Winograd's convolutions (Lavin and Gray 2016): in f32 F(4×4, 3×3), 36 multiplications where 144 would be; in bf16
//! F(2×2, 3×3), 16 for 36, because the larger one's transforms multiply an error of eight bits by six.

use std::arch::x86_64::*;

use crate::bf16::{Bf16, load_some, store, store_some};
use crate::conv::{Scratch, Shape};
use crate::product::{Buffers, Finish, HALF, Packed, Value, product};

/// Tiles that go through together: their transforms stay in the second cache.
const TILES: usize = 48;
/// Between rows, so that they do not share the lines of the first cache.
const PAD: usize = 16;

/// A value with a transform of its own.
pub(crate) trait Transform: Value {
    /// Rows and columns of a tile.
    const TILE: usize;
    /// Weights to their transform: a row for each of a tile's lines and the two beside it.
    const WEIGHTS: &'static [[f64; 3]];

    /// The point of a tile that is taken in f32 even so: the sum of the inner pixels, by far the largest where values are
    /// positive, and with it its error.
    const EXACT: Option<usize>;

    /// Whether it takes so many channels, and pays for them.
    fn takes(from: usize, to: usize) -> bool;

    /// Transform the pixels about the tile at picture n, row y, column x; `apart` values lie between two points. The
    /// [exact](Self::EXACT) one has its own place.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn gather(
        input: &[f32],
        shape: Shape,
        at: (usize, usize, usize),
        to: &mut [Self],
        apart: usize,
        exact: &mut [f32],
    );

    /// A tile's products to its pixels, finished.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn scatter(
        from: &[f32],
        apart: usize,
        shape: Shape,
        at: (usize, usize, usize),
        finish: Finish<'_>,
        out: &mut [f32],
    );
}

#[derive(Debug, Clone)]
pub(crate) struct Winograd<V> {
    points: Vec<Packed<V>>,
    exact: Option<Packed<f32>>,
    to: usize,
    /// `to`, filled up to columns that products write at once.
    columns: usize,
}

impl<V: Transform> Winograd<V> {
    /// `weights` are to × from × 3 × 3.
    pub(crate) fn new(weights: &[f32], from: usize, to: usize) -> Self {
        let transformed = |at: &[f32], row: &[f64; 3], column: &[f64; 3]| -> f32 {
            let sum = |y: usize| (0..3).map(|x| f64::from(at[3 * y + x]) * column[x]).sum::<f64>();
            (0..3).map(|y| row[y] * sum(y)).sum::<f64>() as f32
        };
        let columns = to.next_multiple_of(HALF);
        let lines = V::WEIGHTS;
        let weight = |point: usize, channel: usize, column: usize| {
            let at = (column * from + channel) * 9;
            let weights = weights.get(at..at + 9);
            weights.map_or(0.0, |at| transformed(at, &lines[point / lines.len()], &lines[point % lines.len()]))
        };
        Self {
            points: (0..lines.len().pow(2))
                .map(|point| Packed::new(from, columns, |channel, column| weight(point, channel, column)))
                .collect(),
            exact: V::EXACT.map(|point| Packed::new(from, columns, |channel, column| weight(point, channel, column))),
            to,
            columns,
        }
    }

    pub(crate) fn run(&self, input: &[f32], shape: Shape, finish: Finish<'_>, scratch: &mut Scratch, out: &mut [f32]) {
        let Self { points, exact, to, columns } = self;
        let (down, across) = (shape.height.div_ceil(V::TILE), shape.width.div_ceil(V::TILE));
        let all = shape.n * down * across;
        // many weights are read from far: more tiles for each reading
        let most = if shape.channels * to >= 1 << 16 { 2 * TILES } else { TILES };
        let (stride, exact_stride) = (points[0].depth() + PAD, shape.channels + PAD);
        let Buffers { rows: inward, sums: outward, exact: exact_inward } = V::buffers(scratch);
        if exact.is_some() {
            exact_inward.resize((most * exact_stride).max(exact_inward.len()), 0.0);
        }
        inward.resize((points.len() * most * stride).max(inward.len()), V::default());
        outward.resize((points.len() * most * columns).max(outward.len()), 0.0);
        let place = |tile: usize| {
            let (x, rest) = (tile % across, tile / across);
            (rest / down, V::TILE * (rest % down), V::TILE * x)
        };
        for start in (0..all).step_by(most) {
            let tiles = most.min(all - start);
            for tile in 0..tiles {
                let to = &mut inward[tile * stride..];
                let exact = exact.as_ref().map_or(&mut [][..], |_| &mut exact_inward[tile * exact_stride..]);
                // SAFETY: `available` says that the instructions are there; sizes are checked inside
                unsafe { V::gather(input, shape, place(start + tile), to, tiles * stride, exact) };
            }
            for (point, weights) in points.iter().enumerate() {
                let to = &mut outward[point * tiles * columns..(point + 1) * tiles * columns];
                if let Some(weights) = exact.as_ref().filter(|_| V::EXACT == Some(point)) {
                    product(exact_inward, exact_stride, tiles, weights, Finish::default(), to);
                } else {
                    product(&inward[point * tiles * stride..], stride, tiles, weights, Finish::default(), to);
                }
            }
            let to = Shape { channels: *to, ..shape };
            for tile in 0..tiles {
                let from = &outward[tile * columns..];
                // SAFETY: as above
                unsafe { V::scatter(from, tiles * columns, to, place(start + tile), finish, out) };
            }
        }
    }
}

impl Transform for f32 {
    const TILE: usize = 4;
    const EXACT: Option<usize> = None;
    const WEIGHTS: &'static [[f64; 3]] = &[
        [1.0 / 4.0, 0.0, 0.0],
        [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
        [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
        [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
        [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
        [0.0, 0.0, 1.0],
    ];

    fn takes(from: usize, to: usize) -> bool {
        from.is_multiple_of(8) && to.is_multiple_of(8)
    }

    unsafe fn gather(
        input: &[f32],
        shape: Shape,
        at: (usize, usize, usize),
        to: &mut [Self],
        apart: usize,
        exact: &mut [f32],
    ) {
        // SAFETY: the caller's
        unsafe { gather4(input, shape, at, to, apart, exact) }
    }

    unsafe fn scatter(
        from: &[f32],
        apart: usize,
        shape: Shape,
        at: (usize, usize, usize),
        finish: Finish<'_>,
        out: &mut [f32],
    ) {
        // SAFETY: the caller's
        unsafe { scatter4(from, apart, shape, at, finish, out) }
    }
}

impl Transform for Bf16 {
    const TILE: usize = 2;
    const EXACT: Option<usize> = Some(5);
    const WEIGHTS: &'static [[f64; 3]] = &[[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];

    fn takes(from: usize, to: usize) -> bool {
        from >= HALF / 2 && to >= HALF / 2
    }

    unsafe fn gather(
        input: &[f32],
        shape: Shape,
        at: (usize, usize, usize),
        to: &mut [Self],
        apart: usize,
        exact: &mut [f32],
    ) {
        // SAFETY: the caller's
        unsafe { gather2(input, shape, at, to, apart, exact) }
    }

    unsafe fn scatter(
        from: &[f32],
        apart: usize,
        shape: Shape,
        at: (usize, usize, usize),
        finish: Finish<'_>,
        out: &mut [f32],
    ) {
        // SAFETY: the caller's
        unsafe { scatter2(from, apart, shape, at, finish, out) }
    }
}

/// One line of six through Bᵀ.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn forward4(d: [__m256; 6]) -> [__m256; 6] {
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
fn backward4(m: [__m256; 6]) -> [__m256; 4] {
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

/// One line of four through Bᵀ.
#[target_feature(enable = "avx512f")]
#[inline]
fn forward2(d: [__m512; 4]) -> [__m512; 4] {
    [_mm512_sub_ps(d[0], d[2]), _mm512_add_ps(d[1], d[2]), _mm512_sub_ps(d[2], d[1]), _mm512_sub_ps(d[1], d[3])]
}

/// One line of four through Aᵀ.
#[target_feature(enable = "avx512f")]
#[inline]
fn backward2(m: [__m512; 4]) -> [__m512; 2] {
    let (a, b) = (_mm512_add_ps(m[1], m[2]), _mm512_sub_ps(m[1], m[2]));
    [_mm512_add_ps(m[0], a), _mm512_sub_ps(b, m[3])]
}

macro_rules! transforms {
    ($gather:ident, $scatter:ident, $features:literal, $value:ty, $tile:literal, $side:literal, $lanes:literal,
     $zero:ident, $forward:ident, $backward:ident, $add:ident, $max:ident, $load:expr, $store:expr, $put:expr) => {
        /// [`Transform::gather`].
        #[target_feature(enable = $features)]
        fn $gather(
            input: &[f32],
            shape: Shape,
            (n, y, x): (usize, usize, usize),
            to: &mut [$value],
            apart: usize,
            exact: &mut [f32],
        ) {
            const SIDE: usize = $side;
            const EXACT: Option<usize> = <$value as Transform>::EXACT;
            let channels = shape.channels;
            let filled = channels.next_multiple_of(<$value as Value>::TOGETHER);
            assert!(<$value as Transform>::takes(channels, channels) && input.len() == shape.len());
            assert!(n < shape.n && to.len() >= (SIDE * SIDE - 1) * apart + filled);
            assert!(EXACT.is_none() || exact.len() >= channels);
            let zero = $zero();
            // where the pixels begin; none where they lie outside
            let mut starts = [[None; SIDE]; SIDE];
            for (dy, line) in starts.iter_mut().enumerate() {
                for (dx, start) in line.iter_mut().enumerate() {
                    let (row, column) = ((y + dy).wrapping_sub(1), (x + dx).wrapping_sub(1));
                    if row < shape.height && column < shape.width {
                        *start = Some(((n * shape.height + row) * shape.width + column) * channels);
                    }
                }
            }
            for channel in (0..channels).step_by($lanes) {
                let count = $lanes.min(channels - channel);
                // SAFETY: `channel` and `count` others are a pixel's, and the pixel is inside the input
                let pixel = |start: Option<usize>| {
                    start.map_or(zero, |start| unsafe { $load(input.as_ptr().add(start + channel), count) })
                };
                let lines = starts.map(|line| $forward(line.map(pixel)));
                let filled = $lanes.min(filled - channel);
                for column in 0..SIDE {
                    let values = $forward(lines.map(|line| line[column]));
                    for (row, value) in values.into_iter().enumerate() {
                        let point = row * SIDE + column;
                        // SAFETY: within what was checked above
                        unsafe {
                            if EXACT == Some(point) {
                                $put(exact.as_mut_ptr().add(channel), count, value);
                            } else {
                                $store(to.as_mut_ptr().add(point * apart + channel), filled, value);
                            }
                        }
                    }
                }
            }
        }

        /// [`Transform::scatter`].
        #[target_feature(enable = $features)]
        fn $scatter(
            from: &[f32],
            apart: usize,
            shape: Shape,
            (n, y, x): (usize, usize, usize),
            finish: Finish<'_>,
            out: &mut [f32],
        ) {
            const SIDE: usize = $side;
            let channels = shape.channels;
            assert!(<$value as Transform>::takes(channels, channels) && y < shape.height && x < shape.width);
            assert!(n < shape.n && from.len() >= (SIDE * SIDE - 1) * apart + channels.next_multiple_of(HALF));
            assert!(finish.bias.is_none_or(|bias| bias.len() == channels) && out.len() == shape.len());
            assert!(finish.add.is_none_or(|add| add.len() == shape.len()));
            let zero = $zero();
            for channel in (0..channels).step_by($lanes) {
                let count = $lanes.min(channels - channel);
                let mut lines = [[zero; $tile]; SIDE];
                for (row, line) in lines.iter_mut().enumerate() {
                    let mut points = [zero; SIDE];
                    for (column, point) in points.iter_mut().enumerate() {
                        // SAFETY: within what was checked above
                        *point = unsafe { $load(from.as_ptr().add((row * SIDE + column) * apart + channel), $lanes) };
                    }
                    *line = $backward(points);
                }
                // SAFETY: `count` values of a pixel are there, in all three, as checked above
                let load = |values: &[f32], at: usize| unsafe { $load(values.as_ptr().add(at), count) };
                let bias = finish.bias.map_or(zero, |bias| load(bias, channel));
                for dx in 0..$tile.min(shape.width - x) {
                    let values = $backward(lines.map(|line| line[dx]));
                    for (dy, value) in values.into_iter().enumerate().take(shape.height - y) {
                        let at = ((n * shape.height + y + dy) * shape.width + x + dx) * channels + channel;
                        let mut value = $add(value, bias);
                        if let Some(add) = finish.add {
                            value = $add(value, load(add, at));
                        }
                        if finish.relu {
                            // the second where one is no number: it stays, and is refused later
                            value = $max(zero, value);
                        }
                        // SAFETY: as above
                        unsafe { $put(out.as_mut_ptr().add(at), count, value) };
                    }
                }
            }
        }
    };
}

transforms!(
    gather4,
    scatter4,
    "avx2,fma",
    f32,
    4,
    6,
    8,
    _mm256_setzero_ps,
    forward4,
    backward4,
    _mm256_add_ps,
    _mm256_max_ps,
    |at, _| _mm256_loadu_ps(at),
    |at, _, value| _mm256_storeu_ps(at, value),
    |at, _, value| _mm256_storeu_ps(at, value)
);
transforms!(
    gather2,
    scatter2,
    "avx512f,avx512bw,avx512vl,avx512bf16",
    Bf16,
    2,
    4,
    16,
    _mm512_setzero_ps,
    forward2,
    backward2,
    _mm512_add_ps,
    _mm512_max_ps,
    load_some,
    store,
    store_some
);
