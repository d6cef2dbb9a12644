//! `ks_test(score, group)`: do the scores of two groups of rows have one distribution?

use datafusion_macros::user_doc;

use super::samples::{Metric, MetricFunction};
use crate::statistics::kolmogorov::kolmogorov_smirnov;
use crate::statistics::metrics::auroc;

#[user_doc(
    doc_section(label = "Drift"),
    description = "STRUCT(d DOUBLE, pvalue DOUBLE, auroc DOUBLE), an aggregate: the two-sample test of Kolmogorov and Smirnov. `d`, in [0, 1], is the largest difference between the shares of both groups up to some score; `pvalue` is two-sided, exact up to 30,000,000 pairs of rows (as SciPy's `ks_2samp(method='exact')`) and Kolmogorov's limit with Stephens's correction beyond that; `auroc` is the chance that a row of the group TRUE scores above one of FALSE, 0.5 where they do not differ. Of many rows every difference is significant: `d` and `auroc` say how large it is. NULL where a group has no rows.",
    syntax_example = "ks_test(score, group)",
    sql_example = "```sql
SELECT ks_test(knn_ood_score(my_net, 'shop'), ingested_at >= '2026-01-01')['pvalue'] FROM images;
```",
    argument(name = "score", description = "A number. Rows where it is NULL do not count."),
    argument(
        name = "group",
        description = "BOOLEAN, such as `dataset = 'camera_7'`: which of the two groups a row is of. Rows where it is NULL do not count."
    )
)]
struct KsTest;

pub(super) static FUNCTION: MetricFunction = MetricFunction {
    name: "ks_test",
    documentation: || KsTest.doc(),
    metric: Metric::Three(["d", "pvalue", "auroc"], ks_test),
};

fn ks_test(one: &[f64], other: &[f64]) -> Option<[f64; 3]> {
    let found = kolmogorov_smirnov(one, other)?;
    Some([found.d, found.pvalue, auroc(one, other)?])
}
