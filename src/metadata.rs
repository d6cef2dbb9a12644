//! Columns of one's own beside the images: out of a CSV, JSONL or Parquet table with a column `uri`.
//!
//! A row of the table belongs to the image whose uri is the table's, taken from the table's folder; or, where there is
//! none, ends in it (`cat/1.png` for `photos.tar!/train/cat/1.png`).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, filter_record_batch, kernels::cmp::distinct, take};
use arrow::datatypes::{DataType, Field, Schema};
use futures::TryStreamExt;

use crate::error::{Error, Result};
use crate::image::{absolute, read_table, shown};
use crate::schema;
use crate::store::{Store, WriteLock};

/// A table of metadata.
#[derive(Debug)]
pub struct Metadata {
    path: PathBuf,
    /// Without `uri` and `label`; names in lower case.
    columns: RecordBatch,
    by_uri: HashMap<String, u32>,
}

impl Metadata {
    /// Read a table.
    ///
    /// Errors: [`Error::BadMetadata`] for a table without `uri`, a uri that is there twice, a column that `images` has
    /// of itself, and a type that no column can have; [`Error::BadName`] for a column's name.
    pub fn read(path: &Path) -> Result<Self> {
        // a signed address is read as given, and named without what gives access
        let named = PathBuf::from(shown(&path.to_string_lossy()));
        let table = read_table(path).map_err(|error| error.at(&named))?;
        let bad = |reason: String| Error::BadMetadata { path: named.clone(), reason };
        let Some(uris) = table.column_by_name(schema::URI) else {
            return Err(bad("it has no column 'uri', which says which image a row is about".into()));
        };
        let uris = cast(uris, &DataType::Utf8)?;
        let mut by_uri = HashMap::new();
        for (row, uri) in uris.as_string::<i32>().iter().enumerate() {
            let Some(uri) = uri.map(str::trim).filter(|uri| !uri.is_empty()) else { continue };
            if by_uri.insert(shown(&absolute(path, uri)), row as u32).is_some() {
                return Err(bad(format!("uri '{}' is there twice", shown(uri))));
            }
            by_uri.entry(uri.trim_start_matches("./").to_owned()).or_insert(row as u32);
        }
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for (field, column) in table.schema().fields().iter().zip(table.columns()) {
            let name = field.name().to_ascii_lowercase();
            if [schema::URI, schema::LABEL].contains(&name.as_str()) {
                continue;
            }
            if schema::IMAGE_COLUMNS.contains(&name.as_str()) {
                return Err(bad(format!("images has a column '{name}' of its own: name this one otherwise")));
            }
            if !schema::is_name(&name) || schema::is_sql_word(&name) {
                return Err(Error::BadName { what: "column", name: field.name().clone() });
            }
            let column =
                if *field.data_type() == DataType::Null { cast(column, &DataType::Utf8)? } else { Arc::clone(column) };
            fields.push(Field::new(name, column.data_type().clone(), true));
            columns.push(column);
        }
        if fields.is_empty() {
            let columns = RecordBatch::new_empty(Arc::new(Schema::empty()));
            return Ok(Self { path: named, columns, by_uri });
        }
        let columns = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
        Ok(Self { path: named, columns, by_uri })
    }

    /// Whether it says something about this column.
    pub(crate) fn has(&self, column: &str) -> bool {
        self.columns.column_by_name(column).is_some()
    }

    /// Add its columns to `images`; those that are there are kept.
    ///
    /// Errors: [`Error::BadMetadata`] for a column that is there and no column of the user's, or of a type that the
    /// table's values do not fit.
    pub(crate) async fn add_columns(&self, store: &Store, lock: &WriteLock) -> Result<()> {
        let images = store.schema(schema::IMAGES).await?;
        for (field, column) in self.columns.schema().fields().iter().zip(self.columns.columns()) {
            let bad = |reason: String| Error::BadMetadata { path: self.path.clone(), reason };
            match images.field_with_name(field.name()) {
                Ok(there) if !schema::is_users(there) => {
                    return Err(bad(format!(
                        "column '{}' of images holds embeddings or scores: name this one otherwise",
                        field.name()
                    )));
                }
                Ok(there) => {
                    let as_there = cast(column, there.data_type());
                    if as_there.map_or(true, |values| values.null_count() > column.null_count()) {
                        let (name, found, expected) = (field.name(), field.data_type(), there.data_type());
                        return Err(bad(format!(
                            "column '{name}' is {found} here, and its values do not fit {expected} as in images"
                        )));
                    }
                }
                Err(_) => store.add_null_columns(lock, schema::IMAGES, &[field.as_ref().clone()]).await?,
            }
        }
        Ok(())
    }

    /// The values of a column of `images` for these uris; NULL where the table has no row for one.
    pub(crate) fn column<'u>(&self, field: &Field, uris: impl Iterator<Item = &'u str>) -> Result<ArrayRef> {
        let rows: UInt32Array = uris.map(|uri| self.row(uri)).collect();
        let column = self.columns.column_by_name(field.name()).ok_or_else(|| Error::BadMetadata {
            path: self.path.clone(),
            reason: format!("it has no column '{}'", field.name()),
        })?;
        Ok(cast(&take(column, &rows, None)?, field.data_type())?)
    }

    /// The row about a uri: that of the whole uri, or of the longest end of it.
    fn row(&self, uri: &str) -> Option<u32> {
        let ends = uri.match_indices('/').map(|(at, _)| &uri[at + 1..]);
        std::iter::once(uri).chain(ends).find_map(|end| self.by_uri.get(end).copied())
    }

    /// Bring its columns up to date in the rows for which `predicate` holds and about which it says something; how many
    /// differed.
    pub(crate) async fn update(&self, store: &Store, lock: &WriteLock, predicate: &str) -> Result<usize> {
        if self.columns.num_columns() == 0 {
            return Ok(0);
        }
        let schema = self.columns.schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let wanted = [&[schema::ID, schema::URI], names.as_slice()].concat();
        let mut changed = 0;
        let mut batches = store.scan(schema::IMAGES, None, &wanted, Some(predicate)).await?;
        while let Some(batch) = batches.try_next().await? {
            let uris = batch.column(1).as_string::<i32>();
            let mut differs = vec![false; batch.num_rows()];
            let (batch_schema, mut columns) = (batch.schema(), vec![Arc::clone(batch.column(0))]);
            for (field, there) in batch_schema.fields().iter().zip(batch.columns()).skip(2) {
                let given = self.column(field, uris.iter().map(Option::unwrap_or_default))?;
                distinct(&given, there)?.iter().zip(&mut differs).for_each(|(one, any)| *any |= one == Some(true));
                columns.push(given);
            }
            let known = uris.iter().map(|uri| uri.is_some_and(|uri| self.row(uri).is_some()));
            let rows: Vec<bool> = known.zip(&differs).map(|(known, differs)| known && *differs).collect();
            let fields: Vec<_> =
                batch_schema.fields().iter().filter(|field| field.name() != schema::URI).cloned().collect();
            let new = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
            let new = filter_record_batch(&new, &rows.into())?;
            if new.num_rows() > 0 {
                changed += new.num_rows();
                store.update_images(lock, new).await?;
            }
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Result<Metadata> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.csv");
        std::fs::write(&path, text).unwrap();
        Metadata::read(&path)
    }

    #[test]
    fn rows_are_found_by_the_end_of_a_uri() {
        let metadata = table("uri,Camera\ncat/1.png,7\n./2.png,8\n").unwrap();
        let field = Field::new("camera", DataType::Int64, true);
        let uris = ["/data/a.tar!/train/cat/1.png", "/data/2.png", "/data/12.png", "cat/1.png"];
        let column = metadata.column(&field, uris.into_iter()).unwrap();
        let values: Vec<_> = column.as_primitive::<arrow::datatypes::Int64Type>().iter().collect();
        assert_eq!(values, [Some(7), Some(8), None, Some(7)]);
    }

    #[test]
    fn tables_that_do_not_say_which_image_or_name_columns_badly_are_refused() {
        for (text, why) in [
            ("path\n1\n", "no column 'uri'"),
            ("uri,a\nx,1\nx,2\n", "'x' is there twice"),
            ("uri,width\nx,1\n", "images has a column 'width' of its own"),
            ("uri,a b\nx,1\n", "'a b'"),
            ("uri,select\nx,1\n", "'select'"),
        ] {
            let error = table(text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
