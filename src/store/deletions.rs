//! The table `deletions`: which images were deleted, by what they are known by and by what their files held.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampNanosecondArray};

use super::{Store, WriteLock, quote};
use crate::error::Result;
use crate::schema;

/// Uris in one statement.
const TOGETHER: usize = 1000;

impl Store {
    /// Remember images that are about to be deleted: their datasets, uris and content hashes.
    pub async fn remember_deleted(&self, lock: &WriteLock, images: [ArrayRef; 3]) -> Result<()> {
        let rows = images[0].len();
        if rows == 0 {
            return Ok(());
        }
        let now = chrono::Utc::now().timestamp_nanos_opt().unwrap_or(0);
        let time: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![now; rows]));
        let columns = images.into_iter().chain([time]).collect();
        let batch = RecordBatch::try_new(self.schema(schema::DELETIONS).await?, columns)?;
        self.append(lock, schema::DELETIONS, batch).await
    }

    /// Forget that images of a dataset were deleted, by their uris.
    pub async fn forget_deleted(&self, lock: &WriteLock, dataset: &str, uris: &[String]) -> Result<()> {
        for uris in uris.chunks(TOGETHER) {
            let uris: Vec<String> = uris.iter().map(|uri| quote(uri)).collect();
            let dataset = format!("{} = {}", schema::DATASET, quote(dataset));
            let predicate = format!("{dataset} AND {} IN ({})", schema::URI, uris.join(", "));
            self.delete(lock, schema::DELETIONS, &predicate).await?;
        }
        Ok(())
    }
}
