//! The columns of `images` that backbones fill.

use arrow::datatypes::{DataType, Field};

use super::database::Store;
use super::lock::WriteLock;
use crate::error::{Error, Result};
use crate::schema;

/// An embedding column of `images`, as its field metadata describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddingColumn {
    /// The backbone, and the column's name.
    pub backbone: String,
    /// SHA-256 of the weights that filled it.
    pub sha256: String,
    /// Numbers per embedding.
    pub dimension: usize,
    /// What the network's products were taken in: `f32` or `bf16`.
    pub precision: String,
}

impl Store {
    /// The embedding columns of `images`.
    pub async fn embedding_columns(&self) -> Result<Vec<EmbeddingColumn>> {
        Ok(self.schema(schema::IMAGES).await?.fields().iter().filter_map(|field| embedding_column(field)).collect())
    }

    /// Add the column of a backbone to `images`, NULL everywhere; nothing happens where it is there already.
    ///
    /// Errors: [`Error::OtherCheckpoint`] where the column holds embeddings of other weights,
    /// [`Error::ColumnTaken`] where another kind of column has the name.
    pub async fn add_embedding_column(&self, lock: &WriteLock, column: &EmbeddingColumn) -> Result<()> {
        let name = column.backbone.as_str();
        let existing = self.schema(schema::IMAGES).await?;
        if let Ok(field) = existing.field_with_name(name) {
            return match embedding_column(field) {
                Some(found) if found == *column => Ok(()),
                Some(found) if (&found.sha256, found.dimension) == (&column.sha256, column.dimension) => {
                    Err(Error::OtherPrecision {
                        column: name.into(),
                        stored: found.precision,
                        given: column.precision.clone(),
                    })
                }
                Some(found) => Err(Error::OtherCheckpoint {
                    column: name.into(),
                    stored: format!("sha256 {} (dimension {})", found.sha256, found.dimension),
                    given: format!("sha256 {} (dimension {})", column.sha256, column.dimension),
                }),
                None => Err(Error::ColumnTaken { name: name.into() }),
            };
        }
        let mut field = schema::embedding_field(name, column.dimension, &column.sha256);
        if column.precision != schema::F32 {
            let mut metadata = field.metadata().clone();
            metadata.insert(schema::PRECISION_KEY.into(), column.precision.clone());
            field.set_metadata(metadata);
        }
        self.add_null_columns(lock, schema::IMAGES, &[field]).await
    }
}

fn embedding_column(field: &Field) -> Option<EmbeddingColumn> {
    let DataType::FixedSizeList(_, dimension) = field.data_type() else { return None };
    Some(EmbeddingColumn {
        backbone: field.metadata().get(schema::BACKBONE_KEY)?.clone(),
        sha256: field.metadata().get(schema::SHA256_KEY)?.clone(),
        dimension: *dimension as usize,
        precision: field.metadata().get(schema::PRECISION_KEY).map_or(schema::F32, String::as_str).into(),
    })
}
