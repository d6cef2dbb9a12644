//! SQL functions of a row's class logits: `name(logits)` and `name(logits [, parameter])`, one DOUBLE per row.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::arguments;
use crate::error::Error;
use crate::index::vectors::{embedding, numbers};
use crate::schema;

/// A function of logits.
#[derive(Debug)]
pub(super) struct LogitsFunction {
    /// As SQL calls it.
    pub(super) name: &'static str,
    pub(super) documentation: fn() -> Option<&'static Documentation>,
    pub(super) score: Score,
}

/// Of finite logits, at least one.
#[derive(Debug)]
pub(super) enum Score {
    Plain(fn(&[f32]) -> f64),
    /// With a parameter greater than 0: its name, and what it is where it is left out.
    With(&'static str, f64, fn(&[f32], f64) -> f64),
}

impl LogitsFunction {
    pub(super) fn udf(&'static self) -> ScalarUDF {
        LogitsUdf { function: self, signature: Signature::user_defined(Volatility::Immutable) }.into()
    }

    /// The parameter, which must be a literal.
    fn parameter(&self, literals: &[Option<&ScalarValue>]) -> Result<f64> {
        let Score::With(what, otherwise, _) = self.score else { return Ok(0.0) };
        let Some(literal) = literals.get(1) else { return Ok(otherwise) };
        let name = self.name;
        match literal.map(|value| value.cast_to(&DataType::Float64)).transpose()? {
            Some(ScalarValue::Float64(Some(value))) if value > 0.0 && value.is_finite() => Ok(value),
            Some(ScalarValue::Float64(Some(value))) => plan_err!("{name}: {what} = {value} must be greater than 0"),
            _ => plan_err!("{name}: {what} must be a literal number, such as {otherwise}"),
        }
    }
}

/// What DataFusion calls.
#[derive(Debug)]
struct LogitsUdf {
    function: &'static LogitsFunction,
    signature: Signature,
}

impl PartialEq for LogitsUdf {
    fn eq(&self, other: &Self) -> bool {
        self.function.name == other.function.name
    }
}

impl Eq for LogitsUdf {}

impl Hash for LogitsUdf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
    }
}

impl ScalarUDFImpl for LogitsUdf {
    fn name(&self) -> &str {
        self.function.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.function.name;
        match (types, &self.function.score) {
            ([logits], _) => Ok(vec![coerce(name, logits)?]),
            // a literal must stay one: no cast is put around it
            ([logits, given], Score::With(..)) if given.is_numeric() => Ok(vec![coerce(name, logits)?, given.clone()]),
            ([_, given], Score::With(what, ..)) => plan_err!("{name}: {what} must be a number, got {given}"),
            _ => {
                let takes = arguments::takes(name, self.documentation());
                plan_err!("{name} takes {takes}, got {} arguments", types.len())
            }
        }
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        plan_err!("{}: planned by its arguments, see return_field_from_args", self.function.name)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        check(self.function.name, &args.arg_fields[0])?;
        self.function.parameter(args.scalar_arguments)?;
        Ok(Arc::new(Field::new(self.function.name, DataType::Float64, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let parameter = self.function.parameter(&arguments::literals(&args.args))?;
        let scalar = matches!(args.args[0], ColumnarValue::Scalar(_));
        let column = args.args[0].to_array(if scalar { 1 } else { args.number_rows })?;
        let scores = match self.function.score {
            Score::Plain(score) => scores(&column, score)?,
            Score::With(_, _, score) => scores(&column, |logits| score(logits, parameter))?,
        };
        arguments::value(Arc::new(scores), scalar)
    }

    fn documentation(&self) -> Option<&Documentation> {
        (self.function.documentation)()
    }
}

/// Logits are lists of numbers, as embeddings are.
fn coerce(name: &str, given: &DataType) -> Result<DataType> {
    arguments::embedding_type(name, given)
        .or_else(|_| plan_err!("{name}: the first argument must be class logits (FLOAT[classes]), got {given}"))
}

/// Refuse what is known to be no logits.
pub(super) fn check(name: &str, field: &Field) -> Result<()> {
    if schema::is_embedding(field) {
        let (column, logits) = (field.name(), schema::logits_column(field.name()));
        return plan_err!(
            "{name}: '{column}' holds embeddings; 'outskirt ingest --with-logits' writes the classifier's output into '{logits}'"
        );
    }
    Ok(())
}

/// How many logits the rows have that are not NULL.
pub(super) fn lengths(column: &ArrayRef) -> Vec<usize> {
    match column.data_type() {
        DataType::FixedSizeList(_, length) if column.null_count() < column.len() => vec![*length as usize],
        DataType::List(_) => {
            let lists = column.as_list::<i32>();
            (0..lists.len()).filter(|&row| lists.is_valid(row)).map(|row| lists.value_length(row) as usize).collect()
        }
        _ => Vec::new(),
    }
}

/// A DOUBLE for each row whose logits are not NULL.
pub(super) fn scores(column: &ArrayRef, score: impl Fn(&[f32]) -> f64) -> Result<Float64Array> {
    let of_row = |row: usize, values: Result<Option<&[f32]>, &'static str>| {
        let bad = |problem| Error::BadVector { what: "the logits' batch".into(), row, problem };
        match values.map_err(bad)? {
            None => Ok(None),
            Some([]) => Err(bad("empty").into()),
            Some(values) if values.iter().any(|logit| !logit.is_finite()) => Err(bad("not finite").into()),
            Some(values) => Ok(Some(score(values))),
        }
    };
    let rows = 0..column.len();
    match column.data_type() {
        DataType::FixedSizeList(..) => {
            let lists = column.as_fixed_size_list();
            rows.map(|row| of_row(row, embedding(lists, row))).collect()
        }
        DataType::List(_) => {
            let lists = column.as_list::<i32>();
            let ends = lists.value_offsets();
            let values = |row: usize| {
                let within = || numbers(lists.values(), ends[row] as usize, ends[row + 1] as usize);
                lists.is_valid(row).then(within).transpose()
            };
            rows.map(|row| of_row(row, values(row))).collect()
        }
        _ => Ok(Float64Array::new_null(column.len())),
    }
}
