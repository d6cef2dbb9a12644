//! Migrations: `migrations/NNNN_name.sql`, run once, in order, recorded in `schema_migrations` with a checksum.
//!
//! A migration is CREATE TABLE and ALTER TABLE … ADD COLUMN or ALTER COLUMN … DROP NOT NULL statements. They become [`Step`]s: each is one commit and
//! does nothing where it is done already. The record is the last step and one commit for all migrations of a run, so
//! a run that was interrupted anywhere is simply run again.

use std::sync::Arc;

use datafusion::error::DataFusionError;
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::sqlparser::ast;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};

use super::ddl::{planned_column, planned_table};
use super::history::Change;
use super::{Store, WriteLock, rows};
use crate::error::{Error, Result};
use crate::schema;

/// One file of `migrations/`.
#[derive(Debug)]
struct Migration {
    version: u32,
    name: &'static str,
    sql: &'static str,
}

/// Every migration, ascending.
const MIGRATIONS: [Migration; 5] = [
    Migration { version: 1, name: "first_tables", sql: include_str!("../../migrations/0001_first_tables.sql") },
    Migration {
        version: 2,
        name: "views_and_refresh",
        sql: include_str!("../../migrations/0002_views_and_refresh.sql"),
    },
    Migration { version: 3, name: "rejects", sql: include_str!("../../migrations/0003_rejects.sql") },
    Migration { version: 4, name: "history", sql: include_str!("../../migrations/0004_history.sql") },
    Migration { version: 5, name: "own_embeddings", sql: include_str!("../../migrations/0005_own_embeddings.sql") },
];

/// The schema that this version of the program reads and writes.
const NEWEST: u32 = MIGRATIONS[MIGRATIONS.len() - 1].version;

impl Migration {
    fn file(&self) -> String {
        format!("{:04}_{}.sql", self.version, self.name)
    }

    /// SHA-256 of the text, the same on systems that end lines otherwise.
    fn checksum(&self) -> String {
        format!("{:x}", Sha256::digest(self.sql.replace("\r\n", "\n")))
    }
}

/// One row of `schema_migrations`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Applied {
    version: u32,
    name: String,
    applied_at: String,
    /// NULL before migration 2.
    #[serde(default)]
    checksum: Option<String>,
}

/// What is done to a database, one commit each.
#[derive(Debug)]
enum Step {
    Create { table: String, schema: SchemaRef },
    AddColumn { table: String, field: FieldRef },
    MayBeNull { table: String, columns: Vec<String> },
    Record { after: u32 },
}

/// Refuse a database whose migrations are not the ones known here, all of them.
pub(super) async fn check(store: &Store) -> Result<()> {
    match version(store).await? {
        found if found < NEWEST => Err(Error::OlderSchema { uri: uri(store), found, known: NEWEST }),
        // what a command writes into one table, another is to know
        _ => {
            let there = schema::TABLES.map(|table| store.location.has_table(table));
            let there = futures::future::try_join_all(there).await?;
            match schema::TABLES.iter().zip(there).find(|(_, there)| !there) {
                Some((table, _)) => {
                    Err(Error::MissingTable { table: (*table).into(), path: store.location.table(table) })
                }
                None => Ok(()),
            }
        }
    }
}

/// Refuse a folder in which no database can be made.
pub(super) async fn check_places(store: &Store) -> Result<()> {
    if version_or_none(store).await? == 0 {
        for step in steps(0).await? {
            check_place(store, &step).await?;
        }
    }
    Ok(())
}

/// The files that a database still needs, in order.
pub(super) async fn pending(store: &Store) -> Result<Vec<String>> {
    let found = version(store).await?;
    Ok(MIGRATIONS.iter().filter(|migration| migration.version > found).map(Migration::file).collect())
}

/// Apply what a database lacks.
pub(super) async fn apply(store: &Store, lock: &WriteLock) -> Result<()> {
    // all of them before anything is written
    check_places(store).await?;
    for step in steps(version_or_none(store).await?).await? {
        take(store, lock, &step).await?;
    }
    Ok(())
}

fn uri(store: &Store) -> String {
    store.place().display().to_string()
}

/// The version of a database, 0 where it is not one yet.
async fn version_or_none(store: &Store) -> Result<u32> {
    match version(store).await {
        Err(Error::NoDatabase { .. }) => Ok(0),
        found => found,
    }
}

/// The version of a database, whose recorded migrations must be those known here.
async fn version(store: &Store) -> Result<u32> {
    let applied: Vec<Applied> = match store.read_rows(schema::SCHEMA_MIGRATIONS).await {
        Err(Error::Store { source: lancedb::Error::TableNotFound { .. } }) => Vec::new(),
        rows => rows?,
    };
    let Some(found) = applied.iter().map(|row| row.version).max() else {
        return Err(Error::NoDatabase { uri: uri(store) });
    };
    if found > NEWEST {
        return Err(Error::NewerSchema { uri: uri(store), found, known: NEWEST });
    }
    match MIGRATIONS.iter().take_while(|known| known.version <= found).find_map(|known| difference(known, &applied)) {
        Some(reason) => Err(Error::OtherMigrations { uri: uri(store), reason }),
        None => Ok(found),
    }
}

/// In what the record of a migration differs from the file.
fn difference(known: &Migration, applied: &[Applied]) -> Option<String> {
    let file = known.file();
    let Some(row) = applied.iter().find(|row| row.version == known.version) else {
        return Some(format!("later migrations are recorded, and {file} is not"));
    };
    if row.name != known.name {
        return Some(format!("what it records as migration {} is '{}', not {file}", row.version, row.name));
    }
    let has_checksums = applied.iter().any(|row| row.version >= 2);
    match &row.checksum {
        None if has_checksums => Some(format!("the record of {file} has lost its checksum")),
        Some(found) if *found != known.checksum() => {
            Some(format!("{file} had sha256 {found} when it was applied, and has {} here", known.checksum()))
        }
        _ => None,
    }
}

/// The steps of all migrations after a version, none where there are none.
async fn steps(after: u32) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for migration in MIGRATIONS.iter().filter(|migration| migration.version > after) {
        let failed = |error: DataFusionError| Error::BadMigration {
            file: migration.file(),
            reason: Error::from(error).to_string(),
        };
        for statement in DFParser::parse_sql(migration.sql).map_err(failed)? {
            match step(statement).await.map_err(failed)? {
                // a table that is created is so from the beginning
                Step::MayBeNull { table, columns } if is_created(&mut steps, &table, &columns) => {}
                step => steps.push(step),
            }
        }
    }
    if !steps.is_empty() {
        steps.push(Step::Record { after });
    }
    Ok(steps)
}

/// Whether a table is created by these steps: with columns that may be NULL, then.
fn is_created(steps: &mut [Step], table: &str, columns: &[String]) -> bool {
    for step in steps {
        if let Step::Create { table: created, schema } = step
            && created == table
        {
            let freed = |field: &FieldRef| match columns.contains(field.name()) {
                true => Arc::new(field.as_ref().clone().with_nullable(true)),
                false => Arc::clone(field),
            };
            let fields = schema.fields().iter().map(freed).collect::<Vec<_>>();
            *schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
            return true;
        }
    }
    false
}

async fn step(statement: Statement) -> Result<Step, DataFusionError> {
    if let Statement::Statement(parsed) = &statement
        && let ast::Statement::AlterTable(alter) = parsed.as_ref()
        && let [ast::AlterTableOperation::AddColumn { column_def, .. }] = alter.operations.as_slice()
    {
        return Ok(Step::AddColumn { table: alter.name.to_string(), field: planned_column(column_def).await? });
    }
    if let Statement::Statement(parsed) = &statement
        && let ast::Statement::AlterTable(alter) = parsed.as_ref()
        && let Some(columns) = alter.operations.iter().map(freed_column).collect::<Option<Vec<_>>>()
    {
        return Ok(Step::MayBeNull { table: alter.name.to_string(), columns });
    }
    let (table, schema) = planned_table(statement).await?;
    Ok(Step::Create { table, schema })
}

/// The column of `ALTER COLUMN … DROP NOT NULL`.
fn freed_column(operation: &ast::AlterTableOperation) -> Option<String> {
    match operation {
        ast::AlterTableOperation::AlterColumn { column_name, op: ast::AlterColumnOperation::DropNotNull } => {
            Some(column_name.value.clone())
        }
        _ => None,
    }
}

async fn take(store: &Store, lock: &WriteLock, step: &Step) -> Result<()> {
    match step {
        Step::Create { table, schema } => match store.reads.open_table(table).execute().await {
            Ok(_) => Ok(()),
            Err(lancedb::Error::TableNotFound { .. }) => {
                remove_broken(store, table).await?;
                store.writes.create_empty_table(table, SchemaRef::clone(schema)).execute().await?;
                Ok(())
            }
            Err(error) => Err(error.into()),
        },
        Step::AddColumn { table, field } => match store.schema(table).await?.field_with_name(field.name()) {
            Ok(_) => Ok(()),
            Err(_) => store.add_column(lock, table, FieldRef::clone(field)).await,
        },
        Step::MayBeNull { table, columns } => {
            let (before, names) = (store.version(table).await?, columns.join(", "));
            let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
            store.let_be_null(lock, table, &columns).await?;
            let detail = Some(format!("{names} may be NULL"));
            store.record(lock, before, Change { detail, ..Change::of("migrate") }).await
        }
        Step::Record { after } => record(store, lock, *after).await,
    }
}

/// Record all migrations after a version, and the checksums that earlier records lack.
async fn record(store: &Store, lock: &WriteLock, after: u32) -> Result<()> {
    let mut applied: Vec<Applied> = store.read_rows(schema::SCHEMA_MIGRATIONS).await?;
    for migration in &MIGRATIONS {
        if migration.version > after {
            applied.push(Applied {
                version: migration.version,
                name: migration.name.into(),
                applied_at: rows::now(),
                checksum: Some(migration.checksum()),
            });
        } else if let Some(row) = applied.iter_mut().find(|row| row.version == migration.version) {
            row.checksum.get_or_insert_with(|| migration.checksum());
        }
    }
    store.write_rows(lock, schema::SCHEMA_MIGRATIONS, &["version"], &applied).await
}

/// Refuse to make a table where one of somebody else's lies, or files that could be one's.
async fn check_place(store: &Store, step: &Step) -> Result<()> {
    let Step::Create { table, schema } = step else { return Ok(()) };
    let foreign = |found: String| Error::ForeignTable { path: store.location.table(table), found };
    match store.reads.open_table(table).execute().await {
        // a creation that was interrupted leaves our tables, empty
        Ok(there) => {
            let (found, rows) = (there.schema().await?, there.count_rows(None).await?);
            let differs = schema.fields().iter().find(|field| {
                found.field_with_name(field.name()).ok().map(Field::data_type) != Some(field.data_type())
            });
            match differs {
                Some(field) => {
                    Err(foreign(format!("its table has no column {} of {}", field.name(), field.data_type())))
                }
                None if rows > 0 => Err(foreign(format!("its table has {rows} rows"))),
                None => Ok(()),
            }
        }
        Err(lancedb::Error::TableNotFound { .. }) => match store.location.left_by_others(table).await? {
            Some(file) => Err(foreign(format!("it is no table that can be read, and holds {file}"))),
            None => Ok(()),
        },
        Err(error) => Err(error.into()),
    }
}

/// Remove what there is of a table that was never committed: nothing of somebody else's is in it.
async fn remove_broken(store: &Store, table: &str) -> Result<()> {
    if let Some(file) = store.location.left_by_others(table).await? {
        let (path, found) = (store.location.table(table), format!("it is no table that can be read, and holds {file}"));
        return Err(Error::ForeignTable { path, found });
    }
    store.location.remove_table(table).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::location::Location;

    #[tokio::test]
    async fn the_migrations_create_every_table() {
        let created = |step: &Step| match step {
            Step::Create { table, .. } => Some(table.clone()),
            _ => None,
        };
        let mut tables: Vec<String> = steps(0).await.unwrap().iter().filter_map(created).collect();
        tables.sort();
        let mut known = schema::TABLES;
        known.sort_unstable();
        assert_eq!(tables, known);
        assert!(steps(NEWEST).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn the_columns_of_images_are_the_named_ones() {
        let steps = steps(0).await.unwrap();
        let Some(Step::Create { schema, .. }) = steps.first() else { panic!("{steps:?}") };
        assert!(schema.fields().iter().map(|field| field.name().as_str()).eq(schema::IMAGE_COLUMNS));
    }

    #[test]
    fn versions_ascend_from_one() {
        assert!(MIGRATIONS.iter().map(|migration| migration.version).eq(1..=NEWEST));
    }

    #[test]
    fn applied_files_are_never_edited() {
        let known = MIGRATIONS.each_ref().map(|migration| migration.checksum()[..16].to_string());
        assert_eq!(
            known,
            ["959615b5b228390a", "fa145f4186e9e249", "e3bac608ab428939", "1d3a089f36b9d48a", "c6bd2c44bc733f4b"]
        );
        let windows = Migration { sql: "a\r\nb", ..MIGRATIONS[0] };
        assert_eq!(windows.checksum(), Migration { sql: "a\nb", ..MIGRATIONS[0] }.checksum());
    }

    /// The database that schema 1 made.
    fn version_1() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let packed = std::fs::File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/v1.tar.gz")).unwrap();
        tar::Archive::new(flate2::read::GzDecoder::new(packed)).unpack(folder.path()).unwrap();
        folder
    }

    #[tokio::test]
    async fn a_migration_goes_on_wherever_it_stopped() {
        let all = steps(1).await.unwrap().len();
        for stop in 0..=all {
            let folder = version_1();
            let folder = folder.path().join("v1.db");
            let store = Store::unchecked(Location::of(&folder).unwrap()).await.unwrap();
            let lock = store.lock().await.unwrap();
            for step in steps(1).await.unwrap().iter().take(stop) {
                take(&store, &lock, step).await.unwrap();
            }
            drop(lock);
            match Store::open(&folder).await {
                Err(Error::OlderSchema { found: 1, known: NEWEST, .. }) if stop < all => {}
                opened => assert!(opened.is_ok() && stop == all, "after {stop} steps: {opened:?}"),
            }
            Store::migrate(&folder).await.unwrap();
            let store = Store::open(&folder).await.unwrap();
            let applied: Vec<Applied> = store.read_rows(schema::SCHEMA_MIGRATIONS).await.unwrap();
            assert_eq!(applied.len(), MIGRATIONS.len());
            assert!(applied.iter().all(|row| row.checksum.is_some()), "{applied:?}");
        }
    }

    /// Steps are taken one by one, with a stop after each.
    #[tokio::test]
    async fn a_creation_goes_on_wherever_it_stopped() {
        let all = steps(0).await.unwrap().len();
        for stop in 0..=all {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::unchecked(Location::of(folder.path()).unwrap()).await.unwrap();
            let lock = store.lock().await.unwrap();
            for step in steps(0).await.unwrap().iter().take(stop) {
                take(&store, &lock, step).await.unwrap();
            }
            drop(lock);
            let opened = Store::open(folder.path()).await;
            assert_eq!(opened.is_ok(), stop == all, "after {stop} steps: {opened:?}");
            let store = Store::create(folder.path()).await.unwrap();
            assert_eq!(version(&store).await.unwrap(), NEWEST);
            assert_eq!(store.count(schema::SCHEMA_MIGRATIONS).await.unwrap(), MIGRATIONS.len());
        }
    }
}
