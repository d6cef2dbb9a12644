//! `knn_ood_score(embedding, bank [, k])`: distance to the k-th nearest embedding of a bank.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::ptr_eq::PtrEq;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::arguments::{self, Third};
use super::settings;
use crate::bank::Banks;

const NAME: &str = "knn_ood_score";

/// FLOAT r_k in [0, 2], larger = more OOD (Sun et al. 2022, §3; there −r_k is the score).
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct KnnOodScore {
    signature: Signature,
    banks: PtrEq<Arc<Banks>>,
}

impl KnnOodScore {
    pub(super) fn new(banks: &Arc<Banks>) -> Self {
        Self { signature: Signature::user_defined(Volatility::Stable), banks: Arc::clone(banks).into() }
    }
}

impl ScalarUDFImpl for KnnOodScore {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        arguments::coerce(NAME, Third::Integer, types)
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        plan_err!("{NAME}: planned by its arguments, see return_field_from_args")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let (bank, k) = arguments::planned(NAME, &self.banks, &args)?;
        arguments::k(NAME, bank, args.arg_fields.len() > 2, k)?;
        Ok(arguments::result_field(NAME, DataType::Float32))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let bank = arguments::bank(NAME, &self.banks, arguments::literal(&args.args, 1))?;
        let k = arguments::k(NAME, bank, args.args.len() > 2, arguments::literal(&args.args, 2))?;
        let search = settings::search(&args.config_options)?;
        let score = |column| arguments::scores(&self.banks, bank, k, search, column);
        Ok(match &args.args[0] {
            ColumnarValue::Array(column) => ColumnarValue::Array(Arc::new(score(column)?)),
            ColumnarValue::Scalar(one) => {
                ColumnarValue::Scalar(ScalarValue::try_from_array(&score(&one.to_array()?)?, 0)?)
            }
        })
    }
}
