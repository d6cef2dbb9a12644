//! An open database: its connections and locks, and what is done to any table of it.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::execution::SendableRecordBatchStream;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use lance::dataset::{WriteMode, WriteParams};
use lancedb::arrow::SimpleRecordBatchStream;
use lancedb::query::{ExecutableQuery, QueryBase, QueryExecutionOptions, Select};
use lancedb::table::WriteOptions;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::lease::{self, Lease};
use super::location::Location;
use super::lock::{Patience, ReadLock, WriteLock};
use super::native::{dataset, lance};
use super::recipe::OpenTable;
use super::{manifest, pictures, provider, rows};
use crate::error::{Error, Result};
use crate::schema;

/// Tables at versions that are kept open.
const KEPT_VERSIONS: usize = 8;

type KeptVersions = VecDeque<(String, u64, lancedb::Table)>;

/// Hears what long work does.
type Listener = Arc<dyn Fn(String) + Send + Sync>;

/// An open database.
#[derive(Clone)]
pub struct Store {
    pub(super) location: Location,
    /// The name by which it is opened again.
    place: PathBuf,
    pub(super) reads: lancedb::Connection,
    pub(super) writes: lancedb::Connection,
    lease: Lease,
    pub(super) patience: Patience,
    listener: Listener,
    /// Tables at versions that were named, the latest last: versions do not change, and reading one is not cheap.
    versions: Arc<Mutex<KeptVersions>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("place", &self.place).finish()
    }
}

impl Store {
    /// The database at a place, whatever is there.
    pub(super) async fn unchecked(location: Location) -> Result<Self> {
        let (reads, writes) = location.connect().await?;
        for table in schema::TABLES {
            location.check_latest(table)?;
        }
        Ok(Self {
            place: location.place(),
            lease: Lease::new(location.clone()),
            location,
            reads,
            writes,
            patience: Patience::default(),
            listener: Arc::new(|_| ()),
            versions: Arc::default(),
        })
    }

    /// Where the database is: its folder, or its address in a bucket; [`Self::open`] takes it.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// The folder of this machine for files that are derived: the database's own, or, of one in a bucket, one of the cache.
    pub fn folder(&self) -> &Path {
        self.location.local()
    }

    /// The folder of index files: derived data, rebuilt where missing.
    pub fn index_folder(&self) -> PathBuf {
        self.folder().join("indexes")
    }

    /// Put files of [`Self::index_folder`] where other machines that read a bucket find them.
    pub async fn publish_files(&self, files: &[PathBuf]) -> Result<()> {
        if let Location::Bucket(bucket) = &self.location {
            for file in files {
                bucket.publish(file).await?;
            }
        }
        Ok(())
    }

    /// Bring files of [`Self::index_folder`] up to those that others have put into a bucket.
    pub async fn fetch_files(&self, files: &[PathBuf]) -> Result<()> {
        if let Location::Bucket(bucket) = &self.location {
            for file in files {
                bucket.fetch(file).await?;
            }
        }
        Ok(())
    }

    /// Let a bucket have none of these files but those.
    pub async fn retain_files(&self, files: &[PathBuf]) -> Result<()> {
        match &self.location {
            Location::Bucket(bucket) => bucket.retain(files).await,
            Location::Folder(_) => Ok(()),
        }
    }

    /// The same database; its writers wait for others.
    pub fn patient(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// Have somebody hear, in a few words each time, what work that may take long is doing.
    pub fn telling(self, listener: impl Fn(String) + Send + Sync + 'static) -> Self {
        Self { listener: Arc::new(listener), ..self }
    }

    /// Say what is being done.
    pub(crate) fn tell(&self, what: impl Into<String>) {
        (self.listener)(what.into());
    }

    /// Versions of tables are not pruned while it is held, by this program either. Whoever reads for longer than a command
    /// takes pins what it reads under it ([`Self::lease`]).
    pub async fn read_lock(&self) -> Result<ReadLock> {
        ReadLock::join(&self.location).await
    }

    /// The versions that this program has pinned.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    pub(super) async fn table(&self, name: &str) -> Result<lancedb::Table> {
        manifest::opened(name, &self.location.table(name), self.reads.open_table(name).execute()).await
    }

    /// A table at a version, or at its latest.
    pub(super) async fn table_at(&self, name: &str, version: Option<u64>) -> Result<lancedb::Table> {
        let Some(version) = version else { return self.table(name).await };
        let known = |kept: &KeptVersions| {
            kept.iter().find(|(table, at, _)| table == name && *at == version).map(|(.., table)| table.clone())
        };
        if let Some(table) = known(&self.kept_versions()) {
            return Ok(table);
        }
        let table = self.table(name).await?;
        manifest::opened(name, &self.location.table(name), table.checkout(version)).await?;
        let mut kept = self.kept_versions();
        kept.push_back((name.into(), version, table.clone()));
        if kept.len() > KEPT_VERSIONS {
            kept.pop_front();
        }
        drop(kept);
        Ok(table)
    }

    fn kept_versions(&self) -> MutexGuard<'_, KeptVersions> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Versions may be gone.
    pub(super) fn forget_versions(&self) {
        self.kept_versions().clear();
    }

    /// A table whose commits reach the disk before they are reported.
    pub(super) async fn writable(&self, name: &str) -> Result<lancedb::Table> {
        manifest::opened(name, &self.location.table(name), self.writes.open_table(name).execute()).await
    }

    /// A table for DataFusion, read-only, at its latest version or the one given, which is not pruned while the value lives.
    pub async fn provider(&self, table: &str, version: Option<u64>) -> Result<Arc<dyn TableProvider>> {
        let lock = self.read_lock().await?;
        // as it is opened it stays: our connection for reading looks for nothing later
        let opened = self.table_at(table, version).await?;
        let pin = self.lease.pin(&lock, vec![(table.into(), opened.version().await?)])?;
        provider::read_only(&self.place, opened, pin).await
    }

    /// A table at a version, as a [recipe](super::Recipe) names it. Whoever wrote the recipe has pinned it.
    pub async fn open_table(&self, table: &str, version: u64) -> Result<OpenTable> {
        self.table_at(table, Some(version)).await.map(OpenTable)
    }

    /// The current version of a table.
    pub async fn version(&self, table: &str) -> Result<u64> {
        Ok(self.table(table).await?.version().await?)
    }

    /// The versions of a table that are kept, ascending.
    pub async fn versions(&self, table: &str) -> Result<Vec<u64>> {
        self.location.versions(table).await
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

    /// Stream columns of a table's version, row order kept, rows for which `filter` (SQL) holds. Batches of columns whose values
    /// are large, as stored pictures are, have fewer rows.
    pub async fn scan(
        &self,
        table: &str,
        version: Option<u64>,
        columns: &[&str],
        filter: Option<&str>,
    ) -> Result<Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>> {
        let lock = self.read_lock().await?;
        let table = self.table_at(table, version).await?;
        let hold = self.hold(lock, &table).await?;
        let options = QueryExecutionOptions::default();
        if pictures::has_large(&*table.schema().await?, columns) {
            let dataset = dataset(&table).await?;
            let mut scanner = pictures::scanner(&dataset, columns, options.max_batch_length as usize)?;
            if let Some(filter) = filter {
                scanner.filter(filter).map_err(lance)?;
            }
            let rows = AssertUnwindSafe(scanner.try_into_stream()).catch_unwind().await;
            let rows = AssertUnwindSafe(rows.map_err(|_| Error::ReadPanicked)?.map_err(lance)?).catch_unwind();
            let rows =
                rows.map(|batch| -> Result<RecordBatch> { batch.map_err(|_| Error::ReadPanicked)?.map_err(lance) });
            return Ok(held(rows, hold).boxed());
        }
        let mut query = table.query().select(Select::columns(columns));
        if let Some(filter) = filter {
            query = query.only_if(filter);
        }
        // Lance panics over some damaged files
        let rows = AssertUnwindSafe(query.execute_with_options(options)).catch_unwind().await;
        let rows = AssertUnwindSafe(rows.map_err(|_| Error::ReadPanicked)??).catch_unwind();
        let rows = rows.map(|batch| -> Result<RecordBatch> { Ok(batch.map_err(|_| Error::ReadPanicked)??) });
        Ok(held(rows, hold).boxed())
    }

    /// Hold a table as it is read: by the lock, and, in a bucket, where that holds nobody off, by a pin; but for small tables, which
    /// are read in a moment.
    pub(super) async fn hold(&self, lock: ReadLock, table: &lancedb::Table) -> Result<Hold> {
        let pin = match self.location {
            Location::Bucket(_) if table.name() == schema::IMAGES => {
                Some(self.lease.pin(&lock, vec![(table.name().to_owned(), table.version().await?)])?)
            }
            _ => None,
        };
        Ok(Hold { _lock: lock, _pin: pin })
    }

    /// Number of rows of a table.
    pub async fn count(&self, table: &str) -> Result<usize> {
        let _lock = self.read_lock().await?;
        Ok(self.table(table).await?.count_rows(None).await?)
    }

    /// Number of rows of a table for which a predicate (SQL) holds.
    pub async fn count_where(&self, table: &str, predicate: &str) -> Result<usize> {
        let _lock = self.read_lock().await?;
        Ok(self.table(table).await?.count_rows(Some(predicate.into())).await?)
    }

    /// A table's Arrow schema.
    pub async fn schema(&self, table: &str) -> Result<SchemaRef> {
        Ok(self.table(table).await?.schema().await?)
    }

    /// The columns of a table as they were in a version of it.
    pub async fn schema_at(&self, table: &str, version: u64) -> Result<SchemaRef> {
        Ok(self.table_at(table, Some(version)).await?.schema().await?)
    }

    /// Append rows in one commit.
    pub async fn append(&self, _lock: &WriteLock, table: &str, batch: RecordBatch) -> Result<()> {
        self.writable(table).await?.add(batch).execute().await?;
        Ok(())
    }

    /// Append rows as they come, in one commit, in files that are not too large to be read. Where they end in an error nothing is
    /// there.
    pub async fn append_rows(&self, _lock: &WriteLock, table: &str, rows: SendableRecordBatchStream) -> Result<()> {
        let schema = rows.schema();
        let rows = SimpleRecordBatchStream { schema, stream: rows.map_err(lancedb::Error::from) };
        let rows: lancedb::arrow::SendableRecordBatchStream = Box::pin(rows);
        let files = WriteParams {
            mode: WriteMode::Append,
            max_bytes_per_file: pictures::FRAGMENT_BYTES as usize,
            ..WriteParams::default()
        };
        let options = WriteOptions { lance_write_params: Some(files) };
        self.writable(table).await?.add(rows).write_options(options).write_parallelism(1).execute().await?;
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
        self.read_rows_at(table, None).await
    }

    /// The same, of a version of the table.
    pub async fn read_rows_at<T: DeserializeOwned>(&self, table: &str, version: Option<u64>) -> Result<Vec<T>> {
        let columns: Vec<String> =
            self.schema(table).await?.fields().iter().map(|field| field.name().clone()).collect();
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let batches: Vec<RecordBatch> = self.scan(table, version, &columns, None).await?.try_collect().await?;
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

/// What is read is not taken away while the value lives.
pub(super) struct Hold {
    _lock: ReadLock,
    _pin: Option<lease::Pin>,
}

/// Batches that are not taken away while they are read.
pub(super) fn held<S: Stream>(batches: S, hold: Hold) -> impl Stream<Item = S::Item> + use<S> {
    batches.inspect(move |_| {
        let _held = &hold;
    })
}
