//! `gen_score(logits [, gamma])`: the generalised entropy of the classifier's softmax.

use datafusion_macros::user_doc;

use super::logits::{LogitsFunction, Score};

/// Classes that count, the most probable ones.
const MOST: usize = 100;

#[user_doc(
    doc_section(label = "Baselines"),
    description = "DOUBLE, 0 or more, larger is more OOD: the generalised entropy Σ p^γ · (1 − p)^γ of the softmax, over its 100 largest probabilities. Liu, Lochman, Zach: *GEN: Pushing the Limits of Softmax-Based Out-of-Distribution Detection*, CVPR 2023, whose score is the negative of it.",
    syntax_example = "gen_score(logits [, gamma])",
    argument(name = "logits", description = "As for `msp_score`."),
    argument(
        name = "gamma",
        description = "A literal number greater than 0; 0.1, as in the paper, where it is left out."
    )
)]
struct GenScore;

pub(super) static FUNCTION: LogitsFunction =
    LogitsFunction { name: "gen_score", documentation: || GenScore.doc(), score: Score::With("gamma", 0.1, gen_score) };

/// Σ p^γ (1 − p)^γ over the largest of softmax(logits), which are finite and at least one.
fn gen_score(logits: &[f32], gamma: f64) -> f64 {
    let largest = logits.iter().fold(f64::NEG_INFINITY, |most, &logit| most.max(f64::from(logit)));
    let mut weights: Vec<f64> = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).collect();
    weights.sort_unstable_by(f64::total_cmp);
    let sum: f64 = weights.iter().sum();
    let mut score = 0.0;
    for (at, weight) in weights.iter().enumerate().rev().take(MOST) {
        // 1 − p of a probability near 1 is what the others have
        let others: f64 = if at + 1 == weights.len() { weights[..at].iter().sum() } else { sum - weight };
        score += ((weight / sum) * (others / sum)).powf(gamma);
    }
    score
}

#[cfg(test)]
mod tests {
    use super::gen_score;

    /// `p = scipy.special.softmax(np.float64(l)); np.sum(np.sort(p)[-100:]**g * (1 - np.sort(p)[-100:])**g)`
    #[test]
    fn equals_numpy() {
        let check = |logits: &[f32], gamma: f64, expected: f64| {
            let found = gen_score(logits, gamma);
            assert!((found - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{found}, {expected}");
        };
        check(&[1.0, 2.0, 3.0], 0.1, 2.4838428873799954);
        check(&[1.0, 2.0, 3.0], 1.0, 0.48945694210959534);
        let many: Vec<f32> = (0..150).map(|class| (class % 7) as f32 / 2.0).collect();
        check(&many, 0.1, 61.33664273051498);
        assert_eq!(gen_score(&[5.0], 0.1), 0.0);
        // a softmax that is 1 in f64 is still told from another
        assert!(gen_score(&[50.0, 0.0], 0.1) > gen_score(&[60.0, 0.0], 0.1));
    }
}
