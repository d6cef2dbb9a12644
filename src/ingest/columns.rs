//! Embedded images as columns of `images`.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, FixedSizeListArray, Float32Array, RecordBatch, StringArray, TimestampNanosecondArray,
    UInt32Array, UInt64Array, new_null_array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::metadata::Metadata;
use super::pipeline::EmbeddedImage;
use crate::backbone::{Backbone, register_backbone, register_logits};
use crate::error::Result;
use crate::schema;
use crate::store::{Store, WriteLock};

/// All columns of rows that are new, or of files that changed.
pub(super) struct Columns<'a> {
    pub(super) filled: Filled,
    pub(super) dataset: &'a str,
    pub(super) split: &'a str,
    pub(super) store_images: bool,
    pub(super) metadata: Option<&'a Metadata>,
}

impl Columns<'_> {
    /// Rows with these columns of the table; those of other backbones are NULL. `rows` are places in `images`.
    pub(super) fn rows<T>(
        &self,
        images: &[EmbeddedImage<T>],
        numbers: Numbers<'_>,
        rows: &[usize],
        ids: Vec<u64>,
        fields: SchemaRef,
    ) -> Result<RecordBatch> {
        let of = |row: &usize| &images[*row];
        let text = |get: fn(&EmbeddedImage<T>) -> &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| get(of(row)))))
        };
        let constant =
            |value: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(|_| value))) };
        let uris = || rows.iter().map(|row| of(row).uri.as_str());
        let time = chrono::Utc::now().timestamp_nanos_opt().unwrap_or(0);
        let column = |field: &Arc<Field>| -> Result<ArrayRef> {
            Ok(match field.name().as_str() {
                schema::ID => Arc::new(UInt64Array::from(ids.clone())),
                schema::DATASET => constant(self.dataset),
                schema::SPLIT => constant(self.split),
                schema::URI => text(|image| &image.uri),
                schema::LABEL => {
                    let labels: ArrayRef =
                        Arc::new(StringArray::from_iter(rows.iter().map(|row| of(row).label.as_deref())));
                    match self.metadata.filter(|metadata| metadata.has(schema::LABEL)) {
                        Some(metadata) => metadata.column(field, uris(), Some(&labels))?,
                        None => labels,
                    }
                }
                schema::WIDTH => Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| of(row).width))),
                schema::HEIGHT => Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| of(row).height))),
                schema::CONTENT_HASH => text(|image| &image.content_hash),
                schema::INGESTED_AT => Arc::new(TimestampNanosecondArray::from(vec![time; rows.len()])),
                schema::BYTES if self.store_images => {
                    Arc::new(BinaryArray::from_iter_values(rows.iter().map(|row| &of(row).bytes)))
                }
                name => match (self.filled.numbers_of(name, numbers), self.metadata) {
                    (Some((values, width)), _) => vectors(values, width, rows)?,
                    (None, Some(metadata)) if metadata.has(name) => metadata.column(field, uris(), None)?,
                    _ => new_null_array(field.data_type(), rows.len()),
                },
            })
        };
        let columns = fields.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
        Ok(RecordBatch::try_new(fields, columns)?)
    }
}

/// The columns of `images` that a backbone fills.
pub(super) struct Filled {
    backbone: String,
    dimension: usize,
    /// The column of logits and the number of classes, where they are asked for.
    logits: Option<(String, usize)>,
}

impl Filled {
    /// Add the columns, where they are not there yet, and the backbone's row.
    pub(super) async fn register(store: &Store, lock: &WriteLock, backbone: &Backbone) -> Result<Self> {
        register_backbone(store, lock, backbone.checkpoint(), backbone.precision()).await?;
        if let Some(classes) = backbone.logits() {
            register_logits(store, lock, backbone.checkpoint(), classes).await?;
        }
        let manifest = backbone.manifest();
        let logits = backbone.logits().map(|classes| (schema::logits_column(&manifest.name), classes));
        Ok(Self { backbone: manifest.name.clone(), dimension: manifest.dimension, logits })
    }

    /// Their names.
    pub(super) fn columns(&self) -> impl Iterator<Item = &str> {
        [self.backbone.as_str()].into_iter().chain(self.logits.iter().map(|(column, _)| column.as_str()))
    }

    /// Rows of id and what the backbone gave.
    pub(super) fn rows(
        &self,
        images: &Schema,
        numbers: Numbers<'_>,
        rows: &[usize],
        ids: Vec<u64>,
    ) -> Result<RecordBatch> {
        let mut fields = vec![images.field_with_name(schema::ID)?.clone()];
        let mut columns = vec![Arc::new(UInt64Array::from(ids)) as ArrayRef];
        for field in images.fields() {
            if let Some((values, width)) = self.numbers_of(field.name(), numbers) {
                fields.push(field.as_ref().clone());
                columns.push(vectors(values, width, rows)?);
            }
        }
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }

    /// The numbers of a column that the backbone fills, and how many a row has.
    fn numbers_of<'n>(&self, column: &str, numbers: Numbers<'n>) -> Option<(&'n [f32], usize)> {
        match &self.logits {
            _ if column == self.backbone => Some((numbers.embeddings, self.dimension)),
            Some((name, classes)) if name == column => Some((numbers.logits, *classes)),
            _ => None,
        }
    }
}

/// What the backbone gave for the waiting images.
#[derive(Clone, Copy)]
pub(super) struct Numbers<'a> {
    pub(super) embeddings: &'a [f32],
    pub(super) logits: &'a [f32],
}

/// Some rows of n×width values as a column.
fn vectors(values: &[f32], width: usize, rows: &[usize]) -> Result<ArrayRef> {
    let values: Float32Array =
        rows.iter().flat_map(|&row| values[row * width..(row + 1) * width].iter().copied()).collect::<Vec<_>>().into();
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    Ok(Arc::new(FixedSizeListArray::try_new(item, width as i32, Arc::new(values), None)?))
}
