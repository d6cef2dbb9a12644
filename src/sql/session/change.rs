//! Rows of `images` changed in SQL: INSERT, UPDATE, DELETE, TRUNCATE.
//!
//! DataFusion offers a table the filters that are left of a condition after optimisation: of `id IN (SELECT …)`,
//! which becomes a join, nothing is left, and every row would match. So a change is carried out here: the lock is
//! taken, `images` is read at its latest version, the statement's whole query finds the rows, and one commit writes.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int64Type, UInt64Type};
use datafusion::common::Column;
use datafusion::logical_expr::{DmlStatement, Expr, LogicalPlan, LogicalPlanBuilder, WriteOp};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;

use super::catalog::{Session, in_database};
use super::statement::{SUPPORTED_CHANGES, expression, parsed};
use crate::error::{Error, Result};
use crate::schema;
use crate::store::WriteLock;

impl Session {
    /// Delete the images for which a predicate holds, in one commit, and count them. It may call any function.
    pub async fn delete_where(&self, predicate: &str) -> Result<u64> {
        let _running = self.running();
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
        self.reregister(schema::IMAGES).await?;
        let count = match statement {
            ast::Statement::Update(update) => self.update(&lock, update).await?,
            ast::Statement::Insert(insert) => self.insert(&lock, insert).await?,
            other => {
                let rows = match self.plan(Statement::Statement(Box::new(other.clone()))).await? {
                    LogicalPlan::Dml(DmlStatement { op: WriteOp::Delete, input, .. }) => LogicalPlan::clone(&input),
                    // its own plan has no rows
                    LogicalPlan::Dml(DmlStatement { op: WriteOp::Truncate, .. }) => {
                        self.context.table(in_database(schema::IMAGES)).await?.into_unoptimized_plan()
                    }
                    other => {
                        let what = other.display().to_string();
                        return Err(Error::UnsupportedChange { what, instead: SUPPORTED_CHANGES });
                    }
                };
                self.delete(&lock, rows).await?
            }
        };
        if count > 0 {
            self.reregister(schema::IMAGES).await?;
        }
        Ok(count)
    }

    async fn delete(&self, lock: &WriteLock, rows: LogicalPlan) -> Result<u64> {
        let (qualifier, field) = rows.schema().qualified_field_with_unqualified_name(schema::ID)?;
        let id = Expr::Column(Column::from((qualifier, field)));
        let plan = LogicalPlanBuilder::from(rows).project([id])?.build()?;
        let ids = self.columns(plan).await?.remove(0);
        self.begin_commit();
        self.store.delete_images(lock, ids.as_primitive::<UInt64Type>().values()).await?;
        Ok(ids.len() as u64)
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
