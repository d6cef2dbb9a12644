//! `energy_score(logits [, T])`: the free energy of the classifier's output.

use datafusion_macros::user_doc;

use super::logits::{LogitsFunction, Score};
use crate::statistics::guidance::log_sum_exp;

#[user_doc(
    doc_section(label = "Baselines"),
    description = "DOUBLE, larger is more OOD: −T · log(Σ exp(logits / T)), the free energy. Liu, Wang, Owens, Li: *Energy-based Out-of-distribution Detection*, NeurIPS 2020, whose score is the negative of it.",
    syntax_example = "energy_score(logits [, T])",
    argument(name = "logits", description = "As for `msp_score`."),
    argument(name = "T", description = "The temperature, a literal number greater than 0; 1 where it is left out.")
)]
struct EnergyScore;

pub(super) static FUNCTION: LogitsFunction = LogitsFunction {
    name: "energy_score",
    documentation: || EnergyScore.doc(),
    score: Score::With("T", 1.0, energy_score),
};

/// −T·logsumexp(logits / T) of finite logits, at least one.
fn energy_score(logits: &[f32], t: f64) -> f64 {
    -log_sum_exp(logits, t)
}

#[cfg(test)]
mod tests {
    use super::energy_score;

    /// `-T * torch.logsumexp(torch.tensor(l, dtype=torch.float64) / T, 0)`
    #[test]
    fn equals_pytorch() {
        let check = |logits: &[f32], t: f64, expected: f64| {
            let found = energy_score(logits, t);
            assert!((found - expected).abs() <= 1e-14 * expected.abs(), "{found}, {expected}");
        };
        check(&[1.0, 2.0, 3.0], 1.0, -3.4076059644443806);
        check(&[1.0, 2.0, 3.0], 2.0, -4.360539341283469);
        check(&[-700.0, 900.0, 898.5], 1.0, -900.2014132779827);
        check(&[-700.0, 900.0, 898.5], 0.5, -900.0242936757869);
    }
}
