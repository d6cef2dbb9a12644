//! Maximum mean discrepancy: have two samples of embeddings one distribution?

use std::cmp::Ordering;

use outskirt_exact::{Vectors, distance};
use rayon::prelude::*;

use super::sampling::mixed;

/// Ways in which rows are dealt to the two samples anew, besides as they are.
pub const PERMUTATIONS: u64 = 999;
/// Of those.
const SEED: u64 = 20;

/// What the test found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Discrepancy {
    /// MMD² of the kernel exp(−‖x − y‖² / 2σ²), σ the median distance of two rows; its unbiased estimate, about 0 (also below)
    /// where there is no difference, 2 at most.
    pub mmd2: f64,
    /// The share of 1,000 ways to deal the rows, those as they are among them, with a discrepancy as large.
    pub pvalue: f64,
    /// Share of the rows' variance, in the kernel's space, that lies between the samples, in [0, 1].
    pub effect_size: f64,
}

/// Compare two samples of normalised rows, n×d and m×d, in O((n + m)² · d); `None` where one has fewer than two rows.
///
/// Gretton, Borgwardt, Rasch, Schölkopf, Smola: *A Kernel Two-Sample Test*, JMLR 2012. The same rows give the same p-value,
/// whichever of the samples is named first.
pub fn discrepancy(one: Vectors<'_>, other: Vectors<'_>) -> Option<Discrepancy> {
    let [one, other] = if comes_first(one, other) { [one, other] } else { [other, one] };
    let (n, m) = (one.len(), other.len());
    if n < 2 || m < 2 {
        return None;
    }
    let kernel = Kernel::of(one, other);
    let found = kernel.split(&(0..n as u32).collect::<Vec<_>>());
    let as_large = (1..=PERMUTATIONS).into_par_iter().filter(|&deal| {
        // rounding must not tell ways apart that are the same but for the order of sums
        kernel.split(&kernel.deal(n, deal)).mmd2 >= found.mmd2 - 1e-12
    });
    let pvalue = (1 + as_large.count()) as f64 / (1 + PERMUTATIONS) as f64;
    let (p, q) = (n as f64 / (n + m) as f64, m as f64 / (n + m) as f64);
    // E k(x, x) − E k(x, y) is a variance, and k(x, x) = 1
    let within = p * (1.0 - found.one) + q * (1.0 - found.other);
    let between = p * q * found.mmd2.max(0.0);
    let effect_size = if between > 0.0 { between / (between + within) } else { 0.0 };
    Some(Discrepancy { mmd2: found.mmd2, pvalue, effect_size })
}

/// Whether a sample is the first of two: the smaller one, and of two of one size that whose numbers are smaller where they differ.
fn comes_first(one: Vectors<'_>, other: Vectors<'_>) -> bool {
    let differ = || one.values().iter().zip(other.values()).map(|(x, y)| x.total_cmp(y)).find(|order| order.is_ne());
    one.len().cmp(&other.len()).then_with(|| differ().unwrap_or(Ordering::Equal)).is_le()
}

/// The kernel of every two rows of both samples, those of the first one first.
struct Kernel {
    rows: usize,
    /// rows×rows.
    values: Vec<f32>,
    /// Sums of its rows without the diagonal, and of all of it.
    sums: Vec<f64>,
    sum: f64,
}

/// Means of the kernel over pairs of different rows.
struct Split {
    /// Within the first sample, and within the second.
    one: f64,
    other: f64,
    mmd2: f64,
}

impl Kernel {
    fn of(one: Vectors<'_>, other: Vectors<'_>) -> Self {
        let rows = one.len() + other.len();
        let row = |at: usize| if at < one.len() { one.row(at) } else { other.row(at - one.len()) };
        let mut values = vec![0.0f32; rows * rows];
        values.par_chunks_mut(rows).enumerate().for_each(|(at, values)| {
            values.iter_mut().enumerate().for_each(|(to, value)| *value = distance(row(at), row(to)) as f32);
        });
        let scale = -0.5 / scale(&values, rows).powi(2);
        values.par_iter_mut().for_each(|value| *value = (f64::from(*value).powi(2) * scale).exp() as f32);
        let sums: Vec<f64> = values
            .par_chunks(rows)
            .map(|values| values.iter().map(|&value| f64::from(value)).sum::<f64>() - 1.0)
            .collect();
        Self { rows, sum: sums.iter().sum(), values, sums }
    }

    /// `chosen` are the rows of the first sample, the others those of the second.
    fn split(&self, chosen: &[u32]) -> Split {
        let (n, m) = (chosen.len() as f64, (self.rows - chosen.len()) as f64);
        let pairs = |(at, &row): (usize, &u32)| {
            let values = &self.values[row as usize * self.rows..][..self.rows];
            chosen[..at].iter().map(|&other| f64::from(values[other as usize])).sum::<f64>()
        };
        let within = 2.0 * chosen.iter().enumerate().map(pairs).sum::<f64>();
        let across = chosen.iter().map(|&row| self.sums[row as usize]).sum::<f64>() - within;
        let others = self.sum - within - 2.0 * across;
        let (one, other) = (within / (n * (n - 1.0)), others / (m * (m - 1.0)));
        Split { one, other, mmd2: one + other - 2.0 * across / (n * m) }
    }

    /// `n` of the rows, drawn anew for each number of a deal.
    fn deal(&self, n: usize, deal: u64) -> Vec<u32> {
        let mut all: Vec<u32> = (0..self.rows as u32).collect();
        for at in 0..n {
            let left = (self.rows - at) as u128;
            // a share of 2⁶⁴, off by less than 2⁻⁵⁰
            let drawn = (u128::from(mixed(deal << 32 | at as u64, SEED)) * left) >> 64;
            all.swap(at, at + drawn as usize);
        }
        all.truncate(n);
        all
    }
}

/// The median distance of two different rows; the mean where most are equal, and 1 where all are.
fn scale(distances: &[f32], rows: usize) -> f64 {
    let above = distances.chunks(rows).enumerate();
    let mut pairs: Vec<f32> = above.flat_map(|(at, distances)| distances[at + 1..].iter().copied()).collect();
    let middle = pairs.len() / 2;
    let median = f64::from(*pairs.select_nth_unstable_by(middle, f32::total_cmp).1);
    let mean = pairs.iter().map(|&distance| f64::from(distance)).sum::<f64>() / pairs.len() as f64;
    [median, mean, 1.0].into_iter().find(|&scale| scale > 0.0).unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::simulated::Normal;

    fn sample(normal: &mut Normal, rows: usize, shift: f64) -> Vec<f32> {
        let mut units = Vec::new();
        for _ in 0..rows {
            let row: Vec<f32> = (0..4).map(|at| (normal.next() + if at == 0 { shift } else { 0.0 }) as f32).collect();
            outskirt_exact::normalize(&row, &mut units).unwrap();
        }
        units
    }

    /// MMD² and the variances by their definitions, pair by pair.
    #[test]
    fn equals_its_definition() {
        let mut normal = Normal::new(1);
        let (one, other) = (sample(&mut normal, 23, 0.0), sample(&mut normal, 31, 0.8));
        let all = [&one[..], &other].concat();
        let row = |at: usize| &all[4 * at..4 * at + 4];
        let squared = |a: usize, b: usize| {
            row(a).iter().zip(row(b)).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum::<f64>()
        };
        let mut distances: Vec<f64> =
            (0..54).flat_map(|a| (0..a).map(move |b| (a, b))).map(|(a, b)| squared(a, b)).collect();
        distances.sort_by(f64::total_cmp);
        let median = distances[distances.len() / 2];
        let kernel = |a: usize, b: usize| (-squared(a, b) / (2.0 * median)).exp();
        let mean = |these: std::ops::Range<usize>, those: std::ops::Range<usize>| {
            let pairs = these.flat_map(|a| those.clone().map(move |b| (a, b))).filter(|(a, b)| a != b);
            let values: Vec<f64> = pairs.map(|(a, b)| kernel(a, b)).collect();
            values.iter().sum::<f64>() / values.len() as f64
        };
        let (xx, yy, xy) = (mean(0..23, 0..23), mean(23..54, 23..54), mean(0..23, 23..54));
        let mmd2 = xx + yy - 2.0 * xy;
        let found = discrepancy(Vectors::new(&one, 4), Vectors::new(&other, 4)).unwrap();
        assert!((found.mmd2 - mmd2).abs() < 1e-5, "{found:?}, {mmd2}");
        let (p, q) = (23.0 / 54.0, 31.0 / 54.0);
        let (between, within) = (p * q * mmd2, p * (1.0 - xx) + q * (1.0 - yy));
        assert!((found.effect_size - between / (between + within)).abs() < 1e-4, "{found:?}");
        assert!(found.pvalue < 0.06, "{found:?}");
        assert_eq!(discrepancy(Vectors::new(&one, 4), Vectors::new(&other, 4)).unwrap(), found);
    }

    /// Of samples of one distribution a share p has a p-value of at most p.
    #[test]
    fn p_values_hold_what_they_say() {
        let mut normal = Normal::new(2);
        let mut small = 0;
        for _ in 0..150 {
            let (one, other) = (sample(&mut normal, 12, 0.3), sample(&mut normal, 9, 0.3));
            small += u32::from(discrepancy(Vectors::new(&one, 4), Vectors::new(&other, 4)).unwrap().pvalue <= 0.2);
        }
        // 30 expected, known to 5
        assert!((17..=45).contains(&small), "{small} of 150");
    }

    #[test]
    fn either_sample_may_come_first() {
        let mut normal = Normal::new(23);
        for (n, m) in [(20, 30), (25, 25)] {
            let (one, other) = (sample(&mut normal, n, 0.0), sample(&mut normal, m, 0.3));
            let (one, other) = (Vectors::new(&one, 4), Vectors::new(&other, 4));
            assert_eq!(discrepancy(one, other), discrepancy(other, one));
        }
    }

    #[test]
    fn copies_and_few_rows() {
        let same = [0.6f32, 0.8].repeat(5);
        let found = discrepancy(Vectors::new(&same, 2), Vectors::new(&same, 2)).unwrap();
        assert!(found.mmd2.abs() < 1e-12 && found.pvalue == 1.0 && found.effect_size.abs() < 1e-9, "{found:?}");
        assert_eq!(discrepancy(Vectors::new(&[0.6, 0.8], 2), Vectors::new(&same, 2)), None);
        // a few that differ among copies are seen: σ is no longer the median, which is 0
        let mut other = same.clone();
        other[..4].copy_from_slice(&[1.0, 0.0, 1.0, 0.0]);
        let found = discrepancy(Vectors::new(&same, 2), Vectors::new(&other, 2)).unwrap();
        assert!(found.mmd2 > 0.0 && found.pvalue < 1.0, "{found:?}");
    }
}
