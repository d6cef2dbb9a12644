//! Rows as bytes for programs: a Parquet file, and an Arrow IPC stream. Types and field metadata survive both.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use datafusion::error::DataFusionError;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::Compression;
use datafusion::parquet::file::properties::WriterProperties;

use super::writer::RowWriter;
use crate::error::Result;

/// A row group is held in memory until it is full: embeddings of 2,048 numbers fill this with 8,000 rows.
const ROW_GROUP_BYTES: usize = 64 << 20;

/// A Parquet file, compressed with zstd.
pub(super) struct Parquet {
    writer: ArrowWriter<Vec<u8>>,
}

impl Parquet {
    pub(super) fn new(schema: &SchemaRef) -> Result<Self> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(Default::default()))
            .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
            .build();
        let writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties));
        Ok(Self { writer: writer.map_err(DataFusionError::from)? })
    }

    /// What is written by now; positions in the file are counted before this buffer.
    fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.inner_mut())
    }
}

impl RowWriter for Parquet {
    fn rows(&mut self, batch: &RecordBatch) -> Result<Vec<u8>> {
        self.writer.write(batch).map_err(DataFusionError::from)?;
        Ok(self.take())
    }

    fn end(&mut self) -> Result<Vec<u8>> {
        self.writer.finish().map_err(DataFusionError::from)?;
        Ok(self.take())
    }
}

/// An Arrow IPC stream (not an IPC file): it can be read from a pipe while it is being written, and its dictionaries
/// may change from batch to batch.
pub(super) struct ArrowStream {
    writer: StreamWriter<Vec<u8>>,
}

impl ArrowStream {
    pub(super) fn new(schema: &SchemaRef) -> Result<Self> {
        Ok(Self { writer: StreamWriter::try_new(Vec::new(), schema)? })
    }
}

impl RowWriter for ArrowStream {
    fn rows(&mut self, batch: &RecordBatch) -> Result<Vec<u8>> {
        self.writer.write(batch)?;
        Ok(std::mem::take(self.writer.get_mut()))
    }

    fn end(&mut self) -> Result<Vec<u8>> {
        self.writer.finish()?;
        Ok(std::mem::take(self.writer.get_mut()))
    }
}
