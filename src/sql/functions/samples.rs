//! The aggregates that compare ID with OOD scores, `name(score, is_ood)`. Their state is both samples, mergeable across
//! partitions.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Signature, Volatility};

/// Argument types of `name(score, is_ood)`.
pub(super) fn coerce(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [score, is_ood] if score.is_numeric() && matches!(is_ood, DataType::Boolean | DataType::Null) => {
            Ok(vec![DataType::Float64, DataType::Boolean])
        }
        [score, is_ood] => plan_err!("{name} takes (score, is_ood): a number and a boolean, got {score} and {is_ood}"),
        _ => plan_err!("{name} takes (score, is_ood), got {} arguments", types.len()),
    }
}

/// DISTINCT would drop images that happen to score alike.
pub(super) fn refuse_distinct(name: &str, args: &AccumulatorArgs<'_>) -> Result<()> {
    if args.is_distinct { plan_err!("{name} takes no DISTINCT: every row counts") } else { Ok(()) }
}

/// The two lists that [`Samples`] hands from partition to partition.
pub(super) fn state_fields(args: &StateFieldsArgs<'_>) -> Vec<FieldRef> {
    ["id", "ood"]
        .map(|side| {
            let list = DataType::List(Arc::new(Field::new("item", DataType::Float64, true)));
            Arc::new(Field::new(format_state_name(args.name, side), list, true))
        })
        .to_vec()
}

/// An aggregate without further arguments.
#[derive(Debug)]
pub(super) struct Separation {
    name: &'static str,
    signature: Signature,
    documentation: Option<&'static Documentation>,
    metric: fn(&[f64], &[f64]) -> Option<f64>,
}

impl Separation {
    /// DOUBLE; NULL where one class has no rows.
    pub(super) fn udf(
        name: &'static str,
        documentation: Option<&'static Documentation>,
        metric: fn(&[f64], &[f64]) -> Option<f64>,
    ) -> AggregateUDF {
        Self { name, signature: Signature::user_defined(Volatility::Immutable), documentation, metric }.into()
    }
}

impl PartialEq for Separation {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Separation {}

impl Hash for Separation {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl AggregateUDFImpl for Separation {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        coerce(self.name, types)
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(state_fields(&args))
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        refuse_distinct(self.name, &args)?;
        Ok(Box::new(Samples::new(self.name, self.metric)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.documentation
    }
}

/// A metric of (ID scores, OOD scores); `None` where it is not defined.
type Metric = dyn Fn(&[f64], &[f64]) -> Option<f64> + Send + Sync;

/// Collects scores by class; `metric(id, ood)` has the last word. Rows with a NULL are left out.
pub(super) struct Samples {
    name: &'static str,
    id: Vec<f64>,
    ood: Vec<f64>,
    metric: Box<Metric>,
}

impl std::fmt::Debug for Samples {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct(self.name).field("id", &self.id.len()).field("ood", &self.ood.len()).finish()
    }
}

impl Samples {
    pub(super) fn new(
        name: &'static str,
        metric: impl Fn(&[f64], &[f64]) -> Option<f64> + Send + Sync + 'static,
    ) -> Self {
        Self { name, id: Vec::new(), ood: Vec::new(), metric: Box::new(metric) }
    }
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
        Ok(ScalarValue::Float64((self.metric)(&self.id, &self.ood)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + (self.id.capacity() + self.ood.capacity()) * size_of::<f64>()
    }
}
