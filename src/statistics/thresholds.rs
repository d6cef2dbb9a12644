//! From distances to decisions: plain functions on scores, larger = more OOD.

/// How many of `n` held-out ID scores may lie above the threshold at a true-positive rate of `tpr`:
/// (1 − tpr)·n, rounded half to even as the reference code's Python does, and never all of them.
pub(crate) fn allowed_above(n: usize, tpr: f64) -> usize {
    // n − tpr·n and not (1 − tpr)·n: 1 − 0.95 is not 0.05 in binary, and rounding would show it
    let above = (n as f64 - tpr * n as f64).round_ties_even().max(0.0) as usize;
    above.min(n.saturating_sub(1))
}

/// The score that a share `tpr` of held-out ID images does not exceed (paper §3, λ at TPR 95 %).
///
/// `ascending` are calibration scores in ascending order, at least one. An image is OOD when its score is larger.
pub fn threshold(ascending: &[f32], tpr: f64) -> f32 {
    ascending[ascending.len() - 1 - allowed_above(ascending.len(), tpr)]
}

/// Whether `n` calibration scores can hold a true-positive rate: at least one of them must be allowed above,
/// so 0 < tpr ≤ 1 − 1/n.
pub fn supports_tpr(n: usize, tpr: f64) -> bool {
    tpr > 0.0 && tpr < 1.0 && (1.0 - tpr) * n as f64 >= 1.0 - 1e-9
}

/// How many calibration scores it takes to hold a true-positive rate below 1.
pub fn rows_for_tpr(tpr: f64) -> usize {
    (1.0 / (1.0 - tpr) - 1e-9).ceil() as usize
}

/// How many of `n` held-out ID scores may lie above a threshold below which at least a share `tpr` of all ID images lies with
/// this confidence, whatever the distribution of their scores: a one-sided tolerance limit (Wilks, *Annals of Mathematical
/// Statistics* 1941). `None` where not even the largest score is one.
///
/// At most m above is sure enough where P(Binomial(n, 1 − tpr) ≤ m) ≤ 1 − confidence.
pub(crate) fn allowed_above_surely(n: usize, tpr: f64, confidence: f64) -> Option<usize> {
    let (count, q) = (n as f64, 1.0 - tpr);
    // what lies twelve standard deviations below the mean weighs nothing, and the first terms of many underflow
    let first = (count * q - 12.0 * (count * q * tpr).sqrt() - 12.0).max(0.0).floor();
    let ln_choices: f64 = (1..=first as usize).map(|at| ((count - at as f64 + 1.0) / at as f64).ln()).sum();
    let mut term = (ln_choices + first * q.ln() + (count - first) * tpr.ln()).exp();
    let (mut sum, mut above, mut allowed) = (0.0, first, None);
    while above <= count {
        sum += term;
        if sum > 1.0 - confidence {
            break;
        }
        allowed = Some(above as usize);
        term *= (count - above) / (above + 1.0) * q / tpr;
        above += 1.0;
    }
    allowed.map(|above| above.min(n.saturating_sub(1)))
}

/// The score below which at least a share `tpr` of all ID images lies with this confidence; `None` where `ascending` has too few.
pub fn tolerance_limit(ascending: &[f32], tpr: f64, confidence: f64) -> Option<f32> {
    let above = allowed_above_surely(ascending.len(), tpr, confidence)?;
    ascending.get(ascending.len().checked_sub(1 + above)?).copied()
}

/// How many calibration scores a tolerance limit takes.
pub fn rows_for_tolerance(tpr: f64, confidence: f64) -> usize {
    ((1.0 - confidence).ln() / tpr.ln() - 1e-9).ceil() as usize
}

/// Between which of `n` ascending scores the score lies that a share `tpr` of *all* ID images does not exceed, with this
/// confidence and whatever the distribution of their scores: the order statistics that bound a quantile, by their places.
/// `None` for a limit that this many scores cannot give.
///
/// Each limit fails with a chance of (1 − confidence) / 2 at most.
pub(crate) fn threshold_ranks(n: usize, tpr: f64, confidence: f64) -> (Option<usize>, Option<usize>) {
    let beyond = (1.0 - confidence) / 2.0;
    let upper = allowed_above_surely(n, tpr, 1.0 - beyond).map(|above| n - 1 - above);
    // one more than those that are above the threshold with a chance that is too small
    let above = allowed_above_surely(n, tpr, beyond).map_or(0, |above| above + 1);
    (n.checked_sub(1 + above), upper)
}

/// Between which of the `ascending` scores the threshold of *all* ID images lies, with this confidence and whatever the distribution
/// of their scores; `None` where they are too few.
pub fn threshold_interval(ascending: &[f32], tpr: f64, confidence: f64) -> Option<(f32, f32)> {
    let (lower, upper) = threshold_ranks(ascending.len(), tpr, confidence);
    Some((ascending[lower?], ascending[upper?]))
}

/// How many calibration scores the interval of a threshold takes.
pub fn rows_for_interval(tpr: f64, confidence: f64) -> usize {
    let surely = f64::midpoint(1.0, confidence);
    rows_for_tolerance(tpr, surely).max(rows_for_tolerance(1.0 - tpr, surely))
}

/// How many more scores halve the interval of a threshold: its width goes with 1 / √n.
pub fn rows_to_halve(n: usize) -> usize {
    3 * n
}

/// Conformal p-value of a score: (1 + #{calibration ≥ score}) / (n + 1). `ascending` are calibration scores.
pub fn pvalue(ascending: &[f32], score: f32) -> f64 {
    let below = ascending.partition_point(|&calibration| calibration < score);
    (1 + ascending.len() - below) as f64 / (ascending.len() + 1) as f64
}

/// The score above which p-values are at most `p` (or below it, `strictly`); infinite where none is, −1 where all are.
pub fn pvalue_limit(ascending: &[f32], p: f64, strictly: bool) -> f64 {
    let n = ascending.len();
    let holds = |above: usize| {
        let value = (1 + above) as f64 / (n + 1) as f64;
        if strictly { value < p } else { value <= p }
    };
    // how many calibration scores may be as large: those for which it holds come first
    match (0..=n).position(|above| !holds(above)) {
        Some(0) => f64::INFINITY,
        Some(first) => f64::from(ascending[n - first]),
        None => -1.0,
    }
}

/// Whether p-values from `n` calibration scores can be small enough for a false discovery rate: 1 / (n + 1) ≤ fdr.
pub fn supports_fdr(n: usize, fdr: f64) -> bool {
    (n + 1) as f64 * fdr >= 1.0 - 1e-9
}

/// How many calibration scores that takes.
pub fn rows_for_fdr(fdr: f64) -> usize {
    ((1.0 / fdr - 1e-9).ceil() as usize).saturating_sub(1)
}

/// The largest p-value that Benjamini-Hochberg rejects at a false discovery rate: the largest of m ascending ones with
/// p_i ≤ fdr·i/m; `None` where there is none.
pub fn bh_limit(ascending: &[f64], fdr: f64) -> Option<f64> {
    let m = ascending.len() as f64;
    // p_i·m ≤ fdr·i with a hair of room: 0.05·20/100 is not 0.01 in binary
    let held = |&(i, p): &(usize, &f64)| *p * m <= fdr * (i + 1) as f64 * (1.0 + 1e-12);
    ascending.iter().enumerate().rev().find(held).map(|(_, &p)| p)
}

/// The mean of the distances of neighbours.
pub fn mean_distance(nearest: &[f32]) -> f32 {
    (nearest.iter().map(|&distance| f64::from(distance)).sum::<f64>() / nearest.len() as f64) as f32
}

/// Maximum-likelihood estimate of the local intrinsic dimensionality, from distances of neighbours, nearest first:
/// −1 / mean(ln(r_i / r_k)); `None` where all are equally far.
pub fn intrinsic_dimension(nearest: &[f32]) -> Option<f32> {
    let farthest = f64::from(*nearest.last()?);
    if f64::from(nearest[0]) >= farthest {
        return None;
    }
    let logs: f64 = nearest.iter().map(|&distance| (f64::from(distance) / farthest).ln()).sum();
    Some((-(nearest.len() as f64) / logs) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_of_a_hundred_lie_above_the_95_percent_threshold() {
        let scores: Vec<f32> = (1..=100).map(|i| i as f32).collect();
        let at = threshold(&scores, 0.95);
        assert_eq!(at, 95.0);
        assert_eq!(scores.iter().filter(|&&score| score > at).count(), 5);
    }

    /// The numbers of Wilks' table for 95 % with 95 % confidence, and SciPy's `binom.cdf`.
    #[test]
    fn tolerance_limits_are_those_of_the_binomial() {
        for (n, above) in
            [(58, None), (59, Some(0)), (92, Some(0)), (93, Some(1)), (124, Some(2)), (153, Some(3)), (181, Some(4))]
        {
            assert_eq!(allowed_above_surely(n, 0.95, 0.95), above, "{n}");
        }
        assert_eq!(
            (rows_for_tolerance(0.95, 0.95), rows_for_tolerance(0.99, 0.95), rows_for_tolerance(0.9, 0.9)),
            (59, 299, 22)
        );
        // max m with binom.cdf(m, n, 1 - tpr) <= 1 - confidence
        assert_eq!(allowed_above_surely(10_000, 0.95, 0.95), Some(463));
        assert_eq!(allowed_above_surely(1_000_000, 0.95, 0.999), Some(49_327));
        assert_eq!(allowed_above_surely(3_000_000, 0.5, 0.99), Some(1_497_984));
    }

    /// Of many calibrations with uniform scores the limit itself is the share of images below it.
    #[test]
    fn a_tolerance_limit_holds_as_often_as_it_promises() {
        let (trials, n, tpr, confidence) = (4_000u64, 200, 0.95, 0.9);
        let uniform = |trial: u64, at: u64| {
            (crate::statistics::sampling::mixed(trial << 20 | at, 7) >> 40) as f32 / (1u32 << 24) as f32
        };
        let holds = (0..trials).filter(|&trial| {
            let mut scores: Vec<f32> = (0..n).map(|at| uniform(trial, at)).collect();
            scores.sort_unstable_by(f32::total_cmp);
            tolerance_limit(&scores, tpr, confidence).is_some_and(|limit| f64::from(limit) >= tpr)
        });
        let share = holds.count() as f64 / trials as f64;
        assert!(share > confidence - 0.015, "{share}");
        // and the plain threshold only about every other time
        assert!(share < 0.97, "no more than it takes: {share}");
    }

    /// `scipy.stats.binom.cdf(a, 72, 0.05)`: 0.0249 for a = 0, 0.9728 for 7 and 0.9903 for 8.
    #[test]
    fn a_threshold_lies_between_two_order_statistics() {
        assert_eq!(rows_for_interval(0.95, 0.95), 72);
        assert_eq!(threshold_ranks(71, 0.95, 0.95).1, None);
        assert_eq!(threshold_ranks(72, 0.95, 0.95), (Some(71 - 8), Some(71)));
        assert_eq!(threshold_ranks(1, 0.95, 0.95), (None, None));
        assert_eq!(threshold_ranks(0, 0.95, 0.95), (None, None));
        assert_eq!((rows_for_interval(0.5, 0.95), rows_for_interval(0.05, 0.95)), (6, 72));
        assert!(threshold_ranks(72, 0.05, 0.95).0.is_some() && threshold_ranks(71, 0.05, 0.95).0.is_none());
    }

    /// Uniform scores, whose quantiles are known.
    #[test]
    fn intervals_of_a_threshold_hold_as_often_as_they_say_and_halve_as_they_say() {
        let mut normal = crate::statistics::simulated::Normal::new(9);
        let (tpr, confidence) = (0.95, 0.95);
        let mut run = |n: usize, runs: u32| {
            let (mut held, mut width) = (0, 0.0);
            for _ in 0..runs {
                let mut scores: Vec<f32> = (0..n).map(|_| normal.uniform() as f32).collect();
                scores.sort_unstable_by(f32::total_cmp);
                let (lower, upper) = threshold_interval(&scores, tpr, confidence).unwrap();
                held += u32::from(f64::from(lower) <= tpr && tpr <= f64::from(upper));
                width += f64::from(upper - lower);
            }
            (f64::from(held) / f64::from(runs), width / f64::from(runs))
        };
        let (held, width) = run(200, 2000);
        // 2,000 runs know it to half a point
        assert!(held > confidence - 0.015 && held < 0.99, "{held}");
        let (held, narrower) = run(200 + rows_to_halve(200), 500);
        assert!(held > confidence - 0.03, "{held}");
        assert!((0.45..0.55).contains(&(narrower / width)), "{narrower}, {width}");
    }

    #[test]
    fn halves_round_to_even() {
        assert_eq!(allowed_above(10, 0.95), 0);
        assert_eq!(allowed_above(30, 0.95), 2);
        assert_eq!(allowed_above(1, 0.5), 0);
        // 3.6 of four, and never all
        assert_eq!(allowed_above(4, 0.1), 3);
    }

    #[test]
    fn a_rate_needs_its_number_of_scores() {
        assert_eq!((rows_for_tpr(0.95), rows_for_tpr(0.999), rows_for_tpr(0.5)), (20, 1000, 2));
        assert_eq!((rows_for_fdr(0.05), rows_for_fdr(0.1), rows_for_fdr(0.001)), (19, 9, 999));
        // 1 − 0.9 is less than 0.1 in binary, and 1 / (1 / 49) more than 49
        assert_eq!((rows_for_tpr(0.9), rows_for_fdr(1.0 / 49.0)), (10, 48));
        assert!(supports_fdr(19, 0.05) && !supports_fdr(18, 0.05));
        assert!(supports_tpr(20, 0.95) && !supports_tpr(19, 0.95));
        assert!(!supports_tpr(100, 1.0) && !supports_tpr(100, 0.0) && !supports_tpr(100, f64::NAN));
    }

    #[test]
    fn p_values_count_the_calibration_scores_that_are_as_large() {
        let scores = [0.1, 0.2, 0.2, 0.3];
        assert_eq!(pvalue(&scores, 0.0), 1.0);
        assert_eq!(pvalue(&scores, 0.2), 0.8);
        assert_eq!(pvalue(&scores, 0.25), 0.4);
        assert_eq!(pvalue(&scores, 0.4), 0.2);
    }

    #[test]
    fn a_limit_of_p_values_is_a_limit_of_scores() {
        let scores = [0.1, 0.2, 0.2, 0.3];
        for p in [0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.5] {
            for score in [0.0, 0.1, 0.15, 0.2, 0.25, 0.3, 0.31] {
                let value = pvalue(&scores, score);
                assert_eq!(f64::from(score) > pvalue_limit(&scores, p, false), value <= p, "{score}: {value} <= {p}");
                assert_eq!(f64::from(score) > pvalue_limit(&scores, p, true), value < p, "{score}: {value} < {p}");
            }
        }
    }

    #[test]
    fn benjamini_hochberg_rejects_up_to_the_last_that_holds() {
        // the second does not hold by itself (0.04 > 0.1·2/5), the third does
        assert_eq!(bh_limit(&[0.01, 0.045, 0.05, 0.5, 0.9], 0.1), Some(0.05));
        assert_eq!(bh_limit(&[0.2, 0.5], 0.1), None);
        assert_eq!(bh_limit(&[], 0.1), None);
        let twenty: Vec<f64> = (1..=100).map(|i| if i <= 20 { 0.01 } else { 0.5 }).collect();
        assert_eq!(bh_limit(&twenty, 0.05), Some(0.01));
        // 0.07·50 is more than 0.1·35 in binary
        let of_fifty: Vec<f64> = (1..=50).map(|i| if i <= 35 { 0.07 } else { 0.5 }).collect();
        assert_eq!(bh_limit(&of_fifty, 0.1), Some(0.07));
    }

    /// Under the null the p-values of one experiment share their calibration; the rate is held all the same.
    #[test]
    fn the_false_discovery_rate_is_held() {
        let mut state = 7u64;
        let mut normal = || {
            let mut unit = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1u64 << 24) as f32
            };
            (0..12).map(|_| unit()).sum::<f32>() - 6.0
        };
        for (share_out, fdr) in [(0.0, 0.1), (0.1, 0.1), (0.3, 0.2)] {
            let (mut false_share, mut found_share, runs) = (0.0, 0.0, 400);
            for _ in 0..runs {
                let mut calibration: Vec<f32> = (0..200).map(|_| normal()).collect();
                calibration.sort_unstable_by(f32::total_cmp);
                let out = (200.0 * share_out) as usize;
                let scores: Vec<f32> = (0..200).map(|i| normal() + if i < out { 4.0 } else { 0.0 }).collect();
                let pvalues: Vec<f64> = scores.iter().map(|&score| pvalue(&calibration, score)).collect();
                let mut ascending = pvalues.clone();
                ascending.sort_unstable_by(f64::total_cmp);
                let limit = bh_limit(&ascending, fdr).unwrap_or(-1.0);
                let rejected: Vec<usize> = (0..200).filter(|&i| pvalues[i] <= limit).collect();
                let wrong = rejected.iter().filter(|&&i| i >= out).count();
                false_share += wrong as f64 / rejected.len().max(1) as f64 / f64::from(runs);
                found_share += (rejected.len() - wrong) as f64 / out.max(1) as f64 / f64::from(runs);
            }
            // 400 runs: the mean is known to about 0.015
            assert!(false_share <= fdr + 0.02, "{share_out}, {fdr}: {false_share}");
            assert!(share_out == 0.0 || found_share > 0.7, "{share_out}, {fdr}: {found_share}");
        }
    }

    #[test]
    fn neighbours_have_a_mean_and_a_dimension() {
        assert_eq!(mean_distance(&[0.5, 1.0, 1.5]), 1.0);
        // r_i = (i/k)^(1/m) has dimension m but for the estimate's own error
        let spread: Vec<f32> = (1..=1000).map(|i| (i as f32 / 1000.0).powf(1.0 / 5.0)).collect();
        assert!((intrinsic_dimension(&spread).unwrap() - 5.0).abs() < 0.1);
        assert_eq!(intrinsic_dimension(&[0.5, 0.5]), None);
        assert_eq!(intrinsic_dimension(&[0.0, 0.5]), Some(0.0));
        assert_eq!(intrinsic_dimension(&[0.0, 0.0]), None);
    }
}
