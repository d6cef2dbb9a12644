//! Who is at work in a database, by advisory locks on two files of its folder: one writer at a time, and readers that
//! nobody takes files away from.
//!
//! The operating system holds a lock for the open file, so a process that dies gives it back.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::Path;

use crate::error::{Error, Result};

/// Proof of being the one writer, given back on drop.
#[derive(Debug)]
pub struct WriteLock {
    file: File,
}

/// Closing the file is not enough: a process that this one is just starting has it open too, for a moment.
impl Drop for WriteLock {
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

impl WriteLock {
    /// Take the lock of the database in `folder`, or say at once that another program has it.
    pub(super) fn take(folder: &Path) -> Result<Self> {
        let path = folder.join("write.lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(|source| {
            match source.kind() {
                ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
                    Error::ReadOnlyDatabase { uri: folder.display().to_string() }
                }
                _ => Error::io("open", &path)(source),
            }
        })?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked { uri: folder.display().to_string(), lock: path }),
            Err(TryLockError::Error(source)) => Err(Error::Io { action: "lock", path, source }),
        }
    }
}

/// A place among the readers of a database, held as long as the value lives: versions they may be reading are not
/// pruned meanwhile. Where the folder is read-only there is none, and nothing can be pruned either.
#[derive(Debug)]
pub struct ReadLock {
    file: Option<File>,
}

impl Drop for ReadLock {
    fn drop(&mut self) {
        let _ = self.file.as_ref().map(File::unlock);
    }
}

impl ReadLock {
    /// Join the readers of the database in `folder`, after a pruning in progress. Nothing is left in a folder that is
    /// no database.
    pub(super) async fn join(folder: &Path, is_database: bool) -> Result<Self> {
        let path = folder.join("readers.lock");
        let writing = OpenOptions::new().create(is_database).truncate(false).write(true).open(&path);
        let Ok(file) = writing.or_else(|_| File::open(&path)) else { return Ok(Self { file: None }) };
        let waiting = tokio::task::spawn_blocking(move || file.lock_shared().map(|()| file));
        let file = waiting.await.map_err(std::io::Error::other).flatten().map_err(Error::io("lock", &path))?;
        Ok(Self { file: Some(file) })
    }

    /// Run `work` while nobody else reads and nobody begins to; `None`, without running it, where somebody does.
    pub(super) async fn alone<T>(&self, work: impl Future<Output = Result<T>>) -> Result<Option<T>> {
        let Some(file) = &self.file else { return Ok(None) };
        let done = if file.try_lock().is_ok() { Some(work.await) } else { None };
        file.lock_shared().map_err(Error::io("lock", Path::new("readers.lock")))?;
        done.transpose()
    }
}
