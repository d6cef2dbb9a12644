//! Rows deleted by id, columns written, added and dropped, and the largest id that `images` ever had.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, UInt64Type};
use datafusion::logical_expr::{ColumnarValue, Expr, Volatility, create_udf};
use datafusion::prelude::col;
use futures::{StreamExt, TryStreamExt};
use lance::dataset::{MergeInsertBuilder, MergeInsertWriteMode, WhenMatched, WhenNotMatched};
use lancedb::table::{ColumnAlteration, FieldMetadataUpdate, NewColumnTransform};

use super::native::{dataset, lance};
use super::{Store, WriteLock};
use crate::error::{Error, Result};
use crate::schema;

/// Key of the table's configuration: an id is not given again when its image is deleted, because banks of earlier
/// versions know it as that image.
const LARGEST_ID: &str = "outskirt.largest_id";
/// Ids are below this: a graph marks keys with the bit.
const IDS_BELOW: u64 = 1 << 62;
/// Ids that users choose are below this, so that there are others after them.
pub const CHOSEN_IDS_BELOW: u64 = 1 << 61;

impl Store {
    /// Delete images by id, in one commit.
    pub async fn delete_images(&self, _lock: &WriteLock, ids: &[u64]) -> Result<()> {
        let Some(&largest) = ids.iter().max() else { return Ok(()) };
        let table = self.writable(schema::IMAGES).await?;
        // one that we never gave is nobody's to keep
        if largest < IDS_BELOW
            && largest == self.largest_id().await?
            && let Some(native) = table.as_native()
        {
            native.update_config([(LARGEST_ID.to_string(), largest.to_string())]).await?;
        }
        table.delete(&is_one_of(ids)).await?;
        Ok(())
    }

    /// The largest id that `images` has or had, 0 where it never had a row. What the record knows is not looked for again: only
    /// the fragments that are not as they were then are read.
    pub async fn largest_id(&self) -> Result<u64> {
        let (recorded, version) = self.recorded_largest_id().await?;
        let mut largest = recorded;
        if let Some(native) = self.table(schema::IMAGES).await?.as_native() {
            let manifest = native.manifest().await?;
            largest = largest.max(manifest.config.get(LARGEST_ID).and_then(|text| text.parse().ok()).unwrap_or(0));
        }
        let now = self.version(schema::IMAGES).await?;
        let written = match version {
            // not where that version is not kept any more
            Some(then) if then <= now => self.different(schema::IMAGES, then, now).await.ok().map(|(_, now)| now),
            _ => None,
        };
        let mut batches = match written {
            Some(written) => self.scan_fragments(&written, &[schema::ID], None).await?.boxed(),
            None => self.scan(schema::IMAGES, None, &[schema::ID], None).await?,
        };
        while let Some(batch) = batches.try_next().await? {
            largest = largest.max(arrow::compute::max(batch.column(0).as_primitive::<UInt64Type>()).unwrap_or(0));
        }
        Ok(largest)
    }

    /// The first of the ids that new images get: none that was ever given.
    ///
    /// Errors: [`Error::NoFreeId`] where a row of somebody else's has an id so large that none are left.
    pub async fn next_id(&self) -> Result<u64> {
        let largest = self.largest_id().await?;
        if largest >= IDS_BELOW - 1 { Err(Error::NoFreeId { largest }) } else { Ok(largest + 1) }
    }

    /// Write new values of some columns of `images`, which `batch` has beside `id`, in one commit. Other columns are neither
    /// read nor written; these are written anew for all rows of the fragments that hold one of the ids.
    pub async fn update_images(&self, _lock: &WriteLock, batch: RecordBatch) -> Result<()> {
        let images = dataset(&self.writable(schema::IMAGES).await?).await?;
        let mut merge = MergeInsertBuilder::try_new(images, vec![schema::ID.into()]).map_err(lance)?;
        merge.when_matched(WhenMatched::UpdateAll).when_not_matched(WhenNotMatched::DoNothing);
        merge.write_mode(MergeInsertWriteMode::RewriteColumns);
        merge.try_build().map_err(lance)?.execute_batches(vec![batch]).await.map_err(lance)?;
        Ok(())
    }

    /// Add a column to a table, NULL everywhere.
    pub async fn add_column(&self, _lock: &WriteLock, table: &str, field: FieldRef) -> Result<()> {
        let nulls = NewColumnTransform::AllNulls(Arc::new(Schema::new(vec![field])));
        self.writable(table).await?.add_columns().transform(nulls).execute().await?;
        Ok(())
    }

    /// Let columns of a table be NULL, in one commit; nothing happens where they may be.
    pub async fn let_be_null(&self, _lock: &WriteLock, table: &str, columns: &[&str]) -> Result<()> {
        let schema = self.schema(table).await?;
        let never = |column: &&&str| schema.field_with_name(column).is_ok_and(|field| !field.is_nullable());
        let alterations: Vec<ColumnAlteration> = columns
            .iter()
            .filter(never)
            .map(|column| ColumnAlteration::new((*column).into()).set_nullable(true))
            .collect();
        if !alterations.is_empty() {
            self.writable(table).await?.alter_columns(&alterations).await?;
        }
        Ok(())
    }

    /// Drop a column of a table.
    pub async fn drop_column(&self, _lock: &WriteLock, table: &str, column: &str) -> Result<()> {
        self.writable(table).await?.drop_columns(&[column]).await?;
        Ok(())
    }

    /// Add columns to a table, NULL everywhere, in one commit; those that are there already are left alone.
    pub async fn add_null_columns(&self, _lock: &WriteLock, table: &str, fields: &[Field]) -> Result<()> {
        let existing = self.schema(table).await?;
        let missing = |field: &&Field| existing.field_with_name(field.name()).is_err();
        let missing: Vec<Field> = fields.iter().filter(missing).cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let nulls = NewColumnTransform::AllNulls(Arc::new(Schema::new(missing.clone())));
        self.writable(table).await?.add_columns().transform(nulls).execute().await?;
        // lance keeps a field's metadata, and does not say so: where it has not, it is set
        let added = self.schema(table).await?;
        let lacks =
            |field: &&Field| !added.field_with_name(field.name()).is_ok_and(|is| is.metadata() == field.metadata());
        let updates = missing.iter().filter(lacks).map(|field| {
            let update = FieldMetadataUpdate::new(field.name().as_str());
            field.metadata().clone().into_iter().fold(update, |update, (key, value)| update.set(key, value))
        });
        let updates: Vec<FieldMetadataUpdate> = updates.collect();
        if !updates.is_empty() {
            self.writable(table).await?.update_field_metadata(&updates).await?;
        }
        Ok(())
    }
}

/// Whether `id` is one of these: a look-up per row. An IN list of as many literals takes Lance's planner longer than
/// reading the table, and its text would go into the commit.
fn is_one_of(ids: &[u64]) -> Expr {
    let ids: HashSet<u64> = ids.iter().copied().collect();
    let contains = move |arguments: &[ColumnarValue]| {
        let column = ColumnarValue::values_to_arrays(arguments)?.remove(0);
        let found: BooleanArray =
            column.as_primitive::<UInt64Type>().iter().map(|id| id.map(|id| ids.contains(&id))).collect();
        Ok(ColumnarValue::Array(Arc::new(found)))
    };
    create_udf("is_one_of", vec![DataType::UInt64], DataType::Boolean, Volatility::Immutable, Arc::new(contains))
        .call(vec![col(schema::ID)])
}
