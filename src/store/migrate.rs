//! Migrations: `migrations/NNNN_name.sql`, run in order, recorded in `schema_migrations`.
//!
//! A migration's CREATE TABLE statements are planned by DataFusion in memory, and the tables that come out are
//! created in Lance with those schemas. The record of a migration is written last: a creation that was
//! interrupted goes on at the next start.

use std::path::Path;

use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::DFParser;
use serde::{Deserialize, Serialize};

use super::{Store, rows};
use crate::error::{Error, Result};
use crate::schema;

/// (version, name, SQL) of every migration, ascending.
const MIGRATIONS: [(u32, &str, &str); 1] =
    [(1, "first_tables", include_str!("../../migrations/0001_first_tables.sql"))];

#[derive(Debug, Serialize, Deserialize)]
struct Applied {
    version: u32,
    name: String,
    applied_at: String,
}

fn newest() -> u32 {
    MIGRATIONS[MIGRATIONS.len() - 1].0
}

/// Refuse a database whose migrations are not the ones known here.
pub(super) async fn check(store: &Store) -> Result<()> {
    let applied: Vec<Applied> = store.read_rows(schema::SCHEMA_MIGRATIONS).await?;
    let uri = store.folder().display().to_string();
    let (found, known) = (applied.iter().map(|row| row.version).max().unwrap_or(0), newest());
    match found {
        0 => Err(Error::NoDatabase { uri }),
        found if found > known => Err(Error::NewerSchema { uri, found, known }),
        _ => Ok(()),
    }
}

/// Create the tables of all migrations, or finish what a creation that was interrupted left.
pub(super) async fn create(folder: &Path, connection: &lancedb::Connection) -> Result<()> {
    for (version, name, sql) in MIGRATIONS {
        let mut ledger = None;
        for (table, schema) in planned_tables(name, sql).await? {
            if table == schema::SCHEMA_MIGRATIONS {
                ledger = Some(schema);
            } else if connection.open_table(&table).execute().await.is_err() {
                remove_broken(folder, &table)?;
                connection.create_empty_table(&table, schema).execute().await?;
            }
        }
        // the ledger last: a folder without it is no database yet
        let ledger =
            ledger.ok_or_else(|| Error::BadMigration { file: name.into(), reason: "it creates no ledger".into() })?;
        let applied = Applied { version, name: name.into(), applied_at: rows::now() };
        let row = rows::to_batch(schema::SCHEMA_MIGRATIONS, ledger, &[applied])?;
        remove_broken(folder, schema::SCHEMA_MIGRATIONS)?;
        connection.create_table(schema::SCHEMA_MIGRATIONS, row).execute().await?;
    }
    Ok(())
}

/// Remove the folder of a table that was never committed: nothing can be in it.
fn remove_broken(folder: &Path, table: &str) -> Result<()> {
    let path = folder.join(format!("{table}.lance"));
    match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &path)(error)),
        _ => Ok(()),
    }
}

/// The tables that a migration's statements create, with their Arrow schemas.
async fn planned_tables(name: &str, sql: &str) -> Result<Vec<(String, arrow::datatypes::SchemaRef)>> {
    let config = SessionConfig::new().set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false);
    let context = SessionContext::new_with_config(config);
    let failed = |error: datafusion::error::DataFusionError| Error::BadMigration {
        file: name.into(),
        reason: error.strip_backtrace(),
    };
    for statement in DFParser::parse_sql(sql).map_err(failed)? {
        let plan = context.state().statement_to_plan(statement).await.map_err(failed)?;
        context.execute_logical_plan(plan).await.map_err(failed)?;
    }
    let mut tables = Vec::new();
    for table in schema::TABLES {
        if let Ok(provider) = context.table_provider(table).await {
            tables.push((table.to_string(), provider.schema()));
        }
    }
    Ok(tables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_migrations_create_every_table() {
        let (_, name, sql) = MIGRATIONS[0];
        let tables: Vec<String> = planned_tables(name, sql).await.unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(tables, schema::TABLES);
    }

    #[tokio::test]
    async fn a_broken_migration_is_named() {
        let error = planned_tables("x", "CREATE TABLE images (").await.unwrap_err();
        assert!(error.to_string().starts_with("migration x:"), "{error}");
    }

    #[test]
    fn versions_ascend_from_one() {
        assert!(MIGRATIONS.iter().map(|(version, ..)| *version).eq(1..=newest()));
    }
}
