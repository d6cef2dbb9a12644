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

    #[test]
    fn halves_round_to_even() {
        assert_eq!(allowed_above(10, 0.95), 0);
        assert_eq!(allowed_above(30, 0.95), 2);
        assert_eq!(allowed_above(1, 0.5), 0);
    }

    #[test]
    fn a_rate_needs_its_number_of_scores() {
        assert!(supports_tpr(20, 0.95) && !supports_tpr(19, 0.95));
        assert!(!supports_tpr(100, 1.0) && !supports_tpr(100, 0.0) && !supports_tpr(100, f64::NAN));
    }
}
