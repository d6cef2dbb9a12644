//! Versions of tables that somebody reads for as long as he likes: a file of the folder `readers` names them, and a lock on it
//! tells whether he is still there.
//!
//! Who prunes leaves these versions alone and takes all others away. A process that dies gives its lock back, and its file is
//! removed by the next who prunes. Files are written and read under [`ReadLock`], so that nobody prunes between the moment at
//! which a version is found and that at which it is named.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bucket::{self, Pins};
use super::location::Location;
use super::lock::ReadLock;
use crate::error::{Error, Result};

const FOLDER: &str = "readers";

/// A table and a version of it.
type Pinned = (String, u64);

/// The versions that a program has pinned; copies are the same lease.
#[derive(Debug, Clone)]
pub struct Lease(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    location: Location,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    /// How often each is pinned.
    pins: BTreeMap<Pinned, usize>,
}

#[derive(Debug)]
enum Held {
    File(File, PathBuf),
    /// With the versions that it names: one is named for longer than it is read, which does no harm, and saves a request.
    Object(Pins, BTreeSet<Pinned>),
    /// Where no file can be made or locked: then nothing at all is pruned.
    All {
        _lock: Option<ReadLock>,
    },
}

/// Versions that are not pruned while the value lives.
#[derive(Debug)]
pub struct Pin {
    lease: Lease,
    versions: Vec<Pinned>,
}

impl Lease {
    /// A lease on nothing yet, in a database.
    pub(super) fn new(location: Location) -> Self {
        Self(Arc::new(Shared { location, state: Mutex::default() }))
    }

    /// Pin versions of tables, which have been found to be there under the same lock.
    pub fn pin(&self, _found: &ReadLock, versions: Vec<(String, u64)>) -> Result<Pin> {
        let mut state = self.state();
        for version in &versions {
            *state.pins.entry(version.clone()).or_default() += 1;
        }
        // from here on whoever drops it takes them back
        let pin = Pin { lease: self.clone(), versions };
        let written = match (&state.held, &self.0.location) {
            (Some(Held::Object(_, named)), _) if pin.versions.iter().all(|version| named.contains(version)) => Ok(()),
            (Some(_), _) => state.write(),
            (None, Location::Folder(folder)) => {
                state.held = Some(match lease_file(folder) {
                    Ok((file, path)) => Held::File(file, path),
                    Err(_) => Held::All { _lock: ReadLock::try_join(folder) },
                });
                state.write()
            }
            (None, Location::Bucket(bucket)) => {
                let named = state.pins.keys().cloned().collect();
                match Pins::begin(bucket, state.lines()) {
                    Ok(pins) => {
                        state.held = Some(Held::Object(pins, named));
                        Ok(())
                    }
                    // whoever may not write tells nobody what he reads, as on a file system without locks
                    Err(Error::BucketDenied { .. }) => {
                        state.held = Some(Held::All { _lock: None });
                        Ok(())
                    }
                    Err(error) => Err(error),
                }
            }
        };
        drop(state);
        written?;
        Ok(pin)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn lines(&self) -> String {
        self.pins.keys().map(|(table, version)| format!("{table} {version}\n")).collect()
    }

    /// Name in the file what is pinned.
    fn write(&mut self) -> Result<()> {
        let text = self.lines();
        let (file, path) = match &mut self.held {
            Some(Held::File(file, path)) => (file, path),
            Some(Held::Object(pins, named)) => {
                *named = self.pins.keys().cloned().collect();
                return pins.set(&text);
            }
            Some(Held::All { .. }) | None => return Ok(()),
        };
        let written = file.rewind().and_then(|()| file.write_all(text.as_bytes()));
        written.and_then(|()| file.set_len(text.len() as u64)).map_err(Error::io("write", path))
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.lease.state();
        for version in &self.versions {
            if let Some(count) = state.pins.get_mut(version) {
                *count -= 1;
                if *count == 0 {
                    state.pins.remove(version);
                }
            }
        }
        // while somebody prunes it may stay: what is written next leaves it out, as always in a bucket
        if let Location::Folder(folder) = &self.lease.0.location
            && let Some(_lock) = ReadLock::try_join(folder)
        {
            let _ = state.write();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(Held::File(file, path)) = &state.held {
            let _ = fs::remove_file(path);
            let _ = file.unlock();
        }
    }
}

/// A file of one's own, locked. Its name says who made it, for whoever looks; nobody relies on that.
fn lease_file(folder: &Path) -> std::io::Result<(File, PathBuf)> {
    let folder = folder.join(FOLDER);
    fs::create_dir_all(&folder)?;
    let mut number = 0;
    loop {
        let path = folder.join(format!("{}-{number}", std::process::id()));
        match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
            Ok(file) => {
                return match file.try_lock() {
                    Ok(()) => Ok((file, path)),
                    Err(error) => {
                        fs::remove_file(&path)?;
                        Err(error.into())
                    }
                };
            }
        }
    }
}

/// What all who live have pinned, by table; `None` where that cannot be told. Only for whoever holds everybody else off.
pub(super) async fn pinned(location: &Location) -> Result<Option<BTreeMap<String, BTreeSet<u64>>>> {
    match location {
        Location::Folder(folder) => Ok(pinned_in(folder)),
        Location::Bucket(bucket) => bucket::pinned(bucket).await,
    }
}

fn pinned_in(folder: &Path) -> Option<BTreeMap<String, BTreeSet<u64>>> {
    let mut pinned: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    let entries = match fs::read_dir(folder.join(FOLDER)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Some(pinned),
        entries => entries.ok()?,
    };
    for entry in entries {
        let path = entry.ok()?.path();
        let file = match File::open(&path) {
            // its owner has just gone
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            file => file.ok()?,
        };
        match file.try_lock_shared() {
            Ok(()) => {
                // its owner is gone; a file that cannot be removed is there the next time
                let _ = fs::remove_file(&path);
            }
            Err(TryLockError::WouldBlock) => {
                for line in fs::read_to_string(&path).ok()?.lines() {
                    let (table, version) = line.split_once(' ')?;
                    pinned.entry(table.into()).or_default().insert(version.parse().ok()?);
                }
            }
            Err(TryLockError::Error(_)) => return None,
        }
    }
    Some(pinned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Option<Vec<(String, Vec<u64>)>> {
        let pinned = pinned_in(folder)?;
        Some(pinned.into_iter().map(|(table, versions)| (table, versions.into_iter().collect())).collect())
    }

    fn of(table: &str, versions: &[u64]) -> Vec<Pinned> {
        versions.iter().map(|&version| (table.to_owned(), version)).collect()
    }

    #[tokio::test]
    async fn what_is_pinned_is_what_living_readers_hold() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let location = Location::Folder(folder.into());
        let lock = ReadLock::join(&location).await.unwrap();
        assert_eq!(names(folder), Some(Vec::new()));
        let (one, other) = (Lease::new(location.clone()), Lease::new(location));
        let first = one.pin(&lock, of("images", &[3, 100])).unwrap();
        let again = one.pin(&lock, of("images", &[3])).unwrap();
        let beside = other.pin(&lock, of("banks", &[7])).unwrap();
        let both = |images: &[u64]| Some(vec![("banks".into(), vec![7]), ("images".into(), images.to_vec())]);
        assert_eq!(names(folder), both(&[3, 100]));
        // pinned twice: what is left is one of them
        drop(first);
        assert_eq!(names(folder), both(&[3]));
        drop((again, one, beside, other));
        assert_eq!(names(folder), Some(Vec::new()));
        assert_eq!(fs::read_dir(folder.join(FOLDER)).unwrap().count(), 0);
    }

    #[test]
    fn the_file_of_a_reader_that_was_killed_holds_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join(FOLDER).join("1-0");
        fs::create_dir_all(left.parent().unwrap()).unwrap();
        fs::write(&left, "images 3\n").unwrap();
        assert_eq!(names(folder.path()), Some(Vec::new()));
        assert!(!left.exists());
    }

    #[test]
    fn what_a_living_reader_has_pinned_and_nobody_understands_holds_everything() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, _) = lease_file(folder.path()).unwrap();
        file.write_all(b"images three\n").unwrap();
        assert_eq!(names(folder.path()), None);
    }
}
