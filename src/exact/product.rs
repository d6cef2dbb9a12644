//! Products in f32 of many rows with sixteen vectors at a time, or with one: distances to centroids, coordinates along
//! directions, and where a processor has no fast small integers, candidates.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use crate::lanes::{Line, dot, floats, lines_of, to_lines};
use crate::path::Path;
use crate::vectors::Vectors;

/// Products that are summed before their sum joins the others: short sums round little.
pub(crate) const RUN: usize = 64;

/// Rows of d numbers, some beside each other, number by number, as the kernel of a path reads them. (Read row by row,
/// rows whose length is a power of two fall on the same few places of the first cache.)
#[derive(Debug)]
pub(crate) struct Table {
    values: Vec<f32>,
    rows: usize,
    d: usize,
}

/// Rows beside each other: their sums, and what is multiplied, fill the registers.
const WIDE: usize = 12;
const NARROW: usize = 6;

fn beside(path: Path) -> usize {
    if path == Path::Avx512Vnni { WIDE } else { NARROW }
}

impl Table {
    /// Of rows in order; where the last ones have no others beside them, zeros stand there.
    pub(crate) fn new<'a>(path: Path, rows: impl ExactSizeIterator<Item = &'a [f32]>, d: usize) -> Self {
        let (count, beside) = (rows.len(), beside(path));
        let mut values = vec![0.0; count.div_ceil(beside) * beside * d];
        for (i, row) in rows.enumerate() {
            let group = &mut values[i / beside * beside * d..][..beside * d];
            group.iter_mut().skip(i % beside).step_by(beside).zip(row).for_each(|(value, &number)| *value = number);
        }
        Self { values, rows: count, d }
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.rows
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
pub(crate) fn products(path: Path, rows: &Table, panel: &[Line], out: &mut [Line]) {
    assert_eq!(panel.len(), rows.d);
    assert_eq!(out.len(), rows.rows);
    match path {
        // SAFETY: a path is only used where the processor has its features.
        #[cfg(target_arch = "x86_64")]
        Path::Avx512Vnni => unsafe { products_avx512(rows, panel, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => unsafe { products_avx2(rows, panel, out) },
        _ => products_portable(rows, panel, out),
    }
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

/// Runs of a panel, and of Q rows beside each other.
#[inline(always)]
fn runs<'a, const Q: usize>(group: &'a [f32], panel: &'a [Line]) -> impl Iterator<Item = (&'a [[f32; Q]], &'a [Line])> {
    group.as_chunks::<Q>().0.chunks(RUN).zip(panel.chunks(RUN))
}

fn products_portable(rows: &Table, panel: &[Line], out: &mut [Line]) {
    for (group, out) in rows.values.chunks_exact(NARROW * rows.d).zip(out.chunks_mut(NARROW)) {
        let mut all = [Line([0.0; 16]); NARROW];
        for (values, lines) in runs::<NARROW>(group, panel) {
            let mut sums = [[0.0f32; 16]; NARROW];
            for (values, line) in values.iter().zip(lines) {
                for (sums, value) in sums.iter_mut().zip(values) {
                    sums.iter_mut().zip(&line.0).for_each(|(sum, of_panel)| *sum += value * of_panel);
                }
            }
            for (all, sums) in all.iter_mut().zip(&sums) {
                all.0.iter_mut().zip(sums).for_each(|(all, sum)| *all += sum);
            }
        }
        out.copy_from_slice(&all[..out.len()]);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn products_avx512(rows: &Table, panel: &[Line], out: &mut [Line]) {
    for (group, out) in rows.values.chunks_exact(WIDE * rows.d).zip(out.chunks_mut(WIDE)) {
        let mut all = [_mm512_setzero_ps(); WIDE];
        for (values, lines) in runs::<WIDE>(group, panel) {
            let mut sums = [_mm512_setzero_ps(); WIDE];
            for (values, line) in values.iter().zip(lines) {
                let line = crate::wide::load(line);
                for (sum, &value) in sums.iter_mut().zip(values) {
                    *sum = _mm512_fmadd_ps(_mm512_set1_ps(value), line, *sum);
                }
            }
            all.iter_mut().zip(sums).for_each(|(all, sum)| *all = _mm512_add_ps(*all, sum));
        }
        for (out, sums) in out.iter_mut().zip(all) {
            // SAFETY: a line is 64 bytes at an address divisible by 64.
            unsafe { _mm512_store_ps(out.0.as_mut_ptr(), sums) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn products_avx2(rows: &Table, panel: &[Line], out: &mut [Line]) {
    for (group, out) in rows.values.chunks_exact(NARROW * rows.d).zip(out.chunks_mut(NARROW)) {
        let mut all = [[_mm256_setzero_ps(); 2]; NARROW];
        for (values, lines) in runs::<NARROW>(group, panel) {
            let mut sums = [[_mm256_setzero_ps(); 2]; NARROW];
            for (values, line) in values.iter().zip(lines) {
                // SAFETY: a line is 64 bytes at an address divisible by 64: two halves.
                let line = unsafe { [_mm256_load_ps(line.0.as_ptr()), _mm256_load_ps(line.0[8..].as_ptr())] };
                for (sums, &value) in sums.iter_mut().zip(values) {
                    let value = _mm256_set1_ps(value);
                    for (sum, line) in sums.iter_mut().zip(&line) {
                        *sum = _mm256_fmadd_ps(value, *line, *sum);
                    }
                }
            }
            for (all, sums) in all.iter_mut().zip(&sums) {
                all.iter_mut().zip(sums).for_each(|(all, sum)| *all = _mm256_add_ps(*all, *sum));
            }
        }
        for (out, sums) in out.iter_mut().zip(&all) {
            let (low, high) = out.0.split_at_mut(8);
            // SAFETY: both halves are 32 bytes long.
            unsafe {
                _mm256_storeu_ps(low.as_mut_ptr(), sums[0]);
                _mm256_storeu_ps(high.as_mut_ptr(), sums[1]);
            }
        }
    }
}

/// Directions onto which rows are projected.
#[derive(Debug)]
pub(crate) struct Directions {
    d: usize,
    lines: Vec<Line>,
    table: Table,
}

impl Directions {
    /// Of row-major directions of d numbers.
    pub(crate) fn new(path: Path, directions: &[f32], d: usize) -> Self {
        let table = Table::new(path, directions.chunks_exact(d), d);
        Self { d, lines: to_lines(Vectors::new(directions, d)), table }
    }

    /// The directions in f64.
    #[cfg(test)]
    pub(crate) fn rows(&self) -> impl Iterator<Item = Vec<f64>> + '_ {
        self.lines
            .chunks_exact(lines_of(self.d))
            .map(|row| floats(row)[..self.d].iter().map(|&v| f64::from(v)).collect())
    }

    /// Coordinates of rows in lines along the directions, in whole lines per row.
    pub(crate) fn project(&self, path: Path, rows: &[Line]) -> Vec<Line> {
        let (d, stride, count) = (self.d, lines_of(self.d), self.table.len());
        let width = lines_of(count);
        let mut out = vec![Line([0.0; 16]); rows.len() / stride * width];
        let (mut lines, mut sums) = (Vec::new(), vec![Line([0.0; 16]); count]);
        for (rows, out) in rows.chunks(16 * stride).zip(out.chunks_mut(16 * width)) {
            if rows.len() <= FEW * stride {
                for (row, out) in rows.chunks_exact(stride).zip(out.chunks_exact_mut(width)) {
                    dots(path, &self.lines, row, &mut bytemuck::cast_slice_mut(out)[..count]);
                }
                continue;
            }
            panel(floats(rows).chunks_exact(16 * stride).map(|row| &row[..d]), d, &mut lines);
            products(path, &self.table, &lines, &mut sums);
            for (lane, out) in out.chunks_exact_mut(width).enumerate() {
                sums.iter().enumerate().for_each(|(j, sums)| out[j / 16].0[j % 16] = sums.0[lane]);
            }
        }
        out
    }
}

/// Vectors up to which [`dots`] is quicker than a panel with empty places.
pub(crate) const FEW: usize = 3;
