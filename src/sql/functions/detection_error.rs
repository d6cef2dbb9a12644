//! `detection_error(score, is_ood)`: the least mean of both error rates.

use datafusion::logical_expr::AggregateUDF;
use datafusion_macros::user_doc;

use super::samples::Separation;
use crate::statistics::metrics;

#[user_doc(
    doc_section(label = "Metrics"),
    description = "DOUBLE in [0, 0.5], an aggregate: the least mean, over all thresholds, of the share of ID rows rejected and the share of OOD rows accepted. Liang, Li, Srikant: *Enhancing the Reliability of Out-of-distribution Image Detection in Neural Networks*, ICLR 2018.",
    syntax_example = "detection_error(score, is_ood)",
    argument(name = "score", description = "A number, larger is more OOD."),
    argument(name = "is_ood", description = "BOOLEAN: which rows are OOD.")
)]
struct DetectionError;

pub(super) fn udf() -> AggregateUDF {
    const DOC: &DetectionError = &DetectionError;
    Separation::udf("detection_error", DOC.doc(), metrics::detection_error)
}
