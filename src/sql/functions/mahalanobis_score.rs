//! `mahalanobis_score(embedding, bank)`: distance to the nearest class of a bank, in standard deviations.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::ptr_eq::PtrEq;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use datafusion_macros::user_doc;

use super::arguments::Queries;
use super::{arguments, settings};
use crate::bank::Banks;

/// As SQL calls it; the optimiser knows it by this name.
pub(crate) const NAME: &str = "mahalanobis_score";

/// DOUBLE ≥ 0, the least over the bank's classes.
#[user_doc(
    doc_section(label = "Baselines"),
    description = "DOUBLE ≥ 0, larger is more OOD: Mahalanobis distance, of L2-normalised embeddings, to the nearest class mean of the bank. Classes are the values of `label` in the bank's version of `images`; rows without one are a class of their own, so a bank without labels has one class. The covariance is one for all classes: that of the bank's rows about their class means, plus 1e-4 of its mean variance on the diagonal so that directions in which the bank does not vary stay finite. Sehwag, Chiang, Mittal: *SSD: A Unified Framework for Self-Supervised Outlier Detection*, ICLR 2021, whose score is its square with a covariance for each class. It is fitted when the first row asks, in n · d² steps.",
    syntax_example = "mahalanobis_score(embedding, bank)",
    argument(name = "embedding", description = "As for `knn_ood_score`."),
    argument(name = "bank", description = "As for `knn_ood_score`; it need not be calibrated.")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct MahalanobisScore {
    signature: Signature,
    banks: PtrEq<Arc<Banks>>,
}

impl MahalanobisScore {
    pub(super) fn new(banks: &Arc<Banks>) -> Self {
        Self { signature: Signature::user_defined(Volatility::Stable), banks: Arc::clone(banks).into() }
    }
}

impl ScalarUDFImpl for MahalanobisScore {
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
        arguments::planned(NAME, &self.banks, &args)?;
        Ok(arguments::result_field(NAME, DataType::Float64))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let options = settings::search(&args.config_options)?;
        let bank = arguments::bank(NAME, &self.banks, arguments::literal(&args.args, 1))?;
        let scalar = matches!(args.args[0], ColumnarValue::Scalar(_));
        let rows = if scalar { 1 } else { args.number_rows };
        let column = args.args[0].to_array(rows)?;
        let mut batch = Queries::with_capacity(bank.dimension, rows);
        batch.push(&bank.name, &column, None)?;
        let found: ArrayRef = batch.ask(1, |asked| -> Result<ArrayRef> {
            if asked.queries.is_empty() {
                // nothing but NULL: the bank need not be read
                return Ok(Arc::new(Float64Array::new_null(rows)));
            }
            let gaussian = self.banks.gaussian(&bank, options)?;
            let distances = (0..asked.queries.len()).map(|at| Some(gaussian.distance(asked.queries.row(at)))).collect();
            Ok(Arc::new(asked.spread(distances).collect::<Float64Array>()))
        })?;
        if scalar {
            Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?))
        } else {
            Ok(ColumnarValue::Array(found))
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}
