//! Row-major n×d views of f32 vectors, the one place where they are normalised, and their distance in f64.

use rayon::prelude::*;

use crate::error::Error;

/// Numbers of a vector, at most: of more, roundings are not bounded, and sums of codes take more than 31 bits.
pub const MOST_NUMBERS: usize = 1 << 17;

/// A borrowed row-major n×d matrix of f32.
#[derive(Debug, Clone, Copy)]
pub struct Vectors<'a> {
    values: &'a [f32],
    dimension: usize,
}

impl<'a> Vectors<'a> {
    /// View `values` as rows of `dimension` numbers. Panics where the length is not a multiple of it.
    pub fn new(values: &'a [f32], dimension: usize) -> Self {
        assert!(dimension > 0 && values.len().is_multiple_of(dimension), "n×d values in rows of d");
        Self { values, dimension }
    }

    /// The same, or why not.
    pub fn checked(values: &'a [f32], dimension: usize) -> Result<Self, Error> {
        if dimension == 0 || dimension > MOST_NUMBERS {
            return Err(Error::Dimension { given: dimension, most: MOST_NUMBERS });
        }
        if !values.len().is_multiple_of(dimension) {
            return Err(Error::Length { numbers: values.len(), dimension });
        }
        Ok(Self { values, dimension })
    }

    /// Number of rows, n.
    pub fn len(&self) -> usize {
        self.values.len() / self.dimension
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Numbers per row, d.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Row `i`.
    pub fn row(&self, i: usize) -> &'a [f32] {
        &self.values[i * self.dimension..(i + 1) * self.dimension]
    }

    /// Rows `from..to` as a matrix of their own.
    pub fn rows(&self, from: usize, to: usize) -> Vectors<'a> {
        Vectors { values: &self.values[from * self.dimension..to * self.dimension], dimension: self.dimension }
    }

    /// All values, row after row.
    pub fn values(&self) -> &'a [f32] {
        self.values
    }
}

/// Append x / ‖x‖₂ to `out`. The norm is taken in f64, so that neither tiny nor huge values over- or underflow.
///
/// Errors: "not finite" or "all zero"; the caller knows which row it is and says so. Nothing is appended then.
pub fn normalize(x: &[f32], out: &mut Vec<f32>) -> Result<(), &'static str> {
    let norm = product(x, x).sqrt();
    if !norm.is_finite() {
        return Err("not finite");
    }
    if norm == 0.0 {
        return Err("all zero");
    }
    let inverse = 1.0 / norm;
    out.extend(x.iter().map(|&v| (f64::from(v) * inverse) as f32));
    Ok(())
}

/// All rows [normalised](normalize), on all threads.
///
/// Errors: the first row that cannot be, and why.
pub fn normalized(rows: Vectors<'_>) -> Result<Vec<f32>, (usize, &'static str)> {
    /// Rows that a thread takes at once.
    const ROWS: usize = 256;
    let dimension = rows.dimension();
    let mut units = vec![0.0; rows.values().len()];
    let parts = units.par_chunks_mut(ROWS * dimension).zip(rows.values().par_chunks(ROWS * dimension)).enumerate();
    let first_bad = parts.filter_map(|(part, (units, rows))| {
        let mut unit = Vec::with_capacity(dimension);
        units.chunks_exact_mut(dimension).zip(rows.chunks_exact(dimension)).enumerate().find_map(|(row, (to, from))| {
            unit.clear();
            match normalize(from, &mut unit) {
                Ok(()) => {
                    to.copy_from_slice(&unit);
                    None
                }
                Err(problem) => Some((part * ROWS + row, problem)),
            }
        })
    });
    match first_bad.min_by_key(|(row, _)| *row) {
        Some(bad) => Err(bad),
        None => Ok(units),
    }
}

/// Whether a vector has a norm of 1 ± `within`; not for numbers that are not finite.
pub(crate) fn is_unit(vector: &[f32], within: f64) -> bool {
    (product(vector, vector).sqrt() - 1.0).abs() <= within
}

/// Euclidean distance of two vectors of equal length, summed in f64.
pub fn distance(a: &[f32], b: &[f32]) -> f64 {
    squared(a, b).sqrt()
}

/// Its square.
pub(crate) fn squared(a: &[f32], b: &[f32]) -> f64 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the instructions were detected
        return unsafe { squared_avx512(a, b) };
    }
    sum(a, b, |x, y| (x - y) * (x - y))
}

/// The same sums, eight of them in one register.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn squared_avx512(a: &[f32], b: &[f32]) -> f64 {
    sum(a, b, |x, y| (x - y) * (x - y))
}

/// Inner product of two vectors of equal length, summed in f64.
pub(crate) fn product(a: &[f32], b: &[f32]) -> f64 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the instructions were detected
        return unsafe { product_avx512(a, b) };
    }
    sum(a, b, |x, y| x * y)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn product_avx512(a: &[f32], b: &[f32]) -> f64 {
    sum(a, b, |x, y| x * y)
}

/// Eight sums at once: one chain of dependent additions would wait on itself. They are added up in the same order whatever
/// the instructions, and no product is fused with a sum, so that every processor finds the same.
#[inline(always)]
fn sum(a: &[f32], b: &[f32], each: impl Fn(f64, f64) -> f64) -> f64 {
    let mut sums = [0.0f64; 8];
    let (a8, a_rest) = a.as_chunks::<8>();
    let (b8, b_rest) = b.as_chunks::<8>();
    for (x, y) in a8.iter().zip(b8) {
        for lane in 0..8 {
            sums[lane] += each(f64::from(x[lane]), f64::from(y[lane]));
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(&x, &y)| each(f64::from(x), f64::from(y))).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_processor_finds_the_same_distance() {
        let value = |i: usize| ((i * 7919 + 13) % 1009) as f32 / 977.0 - 0.5;
        for d in [1, 7, 8, 9, 64, 333, 2048] {
            let (a, b): (Vec<f32>, Vec<f32>) = (0..d).map(|i| (value(i), value(3 * i + 1))).unzip();
            let plain = sum(&a, &b, |x, y| (x - y) * (x - y));
            assert_eq!(squared(&a, &b).to_bits(), plain.to_bits(), "{d} numbers");
            assert_eq!(product(&a, &b).to_bits(), sum(&a, &b, |x, y| x * y).to_bits(), "{d} numbers");
        }
    }
}
