//! Rows of `images` by a column of the user's own.

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Float64Type, UInt64Type};
use futures::TryStreamExt;

use super::options::OwnOptions;
use crate::error::{Error, Result};
use crate::identity::{Digest, digest};
use crate::image::is_plain;
use crate::ingest::column_types::plain;
use crate::schema;
use crate::store::{Store, quote};

/// By the values of a column, as texts: ids of the rows that have them.
#[derive(Debug)]
pub(super) struct Keys {
    /// Ascending.
    rows: Vec<(Digest, u64)>,
}

impl Keys {
    /// Of the dataset that is ingested, or of all where none is named; `None` where rows are matched by uri.
    ///
    /// Errors: no such column, or one of lists.
    /// `names`: what the column may be called, the first that is there counts.
    pub(super) async fn of(store: &Store, options: &OwnOptions, names: &[String]) -> Result<Option<Self>> {
        let Some(key) = &options.key else { return Ok(None) };
        let images = store.schema(schema::IMAGES).await?;
        let is_there = |name: &&String| images.field_with_name(name).is_ok_and(|field| is_plain(field.data_type()));
        let Some(key) = names.iter().find(is_there) else { return Err(Error::NoKey { key: key.clone() }) };
        let filter = options.dataset.as_ref().map(|dataset| format!("{} = {}", schema::DATASET, quote(dataset)));
        let mut rows = Vec::new();
        let columns: &[&str] = if key == schema::ID { &[schema::ID] } else { &[schema::ID, key] };
        let mut batches = store.scan(schema::IMAGES, None, columns, filter.as_deref()).await?;
        while let Some(batch) = batches.try_next().await? {
            let ids = batch.column(0).as_primitive::<UInt64Type>();
            let values = texts(batch.column(batch.num_columns() - 1))?;
            let has_value = (0..batch.num_rows()).filter(|&row| values.is_valid(row));
            rows.extend(has_value.map(|row| (Self::digest(values.value(row)), ids.value(row))));
        }
        rows.sort_unstable();
        Ok(Some(Self { rows }))
    }

    /// Of a value.
    pub(super) fn digest(value: &str) -> Digest {
        digest("", value)
    }

    /// Ids of the rows that have it, ascending.
    pub(super) fn rows(&self, value: &Digest) -> impl Iterator<Item = u64> + '_ {
        let first = self.rows.partition_point(|(key, _)| key < value);
        let value = *value;
        self.rows[first..].iter().take_while(move |(key, _)| *key == value).map(|(_, id)| *id)
    }
}

/// The values of a column as the texts by which they are compared: a whole number is the same in every type.
pub(super) fn texts(column: &ArrayRef) -> Result<StringArray> {
    /// Above it not every whole number is a float.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let column = plain(column)?;
    let text = |whole: f64, shortest: String| {
        if whole.fract() == 0.0 && whole.abs() < EXACT { (whole as i64).to_string() } else { shortest }
    };
    Ok(match column.data_type() {
        DataType::Float64 => {
            column.as_primitive::<Float64Type>().iter().map(|value| value.map(|x| text(x, x.to_string()))).collect()
        }
        DataType::Float32 | DataType::Float16 => {
            let column = cast(&column, &DataType::Float32)?;
            let floats = column.as_primitive::<Float32Type>().iter();
            floats.map(|value| value.map(|x| text(f64::from(x), x.to_string()))).collect()
        }
        _ => cast(&column, &DataType::Utf8)?.as_string::<i32>().clone(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float32Array, Float64Array, Int32Array};

    use super::*;

    #[test]
    fn a_whole_number_is_the_same_in_every_type() {
        let of = |column: ArrayRef| texts(&column).unwrap().iter().flatten().map(str::to_owned).collect::<Vec<_>>();
        let whole = ["7", "0", "-3"];
        assert_eq!(of(Arc::new(Int32Array::from(vec![7, 0, -3]))), whole);
        assert_eq!(of(Arc::new(Float64Array::from(vec![Some(7.0), Some(-0.0), None, Some(-3.0)]))), whole);
        assert_eq!(of(Arc::new(Float32Array::from(vec![7.0, 0.0, -3.0]))), whole);
        assert_eq!(of(Arc::new(StringArray::from(vec!["7", "0", "-3"]))), whole);
        assert_eq!(of(Arc::new(Float32Array::from(vec![0.1]))), of(Arc::new(Float64Array::from(vec![0.1]))));
    }
}
