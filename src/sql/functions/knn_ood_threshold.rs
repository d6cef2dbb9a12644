//! `knn_ood_threshold(bank [, tpr])`: the score that a share `tpr` of the held-out ID images does not exceed.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::ptr_eq::PtrEq;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use datafusion_macros::user_doc;

use super::arguments;
use crate::bank::Banks;

pub(super) const NAME: &str = "knn_ood_threshold";

/// FLOAT at the bank's k, from its calibration.
#[user_doc(
    doc_section(label = "Decisions"),
    description = "FLOAT: the score, at the bank's k, that a share tpr of the calibration images (held-out, in-distribution) does not exceed. Sun et al. 2022, §3: λ.",
    syntax_example = "knn_ood_threshold(bank [, tpr])",
    argument(name = "bank", description = "A literal; the bank must be calibrated."),
    argument(
        name = "tpr",
        description = "A literal in (0, 1), 0.95 where it is left out. It takes at least 1 / (1 − tpr) calibration images."
    )
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct KnnOodThreshold {
    signature: Signature,
    banks: PtrEq<Arc<Banks>>,
}

impl KnnOodThreshold {
    pub(super) fn new(banks: &Arc<Banks>) -> Self {
        Self { signature: Signature::user_defined(Volatility::Stable), banks: Arc::clone(banks).into() }
    }

    fn threshold(&self, given: bool, bank: Option<&ScalarValue>, tpr: Option<&ScalarValue>) -> Result<f32> {
        let bank = arguments::bank(NAME, &self.banks, bank)?;
        let tpr = arguments::tpr(NAME, given, tpr)?;
        Ok(self.banks.calibration(&bank, bank.k)?.threshold(tpr)?)
    }
}

impl ScalarUDFImpl for KnnOodThreshold {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [bank] => Ok(vec![arguments::bank_type(NAME, bank)?]),
            [bank, tpr] => Ok(vec![arguments::bank_type(NAME, bank)?, arguments::rate_type(NAME, tpr)?]),
            _ => plan_err!("{NAME} takes (bank [, tpr]), got {} arguments", types.len()),
        }
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        plan_err!("{NAME}: planned by its arguments, see return_field_from_args")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let literals = args.scalar_arguments;
        self.threshold(literals.len() > 1, literals[0], literals.get(1).copied().flatten())?;
        Ok(arguments::result_field(NAME, DataType::Float32))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let literal = |position| arguments::literal(&args.args, position);
        let threshold = self.threshold(args.args.len() > 1, literal(0), literal(1))?;
        Ok(ColumnarValue::Scalar(ScalarValue::Float32(Some(threshold))))
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}
