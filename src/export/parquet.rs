//! Parquet files whose length and SHA-256 are known when they are written.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::Compression;
use datafusion::parquet::file::properties::{EnabledStatistics, WriterProperties};
use datafusion::parquet::schema::types::ColumnPath;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// A Parquet file while it is written.
pub(super) struct Parquet {
    path: PathBuf,
    writer: ArrowWriter<Hashed>,
    /// A row group is closed when so many bytes are in memory.
    group: usize,
}

/// A Parquet file that is written.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    /// SHA-256 of the file, in hexadecimal digits.
    pub(super) sha256: String,
}

/// A file, hashed as it is written.
struct Hashed {
    file: BufWriter<File>,
    hash: Sha256,
    bytes: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Parquet {
    /// A file of rows like these, which keeps as many bytes of a row group in memory. `as_they_are` is a column of what is compressed
    /// already.
    pub(super) fn begin(path: &Path, schema: SchemaRef, group: usize, as_they_are: Option<&[&str]>) -> Result<Self> {
        let file = File::create(path).map_err(Error::io("write", path))?;
        let mut properties = WriterProperties::builder().set_compression(Compression::ZSTD(Default::default()));
        if let Some(column) = as_they_are {
            let column = ColumnPath::new(column.iter().map(|part| (*part).to_owned()).collect());
            properties = properties
                .set_column_compression(column.clone(), Compression::UNCOMPRESSED)
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_statistics_enabled(column, EnabledStatistics::None);
        }
        let to = Hashed { file: BufWriter::new(file), hash: Sha256::new(), bytes: 0 };
        let writer = ArrowWriter::try_new(to, schema, Some(properties.build())).map_err(DataFusionError::from)?;
        Ok(Self { path: path.into(), writer, group })
    }

    pub(super) fn rows(&mut self, rows: &RecordBatch) -> Result<()> {
        self.writer.write(rows).map_err(|error| self.failed(error))?;
        if self.writer.in_progress_size().max(self.writer.memory_size()) >= self.group {
            self.writer.flush().map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    /// Bytes that it will have at least.
    pub(super) fn bytes(&self) -> usize {
        self.writer.bytes_written() + self.writer.in_progress_size()
    }

    pub(super) fn end(mut self) -> Result<Written> {
        self.writer.finish().map_err(|error| self.failed(error))?;
        let to = self.writer.inner_mut();
        to.flush().map_err(Error::io("write", &self.path))?;
        let (bytes, sha256) = (to.bytes, format!("{:x}", to.hash.clone().finalize()));
        Ok(Written { path: self.path, bytes, sha256 })
    }

    /// What a disk says is about the file.
    fn failed(&self, error: datafusion::parquet::errors::ParquetError) -> Error {
        match error {
            datafusion::parquet::errors::ParquetError::External(source) => match source.downcast::<std::io::Error>() {
                Ok(source) => Error::io("write", &self.path)(*source),
                Err(other) => DataFusionError::External(other).into(),
            },
            other => DataFusionError::from(other).into(),
        }
    }
}
