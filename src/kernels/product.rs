//! Matrix products: rows of `a` times weights packed in panels of 32 columns.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Columns per panel: two vectors of AVX-512, four of AVX2.
const PANEL: usize = 32;
/// Rows that are multiplied at once.
const WIDE: usize = 12;
const NARROW: usize = 4;
/// Values of a row that are multiplied before the next panel: a panel of them stays in the second cache.
const DEPTH: usize = 512;

/// depth × columns weights, panel by panel, columns filled up with zeros.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    values: Vec<f32>,
    depth: usize,
    columns: usize,
}

impl Packed {
    /// `at(row, column)` gives the weights.
    pub(crate) fn new(depth: usize, columns: usize, at: impl Fn(usize, usize) -> f32) -> Self {
        let mut values = Vec::with_capacity(depth * columns.next_multiple_of(PANEL));
        for first in (0..columns).step_by(PANEL) {
            for row in 0..depth {
                values
                    .extend((first..first + PANEL).map(|column| if column < columns { at(row, column) } else { 0.0 }));
            }
        }
        Self { values, depth, columns }
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

/// [`product_in`] the instructions that the processor has.
pub(crate) fn product(a: &[f32], stride: usize, rows: usize, weights: &Packed, finish: Finish<'_>, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    let wide = is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    let wide = false;
    product_in(wide, a, stride, rows, weights, finish, out);
}

/// `out` (rows × columns) = `a` (rows of `stride` values, of which `depth` count) times `weights`, finished.
fn product_in(
    wide: bool,
    a: &[f32],
    stride: usize,
    rows: usize,
    weights: &Packed,
    finish: Finish<'_>,
    out: &mut [f32],
) {
    let Packed { values, depth, columns } = weights;
    let (depth, columns) = (*depth, *columns);
    assert!(depth > 0 && rows > 0 && stride >= depth && a.len() >= (rows - 1) * stride + depth);
    assert!(out.len() >= rows * columns && finish.add.is_none_or(|add| add.len() >= rows * columns));
    assert!(finish.bias.is_none_or(|bias| bias.len() == columns));
    let step = if wide { WIDE } else { NARROW };
    let mut sums = [0f32; WIDE * PANEL];
    for from in (0..depth).step_by(DEPTH) {
        let to = (from + DEPTH).min(depth);
        for (panel, first) in values.chunks_exact(depth * PANEL).zip((0..columns).step_by(PANEL)) {
            let panel = &panel[from * PANEL..to * PANEL];
            let count = PANEL.min(columns - first);
            let half = count <= PANEL / 2;
            for row in (0..rows).step_by(step) {
                let height = step.min(rows - row);
                let a = &a[row * stride + from..];
                assert!(a.len() >= (height - 1) * stride + (to - from));
                let finish = Finish {
                    bias: finish.bias.filter(|_| to == depth).map(|bias| &bias[first..]),
                    add: finish.add.filter(|_| to == depth).map(|add| &add[row * columns + first..]),
                    relu: finish.relu && to == depth,
                };
                let out = &mut out[row * columns + first..];
                // SAFETY: the instructions were detected, `available` for AVX2; `a` holds `height` rows as just checked.
                #[cfg(target_arch = "x86_64")]
                unsafe {
                    if wide {
                        tile512(a, stride, height, panel, half, &mut sums);
                    } else {
                        tile256(a, stride, height, panel, half, &mut sums);
                    }
                    store(&sums, height, count, columns, from > 0, finish, out);
                }
                #[cfg(not(target_arch = "x86_64"))]
                {
                    tile(a, stride, height, panel, half, &mut sums);
                    store(&sums, height, count, columns, from > 0, finish, out);
                }
            }
        }
    }
}

/// `height` rows times a panel, on any processor.
#[cfg(any(test, not(target_arch = "x86_64")))]
pub(crate) fn tile(a: &[f32], stride: usize, height: usize, panel: &[f32], half: bool, sums: &mut [f32]) {
    let columns = if half { PANEL / 2 } else { PANEL };
    for (row, sums) in sums.chunks_exact_mut(PANEL).take(height).enumerate() {
        sums[..columns].fill(0.0);
        for (value, weights) in a[row * stride..].iter().zip(panel.chunks_exact(PANEL)) {
            sums[..columns].iter_mut().zip(weights).for_each(|(sum, weight)| *sum += value * weight);
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
            16 => store_some::<16>(sums, at, onto, finish, out),
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
    ($name:ident, $rows:ident, $features:literal, $lanes:literal, $vectors:literal, $most:expr, [$($height:literal)*],
     $vector:ty, $zero:ident, $load:ident, $set:ident, $fma:ident, $store:ident) => {
        /// `height` rows times a panel.
        ///
        /// # Safety
        /// `a` holds `height` rows of `stride` values, the last of them as deep as the panel.
        #[target_feature(enable = $features)]
        unsafe fn $name(
            a: &[f32],
            stride: usize,
            height: usize,
            panel: &[f32],
            half: bool,
            sums: &mut [f32; WIDE * PANEL],
        ) {
            // SAFETY: the caller's
            unsafe {
                match (height, half) {
                    $(($height, false) => $rows::<$height, 2>(a, stride, panel, 2 * $vectors, sums),)*
                    (_, false) => $rows::<$most, 2>(a, stride, panel, 2 * $vectors, sums),
                    $(($height, true) => $rows::<$height, $vectors>(a, stride, panel, $vectors, sums),)*
                    (_, true) => $rows::<$most, $vectors>(a, stride, panel, $vectors, sums),
                }
            }
        }

        #[target_feature(enable = $features)]
        unsafe fn $rows<const H: usize, const PASS: usize>(
            a: &[f32],
            stride: usize,
            panel: &[f32],
            vectors: usize,
            sums: &mut [f32; WIDE * PANEL],
        ) {
            // as many at a time as the registers hold
            for column in (0..vectors).step_by(PASS) {
                let mut acc: [[$vector; PASS]; H] = [[$zero(); PASS]; H];
                for at in 0..panel.len() / PANEL {
                    // SAFETY: inside the panel, and inside the rows as the caller says
                    unsafe {
                        let weights = panel.as_ptr().add(at * PANEL + column * $lanes);
                        let mut loaded = [$zero(); PASS];
                        for (lane, loaded) in loaded.iter_mut().enumerate() {
                            *loaded = $load(weights.add(lane * $lanes));
                        }
                        for row in 0..H {
                            let value = $set(*a.as_ptr().add(row * stride + at));
                            for lane in 0..PASS {
                                acc[row][lane] = $fma(value, loaded[lane], acc[row][lane]);
                            }
                        }
                    }
                }
                for row in 0..H {
                    for lane in 0..PASS {
                        // SAFETY: H is at most WIDE
                        unsafe {
                            $store(sums.as_mut_ptr().add(row * PANEL + (column + lane) * $lanes), acc[row][lane]);
                        }
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
tile!(tile512, rows512, "avx512f", 16, 1, 12, [1 2 3 4 5 6 7 8 9 10 11], __m512,
    _mm512_setzero_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_storeu_ps);
#[cfg(target_arch = "x86_64")]
tile!(tile256, rows256, "avx2,fma", 8, 2, 4, [1 2 3], __m256,
    _mm256_setzero_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_storeu_ps);

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn avx2_and_avx512_give_the_same_product() {
        if !crate::available() {
            return;
        }
        for (rows, depth, columns) in [(1, 3, 1), (13, 600, 33), (48, 7, 64), (5, 20, 16)] {
            let a: Vec<f32> = (0..rows * depth).map(|i| (i % 7) as f32 - 3.0).collect();
            let weights = Packed::new(depth, columns, |row, column| ((row + 3 * column) % 5) as f32 - 2.0);
            let expected: Vec<f32> = (0..rows * columns)
                .map(|at| {
                    let (row, column) = (at / columns, at % columns);
                    let sum: f32 = (0..depth).map(|d| a[row * depth + d] * (((d + 3 * column) % 5) as f32 - 2.0)).sum();
                    (sum + 1.0).max(0.0)
                })
                .collect();
            let bias = vec![1.0; columns];
            let finish = Finish { bias: Some(&bias), add: None, relu: true };
            for wide in [false, true] {
                if wide && !is_x86_feature_detected!("avx512f") {
                    continue;
                }
                let mut out = vec![f32::NAN; rows * columns];
                product_in(wide, &a, depth, rows, &weights, finish, &mut out);
                assert_eq!(out, expected, "whole numbers have no rounding: {rows}×{depth}×{columns}, wide {wide}");
            }
        }
    }

    #[test]
    fn a_tile_is_the_same_on_every_processor() {
        let a: Vec<f32> = (0..12 * 20).map(|i| (i % 7) as f32 - 3.0).collect();
        let panel: Vec<f32> = (0..15 * PANEL).map(|i| (i % 5) as f32 - 2.0).collect();
        for (height, half) in [(1, false), (4, false), (3, true)] {
            let (mut plain, mut fast) = ([0f32; WIDE * PANEL], [0f32; WIDE * PANEL]);
            tile(&a, 20, height, &panel, half, &mut plain);
            if crate::available() {
                // SAFETY: the instructions were detected; there are 12 rows
                unsafe { tile256(&a, 20, height, &panel, half, &mut fast) };
                assert_eq!(plain, fast, "{height} rows: whole numbers have no rounding");
            }
        }
    }
}
