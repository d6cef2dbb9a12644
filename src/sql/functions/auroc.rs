//! `auroc(score, is_ood)`: the chance that an OOD row scores above an ID row.

use datafusion_macros::user_doc;

use super::samples::{Metric, MetricFunction};
use crate::statistics::metrics::auroc;

#[user_doc(
    doc_section(label = "Metrics"),
    description = "DOUBLE in [0, 1], an aggregate: the area under the ROC curve, which is the chance that an OOD row scores above an ID row, ties counting half. 0.5 is chance.",
    syntax_example = "auroc(score, is_ood)",
    argument(name = "score", description = "A number, larger is more OOD."),
    argument(name = "is_ood", description = "BOOLEAN: which rows are OOD.")
)]
struct Auroc;

pub(super) static FUNCTION: MetricFunction =
    MetricFunction { name: "auroc", documentation: || Auroc.doc(), metric: Metric::Plain(auroc) };
