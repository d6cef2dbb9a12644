//! A bucket, the place of a database in it, and what is asked of its objects.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::aws::AmazonS3;
use object_store::path::Path as Key;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode};
use sha2::{Digest, Sha256};

use super::variables::{cache_bytes, lease};
use crate::cloud::{self, Failure};
use crate::error::{Error, Result};

/// How often a put that replaces nothing is tried again, where nobody knows what became of it.
const PUT_AGAIN: usize = 3;
const SCHEME: &str = "s3://";
/// How often a list is asked for.
const LIST_AGAIN: usize = 3;
/// Where the clock of the bucket is read.
const CLOCK: &str = "locks/clock";
/// The variable that names the folder for derived files.
const CACHE_VARIABLE: &str = "OUTSKIRT_CACHE";

/// A bucket, and the place of a database in it.
#[derive(Debug, Clone)]
pub(in crate::store) struct Bucket {
    name: String,
    /// What stands before the names of all objects of the database, without a slash at its end.
    prefix: Key,
    pub(super) store: Arc<AmazonS3>,
    /// The folder of this machine for what is derived from it.
    pub(super) cache: PathBuf,
}

/// An object, by its name below the database's place.
#[derive(Debug)]
pub(in crate::store) struct Object {
    pub(in crate::store) name: String,
    pub(in crate::store) bytes: u64,
    /// By the clock of the bucket.
    pub(in crate::store) written: DateTime<Utc>,
}

/// Whether this text is an address in a bucket.
pub(in crate::store) fn is_address(text: &str) -> bool {
    text.get(..SCHEME.len()).is_some_and(|start| start.eq_ignore_ascii_case(SCHEME))
}

impl Bucket {
    /// `s3://bucket/path`; nothing is asked for yet.
    ///
    /// Errors: an address that is none; an environment that does not describe it.
    pub(in crate::store) fn open(address: &str) -> Result<Self> {
        let rest = address[SCHEME.len()..].trim_end_matches('/');
        // what stands before an @ may be a password
        let without = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
        let shown = format!("{SCHEME}{without}");
        let bad = |reason: String| Error::BadBucket { address: shown.clone(), reason };
        let (name, path) = rest.split_once('/').unwrap_or((rest, ""));
        if name.is_empty() || path.is_empty() {
            return Err(bad("it is not s3://BUCKET/PATH".into()));
        }
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-=+".contains(&byte));
        if let Some(part) = without.split('/').find(|part| !is_plain(part) || ["", ".", ".."].contains(part)) {
            return Err(bad(format!("'{part}' is no part of it: each is of letters, digits and . _ - = +")));
        }
        if without.len() < rest.len() {
            return Err(
                bad("keys are no part of it: they stand in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".into()),
            );
        }
        if path.split('/').any(|part| part.ends_with(".lance")) {
            return Err(bad("it lies inside a table".into()));
        }
        let prefix = Key::parse(path).map_err(|error| bad(error.to_string()))?;
        // a reader who cannot say how long he is there would read without being seen
        lease()?;
        cache_bytes()?;
        let store = Arc::new(cloud::bucket_of_tables(name).map_err(|error| bad(error.to_string()))?);
        let mut bucket = Self { name: name.into(), prefix, store, cache: PathBuf::new() };
        bucket.cache = cache_folder(&bucket.address())?;
        Ok(bucket)
    }

    /// `s3://bucket/path`, as it is opened again.
    pub(in crate::store) fn address(&self) -> String {
        format!("{SCHEME}{}/{}", self.name, self.prefix)
    }

    /// The folder of this machine for what is derived from it.
    pub(in crate::store) fn cache(&self) -> &Path {
        &self.cache
    }

    /// The bucket, and what stands before the names of all objects of the database.
    pub(in crate::store) fn objects(&self) -> (Arc<dyn ObjectStore>, Key) {
        (Arc::<AmazonS3>::clone(&self.store), self.prefix.clone())
    }

    pub(super) fn key(&self, name: &str) -> Key {
        let text = format!("{}/{name}", self.prefix);
        let text = text.trim_end_matches('/').to_owned();
        Key::parse(&text).unwrap_or_else(|_| Key::from(text))
    }

    pub(super) fn failed(&self, what: &'static str, name: &str) -> impl Fn(object_store::Error) -> Error {
        let address = format!("{}/{name}", self.address()).trim_end_matches('/').to_owned();
        move |error| refused(what, &address, &error)
    }

    /// All objects whose names begin with a folder's.
    pub(in crate::store) async fn list(&self, folder: &str) -> Result<Vec<Object>> {
        let all = self.prefix.as_ref().len() + 1;
        let object = move |found: ObjectMeta| Object {
            name: found.location.as_ref().get(all..).unwrap_or_default().into(),
            bytes: found.size,
            written: found.last_modified,
        };
        self.listed(folder, usize::MAX).await.map(|found| found.into_iter().map(object).collect())
    }

    /// Whether there is anything in a folder.
    pub(in crate::store) async fn has(&self, folder: &str) -> Result<bool> {
        Ok(!self.listed(folder, 1).await?.is_empty())
    }

    /// The first of a folder. A list whose answer breaks off is not asked for again by itself.
    async fn listed(&self, folder: &str, most: usize) -> Result<Vec<ObjectMeta>> {
        let under = self.key(folder);
        let mut attempt = 1;
        loop {
            match self.store.list(Some(&under)).take(most).try_collect::<Vec<_>>().await {
                Err(error) if attempt < LIST_AGAIN && Failure::of(&error).lost => attempt += 1,
                found => return found.map_err(self.failed("list", folder)),
            }
        }
    }

    /// An object's bytes; `None` where there is none.
    pub(in crate::store) async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        let read = async { self.store.get(&self.key(name)).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("read", name)(error)),
        }
    }

    /// Put an object, in place of one that is there.
    pub(in crate::store) async fn put(&self, name: &str, bytes: impl Into<Bytes>) -> Result<()> {
        self.store.put(&self.key(name), bytes.into().into()).await.map_err(self.failed("write", name))?;
        Ok(())
    }

    /// Put an object where none is; whether that was so.
    pub(in crate::store) async fn create(&self, name: &str, bytes: impl Into<Bytes>) -> Result<bool> {
        create(&*self.store, &self.key(name), bytes.into()).await.map_err(self.failed("write", name))
    }

    /// Remove objects; those that are gone are removed.
    pub(in crate::store) async fn remove(&self, names: impl IntoIterator<Item = String>) -> Result<()> {
        let keys: Vec<_> = names.into_iter().map(|name| Ok(self.key(&name))).collect();
        let mut removed = self.store.delete_stream(stream::iter(keys).boxed());
        while let Some(one) = removed.next().await {
            match one {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(self.failed("remove objects of", "")(error)),
            }
        }
        Ok(())
    }

    /// Objects of a folder, and what time it is by the clock that says when each was written.
    pub(in crate::store) async fn list_timed(&self, folder: &str) -> Result<(Vec<Object>, DateTime<Utc>)> {
        self.put(CLOCK, Bytes::from_static(b"the clock of the bucket")).await?;
        let clock = self.list("locks").await?.into_iter().find(|object| object.name == CLOCK);
        let now = clock.map_or_else(Utc::now, |clock| clock.written);
        Ok((self.list(folder).await?, now))
    }

    /// Bytes of all objects of a folder.
    pub(in crate::store) async fn bytes(&self, folder: &str) -> Result<u64> {
        Ok(self.list(folder).await?.iter().map(|object| object.bytes).sum())
    }

    /// Versions of a table that are kept, ascending, and when each was written.
    pub(in crate::store) async fn versions(&self, table: &str) -> Result<BTreeMap<u64, DateTime<Utc>>> {
        let manifests = self.list(&format!("{table}.lance/_versions")).await?;
        let version = |object: &Object| crate::store::manifest::version(Path::new(&object.name));
        Ok(manifests.iter().filter_map(|object| Some((version(object)?, object.written))).collect())
    }

    /// Refuse a place inside another database.
    ///
    /// Errors: [`Error::InsideOther`].
    pub(in crate::store) async fn check_outside(&self, table: &str) -> Result<()> {
        for (at, _) in self.prefix.as_ref().match_indices('/') {
            let outer = Self { prefix: Key::from(&self.prefix.as_ref()[..at]), ..self.clone() };
            if outer.has(&format!("{table}.lance/_versions")).await? {
                return Err(Error::InsideOther { address: self.address(), outer: outer.address() });
            }
        }
        Ok(())
    }

    /// A fault of the cache's own.
    pub(in crate::store) fn cache_failed(
        &self,
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(std::io::Error) -> Error + use<> {
        cache_failed(&self.address(), action, path)
    }

    /// The same bucket for who must have an answer soon.
    pub(in crate::store) fn prompt(&self, most: Duration) -> Result<Self> {
        let store = cloud::prompt_bucket(&self.name, most);
        let store = store.map_err(|error| Error::BadBucket { address: self.address(), reason: error.to_string() })?;
        Ok(Self { store: Arc::new(store), ..self.clone() })
    }
}

/// What a store did not do, in plain words.
pub(in crate::store) fn refused(what: &'static str, address: &str, error: &object_store::Error) -> Error {
    let (Failure { reason, denied, .. }, address) = (Failure::of(error), address.to_owned());
    if denied { Error::BucketDenied { what, address, reason } } else { Error::Bucket { what, address, reason } }
}

/// Whether what was written then, and is held for so long, is held no more.
pub(super) fn is_over(written: DateTime<Utc>, now: DateTime<Utc>, held: Duration) -> bool {
    (now - written).to_std().is_ok_and(|age| age > held)
}

/// The folder of a database's derived files: by the address, in that of the user's cache.
fn cache_folder(address: &str) -> Result<PathBuf> {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let all = named(CACHE_VARIABLE)
        .or_else(|| named("XDG_CACHE_HOME").map(|cache| cache.join("outskirt")))
        .or_else(|| named("HOME").map(|home| home.join(".cache/outskirt")))
        .unwrap_or_else(|| std::env::temp_dir().join("outskirt"));
    let digest = format!("{:x}", Sha256::digest(address));
    let folder = all.join(&digest[..16]);
    let made = std::fs::create_dir_all(&folder).and_then(|()| {
        let about = folder.join("database");
        if about.exists() { Ok(()) } else { std::fs::write(about, format!("{address}\n")) }
    });
    made.map_err(cache_failed(address, "create", &folder))?;
    std::fs::canonicalize(&folder).map_err(cache_failed(address, "find", &folder))
}

fn cache_failed(address: &str, action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error + use<> {
    let (address, path) = (address.to_owned(), path.to_owned());
    move |source| Error::Cache { address, action, path, source }
}

/// Put an object where none is; whether that was so. An answer that was lost, or that says that there is one, may be about one's own:
/// what is there is looked at.
pub(super) async fn create(store: &dyn ObjectStore, key: &Key, bytes: Bytes) -> object_store::Result<bool> {
    let mut attempt = 0;
    loop {
        let error = match store.put_opts(key, bytes.clone().into(), PutMode::Create.into()).await {
            Ok(_) => return Ok(true),
            Err(error) => error,
        };
        let is_taken =
            matches!(error, object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. });
        let there = async { store.get(key).await?.bytes().await };
        match there.await {
            Ok(there) => return Ok(there == bytes),
            // it was not put, or it is being put at the moment
            Err(object_store::Error::NotFound { .. }) if attempt < PUT_AGAIN => attempt += 1,
            Err(_) if is_taken => return Ok(false),
            Err(_) => return Err(error),
        }
    }
}
