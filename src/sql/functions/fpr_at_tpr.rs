//! `fpr_at_tpr(score, is_ood [, tpr])`: share of OOD rows accepted where a share `tpr` of the ID rows is.

use datafusion_macros::user_doc;

use super::samples::{Metric, MetricFunction};
use crate::statistics::metrics::fpr_at_tpr;

#[user_doc(
    doc_section(label = "Metrics"),
    description = "DOUBLE in [0, 1], an aggregate: share of the OOD rows strictly below the score that a share tpr of the ID rows does not exceed (FPR95 in the paper's tables at the default of 0.95). Lower is better. OOD rows at that very score do not count, while `is_ood` rejects only what lies above it: where scores tie, look at both.",
    syntax_example = "fpr_at_tpr(score, is_ood [, tpr])",
    argument(name = "score", description = "A number, larger is more OOD."),
    argument(name = "is_ood", description = "BOOLEAN: which rows are OOD."),
    argument(name = "tpr", description = "A literal in (0, 1].")
)]
struct FprAtTpr;

pub(super) static FUNCTION: MetricFunction =
    MetricFunction { name: "fpr_at_tpr", documentation: || FprAtTpr.doc(), metric: Metric::AtTpr(fpr_at_tpr) };
