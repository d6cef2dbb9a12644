//! One writer at a time: an advisory lock on a file of the database's folder.
//!
//! The operating system holds it for the open file, so a process that dies gives it back. Readers take none.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use crate::error::{Error, Result};

/// Proof of being the one writer, given back on drop.
#[derive(Debug)]
pub struct WriteLock {
    _file: File,
}

impl WriteLock {
    /// Take the lock of the database in `folder`, or say at once that another program has it.
    pub(super) fn take(folder: &Path) -> Result<Self> {
        let path = folder.join("write.lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked { uri: folder.display().to_string(), lock: path }),
            Err(TryLockError::Error(source)) => Err(Error::Io { action: "lock", path, source }),
        }
    }
}
