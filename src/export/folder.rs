//! The folder of an export: written under another name beside it, and renamed when it is whole.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What the name of a folder ends in that is being written, before its number.
const UNDER_WAY: &str = ".export-";

/// A folder that is being written. Dropped before [`Folder::finish`] it is removed, and one whose process was killed is removed
/// by the next export to the same place.
#[derive(Debug)]
pub(super) struct Folder {
    /// Where it will be, absolute.
    target: PathBuf,
    /// Where it is.
    path: PathBuf,
    /// Locked while the process lives: who is dead is told by it.
    lock: Option<File>,
    is_finished: bool,
}

impl Folder {
    /// Begin to write a folder.
    ///
    /// Errors: what is there and is no empty folder; a parent that is not there or cannot be written to.
    pub(super) fn begin(to: &Path) -> Result<Self> {
        let target = target(to)?;
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(Error::ExportTarget { path: target, reason: "it is no folder that can be made" });
        };
        let begins = format!(".{}{UNDER_WAY}", name.to_string_lossy());
        remove_leftovers(parent, &begins);
        let mut number = u64::from(std::process::id());
        loop {
            let path = parent.join(format!("{begins}{number}"));
            match fs::create_dir(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    number += 1;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Err(Error::MissingPath { path: parent.into() });
                }
                Err(error) => return Err(Error::io("create", &path)(error)),
            }
            // where folders have no locks, a leftover stays
            let lock = File::open(&path).ok().filter(|folder| folder.try_lock().is_ok());
            if lock.is_none() || path.is_dir() {
                return Ok(Self { target, path, lock, is_finished: false });
            }
            // another export took it for a leftover in between
            number += 1;
        }
    }

    /// Where it is written.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where it will be.
    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    /// A folder inside of it, of this name.
    pub(super) fn inside(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        Ok(path)
    }

    /// A file of it.
    pub(super) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> Result<()> {
        let path = self.path.join(name);
        fs::write(&path, bytes).map_err(Error::io("write", &path))
    }

    /// Let it appear under its name.
    ///
    /// Errors: those of the system; what came there meanwhile.
    pub(super) fn finish(mut self) -> Result<PathBuf> {
        fs::rename(&self.path, &self.target).map_err(|error| match error.kind() {
            ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
                Error::ExportTarget { path: self.target.clone(), reason: "something came there while it was written" }
            }
            _ => Error::io("create", &self.target)(error),
        })?;
        self.is_finished = true;
        Ok(self.target.clone())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.is_finished {
            // half of an export is of no use
            let _ = fs::remove_dir_all(&self.path);
        }
        drop(self.lock.take());
    }
}

/// Where a folder is to be: absolute, a link to an empty folder followed.
fn target(to: &Path) -> Result<PathBuf> {
    let refused = |reason| Err(Error::ExportTarget { path: to.into(), reason });
    match fs::metadata(to) {
        Ok(found) if !found.is_dir() => refused("it is a file"),
        Ok(_) => {
            let mut entries = fs::read_dir(to).map_err(Error::io("list", to))?;
            if entries.next().is_some() {
                return refused("it is not empty");
            }
            let found = fs::canonicalize(to).map_err(Error::io("find", to))?;
            // another folder will be in its place
            match std::env::current_dir().and_then(fs::canonicalize) {
                Ok(here) if here == found => refused("it is the folder that this is run in: name one in it"),
                _ => Ok(found),
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if fs::symlink_metadata(to).is_ok() {
                return refused("it is a link that leads nowhere");
            }
            // the parent must be there, and is really where it is
            let path = std::path::absolute(to).map_err(Error::io("find", to))?;
            match (path.parent().map(fs::canonicalize), path.file_name()) {
                (Some(Ok(parent)), Some(name)) => Ok(parent.join(name)),
                (Some(Err(_)), _) => Err(Error::MissingPath { path: path.parent().unwrap_or(to).into() }),
                _ => refused("it is no folder that can be made"),
            }
        }
        Err(error) => Err(Error::io("find", to)(error)),
    }
}

/// Remove what killed exports to the same place have left. What cannot be removed is left alone.
fn remove_leftovers(parent: &Path, begins: &str) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_ours = name
            .strip_prefix(begins)
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_ours && is_folder && File::open(entry.path()).is_ok_and(|folder| folder.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_appears_whole_and_what_was_given_up_is_gone() {
        let parent = tempfile::tempdir().unwrap();
        let to = parent.path().join("out");
        let names = || -> Vec<String> {
            fs::read_dir(parent.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
                .collect()
        };
        drop(Folder::begin(&to).unwrap());
        assert!(names().is_empty());
        // one that was killed is removed, one that lives is not, nor is what only looks alike
        fs::create_dir(parent.path().join(".out.export-7")).unwrap();
        fs::create_dir(parent.path().join(".out.export-7a")).unwrap();
        fs::create_dir(parent.path().join(".other.export-7")).unwrap();
        let living = Folder::begin(&to).unwrap();
        let second = Folder::begin(&to).unwrap();
        assert!(living.path().is_dir() && second.path() != living.path());
        assert!(!names().contains(&".out.export-7".into()) && names().len() == 4, "{:?}", names());
        living.write("a", "1").unwrap();
        assert!(!to.exists());
        living.finish().unwrap();
        assert_eq!(fs::read_to_string(to.join("a")).unwrap(), "1");
        let error = second.finish().unwrap_err().to_string();
        assert!(error.contains("something came there"), "{error}");
        assert!(Folder::begin(&to).unwrap_err().to_string().contains("it is not empty"));
        assert_eq!(names().len(), 3, "{:?}", names());
    }
}
