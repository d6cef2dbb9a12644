//! Lance's way into a bucket: for reading as it is, for writing through [`Commits`], which lets only the one writer commit and finds
//! out what became of a commit whose answer was lost.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use lance_io::object_store::{ObjectStore as LanceStore, ObjectStoreParams, ObjectStoreProvider};
use lancedb::{ObjectStoreRegistry, Session};
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use url::Url;

use super::objects::{Bucket, create};
use super::writer::current;
use crate::cloud::{self, Failure, REFUSED};
use crate::error::Result;

/// Bytes of what is known of objects that are read again.
const METADATA_CACHE: usize = 256 << 20;
/// Reads under way at once.
const AT_ONCE: usize = 64;
/// How often a read that breaks off is begun again.
const READ_AGAIN: usize = 3;

/// A connection for reading.
pub(in crate::store) async fn reading(bucket: &Bucket) -> Result<lancedb::Connection> {
    connect(bucket, bucket.store.clone()).await
}

/// A connection for writing: what is answered is there for everybody.
pub(in crate::store) async fn writing(bucket: &Bucket) -> Result<lancedb::Connection> {
    connect(bucket, Arc::new(Commits { bucket: bucket.clone() })).await
}

async fn connect(bucket: &Bucket, store: Arc<dyn ObjectStore>) -> Result<lancedb::Connection> {
    let registry = ObjectStoreRegistry::default();
    registry.insert("s3", Arc::new(Provided(store)));
    let connect = lancedb::connect(&bucket.address())
        .session(Arc::new(Session::new(0, METADATA_CACHE, Arc::new(registry))))
        .storage_option("new_table_enable_stable_row_ids", "true");
    match connect.execute().await {
        Ok(connected) => Ok(connected),
        // Lance passes on the insides of what its store said: whoever asks again hears it in plain words
        Err(error) => {
            bucket.list("locks").await?;
            Err(error.into())
        }
    }
}

/// Gives Lance the store that is open already.
#[derive(Debug)]
struct Provided(Arc<dyn ObjectStore>);

#[async_trait::async_trait]
impl ObjectStoreProvider for Provided {
    async fn new_store(&self, base_path: Url, params: &ObjectStoreParams) -> lance::Result<LanceStore> {
        Ok(LanceStore::new(
            Arc::clone(&self.0),
            base_path,
            params.block_size,
            None,
            // R2 takes no others
            params.use_constant_size_upload_parts || cloud::endpoint().contains("r2.cloudflarestorage.com"),
            true,
            AT_ONCE,
            READ_AGAIN,
            params.storage_options(),
        ))
    }
}

/// The bucket for who writes tables.
#[derive(Debug)]
struct Commits {
    bucket: Bucket,
}

impl fmt::Display for Commits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.bucket.address())
    }
}

impl Commits {
    /// Refuse a commit of who is not the one writer.
    async fn check_writer(&self) -> object_store::Result<()> {
        let address = self.bucket.address();
        let held = current(&address).ok_or_else(|| refused(format!("nobody holds the writer's place of {address}")))?;
        if held.is_writer(&self.bucket).await? {
            return Ok(());
        }
        Err(refused(
            "another program has taken the writer's place meanwhile, for this one had not renewed it in time: nothing of this commit is \
             written; run this again"
                .into(),
        ))
    }
}

fn refused(reason: String) -> object_store::Error {
    object_store::Error::Generic { store: REFUSED, source: reason.into() }
}

/// Whether an object is the manifest of a version: with it a commit is there.
fn is_manifest(key: &Key) -> bool {
    key.as_ref().contains(".lance/_versions/") && key.as_ref().ends_with(".manifest")
}

#[async_trait::async_trait]
impl ObjectStore for Commits {
    async fn put_opts(&self, location: &Key, payload: PutPayload, opts: PutOptions) -> object_store::Result<PutResult> {
        if !is_manifest(location) {
            return self.bucket.store.put_opts(location, payload, opts).await;
        }
        self.check_writer().await?;
        if opts.mode != PutMode::Create {
            return self.bucket.store.put_opts(location, payload, opts).await;
        }
        let bytes = Bytes::from(payload);
        let created = create(&*self.bucket.store, location, bytes).await.map_err(|error| match Failure::of(&error) {
            // Lance would say that nobody knows whether it was made
            Failure { denied: true, reason, .. } => refused(format!(
                "the bucket could not be written: {reason}; nothing of this commit is there, and what was committed before stays"
            )),
            _ => error,
        });
        if created? {
            return Ok(PutResult { e_tag: None, version: None, extensions: Default::default() });
        }
        Err(object_store::Error::AlreadyExists { path: location.to_string(), source: "another commit made it".into() })
    }

    async fn put_multipart_opts(
        &self,
        location: &Key,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.bucket.store.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Key, options: GetOptions) -> object_store::Result<GetResult> {
        self.bucket.store.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Key, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        self.bucket.store.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Key>>,
    ) -> BoxStream<'static, object_store::Result<Key>> {
        self.bucket.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.bucket.store.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Key>,
        offset: &Key,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.bucket.store.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> object_store::Result<ListResult> {
        self.bucket.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> object_store::Result<()> {
        self.bucket.store.copy_opts(from, to, options).await
    }
}
