//! What every format's writer does.

use arrow::array::RecordBatch;

use crate::error::Result;

/// One result in one format: each call gives the bytes that can go out by then.
pub(super) trait RowWriter {
    /// More rows.
    fn rows(&mut self, batch: &RecordBatch) -> Result<Vec<u8>>;
    /// There are no more. A result without rows still shows its columns.
    fn end(&mut self) -> Result<Vec<u8>>;
    /// What of the columns could not be printed, for people.
    fn left_out(&self) -> Option<String> {
        None
    }
}
