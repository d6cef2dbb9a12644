//! `max_logit_score(logits)`: the negative maximum logit.

use datafusion_macros::user_doc;

use super::logits::{LogitsFunction, Score};

#[user_doc(
    doc_section(label = "Baselines"),
    description = "DOUBLE, larger is more OOD: the negative maximum logit. Hendrycks, Basart, Mazeika, Zou, Kwon, Mostajabi, Steinhardt, Song: *Scaling Out-of-Distribution Detection for Real-World Settings*, ICML 2022.",
    syntax_example = "max_logit_score(logits)",
    argument(name = "logits", description = "As for `msp_score`.")
)]
struct MaxLogitScore;

pub(super) static FUNCTION: LogitsFunction = LogitsFunction {
    name: "max_logit_score",
    documentation: || MaxLogitScore.doc(),
    score: Score::Plain(max_logit_score),
};

/// −max of finite logits, at least one.
fn max_logit_score(logits: &[f32]) -> f64 {
    -logits.iter().fold(f64::NEG_INFINITY, |most, &logit| most.max(f64::from(logit)))
}

#[cfg(test)]
mod tests {
    use super::max_logit_score;

    #[test]
    fn is_the_largest_negated() {
        assert_eq!(max_logit_score(&[1.0, 3.5, -2.0]), -3.5);
        assert_eq!(max_logit_score(&[-4.0]), 4.0);
    }
}
