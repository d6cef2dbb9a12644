//! Where queries put what does not fit into memory: a folder of the database, which a process that was killed does not leave
//! behind for ever.
//!
//! Each session has a folder of its own within, and holds a lock on it; one that nobody holds is removed by the next session.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};

use crate::error::{Error, Result};

/// A folder that was just made may not be locked yet.
const JUST_MADE: Duration = Duration::from_secs(60);

/// Keeps a session's folder from being removed, and removes the one around it where it was the last.
#[derive(Debug)]
pub(super) struct SpillFolder {
    parent: PathBuf,
    locks: Vec<File>,
}

impl Drop for SpillFolder {
    fn drop(&mut self) {
        self.locks.clear();
        // not where another session has one
        let _ = fs::remove_dir(&self.parent);
    }
}

/// What queries of the database in `database` run in: their memory, and a folder for what does not fit into it. Where the
/// database is read-only, that is the system's for temporary files. What nobody holds is removed.
pub(super) fn runtime(database: &Path, pool: Arc<dyn MemoryPool>) -> Result<(Arc<RuntimeEnv>, SpillFolder)> {
    let parent = database.join("spill");
    remove_left(&parent);
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

/// Remove the folders of processes that are gone.
fn remove_left(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let old = modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > JUST_MADE));
        if old && File::open(entry.path()).is_ok_and(|folder| folder.try_lock().is_ok()) {
            // what is in use or not ours stays
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

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
            File::open(folder).unwrap().set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
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
}
