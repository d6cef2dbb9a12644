//! Values of Arrow as JSON and as the fields of a CSV file.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::csv::WriterBuilder;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, UInt64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::{Map, Number, Value};

use crate::error::Result;

/// The largest integer up to which readers of JSON that know one kind of numbers (f64) tell all of them apart.
pub(super) const LARGEST_IN_JSON: u64 = (1 << 53) - 1;

/// A row as a JSON object, NULLs among it.
pub(super) fn object(batch: &RecordBatch, row: usize) -> Result<Map<String, Value>> {
    let fields = batch.schema_ref().fields().iter().zip(batch.columns());
    fields.map(|(field, column)| Ok((field.name().clone(), json(column, row)?))).collect()
}

/// A value. Integers beyond 2⁵³ are texts, for some readers round them; NaN and infinities are null.
pub(super) fn json(column: &ArrayRef, row: usize) -> Result<Value> {
    use DataType as D;
    if column.is_null(row) {
        return Ok(Value::Null);
    }
    let list = |values: ArrayRef| -> Result<Value> {
        Ok(Value::Array((0..values.len()).map(|at| json(&values, at)).collect::<Result<_>>()?))
    };
    Ok(match column.data_type() {
        D::Null => Value::Null,
        D::Boolean => column.as_boolean().value(row).into(),
        D::UInt8 | D::UInt16 | D::UInt32 | D::UInt64 => {
            integer(cast(&column.slice(row, 1), &D::UInt64)?.as_primitive::<UInt64Type>().value(0))
        }
        D::Int8 | D::Int16 | D::Int32 | D::Int64 => {
            let value = cast(&column.slice(row, 1), &D::Int64)?.as_primitive::<Int64Type>().value(0);
            if value.unsigned_abs() > LARGEST_IN_JSON { value.to_string().into() } else { value.into() }
        }
        // the shortest digits that mean the same f32
        D::Float32 => float(
            column.as_primitive::<arrow::datatypes::Float32Type>().value(row).to_string().parse().unwrap_or(f64::NAN),
        ),
        D::Float16 | D::Float64 => {
            float(cast(&column.slice(row, 1), &D::Float64)?.as_primitive::<Float64Type>().value(0))
        }
        D::List(_) => list(column.as_list::<i32>().value(row))?,
        D::LargeList(_) => list(column.as_list::<i64>().value(row))?,
        D::FixedSizeList(..) => list(column.as_fixed_size_list().value(row))?,
        D::Struct(fields) => {
            let values = fields.iter().zip(column.as_struct().columns());
            Value::Object(
                values.map(|(field, column)| Ok((field.name().clone(), json(column, row)?))).collect::<Result<_>>()?,
            )
        }
        D::Utf8 => column.as_string::<i32>().value(row).into(),
        _ => ArrayFormatter::try_new(column, &FormatOptions::default())?.value(row).to_string().into(),
    })
}

/// As a number where it is small enough, else as a text.
pub(super) fn integer(value: u64) -> Value {
    if value > LARGEST_IN_JSON { value.to_string().into() } else { value.into() }
}

fn float(value: f64) -> Value {
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// How lists and structs stand in a CSV file: as JSON in a column of text.
pub(super) fn flat(batch: &RecordBatch) -> Result<RecordBatch> {
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        if !field.data_type().is_nested() {
            columns.push((field.as_ref().clone().with_nullable(true), Arc::clone(column)));
            continue;
        }
        let texts = (0..column.len()).map(|row| match json(column, row)? {
            Value::Null => Ok(None),
            value => Ok(Some(value.to_string())),
        });
        let texts: StringArray = texts.collect::<Result<_>>()?;
        columns.push((Field::new(field.name(), DataType::Utf8, true), Arc::new(texts) as ArrayRef));
    }
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// Rows as CSV (RFC 4180): what needs quotes has them, and nothing else is changed.
pub(super) fn csv(batch: &RecordBatch, header: bool) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    WriterBuilder::new().with_header(header).build(&mut text).write(&flat(batch)?)?;
    Ok(text)
}

/// The same rows with another column of text before them.
pub(super) fn led_by(name: &str, values: StringArray, batch: &RecordBatch) -> Result<RecordBatch> {
    let first = Arc::new(Field::new(name, DataType::Utf8, true));
    let fields: Vec<_> = std::iter::once(first).chain(batch.schema_ref().fields().iter().map(Arc::clone)).collect();
    let columns: Vec<ArrayRef> =
        std::iter::once(Arc::new(values) as ArrayRef).chain(batch.columns().iter().map(Arc::clone)).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float32Array, Int64Array, UInt64Array};

    use super::*;

    #[test]
    fn numbers_that_readers_would_round_are_texts() {
        let ids: ArrayRef = Arc::new(UInt64Array::from(vec![(1 << 53) - 1, 1 << 53]));
        assert_eq!(
            (json(&ids, 0).unwrap(), json(&ids, 1).unwrap()),
            (((1u64 << 53) - 1).into(), "9007199254740992".into())
        );
        let signed: ArrayRef = Arc::new(Int64Array::from(vec![-(1 << 53), -3]));
        assert_eq!((json(&signed, 0).unwrap(), json(&signed, 1).unwrap()), ("-9007199254740992".into(), (-3).into()));
        let floats: ArrayRef = Arc::new(Float32Array::from(vec![0.1, f32::NAN, f32::INFINITY]));
        assert_eq!(json(&floats, 0).unwrap().to_string(), "0.1");
        assert_eq!((json(&floats, 1).unwrap(), json(&floats, 2).unwrap()), (Value::Null, Value::Null));
    }

    #[test]
    fn a_field_of_csv_is_quoted_and_not_altered() {
        let hostile = ["=1+1", "a,b", "say \"hi\"", "two\nlines", "@x"];
        let column: ArrayRef = Arc::new(StringArray::from(hostile.to_vec()));
        let batch = RecordBatch::try_from_iter([("t", column)]).unwrap();
        let text = String::from_utf8(csv(&batch, true).unwrap()).unwrap();
        assert_eq!(text, "t\n=1+1\n\"a,b\"\n\"say \"\"hi\"\"\"\n\"two\nlines\"\n@x\n");
    }
}
