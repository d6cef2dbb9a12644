//! The aggregates that compare ID with OOD scores, `name(score, is_ood)` and `name(score, is_ood [, tpr])`. Their state is
//! both samples, mergeable across partitions.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, ListArray, RecordBatch};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Schema};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Documentation, Signature, Volatility,
};

use super::arguments;

/// An aggregate of scores, some of ID rows and some of OOD rows.
#[derive(Debug)]
pub(super) struct MetricFunction {
    /// As SQL calls it.
    pub(super) name: &'static str,
    pub(super) documentation: fn() -> Option<&'static Documentation>,
    pub(super) metric: Metric,
}

/// DOUBLE, of ID scores and OOD scores; `None` where one class has no rows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Metric {
    Plain(fn(&[f64], &[f64]) -> Option<f64>),
    /// At a true-positive rate in (0, 1], a literal; 0.95 where it is left out.
    AtTpr(fn(&[f64], &[f64], f64) -> Option<f64>),
}

impl MetricFunction {
    pub(super) fn udf(&'static self) -> AggregateUDF {
        MetricUdf { function: self, signature: Signature::user_defined(Volatility::Immutable) }.into()
    }

    fn tpr(&self, args: &AccumulatorArgs<'_>) -> Result<f64> {
        let Some(tpr) = args.exprs.get(2) else { return Ok(0.95) };
        // a literal evaluates without a row; anything else gives an array
        let value = tpr.evaluate(&RecordBatch::new_empty(Schema::empty().into()));
        let literal = if let Ok(ColumnarValue::Scalar(literal)) = value { Some(literal) } else { None };
        match arguments::tpr(self.name, literal.as_ref())? {
            tpr if tpr > 0.0 && tpr <= 1.0 => Ok(tpr),
            tpr => plan_err!("{}: tpr = {tpr} must lie in (0, 1]", self.name),
        }
    }
}

/// What DataFusion calls.
#[derive(Debug)]
struct MetricUdf {
    function: &'static MetricFunction,
    signature: Signature,
}

impl PartialEq for MetricUdf {
    fn eq(&self, other: &Self) -> bool {
        self.function.name == other.function.name
    }
}

impl Eq for MetricUdf {}

impl Hash for MetricUdf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
    }
}

impl AggregateUDFImpl for MetricUdf {
    fn name(&self) -> &str {
        self.function.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.function.name;
        let tpr = match (types, self.function.metric) {
            ([_, _], _) => None,
            ([_, _, tpr], Metric::AtTpr(_)) => Some(arguments::tpr_type(name, tpr)?),
            _ => {
                let takes = arguments::takes(name, self.documentation());
                return plan_err!("{name} takes {takes}, got {} arguments", types.len());
            }
        };
        match (&types[0], &types[1]) {
            (score, DataType::Boolean | DataType::Null) if score.is_numeric() => {
                Ok([DataType::Float64, DataType::Boolean].into_iter().chain(tpr).collect())
            }
            (score, is_ood) => {
                plan_err!("{name} takes (score, is_ood): a number and a boolean, got {score} and {is_ood}")
            }
        }
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    /// The two lists that [`Samples`] hands from partition to partition.
    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let list = |side| {
            let list = DataType::List(Arc::new(Field::new("item", DataType::Float64, true)));
            Arc::new(Field::new(format_state_name(args.name, side), list, true))
        };
        Ok(["id", "ood"].map(list).to_vec())
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let MetricFunction { name, metric, .. } = *self.function;
        if args.is_distinct {
            // it would drop images that happen to score alike
            return plan_err!("{name} takes no DISTINCT: every row counts");
        }
        let tpr = self.function.tpr(&args)?;
        Ok(Box::new(Samples { name, id: Vec::new(), ood: Vec::new(), metric, tpr }))
    }

    fn documentation(&self) -> Option<&Documentation> {
        (self.function.documentation)()
    }
}

/// Scores by class. Rows with a NULL are left out.
#[derive(Debug)]
struct Samples {
    name: &'static str,
    id: Vec<f64>,
    ood: Vec<f64>,
    metric: Metric,
    tpr: f64,
}

impl Accumulator for Samples {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let scores = values[0].as_primitive::<Float64Type>();
        for (score, is_ood) in scores.iter().zip(values[1].as_boolean()) {
            match (score, is_ood) {
                (Some(score), _) if score.is_nan() => return exec_err!("{}: a score is NaN", self.name),
                (Some(score), Some(true)) => self.ood.push(score),
                (Some(score), Some(false)) => self.id.push(score),
                _ => {}
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for (state, side) in states.iter().zip([&mut self.id, &mut self.ood]) {
            for list in state.as_list::<i32>().iter().flatten() {
                side.extend_from_slice(list.as_primitive::<Float64Type>().values());
            }
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let list = |side: &mut Vec<f64>| {
            let values = Float64Array::from(std::mem::take(side));
            let item = Arc::new(Field::new("item", DataType::Float64, true));
            let ends = OffsetBuffer::from_lengths([values.len()]);
            ScalarValue::List(Arc::new(ListArray::new(item, ends, Arc::new(values), None)))
        };
        Ok(vec![list(&mut self.id), list(&mut self.ood)])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(match self.metric {
            Metric::Plain(metric) => metric(&self.id, &self.ood),
            Metric::AtTpr(metric) => metric(&self.id, &self.ood, self.tpr),
        }))
    }

    fn size(&self) -> usize {
        size_of_val(self) + (self.id.capacity() + self.ood.capacity()) * size_of::<f64>()
    }
}
