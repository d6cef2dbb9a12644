//! Winograd's convolutions (Lavin and Gray 2016): in f32 F(4×4, 3×3), 36 multiplications where 144 would be; in bf16
//! F(2×4, 3×3), 24 for 72.
//!
//! Transforms enlarge rounding errors, which matters where values have eight bits. So the tiles of bf16 are smaller, the
//! points at which their polynomials are taken are 0, ±3/4, ±3/2 and ∞ (±1 and ±2 enlarge more), and two of the 24 are
//! taken in f32: those in which the values of a rectified map, all positive, add up.

use std::arch::x86_64::*;

use crate::bf16::{Bf16, load_some, store, store_some};
use crate::maps::{Scratch, Shape};
use crate::product::{Buffers, Finish, HALF, Packed, Value, product};

/// Tiles that go through together: their transforms stay in the second cache.
const TILES: usize = 48;
/// Between rows, so that they do not share the lines of the first cache.
const PAD: usize = 16;

/// A value with a transform of its own.
pub(crate) trait Transform: Value {
    /// Rows and columns of a tile.
    const TILE: (usize, usize);
    /// Weights to their transform, down and across: a row for each of a tile's lines and the two beside it.
    const WEIGHTS: (&'static [[f64; 3]], &'static [[f64; 3]]);
    /// Points that are taken in f32 even so.
    const EXACT: &'static [usize];

    /// Whether it takes so many channels, and pays for them.
    fn takes(from: usize, to: usize) -> bool;

    /// Transform the pixels about the tile at picture n, row y, column x; with each place is said how far its points lie
    /// apart. The [exact](Self::EXACT) ones have a place of their own.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn gather(
        input: &[f32],
        shape: Shape,
        at: (usize, usize, usize),
        to: (&mut [Self], usize),
        exact: (&mut [f32], usize),
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
    points: Vec<Point<V>>,
    to: usize,
    /// `to`, filled up to columns that products write at once.
    columns: usize,
}

/// The weights of a point.
#[derive(Debug, Clone)]
enum Point<V> {
    Rounded(Packed<V>),
    /// Which of them.
    Exact(usize, Packed<f32>),
}

impl<V: Transform> Winograd<V> {
    /// `weights` are to × from × 3 × 3.
    pub(crate) fn new(weights: &[f32], from: usize, to: usize) -> Self {
        let columns = to.next_multiple_of(HALF);
        let (down, across) = V::WEIGHTS;
        let point = |point: usize| {
            let (row, column) = (&down[point / across.len()], &across[point % across.len()]);
            let transformed = |channel: usize, to: usize| -> f32 {
                let at = (to * from + channel) * 9;
                let sum = |y: usize| (0..3).map(|x| f64::from(weights[at + 3 * y + x]) * column[x]).sum::<f64>();
                (0..3).map(|y| row[y] * sum(y)).sum::<f64>() as f32
            };
            let weight = |channel, column| if column < to { transformed(channel, column) } else { 0.0 };
            match V::EXACT.iter().position(|exact| *exact == point) {
                Some(which) => Point::Exact(which, Packed::new(from, columns, weight)),
                None => Point::Rounded(Packed::new(from, columns, weight)),
            }
        };
        Self { points: (0..down.len() * across.len()).map(point).collect(), to, columns }
    }

    pub(crate) fn run(&self, input: &[f32], shape: Shape, finish: Finish<'_>, scratch: &mut Scratch, out: &mut [f32]) {
        let Self { points, to, columns } = self;
        let (down, across) = (shape.height.div_ceil(V::TILE.0), shape.width.div_ceil(V::TILE.1));
        let all = shape.n * down * across;
        // many weights are read from far: more tiles for each reading
        let most = if shape.channels * to >= 1 << 16 { 2 * TILES } else { TILES };
        let (stride, exact_stride) = (shape.channels.next_multiple_of(V::TOGETHER) + PAD, shape.channels + PAD);
        let Buffers { rows: inward, sums: outward, exact } = V::buffers(scratch);
        inward.resize((points.len() * most * stride).max(inward.len()), V::default());
        exact.resize((V::EXACT.len() * most * exact_stride).max(exact.len()), 0.0);
        outward.resize((points.len() * most * columns).max(outward.len()), 0.0);
        let place = |tile: usize| {
            let (x, rest) = (tile % across, tile / across);
            (rest / down, V::TILE.0 * (rest % down), V::TILE.1 * x)
        };
        for start in (0..all).step_by(most) {
            let tiles = most.min(all - start);
            for tile in 0..tiles {
                let to = (&mut inward[tile * stride..], tiles * stride);
                let exact = (exact.get_mut(tile * exact_stride..).unwrap_or_default(), tiles * exact_stride);
                // SAFETY: `available` says that the instructions are there; sizes are checked inside
                unsafe { V::gather(input, shape, place(start + tile), to, exact) };
            }
            for (point, weights) in points.iter().enumerate() {
                let to = &mut outward[point * tiles * columns..(point + 1) * tiles * columns];
                match weights {
                    Point::Rounded(weights) => {
                        product(&inward[point * tiles * stride..], stride, tiles, weights, Finish::default(), to);
                    }
                    Point::Exact(which, weights) => {
                        let a = &exact[which * tiles * exact_stride..];
                        product(a, exact_stride, tiles, weights, Finish::default(), to);
                    }
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

/// Weights at the points 0, ±a, ±b and ∞.
const fn four(a: f64, b: f64) -> [[f64; 3]; 6] {
    let (all, at_a, at_b) = (a * a * b * b, 2.0 * a * a * (a * a - b * b), 2.0 * b * b * (b * b - a * a));
    [
        [1.0 / all, 0.0, 0.0],
        [1.0 / at_a, a / at_a, a * a / at_a],
        [1.0 / at_a, -a / at_a, a * a / at_a],
        [1.0 / at_b, b / at_b, b * b / at_b],
        [1.0 / at_b, -b / at_b, b * b / at_b],
        [0.0, 0.0, 1.0],
    ]
}

/// Weights at the points 0, ±1 and ∞.
const TWO: [[f64; 3]; 4] = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];

impl Transform for f32 {
    const TILE: (usize, usize) = (4, 4);
    const WEIGHTS: (&'static [[f64; 3]], &'static [[f64; 3]]) = (&four(1.0, 2.0), &four(1.0, 2.0));
    const EXACT: &'static [usize] = &[];

    fn takes(from: usize, to: usize) -> bool {
        from.is_multiple_of(8) && to.is_multiple_of(8)
    }

    unsafe fn gather(
        input: &[f32],
        shape: Shape,
        at: (usize, usize, usize),
        to: (&mut [Self], usize),
        exact: (&mut [f32], usize),
    ) {
        // SAFETY: the caller's
        unsafe { gather_f32(input, shape, at, to, exact) }
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
        unsafe { scatter_f32(from, apart, shape, at, finish, out) }
    }
}

impl Transform for Bf16 {
    const TILE: (usize, usize) = (2, 4);
    const WEIGHTS: (&'static [[f64; 3]], &'static [[f64; 3]]) = (&TWO, &four(0.75, 1.5));
    /// Down 1, across 3/4 and 3/2.
    const EXACT: &'static [usize] = &[7, 9];

    fn takes(from: usize, to: usize) -> bool {
        from >= HALF / 2 && to >= HALF / 2
    }

    unsafe fn gather(
        input: &[f32],
        shape: Shape,
        at: (usize, usize, usize),
        to: (&mut [Self], usize),
        exact: (&mut [f32], usize),
    ) {
        // SAFETY: the caller's
        unsafe { gather_bf16(input, shape, at, to, exact) }
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
        unsafe { scatter_bf16(from, apart, shape, at, finish, out) }
    }
}

macro_rules! four {
    ($forward:ident, $backward:ident, $features:literal, $vector:ty, $a:literal, $b:literal, $set:ident, $add:ident,
     $sub:ident, $mul:ident, $fmadd:ident, $fnmadd:ident) => {
        /// One line of six through Bᵀ.
        #[target_feature(enable = $features)]
        #[inline]
        fn $forward(d: [$vector; 6]) -> [$vector; 6] {
            let (a, b, aa, bb) = ($set($a), $set($b), $set($a * $a), $set($b * $b));
            let (both, sum) = ($set($a * $a * $b * $b), $set($a * $a + $b * $b));
            let (even_a, odd_a) = ($fnmadd(bb, d[2], d[4]), $fnmadd(bb, d[1], d[3]));
            let (even_b, odd_b) = ($fnmadd(aa, d[2], d[4]), $fnmadd(aa, d[1], d[3]));
            [
                $fmadd(both, d[0], $fnmadd(sum, d[2], d[4])),
                $fmadd(a, odd_a, even_a),
                $fnmadd(a, odd_a, even_a),
                $fmadd(b, odd_b, even_b),
                $fnmadd(b, odd_b, even_b),
                $fmadd(both, d[1], $fnmadd(sum, d[3], d[5])),
            ]
        }

        /// One line of six through Aᵀ.
        #[target_feature(enable = $features)]
        #[inline]
        fn $backward(m: [$vector; 6]) -> [$vector; 4] {
            let (even_a, odd_a) = ($add(m[1], m[2]), $mul($set($a), $sub(m[1], m[2])));
            let (even_b, odd_b) = ($add(m[3], m[4]), $mul($set($b), $sub(m[3], m[4])));
            let (aa, bb) = ($set($a * $a), $set($b * $b));
            [
                $add(m[0], $add(even_a, even_b)),
                $add(odd_a, odd_b),
                $fmadd(aa, even_a, $mul(bb, even_b)),
                $fmadd(aa, odd_a, $fmadd(bb, odd_b, m[5])),
            ]
        }
    };
}

#[rustfmt::skip]
four!(forward4_f32, backward4_f32, "avx2,fma", __m256, 1.0, 2.0, _mm256_set1_ps, _mm256_add_ps, _mm256_sub_ps,
    _mm256_mul_ps, _mm256_fmadd_ps, _mm256_fnmadd_ps);
#[rustfmt::skip]
four!(forward4_bf16, backward4_bf16, "avx512f", __m512, 0.75, 1.5, _mm512_set1_ps, _mm512_add_ps, _mm512_sub_ps,
    _mm512_mul_ps, _mm512_fmadd_ps, _mm512_fnmadd_ps);

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

/// As many values as a vector has lanes, or zeros for none.
///
/// # Safety
/// So many are there.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn load_all(from: *const f32, count: usize) -> __m256 {
    // SAFETY: the caller's
    if count == 0 { _mm256_setzero_ps() } else { unsafe { _mm256_loadu_ps(from) } }
}

/// # Safety
/// There is room for as many values as a vector has lanes.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn store_all(to: *mut f32, _: usize, values: __m256) {
    // SAFETY: the caller's
    unsafe { _mm256_storeu_ps(to, values) }
}

macro_rules! transforms {
    ($gather:ident, $scatter:ident, $features:literal, $value:ty, ($down:literal, $across:literal), $lanes:literal,
     $zero:ident, ($forward_down:ident, $forward:ident), ($backward_down:ident, $backward:ident), $add:ident, $max:ident,
     $load:ident, $store:ident, $put:ident) => {
        /// [`Transform::gather`].
        #[target_feature(enable = $features)]
        fn $gather(
            input: &[f32],
            shape: Shape,
            (n, y, x): (usize, usize, usize),
            (to, apart): (&mut [$value], usize),
            (exact, exact_apart): (&mut [f32], usize),
        ) {
            const DOWN: usize = $down + 2;
            const ACROSS: usize = $across + 2;
            const EXACT: &[usize] = <$value as Transform>::EXACT;
            let channels = shape.channels;
            let filled = channels.next_multiple_of(<$value as Value>::TOGETHER);
            assert!(<$value as Transform>::takes(channels, channels) && n < shape.n && input.len() == shape.len());
            assert!(to.len() >= (DOWN * ACROSS - 1) * apart + filled);
            assert!(EXACT.is_empty() || exact.len() >= (EXACT.len() - 1) * exact_apart + channels);
            let zero = $zero();
            // where the pixels begin, and whether they lie inside
            let mut pixels = [[(0, false); DOWN]; ACROSS];
            for (dx, pixels) in pixels.iter_mut().enumerate() {
                for (dy, pixel) in pixels.iter_mut().enumerate() {
                    let (row, column) = ((y + dy).wrapping_sub(1), (x + dx).wrapping_sub(1));
                    if row < shape.height && column < shape.width {
                        *pixel = (((n * shape.height + row) * shape.width + column) * channels, true);
                    }
                }
            }
            for channel in (0..channels).step_by($lanes) {
                let count = $lanes.min(channels - channel);
                let mut columns = [[zero; DOWN]; ACROSS];
                for (column, pixels) in columns.iter_mut().zip(&pixels) {
                    let mut values = [zero; DOWN];
                    for (value, (start, inside)) in values.iter_mut().zip(pixels) {
                        // SAFETY: so many values are there where the pixel is inside the input
                        *value = unsafe { $load(input.as_ptr().add(start + channel), if *inside { count } else { 0 }) };
                    }
                    *column = $forward_down(values);
                }
                let filled = $lanes.min(filled - channel);
                for row in 0..DOWN {
                    let values = $forward(columns.map(|column| column[row]));
                    for (column, value) in values.into_iter().enumerate() {
                        let point = row * ACROSS + column;
                        // SAFETY: within what was checked above
                        unsafe {
                            match EXACT.iter().position(|exact| *exact == point) {
                                Some(which) => {
                                    $put(exact.as_mut_ptr().add(which * exact_apart + channel), count, value);
                                }
                                None => $store(to.as_mut_ptr().add(point * apart + channel), filled, value),
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
            const DOWN: usize = $down + 2;
            const ACROSS: usize = $across + 2;
            let channels = shape.channels;
            assert!(<$value as Transform>::takes(channels, channels) && y < shape.height && x < shape.width);
            assert!(n < shape.n && from.len() >= (DOWN * ACROSS - 1) * apart + channels.next_multiple_of(HALF));
            assert!(finish.bias.is_none_or(|bias| bias.len() == channels) && out.len() == shape.len());
            assert!(finish.add.is_none_or(|add| add.len() == shape.len()));
            let zero = $zero();
            for channel in (0..channels).step_by($lanes) {
                let count = $lanes.min(channels - channel);
                let mut lines = [[zero; $across]; DOWN];
                for (row, line) in lines.iter_mut().enumerate() {
                    let mut points = [zero; ACROSS];
                    for (column, point) in points.iter_mut().enumerate() {
                        // SAFETY: within what was checked above
                        *point = unsafe { $load(from.as_ptr().add((row * ACROSS + column) * apart + channel), $lanes) };
                    }
                    *line = $backward(points);
                }
                // SAFETY: `count` values of a pixel are there, in all three, as checked above
                let load = |values: &[f32], at: usize| unsafe { $load(values.as_ptr().add(at), count) };
                let bias = finish.bias.map_or(zero, |bias| load(bias, channel));
                for dx in 0..$across.min(shape.width - x) {
                    let values = $backward_down(lines.map(|line| line[dx]));
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

#[rustfmt::skip]
transforms!(gather_f32, scatter_f32, "avx2,fma", f32, (4, 4), 8, _mm256_setzero_ps, (forward4_f32, forward4_f32),
    (backward4_f32, backward4_f32), _mm256_add_ps, _mm256_max_ps, load_all, store_all, store_all);
#[rustfmt::skip]
transforms!(gather_bf16, scatter_bf16, "avx512f,avx512bw,avx512vl,avx512bf16", Bf16, (2, 4), 16, _mm512_setzero_ps,
    (forward2, forward4_bf16), (backward2, backward4_bf16), _mm512_add_ps, _mm512_max_ps, load_some, store, store_some);
