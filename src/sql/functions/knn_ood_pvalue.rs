//! `knn_ood_pvalue(embedding, bank)`: how unusual a score would be for an in-distribution image.

use std::sync::Arc;

use arrow::array::Float64Array;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::ptr_eq::PtrEq;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use datafusion_macros::user_doc;

use super::{CALIBRATION_ROWS, arguments, settings};
use crate::bank::Banks;
use crate::statistics::thresholds;

/// As SQL calls it; the optimiser knows it by this name.
pub(crate) const NAME: &str = "knn_ood_pvalue";

/// DOUBLE in (0, 1], from the bank's calibration.
#[user_doc(
    doc_section(label = "Decisions"),
    description = "DOUBLE in [1 / (n + 1), 1], smaller is more OOD: conformal p-value, (1 + #{calibration scores ≥ score}) / (n + 1), at the bank's k. For an image drawn like the n calibration images it is at most p with a chance of at most p. Bates, Candès, Lei, Romano, Sesia: *Testing for outliers with conformal p-values*, Annals of Statistics 2023.",
    syntax_example = "knn_ood_pvalue(embedding, bank)",
    argument(name = "embedding", description = "As for `knn_ood_score`."),
    argument(name = "bank", description = "A literal; the bank must be calibrated.")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct KnnOodPvalue {
    signature: Signature,
    banks: PtrEq<Arc<Banks>>,
}

impl KnnOodPvalue {
    pub(super) fn new(banks: &Arc<Banks>) -> Self {
        Self { signature: Signature::user_defined(Volatility::Stable), banks: Arc::clone(banks).into() }
    }
}

impl ScalarUDFImpl for KnnOodPvalue {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [embedding, bank] => {
                Ok(vec![arguments::embedding_type(NAME, embedding)?, arguments::bank_type(NAME, bank)?])
            }
            _ => plan_err!("{NAME} takes (embedding, bank), got {} arguments", types.len()),
        }
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        plan_err!("{NAME}: planned by its arguments, see return_field_from_args")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let call = arguments::planned_scored(NAME, &self.banks, &args)?;
        let rows = self.banks.calibration(&call.bank, call.k)?.scores.len();
        // bh_reject reads it, to refuse a rate that so few images cannot hold
        let metadata = [(CALIBRATION_ROWS.to_owned(), rows.to_string())].into();
        let field = arguments::result_field(NAME, DataType::Float64);
        Ok(Arc::new(field.as_ref().clone().with_metadata(metadata)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let options = settings::search(&args.config_options)?;
        arguments::each_row(NAME, &self.banks, &args, options, |bank, asked| {
            let calibration = self.banks.calibration(bank.definition(), asked.k)?;
            let scores = bank.kth_distances(asked.queries, asked.k)?;
            let pvalues = scores.iter().map(|&score| Some(thresholds::pvalue(&calibration.scores, score)));
            Ok(Arc::new(asked.spread(pvalues.collect()).collect::<Float64Array>()))
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}
