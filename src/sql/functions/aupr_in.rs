//! `aupr_in(score, is_ood)`: area under precision and recall, ID positive.

use datafusion::logical_expr::AggregateUDF;
use datafusion_macros::user_doc;

use super::samples::Separation;
use crate::statistics::metrics;

#[user_doc(
    doc_section(label = "Metrics"),
    description = "DOUBLE in [0, 1], an aggregate: area under precision and recall with ID as the positive class (AUIN in the paper's tables), by the trapezoid rule over one step per distinct score, as the reference code has it: its curve ends at a precision of 0.",
    syntax_example = "aupr_in(score, is_ood)",
    argument(name = "score", description = "A number, larger is more OOD."),
    argument(name = "is_ood", description = "BOOLEAN: which rows are OOD.")
)]
struct AuprIn;

pub(super) fn udf() -> AggregateUDF {
    const DOC: &AuprIn = &AuprIn;
    Separation::udf("aupr_in", DOC.doc(), metrics::aupr_in)
}
