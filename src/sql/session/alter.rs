//! Columns of one's own: ALTER TABLE images ADD COLUMN and DROP COLUMN.

use arrow::datatypes::{Field, Schema};
use datafusion::common::DFSchema;
use datafusion::sql::planner::IdentNormalizer;
use datafusion::sql::sqlparser::ast;

use super::catalog::Session;
use crate::backbone::forget_external;
use crate::bank;
use crate::error::{Error, Result};
use crate::schema;
use crate::store::{Change, planned_column};

/// Whether a column of `images` may be dropped: one's own, and what can be computed again. Embeddings of external backbones may as well: with
/// them their backbone is forgotten, and its name is free.
fn is_droppable(field: &Field) -> bool {
    schema::is_users(field) || schema::is_score(field) || schema::is_logits(field) || schema::is_hash(field)
}

impl Session {
    /// Add or drop a column of `images`.
    pub(super) async fn alter(&self, alter: &ast::AlterTable) -> Result<()> {
        let unsupported = |what: String| Error::UnsupportedChange {
            what: format!("ALTER TABLE images with {what}"),
            instead: "it takes one ADD COLUMN name type, NULL in every row until UPDATE sets it, or one DROP COLUMN name",
        };
        let name = IdentNormalizer::default();
        let lock = self.store.lock_in_turn().await?;
        let before = self.store.version(schema::IMAGES).await?;
        let table = self.store.schema(schema::IMAGES).await?;
        match alter.operations.as_slice() {
            [ast::AlterTableOperation::AddColumn { if_not_exists, column_def, column_position: None, .. }] => {
                let only_null = |option: &ast::ColumnOptionDef| matches!(option.option, ast::ColumnOption::Null);
                if let Some(option) = column_def.options.iter().find(|option| !only_null(option)) {
                    return Err(unsupported(option.option.to_string()));
                }
                let column = name.normalize(column_def.name.clone());
                if !schema::is_name(&column) {
                    return Err(Error::BadName { what: "column", name: column });
                }
                if table.field_with_name(&column).is_ok() {
                    return if *if_not_exists { Ok(()) } else { Err(Error::ColumnExists { column }) };
                }
                let field = planned_column(column_def).await?;
                self.begin_commit();
                self.store.add_column(&lock, schema::IMAGES, field).await?;
            }
            [ast::AlterTableOperation::DropColumn { column_names, if_exists, .. }] if column_names.len() == 1 => {
                let column = name.normalize(column_names[0].clone());
                let external = self.external().await?;
                let is_external = external.contains(&column);
                let may_go = |field: &Field| is_droppable(field) || external.contains(field.name());
                match table.field_with_name(&column) {
                    // it went, and its backbone was to follow
                    Err(_) if is_external => return forget_external(&self.store, &lock, &column).await,
                    Err(_) if *if_exists => return Ok(()),
                    Ok(field) if may_go(field) => {}
                    _ => {
                        let own = table.fields().iter().filter(|field| may_go(field));
                        let known = own.map(|field| field.name().clone()).collect();
                        return Err(Error::NoUserColumn { column, known });
                    }
                }
                self.refuse_in_bank(&column, &table).await?;
                self.begin_commit();
                self.store.drop_column(&lock, schema::IMAGES, &column).await?;
                if is_external {
                    let logits = schema::logits_column(&column);
                    if table.field_with_name(&logits).is_ok_and(schema::is_logits) {
                        self.store.drop_column(&lock, schema::IMAGES, &logits).await?;
                    }
                    forget_external(&self.store, &lock, &column).await?;
                }
            }
            [] => return Err(unsupported("nothing".into())),
            [operation] => return Err(unsupported(operation.to_string())),
            several => return Err(unsupported(format!("{} operations at once", several.len()))),
        }
        let operations: Vec<String> = alter.operations.iter().map(ToString::to_string).collect();
        let change = Change { detail: Some(operations.join(", ")), ..Change::of("alter") };
        self.store.record(&lock, before, change).await?;
        self.reregister(schema::IMAGES).await
    }

    /// Refuse a column that a bank stands on, or that its predicate reads: it could not be told from the table what the bank holds.
    async fn refuse_in_bank(&self, column: &str, table: &Schema) -> Result<()> {
        let columns = DFSchema::try_from(table.clone())?;
        for bank in bank::list(&self.store).await? {
            if bank.backbone == column {
                return Err(Error::BackboneInBank { backbone: column.into(), bank: bank.name });
            }
            let predicate = self.context.parse_sql_expr(&bank.predicate, &columns)?;
            if predicate.column_refs().iter().any(|read| read.name == column) {
                let (column, bank, predicate) = (column.into(), bank.name, bank.predicate);
                return Err(Error::ColumnInBank { column, bank, predicate });
            }
        }
        Ok(())
    }
}
