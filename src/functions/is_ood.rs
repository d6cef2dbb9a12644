//! `is_ood(embedding, bank [, tpr])`: whether an image's score lies above the bank's calibrated threshold.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::ptr_eq::PtrEq;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::arguments::{self, Third};
use super::settings;
use crate::bank::{Banks, Definition};

const NAME: &str = "is_ood";

/// BOOLEAN: score at the bank's k > threshold at `tpr` (default 0.95).
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct IsOod {
    signature: Signature,
    banks: PtrEq<Arc<Banks>>,
}

impl IsOod {
    pub(super) fn new(banks: &Arc<Banks>) -> Self {
        Self { signature: Signature::user_defined(Volatility::Stable), banks: Arc::clone(banks).into() }
    }

    fn threshold(&self, bank: &Definition, given: bool, tpr: Option<&ScalarValue>) -> Result<f32> {
        let tpr = arguments::tpr(NAME, given, tpr)?;
        Ok(self.banks.calibration(bank, bank.k)?.threshold(tpr)?)
    }
}

impl ScalarUDFImpl for IsOod {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        arguments::coerce(NAME, Third::Rate, types)
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        plan_err!("{NAME}: planned by its arguments, see return_field_from_args")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let (bank, tpr) = arguments::planned(NAME, &self.banks, &args)?;
        self.threshold(bank, args.arg_fields.len() > 2, tpr)?;
        Ok(arguments::result_field(NAME, DataType::Boolean))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let bank = arguments::bank(NAME, &self.banks, arguments::literal(&args.args, 1))?;
        let threshold = self.threshold(bank, args.args.len() > 2, arguments::literal(&args.args, 2))?;
        let options = settings::search(&args.config_options)?;
        let decide = |column| arguments::above(&self.banks, bank, threshold, options, column);
        Ok(match &args.args[0] {
            ColumnarValue::Array(column) => ColumnarValue::Array(Arc::new(decide(column)?)),
            ColumnarValue::Scalar(one) => {
                ColumnarValue::Scalar(ScalarValue::try_from_array(&decide(&one.to_array()?)?, 0)?)
            }
        })
    }
}
