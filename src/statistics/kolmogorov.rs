//! The two-sample test of Kolmogorov and Smirnov: have two samples one distribution?

/// Products of the samples' sizes up to which the p-value is exact: that many steps.
const MOST_STEPS: u64 = 30_000_000;

/// What the test found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KolmogorovSmirnov {
    /// The largest difference of the shares of both samples that lie up to some number, in [0, 1].
    pub d: f64,
    /// The chance of a difference as large between samples of one distribution.
    pub pvalue: f64,
}

/// Compare two samples, in any order and without NaN; `None` where one is empty.
///
/// The p-value is two-sided: exact up to 30,000,000 pairs of rows, of paths on a lattice (Hodges, *Arkiv för Matematik* 1958), as
/// SciPy's `ks_2samp(method='exact')`; beyond that Kolmogorov's limit with Stephens's correction (JRSS B 1970), which is within a
/// few percent of it. With ties it is too large rather than too small.
pub fn kolmogorov_smirnov(one: &[f64], other: &[f64]) -> Option<KolmogorovSmirnov> {
    if one.is_empty() || other.is_empty() {
        return None;
    }
    let ascending = |sample: &[f64]| {
        let mut sample = sample.to_vec();
        sample.sort_unstable_by(f64::total_cmp);
        sample
    };
    let (one, other) = (ascending(one), ascending(other));
    let (n, m) = (one.len() as u64, other.len() as u64);
    // |i / n − j / m| in whole numbers, times n·m
    let (mut i, mut j, mut furthest) = (0, 0, 0);
    while i < one.len() && j < other.len() {
        let at = one[i].min(other[j]);
        while one.get(i).is_some_and(|&value| value <= at) {
            i += 1;
        }
        while other.get(j).is_some_and(|&value| value <= at) {
            j += 1;
        }
        furthest = furthest.max((i as u64 * m).abs_diff(j as u64 * n));
    }
    let d = furthest as f64 / (n as f64 * m as f64);
    let pvalue = if n.saturating_mul(m) <= MOST_STEPS { exact(n, m, furthest) } else { limit(n as f64, m as f64, d) };
    Some(KolmogorovSmirnov { d, pvalue })
}

/// The share of all paths from (0, 0) to (n, m), steps to the right or up, that touch |i·m − j·n| ≥ `furthest`.
///
/// A path to (i, j) came from the left with a chance of i / (i + j): of those that have not been outside, nothing is taken
/// away, so that the smallest p-values are right too.
fn exact(n: u64, m: u64, furthest: u64) -> f64 {
    let outside = |i: u64, j: u64| (i * m).abs_diff(j * n) >= furthest;
    // by j, of paths to (i, j): the share that has been outside
    let mut touched = vec![0.0; m as usize + 1];
    for i in 0..=n {
        for j in 0..=m {
            let share = if outside(i, j) {
                1.0
            } else if i + j == 0 {
                0.0
            } else {
                let left = if i > 0 { i as f64 * touched[j as usize] } else { 0.0 };
                let below = if j > 0 { j as f64 * touched[j as usize - 1] } else { 0.0 };
                (left + below) / (i + j) as f64
            };
            touched[j as usize] = share;
        }
    }
    touched[m as usize]
}

/// P(K ≥ λ) of Kolmogorov's distribution.
fn limit(n: f64, m: f64, d: f64) -> f64 {
    use std::f64::consts::PI;
    let root = (n * m / (n + m)).sqrt();
    let lambda = (root + 0.12 + 0.11 / root) * d;
    if lambda < 1e-3 {
        return 1.0;
    }
    // two series for the same: each where a few terms do
    if lambda < 1.0 {
        let terms = (1..=20).map(|k| (-((2 * k - 1) as f64 * PI / lambda).powi(2) / 8.0).exp());
        1.0 - (2.0 * PI).sqrt() / lambda * terms.sum::<f64>()
    } else {
        let terms = (1..=20).map(|k: i32| f64::from(1 - 2 * (k % 2)) * (-2.0 * (f64::from(k) * lambda).powi(2)).exp());
        // never −0
        (0.0 - 2.0 * terms.sum::<f64>()).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::simulated::Normal;

    /// ```python
    /// from scipy.stats import ks_2samp
    /// a = [i * 7 % 23 + i / 100 for i in range(40)]
    /// for n, shift in ((25, 3), (40, 9), (7, 40)):
    ///     b = [i * 5 % 19 + shift + i / 90 + .001 for i in range(n)]
    ///     print(ks_2samp(a, b, method='exact'))
    /// ```
    #[test]
    fn equals_scipy() {
        let a: Vec<f64> = (0..40).map(|i| f64::from(i * 7 % 23) + f64::from(i) / 100.0).collect();
        for (n, shift, d, pvalue) in [
            (25, 3, 0.125, 0.9436337516874128),
            (40, 9, 0.4, 0.003018184077228396),
            (7, 40, 1.0, 3.180080029576017e-08),
        ] {
            let b: Vec<f64> =
                (0..n).map(|i| f64::from(i * 5 % 19) + f64::from(shift) + f64::from(i) / 90.0 + 0.001).collect();
            for found in [kolmogorov_smirnov(&a, &b), kolmogorov_smirnov(&b, &a)] {
                let found = found.unwrap();
                assert!((found.d - d).abs() < 1e-12, "{found:?}, {d}");
                assert!((found.pvalue - pvalue).abs() < 1e-9 * pvalue, "{found:?}, {pvalue}");
            }
        }
    }

    #[test]
    fn equal_disjoint_and_tied_samples() {
        let same = kolmogorov_smirnov(&[1.0, 2.0, 2.0], &[2.0, 1.0, 2.0]).unwrap();
        assert_eq!((same.d, same.pvalue), (0.0, 1.0));
        // of 20 orders of three and three, two lie apart
        let apart = kolmogorov_smirnov(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]).unwrap();
        assert!(apart.d == 1.0 && (apart.pvalue - 0.1).abs() < 1e-15, "{apart:?}");
        // ties between the samples are one step of both
        assert_eq!(kolmogorov_smirnov(&[1.0, 1.0, 2.0, 3.0], &[1.0, 3.0, 3.0, 3.0]).unwrap().d, 0.5);
        assert_eq!(kolmogorov_smirnov(&[], &[1.0]), None);
    }

    /// The limit gives 0.097: of all places the row has the first or the last with a chance of two in as many.
    #[test]
    fn one_row_beside_more_than_a_million_is_exact() {
        let many: Vec<f64> = (1..=1_000_001).map(f64::from).collect();
        let found = kolmogorov_smirnov(&[0.0], &many).unwrap();
        assert!(found.d == 1.0 && (found.pvalue * 1_000_002.0 / 2.0 - 1.0).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn the_limit_is_near_the_exact_value() {
        for furthest in [30_000u64, 45_000, 60_000, 80_000] {
            let (n, m) = (900, 800);
            let (exact, near) = (exact(n, m, furthest), limit(900.0, 800.0, furthest as f64 / 720_000.0));
            assert!((near / exact - 1.0).abs() < 0.05, "{furthest}: {near}, {exact}");
        }
        // beyond what f64 can say
        assert!(limit(1e5, 1e5, 0.5) == 0.0 && limit(1e5, 1e5, 0.5).is_sign_positive());
        // both series where they meet
        let lambda_one = |d: f64| limit(1e6, 1e6, d);
        assert!((lambda_one(0.999_99 / 707.227) - lambda_one(1.000_01 / 707.227)).abs() < 1e-4);
    }

    /// Of samples from one distribution a share p has a p-value of at most p.
    #[test]
    fn p_values_are_spread_evenly_under_the_null() {
        let mut normal = Normal::new(11);
        let mut small = 0;
        for _ in 0..1000 {
            let one: Vec<f64> = (0..40).map(|_| normal.next()).collect();
            let other: Vec<f64> = (0..60).map(|_| normal.next()).collect();
            small += u32::from(kolmogorov_smirnov(&one, &other).unwrap().pvalue <= 0.1);
        }
        assert!((60..=125).contains(&small), "{small} of 1000");
    }
}
