//! Where queries put what does not fit into memory: a folder of the database, which a process that was killed does not leave
//! behind for ever.
//!
//! Each session has a folder of its own within, and holds a lock on it; one that nobody holds is removed by the next session.
//! The folder around them is locked while one is made and while what is left is removed, so that none is seen before it is held.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};

use crate::error::{Error, Result};

/// Keeps a session's folder from being removed, and removes the one around it where it was the last.
#[derive(Debug)]
pub(super) struct SpillFolder {
    parent: PathBuf,
    locks: Vec<File>,
}

impl Drop for SpillFolder {
    fn drop(&mut self) {
        self.locks.clear();
        if let Ok(_held) = hold(&self.parent) {
            // not where another session has one
            let _ = fs::remove_dir(&self.parent);
        }
    }
}

/// What queries of the database in `database` run in: their memory, and a folder for what does not fit into it. Where the
/// database is read-only, that is the system's for temporary files. What nobody holds is removed.
pub(super) fn runtime(database: &Path, pool: Arc<dyn MemoryPool>) -> Result<(Arc<RuntimeEnv>, SpillFolder)> {
    let parent = database.join("spill");
    let held = make_and_hold(&parent);
    if held.is_some() {
        remove_left(&parent);
    }
    let build = |mode| {
        let disk = DiskManagerBuilder::default().with_mode(mode);
        RuntimeEnvBuilder::new().with_memory_pool(Arc::clone(&pool)).with_disk_manager_builder(disk).build_arc()
    };
    let own = build(DiskManagerMode::Directories(vec![parent.clone()]));
    let runtime = own.or_else(|_| build(DiskManagerMode::OsTmpDirectory))?;
    let mut locks = Vec::new();
    for path in runtime.disk_manager.temp_dir_paths() {
        let folder = File::open(&path).map_err(Error::io("open", &path))?;
        // a file system without locks: nobody removes what it cannot lock either
        let _ = folder.try_lock_shared();
        locks.push(folder);
    }
    Ok((runtime, SpillFolder { parent, locks }))
}

/// The folder around all, made where it is not there, and locked; `None` where that cannot be.
fn make_and_hold(parent: &Path) -> Option<File> {
    // each time round, another session has ended and removed what is made or found here
    for _ in 0..10_000 {
        if fs::create_dir(parent).is_err_and(|error| error.kind() != ErrorKind::AlreadyExists) {
            return None;
        }
        match hold(parent) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            held => return held.ok(),
        }
    }
    None
}

/// The folder around all, locked. What it fails with is `NotFound` where the folder is not there, or is another one by then.
fn hold(parent: &Path) -> io::Result<File> {
    let folder = File::open(parent)?;
    // whoever else has it does not have it for long
    folder.lock()?;
    if identity(folder.metadata()?) == identity(fs::metadata(parent)?) {
        Ok(folder)
    } else {
        // it was removed while we waited, and made anew
        Err(ErrorKind::NotFound.into())
    }
}

/// What tells a folder from another of the same name.
#[cfg(unix)]
fn identity(folder: fs::Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (folder.dev(), folder.ino())
}

/// Elsewhere folders cannot be locked.
#[cfg(not(unix))]
fn identity(_: fs::Metadata) {}

/// Remove the folders of processes that are gone.
fn remove_left(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if File::open(entry.path()).is_ok_and(|folder| folder.try_lock().is_ok()) {
            // what is in use or not ours stays
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::UnboundedMemoryPool;

    use super::*;

    #[test]
    fn what_a_killed_process_spilled_is_removed_by_the_next_one() {
        let database = tempfile::tempdir().unwrap();
        let left = database.path().join("spill/datafusion-killed");
        let held = database.path().join("spill/datafusion-running");
        for folder in [&left, &held] {
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join("rows"), "x").unwrap();
        }
        let running = File::open(&held).unwrap();
        running.try_lock_shared().unwrap();
        let parent = database.path().join("spill");
        let session = || runtime(database.path(), Arc::new(UnboundedMemoryPool::default())).unwrap();
        let own = session();
        assert!(!left.exists() && held.join("rows").exists());
        assert_eq!(fs::read_dir(&parent).unwrap().count(), 2);
        // a session that ends takes its own along, and the last one the folder
        drop(own);
        assert_eq!(fs::read_dir(&parent).unwrap().count(), 1);
        drop(running);
        drop(session());
        assert!(!parent.exists());
    }

    /// Sessions that begin and end at once: none takes another's folder for one that was left.
    #[test]
    fn sessions_that_begin_together_keep_their_folders() {
        let database = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let session = runtime(database.path(), Arc::new(UnboundedMemoryPool::default())).unwrap();
                        let [folder] = session.0.disk_manager.temp_dir_paths().try_into().unwrap();
                        assert!(folder.is_dir(), "{}", folder.display());
                        std::thread::yield_now();
                        assert!(folder.is_dir(), "{}", folder.display());
                    }
                });
            }
        });
        assert!(!database.path().join("spill").exists());
    }
}
