//! The aggregates that compare the scores of two classes, mostly ID and OOD: `name(score, is_ood [, tpr] [, confidence])`. Their
//! state is both samples, mergeable across partitions; of embeddings in place of scores, `embedding_samples`.

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
use super::structs::{doubles, of_doubles};
use crate::statistics::intervals::Interval;

/// An aggregate of scores, some of ID rows and some of OOD rows.
#[derive(Debug)]
pub(super) struct MetricFunction {
    /// As SQL calls it.
    pub(super) name: &'static str,
    pub(super) documentation: fn() -> Option<&'static Documentation>,
    pub(super) metric: Metric,
}

/// What is computed of ID scores and OOD scores; NULL where one class has no rows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Metric {
    /// A DOUBLE.
    Plain(fn(&[f64], &[f64]) -> Option<f64>),
    /// A DOUBLE, at a true-positive rate in (0, 1].
    AtTpr(fn(&[f64], &[f64], f64) -> Option<f64>),
    /// STRUCT(lower, upper), with a confidence.
    Interval(fn(&[f64], &[f64], f64) -> Option<Interval>),
    /// STRUCT(lower, upper), at a true-positive rate in (0, 1), with a confidence.
    IntervalAtTpr(fn(&[f64], &[f64], f64, f64) -> Option<Interval>),
    /// A STRUCT of these.
    Three([&'static str; 3], fn(&[f64], &[f64]) -> Option<[f64; 3]>),
}

const INTERVAL: [&str; 2] = ["lower", "upper"];

/// An argument after score and class: a literal number, which may be left out and then is 0.95.
#[derive(Debug, Clone, Copy)]
enum Literal {
    /// In (0, 1].
    TprUpTo1,
    /// In (0, 1).
    Tpr,
    /// In (0, 1).
    Confidence,
}

impl Literal {
    fn name(self) -> &'static str {
        match self {
            Self::TprUpTo1 | Self::Tpr => "tpr",
            Self::Confidence => "confidence",
        }
    }

    fn check(self, function: &str, value: f64) -> Result<f64> {
        let (most, range) = match self {
            Self::TprUpTo1 => (value <= 1.0, "(0, 1]"),
            Self::Tpr | Self::Confidence => (value < 1.0, "(0, 1)"),
        };
        if value > 0.0 && most {
            return Ok(value);
        }
        plan_err!("{function}: {} = {value} must lie in {range}", self.name())
    }
}

impl Metric {
    fn literals(self) -> &'static [Literal] {
        match self {
            Self::Plain(_) | Self::Three(..) => &[],
            Self::AtTpr(_) => &[Literal::TprUpTo1],
            Self::Interval(_) => &[Literal::Confidence],
            Self::IntervalAtTpr(_) => &[Literal::Tpr, Literal::Confidence],
        }
    }

    fn gives(self) -> DataType {
        match self {
            Self::Plain(_) | Self::AtTpr(_) => DataType::Float64,
            Self::Interval(_) | Self::IntervalAtTpr(_) => doubles(&INTERVAL),
            Self::Three(names, _) => doubles(&names),
        }
    }

    /// `literals` are the values of [`Self::literals`].
    fn of(self, id: &[f64], ood: &[f64], literals: &[f64]) -> ScalarValue {
        let interval = |found: Option<Interval>| of_doubles(INTERVAL, found.map(|found| [found.lower, found.upper]));
        match self {
            Self::Plain(metric) => ScalarValue::Float64(metric(id, ood)),
            Self::AtTpr(metric) => ScalarValue::Float64(metric(id, ood, literals[0])),
            Self::Interval(metric) => interval(metric(id, ood, literals[0])),
            Self::IntervalAtTpr(metric) => interval(metric(id, ood, literals[0], literals[1])),
            Self::Three(names, metric) => of_doubles(names, metric(id, ood)),
        }
    }
}

impl MetricFunction {
    pub(super) fn udf(&'static self) -> AggregateUDF {
        MetricUdf { function: self, signature: Signature::user_defined(Volatility::Immutable) }.into()
    }

    /// The values of the literals, those that are left out too.
    fn literals(&self, args: &AccumulatorArgs<'_>) -> Result<Vec<f64>> {
        let value = |(at, literal): (usize, &Literal)| {
            let Some(given) = args.exprs.get(2 + at) else { return Ok(0.95) };
            // a literal evaluates without a row; anything else gives an array
            let value = given.evaluate(&RecordBatch::new_empty(Schema::empty().into()));
            let scalar = if let Ok(ColumnarValue::Scalar(scalar)) = value { Some(scalar) } else { None };
            literal.check(self.name, arguments::number(self.name, literal.name(), "0.95", scalar.as_ref())?)
        };
        self.metric.literals().iter().enumerate().map(value).collect()
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
        let (takes, most) = (arguments::takes(name, self.documentation()), self.function.metric.literals());
        let ([score, class], literals) = match types.split_first_chunk::<2>() {
            Some((first, literals)) if literals.len() <= most.len() => (first, literals),
            _ => return plan_err!("{name} takes {takes}, got {} arguments", types.len()),
        };
        let literals =
            literals.iter().zip(most).map(|(given, literal)| arguments::number_type(name, literal.name(), given));
        match (score, class) {
            (score, DataType::Boolean | DataType::Null) if score.is_numeric() => {
                [Ok(DataType::Float64), Ok(DataType::Boolean)].into_iter().chain(literals).collect()
            }
            _ => plan_err!("{name} takes {takes}: a number and a boolean first, got {score} and {class}"),
        }
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(self.function.metric.gives())
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
        let literals = self.function.literals(&args)?;
        Ok(Box::new(Samples { name, id: Vec::new(), ood: Vec::new(), metric, literals }))
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
    /// The values of the metric's literals.
    literals: Vec<f64>,
}

impl Accumulator for Samples {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let scores = values[0].as_primitive::<Float64Type>();
        for (score, is_ood) in scores.iter().zip(values[1].as_boolean()) {
            match (score, is_ood) {
                (Some(score), Some(_)) if score.is_nan() => return exec_err!("{}: a score is NaN", self.name),
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
        Ok(self.metric.of(&self.id, &self.ood, &self.literals))
    }

    fn size(&self) -> usize {
        size_of_val(self) + (self.id.capacity() + self.ood.capacity() + self.literals.capacity()) * size_of::<f64>()
    }
}
