//! Who is at work in a database, by advisory locks on two files of its folder: one writer at a time, and those who read while
//! nothing may be pruned. What is read for longer is [`super::lease`]'s.
//!
//! The operating system holds a lock for the open file, so a process that dies gives it back. What stands in the writer's file
//! (its process, for messages) decides nothing.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bucket::BucketLock;
use super::location::Location;
use crate::error::{Error, Result};
use crate::{regular, schema};

/// A wait that is shorter is not spoken of.
const UNSPOKEN: Duration = Duration::from_millis(300);

/// How long a writer waits for another one, and who hears of it. By default it does not wait.
#[derive(Clone, Default)]
pub struct Patience {
    most: Duration,
    tell: Option<Arc<Tell>>,
}

type Tell = dyn Fn(&str) + Send + Sync;

impl Patience {
    /// Wait so long at most; `tell` hears once, in a line, that and for whom.
    pub fn up_to(most: Duration, tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { most, tell: Some(Arc::new(tell)) }
    }
}

impl std::fmt::Debug for Patience {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Patience").field("most", &self.most).finish_non_exhaustive()
    }
}

/// Proof of being the one writer, given back on drop.
#[derive(Debug)]
pub struct WriteLock(Held);

#[derive(Debug)]
enum Held {
    File {
        _file: LockedFile,
    },
    Bucket {
        lock: BucketLock,
        /// Of the files that are derived from it, here.
        _files: LockedFile,
    },
}

#[derive(Debug)]
struct LockedFile(File);

/// Closing the file is not enough: a process that this one is just starting has it open too, for a moment.
impl Drop for LockedFile {
    fn drop(&mut self) {
        let _ = self.0.set_len(0);
        let _ = self.0.unlock();
    }
}

impl WriteLock {
    /// Take the lock of a database, or say at once that another program has it.
    pub(super) async fn take(location: &Location) -> Result<Self> {
        match location {
            Location::Folder(folder) => Self::take_files(folder),
            Location::Bucket(bucket) => {
                // first: whoever cannot write here takes nobody's place
                let files = locked(bucket.cache()).map_err(|error| match error {
                    Error::Locked { lock, holder, waited, .. } => {
                        Error::Locked { uri: bucket.address(), lock, holder, waited }
                    }
                    Error::ReadOnlyDatabase { .. } => {
                        bucket.cache_failed("write into", bucket.cache())(ErrorKind::PermissionDenied.into())
                    }
                    Error::Io { action, path, source } => bucket.cache_failed(action, &path)(source),
                    other => other,
                })?;
                Ok(Self(Held::Bucket { lock: BucketLock::take(bucket).await?, _files: files }))
            }
        }
    }

    /// The number of a writer who may have taken the place of one that is not dead.
    pub(super) fn took_over(&self) -> Option<u64> {
        match &self.0 {
            // the system knows who is dead
            Held::File { .. } => None,
            Held::Bucket { lock, .. } => lock.took_over(),
        }
    }

    /// Take the lock of the files in `folder`, or say at once that another program has it.
    pub(super) fn take_files(folder: &Path) -> Result<Self> {
        Ok(Self(Held::File { _file: locked(folder)? }))
    }
}

/// Lock the file of a folder's one writer.
fn locked(folder: &Path) -> Result<LockedFile> {
    let path = folder.join("write.lock");
    regular::check_path(&path).map_err(Error::io("open", &path))?;
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(|source| {
            match source.kind() {
                ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
                    Error::ReadOnlyDatabase { uri: folder.display().to_string() }
                }
                _ => Error::io("open", &path)(source),
            }
        })?;
    match file.try_lock() {
        Ok(()) => {
            // who it is, for whoever waits: nobody relies on that, and a disk may be full
            let _ = file.set_len(0).and_then(|()| write!(&file, "{}", std::process::id()));
            Ok(LockedFile(file))
        }
        Err(TryLockError::WouldBlock) => {
            let holder = holder(&path);
            Err(Error::Locked { uri: folder.display().to_string(), lock: path, holder, waited: Duration::ZERO })
        }
        Err(TryLockError::Error(source)) if has_no_locks(&source) => {
            Err(Error::NoLocks { uri: folder.display().to_string(), reason: source.to_string() })
        }
        Err(TryLockError::Error(source)) => Err(Error::Io { action: "lock", path, source }),
    }
}

impl WriteLock {
    /// The same, once another program has given it back or died, or after a while not.
    pub(super) async fn in_turn(location: &Location, patience: &Patience) -> Result<Self> {
        let (start, mut is_told) = (Instant::now(), false);
        loop {
            let waited = start.elapsed();
            match Self::take(location).await {
                Err(Error::Locked { uri, lock, holder, .. }) if waited >= patience.most => {
                    return Err(Error::Locked { uri, lock, holder, waited });
                }
                Err(Error::Locked { uri, holder, .. }) => {
                    if let Some(tell) = patience.tell.as_ref().filter(|_| waited >= UNSPOKEN && !is_told) {
                        is_told = true;
                        let holder = holder.map_or_else(String::new, |holder| format!(" ({holder})"));
                        tell(&format!(
                            "waiting up to {} s for another program{holder}, which is writing to {uri}",
                            patience.most.as_secs()
                        ));
                    }
                    tokio::time::sleep(location.asks_every().min(patience.most - waited)).await;
                }
                other => return other,
            }
        }
    }
}

/// The program that holds a lock, where it is one of this machine: `process 1234, outskirt`.
fn holder(lock: &Path) -> Option<String> {
    let mut text = String::new();
    regular::open(lock).ok()?.take(20).read_to_string(&mut text).ok()?;
    let process: u32 = text.trim().parse().ok()?;
    let name = std::fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
    Some(format!("process {process}, {}", name.trim()))
}

/// Whether the file system has no locks, rather than another program this one.
fn has_no_locks(error: &std::io::Error) -> bool {
    const ENOSYS: i32 = 38;
    const ENOLCK: i32 = 37;
    error.kind() == ErrorKind::Unsupported || matches!(error.raw_os_error(), Some(ENOSYS | ENOLCK))
}

/// Nothing is pruned in a database while the value lives. Where the folder is read-only and holds no such file, or on a file
/// system without locks, there is none, and nothing can be pruned either. In a bucket it holds nobody off: versions that were the
/// latest a moment ago are not pruned there, and what is read for longer is pinned.
#[derive(Debug)]
pub struct ReadLock {
    file: Option<File>,
}

impl Drop for ReadLock {
    fn drop(&mut self) {
        let _ = self.file.as_ref().map(File::unlock);
    }
}

/// The file that whoever prunes locks alone, and whoever must not be pruned under locks beside others.
fn readers_file(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("readers.lock");
    regular::check_path(&path).map_err(Error::io("open", &path))?;
    Ok(path)
}

/// Open it. NFS grants a shared lock to who may read the file, and the exclusive one to who may write it.
fn open_readers(path: &Path, create: bool) -> std::io::Result<File> {
    OpenOptions::new().create(create).truncate(false).read(true).write(true).open(path)
}

impl ReadLock {
    const NONE: Self = Self { file: None };

    fn of(file: File) -> Self {
        Self { file: Some(file) }
    }

    /// Keep a database from being pruned, after a pruning in progress. Nothing is left in a folder that is no database.
    pub(super) async fn join(location: &Location) -> Result<Self> {
        let Location::Folder(folder) = location else { return Ok(Self::NONE) };
        let is_database = location.table(schema::SCHEMA_MIGRATIONS).is_dir();
        let path = readers_file(folder)?;
        let opened = open_readers(&path, is_database).or_else(|_| File::open(&path));
        let Ok(file) = opened else { return Ok(Self::NONE) };
        let locked = match file.try_lock_shared() {
            Ok(()) => Ok(file),
            Err(TryLockError::Error(error)) => Err(error),
            Err(TryLockError::WouldBlock) => {
                let waiting = tokio::task::spawn_blocking(move || file.lock_shared().map(|()| file));
                waiting.await.map_err(std::io::Error::other).flatten()
            }
        };
        match locked {
            Ok(file) => Ok(Self::of(file)),
            Err(error) if has_no_locks(&error) => Ok(Self::NONE),
            Err(error) => Err(Error::io("lock", &path)(error)),
        }
    }

    /// The same without waiting; `None` while somebody prunes.
    pub(super) fn try_join(folder: &Path) -> Option<Self> {
        let path = readers_file(folder).ok()?;
        let file = open_readers(&path, true).or_else(|_| File::open(&path)).ok()?;
        file.try_lock_shared().is_ok().then(|| Self::of(file))
    }

    /// Run `work` while nobody holds such a lock and nobody gets one; `None`, without running it, where somebody does.
    pub(super) async fn alone<T>(location: &Location, work: impl Future<Output = Result<T>>) -> Result<Option<T>> {
        let Location::Folder(folder) = location else { return work.await.map(Some) };
        let Ok(file) = open_readers(&readers_file(folder)?, true) else { return Ok(None) };
        let alone = Self::of(file);
        match alone.file.as_ref().map(File::try_lock) {
            Some(Ok(())) => work.await.map(Some),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn a_writer_waits_for_another_and_says_for_whom() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::Folder(folder.path().into());
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&said);
        let tell = move |line: &str| heard.lock().unwrap().push(line.to_owned());
        let patience = Patience::up_to(Duration::from_secs(2), tell);
        let held = WriteLock::take_files(folder.path()).unwrap();
        let at_once = WriteLock::in_turn(&location, &Patience::default()).await.unwrap_err().to_string();
        assert!(at_once.contains("run this again") && !at_once.contains("waited"), "{at_once}");
        let error = WriteLock::in_turn(&location, &patience).await.unwrap_err().to_string();
        let process = format!("process {}, ", std::process::id());
        assert!(error.contains(&process) && error.contains("waited 2 s"), "{error}");
        {
            let said = said.lock().unwrap();
            assert!(
                said.len() == 1 && said[0].starts_with("waiting up to 2 s for another program (process "),
                "{said:?}"
            );
        }
        let (giving, taken) = tokio::join!(
            async {
                tokio::time::sleep(Duration::from_millis(200)).await;
                drop(held);
            },
            WriteLock::in_turn(&location, &patience)
        );
        let () = giving;
        drop(taken.unwrap());
        assert_eq!(said.lock().unwrap().len(), 1, "a short wait is not spoken of");
        // what a writer that was killed has left is nobody's
        std::fs::write(folder.path().join("write.lock"), "1").unwrap();
        drop(WriteLock::take_files(folder.path()).unwrap());
        assert_eq!(std::fs::read(folder.path().join("write.lock")).unwrap(), b"");
    }

    /// As NFS does it: a shared lock needs a file that may be read.
    #[tokio::test]
    async fn the_readers_file_is_open_for_both_locks() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::Folder(folder.path().into());
        std::fs::create_dir(location.table(schema::SCHEMA_MIGRATIONS)).unwrap();
        let lock = ReadLock::join(&location).await.unwrap();
        let descriptor = lock.file.as_ref().unwrap().as_raw_fd();
        let flags = std::fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).unwrap();
        let flags = flags.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        assert_eq!(u32::from_str_radix(flags, 8).unwrap() & 3, 2, "O_RDWR");
    }

    #[test]
    fn a_file_system_without_locks_is_told_from_a_lock_that_is_taken() {
        for (code, expected) in [(38, true), (37, true), (95, true), (11, false), (13, false), (5, false)] {
            assert_eq!(has_no_locks(&std::io::Error::from_raw_os_error(code)), expected, "{code}");
        }
    }
}
