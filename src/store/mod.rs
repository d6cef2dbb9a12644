//! The database: Lance tables in one local folder, behind one wall. `lancedb` is named in this room alone.
//!
//! Promises: a write is one Lance commit, so a crash leaves it whole or absent; one program writes at a time
//! ([`WriteLock`]); reads pin the version they begin with, and it is not taken away from them; a write that is
//! reported has reached the disk. Knows tables, columns and versions; not for what
//! they mean: banks, scores and SQL live elsewhere.

mod change;
mod ddl;
mod delta;
mod durable;
mod lock;
pub mod memory;
mod migrate;
mod optimize;
mod provider;
mod rows;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::logical_expr::{Expr, Volatility};
use datafusion::prelude::SessionContext;
use futures::{Stream, TryStreamExt};
use lancedb::query::{ExecutableQuery, QueryBase, QueryExecutionOptions, Select};
use lancedb::table::FieldMetadataUpdate;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use ddl::planned_column;
pub use delta::Fragments;
pub use lock::{ReadLock, WriteLock};
pub use optimize::Footprint;
pub use rows::now;

use crate::error::{Error, Result};
use crate::schema;

/// An open database.
#[derive(Clone)]
pub struct Store {
    folder: PathBuf,
    reads: lancedb::Connection,
    writes: lancedb::Connection,
    reader: Arc<ReadLock>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("folder", &self.folder).finish()
    }
}

/// An embedding column of `images`, as its field metadata describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddingColumn {
    /// The backbone, and the column's name.
    pub backbone: String,
    /// SHA-256 of the weights that filled it.
    pub sha256: String,
    /// Numbers per embedding.
    pub dimension: usize,
    /// What the network's products were taken in: `f32` or `bf16`.
    pub precision: String,
}

impl Store {
    /// Open the database in `folder`.
    ///
    /// Errors: [`Error::NoDatabase`]; [`Error::OlderSchema`] where migrations are to be applied first,
    /// [`Error::NewerSchema`] where it has some that this version does not know.
    pub async fn open(folder: &Path) -> Result<Self> {
        let store = Self::existing(folder).await?;
        migrate::check(&store).await?;
        Ok(store)
    }

    /// Open the database in `folder`, creating it where there is none.
    pub async fn create(folder: &Path) -> Result<Self> {
        local(folder)?;
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        if let Err(Error::NoDatabase { .. }) = Self::open(folder).await {
            let store = Self::unchecked(folder).await?;
            let lock = store.lock()?;
            // nothing is left to do where another program has made it in the meantime
            migrate::apply(&store, &lock).await?;
        }
        Self::open(folder).await
    }

    /// Apply the migrations that the database in `folder` lacks, and name them.
    pub async fn migrate(folder: &Path) -> Result<Vec<String>> {
        let store = Self::existing(folder).await?;
        let lock = store.lock()?;
        let pending = migrate::pending(&store).await?;
        migrate::apply(&store, &lock).await?;
        Ok(pending)
    }

    /// The migrations that the database in `folder` lacks.
    pub async fn pending_migrations(folder: &Path) -> Result<Vec<String>> {
        migrate::pending(&Self::existing(folder).await?).await
    }

    /// A folder that is there, whatever is in it.
    async fn existing(folder: &Path) -> Result<Self> {
        if !local(folder)?.is_dir() {
            return Err(Error::NoDatabase { uri: folder.display().to_string() });
        }
        Self::unchecked(folder).await
    }

    async fn unchecked(folder: &Path) -> Result<Self> {
        let (reads, writes) = (durable::reading(folder).await?, durable::writing(folder).await?);
        let is_database = folder.join(format!("{}.lance", schema::SCHEMA_MIGRATIONS)).is_dir();
        let reader = Arc::new(ReadLock::join(folder, is_database).await?);
        Ok(Self { folder: folder.into(), reads, writes, reader })
    }

    /// The database's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of index files: derived data, rebuilt where missing.
    pub fn index_folder(&self) -> PathBuf {
        self.folder.join("indexes")
    }

    /// Take the one writer's place; it is given back when the value is dropped or the process dies.
    pub fn lock(&self) -> Result<WriteLock> {
        WriteLock::take(&self.folder)
    }

    /// A place of one's own among the readers: versions of tables are not pruned while it is held, by this program either.
    pub async fn read_lock(&self) -> Result<ReadLock> {
        ReadLock::join(&self.folder, true).await
    }

    async fn table(&self, name: &str) -> Result<lancedb::Table> {
        Ok(self.reads.open_table(name).execute().await?)
    }

    /// A table whose commits reach the disk before they are reported.
    async fn writable(&self, name: &str) -> Result<lancedb::Table> {
        Ok(self.writes.open_table(name).execute().await?)
    }

    /// A table for DataFusion, read-only, pinned to its latest version or the one given.
    pub async fn provider(&self, table: &str, version: Option<u64>) -> Result<Arc<dyn TableProvider>> {
        let table = self.table(table).await?;
        let version = match version {
            Some(version) => version,
            None => table.version().await?,
        };
        table.checkout(version).await?;
        provider::read_only(table).await
    }

    /// The current version of a table.
    pub async fn version(&self, table: &str) -> Result<u64> {
        Ok(self.table(table).await?.version().await?)
    }

    /// The versions of a table that are kept, ascending.
    pub async fn versions(&self, table: &str) -> Result<Vec<u64>> {
        Ok(self.table(table).await?.list_versions().await?.into_iter().map(|version| version.version).collect())
    }

    /// Keep `version` of a table from being pruned, under a name.
    pub async fn tag(&self, table: &str, tag: &str, version: u64) -> Result<()> {
        let table = self.writable(table).await?;
        let mut tags = table.tags().await?;
        if tags.list().await?.contains_key(tag) {
            return Ok(tags.update(tag, version).await?);
        }
        Ok(tags.create(tag, version).await?)
    }

    /// The tags of a table and the versions that they keep.
    pub async fn tags(&self, table: &str) -> Result<Vec<(String, u64)>> {
        let tags = self.table(table).await?.tags().await?.list().await?;
        Ok(tags.into_iter().map(|(tag, contents)| (tag, contents.version)).collect())
    }

    /// Forget the tags of a table that are no longer wanted.
    pub async fn untag(&self, table: &str, unwanted: impl Fn(&str) -> bool) -> Result<()> {
        let table = self.writable(table).await?;
        let mut tags = table.tags().await?;
        for tag in tags.list().await?.into_keys().filter(|tag| unwanted(tag)) {
            tags.delete(&tag).await?;
        }
        Ok(())
    }

    /// Refuse a predicate over `images` that is not one SQL expression, names what is not there, or would hold for
    /// other rows tomorrow (`random()`, `now()`).
    pub async fn check_predicate(&self, predicate: &str) -> Result<()> {
        let bad = |reason: String| Error::BadPredicate { predicate: predicate.into(), reason };
        let explain = |error: DataFusionError| bad(Error::from(error).to_string());
        let columns = DFSchema::try_from(self.schema(schema::IMAGES).await?).map_err(explain)?;
        let parse = |text: &str| SessionContext::new().parse_sql_expr(text, &columns).map_err(explain);
        let parsed = parse(predicate)?;
        // as it will stand in a filter: a comment or an AS at its end would swallow what follows
        parse(&format!("({predicate})"))?;
        let mut changing = None;
        parsed
            .apply(|part| {
                if let Expr::ScalarFunction(call) = part
                    && call.func.signature().volatility != Volatility::Immutable
                {
                    changing = Some(call.name().to_string());
                }
                Ok(TreeNodeRecursion::Continue)
            })
            .map_err(explain)?;
        match changing {
            Some(name) => Err(bad(format!("{name}() gives another answer each time: write the value instead"))),
            None => Ok(()),
        }
    }

    /// Stream columns of a table's version, row order kept, rows for which `filter` (SQL) holds.
    pub async fn scan(
        &self,
        table: &str,
        version: Option<u64>,
        columns: &[&str],
        filter: Option<&str>,
    ) -> Result<impl Stream<Item = Result<RecordBatch>> + Send + Unpin + use<>> {
        self.scan_by(QueryExecutionOptions::default().max_batch_length, table, version, columns, filter).await
    }

    /// The same, at most so many rows a batch: for columns whose values are large.
    pub async fn scan_by(
        &self,
        rows: u32,
        table: &str,
        version: Option<u64>,
        columns: &[&str],
        filter: Option<&str>,
    ) -> Result<impl Stream<Item = Result<RecordBatch>> + Send + Unpin + use<>> {
        let table = self.table(table).await?;
        if let Some(version) = version {
            table.checkout(version).await?;
        }
        let mut query = table.query().select(Select::columns(columns));
        if let Some(filter) = filter {
            query = query.only_if(filter);
        }
        let mut options = QueryExecutionOptions::default();
        options.max_batch_length = rows;
        Ok(query.execute_with_options(options).await?.map_err(Error::from))
    }

    /// Number of rows of a table.
    pub async fn count(&self, table: &str) -> Result<usize> {
        Ok(self.table(table).await?.count_rows(None).await?)
    }

    /// Number of rows of a table for which a predicate (SQL) holds.
    pub async fn count_where(&self, table: &str, predicate: &str) -> Result<usize> {
        Ok(self.table(table).await?.count_rows(Some(predicate.into())).await?)
    }

    /// A table's Arrow schema.
    pub async fn schema(&self, table: &str) -> Result<SchemaRef> {
        Ok(self.table(table).await?.schema().await?)
    }

    /// The embedding columns of `images`.
    pub async fn embedding_columns(&self) -> Result<Vec<EmbeddingColumn>> {
        Ok(self.schema(schema::IMAGES).await?.fields().iter().filter_map(|field| embedding_column(field)).collect())
    }

    /// Add the column of a backbone to `images`, NULL everywhere; nothing happens where it is there already.
    ///
    /// Errors: [`Error::OtherCheckpoint`] where the column holds embeddings of other weights,
    /// [`Error::ColumnTaken`] where another kind of column has the name.
    pub async fn add_embedding_column(&self, lock: &WriteLock, column: &EmbeddingColumn) -> Result<()> {
        let name = column.backbone.as_str();
        let existing = self.schema(schema::IMAGES).await?;
        if let Ok(field) = existing.field_with_name(name) {
            return match embedding_column(field) {
                Some(found) if found == *column => Ok(()),
                Some(found) if (&found.sha256, found.dimension) == (&column.sha256, column.dimension) => {
                    Err(Error::OtherPrecision {
                        column: name.into(),
                        stored: found.precision,
                        given: column.precision.clone(),
                    })
                }
                Some(found) => Err(Error::OtherCheckpoint {
                    column: name.into(),
                    stored: format!("sha256 {} (dimension {})", found.sha256, found.dimension),
                    given: format!("sha256 {} (dimension {})", column.sha256, column.dimension),
                }),
                None => Err(Error::ColumnTaken { name: name.into() }),
            };
        }
        let mut field = schema::embedding_field(name, column.dimension, &column.sha256);
        if column.precision != schema::F32 {
            let mut metadata = field.metadata().clone();
            metadata.insert(schema::PRECISION_KEY.into(), column.precision.clone());
            field.set_metadata(metadata);
        }
        self.add_null_columns(lock, schema::IMAGES, &[field]).await
    }

    /// Add columns to a table, NULL everywhere; those that are there already are left alone.
    pub async fn add_null_columns(&self, lock: &WriteLock, table: &str, fields: &[Field]) -> Result<()> {
        let existing = self.schema(table).await?;
        for field in fields.iter().filter(|field| existing.field_with_name(field.name()).is_err()) {
            self.add_column(lock, table, Arc::new(field.clone())).await?;
            // lance may keep the field's metadata from the transform or not: set it, so that it is there for certain
            let update = FieldMetadataUpdate::new(field.name().as_str());
            let metadata = field.metadata().clone();
            let update = metadata.into_iter().fold(update, |update, (key, value)| update.set(key, value));
            self.writable(table).await?.update_field_metadata(&[update]).await?;
        }
        Ok(())
    }

    /// Append rows in one commit.
    pub async fn append(&self, _lock: &WriteLock, table: &str, batch: RecordBatch) -> Result<()> {
        self.writable(table).await?.add(batch).execute().await?;
        Ok(())
    }

    /// Replace the rows whose `on` columns match, but for columns that `batch` does not have; insert the others where
    /// `insert` says so. One commit.
    pub async fn upsert(
        &self,
        _lock: &WriteLock,
        table: &str,
        on: &[&str],
        batch: RecordBatch,
        insert: bool,
    ) -> Result<()> {
        let table = self.writable(table).await?;
        let mut merge = table.merge_insert(on);
        merge.when_matched_update_all(None);
        if insert {
            merge.when_not_matched_insert_all();
        }
        let schema = batch.schema();
        merge.execute(Box::new(arrow::array::RecordBatchIterator::new([Ok(batch)], schema))).await?;
        Ok(())
    }

    /// Delete the rows for which `predicate` holds, in one commit.
    pub async fn delete(&self, _lock: &WriteLock, table: &str, predicate: &str) -> Result<()> {
        self.writable(table).await?.delete(predicate).await?;
        Ok(())
    }

    /// Read a small table whole, as values of `T`.
    pub async fn read_rows<T: DeserializeOwned>(&self, table: &str) -> Result<Vec<T>> {
        let columns: Vec<String> =
            self.schema(table).await?.fields().iter().map(|field| field.name().clone()).collect();
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let batches: Vec<RecordBatch> = self.scan(table, None, &columns, None).await?.try_collect().await?;
        rows::from_batches(table, &batches)
    }

    /// Append values of `T` to a small table, or replace the rows that agree in the `on` columns.
    pub async fn write_rows<T: Serialize>(&self, lock: &WriteLock, table: &str, on: &[&str], rows: &[T]) -> Result<()> {
        let batch = rows::to_batch(table, self.schema(table).await?, rows)?;
        if on.is_empty() {
            return self.append(lock, table, batch).await;
        }
        self.upsert(lock, table, on, batch, true).await
    }
}

/// Refuse what is no local folder.
fn local(folder: &Path) -> Result<&Path> {
    let text = folder.to_str().ok_or_else(|| Error::NotUtf8 { path: folder.into() })?;
    match text.split_once("://") {
        Some((scheme, _)) => Err(Error::RemoteDatabase { scheme: scheme.into() }),
        None => Ok(folder),
    }
}

fn embedding_column(field: &Field) -> Option<EmbeddingColumn> {
    let DataType::FixedSizeList(_, dimension) = field.data_type() else { return None };
    Some(EmbeddingColumn {
        backbone: field.metadata().get(schema::BACKBONE_KEY)?.clone(),
        sha256: field.metadata().get(schema::SHA256_KEY)?.clone(),
        dimension: *dimension as usize,
        precision: field.metadata().get(schema::PRECISION_KEY).map_or(schema::F32, String::as_str).into(),
    })
}

/// `text` as a SQL string literal.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
