//! `bh_reject(pvalue, fdr) OVER (…)`: which p-values to reject at a false discovery rate.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Schema};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, LimitEffect, PartitionEvaluator, Signature, Volatility, WindowUDFImpl,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion_macros::user_doc;

use super::knn_ood_pvalue::CALIBRATION_ROWS;
use crate::error::Error;
use crate::statistics::thresholds;

const NAME: &str = "bh_reject";

/// BOOLEAN per row of the window's partition.
#[user_doc(
    doc_section(label = "Decisions"),
    description = "BOOLEAN, a window function: the Benjamini-Hochberg selection among the p-values of a partition. Of the images that it selects, a share of at most fdr is in-distribution, on average. Benjamini, Hochberg: *Controlling the false discovery rate*, JRSS B 1995; with conformal p-values: Bates et al. 2023. A NULL p-value is left out of the count and gives NULL. ORDER BY and frames in OVER play no part.",
    syntax_example = "bh_reject(pvalue, fdr) OVER ([PARTITION BY …])",
    sql_example = "```sql
SELECT uri FROM (SELECT uri, bh_reject(knn_ood_pvalue(resnet18_cifar10, 'cifar10'), 0.05) OVER () AS found
                 FROM images WHERE dataset = 'camera_7') WHERE found;
```",
    argument(name = "pvalue", description = "A number in [0, 1], such as `knn_ood_pvalue`."),
    argument(
        name = "fdr",
        description = "A literal in (0, 1). n calibration images can hold one of at least 1 / (n + 1)."
    )
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BhReject {
    signature: Signature,
}

impl BhReject {
    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl WindowUDFImpl for BhReject {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [pvalue, fdr] if pvalue.is_numeric() && fdr.is_numeric() => Ok(vec![DataType::Float64; 2]),
            [pvalue, fdr] => plan_err!("{NAME} takes (pvalue, fdr), two numbers, got {pvalue} and {fdr}"),
            _ => plan_err!("{NAME} takes (pvalue, fdr), got {} arguments", types.len()),
        }
    }

    fn field(&self, args: WindowUDFFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(args.name(), DataType::Boolean, true)))
    }

    fn partition_evaluator(&self, args: PartitionEvaluatorArgs<'_>) -> Result<Box<dyn PartitionEvaluator>> {
        let fdr = match args.input_exprs()[1].evaluate(&RecordBatch::new_empty(Arc::new(Schema::empty()))) {
            Ok(ColumnarValue::Scalar(ScalarValue::Float64(Some(fdr)))) => fdr,
            _ => return plan_err!("{NAME}: fdr must be a literal number, such as 0.05"),
        };
        if !(fdr > 0.0 && fdr < 1.0) {
            return plan_err!("{NAME}: fdr = {fdr} must lie in (0, 1)");
        }
        let rows = args.input_fields()[0].metadata().get(CALIBRATION_ROWS).and_then(|rows| rows.parse().ok());
        if let Some(rows) = rows.filter(|&rows| !thresholds::supports_fdr(rows, fdr)) {
            return Err(Error::BadFdr { fdr, rows, needed: thresholds::rows_for_fdr(fdr) }.into());
        }
        Ok(Box::new(Selection { fdr }))
    }

    fn limit_effect(&self, _args: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        // a p-value anywhere may change the selection
        LimitEffect::Unknown
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}

#[derive(Debug)]
struct Selection {
    fdr: f64,
}

impl PartitionEvaluator for Selection {
    fn evaluate_all(&mut self, values: &[ArrayRef], _num_rows: usize) -> Result<ArrayRef> {
        let pvalues = values[0].as_primitive::<Float64Type>();
        let mut given: Vec<f64> = pvalues.iter().flatten().collect();
        if let Some(bad) = given.iter().find(|p| !(0.0..=1.0).contains(*p)) {
            return exec_err!("{NAME}: {bad} is no p-value, which lies in [0, 1]");
        }
        given.sort_unstable_by(f64::total_cmp);
        let limit = thresholds::bh_limit(&given, self.fdr);
        let rejected: BooleanArray = pvalues.iter().map(|p| p.map(|p| limit.is_some_and(|limit| p <= limit))).collect();
        Ok(Arc::new(rejected))
    }
}
