//! INSERT INTO images: the rows of a query, with what is left out filled in.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, TimestampNanosecondArray, UInt64Array, new_null_array};
use arrow::datatypes::{Field, TimestampNanosecondType, UInt64Type};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{DmlStatement, LogicalPlan, WriteOp};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;

use super::catalog::Session;
use super::statement::{SUPPORTED_CHANGES, column_name, parsed};
use super::values::{computed_by, rows};
use crate::error::{Error, Result};
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
        let values = self.values(ast::Statement::Query(source.clone()), &fields).await?;
        let count = values.first().map_or(0, |column| column.len());
        if count == 0 {
            return Ok(0);
        }
        let named = |name: &str| given.iter().position(|column| column == name).map(|at| &values[at]);
        let mut columns = Vec::new();
        for field in table.fields() {
            let value = named(field.name()).map(Arc::clone);
            columns.push(match (field.name().as_str(), value) {
                (schema::ID, value) => self.new_ids(value, count).await?,
                (schema::INGESTED_AT, value) => now_where_null(value, count),
                (column, Some(value)) => match computed_by(field) {
                    Some(instead) if value.null_count() < count => {
                        return Err(Error::KeptColumn { column: column.into(), instead });
                    }
                    _ => value,
                },
                (_, None) => new_null_array(field.data_type(), count),
            });
        }
        let fields = table.fields().iter().map(|field| Field::clone(field)).collect();
        let rows = rows(fields, columns)?;
        if let (Some(datasets), Some(uris)) = (named(schema::DATASET), named(schema::URI)) {
            self.refuse_twins(datasets, uris).await?;
        }
        self.begin_commit();
        self.store.append(lock, schema::IMAGES, rows).await?;
        Ok(count as u64)
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

    /// The ids that new images get: those given, where they are new, and free ones for the others. An id that an image ever
    /// had is not given again: banks of earlier versions know it as that image.
    async fn new_ids(&self, given: Option<ArrayRef>, count: usize) -> Result<ArrayRef> {
        let first = self.store.next_id().await?;
        let Some(given) = given else {
            return Ok(Arc::new(UInt64Array::from_iter_values((first..).take(count))));
        };
        let given = given.as_primitive::<UInt64Type>();
        let mut new = HashSet::new();
        for id in given.iter().flatten() {
            let problem = if id >= CHOSEN_IDS_BELOW {
                format!("is not below {CHOSEN_IDS_BELOW}")
            } else if id < first {
                format!("is not new: ids only go up, and the next is {first}")
            } else if !new.insert(id) {
                "is given twice".into()
            } else {
                continue;
            };
            return Err(Error::BadId { id, problem });
        }
        let mut free = new.into_iter().max().map_or(first, |largest| largest + 1)..;
        Ok(Arc::new(given.iter().map(|id| id.or_else(|| free.next())).collect::<UInt64Array>()))
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
