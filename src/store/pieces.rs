//! A version of a table, fragment by fragment: which of them were seen before, and the rows of those that were not.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use futures::{Stream, TryStreamExt};
use lance::Dataset;
use lance::datatypes::Field;
use lance::table::format::Fragment;
use sha2::{Digest as _, Sha256};

use super::Store;
use super::native::{dataset, lance};
use crate::error::{Error, Result};
use crate::schema;

/// A fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Its number; one that is changed keeps it.
    pub id: u64,
    /// Rows, with those that were deleted.
    pub rows: usize,
    /// Stands for its rows and all their values: names of files are not given twice.
    pub state: [u8; 16],
}

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its number: one that was dropped and added again has another one.
    pub id: i32,
    /// Whether its values are vectors of one length.
    pub is_vector: bool,
}

/// A version of a table.
#[derive(Debug)]
pub struct Pieces(Arc<Dataset>);

impl Store {
    /// A table's current version, fragment by fragment.
    pub async fn pieces(&self, table: &str) -> Result<Pieces> {
        Ok(Pieces(dataset(&self.table(table).await?).await?))
    }
}

impl Pieces {
    /// All fragments, by ascending numbers.
    pub fn list(&self) -> Result<Vec<Piece>> {
        let piece = |fragment: &Fragment| {
            let text = serde_json::to_vec(fragment).map_err(|error| Error::BadRow {
                table: schema::IMAGES.into(),
                reason: format!("fragment {}: {error}", fragment.id),
            })?;
            let mut state = [0; 16];
            state.copy_from_slice(&Sha256::digest(&text)[..16]);
            Ok(Piece { id: fragment.id, rows: fragment.physical_rows.unwrap_or(0), state })
        };
        let mut pieces = self.0.fragments().iter().map(piece).collect::<Result<Vec<Piece>>>()?;
        pieces.sort_by_key(|piece| piece.id);
        Ok(pieces)
    }

    /// The columns, by their names.
    pub fn columns(&self) -> HashMap<String, Column> {
        let is_vector = |kind: &DataType| matches!(kind, DataType::FixedSizeList(..));
        let column = |field: &Field| Column { id: field.id, is_vector: is_vector(&field.data_type()) };
        self.0.schema().fields.iter().map(|field| (field.name.clone(), column(field))).collect()
    }

    /// Stream columns of the rows of some fragments; then, for each of `whether`, whether the row has a value there; and last
    /// the fragment's number, in the upper 32 bits of `_rowaddr`.
    pub async fn scan(
        &self,
        pieces: &[Piece],
        columns: &[&str],
        whether: &[&str],
    ) -> Result<impl Stream<Item = Result<RecordBatch>> + Send + Unpin + use<>> {
        let wanted = |id: u64| pieces.iter().any(|piece| piece.id == id);
        let own = self.0.fragments().iter().filter(|fragment| wanted(fragment.id)).cloned().collect();
        let plain = columns.iter().map(|&column| (column.to_owned(), column.to_owned()));
        let has_value = whether.iter().map(|column| (format!("{column}?"), format!("{column} IS NOT NULL")));
        let mut scanner = self.0.scan();
        scanner
            .with_fragments(own)
            .project_with_transform(&plain.chain(has_value).collect::<Vec<_>>())
            .map_err(lance)?;
        scanner.with_row_address();
        Ok(scanner.try_into_stream().await.map_err(lance)?.map_err(lance))
    }
}
