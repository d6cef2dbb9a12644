//! Rows of the small tables as plain structs: field names are column names.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::json::{ArrayWriter, ReaderBuilder};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// The current time, UTC, as the tables' TIMESTAMP columns take it.
pub fn now() -> String {
    chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.6f").to_string()
}

/// Structs to one batch of `schema`.
pub(super) fn to_batch<T: Serialize>(table: &str, schema: SchemaRef, rows: &[T]) -> Result<RecordBatch> {
    let mut decoder = ReaderBuilder::new(Arc::clone(&schema)).build_decoder()?;
    decoder.serialize(rows)?;
    decoder.flush()?.ok_or_else(|| Error::BadRow { table: table.into(), reason: "there is no row to write".into() })
}

/// Batches to structs.
pub(super) fn from_batches<T: DeserializeOwned>(table: &str, batches: &[RecordBatch]) -> Result<Vec<T>> {
    let mut writer = ArrayWriter::new(Vec::new());
    writer.write_batches(&batches.iter().collect::<Vec<_>>())?;
    writer.finish()?;
    let text = writer.into_inner();
    if text.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_slice(&text).map_err(|error| Error::BadRow { table: table.into(), reason: error.to_string() })
}
