//! `aupr_out(score, is_ood)`: area under precision and recall, OOD positive.

use datafusion_macros::user_doc;

use super::samples::{Metric, MetricFunction};
use crate::statistics::metrics::aupr_out;

#[user_doc(
    doc_section(label = "Metrics"),
    description = "DOUBLE in [0, 1], an aggregate: area under precision and recall with OOD as the positive class (AUOUT), by the trapezoid rule over one step per distinct score, as the reference code has it: its curve begins at a precision of 0.",
    syntax_example = "aupr_out(score, is_ood)",
    argument(name = "score", description = "A number, larger is more OOD."),
    argument(name = "is_ood", description = "BOOLEAN: which rows are OOD.")
)]
struct AuprOut;

pub(super) static FUNCTION: MetricFunction =
    MetricFunction { name: "aupr_out", documentation: || AuprOut.doc(), metric: Metric::Plain(aupr_out) };
