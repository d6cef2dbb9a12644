//! Gaussians of many vectors at once, in f64: sums of products, triangular systems, and squared distances to means.
//!
//! Vectors come as columns: number after number, [`COLUMNS`] vectors side by side, so that the loops run over vectors and the factor
//! is read once for all of them. Each value is summed in one order, whatever the vectors beside it; with FMA and without it the
//! last bits differ.

/// Vectors that are worked on together.
pub const COLUMNS: usize = 16;
/// Rows of a matrix that are worked on together.
const ROWS: usize = 4;

type Columns = [f64; COLUMNS];

/// Call a function with the widest instructions that this processor has.
macro_rules! dispatch {
    ($name:ident($($argument:ident: $type:ty),*)) => {{
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx512f")]
            fn wide($($argument: $type),*) {
                $name::<true>($($argument),*);
            }
            #[target_feature(enable = "avx2,fma")]
            fn narrow($($argument: $type),*) {
                $name::<true>($($argument),*);
            }
            if std::arch::is_x86_feature_detected!("avx512f") {
                // SAFETY: the processor has the instructions.
                return unsafe { wide($($argument),*) };
            }
            if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                // SAFETY: as above.
                return unsafe { narrow($($argument),*) };
            }
        }
        $name::<false>($($argument),*);
    }};
}

fn columns(values: &[f64]) -> &[Columns] {
    values.as_chunks().0
}

#[inline(always)]
fn add_product<const FMA: bool>(sum: &mut Columns, factor: f64, values: &Columns) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum = if FMA { factor.mul_add(*value, *sum) } else { *sum + factor * value };
    }
}

/// x with L·x = b, in place of b, for [`COLUMNS`] vectors b: `sides` is d×[`COLUMNS`]. Of `factor`, row-major d×d, the lower triangle
/// is read.
///
/// Panics where lengths do not fit.
pub fn solve_lower(factor: &[f64], d: usize, sides: &mut [f64]) {
    assert_eq!((factor.len(), sides.len()), (d * d, d * COLUMNS), "d×d, and d×{COLUMNS}");
    dispatch!(solve(factor: &[f64], d: usize, sides: &mut [f64]));
}

#[inline(always)]
fn solve<const FMA: bool>(factor: &[f64], d: usize, sides: &mut [f64]) {
    for first in (0..d).step_by(ROWS) {
        let (done, rest) = sides.split_at_mut(first * COLUMNS);
        let (done, rest) = (columns(done), rest.as_chunks_mut::<COLUMNS>().0);
        let row = |at: usize| &factor[(first + at) * d..][..first + at + 1];
        let count = ROWS.min(d - first);
        let mut sums = [[0.0; COLUMNS]; ROWS];
        if count == ROWS {
            let rows: [&[f64]; ROWS] = std::array::from_fn(|at| &row(at)[..done.len()]);
            for (at, x) in done.iter().enumerate() {
                for (sum, row) in sums.iter_mut().zip(rows) {
                    add_product::<FMA>(sum, row[at], x);
                }
            }
        } else {
            for (at, sum) in sums.iter_mut().enumerate().take(count) {
                row(at).iter().zip(done).for_each(|(factor, x)| add_product::<FMA>(sum, *factor, x));
            }
        }
        for (at, mut sum) in sums.into_iter().enumerate().take(count) {
            let row = row(at);
            (0..at).for_each(|before| add_product::<FMA>(&mut sum, row[first + before], &rest[before]));
            let side = &mut rest[at];
            side.iter_mut().zip(&sum).for_each(|(b, sum)| *b = (*b - sum) / row[first + at]);
        }
    }
}

/// The least squared distance of each of [`COLUMNS`] vectors, d×[`COLUMNS`], to the means, each of d numbers; infinite without any.
///
/// Panics where lengths do not fit.
pub fn least_squares(means: &[f64], d: usize, vectors: &[f64]) -> [f64; COLUMNS] {
    assert!(means.len().is_multiple_of(d) && vectors.len() == d * COLUMNS, "means of d numbers, and d×{COLUMNS}");
    let mut least = [f64::INFINITY; COLUMNS];
    lower(means, d, vectors, &mut least);
    least
}

fn lower(means: &[f64], d: usize, vectors: &[f64], least: &mut Columns) {
    dispatch!(squares(means: &[f64], d: usize, vectors: &[f64], least: &mut Columns));
}

#[inline(always)]
fn squares<const FMA: bool>(means: &[f64], d: usize, vectors: &[f64], least: &mut Columns) {
    let vectors = columns(vectors);
    for means in means.chunks(ROWS * d) {
        let mut sums = [[0.0; COLUMNS]; ROWS];
        for (sum, mean) in sums.iter_mut().zip(means.chunks_exact(d)) {
            for (x, mean) in vectors.iter().zip(mean) {
                for (sum, x) in sum.iter_mut().zip(x) {
                    let off = x - mean;
                    *sum = if FMA { off.mul_add(off, *sum) } else { *sum + off * off };
                }
            }
        }
        for sum in sums.iter().take(means.len() / d) {
            least.iter_mut().zip(sum).for_each(|(least, sum)| *least = least.min(*sum));
        }
    }
}

/// Add Σ x·xᵀ over rows x, each of d numbers, to some rows of the upper triangle of a d×d matrix: those from `first` on, as many as
/// `products` has, each of d numbers of which those before the diagonal are of no account.
///
/// Panics where lengths do not fit.
pub fn add_products(rows: &[f64], d: usize, first: usize, products: &mut [f64]) {
    assert!(rows.len().is_multiple_of(d) && products.len().is_multiple_of(d), "rows of d numbers");
    assert!(first + products.len() / d <= d, "rows of a d×d matrix");
    dispatch!(products_of(rows: &[f64], d: usize, first: usize, products: &mut [f64]));
}

#[inline(always)]
fn products_of<const FMA: bool>(rows: &[f64], d: usize, first: usize, products: &mut [f64]) {
    let whole = d / COLUMNS * COLUMNS;
    for (block, products) in products.chunks_mut(ROWS * d).enumerate() {
        let row = first + block * ROWS;
        let count = products.len() / d;
        // whole columns from the diagonal on; what lies before it in the first of them is of no account
        for column in (row / COLUMNS * COLUMNS..whole).step_by(COLUMNS) {
            let mut sums = [[0.0; COLUMNS]; ROWS];
            for x in rows.chunks_exact(d) {
                let Some(values) = x[column..].first_chunk::<COLUMNS>() else { continue };
                if let Some(factors) = x[row..].first_chunk::<ROWS>() {
                    sums.iter_mut().zip(factors).for_each(|(sum, factor)| add_product::<FMA>(sum, *factor, values));
                } else {
                    sums.iter_mut().zip(&x[row..]).for_each(|(sum, factor)| add_product::<FMA>(sum, *factor, values));
                }
            }
            for (sum, products) in sums.iter().zip(products.chunks_exact_mut(d)) {
                products[column..column + COLUMNS].iter_mut().zip(sum).for_each(|(total, sum)| *total += sum);
            }
        }
        for x in rows.chunks_exact(d) {
            for at in 0..count {
                let factor = x[row + at];
                let from = whole.max(row + at);
                products[at * d + from..(at + 1) * d]
                    .iter_mut()
                    .zip(&x[from..])
                    .for_each(|(sum, y)| *sum += factor * y);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers between −1 and 1 without an order.
    fn numbers(count: usize, seed: u64) -> Vec<f64> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// As slow twins do it, a vector and a number at a time.
    #[test]
    fn gaussians_of_many_vectors_are_those_of_each() {
        for d in [1, 2, 3, 4, 5, 15, 16, 17, 33, 64, 130] {
            let mut factor = numbers(d * d, d as u64);
            (0..d).for_each(|at| factor[at * d + at] = 2.0 + factor[at * d + at].abs());
            let sides = numbers(d * COLUMNS, 7 + d as u64);
            let mut solved = sides.clone();
            solve_lower(&factor, d, &mut solved);
            let means = numbers(7 * d, 99);
            let least = least_squares(&means, d, &solved);
            for vector in 0..COLUMNS {
                let mut plain: Vec<f64> = (0..d).map(|at| sides[at * COLUMNS + vector]).collect();
                for row in 0..d {
                    let sum: f64 = (0..row).map(|before| factor[row * d + before] * plain[before]).sum();
                    plain[row] = (plain[row] - sum) / factor[row * d + row];
                }
                let largest = plain.iter().fold(1.0f64, |most, x| most.max(x.abs()));
                for (at, plain) in plain.iter().enumerate() {
                    let found = solved[at * COLUMNS + vector];
                    assert!((found - plain).abs() <= 1e-11 * largest, "{d}, {at}: {found}, {plain}");
                }
                let squares = means.chunks(d).map(|mean| mean.iter().zip(&plain).map(|(a, b)| (a - b) * (a - b)).sum());
                let expected = squares.fold(f64::INFINITY, f64::min);
                assert!((least[vector] - expected).abs() <= 1e-11 * expected, "{d}: {}, {expected}", least[vector]);
            }
            for count in [1, 3, 40] {
                let rows = numbers(count * d, 3);
                let mut products = vec![1.0; d * d];
                // in two parts, as threads would
                let (above, below) = products.split_at_mut(d / 3 * d);
                add_products(&rows, d, 0, above);
                add_products(&rows, d, d / 3, below);
                for row in 0..d {
                    for column in row..d {
                        let plain: f64 = 1.0 + rows.chunks(d).map(|x| x[row] * x[column]).sum::<f64>();
                        let found = products[row * d + column];
                        assert!(
                            (found - plain).abs() <= 1e-12 * count as f64,
                            "{d}, {row}, {column}: {found}, {plain}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn without_means_every_distance_is_infinite() {
        assert_eq!(least_squares(&[], 3, &[0.0; 3 * COLUMNS]), [f64::INFINITY; COLUMNS]);
    }
}
