//! The table `deletions`: which images were deleted, by what they are known by and by what their files held.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::DataType;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use datafusion::prelude::col;

use super::{Store, WriteLock};
use crate::error::Result;
use crate::schema;

impl Store {
    /// Remember images that are about to be deleted: their datasets, uris and content hashes. What has none came as numbers, and
    /// is remembered whatever they are by then.
    pub async fn remember_deleted(&self, lock: &WriteLock, images: [ArrayRef; 3]) -> Result<()> {
        let rows = images[0].len();
        let [datasets, uris, hashes] = images;
        let hashes: ArrayRef = match hashes.null_count() {
            0 => hashes,
            _ => {
                Arc::new(StringArray::from_iter_values(hashes.as_string::<i32>().iter().map(Option::unwrap_or_default)))
            }
        };
        let images = [datasets, uris, hashes];
        if rows == 0 {
            return Ok(());
        }
        let now = chrono::Utc::now().timestamp_nanos_opt().unwrap_or(0);
        let time: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![now; rows]));
        let first: BooleanArray = {
            let mut seen = HashSet::new();
            let [datasets, uris, hashes] = images.each_ref().map(|column| column.as_string::<i32>());
            let key = |row: usize| (datasets.value(row), uris.value(row), hashes.value(row));
            (0..rows).map(|row| Some(seen.insert(key(row)))).collect()
        };
        let columns = images.into_iter().chain([time]).collect();
        let batch = RecordBatch::try_new(self.schema(schema::DELETIONS).await?, columns)?;
        let on = [schema::DATASET, schema::URI, schema::CONTENT_HASH];
        self.upsert(lock, schema::DELETIONS, &on, filter_record_batch(&batch, &first)?, true).await
    }

    /// Forget that images were deleted, by their datasets and uris: they are back.
    pub(super) async fn forget_deleted(&self, _lock: &WriteLock, images: HashSet<(String, String)>) -> Result<()> {
        if images.is_empty() || self.count(schema::DELETIONS).await? == 0 {
            return Ok(());
        }
        let is_back = move |arguments: &[ColumnarValue]| {
            let columns = ColumnarValue::values_to_arrays(arguments)?;
            let (datasets, uris) = (columns[0].as_string::<i32>(), columns[1].as_string::<i32>());
            let known = |row| images.contains(&(datasets.value(row).to_owned(), uris.value(row).to_owned()));
            let found: BooleanArray = (0..datasets.len()).map(|row| Some(known(row))).collect();
            Ok(ColumnarValue::Array(Arc::new(found)))
        };
        let text = vec![DataType::Utf8, DataType::Utf8];
        let is_back = create_udf("is_back", text, DataType::Boolean, Volatility::Immutable, Arc::new(is_back));
        let images = is_back.call(vec![col(schema::DATASET), col(schema::URI)]);
        self.writable(schema::DELETIONS).await?.delete(&images).await?;
        Ok(())
    }
}
