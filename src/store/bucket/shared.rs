//! Files that are derived, shared by all machines that read a bucket: each is an object of `indexes` as well, and a copy of it in the
//! cache of a machine is brought up to it when it is opened. Such files check themselves: one that is damaged or cut is made anew.
//!
//! The cache holds so many bytes at most; files that nobody has opened for longest go first. One that is open stays readable.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStoreExt, WriteMultipart};

use super::objects::Bucket;
use super::variables::cache_bytes;
use crate::error::{Error, Result};

const FOLDER: &str = "indexes";
/// The folder of the cache that says of which state of its object a file is.
const STATES: &str = "states";
/// Bytes of a part of an object, and parts that are under way at once.
const PART: usize = 8 << 20;
const AT_ONCE: usize = 4;
/// What this process has asked of caches: see [`CacheUse`].
static FOUND: AtomicU64 = AtomicU64::new(0);
static FETCHED: AtomicU64 = AtomicU64::new(0);
static BYTES_FETCHED: AtomicU64 = AtomicU64::new(0);

/// What a process has asked of the caches of buckets since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheUse {
    /// Files that were there.
    pub found: u64,
    /// Files that had to be fetched.
    pub fetched: u64,
    /// Bytes of those.
    pub bytes_fetched: u64,
}

/// What this process has.
pub fn cache_use() -> CacheUse {
    let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
    CacheUse { found: read(&FOUND), fetched: read(&FETCHED), bytes_fetched: read(&BYTES_FETCHED) }
}

impl Bucket {
    /// Put a file of the cache where other machines find it.
    pub(in crate::store) async fn publish(&self, path: &Path) -> Result<()> {
        let name = object_name(path);
        let failed = self.failed("write", &name);
        let upload = self.store.put_multipart(&self.key(&name)).await.map_err(&failed)?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART);
        let mut file = File::open(path).map_err(Error::io("read", path))?;
        loop {
            upload.wait_for_capacity(AT_ONCE).await.map_err(&failed)?;
            let mut part = vec![0; PART];
            let read = read_up_to(&mut file, &mut part).map_err(Error::io("read", path))?;
            if read == 0 {
                break;
            }
            part.truncate(read);
            upload.put(part.into());
        }
        upload.finish().await.map_err(&failed)?;
        let now = self.store.head(&self.key(&name)).await.map_err(failed)?;
        self.used(path, &state(&now))
    }

    /// Bring a file of the cache up to its object, where there is one.
    pub(in crate::store) async fn fetch(&self, path: &Path) -> Result<()> {
        let name = object_name(path);
        let failed = self.failed("read", &name);
        let there = match self.store.head(&self.key(&name)).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(()),
            there => there.map_err(&failed)?,
        };
        let (now, known) = (state(&there), fs::read_to_string(self.state_file(path)).ok());
        if path.exists() && known.as_ref() == Some(&now) {
            FOUND.fetch_add(1, Ordering::Relaxed);
            // a cache that can only be read serves as it is
            let _ = self.used(path, &now);
            return Ok(());
        }
        bound(&self.cache, there.size)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(self.cache_failed("create", folder))?;
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let fresh = folder.join(format!(".fetched-{}-{number}", std::process::id()));
        let fetched = async {
            let mut file = File::create(&fresh).map_err(self.cache_failed("write", &fresh))?;
            let found = self.store.get(&self.key(&name)).await.map_err(&failed)?;
            let now = state(&found.meta);
            let mut parts = found.into_stream();
            while let Some(part) = parts.try_next().await.map_err(&failed)? {
                file.write_all(&part).map_err(self.cache_failed("write", &fresh))?;
            }
            fs::rename(&fresh, path).map_err(self.cache_failed("rename", &fresh))?;
            FETCHED.fetch_add(1, Ordering::Relaxed);
            BYTES_FETCHED.fetch_add(there.size, Ordering::Relaxed);
            self.used(path, &now)
        };
        let fetched = fetched.await;
        if fetched.is_err() {
            // what is half written only takes space
            let _ = fs::remove_file(&fresh);
        }
        fetched
    }

    /// Remove the objects of files that are not among these.
    pub(in crate::store) async fn retain(&self, files: &[PathBuf]) -> Result<()> {
        let kept: Vec<String> = files.iter().map(|path| object_name(path)).collect();
        let objects = self.list(FOLDER).await?;
        self.remove(objects.into_iter().map(|object| object.name).filter(|name| !kept.contains(name))).await
    }

    fn state_file(&self, path: &Path) -> PathBuf {
        self.cache.join(STATES).join(path.file_name().unwrap_or_default())
    }

    /// Write down that a file is of this state, and was used now.
    fn used(&self, path: &Path, state: &str) -> Result<()> {
        let note = self.state_file(path);
        let folder = self.cache.join(STATES);
        fs::create_dir_all(&folder).map_err(self.cache_failed("create", &folder))?;
        fs::write(&note, state).map_err(self.cache_failed("write", &note))
    }
}

fn object_name(path: &Path) -> String {
    format!("{FOLDER}/{}", path.file_name().unwrap_or_default().to_string_lossy())
}

fn state(object: &ObjectMeta) -> String {
    format!("{} {} {:?}", object.size, object.last_modified, object.e_tag)
}

/// As many bytes as there are, up to a part.
fn read_up_to(file: &mut File, part: &mut [u8]) -> std::io::Result<usize> {
    use std::io::Read;
    let mut at = 0;
    while at < part.len() {
        match file.read(&mut part[at..])? {
            0 => break,
            read => at += read,
        }
    }
    Ok(at)
}

/// Let the caches of all databases have room for so many more bytes: files that nobody used for longest go.
fn bound(cache: &Path, more: u64) -> Result<()> {
    bound_to(cache.parent().unwrap_or(cache), cache_bytes()?, more)
}

fn bound_to(all: &Path, most: u64, more: u64) -> Result<()> {
    let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
    for database in fs::read_dir(all).into_iter().flatten().flatten() {
        for file in fs::read_dir(database.path().join(FOLDER)).into_iter().flatten().flatten() {
            let Some(about) = file.metadata().ok().filter(fs::Metadata::is_file) else { continue };
            let note = database.path().join(STATES).join(file.file_name());
            let used = fs::metadata(note).and_then(|note| note.modified()).or_else(|_| about.modified());
            files.push((used.unwrap_or(SystemTime::UNIX_EPOCH), about.len(), file.path()));
        }
    }
    files.sort();
    let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, own, path) in files {
        if bytes + more <= most {
            break;
        }
        fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        bytes -= own;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn files_that_nobody_used_for_longest_go_first() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        for (database, name, age) in [("one", "a.exact", 30), ("one", "b.exact", 10), ("two", "c.exact", 20)] {
            for part in [FOLDER, STATES] {
                let path = folder.path().join(database).join(part).join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, [0; 100]).unwrap();
                let file = File::options().write(true).open(&path).unwrap();
                file.set_modified(now - Duration::from_secs(if part == STATES { age } else { 0 })).unwrap();
            }
        }
        let there = |database: &str, name: &str| folder.path().join(database).join(FOLDER).join(name).exists();
        bound_to(folder.path(), 400, 100).unwrap();
        assert!(there("one", "a.exact"));
        bound_to(folder.path(), 300, 50).unwrap();
        assert!(!there("one", "a.exact") && there("two", "c.exact") && there("one", "b.exact"));
        bound_to(folder.path(), 300, 150).unwrap();
        assert!(!there("two", "c.exact") && there("one", "b.exact"));
    }
}
