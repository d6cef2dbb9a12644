//! `knn_ood_threshold(bank [, tpr [, confidence]])`: the score that a share `tpr` of the held-out ID images does not exceed; with a
//! confidence, of all ID images.

use arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, ScalarValue};
use datafusion_macros::user_doc;

use super::arguments::{BankCall, Parameter};
use super::bank_function::{BankFunction, Compute};

#[user_doc(
    doc_section(label = "Decisions"),
    description = "FLOAT: the score, at the bank's k, that a share tpr of the calibration images (held-out, in-distribution) does not exceed: of n ascending scores the one with (1 − tpr)·n above it, rounded half to even as the paper's code has it, so that of 150 at 0.95 eight lie above. Sun et al. 2022, §3: λ.",
    syntax_example = "knn_ood_threshold(bank [, tpr [, confidence]])",
    argument(name = "bank", description = "A literal; the bank must be calibrated."),
    argument(
        name = "tpr",
        description = "A literal in (0, 1), 0.95 where it is left out. It takes at least 1 / (1 − tpr) calibration images."
    ),
    argument(
        name = "confidence",
        description = "A literal in (0, 1): the score below which at least a share tpr of *all* ID images lies with this confidence, whatever the distribution of their scores (a tolerance limit: Wilks, *Annals of Mathematical Statistics* 1941), where the calibration images are a sample of them. It is larger than without one for a confidence above about 0.5, and takes at least ln(1 − confidence) / ln(tpr) calibration images: 59 for 0.95 and 0.95. Left out, half of all calibrations accept less than tpr."
    )
)]
struct KnnOodThreshold;

pub(super) static FUNCTION: BankFunction = BankFunction {
    name: "knn_ood_threshold",
    parameters: &[Parameter::Bank, Parameter::Tpr, Parameter::Confidence],
    documentation: || KnnOodThreshold.doc(),
    plan: |call| {
        knn_ood_threshold(call)?;
        Ok(Field::new(FUNCTION.name, DataType::Float32, true))
    },
    compute: Compute::Constant(|call| Ok(ScalarValue::Float32(Some(knn_ood_threshold(call)?)))),
};

/// The score that a share `tpr` of the bank's calibration images does not exceed; with a confidence, of all such images.
pub(crate) fn knn_ood_threshold(call: &BankCall<'_>) -> Result<f32> {
    let calibration = call.calibration()?;
    Ok(match call.confidence {
        None => calibration.threshold(call.tpr)?,
        Some(confidence) => calibration.tolerance_limit(call.tpr, confidence)?,
    })
}
