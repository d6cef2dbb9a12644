//! STRUCTs of DOUBLEs: what functions give that answer with several numbers.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, StructArray};
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::ScalarValue;

fn fields(names: &[&str]) -> Fields {
    names.iter().map(|name| Field::new(*name, DataType::Float64, true)).collect()
}

/// The type of such a STRUCT.
pub(super) fn doubles(names: &[&str]) -> DataType {
    DataType::Struct(fields(names))
}

/// One of them, NULL where there are no numbers.
pub(super) fn of_doubles<const N: usize>(names: [&str; N], numbers: Option<[f64; N]>) -> ScalarValue {
    let fields = fields(&names);
    ScalarValue::Struct(Arc::new(match numbers {
        None => StructArray::new_null(fields, 1),
        Some(numbers) => {
            let column = |number| -> ArrayRef { Arc::new(Float64Array::from(vec![number])) };
            StructArray::new(fields, numbers.map(column).to_vec(), None)
        }
    }))
}
