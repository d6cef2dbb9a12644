//! Statements that would hide, drop or damage the database's own tables, refused before they run.

use std::path::PathBuf;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, SchemaReference};
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::sql::TableReference;

use super::catalog::{SCHEMA, Session};
use super::files;
use crate::error::{Error, Result};
use crate::sql::location::path;
use crate::sql::policy::resolved;

impl Session {
    /// Refuse a plan that touches the database's tables, views or files other than by reading them.
    pub(super) fn guard(&self, plan: &LogicalPlan) -> Result<()> {
        plan.apply_with_subqueries(|node| {
            self.guard_node(node).map_err(DataFusionError::from)?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(())
    }

    fn guard_node(&self, node: &LogicalPlan) -> Result<()> {
        match node {
            LogicalPlan::Copy(copy) => {
                let mut fields = copy.input.schema().fields().iter();
                match fields.find(|field| field.data_type().is_nested()) {
                    Some(field) if copy.file_type.get_ext() == "csv" => Err(Error::CopyNested {
                        column: field.name().clone(),
                        data_type: field.data_type().to_string(),
                    }),
                    _ => {
                        self.policy.check_write(&copy.output_url)?;
                        self.refuse_inside(&copy.output_url)
                    }
                }
            }
            LogicalPlan::Dml(change) if self.policy.is_confined() => {
                let name = change.table_name.to_string();
                self.policy.check_change(&format!("a change of {name}"))?;
                if self.context.table_exist(change.table_name.clone())? {
                    // it may be one of files
                    return Err(Error::Confined { what: name, missing: "may change no table but images" });
                }
                self.policy.check_write(change.table_name.table())?;
                self.refuse_inside(change.table_name.table())
            }
            // a file named by its path
            LogicalPlan::Dml(change) if !self.context.table_exist(change.table_name.clone())? => {
                self.refuse_inside(change.table_name.table())
            }
            LogicalPlan::Ddl(DdlStatement::CreateExternalTable(created)) => {
                self.policy.check_definition("CREATE EXTERNAL TABLE")?;
                files::check(&created.location, &self.policy)?;
                self.refuse_taken(&created.name)?;
                self.refuse_inside(&created.location)
            }
            LogicalPlan::Ddl(definition) if self.policy.check_definition(definition.name()).is_err() => {
                self.policy.check_definition(definition.name())
            }
            LogicalPlan::Statement(statement) if self.policy.check_setting(statement.name()).is_err() => {
                self.policy.check_setting(statement.name())
            }
            LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(created)) => self.refuse_taken(&created.name),
            LogicalPlan::Ddl(DdlStatement::DropTable(dropped)) => self.refuse_taken(&dropped.name),
            LogicalPlan::Ddl(DdlStatement::DropCatalogSchema(dropped)) => match &dropped.name {
                SchemaReference::Bare { schema } | SchemaReference::Full { schema, .. } if **schema == *SCHEMA.1 => {
                    Err(Error::OwnTable { name: schema.to_string() })
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Refuse the name of one of the database's tables or views for something of this session.
    fn refuse_taken(&self, name: &TableReference) -> Result<()> {
        if let Some(table) = self.own_table(name) {
            return Err(Error::OwnTable { name: table.into() });
        }
        match self.name_in_database(name) {
            Some(name) if self.is_view(&name) => {
                Err(Error::ViewExists { name, instead: "CREATE OR REPLACE VIEW and DROP VIEW change it" })
            }
            _ => Ok(()),
        }
    }

    /// Refuse a place in the database's folder: a file there could be taken for one of Lance's.
    pub(super) fn refuse_inside(&self, location: &str) -> Result<()> {
        self.refuse_path_inside(path(location)?)
    }

    /// The same of a path.
    pub(super) fn refuse_path_inside(&self, path: PathBuf) -> Result<()> {
        let inside = resolved(&path).starts_with(resolved(self.store.folder()));
        if inside { Err(Error::InsideDatabase { path }) } else { Ok(()) }
    }
}
