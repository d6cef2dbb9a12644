//! How sure metrics are: intervals around AUROC and FPR, from the samples that these were computed from.
//!
//! Scores are larger for OOD and never NaN. An interval of confidence c is made so that, of many samples of as many ID and OOD
//! images, a share c gives an interval that holds the number of *all* such images. Rows count as independent: copies of an
//! image, or frames of one film, make intervals too narrow.

use super::metrics::fpr_at_tpr;
use super::normal;
use super::thresholds::threshold_ranks;

/// Rows of a class among the other's below which DeLong's variance is not enough.
const FEW: usize = 10;

/// Where a number lies, with some confidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// At least this.
    pub lower: f64,
    /// At most this.
    pub upper: f64,
}

/// Of the area under the ROC curve ([`super::metrics::auroc`]), in [0, 1]; `None` where either side is empty.
///
/// DeLong, DeLong, Clarke-Pearson: *Comparing the Areas under Two or More Correlated Receiver Operating Characteristic Curves*,
/// Biometrics 1988; the variance by ranks, as Sun and Xu (IEEE SPL 2014) do, in O(n log n). It is normal on the scale of
/// log(A / (1 − A)), so that the interval stays inside [0, 1]. Where few rows of a class lie among the other's that variance is
/// hardly known, and 0 where none do: below ten the interval reaches as far as Newcombe's does (*Statistics in Medicine* 2006,
/// method 5), which is on the safe side there.
pub fn auroc_interval(id: &[f64], ood: &[f64], confidence: f64) -> Option<Interval> {
    let area = Area::of(id, ood)?;
    Some(area.interval(id.len(), ood.len(), confidence))
}

/// Of the share of OOD images below the score that a share `tpr`, in (0, 1), of *all* ID images does not exceed
/// ([`fpr_at_tpr`]), in [0, 1]; `None` where either side is empty.
///
/// It has two parts. The OOD images are a sample: Wilson's interval of a binomial share (JASA 1927). So are the ID images that
/// the threshold comes from: the order statistics between which it lies whatever the distribution, and
/// the shares of OOD scores below those. How far each part reaches from the share itself is put together as independent
/// deviations are, by the root of the sum of squares (Zou, Donner: *Construction of confidence limits about effect measures*,
/// Statistics in Medicine 2008). Too few ID images for a limit of the threshold give 0 or 1.
pub fn fpr_interval(id: &[f64], ood: &[f64], tpr: f64, confidence: f64) -> Option<Interval> {
    let share = fpr_at_tpr(id, ood, tpr)?;
    let binomial = wilson(share, ood.len() as f64, confidence);
    let mut ascending = id.to_vec();
    ascending.sort_unstable_by(f64::total_cmp);
    let below = |rank: usize| ood.iter().filter(|&&score| score < ascending[rank]).count() as f64 / ood.len() as f64;
    let (low, high) = threshold_ranks(id.len(), tpr, confidence);
    let (low, high) = (low.map_or(0.0, below), high.map_or(1.0, below));
    Some(Interval {
        lower: (share - (share - binomial.lower).hypot(share - low)).max(0.0),
        upper: (share + (binomial.upper - share).hypot(high - share)).min(1.0),
    })
}

/// Of the share of all rows that are such as `count` of `n` are, in [0, 1]; all of it where `n` is 0. Wilson's interval (JASA 1927).
pub fn share_interval(count: usize, n: usize, confidence: f64) -> Interval {
    match n {
        0 => Interval { lower: 0.0, upper: 1.0 },
        n => wilson(count as f64 / n as f64, n as f64, confidence),
    }
}

/// How likely at least `count` of `n` further ID images lie above a threshold that `above` of `m` calibration images lie above, when all
/// are drawn alike: small where more do than the threshold's own share, however unsure the threshold is. In [0, 1]; `m` ≥ 1.
///
/// Exact whatever the distribution of the scores (with ties too large rather than too small): the share of all ID images above that
/// order statistic has a beta distribution, so the count among `n` a beta-binomial one with parameters `above` + 1 and `m` − `above`.
pub fn excess_pvalue(count: usize, n: usize, above: usize, m: usize) -> f64 {
    let (alpha, beta) = (above as f64 + 1.0, m.saturating_sub(above).max(1) as f64);
    let (all, mut at) = (n as f64, count as f64);
    if count == 0 {
        return 1.0;
    }
    let log_beta = |a: f64, b: f64| libm::lgamma(a) + libm::lgamma(b) - libm::lgamma(a + b);
    let choose = libm::lgamma(all + 1.0) - libm::lgamma(at + 1.0) - libm::lgamma(all - at + 1.0);
    let mut term = (choose + log_beta(at + alpha, all - at + beta) - log_beta(alpha, beta)).exp();
    let mut sum = term;
    while at < all && !(term < 1e-17 * sum && at > all * alpha / (alpha + beta)) {
        term *= (all - at) / (at + 1.0) * (at + alpha) / (all - at - 1.0 + beta);
        at += 1.0;
        sum += term;
    }
    sum.min(1.0)
}

/// How likely it is that as many of `n` further ID images have a conformal p-value of at most `level`, in (0, 1), as `count` have, or
/// that the number is further from what is expected on that side, when they are drawn as the `m` calibration images are: twice the
/// smaller tail of the distribution of [`excess_pvalue`]. In [0, 1]; 1 where `m` images give no such p-value, or `n` is 0.
pub fn level_pvalue(count: usize, n: usize, level: f64, m: usize) -> f64 {
    // p ≤ level where fewer than so many calibration scores are as large; with a hair of room: 0.05 · 20 is not 1 in binary
    let rank = (level * (m + 1) as f64 * (1.0 + 1e-12)) as usize;
    if rank == 0 || rank > m || n == 0 {
        return 1.0;
    }
    let more = excess_pvalue(count, n, rank - 1, m);
    let fewer = if count >= n { 1.0 } else { 1.0 - excess_pvalue(count + 1, n, rank - 1, m) };
    (2.0 * more.min(fewer)).clamp(0.0, 1.0)
}

/// Wilson's interval of a share that was seen among `n`.
fn wilson(share: f64, n: f64, confidence: f64) -> Interval {
    let z = normal::quantile(f64::midpoint(1.0, confidence));
    let centre = (share + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    // at the ends it is the share itself, but for rounding
    Interval { lower: (centre - half).max(0.0).min(share), upper: (centre + half).min(1.0).max(share) }
}

/// An area under a ROC curve, and the variance of that estimate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Area {
    pub(super) auroc: f64,
    /// DeLong's; 0 where a side is a single row.
    pub(super) variance: f64,
    /// How many rows lie among those of the other class: of the class that has fewer.
    pub(super) overlap: usize,
}

impl Area {
    pub(super) fn of(id: &[f64], ood: &[f64]) -> Option<Self> {
        if id.is_empty() || ood.is_empty() {
            return None;
        }
        let (of_id, of_ood) = (places(id, ood), places(ood, id));
        let variance = sample_variance(&of_id) / id.len() as f64 + sample_variance(&of_ood) / ood.len() as f64;
        let among = |places: &[f64]| places.iter().filter(|&&place| place > 0.0 && place < 1.0).count();
        Some(Self { auroc: mean(&of_ood), variance, overlap: among(&of_id).min(among(&of_ood)) })
    }

    /// Of so many ID and OOD rows.
    pub(super) fn interval(&self, id: usize, ood: usize, confidence: f64) -> Interval {
        let Self { auroc, variance, overlap } = *self;
        let z = normal::quantile(f64::midpoint(1.0, confidence));
        let safe = newcombe(auroc, id as f64, ood as f64, z);
        let spread = auroc * (1.0 - auroc);
        if variance <= 0.0 || spread <= 0.0 {
            return safe;
        }
        let (centre, half) = ((auroc / (1.0 - auroc)).ln(), z * variance.sqrt() / spread);
        let share = |logit: f64| 1.0 / (1.0 + (-logit).exp());
        let (lower, upper) = (share(centre - half), share(centre + half));
        match overlap < FEW {
            true => Interval { lower: lower.min(safe.lower), upper: upper.max(safe.upper) },
            false => Interval { lower, upper },
        }
    }
}

/// For each score, the share of `others` that lie below it, ties counting half.
fn places(scores: &[f64], others: &[f64]) -> Vec<f64> {
    let mut ascending = others.to_vec();
    ascending.sort_unstable_by(f64::total_cmp);
    let place = |&score: &f64| {
        let below = ascending.partition_point(|&other| other < score);
        let up_to = ascending.partition_point(|&other| other <= score);
        (below + up_to) as f64 / (2 * ascending.len()) as f64
    };
    scores.iter().map(place).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// 0 for a single value.
fn sample_variance(values: &[f64]) -> f64 {
    let centre = mean(values);
    let squares: f64 = values.iter().map(|value| (value - centre) * (value - centre)).sum();
    squares / (values.len() - 1).max(1) as f64
}

/// Every area A whose own variance (Hanley and McNeil's, of as many rows) has the one that was found within z deviations.
fn newcombe(found: f64, id: f64, ood: f64, z: f64) -> Interval {
    let rows = f64::midpoint(id, ood) - 1.0;
    let variance = |a: f64| a * (1.0 - a) / (id * ood) * (1.0 + rows * (1.0 - a) / (2.0 - a) + rows * a / (1.0 + a));
    // between an area that is too far away and the one that was found
    let limit = |mut far: f64| {
        let mut near = found;
        for _ in 0..60 {
            let middle = f64::midpoint(far, near);
            if (middle - found).abs() > z * variance(middle).sqrt() { far = middle } else { near = middle }
        }
        f64::midpoint(far, near)
    };
    Interval { lower: limit(0.0), upper: limit(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::metrics::auroc;
    use crate::statistics::simulated::Normal;

    /// DeLong's variance by its definition: every pair, and means of its rows and columns.
    fn of_pairs(id: &[f64], ood: &[f64]) -> Area {
        let pair = |x: f64, y: f64| if x > y { 1.0 } else { f64::from(u8::from(x == y)) / 2.0 };
        let row = |x: f64| id.iter().map(|&y| pair(x, y)).sum::<f64>() / id.len() as f64;
        let column = |y: f64| ood.iter().map(|&x| pair(x, y)).sum::<f64>() / ood.len() as f64;
        let (rows, columns): (Vec<f64>, Vec<f64>) =
            (ood.iter().map(|&x| row(x)).collect(), id.iter().map(|&y| column(y)).collect());
        let auroc = rows.iter().sum::<f64>() / rows.len() as f64;
        let part = |values: &[f64]| {
            let squares = values.iter().map(|value| (value - auroc).powi(2)).sum::<f64>();
            squares / (values.len() as f64 - 1.0) / values.len() as f64
        };
        Area { auroc, variance: part(&rows) + part(&columns), overlap: 0 }
    }

    #[test]
    fn ranks_give_what_all_pairs_give() {
        // with ties within the classes and between them
        let id: Vec<f64> = (0..60).map(|i| f64::from(i * 7 % 23)).collect();
        let ood: Vec<f64> = (0..35).map(|i| f64::from(i * 5 % 29) + 4.0).collect();
        let (found, expected) = (Area::of(&id, &ood).unwrap(), of_pairs(&id, &ood));
        assert!((found.auroc - expected.auroc).abs() < 1e-14, "{found:?}, {expected:?}");
        assert!((found.auroc - auroc(&id, &ood).unwrap()).abs() < 1e-14);
        assert!((found.variance - expected.variance).abs() < 1e-15, "{found:?}, {expected:?}");
    }

    /// One row astray does not make an area surer than none does.
    #[test]
    fn few_rows_that_overlap_are_not_enough() {
        let low: Vec<f64> = (0..100).map(f64::from).collect();
        let mut high: Vec<f64> = (0..50).map(|i| 200.0 + f64::from(i)).collect();
        let apart = auroc_interval(&low, &high, 0.95).unwrap();
        high[0] = 98.5;
        let astray = auroc_interval(&low, &high, 0.95).unwrap();
        assert!(astray.lower < apart.lower && astray.upper < 1.0 && astray.upper > 0.9998, "{astray:?}, {apart:?}");
        assert_eq!(Area::of(&low, &high).unwrap().overlap, 1);
    }

    /// ```python
    /// from scipy import optimize; z = 1.959963984540054
    /// N = (20 + 30) / 2 - 1
    /// v = lambda t: t*(1-t)/600*(1 + N*(1-t)/(2-t) + N*t/(1+t))
    /// print(optimize.brentq(lambda t: 1 - t - z*v(t)**.5, .5, 1 - 1e-9))
    /// ```
    #[test]
    fn classes_that_do_not_overlap_and_single_rows_have_intervals() {
        let (low, high): (Vec<f64>, Vec<f64>) =
            ((0..30).map(f64::from).collect(), (0..20).map(|i| 50.0 + f64::from(i)).collect());
        let found = auroc_interval(&low, &high, 0.95).unwrap();
        assert!((found.lower - 0.915_938_927_934_721_5).abs() < 1e-9 && found.upper == 1.0, "{found:?}");
        let turned = auroc_interval(&high, &low, 0.95).unwrap();
        assert!(turned.lower == 0.0 && (turned.upper + found.lower - 1.0).abs() < 1e-9, "{turned:?}");
        // all equal: nothing is known but for the number of rows
        let equal = auroc_interval(&[1.0; 10], &[1.0; 10], 0.95).unwrap();
        assert!(equal.lower > 0.2 && equal.lower < 0.35 && (equal.lower + equal.upper - 1.0).abs() < 1e-9, "{equal:?}");
        let single = auroc_interval(&[1.0], &[2.0], 0.95).unwrap();
        assert!(single.lower < 0.25 && single.upper == 1.0, "{single:?}");
        assert_eq!((auroc_interval(&[], &[1.0], 0.95), fpr_interval(&[1.0], &[], 0.95, 0.95)), (None, None));
        // of three ID images nothing is known of the threshold
        let few = fpr_interval(&[1.0, 2.0, 3.0], &[5.0; 100], 0.95, 0.95).unwrap();
        assert_eq!(few, Interval { lower: 0.0, upper: 1.0 });
    }

    /// How many of a thousand intervals hold the truth, which is known of normal scores: 95 % are promised, and a thousand know
    /// that to 0.7 points.
    #[test]
    fn intervals_hold_the_truth_as_often_as_they_say() {
        let mut normal = Normal::new(3);
        for (id_rows, ood_rows, shift) in [(60, 40, 0.5), (200, 100, 1.5), (300, 60, 2.5), (100, 100, 4.0)] {
            let true_auroc = normal::cdf(shift / 2f64.sqrt());
            let true_fpr = normal::cdf(normal::quantile(0.95) - shift);
            let (mut area, mut share) = (0, 0);
            for _ in 0..1000 {
                let id: Vec<f64> = (0..id_rows).map(|_| normal.next()).collect();
                let ood: Vec<f64> = (0..ood_rows).map(|_| normal.next() + shift).collect();
                let holds = |interval: Option<Interval>, truth: f64| {
                    interval.is_some_and(|interval| interval.lower <= truth && truth <= interval.upper)
                };
                area += u32::from(holds(auroc_interval(&id, &ood, 0.95), true_auroc));
                share += u32::from(holds(fpr_interval(&id, &ood, 0.95, 0.95), true_fpr));
            }
            // DeLong's is a little short near 1; Newcombe's and that of FPR are on the safe side, as order statistics are
            assert!((925..=1000).contains(&area), "AUROC {id_rows}, {ood_rows}, {shift}: {area}");
            assert!((930..=1000).contains(&share), "FPR {id_rows}, {ood_rows}, {shift}: {share}");
        }
    }

    /// Without the part of the threshold the interval of FPR would hold the truth far less often.
    #[test]
    fn the_thresholds_own_uncertainty_counts() {
        let mut normal = Normal::new(5);
        let truth = normal::cdf(normal::quantile(0.95) - 2.0);
        let (mut whole, mut binomial) = (0, 0);
        for _ in 0..300 {
            let id: Vec<f64> = (0..150).map(|_| normal.next()).collect();
            let ood: Vec<f64> = (0..1000).map(|_| normal.next() + 2.0).collect();
            let holds = |interval: Interval| u32::from(interval.lower <= truth && truth <= interval.upper);
            whole += holds(fpr_interval(&id, &ood, 0.95, 0.95).unwrap());
            binomial += holds(wilson(fpr_at_tpr(&id, &ood, 0.95).unwrap(), 1000.0, 0.95));
        }
        assert!(whole > 276 && binomial < 150, "{whole}, {binomial} of 300");
    }

    /// Scipy: betabinom.sf(count - 1, n, above + 1, m - above).
    #[test]
    fn an_excess_is_as_likely_as_scipy_says() {
        for (count, n, above, m, expected) in [
            (4, 30, 10, 200, 0.09240123893051666),
            (1582, 30_000, 100, 2000, 0.31984535398883784),
            (0, 5, 1, 20, 1.0),
            (5, 5, 1, 20, 0.00011293054771310818),
            (60, 600, 30, 600, 0.0006819020362295314),
        ] {
            let found = excess_pvalue(count, n, above, m);
            assert!((found - expected).abs() < 1e-9 * expected.max(1e-3), "{count} of {n}: {found} and not {expected}");
        }
    }

    /// Sums of the beta-binomial's chances on both sides, as `scipy.stats.betabinom(n, rank, m - rank + 1)` has them.
    #[test]
    fn a_level_is_off_on_either_side() {
        for (count, n, level, m, expected) in [
            (96, 2000, 0.05, 999, 0.8692390189712791),
            (60, 2000, 0.05, 999, 0.009312309612564518),
            (150, 2000, 0.05, 999, 0.007667411252185591),
            (1, 20, 0.05, 20, 1.0),
            (10, 10, 0.05, 20, 6.656678320846177e-08),
            (0, 100, 0.5, 99, 0.0),
            // there is no such p-value, or nobody to have it
            (3, 100, 0.01, 50, 1.0),
            (0, 0, 0.05, 99, 1.0),
        ] {
            let found = level_pvalue(count, n, level, m);
            assert!((found - expected).abs() < 1e-9, "{count} of {n} at {level}: {found} and not {expected}");
        }
    }

    /// Images that are drawn as the calibration's are: an excess is seen as often as its p-value says, hardly more.
    #[test]
    fn an_excess_is_seen_by_chance_as_often_as_it_says() {
        let mut random = Normal::new(11);
        for (m, n) in [(200, 3000), (600, 50), (60, 1000)] {
            let rounds = 600;
            let mut alarms = 0;
            for _ in 0..rounds {
                let mut calibration: Vec<f64> = (0..m).map(|_| random.uniform()).collect();
                calibration.sort_unstable_by(f64::total_cmp);
                let above = m / 20;
                let threshold = calibration[m - 1 - above];
                let count = (0..n).filter(|_| random.uniform() > threshold).count();
                alarms += usize::from(excess_pvalue(count, n, above, m) <= 0.05);
            }
            // 30 are expected, give or take 5.3
            assert!((12..=46).contains(&alarms), "{alarms} of {rounds} with {m} calibration images and {n} others");
        }
    }
}
