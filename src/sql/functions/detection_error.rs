//! `detection_error(score, is_ood)`: the least mean of both error rates.

use datafusion_macros::user_doc;

use super::samples::{Metric, MetricFunction};
use crate::statistics::metrics::detection_error;

#[user_doc(
    doc_section(label = "Metrics"),
    description = "DOUBLE in [0, 0.5], an aggregate: the least mean, over all thresholds, of the share of ID rows rejected and the share of OOD rows accepted. Liang, Li, Srikant: *Enhancing the Reliability of Out-of-distribution Image Detection in Neural Networks*, ICLR 2018.",
    syntax_example = "detection_error(score, is_ood)",
    argument(name = "score", description = "A number, larger is more OOD."),
    argument(name = "is_ood", description = "BOOLEAN: which rows are OOD.")
)]
struct DetectionError;

pub(super) static FUNCTION: MetricFunction = MetricFunction {
    name: "detection_error",
    documentation: || DetectionError.doc(),
    metric: Metric::Plain(detection_error),
};
