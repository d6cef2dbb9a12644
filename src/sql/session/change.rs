//! Rows of `images` changed in SQL: INSERT, UPDATE, DELETE, TRUNCATE.
//!
//! DataFusion offers a table the filters that are left of a condition after optimisation: of `id IN (SELECT …)`,
//! which becomes a join, nothing is left, and every row would match. So a change is carried out here: the lock is
//! taken, `images` is read at its latest version, the statement's whole query finds the rows, and one commit writes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, new_empty_array};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, UInt64Type};
use datafusion::common::Column;
use datafusion::logical_expr::{DmlStatement, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, WriteOp};
use datafusion::prelude::DataFrame;
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::planner::IdentNormalizer;
use datafusion::sql::sqlparser::ast;

use super::Session;
use crate::error::{Error, Result};
use crate::schema;
use crate::store::WriteLock;

/// The next step of whoever tried another one.
pub(super) const WAYS: &str = "INSERT INTO adds images, UPDATE changes them, DELETE FROM removes them";

/// The table whose rows a statement changes.
pub(super) fn target(statement: &ast::Statement) -> Option<&ast::ObjectName> {
    fn named(table: &ast::TableWithJoins) -> Option<&ast::ObjectName> {
        match &table.relation {
            ast::TableFactor::Table { name, .. } => Some(name),
            _ => None,
        }
    }
    match statement {
        ast::Statement::Insert(ast::Insert { table: ast::TableObject::TableName(name), .. }) => Some(name),
        ast::Statement::Update(update) => named(&update.table),
        ast::Statement::Delete(delete) => match &delete.from {
            ast::FromTable::WithFromKeyword(tables) | ast::FromTable::WithoutKeyword(tables) => {
                tables.first().and_then(named)
            }
        },
        ast::Statement::Truncate(truncate) => truncate.table_names.first().map(|table| &table.name),
        _ => None,
    }
}

/// One SQL expression, and nothing behind it that an alias or a comment would swallow.
pub(crate) fn expression(text: &str) -> Result<ast::Expr, String> {
    match DFParser::parse_sql_into_expr(text) {
        Ok(parsed) if parsed.alias.is_none() => Ok(parsed.expr),
        Ok(_) => Err("it has an alias".into()),
        Err(error) => Err(Error::from(error).to_string()),
    }
}

impl Session {
    /// Delete the images for which a predicate holds, in one commit, and count them. It may call any function.
    pub async fn delete_where(&self, predicate: &str) -> Result<u64> {
        self.change(&over_images("DELETE FROM images WHERE true", predicate)?).await
    }

    /// Count the images that [`Self::delete_where`] would delete.
    pub async fn count_where(&self, predicate: &str) -> Result<u64> {
        let query = over_images("SELECT count(*) FROM images WHERE true", predicate)?;
        let count = self.columns(self.plan(Statement::Statement(Box::new(query))).await?).await?;
        Ok(count[0].as_primitive::<Int64Type>().value(0) as u64)
    }

    /// Carry out a change of rows of `images`, and count them.
    pub(super) async fn change(&self, statement: &ast::Statement) -> Result<u64> {
        let lock = self.store.lock()?;
        // others may have written since the session began
        self.renew(schema::IMAGES).await?;
        let count = match statement {
            ast::Statement::Update(update) => self.update(&lock, update).await?,
            ast::Statement::Insert(insert) => self.insert(&lock, insert).await?,
            other => {
                let rows = match self.plan(Statement::Statement(Box::new(other.clone()))).await? {
                    LogicalPlan::Dml(DmlStatement { op: WriteOp::Delete, input, .. }) => LogicalPlan::clone(&input),
                    // its own plan has no rows
                    LogicalPlan::Dml(DmlStatement { op: WriteOp::Truncate, .. }) => {
                        self.context.table(super::home(schema::IMAGES)).await?.into_unoptimized_plan()
                    }
                    other => {
                        let what = other.display().to_string();
                        return Err(Error::UnsupportedChange { what, instead: WAYS });
                    }
                };
                self.delete(&lock, rows).await?
            }
        };
        if count > 0 {
            self.renew(schema::IMAGES).await?;
        }
        Ok(count)
    }

    async fn delete(&self, lock: &WriteLock, rows: LogicalPlan) -> Result<u64> {
        let (qualifier, field) = rows.schema().qualified_field_with_unqualified_name(schema::ID)?;
        let id = Expr::Column(Column::from((qualifier, field)));
        let plan = LogicalPlanBuilder::from(rows).project([id])?.build()?;
        let ids = self.columns(plan).await?.remove(0);
        self.store.delete_images(lock, ids.as_primitive::<UInt64Type>().values()).await?;
        Ok(ids.len() as u64)
    }

    /// The columns of a query, as values of these fields.
    pub(super) async fn values(&self, query: ast::Statement, fields: &[Field]) -> Result<Vec<ArrayRef>> {
        let query = self.plan(Statement::Statement(Box::new(query))).await?;
        let (columns, values) = (fields.len(), query.schema().fields().len());
        if columns != values {
            return Err(Error::ValueCount { columns, values });
        }
        let mut cast = Vec::new();
        for (at, field) in fields.iter().enumerate() {
            let value = Expr::Column(Column::from(query.schema().qualified_field(at)));
            cast.push(value.cast_to(field.data_type(), query.schema())?.alias(field.name()));
        }
        self.columns(LogicalPlanBuilder::from(query).project(cast)?.build()?).await
    }

    /// Run a plan and gather its columns.
    async fn columns(&self, plan: LogicalPlan) -> Result<Vec<ArrayRef>> {
        let frame = DataFrame::new(self.context.state(), plan);
        let types: Vec<DataType> = frame.schema().fields().iter().map(|field| field.data_type().clone()).collect();
        let batches = frame.collect().await?;
        let gather = |(at, data_type): (usize, &DataType)| {
            let parts: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(at).as_ref()).collect();
            if parts.is_empty() { Ok(new_empty_array(data_type)) } else { concat(&parts) }
        };
        Ok(types.iter().enumerate().map(gather).collect::<Result<_, _>>()?)
    }
}

/// A statement of our own, its condition replaced.
fn over_images(statement: &str, predicate: &str) -> Result<ast::Statement> {
    let bad = |reason| Error::BadPredicate { predicate: predicate.into(), reason };
    let condition = Some(expression(predicate).map_err(bad)?);
    let mut statement = parsed(statement)?;
    match &mut statement {
        ast::Statement::Delete(delete) => delete.selection = condition,
        ast::Statement::Query(query) => {
            if let ast::SetExpr::Select(select) = query.body.as_mut() {
                select.selection = condition;
            }
        }
        _ => {}
    }
    Ok(statement)
}

/// Which command fills a column that Outskirt computes; none for any other.
pub(super) fn computed_by(field: &Field) -> Option<String> {
    if schema::is_embedding(field) {
        let backbone = field.name();
        return Some(format!("embeddings come from the picture, 'outskirt ingest --backbone {backbone}' writes them"));
    }
    if let Some(backbone) = field.metadata().get(schema::LOGITS_KEY) {
        return Some(format!(
            "logits come from the picture, 'outskirt ingest --backbone {backbone} --with-logits' writes them"
        ));
    }
    let bank = field.metadata().get(schema::SCORE_BANK_KEY)?;
    Some(format!("scores come from the embedding, 'outskirt score {bank}' writes them"))
}

/// Columns as rows of the table, NULL only where it may be.
pub(super) fn rows(fields: Vec<Field>, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    if let Some((field, _)) =
        fields.iter().zip(&columns).find(|(field, column)| !field.is_nullable() && column.null_count() > 0)
    {
        return Err(Error::NullValue { column: field.name().clone() });
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// The last part of a column's name, in lower case unless it is quoted.
pub(super) fn column_name(name: &ast::ObjectName) -> Option<String> {
    name.0.last()?.as_ident().cloned().map(|ident| IdentNormalizer::default().normalize(ident))
}

/// A statement from text of our own, to be filled in.
pub(super) fn parsed(text: &str) -> Result<ast::Statement> {
    match DFParser::parse_sql(text)?.pop_front() {
        Some(Statement::Statement(statement)) => Ok(*statement),
        _ => Err(Error::EmptyQuery),
    }
}
