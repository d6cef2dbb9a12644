//! Two ways to the same folder: reading as fast as Lance reads local files, writing so that what is reported as done
//! has reached the disk.
//!
//! Lance leaves its files to the system's write cache. Here every file is synced before its name appears, and the
//! folder after: the manifest that makes a commit visible comes last, so a power cut leaves the old version or the
//! new one.

use std::path::Path;
use std::sync::Arc;

use lance_io::object_store::{ObjectStore, ObjectStoreParams, ObjectStoreProvider};
use lancedb::{ObjectStoreRegistry, Session};
use object_store::local::LocalFileSystem;
use url::Url;

use crate::error::{Error, Result};

/// The scheme under which Lance gives every local file to [`object_store`].
const SCHEME: &str = "file-object-store";

/// Bytes of what is known of files that a writer reads again.
const METADATA_CACHE: usize = 64 << 20;

/// Lance's own provider, its files synced.
#[derive(Debug)]
struct Synced(Arc<dyn ObjectStoreProvider>);

#[async_trait::async_trait]
impl ObjectStoreProvider for Synced {
    async fn new_store(&self, base_path: Url, params: &ObjectStoreParams) -> lance::Result<ObjectStore> {
        let mut store = self.0.new_store(base_path, params).await?;
        store.inner = Arc::new(LocalFileSystem::new().with_fsync(true));
        Ok(store)
    }

    fn extract_path(&self, url: &Url) -> lance::Result<object_store::path::Path> {
        self.0.extract_path(url)
    }
}

/// A connection for reading.
pub(super) async fn reading(folder: &Path) -> Result<lancedb::Connection> {
    // absolute, or a folder called db would be an address in the cloud
    let folder = std::path::absolute(folder).map_err(Error::io("find", folder))?;
    Ok(lancedb::connect(&folder.to_string_lossy()).execute().await?)
}

/// A connection for writing.
pub(super) async fn writing(folder: &Path) -> Result<lancedb::Connection> {
    let folder = std::path::absolute(folder).map_err(Error::io("find", folder))?;
    let url = Url::from_directory_path(&folder).map_err(|()| Error::NotUtf8 { path: folder })?;
    let registry = ObjectStoreRegistry::default();
    // without it files would be left to the system's cache, and nobody would know
    let provider = registry.get_provider(SCHEME).ok_or(Error::NoSyncedWrites { scheme: SCHEME })?;
    registry.insert(SCHEME, Arc::new(Synced(provider)));
    let connect = lancedb::connect(&url.as_str().replacen("file", SCHEME, 1))
        .session(Arc::new(Session::new(0, METADATA_CACHE, Arc::new(registry))))
        // row ids that survive updates and compaction: what changed between versions can be asked later
        .storage_option("new_table_enable_stable_row_ids", "true");
    Ok(connect.execute().await?)
}
