//! `aupr_in(score, is_ood)`: area under precision and recall, ID positive.

use datafusion_macros::user_doc;

use super::samples::{Metric, MetricFunction};
use crate::statistics::metrics::aupr_in;

#[user_doc(
    doc_section(label = "Metrics"),
    description = "DOUBLE in [0, 1], an aggregate: area under precision and recall with ID as the positive class (AUIN in the paper's tables), by the trapezoid rule over one step per distinct score, as the reference code has it: its curve ends at a precision of 0.",
    syntax_example = "aupr_in(score, is_ood)",
    argument(name = "score", description = "A number, larger is more OOD."),
    argument(name = "is_ood", description = "BOOLEAN: which rows are OOD.")
)]
struct AuprIn;

pub(super) static FUNCTION: MetricFunction =
    MetricFunction { name: "aupr_in", documentation: || AuprIn.doc(), metric: Metric::Plain(aupr_in) };
