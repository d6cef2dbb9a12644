//! INSERT INTO images: the rows of a query, with what is left out filled in.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampNanosecondArray, UInt64Array, new_null_array};
use arrow::datatypes::{Field, SchemaRef, TimestampNanosecondType, UInt64Type};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{DmlStatement, LogicalPlan, WriteOp};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;

use super::catalog::Session;
use super::statement::{SUPPORTED_CHANGES, column_name, parsed};
use super::values::{computed_by, rows};
use crate::error::{Error, Result};
use crate::identity::NewNames;
use crate::schema;
use crate::store::{CHOSEN_IDS_BELOW, WriteLock};

impl Session {
    /// INSERT INTO images.
    pub(super) async fn insert(&self, lock: &WriteLock, insert: &ast::Insert) -> Result<u64> {
        let table = self.store.schema(schema::IMAGES).await?;
        let given: Vec<String> = match insert.columns.is_empty() {
            true => table.fields().iter().map(|field| field.name().clone()).collect(),
            false => insert.columns.iter().filter_map(column_name).collect(),
        };
        self.check_clauses(insert, given.len()).await?;
        let filled_in = [schema::ID, schema::INGESTED_AT];
        let missing = table.fields().iter().filter(|field| {
            !field.is_nullable() && !given.contains(field.name()) && !filled_in.contains(&field.name().as_str())
        });
        let missing: Vec<String> = missing.map(|field| field.name().clone()).collect();
        if !missing.is_empty() {
            return Err(Error::MissingColumns { columns: missing });
        }
        let fields = given.iter().map(|name| table.field_with_name(name).cloned());
        let fields = fields.collect::<Result<Vec<_>, _>>()?;
        let Some(source) = &insert.source else { return Err(Error::EmptyQuery) };
        let schema = SchemaRef::clone(&table);
        let external = self.external().await?;
        let mut ids = NewIds::after(self.store.next_id().await?);
        let mut names = NewNames::of(&self.store, lock).await?;
        let make = move |values: RecordBatch| {
            let count = values.num_rows();
            let mut columns = Vec::new();
            for field in table.fields() {
                let value = given.iter().position(|name| name == field.name()).map(|at| Arc::clone(values.column(at)));
                columns.push(match (field.name().as_str(), value) {
                    (schema::ID, value) => ids.take(value, count)?,
                    (schema::INGESTED_AT, value) => now_where_null(value, count),
                    (column, Some(value)) => match computed_by(field, &external) {
                        Some(instead) if value.null_count() < count => {
                            return Err(Error::KeptColumn { column: column.into(), instead });
                        }
                        _ => value,
                    },
                    (_, None) => new_null_array(field.data_type(), count),
                });
            }
            let rows = rows(table.fields().iter().map(|field| Field::clone(field)).collect(), columns)?;
            let text = |name: &str| rows.column_by_name(name).map(|column| column.as_string::<i32>());
            if let (Some(datasets), Some(uris)) = (text(schema::DATASET), text(schema::URI)) {
                let pairs = datasets.iter().zip(uris).filter_map(|(dataset, uri)| dataset.zip(uri));
                pairs.into_iter().try_for_each(|(dataset, uri)| names.take(dataset, uri))?;
            }
            Ok(rows)
        };
        match self.incoming(ast::Statement::Query(source.clone()), &fields, schema, make).await? {
            Some(rows) => rows.written_by(|rows| self.store.append_rows(lock, schema::IMAGES, rows)).await,
            None => Ok(0),
        }
    }

    /// Refuse what DataFusion's INSERT lacks, and columns that are unknown or named twice. Its plan is not used: it
    /// would read every VALUES of the statement as a row of the table.
    async fn check_clauses(&self, insert: &ast::Insert, columns: usize) -> Result<()> {
        let ast::Statement::Query(nulls) = parsed(&format!("VALUES ({})", vec!["NULL"; columns].join(", ")))? else {
            return Err(Error::EmptyQuery);
        };
        let source = insert.source.as_ref().map(|_| nulls);
        let insert = ast::Statement::Insert(ast::Insert { source, ..insert.clone() });
        match self.plan(Statement::Statement(Box::new(insert))).await? {
            LogicalPlan::Dml(DmlStatement { op: WriteOp::Insert(InsertOp::Append), .. }) => Ok(()),
            other => Err(Error::UnsupportedChange { what: other.display().to_string(), instead: SUPPORTED_CHANGES }),
        }
    }
}

/// The ids that new images get: those given, where they are new, and free ones for the others. An id that an image ever had is
/// not given again: banks of earlier versions know it as that image.
struct NewIds {
    /// The first that no image ever had.
    first: u64,
    given: HashSet<u64>,
    /// Those that rows without one have got.
    chosen: Vec<Range<u64>>,
    /// Above all of both.
    free: u64,
}

impl NewIds {
    fn after(first: u64) -> Self {
        Self { first, given: HashSet::new(), chosen: Vec::new(), free: first }
    }

    /// Of so many more rows.
    fn take(&mut self, given: Option<ArrayRef>, count: usize) -> Result<ArrayRef> {
        let given = given.as_ref().map(|given| given.as_primitive::<UInt64Type>());
        for id in given.into_iter().flatten().flatten() {
            let problem = if id >= CHOSEN_IDS_BELOW {
                format!("is not below {CHOSEN_IDS_BELOW}")
            } else if id < self.first {
                format!("is not new: ids only go up, and the next is {}", self.first)
            } else if self.chosen.iter().any(|chosen| chosen.contains(&id)) {
                "was given to a row before it that has none".into()
            } else if !self.given.insert(id) {
                "is given twice".into()
            } else {
                self.free = self.free.max(id + 1);
                continue;
            };
            return Err(Error::BadId { id, problem });
        }
        let (begin, mut free) = (self.free, self.free..);
        let ids: UInt64Array = match given {
            None => free.by_ref().take(count).collect::<Vec<u64>>().into(),
            Some(given) => given.iter().map(|id| id.or_else(|| free.next())).collect(),
        };
        self.free = free.start;
        if begin < self.free {
            self.chosen.push(begin..self.free);
        }
        Ok(Arc::new(ids))
    }
}

/// The given times, and the current one where there is none.
fn now_where_null(given: Option<ArrayRef>, count: usize) -> ArrayRef {
    let now = chrono::Utc::now().timestamp_nanos_opt().unwrap_or(0);
    match given {
        None => Arc::new(TimestampNanosecondArray::from(vec![now; count])),
        Some(given) => {
            let given = given.as_primitive::<TimestampNanosecondType>();
            Arc::new(TimestampNanosecondArray::from_iter_values(given.iter().map(|time| time.unwrap_or(now))))
        }
    }
}
