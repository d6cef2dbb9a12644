//! `is_ood(embedding, bank [, tpr])`: whether an image's score lies above the bank's calibrated threshold.

use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::ptr_eq::PtrEq;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use datafusion_macros::user_doc;

use super::{arguments, settings};
use crate::bank::Banks;
use crate::index::{Bound, Kth, Question};

/// As SQL calls it; the optimiser knows it by this name.
pub(crate) const NAME: &str = "is_ood";

/// BOOLEAN: score at the bank's k > threshold at `tpr` (default 0.95).
#[user_doc(
    doc_section(label = "Decisions"),
    description = "BOOLEAN: whether `knn_ood_score(embedding, bank)` > `knn_ood_threshold(bank, tpr)`. It stops searching as soon as k neighbours within the threshold are found: where most rows are in-distribution it takes a fraction of the time that the comparison takes.",
    syntax_example = "is_ood(embedding, bank [, tpr])",
    argument(name = "embedding", description = "As for `knn_ood_score`."),
    argument(name = "bank", description = "A literal; the bank must be calibrated."),
    argument(name = "tpr", description = "As for `knn_ood_threshold`.")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct IsOod {
    signature: Signature,
    banks: PtrEq<Arc<Banks>>,
}

impl IsOod {
    pub(super) fn new(banks: &Arc<Banks>) -> Self {
        Self { signature: Signature::user_defined(Volatility::Stable), banks: Arc::clone(banks).into() }
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
        match types {
            [embedding, bank, rest @ ..] if rest.len() < 2 => {
                let mut coerced = vec![arguments::embedding_type(NAME, embedding)?, arguments::bank_type(NAME, bank)?];
                for tpr in rest {
                    coerced.push(arguments::rate_type(NAME, tpr)?);
                }
                Ok(coerced)
            }
            _ => plan_err!("{NAME} takes (embedding, bank [, tpr]), got {} arguments", types.len()),
        }
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        plan_err!("{NAME}: planned by its arguments, see return_field_from_args")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let bank = arguments::planned(NAME, &self.banks, &args)?;
        let tpr = arguments::tpr(NAME, args.arg_fields.len() > 2, args.scalar_arguments.get(2).copied().flatten())?;
        self.banks.calibration(&bank, bank.k)?.threshold(tpr)?;
        Ok(arguments::result_field(NAME, DataType::Boolean))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let options = settings::search(&args.config_options)?;
        let tpr = arguments::tpr(NAME, args.args.len() > 2, arguments::literal(&args.args, 2))?;
        arguments::each_embedding(NAME, &self.banks, &args, options, |bank, asked| {
            let threshold = self.banks.calibration(bank.definition(), asked.k)?.threshold(tpr)?;
            let question = Question::within(asked.k, Bound::All(threshold));
            let found = bank.find(asked.queries, question)?;
            let beyond = found.kth.into_iter().map(|kth| Some(kth != Kth::Within)).collect();
            Ok(Arc::new(asked.spread(beyond).collect::<BooleanArray>()))
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}
