//! Functions of a row's class logits: arguments, and one number per row.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::arguments;
use crate::error::Error;
use crate::index::vectors::{embedding, numbers};
use crate::schema;

/// Logits are lists of numbers, as embeddings are.
pub(super) fn coerce(name: &str, given: &DataType) -> Result<DataType> {
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

/// A DOUBLE for each row whose logits are not NULL.
pub(super) fn each_row(args: &ScalarFunctionArgs, score: impl Fn(&[f32]) -> f64) -> Result<ColumnarValue> {
    let column = args.args[0].to_array(match &args.args[0] {
        ColumnarValue::Scalar(_) => 1,
        ColumnarValue::Array(column) => column.len(),
    })?;
    let found: ArrayRef = Arc::new(scores(&column, score)?);
    match &args.args[0] {
        ColumnarValue::Scalar(_) => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?)),
        ColumnarValue::Array(_) => Ok(ColumnarValue::Array(found)),
    }
}

fn scores(column: &ArrayRef, score: impl Fn(&[f32]) -> f64) -> Result<Float64Array> {
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
