//! A table beside files of embeddings: further columns for their rows.

use std::collections::HashMap;
use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::DataType;

use super::files::{HasBeside, Plan};
use crate::error::{Error, Result};
use crate::image::read_table;
use crate::ingest::column_names::taken;
use crate::schema;

/// A table whose rows belong to those of the files: by uri where both have that, else in order.
pub(super) struct Beside {
    path: String,
    pub(super) table: RecordBatch,
    pub(super) uri: Option<usize>,
    /// What the files' rows are matched by, where not by uri.
    pub(super) key: Option<usize>,
    pub(super) label: Option<usize>,
    pub(super) dataset: Option<usize>,
    pub(super) split: Option<usize>,
    /// Further columns, by their names in `images`.
    pub(super) own: Vec<(usize, String)>,
    by_uri: HashMap<String, u32>,
}

/// Rows of it, one for each of a batch.
pub(super) struct Slice<'b> {
    pub(super) of: &'b Beside,
    pub(super) rows: RecordBatch,
    /// Whether each of them was found by its uri.
    pub(super) is_by_uri: bool,
}

impl Beside {
    /// Read it. `say` hears which columns have other names.
    ///
    /// Errors: a table that cannot be read, and one that says two things about a uri.
    pub(super) fn of(path: Option<&Path>, key: Option<&str>, say: &mut impl FnMut(String)) -> Result<Option<Self>> {
        let Some(path) = path else { return Ok(None) };
        let table = read_table(path)?;
        let fields = table.schema_ref().fields();
        let at = |name: &str| fields.iter().position(|field| field.name().trim().eq_ignore_ascii_case(name));
        let [uri, label, dataset, split] = [schema::URI, schema::LABEL, schema::DATASET, schema::SPLIT].map(at);
        let (is_keyed, key) = (key.is_some(), key.and_then(at));
        let known = [uri, label, dataset, split];
        let own: Vec<usize> = (0..fields.len()).filter(|column| !is_keyed && !known.contains(&Some(*column))).collect();
        let names = taken(own.iter().map(|column| fields[*column].name().as_str()));
        for (column, taken) in own.iter().zip(&names) {
            if let Some(because) = &taken.because {
                let column = fields[*column].name();
                say(format!("column '{column}' of {} is taken as {}: {because}", path.display(), taken.name));
            }
        }
        let own = own.into_iter().zip(names).map(|(column, taken)| (column, taken.name)).collect();
        let mut by_uri = HashMap::new();
        if let Some(uri) = uri {
            let uris = cast(table.column(uri), &DataType::Utf8)?;
            let uris = uris.as_string::<i32>();
            for row in (0..uris.len()).filter(|row| uris.is_valid(*row)) {
                let other = by_uri.insert(uris.value(row).to_owned(), row as u32);
                let differs = |other: u32| {
                    table.columns().iter().any(|column| *column.slice(row, 1) != *column.slice(other as usize, 1))
                };
                if other.is_some_and(differs) {
                    let reason = format!("uri '{}' is there twice, with different values", uris.value(row));
                    return Err(Error::BadMetadata { path: path.into(), reason });
                }
            }
        }
        let path = path.display().to_string();
        if is_keyed {
            // rows that are there keep what is said of them
            let (label, dataset, split) = (None, None, None);
            return Ok(Some(Self { path, table, uri, key, label, dataset, split, own, by_uri }));
        }
        Ok(Some(Self { path, table, uri, key, label, dataset, split, own, by_uri }))
    }

    pub(super) fn has(&self) -> HasBeside {
        HasBeside { dataset: self.dataset.is_some(), key: self.key.is_some() }
    }

    /// Refuse a table that belongs to the files' rows by order and has not as many.
    pub(super) fn check_rows<'p>(&self, plans: impl Iterator<Item = &'p Plan>, total: Option<u64>) -> Result<()> {
        let by_order = plans.into_iter().any(|plan| !self.is_by_uri(plan));
        let rows = self.table.num_rows() as u64;
        match total.filter(|total| by_order && *total != rows) {
            None => Ok(()),
            Some(total) => {
                let reason = format!(
                    "it has {rows} rows, and the embeddings {total}: without a column uri in both its rows belong to theirs, in order"
                );
                Err(Error::BadMetadata { path: self.path.clone().into(), reason })
            }
        }
    }

    fn is_by_uri(&self, plan: &Plan) -> bool {
        self.uri.is_some() && plan.uri.is_some()
    }

    /// The rows that belong to a batch, whose first is the `from`th of all files; NULL where there is none of a uri.
    pub(super) fn rows(&self, plan: &Plan, batch: &RecordBatch, from: u64) -> Result<Slice<'_>> {
        let count = batch.num_rows();
        let is_by_uri = self.is_by_uri(plan);
        let places: UInt32Array = match plan.uri.filter(|_| is_by_uri) {
            Some(uri) => {
                let uris = cast(batch.column(uri), &DataType::Utf8)?;
                let uris = uris.as_string::<i32>();
                uris.iter().map(|uri| self.by_uri.get(uri?).copied()).collect()
            }
            None => {
                let from = from as usize;
                if from + count > self.table.num_rows() {
                    let reason = "it has fewer rows than the embeddings".into();
                    return Err(Error::BadMetadata { path: self.path.clone().into(), reason });
                }
                return Ok(Slice { of: self, rows: self.table.slice(from, count), is_by_uri });
            }
        };
        let columns = self.table.columns().iter().map(|column| take(column, &places, None));
        let fields = self.table.schema_ref().fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let schema = arrow::datatypes::Schema::new(fields.collect::<Vec<_>>());
        let rows = RecordBatch::try_new(std::sync::Arc::new(schema), columns.collect::<Result<_, _>>()?)?;
        Ok(Slice { of: self, rows, is_by_uri })
    }
}
