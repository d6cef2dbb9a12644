//! `msp_score(logits)`: the negative maximum softmax probability.

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use datafusion_macros::user_doc;

use super::{arguments, logits};

const NAME: &str = "msp_score";

/// DOUBLE in [−1, −1/classes].
#[user_doc(
    doc_section(label = "Baselines"),
    description = "DOUBLE in [−1, −1 / classes], larger is more OOD: the negative maximum softmax probability. Hendrycks, Gimpel: *A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks*, ICLR 2017.",
    syntax_example = "msp_score(logits)",
    sql_example = "```sql
SELECT auroc(msp_score(resnet18_logits), dataset <> 'cifar10') AS msp,
       auroc(energy_score(resnet18_logits), dataset <> 'cifar10') AS energy,
       auroc(knn_ood_score(resnet18, 'cifar10'), dataset <> 'cifar10') AS knn
FROM images WHERE split = 'test';
```",
    argument(
        name = "logits",
        description = "The classifier's output before the softmax: the column BACKBONE_logits that `outskirt ingest --with-logits` writes, or any FLOAT[] or list of numbers. An embedding column is refused."
    )
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct MspScore {
    signature: Signature,
}

impl MspScore {
    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for MspScore {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [given] => Ok(vec![logits::coerce(NAME, given)?]),
            _ => plan_err!("{NAME} takes (logits), got {} arguments", types.len()),
        }
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        plan_err!("{NAME}: planned by its arguments, see return_field_from_args")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        logits::check(NAME, &args.arg_fields[0])?;
        Ok(arguments::result_field(NAME, DataType::Float64))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        logits::each_row(&args, msp)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}

/// −max softmax(logits), which are finite and at least one.
fn msp(logits: &[f32]) -> f64 {
    let largest = logits.iter().fold(f64::NEG_INFINITY, |most, &logit| most.max(f64::from(logit)));
    -1.0 / logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::msp;

    /// `-torch.tensor(l, dtype=torch.float64).softmax(0).max()`
    #[test]
    fn equals_pytorch() {
        assert!((msp(&[1.0, 2.0, 3.0]) + 0.6652409557748218).abs() < 1e-15);
        assert!((msp(&[-700.0, 900.0, 898.5]) + 0.8175744761936437).abs() < 1e-15);
        assert_eq!(msp(&[5.0]), -1.0);
        assert_eq!(msp(&[2.0; 4]), -0.25);
    }
}
