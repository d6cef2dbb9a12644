//! Products in f32 of many rows with sixteen vectors at a time, or with one: distances to centroids, coordinates along
//! directions, and where a processor has no fast small integers, candidates.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use crate::lanes::{Line, U, dot, floats, lines_of, sum_error};
use crate::path::Path;

/// Products that are summed before their sum joins the others: short sums round little.
const RUN: usize = 64;

/// Rows of a matrix, `stride` floats from one to the next, the first `d` of each.
#[derive(Clone, Copy)]
pub(crate) struct Table<'a> {
    values: &'a [f32],
    rows: usize,
    d: usize,
    stride: usize,
}

impl<'a> Table<'a> {
    pub(crate) fn new(values: &'a [f32], rows: usize, d: usize, stride: usize) -> Self {
        assert!(d > 0 && d <= stride && (rows == 0 || (rows - 1) * stride + d <= values.len()));
        Self { values, rows, d, stride }
    }

    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    pub(crate) fn dimension(&self) -> usize {
        self.d
    }

    #[inline(always)]
    fn row(&self, i: usize) -> &'a [f32] {
        &self.values[i * self.stride..][..self.d]
    }
}

/// Sixteen vectors of d numbers (where there are fewer, zeros stand for the rest), number by number: d lines.
pub(crate) fn panel<'a>(vectors: impl Iterator<Item = &'a [f32]>, d: usize, out: &mut Vec<Line>) {
    out.clear();
    out.resize(d, Line([0.0; 16]));
    for (lane, vector) in vectors.take(16).enumerate() {
        out.iter_mut().zip(vector).for_each(|(line, &value)| line.0[lane] = value);
    }
}

/// `out[i]` = the products of row i with the sixteen vectors of a panel.
pub(crate) fn products(path: Path, rows: Table<'_>, panel: &[Line], out: &mut [Line]) {
    assert_eq!(panel.len(), rows.d);
    assert_eq!(out.len(), rows.rows);
    match path {
        // SAFETY: a path is only used where the processor has its features.
        #[cfg(target_arch = "x86_64")]
        Path::Avx512Vnni => unsafe { products_avx512(rows, panel, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => unsafe { products_avx2(rows, panel, out) },
        _ => each::<4>(rows, out, |rows| portable(rows, panel)),
    }
}

/// γ of [`products`] and [`dots`]: a sum of d products is off by at most γ·Σ|aᵢbᵢ|.
pub(crate) fn product_error(d: usize) -> f64 {
    let nu = (RUN.min(d) + d.div_ceil(RUN) + 4) as f64 * U;
    (nu / (1.0 - nu)).max(sum_error(d))
}

/// `out[i]` = the product of row i with one vector, all in lines: where there are too few vectors for a panel.
pub(crate) fn dots(path: Path, rows: &[Line], vector: &[Line], out: &mut [f32]) {
    match path {
        // SAFETY: a path is only used where the processor has its features.
        #[cfg(target_arch = "x86_64")]
        Path::Avx512Vnni => unsafe { dots_avx512(rows, vector, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => unsafe { dots_avx2(rows, vector, out) },
        _ => dots_with::<false>(rows, vector, out),
    }
}

#[inline(always)]
fn dots_with<const FMA: bool>(rows: &[Line], vector: &[Line], out: &mut [f32]) {
    rows.chunks_exact(vector.len()).zip(out).for_each(|(row, out)| *out = dot::<FMA>(row, vector));
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn dots_avx2(rows: &[Line], vector: &[Line], out: &mut [f32]) {
    dots_with::<true>(rows, vector, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn dots_avx512(rows: &[Line], vector: &[Line], out: &mut [f32]) {
    let row = |i: usize| &rows[i * vector.len()..][..vector.len()];
    let last = out.len().saturating_sub(1);
    for (number, out) in out.chunks_mut(4).enumerate() {
        let found = crate::wide::dots(vector, std::array::from_fn(|part| row((4 * number + part).min(last))));
        out.copy_from_slice(&found[..out.len()]);
    }
}

/// Q rows at a time, the last ones with repetition.
#[inline(always)]
fn each<const Q: usize>(rows: Table<'_>, out: &mut [Line], some: impl Fn([&[f32]; Q]) -> [Line; Q]) {
    for (number, out) in out.chunks_mut(Q).enumerate() {
        let first = number * Q;
        let found = some(std::array::from_fn(|q| rows.row((first + q).min(rows.rows - 1))));
        out.copy_from_slice(&found[..out.len()]);
    }
}

/// One run of a panel, and the same numbers of each row.
#[inline(always)]
fn runs<'a, const Q: usize>(
    rows: [&'a [f32]; Q],
    panel: &'a [Line],
) -> impl Iterator<Item = ([&'a [f32]; Q], &'a [Line])> {
    panel
        .chunks(RUN)
        .enumerate()
        .map(move |(run, lines)| (std::array::from_fn(|q| &rows[q][run * RUN..][..lines.len()]), lines))
}

#[inline(always)]
fn portable<const Q: usize>(rows: [&[f32]; Q], panel: &[Line]) -> [Line; Q] {
    let mut all = [Line([0.0; 16]); Q];
    for (rows, lines) in runs(rows, panel) {
        let mut sums = [[0.0f32; 16]; Q];
        for (j, line) in lines.iter().enumerate() {
            for (sums, row) in sums.iter_mut().zip(&rows) {
                let value = row[j];
                sums.iter_mut().zip(&line.0).for_each(|(sum, of_panel)| *sum += value * of_panel);
            }
        }
        for (all, sums) in all.iter_mut().zip(&sums) {
            all.0.iter_mut().zip(sums).for_each(|(all, sum)| *all += sum);
        }
    }
    all
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn products_avx512(rows: Table<'_>, panel: &[Line], out: &mut [Line]) {
    each::<12>(rows, out, |rows| {
        let mut all = [_mm512_setzero_ps(); 12];
        for (rows, lines) in runs(rows, panel) {
            let mut sums = [_mm512_setzero_ps(); 12];
            for (j, line) in lines.iter().enumerate() {
                let line = crate::wide::load(line);
                for (sum, row) in sums.iter_mut().zip(&rows) {
                    *sum = _mm512_fmadd_ps(_mm512_set1_ps(row[j]), line, *sum);
                }
            }
            all.iter_mut().zip(sums).for_each(|(all, sum)| *all = _mm512_add_ps(*all, sum));
        }
        all.map(|sums| {
            let mut line = Line([0.0; 16]);
            // SAFETY: a line is 64 bytes at an address divisible by 64.
            unsafe { _mm512_store_ps(line.0.as_mut_ptr(), sums) };
            line
        })
    });
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn products_avx2(rows: Table<'_>, panel: &[Line], out: &mut [Line]) {
    each::<6>(rows, out, |rows| {
        let mut all = [[_mm256_setzero_ps(); 2]; 6];
        for (rows, lines) in runs(rows, panel) {
            let mut sums = [[_mm256_setzero_ps(); 2]; 6];
            for (j, line) in lines.iter().enumerate() {
                // SAFETY: a line is 64 bytes at an address divisible by 64: two halves.
                let line = unsafe { [_mm256_load_ps(line.0.as_ptr()), _mm256_load_ps(line.0[8..].as_ptr())] };
                for (sums, row) in sums.iter_mut().zip(&rows) {
                    let value = _mm256_set1_ps(row[j]);
                    for (sum, line) in sums.iter_mut().zip(&line) {
                        *sum = _mm256_fmadd_ps(value, *line, *sum);
                    }
                }
            }
            for (all, sums) in all.iter_mut().zip(&sums) {
                all.iter_mut().zip(sums).for_each(|(all, sum)| *all = _mm256_add_ps(*all, *sum));
            }
        }
        all.map(|sums| {
            let mut line = Line([0.0; 16]);
            let (low, high) = line.0.split_at_mut(8);
            // SAFETY: both halves are 32 bytes long.
            unsafe {
                _mm256_storeu_ps(low.as_mut_ptr(), sums[0]);
                _mm256_storeu_ps(high.as_mut_ptr(), sums[1]);
            }
            line
        })
    });
}

/// Vectors up to which [`dots`] is quicker than a panel with empty places.
pub(crate) const FEW: usize = 3;

/// `out[i][j]` = ⟨rowᵢ, directionⱼ⟩ of rows in lines; `out` has whole lines per row, as many as the directions take.
pub(crate) fn project(path: Path, rows: &[Line], directions: &[Line], d: usize, out: &mut [Line]) {
    let stride = lines_of(d);
    let count = directions.len() / stride;
    let table = Table::new(floats(directions), count, d, stride * 16);
    let (mut lines, mut sums) = (Vec::new(), vec![Line([0.0; 16]); count]);
    for (rows, out) in rows.chunks(16 * stride).zip(out.chunks_mut(16 * lines_of(count))) {
        if rows.len() <= FEW * stride {
            for (row, out) in rows.chunks_exact(stride).zip(out.chunks_exact_mut(lines_of(count))) {
                dots(path, directions, row, &mut bytemuck::cast_slice_mut(out)[..count]);
            }
            continue;
        }
        panel(floats(rows).chunks_exact(16 * stride).map(|row| &row[..d]), d, &mut lines);
        products(path, table, &lines, &mut sums);
        for (lane, out) in out.chunks_exact_mut(lines_of(count)).enumerate() {
            sums.iter().enumerate().for_each(|(j, sums)| out[j / 16].0[j % 16] = sums.0[lane]);
        }
    }
}
