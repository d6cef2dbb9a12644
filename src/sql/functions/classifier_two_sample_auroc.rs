//! `classifier_two_sample_auroc(embedding, group)`: how well a classifier tells two groups of rows apart.

use datafusion_macros::user_doc;
use outskirt_exact::Vectors;

use super::embedding_samples::{EmbeddingTest, Test};
use crate::statistics::classifier::tell_apart;

/// Of the interval.
const CONFIDENCE: f64 = 0.95;

#[user_doc(
    doc_section(label = "Drift"),
    description = "STRUCT(auroc DOUBLE, lower DOUBLE, upper DOUBLE, pvalue DOUBLE), an aggregate: how well a linear classifier of L2-normalised embeddings tells the group TRUE from FALSE, on rows that it was not fitted to (five-fold). `auroc` is the effect size, 0.5 where nothing tells them apart; [lower, upper] holds it with 95 % confidence, and `pvalue` is that of a rank sum, one-sided, both corrected for what the five classifiers share (Nadeau, Bengio, *Machine Learning* 2003). The classifier is a linear discriminant, whose covariance is shrunk by d / (d + rows). Of a group with more than 2,000 rows a sample of 2,000 is taken, as for `mmd_test`. Lopez-Paz, Oquab: *Revisiting Classifier Two-Sample Tests*, ICLR 2017. NULL where a group has fewer than four rows, or no row differs.",
    syntax_example = "classifier_two_sample_auroc(embedding, group)",
    sql_example = "```sql
SELECT classifier_two_sample_auroc(my_net, split = 'test') FROM images WHERE dataset = 'cifar10';
```",
    argument(name = "embedding", description = "As for `mmd_test`."),
    argument(name = "group", description = "As for `ks_test`.")
)]
struct ClassifierTwoSampleAuroc;

pub(super) static FUNCTION: EmbeddingTest = EmbeddingTest {
    name: "classifier_two_sample_auroc",
    documentation: || ClassifierTwoSampleAuroc.doc(),
    most_rows: 2_000,
    test: Test::Four(["auroc", "lower", "upper", "pvalue"], classifier_two_sample_auroc),
};

fn classifier_two_sample_auroc(one: Vectors<'_>, other: Vectors<'_>) -> Option<[f64; 4]> {
    let told = tell_apart(one, other, CONFIDENCE)?;
    Some([told.auroc, told.interval.lower, told.interval.upper, told.pvalue])
}
