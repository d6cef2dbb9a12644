//! Columns as SQL spells them, as Arrow fields: DataFusion plans a table that nobody creates.

use std::sync::Arc;

use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::plan_datafusion_err;
use datafusion::error::Result;
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::sqlparser::ast::ColumnDef;

/// The name and the columns of a CREATE TABLE statement.
pub(super) async fn planned_table(statement: Statement) -> Result<(String, SchemaRef)> {
    let config = SessionConfig::new().set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false);
    let state = SessionContext::new_with_config(config).state();
    match state.statement_to_plan(statement).await? {
        LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(created)) => {
            Ok((created.name.table().into(), Arc::clone(created.input.schema().inner())))
        }
        other => Err(plan_datafusion_err!("{} is not CREATE TABLE", other.display())),
    }
}

/// The Arrow field of a column definition.
pub async fn planned_column(definition: &ColumnDef) -> Result<FieldRef> {
    let mut statements = DFParser::parse_sql(&format!("CREATE TABLE planned ({definition})"))?;
    let statement = statements.pop_front().ok_or_else(|| plan_datafusion_err!("{definition} is no column"))?;
    let (_, schema) = planned_table(statement).await?;
    Ok(Arc::clone(&schema.fields()[0]))
}
