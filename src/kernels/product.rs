//! Matrix products: rows of `a` times weights packed in panels of 32 columns.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::fmt::Debug;

#[cfg(target_arch = "x86_64")]
use crate::bf16::{Bf16, load, pair, plus_products};
use crate::maps::Scratch;
use crate::rectifier::Rectifier;

/// Columns per panel: two vectors of AVX-512, four of AVX2.
const PANEL: usize = 32;
/// Columns that are computed where fewer are left.
pub(crate) const HALF: usize = PANEL / 2;
/// Rows that are multiplied at once.
const WIDE: usize = 12;
const NARROW: usize = 4;
/// Values of a row that are multiplied before the next panel: a panel of them stays in the second cache.
const DEPTH: usize = 512;

/// In what rows and weights are held; sums are f32.
pub(crate) trait Value: Copy + Default + Debug {
    /// Neighbours of a row that one step multiplies and adds up.
    const TOGETHER: usize;

    /// The nearest value.
    fn of(value: f32) -> Self;

    /// The nearest values; `to` is as long as `from`.
    fn copy(from: &[f32], to: &mut [Self]);

    /// The nearest values of what `rectifier` makes of `from`; all three are of one length.
    fn rectify(from: &[f32], rectifier: &Rectifier, to: &mut [Self]);

    fn buffers(scratch: &mut Scratch) -> Buffers<'_, Self>;

    /// `height` rows times a panel; `out` are rows of `columns` values.
    ///
    /// # Safety
    /// `a` holds `height` rows of `stride` values, the last of them as deep as the panel, and `out` as many, the last of
    /// them as wide as the panel or, with `half`, as half of it. The processor has the instructions: AVX-512 with `wide`.
    unsafe fn tile(wide: bool, tile: Tile<'_, Self>, out: &mut [f32], columns: usize);
}

/// What a convolution keeps between its steps.
pub(crate) struct Buffers<'a, V> {
    /// What products read.
    pub(crate) rows: &'a mut Vec<V>,
    /// What they give.
    pub(crate) sums: &'a mut Vec<f32>,
    /// What is taken in f32 even so.
    pub(crate) exact: &'a mut Vec<f32>,
}

/// What a tile is made of.
#[derive(Clone, Copy)]
pub(crate) struct Tile<'a, V> {
    a: &'a [V],
    stride: usize,
    height: usize,
    panel: &'a [V],
    half: bool,
}

impl Value for f32 {
    const TOGETHER: usize = 1;

    fn of(value: f32) -> Self {
        value
    }

    fn copy(from: &[f32], to: &mut [Self]) {
        to.copy_from_slice(from);
    }

    fn rectify(from: &[f32], rectifier: &Rectifier, to: &mut [Self]) {
        rectifier.apply(from, to);
    }

    fn buffers(scratch: &mut Scratch) -> Buffers<'_, Self> {
        Buffers { rows: &mut scratch.rows, sums: &mut scratch.sums, exact: &mut scratch.exact }
    }

    unsafe fn tile(wide: bool, tile: Tile<'_, Self>, out: &mut [f32], columns: usize) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller's
        unsafe {
            if wide { tile512(tile, out, columns) } else { tile256(tile, out, columns) }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = wide;
            plain_tile(tile, out, columns);
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Value for Bf16 {
    const TOGETHER: usize = 2;

    fn of(value: f32) -> Self {
        Self::nearest(value)
    }

    fn copy(from: &[f32], to: &mut [Self]) {
        Self::copy_nearest(from, to);
    }

    fn rectify(from: &[f32], Rectifier { scale, shift }: &Rectifier, to: &mut [Self]) {
        Self::rectify_nearest(from, scale, shift, to);
    }

    fn buffers(scratch: &mut Scratch) -> Buffers<'_, Self> {
        Buffers { rows: &mut scratch.narrow, sums: &mut scratch.sums, exact: &mut scratch.exact }
    }

    unsafe fn tile(_: bool, tile: Tile<'_, Self>, out: &mut [f32], columns: usize) {
        // SAFETY: the caller's; where there are products of bf16, there is AVX-512
        unsafe { tile_bf16(tile, out, columns) }
    }
}

/// depth × columns weights, panel by panel, columns filled up with zeros; rows that are taken together are interleaved.
#[derive(Debug, Clone)]
pub(crate) struct Packed<V> {
    values: Vec<V>,
    depth: usize,
    columns: usize,
}

impl<V: Value> Packed<V> {
    /// `at(row, column)` gives the weights.
    pub(crate) fn new(depth: usize, columns: usize, at: impl Fn(usize, usize) -> f32) -> Self {
        let filled = depth.next_multiple_of(V::TOGETHER);
        let mut values = Vec::with_capacity(filled * columns.next_multiple_of(PANEL));
        for first in (0..columns).step_by(PANEL) {
            for rows in (0..filled).step_by(V::TOGETHER) {
                for column in first..first + PANEL {
                    let weight = |row| if row < depth && column < columns { at(row, column) } else { 0.0 };
                    values.extend((rows..rows + V::TOGETHER).map(|row| V::of(weight(row))));
                }
            }
        }
        Self { values, depth: filled, columns }
    }

    /// Values of a row that are read: those that the weights have, filled up to what is taken together.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }
}

/// What is done to the sums before they are stored.
#[derive(Clone, Copy, Default)]
pub(crate) struct Finish<'a> {
    /// One value per column.
    pub(crate) bias: Option<&'a [f32]>,
    /// As the output.
    pub(crate) add: Option<&'a [f32]>,
    pub(crate) relu: bool,
}

impl Finish<'_> {
    fn is_none(&self) -> bool {
        self.bias.is_none() && self.add.is_none() && !self.relu
    }
}

/// [`product_in`] the instructions that the processor has.
pub(crate) fn product<V: Value>(
    a: &[V],
    stride: usize,
    rows: usize,
    weights: &Packed<V>,
    finish: Finish<'_>,
    out: &mut [f32],
) {
    #[cfg(target_arch = "x86_64")]
    let wide = is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    let wide = false;
    product_in(wide, a, stride, rows, weights, finish, out);
}

/// `out` (rows × columns) = `a` (rows of `stride` values, of which `depth` count) times `weights`, finished.
fn product_in<V: Value>(
    wide: bool,
    a: &[V],
    stride: usize,
    rows: usize,
    weights: &Packed<V>,
    finish: Finish<'_>,
    out: &mut [f32],
) {
    let Packed { values, depth, columns } = weights;
    let (depth, columns) = (*depth, *columns);
    assert!(depth > 0 && rows > 0 && stride >= depth && a.len() >= (rows - 1) * stride + depth);
    assert!(out.len() >= rows * columns && finish.add.is_none_or(|add| add.len() >= rows * columns));
    assert!(finish.bias.is_none_or(|bias| bias.len() == columns));
    let step = if wide { WIDE } else { NARROW };
    let plain = finish.is_none() && depth <= DEPTH * V::TOGETHER;
    let mut sums = [0f32; WIDE * PANEL];
    for from in (0..depth).step_by(DEPTH * V::TOGETHER) {
        let to = (from + DEPTH * V::TOGETHER).min(depth);
        for (panel, first) in values.chunks_exact(depth * PANEL).zip((0..columns).step_by(PANEL)) {
            let panel = &panel[from * PANEL..to * PANEL];
            let count = PANEL.min(columns - first);
            let half = count <= HALF;
            for row in (0..rows).step_by(step) {
                let height = step.min(rows - row);
                let a = &a[row * stride + from..];
                assert!(a.len() >= (height - 1) * stride + (to - from));
                let tile = Tile { a, stride, height, panel, half };
                let finish = Finish {
                    bias: finish.bias.filter(|_| to == depth).map(|bias| &bias[first..]),
                    add: finish.add.filter(|_| to == depth).map(|add| &add[row * columns + first..]),
                    relu: finish.relu && to == depth,
                };
                let out = &mut out[row * columns + first..];
                // SAFETY: the instructions were detected, `available` for AVX2 and products of bf16; `a` holds `height`
                // rows as just checked, and `out` as the length of all its rows was, where it is as wide as it must be.
                unsafe {
                    if plain && count.is_multiple_of(HALF) {
                        V::tile(wide, tile, out, columns);
                    } else {
                        V::tile(wide, tile, &mut sums, PANEL);
                        store(&sums, height, count, columns, from > 0, finish, out);
                    }
                }
            }
        }
    }
}

/// A tile on any processor.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn plain_tile(tile: Tile<'_, f32>, out: &mut [f32], columns: usize) {
    let count = if tile.half { HALF } else { PANEL };
    for (row, out) in out.chunks_mut(columns).take(tile.height).enumerate() {
        out[..count].fill(0.0);
        for (value, weights) in tile.a[row * tile.stride..].iter().zip(tile.panel.chunks_exact(PANEL)) {
            out[..count].iter_mut().zip(weights).for_each(|(sum, weight)| *sum += value * weight);
        }
    }
}

/// Sums of a tile to where they belong.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma"))]
fn store(
    sums: &[f32; WIDE * PANEL],
    height: usize,
    count: usize,
    columns: usize,
    onto: bool,
    finish: Finish<'_>,
    out: &mut [f32],
) {
    for row in 0..height {
        let (at, sums) = (row * columns, &sums[row * PANEL..]);
        match count {
            PANEL => store_some::<PANEL>(sums, at, onto, finish, out),
            HALF => store_some::<HALF>(sums, at, onto, finish, out),
            _ => (0..count).for_each(|column| {
                let finish = Finish { bias: finish.bias.map(|bias| &bias[column..]), ..finish };
                store_some::<1>(&sums[column..], at + column, onto, finish, out);
            }),
        }
    }
}

/// Finish N sums; `at` is their place in the output.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma"))]
#[inline]
fn store_some<const N: usize>(sums: &[f32], at: usize, onto: bool, finish: Finish<'_>, out: &mut [f32]) {
    fn first<const N: usize>(values: &[f32]) -> &[f32; N] {
        values.first_chunk().expect("as many as the product has columns")
    }
    let mut values = *first::<N>(sums);
    let mut plus = |more: &[f32; N]| values.iter_mut().zip(more).for_each(|(value, more)| *value += more);
    if onto {
        plus(first(&out[at..]));
    }
    if let Some(bias) = finish.bias {
        plus(first(bias));
    }
    if let Some(add) = finish.add {
        plus(first(&add[at..]));
    }
    if finish.relu {
        // what is no number stays what it is, and is refused later
        values.iter_mut().for_each(|value| *value = if *value < 0.0 { 0.0 } else { *value });
    }
    out[at..at + N].copy_from_slice(&values);
}

#[cfg(target_arch = "x86_64")]
macro_rules! tile {
    ($name:ident, $rows:ident, $features:literal, $value:ty, $lanes:literal, $vectors:literal, $most:expr,
     [$($height:literal)*], $zero:ident, $load:expr, $set:expr, $fma:ident, $store:ident) => {
        /// [`Value::tile`].
        ///
        /// # Safety
        /// As there.
        #[target_feature(enable = $features)]
        unsafe fn $name(tile: Tile<'_, $value>, out: &mut [f32], columns: usize) {
            // SAFETY: the caller's
            unsafe {
                match (tile.height, tile.half) {
                    $(($height, false) => $rows::<$height, 2>(tile, 2 * $vectors, out, columns),)*
                    (_, false) => $rows::<$most, 2>(tile, 2 * $vectors, out, columns),
                    $(($height, true) => $rows::<$height, $vectors>(tile, $vectors, out, columns),)*
                    (_, true) => $rows::<$most, $vectors>(tile, $vectors, out, columns),
                }
            }
        }

        #[target_feature(enable = $features)]
        unsafe fn $rows<const H: usize, const PASS: usize>(
            tile: Tile<'_, $value>,
            vectors: usize,
            out: &mut [f32],
            columns: usize,
        ) {
            const TOGETHER: usize = <$value as Value>::TOGETHER;
            let Tile { a, stride, panel, .. } = tile;
            // as many at a time as the registers hold
            for column in (0..vectors).step_by(PASS) {
                let mut acc = [[$zero(); PASS]; H];
                for at in 0..panel.len() / (PANEL * TOGETHER) {
                    // SAFETY: inside the panel, and inside the rows as the caller says
                    unsafe {
                        let weights = panel.as_ptr().add((at * PANEL + column * $lanes) * TOGETHER);
                        let mut loaded = [$load(weights); PASS];
                        for (lane, loaded) in loaded.iter_mut().enumerate().skip(1) {
                            *loaded = $load(weights.add(lane * $lanes * TOGETHER));
                        }
                        for row in 0..H {
                            let value = $set(a.as_ptr().add(row * stride + at * TOGETHER));
                            for lane in 0..PASS {
                                acc[row][lane] = $fma(value, loaded[lane], acc[row][lane]);
                            }
                        }
                    }
                }
                for row in 0..H {
                    for lane in 0..PASS {
                        // SAFETY: inside the rows as the caller says
                        unsafe {
                            $store(out.as_mut_ptr().add(row * columns + (column + lane) * $lanes), acc[row][lane]);
                        }
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
tile!(tile512, rows512, "avx512f", f32, 16, 1, 12, [1 2 3 4 5 6 7 8 9 10 11],
    _mm512_setzero_ps, _mm512_loadu_ps, |at: *const f32| _mm512_set1_ps(*at), _mm512_fmadd_ps, _mm512_storeu_ps);
#[cfg(target_arch = "x86_64")]
tile!(tile_bf16, rows_bf16, "avx512f,avx512bf16", Bf16, 16, 1, 12, [1 2 3 4 5 6 7 8 9 10 11],
    _mm512_setzero_ps, load, pair, plus_products, _mm512_storeu_ps);
#[cfg(target_arch = "x86_64")]
tile!(tile256, rows256, "avx2,fma", f32, 8, 2, 4, [1 2 3],
    _mm256_setzero_ps, _mm256_loadu_ps, |at: *const f32| _mm256_set1_ps(*at), _mm256_fmadd_ps, _mm256_storeu_ps);

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::Precision;

    /// A product of whole numbers, which have no rounding.
    fn whole<V: Value>(wide: bool, rows: usize, depth: usize, columns: usize) {
        let weights = Packed::<V>::new(depth, columns, |row, column| ((row + 3 * column) % 5) as f32 - 2.0);
        let stride = weights.depth() + 3;
        let at = |row: usize, d: usize| if d < depth { ((row * depth + d) % 7) as f32 - 3.0 } else { 0.0 };
        let a: Vec<V> = (0..rows * stride).map(|i| V::of(at(i / stride, i % stride))).collect();
        let sum = |row, column| (0..depth).map(|d| at(row, d) * (((d + 3 * column) % 5) as f32 - 2.0)).sum::<f32>();
        let bias = vec![1.0; columns];
        for finish in [Finish::default(), Finish { bias: Some(&bias), add: None, relu: true }] {
            let finished = |sum: f32| if finish.relu { (sum + 1.0).max(0.0) } else { sum };
            let expected: Vec<f32> = (0..rows * columns).map(|at| finished(sum(at / columns, at % columns))).collect();
            let mut out = vec![f32::NAN; rows * columns];
            product_in(wide, &a, stride, rows, &weights, finish, &mut out);
            assert_eq!(out, expected, "{rows}×{depth}×{columns}, wide {wide}, {} together", V::TOGETHER);
        }
    }

    #[test]
    fn all_instructions_give_the_same_product() {
        for (rows, depth, columns) in [(1, 3, 1), (13, 600, 33), (48, 7, 64), (5, 20, 16), (3, 1030, 48)] {
            if crate::available(Precision::F32) {
                whole::<f32>(false, rows, depth, columns);
                if is_x86_feature_detected!("avx512f") {
                    whole::<f32>(true, rows, depth, columns);
                }
            }
            if crate::available(Precision::Bf16) {
                whole::<Bf16>(true, rows, depth, columns);
            }
        }
    }

    /// The rows' products, taken all at once and, in the bits, one by one.
    fn alone_and_together<V: Value>(wide: bool, rows: usize, (depth, columns): (usize, usize)) -> Vec<u32> {
        let odd = |at: usize| ((at * 2_654_435_761) % 1_000_003) as f32 / 500_000.0 - 1.0;
        let weights = Packed::<V>::new(depth, columns, |row, column| odd(row * columns + column));
        let stride = weights.depth() + 3;
        let a: Vec<V> = (0..rows * stride).map(|i| V::of(if i % stride < depth { odd(i + 7) } else { 0.0 })).collect();
        let bias: Vec<f32> = (0..columns).map(odd).collect();
        let finish = Finish { bias: Some(&bias), add: None, relu: false };
        let (mut together, mut alone) = (vec![f32::NAN; rows * columns], vec![f32::NAN; rows * columns]);
        product_in(wide, &a, stride, rows, &weights, finish, &mut together);
        for (a, out) in a.chunks_exact(stride).zip(alone.chunks_exact_mut(columns)) {
            product_in(wide, a, stride, 1, &weights, finish, out);
        }
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let together = bits(together);
        assert_eq!(together, bits(alone), "{rows}×{depth}×{columns}, wide {wide}, {} together", V::TOGETHER);
        together
    }

    #[test]
    fn a_row_has_the_same_product_in_any_company_and_on_each_path() {
        for shape in [(64, 10), (342, 10), (2048, 1000), (600, 33), (1030, 48), (7, 1)] {
            for rows in [1, 2, 7, 12, 30] {
                if crate::available(Precision::F32) {
                    let narrow = alone_and_together::<f32>(false, rows, shape);
                    if is_x86_feature_detected!("avx512f") {
                        assert_eq!(narrow, alone_and_together::<f32>(true, rows, shape), "{rows} rows, {shape:?}");
                    }
                }
                if crate::available(Precision::Bf16) {
                    alone_and_together::<Bf16>(true, rows, shape);
                }
            }
        }
    }

    #[test]
    fn a_tile_is_the_same_on_every_processor() {
        let a: Vec<f32> = (0..12 * 20).map(|i| (i % 7) as f32 - 3.0).collect();
        let panel: Vec<f32> = (0..15 * PANEL).map(|i| (i % 5) as f32 - 2.0).collect();
        for (height, half) in [(1, false), (4, false), (3, true)] {
            let (mut plain, mut fast) = ([0f32; WIDE * PANEL], [0f32; WIDE * PANEL]);
            let tile = Tile { a: &a, stride: 20, height, panel: &panel, half };
            plain_tile(tile, &mut plain, PANEL);
            if crate::available(Precision::F32) {
                // SAFETY: the instructions were detected; there are 12 rows
                unsafe { tile256(tile, &mut fast, PANEL) };
                assert_eq!(plain, fast, "{height} rows: whole numbers have no rounding");
            }
        }
    }
}
