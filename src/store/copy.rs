//! A database copied from place to place: between folders and buckets, with all its versions.
//!
//! What says that something is there comes last: the manifests of a table after its data, and `schema_migrations`, without which there
//! is no database, after all others. A copy that was interrupted is no database, and goes on where it was. Each file is read back
//! from where it was written and compared. Files that are derived are not copied: they are made again where they are asked for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, WriteMultipart};
use sha2::{Digest, Sha256};

use super::bucket::refused;
use super::location::{COPYING as MARK, Location};
use super::{Patience, Store, files};
use crate::cloud::Failure;
use crate::error::{Error, Result};
use crate::schema;

/// Bytes of a part of a file.
const PART: usize = 8 << 20;
/// Parts of a file that are under way at once, and files.
const AT_ONCE: usize = 4;

/// What [`copy`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Files that were written and read back.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files that an interrupted copy had written.
    pub there: usize,
}

/// All that lies at a place.
struct Objects {
    place: PathBuf,
    store: Arc<dyn ObjectStore>,
    prefix: Key,
}

impl Objects {
    fn of(location: &Location) -> Result<Self> {
        let (store, prefix): (Arc<dyn ObjectStore>, Key) = match location {
            Location::Folder(folder) => {
                let store = LocalFileSystem::new_with_prefix(folder).map(|store| store.with_fsync(true));
                let failed = |error| Error::io("open", folder)(Failure::of(&error).into_io());
                (Arc::new(store.map_err(failed)?), Key::default())
            }
            Location::Bucket(bucket) => bucket.objects(),
        };
        Ok(Self { place: location.place(), store, prefix })
    }

    fn key(&self, name: &str) -> Key {
        let text = format!("{}/{name}", self.prefix);
        Key::parse(text.trim_start_matches('/')).unwrap_or_else(|_| Key::from(text))
    }

    fn failed(&self, what: &'static str, name: &str) -> impl Fn(object_store::Error) -> Error + use<> {
        let address = self.place.join(name).display().to_string();
        move |error| refused(what, &address, &error)
    }

    /// Names and lengths of the files of a table.
    async fn table(&self, table: &str) -> Result<Vec<(String, u64)>> {
        let folder = format!("{table}.lance");
        let from = self.prefix.as_ref().len() + usize::from(!self.prefix.as_ref().is_empty());
        let name = |found: ObjectMeta| (found.location.as_ref()[from..].to_owned(), found.size);
        let found: Vec<(String, u64)> = self
            .store
            .list(Some(&self.key(&folder)))
            .map_ok(name)
            .try_collect()
            .await
            .map_err(self.failed("list", &folder))?;
        Ok(found.into_iter().filter(|(name, _)| !files::is_unfinished(Path::new(name))).collect())
    }

    /// The SHA-256 of a file, each part of it shown to `see`.
    async fn read(&self, name: &str, mut see: impl AsyncFnMut(Bytes) -> Result<()>) -> Result<[u8; 32]> {
        let (mut digest, failed) = (Sha256::new(), self.failed("read", name));
        let mut parts = self.store.get(&self.key(name)).await.map_err(&failed)?.into_stream();
        while let Some(part) = parts.try_next().await.map_err(&failed)? {
            digest.update(&part);
            see(part).await?;
        }
        Ok(digest.finalize().into())
    }
}

/// Copy the database at `from` to `to`, where there is none, or the beginning of such a copy. Nobody writes to it meanwhile. `tell`
/// hears (bytes done, all bytes).
///
/// Errors: [`Error::NoDatabase`], another writer, [`Error::CopyOver`] where something else is, a file that reads otherwise than it was
/// written.
pub async fn copy(from: &Path, to: &Path, patience: Patience, mut tell: impl FnMut(u64, u64)) -> Result<Copied> {
    let source = Store::open(from).await?.patient(patience);
    let lock = source.lock_in_turn().await?;
    let target = Location::of(to)?;
    if let Location::Folder(folder) = &target {
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    let target = target.resolved()?;
    let (ours, theirs) = (Objects::of(&source.location)?, Objects::of(&target)?);
    target.check_outside().await?;
    begin(&ours, &theirs).await?;

    let mut all = Vec::new();
    let last = schema::SCHEMA_MIGRATIONS;
    for table in schema::TABLES.into_iter().filter(|table| *table != last).chain([last]) {
        let there: Vec<(String, u64)> = theirs.table(table).await?;
        let (manifests, data): (Vec<_>, Vec<_>) =
            ours.table(table).await?.into_iter().partition(|(name, _)| name.contains("/_versions/"));
        all.push((data, manifests, there));
    }
    let bytes: u64 =
        all.iter().flat_map(|(data, manifests, _)| data.iter().chain(manifests)).map(|(_, bytes)| bytes).sum();
    let (mut copied, mut done) = (Copied::default(), 0);
    for (data, manifests, there) in all {
        for (files, may_be_there) in [(data, true), (manifests, false)] {
            let (there, new): (Vec<_>, Vec<_>) =
                files.into_iter().partition(|file| may_be_there && there.contains(file));
            copied.there += there.len();
            done += there.iter().map(|(_, bytes)| bytes).sum::<u64>();
            let copies = new.into_iter().map(|(name, bytes)| {
                let (ours, theirs) = (&ours, &theirs);
                async move { copy_file(ours, theirs, &name, bytes).await.map(|()| bytes) }
            });
            let mut copies = stream::iter(copies).buffer_unordered(AT_ONCE);
            while let Some(bytes_of_file) = copies.try_next().await? {
                copied.files += 1;
                copied.bytes += bytes_of_file;
                done += bytes_of_file;
                tell(done, bytes);
            }
        }
    }
    theirs.store.delete(&theirs.key(MARK)).await.map_err(theirs.failed("remove", MARK))?;
    drop(lock);
    Store::open(to).await?;
    Ok(copied)
}

/// Mark the target as a copy that is not complete.
async fn begin(ours: &Objects, theirs: &Objects) -> Result<()> {
    let from = ours.place.display().to_string();
    let over = |found: String| Error::CopyOver { place: theirs.place.clone(), found };
    if ours.place.starts_with(&theirs.place) || theirs.place.starts_with(&ours.place) {
        return Err(over("it is where the database is, or inside it".into()));
    }
    match theirs.store.get(&theirs.key(MARK)).await {
        Ok(mark) => {
            let mark = mark.bytes().await.map_err(theirs.failed("read", MARK))?;
            let mark = String::from_utf8_lossy(&mark).into_owned();
            if mark.trim() != from {
                return Err(over(format!("it holds the beginning of a copy of {}", mark.trim())));
            }
        }
        Err(object_store::Error::NotFound { .. }) => {
            let prefix = (!theirs.prefix.as_ref().is_empty()).then_some(&theirs.prefix);
            let first = theirs.store.list(prefix).next().await.transpose().map_err(theirs.failed("list", ""))?;
            if let Some(first) = first {
                return Err(over(format!("it holds {}", first.location)));
            }
            let mark = Bytes::from(format!("{from}\n"));
            theirs.store.put(&theirs.key(MARK), mark.into()).await.map_err(theirs.failed("write", MARK))?;
        }
        Err(error) => return Err(theirs.failed("read", MARK)(error)),
    }
    Ok(())
}

/// Copy a file, and read it back.
async fn copy_file(ours: &Objects, theirs: &Objects, name: &str, bytes: u64) -> Result<()> {
    let (key, failed) = (theirs.key(name), theirs.failed("write", name));
    let written = if bytes <= PART as u64 {
        let mut whole = Vec::with_capacity(bytes as usize);
        let read = ours.read(name, async |part| {
            whole.extend_from_slice(&part);
            Ok(())
        });
        let digest = read.await?;
        theirs.store.put(&key, whole.into()).await.map_err(&failed)?;
        digest
    } else {
        let upload = theirs.store.put_multipart(&key).await.map_err(&failed)?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART);
        let read = ours.read(name, async |part| {
            upload.wait_for_capacity(AT_ONCE).await.map_err(&failed)?;
            upload.write(&part);
            Ok(())
        });
        let digest = read.await?;
        upload.finish().await.map_err(&failed)?;
        digest
    };
    let found = theirs.read(name, async |_| Ok(())).await?;
    if found != written {
        let reason = "it does not read as it was written".into();
        return Err(Error::Bucket { what: "write", address: theirs.place.join(name).display().to_string(), reason });
    }
    Ok(())
}
