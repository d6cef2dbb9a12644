//! `auroc_interval(score, is_ood [, confidence])`: how sure an AUROC is.

use datafusion_macros::user_doc;

use super::samples::{Metric, MetricFunction};
use crate::statistics::intervals::auroc_interval;

#[user_doc(
    doc_section(label = "Metrics"),
    description = "STRUCT(lower DOUBLE, upper DOUBLE) in [0, 1], an aggregate: where the `auroc` of *all* such images lies, with this confidence. DeLong, DeLong, Clarke-Pearson, *Biometrics* 1988, on the scale of log(A / (1 − A)) so that it stays inside [0, 1]; where fewer than ten rows of a class lie among the other's it reaches as far as Newcombe's, *Statistics in Medicine* 2006 (method 5). Rows count as independent: copies and frames of one film make it too narrow.",
    syntax_example = "auroc_interval(score, is_ood [, confidence])",
    sql_example = "```sql
SELECT auroc(score, dataset <> 'cifar10') AS auroc, auroc_interval(score, dataset <> 'cifar10')['lower'] AS at_least
FROM (SELECT dataset, knn_ood_score(resnet18_cifar10, 'cifar10') AS score FROM images WHERE split = 'test');
```",
    argument(name = "score", description = "A number, larger is more OOD."),
    argument(name = "is_ood", description = "BOOLEAN: which rows are OOD."),
    argument(name = "confidence", description = "A literal in (0, 1), 0.95 where it is left out.")
)]
struct AurocInterval;

pub(super) static FUNCTION: MetricFunction = MetricFunction {
    name: "auroc_interval",
    documentation: || AurocInterval.doc(),
    metric: Metric::Interval(auroc_interval),
};
