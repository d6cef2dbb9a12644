//! `fpr_at_tpr(score, is_ood [, tpr])`: share of OOD rows accepted where a share `tpr` of the ID rows is.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, ColumnarValue, Documentation, Signature, Volatility};
use datafusion_macros::user_doc;

use super::arguments;
use super::samples::{self, Samples};
use crate::statistics::metrics;

const NAME: &str = "fpr_at_tpr";

#[user_doc(
    doc_section(label = "Metrics"),
    description = "DOUBLE in [0, 1], an aggregate: share of the OOD rows strictly below the score that a share tpr of the ID rows does not exceed (FPR95 in the paper's tables at the default of 0.95). Lower is better.",
    syntax_example = "fpr_at_tpr(score, is_ood [, tpr])",
    argument(name = "score", description = "A number, larger is more OOD."),
    argument(name = "is_ood", description = "BOOLEAN: which rows are OOD."),
    argument(name = "tpr", description = "A literal in (0, 1].")
)]
/// DOUBLE in [0, 1], the reference code's FPR95 at the default tpr of 0.95; NULL where one class has no rows.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct FprAtTpr {
    signature: Signature,
}

impl FprAtTpr {
    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for FprAtTpr {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let mut coerced = samples::coerce(NAME, types.get(..2).unwrap_or(types))?;
        match types.get(2..).unwrap_or(&[]) {
            [] => {}
            [tpr] => coerced.push(arguments::tpr_type(NAME, tpr)?),
            _ => return plan_err!("{NAME} takes (score, is_ood [, tpr]), got {} arguments", types.len()),
        }
        Ok(coerced)
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(samples::state_fields(&args))
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        samples::refuse_distinct(NAME, &args)?;
        let tpr = match args.exprs.get(2) {
            None => 0.95,
            // a literal evaluates without a row; anything else gives an array
            Some(tpr) => match tpr.evaluate(&RecordBatch::new_empty(Schema::empty().into())) {
                Ok(ColumnarValue::Scalar(literal)) => arguments::tpr(NAME, Some(&literal))?,
                _ => arguments::tpr(NAME, None)?,
            },
        };
        if !(tpr > 0.0 && tpr <= 1.0) {
            return plan_err!("{NAME}: tpr = {tpr} must lie in (0, 1]");
        }
        Ok(Box::new(Samples::new(NAME, move |id, ood| metrics::fpr_at_tpr(id, ood, tpr))))
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}
