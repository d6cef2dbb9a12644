//! `msp_score(logits)`: the negative maximum softmax probability.

use datafusion_macros::user_doc;

use super::logits::{LogitsFunction, Score};

#[user_doc(
    doc_section(label = "Baselines"),
    description = "DOUBLE in [−1, −1 / classes], larger is more OOD: the negative maximum softmax probability. Hendrycks, Gimpel: *A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks*, ICLR 2017.",
    syntax_example = "msp_score(logits)",
    sql_example = "```sql
SELECT auroc(msp_score(resnet18_logits), dataset <> 'cifar10') AS msp,
       auroc(energy_score(resnet18_logits), dataset <> 'cifar10') AS energy,
       auroc(knn_ood_score(resnet18, 'cifar10'), dataset <> 'cifar10') AS knn
FROM images WHERE split = 'test';
```",
    argument(
        name = "logits",
        description = "The classifier's output before the softmax: the column BACKBONE_logits that `outskirt ingest --with-logits` writes, or any FLOAT[] or list of numbers. An embedding column is refused."
    )
)]
struct MspScore;

pub(super) static FUNCTION: LogitsFunction =
    LogitsFunction { name: "msp_score", documentation: || MspScore.doc(), score: Score::Plain(msp_score) };

/// −max softmax(logits), which are finite and at least one.
fn msp_score(logits: &[f32]) -> f64 {
    let largest = logits.iter().fold(f64::NEG_INFINITY, |most, &logit| most.max(f64::from(logit)));
    -1.0 / logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::msp_score;

    /// `-torch.tensor(l, dtype=torch.float64).softmax(0).max()`
    #[test]
    fn equals_pytorch() {
        assert!((msp_score(&[1.0, 2.0, 3.0]) + 0.6652409557748218).abs() < 1e-15);
        assert!((msp_score(&[-700.0, 900.0, 898.5]) + 0.8175744761936437).abs() < 1e-15);
        assert_eq!(msp_score(&[5.0]), -1.0);
        assert_eq!(msp_score(&[2.0; 4]), -0.25);
    }
}
