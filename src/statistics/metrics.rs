//! How well scores separate ID from OOD images: plain functions on slices, with the reference code's conventions.
//!
//! Scores are larger for OOD. Internally ID is the positive class, as in the paper's tables. Ties count half in
//! the AUROC and as one step in the curves. For tables; not for thresholds in production, which come from
//! calibration ([`crate::statistics::thresholds`]).

use crate::statistics::thresholds::allowed_above;

/// The four numbers of the paper's tables, as fractions of one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metrics {
    /// Share of OOD images accepted as ID where 95 % of the ID images are accepted. Lower is better.
    pub fpr95: f64,
    /// Area under the ROC curve. Higher is better, 0.5 is chance.
    pub auroc: f64,
    /// Area under precision and recall with ID positive.
    pub aupr_in: f64,
    /// Area under precision and recall with OOD positive.
    pub aupr_out: f64,
}

impl Metrics {
    /// Compare ID with OOD scores. `None` where either is empty. Scores must not be NaN.
    pub fn of(id: &[f64], ood: &[f64]) -> Option<Self> {
        let curve = Curve::new(id, ood)?;
        Some(Self {
            fpr95: fpr_at_tpr(id, ood, 0.95)?,
            auroc: curve.auroc(),
            aupr_in: curve.aupr_in(),
            aupr_out: curve.aupr_out(),
        })
    }

    /// The mean of each number, as in the tables' last line.
    pub fn mean(all: &[Self]) -> Option<Self> {
        let mean = |number: fn(&Self) -> f64| all.iter().map(number).sum::<f64>() / all.len() as f64;
        (!all.is_empty()).then(|| Self {
            fpr95: mean(|m| m.fpr95),
            auroc: mean(|m| m.auroc),
            aupr_in: mean(|m| m.aupr_in),
            aupr_out: mean(|m| m.aupr_out),
        })
    }
}

/// Area under the ROC curve: the chance that an OOD image scores above an ID image, ties counting half.
/// `None` where either side is empty.
pub fn auroc(id: &[f64], ood: &[f64]) -> Option<f64> {
    Curve::new(id, ood).map(|curve| curve.auroc())
}

/// Area under precision and recall with ID positive. `None` where either side is empty.
pub fn aupr_in(id: &[f64], ood: &[f64]) -> Option<f64> {
    Curve::new(id, ood).map(|curve| curve.aupr_in())
}

/// Area under precision and recall with OOD positive. `None` where either side is empty.
pub fn aupr_out(id: &[f64], ood: &[f64]) -> Option<f64> {
    Curve::new(id, ood).map(|curve| curve.aupr_out())
}

/// The least mean, over all thresholds, of the share of ID images rejected and the share of OOD images accepted.
/// `None` where either side is empty.
pub fn detection_error(id: &[f64], ood: &[f64]) -> Option<f64> {
    Curve::new(id, ood).map(|curve| curve.detection_error())
}

/// Share of OOD scores strictly below the score that a share `tpr` of the ID scores does not exceed.
/// `None` where either side is empty.
pub fn fpr_at_tpr(id: &[f64], ood: &[f64], tpr: f64) -> Option<f64> {
    if ood.is_empty() {
        return None;
    }
    let threshold = threshold_at_tpr(id, tpr)?;
    Some(ood.iter().filter(|&&score| score < threshold).count() as f64 / ood.len() as f64)
}

/// The score that a share `tpr` of the ID scores does not exceed. `None` where there are none.
pub fn threshold_at_tpr(id: &[f64], tpr: f64) -> Option<f64> {
    if id.is_empty() {
        return None;
    }
    let mut id = id.to_vec();
    let rank = id.len() - 1 - allowed_above(id.len(), tpr);
    Some(*id.select_nth_unstable_by(rank, f64::total_cmp).1)
}

/// The ROC curve of ascending scores, at up to 2 · `points` + 3 places: the shares of ID and of OOD images above a threshold, from (0, 0)
/// to (1, 1). The thresholds are quantiles of either side. Empty where a side is.
pub fn roc_curve(id: &[f32], ood: &[f32], points: usize) -> Vec<(f64, f64)> {
    if id.is_empty() || ood.is_empty() {
        return Vec::new();
    }
    let quantiles = |of: &[f32]| (0..=points).map(|at| of[(of.len() - 1) * at / points.max(1)]).collect::<Vec<_>>();
    let mut thresholds = [quantiles(id), quantiles(ood)].concat();
    thresholds.sort_unstable_by(|a, b| b.total_cmp(a));
    thresholds.dedup();
    let above = |of: &[f32], threshold: f32| {
        (of.len() - of.partition_point(|score| *score <= threshold)) as f64 / of.len() as f64
    };
    let curve = thresholds.into_iter().map(|threshold| (above(id, threshold), above(ood, threshold)));
    curve.chain([(1.0, 1.0)]).collect()
}

/// How many ID and OOD images are still accepted, as the threshold falls from above all scores to below all.
struct Curve {
    /// (accepted ID, accepted OOD), first (all, all), last (0, 0); one step per distinct score.
    accepted: Vec<(f64, f64)>,
}

impl Curve {
    fn new(id: &[f64], ood: &[f64]) -> Option<Self> {
        if id.is_empty() || ood.is_empty() {
            return None;
        }
        let mut scores: Vec<(f64, bool)> =
            id.iter().map(|&score| (score, true)).chain(ood.iter().map(|&score| (score, false))).collect();
        scores.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let mut left = (id.len() as f64, ood.len() as f64);
        let mut accepted = vec![left];
        for ties in scores.chunk_by(|a, b| a.0 == b.0) {
            let of_id = ties.iter().filter(|(_, is_id)| *is_id).count();
            left = (left.0 - of_id as f64, left.1 - (ties.len() - of_id) as f64);
            accepted.push(left);
        }
        Some(Self { accepted })
    }

    fn totals(&self) -> (f64, f64) {
        self.accepted[0]
    }

    fn auroc(&self) -> f64 {
        let (id, ood) = self.totals();
        area(self.accepted.iter().map(|&(tp, fp)| (1.0 - tp / id, 1.0 - fp / ood)))
    }

    fn detection_error(&self) -> f64 {
        let (id, ood) = self.totals();
        let errors = self.accepted.iter().map(|&(tp, fp)| (1.0 - tp / id + fp / ood) / 2.0);
        errors.fold(f64::INFINITY, f64::min)
    }

    /// Precision is 0 where nothing is accepted any more: the reference's last point.
    fn aupr_in(&self) -> f64 {
        let (id, _) = self.totals();
        let precision = |tp: f64, fp: f64| if tp + fp > 0.0 { tp / (tp + fp) } else { 0.0 };
        area(self.accepted.iter().map(|&(tp, fp)| (1.0 - tp / id, precision(tp, fp))))
    }

    /// Precision is 0 where nothing is rejected yet: the reference's first point.
    fn aupr_out(&self) -> f64 {
        let (id, ood) = self.totals();
        area(self.accepted.iter().map(|&(tp, fp)| {
            let (rejected_id, rejected_ood) = (id - tp, ood - fp);
            let rejected = rejected_id + rejected_ood;
            (rejected_ood / ood, if rejected > 0.0 { rejected_ood / rejected } else { 0.0 })
        }))
    }
}

/// Area under points of ascending x by the trapezoid rule.
fn area(points: impl Iterator<Item = (f64, f64)>) -> f64 {
    let points: Vec<_> = points.collect();
    points.windows(2).map(|pair| (pair[1].0 - pair[0].0) * (pair[0].1 + pair[1].1) / 2.0).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perfect_chance_and_reversed() {
        let (low, high) = ([0.1, 0.2], [0.8, 0.9]);
        assert_eq!(auroc(&low, &high), Some(1.0));
        assert_eq!(auroc(&high, &low), Some(0.0));
        assert_eq!(auroc(&[0.5; 3], &[0.5; 4]), Some(0.5));
        assert_eq!(fpr_at_tpr(&low, &high, 0.95), Some(0.0));
        assert_eq!(fpr_at_tpr(&high, &low, 0.95), Some(1.0));
        // as large as the threshold is not below it
        assert_eq!(fpr_at_tpr(&[0.1, 0.2], &[0.15, 0.2, 0.3, 0.4], 0.95), Some(0.25));
        assert_eq!(detection_error(&low, &high), Some(0.0));
        assert_eq!(detection_error(&high, &low), Some(0.5));
        // one of four ID images above the lower half of the OOD images
        assert_eq!(detection_error(&[0.1, 0.2, 0.3, 0.6], &[0.5, 0.5, 0.8, 0.9]), Some(0.125));
    }

    /// The reference's curves end at a precision of 0, where nothing is accepted: one half under the last step.
    #[test]
    fn precision_is_0_where_there_is_none() {
        assert_eq!((aupr_in(&[0.1], &[0.9]), aupr_out(&[0.1], &[0.9])), (Some(0.5), Some(0.5)));
        let (low, high) = ([0.1, 0.2], [0.8, 0.9]);
        assert_eq!((aupr_in(&low, &high), aupr_out(&low, &high)), (Some(0.75), Some(0.75)));
    }

    #[test]
    fn equals_counting_pairs() {
        let id: Vec<f64> = (0..40).map(|i| f64::from(i * 7 % 13)).collect();
        let ood: Vec<f64> = (0..30).map(|i| f64::from(i * 5 % 17)).collect();
        let mut pairs = 0.0;
        for a in &id {
            for b in &ood {
                pairs += if b > a {
                    1.0
                } else if b == a {
                    0.5
                } else {
                    0.0
                };
            }
        }
        assert!((auroc(&id, &ood).unwrap() - pairs / 1200.0).abs() < 1e-12);
    }

    #[test]
    fn one_side_alone_has_no_metrics() {
        assert_eq!(Metrics::of(&[], &[1.0]), None);
        assert_eq!(auroc(&[1.0], &[]), None);
        assert_eq!(aupr_in(&[1.0], &[]).or(aupr_out(&[], &[1.0])).or(detection_error(&[], &[])), None);
        assert_eq!(fpr_at_tpr(&[], &[], 0.95), None);
        assert_eq!(Metrics::mean(&[]), None);
    }
}
