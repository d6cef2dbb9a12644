//! `fpr_at_tpr_interval(score, is_ood [, tpr [, confidence]])`: how sure an FPR is.

use datafusion_macros::user_doc;

use super::samples::{Metric, MetricFunction};
use crate::statistics::intervals::fpr_interval;

#[user_doc(
    doc_section(label = "Metrics"),
    description = "STRUCT(lower DOUBLE, upper DOUBLE) in [0, 1], an aggregate: where the `fpr_at_tpr` of *all* such images lies, with this confidence. Both samples count: the OOD rows (Wilson, *JASA* 1927) and the ID rows that the threshold comes from (order statistics, whatever the distribution), put together as independent deviations are (Zou, Donner, *Statistics in Medicine* 2008). With too few ID rows for a limit of the threshold (fewer than 72 at 0.95 and 0.95) it reaches up to 1. Rows count as independent: copies and frames of one film make it too narrow.",
    syntax_example = "fpr_at_tpr_interval(score, is_ood [, tpr [, confidence]])",
    argument(name = "score", description = "A number, larger is more OOD."),
    argument(name = "is_ood", description = "BOOLEAN: which rows are OOD."),
    argument(name = "tpr", description = "A literal in (0, 1), 0.95 where it is left out."),
    argument(name = "confidence", description = "A literal in (0, 1), 0.95 where it is left out.")
)]
struct FprAtTprInterval;

pub(super) static FUNCTION: MetricFunction = MetricFunction {
    name: "fpr_at_tpr_interval",
    documentation: || FprAtTprInterval.doc(),
    metric: Metric::IntervalAtTpr(fpr_interval),
};
