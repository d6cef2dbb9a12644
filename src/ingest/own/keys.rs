//! Rows of `images` by a column of the user's own.

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, UInt64Type};
use futures::TryStreamExt;

use super::options::OwnOptions;
use crate::error::{Error, Result};
use crate::identity::{Digest, digest};
use crate::image::is_plain;
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
    pub(super) async fn of(store: &Store, options: &OwnOptions) -> Result<Option<Self>> {
        let Some(key) = &options.key else { return Ok(None) };
        let images = store.schema(schema::IMAGES).await?;
        if !images.field_with_name(key).is_ok_and(|field| is_plain(field.data_type())) {
            return Err(Error::NoKey { key: key.clone() });
        }
        let filter = options.dataset.as_ref().map(|dataset| format!("{} = {}", schema::DATASET, quote(dataset)));
        let mut rows = Vec::new();
        let columns: &[&str] = if key == schema::ID { &[schema::ID] } else { &[schema::ID, key] };
        let mut batches = store.scan(schema::IMAGES, None, columns, filter.as_deref()).await?;
        while let Some(batch) = batches.try_next().await? {
            let ids = batch.column(0).as_primitive::<UInt64Type>();
            let values = cast(batch.column(batch.num_columns() - 1), &DataType::Utf8)?;
            let values = values.as_string::<i32>();
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
