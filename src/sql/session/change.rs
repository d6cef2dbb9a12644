//! Rows of `images` changed in SQL: INSERT, UPDATE, DELETE, TRUNCATE.
//!
//! DataFusion offers a table the filters that are left of a condition after optimisation: of `id IN (SELECT …)`,
//! which becomes a join, nothing is left, and every row would match. So a change is carried out here: the lock is
//! taken, `images` is read at its latest version, the statement's whole query finds the rows, and one commit writes.

use std::collections::HashSet;

use arrow::array::{Array, AsArray, BooleanArray};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, UInt64Type};
use datafusion::common::Column;
use datafusion::logical_expr::{DmlStatement, Expr, LogicalPlan, LogicalPlanBuilder, WriteOp};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use futures::TryStreamExt;

use super::catalog::{Session, in_database};
use super::statement::{SUPPORTED_CHANGES, expression, parsed};
use super::update::refuse_kept;
use crate::backbone::external_backbones;
use crate::bank;
use crate::error::{Error, Result};
use crate::schema;
use crate::store::{Change, WriteLock, quote};

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
        Ok(count.columns[0].as_primitive::<Int64Type>().value(0) as u64)
    }

    /// The ids of the images for which a predicate holds.
    pub(crate) async fn ids_where(&self, predicate: &str) -> Result<Vec<u64>> {
        let query = over_images("SELECT id FROM images WHERE true", predicate)?;
        let ids = self.columns(self.plan(Statement::Statement(Box::new(query))).await?).await?;
        Ok(ids.columns[0].as_primitive::<UInt64Type>().values().to_vec())
    }

    /// Refuse where rows may not be changed.
    pub(crate) fn check_may_change(&self) -> Result<()> {
        self.policy.check_change("a change of images")
    }

    /// Set a column of the user's own (TEXT, where it is not there yet), `label` or `split` to a value, or to NULL, in those of `rows` (SQL)
    /// that have another one, and count them; without a lock, count them alone. One entry of `curation_log`, which says `predicate`.
    pub(crate) async fn tag(
        &self,
        lock: Option<&WriteLock>,
        rows: &str,
        predicate: &str,
        column: &str,
        value: Option<&str>,
    ) -> Result<u64> {
        let _running = self.running();
        let table = self.store.schema(schema::IMAGES).await?;
        let there = table.field_with_name(column).ok();
        match there {
            Some(field) if ![schema::LABEL, schema::SPLIT].contains(&column) && !schema::is_users(field) => {
                refuse_kept(field, &self.external().await?)?;
                return Err(Error::NoTagColumn { column: column.into() });
            }
            Some(field) if value.is_none() && !field.is_nullable() => {
                return Err(Error::NullValue { column: column.into() });
            }
            None if !schema::is_name(column) => {
                return Err(Error::BadName { what: "column", name: column.into() });
            }
            None if column == schema::DHASH || schema::needs_quotes(column) => {
                return Err(Error::TakenName { name: column.into() });
            }
            // nothing is NULL in a column that is not there
            None if value.is_none() => {
                let own = table.fields().iter().filter(|field| schema::is_users(field));
                let known = own.map(|field| field.name().clone()).chain([schema::LABEL.to_owned()]).collect();
                return Err(Error::UnknownColumn { column: column.into(), known });
            }
            _ => {}
        }
        let literal = value.map_or_else(|| "NULL".into(), quote);
        let differs = match there {
            Some(_) => format!("({rows}) AND \"{column}\" IS DISTINCT FROM {literal}"),
            None => rows.to_owned(),
        };
        let count = self.count_where(&differs).await?;
        let Some(lock) = lock.filter(|_| count > 0) else { return Ok(count) };
        let before = self.store.version(schema::IMAGES).await?;
        if there.is_none() {
            self.store.add_column(lock, schema::IMAGES, Field::new(column, DataType::Utf8, true).into()).await?;
            self.reregister(schema::IMAGES).await?;
        }
        let update = over_images(&format!("UPDATE images SET \"{column}\" = {literal} WHERE true"), &differs)?;
        let ast::Statement::Update(update) = &update else { return Err(Error::EmptyQuery) };
        let count = self.update(lock, update).await?;
        let (detail, predicate) = (Some(format!("SET {column} = {literal}")), Some(short(predicate.into())));
        self.changed(lock, before, count, Change { detail, predicate, ..Change::of("tag") }).await?;
        Ok(count)
    }

    /// Delete images by id, in one commit that is recorded as `change`. The caller found them under the same lock.
    pub(crate) async fn delete_ids(&self, lock: &WriteLock, ids: &[u64], change: Change) -> Result<()> {
        self.check_may_change()?;
        let _running = self.running();
        let before = self.store.version(schema::IMAGES).await?;
        let gone: HashSet<u64> = ids.iter().copied().collect();
        let columns = [schema::ID, schema::DATASET, schema::URI, schema::CONTENT_HASH];
        let mut rows = self.store.scan(schema::IMAGES, Some(before), &columns, None).await?;
        let mut found = Vec::new();
        while let Some(batch) = rows.try_next().await? {
            let is_gone = batch.column(0).as_primitive::<UInt64Type>().iter();
            let is_gone: BooleanArray = is_gone.map(|id| id.map(|id| gone.contains(&id))).collect();
            found.push(filter_record_batch(&batch, &is_gone)?);
        }
        let Some(first) = found.first() else { return Ok(()) };
        let found = concat_batches(&first.schema(), &found)?;
        self.begin_commit();
        // first: a row that is there still is not taken for deleted
        self.store.remember_deleted(lock, [1, 2, 3].map(|column| found.column(column).clone())).await?;
        self.store.delete_images(lock, found.column(0).as_primitive::<UInt64Type>().values()).await?;
        let predicate = change.predicate.map(short);
        self.changed(lock, before, found.num_rows() as u64, Change { predicate, ..change }).await
    }

    /// See what others have written since the session began.
    pub(crate) async fn renew(&self) -> Result<()> {
        self.reregister(schema::IMAGES).await
    }

    /// Carry out a change of rows of `images`, and count them.
    pub(super) async fn change(&self, statement: &ast::Statement) -> Result<u64> {
        self.check_may_change()?;
        let lock = self.store.lock_in_turn().await?;
        let before = self.store.version(schema::IMAGES).await?;
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
            self.changed(&lock, before, count, described(statement)).await?;
        }
        Ok(count)
    }

    /// What follows a change that is committed: it is recorded, small files are merged, and the session sees it.
    async fn changed(&self, lock: &WriteLock, before: u64, count: u64, change: Change) -> Result<()> {
        self.store.record(lock, before, Change { row_count: count, ..change }).await?;
        match bank::tidy(&self.store, lock, before).await {
            Ok(tidied) => tidied.notices().into_iter().for_each(|notice| self.banks.add_notice(notice)),
            // the change is made
            Err(error) => self.banks.add_notice(format!("small files were not merged: {error}")),
        }
        self.reregister(schema::IMAGES).await
    }

    /// The backbones whose embeddings the user writes.
    pub(super) async fn external(&self) -> Result<Vec<String>> {
        Ok(external_backbones(&self.store).await?.into_iter().map(|external| external.name).collect())
    }

    async fn delete(&self, lock: &WriteLock, rows: LogicalPlan) -> Result<u64> {
        let mut columns = Vec::new();
        for name in [schema::ID, schema::DATASET, schema::URI, schema::CONTENT_HASH] {
            let (qualifier, field) = rows.schema().qualified_field_with_unqualified_name(name)?;
            columns.push(Expr::Column(Column::from((qualifier, field))));
        }
        let plan = LogicalPlanBuilder::from(rows).project(columns)?.build()?;
        let gathered = self.columns(plan).await?;
        let mut columns = gathered.columns.iter().cloned();
        let mut next = || columns.next().ok_or(Error::EmptyQuery);
        let (ids, images) = (next()?, [next()?, next()?, next()?]);
        self.begin_commit();
        // first: a row that is there still is not taken for deleted
        self.store.remember_deleted(lock, images).await?;
        self.store.delete_images(lock, ids.as_primitive::<UInt64Type>().values()).await?;
        Ok(ids.len() as u64)
    }
}

/// Characters of a statement that are recorded: VALUES may be long.
const RECORDED: usize = 500;

/// A text as it is recorded.
fn short(text: String) -> String {
    match text.char_indices().nth(RECORDED) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// A change as it is recorded.
fn described(statement: &ast::Statement) -> Change {
    let (verb, detail, predicate) = match statement {
        ast::Statement::Update(update) => {
            let set: Vec<String> = update.assignments.iter().map(ToString::to_string).collect();
            let from = match &update.from {
                Some(ast::UpdateTableFromKind::BeforeSet(from) | ast::UpdateTableFromKind::AfterSet(from)) => {
                    let from: Vec<String> = from.iter().map(ToString::to_string).collect();
                    format!(" FROM {}", from.join(", "))
                }
                None => String::new(),
            };
            ("update", Some(format!("SET {}{from}", set.join(", "))), update.selection.as_ref())
        }
        ast::Statement::Delete(delete) => ("delete", None, delete.selection.as_ref()),
        ast::Statement::Insert(insert) => ("insert", Some(insert.to_string()), None),
        _ => ("delete", None, None),
    };
    let predicate = predicate.map(|condition| short(condition.to_string()));
    Change { detail: detail.map(short), predicate, ..Change::of(verb) }
}

/// A statement of our own, its condition replaced.
fn over_images(statement: &str, predicate: &str) -> Result<ast::Statement> {
    let bad = |reason| Error::BadPredicate { predicate: predicate.into(), reason };
    let condition = Some(expression(predicate).map_err(bad)?);
    let mut statement = parsed(statement)?;
    match &mut statement {
        ast::Statement::Delete(delete) => delete.selection = condition,
        ast::Statement::Update(update) => update.selection = condition,
        ast::Statement::Query(query) => {
            if let ast::SetExpr::Select(select) = query.body.as_mut() {
                select.selection = condition;
            }
        }
        _ => {}
    }
    Ok(statement)
}
