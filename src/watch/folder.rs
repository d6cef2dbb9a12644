//! Which files of a folder are whole, and new or changed since they were taken.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::image::{Seen, look};

/// A file that can be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) path: PathBuf,
    /// The folder that stands for its class.
    pub(super) label: Option<String>,
    name: Name,
    stamp: u64,
}

/// What tells files apart: of a million, paths would take a hundred megabytes.
type Name = [u8; 16];

/// What is known of a file.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// How it was, when it was looked at last.
    stamp: u64,
    /// Since when it has been so.
    since: Instant,
    is_taken: bool,
    /// The number of the look that saw it last.
    look: u32,
}

/// What a look at the folder found.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// Files to be taken, in the folder's order.
    pub(super) due: Vec<Due>,
    /// Whether there are more of them.
    pub(super) more: bool,
    /// Files that may still be written to.
    pub(super) unsettled: usize,
    /// Files that are left alone.
    pub(super) others: usize,
    /// Folders that cannot be listed, and why.
    pub(super) closed: Vec<String>,
}

/// A folder that is looked at again and again: 40 bytes a file.
#[derive(Debug)]
pub(super) struct Folder {
    folder: PathBuf,
    settle: Duration,
    known: HashMap<Name, Known>,
    look: u32,
}

impl Folder {
    pub(super) fn new(folder: &Path, settle: Duration) -> Self {
        Self { folder: folder.into(), settle, known: HashMap::new(), look: 0 }
    }

    /// Look at all of it; at most so many files are given at once.
    ///
    /// Errors: the folder cannot be listed.
    pub(super) fn look(&mut self, most: usize) -> io::Result<Looked> {
        self.look = self.look.wrapping_add(1);
        let (mut looked, at, settle, known) = (Looked::default(), self.look, self.settle, &mut self.known);
        look(&self.folder, &mut |seen| match seen {
            Seen::Other(_) => looked.others += 1,
            Seen::Closed(path, error) => looked.closed.push(format!("cannot list {}: {error}", path.display())),
            Seen::Picture(path, label) => {
                let Some(stamp) = stamp(path) else { return };
                let (name, now) = (name(path), Instant::now());
                let found = known.entry(name).or_insert(Known { stamp, since: now, is_taken: false, look: at });
                if found.stamp != stamp {
                    *found = Known { stamp, since: now, is_taken: false, look: at };
                }
                found.look = at;
                if found.is_taken {
                    return;
                }
                if now.duration_since(found.since) < settle {
                    looked.unsettled += 1;
                } else if looked.due.len() < most {
                    looked.due.push(Due { path: path.into(), label: label.map(str::to_owned), name, stamp });
                } else {
                    looked.more = true;
                }
            }
        })?;
        if looked.closed.is_empty() {
            // what is gone may come back, and is new then
            self.known.retain(|_, known| known.look == at);
        }
        Ok(looked)
    }

    /// Whether it is as it was when it was given: it is gone, or written to again, otherwise.
    pub(super) fn is_as_it_was(due: &Due) -> bool {
        stamp(&due.path) == Some(due.stamp)
    }

    /// These files were ingested, as they were when they were given: not again before they change.
    pub(super) fn take(&mut self, files: &[Due]) {
        for file in files {
            if let Some(known) = self.known.get_mut(&file.name).filter(|known| known.stamp == file.stamp) {
                known.is_taken = true;
            }
        }
    }
}

fn name(path: &Path) -> Name {
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    std::array::from_fn(|at| digest[at])
}

/// What changes when a file is written to or replaced; `None` where it is gone. Of a link that leads nowhere, the link's own.
fn stamp(path: &Path) -> Option<u64> {
    let found = fs::metadata(path).or_else(|_| fs::symlink_metadata(path)).ok()?;
    let mut hasher = DefaultHasher::new();
    (found.len(), found.modified().ok()).hash(&mut hasher);
    changed(&found).hash(&mut hasher);
    Some(hasher.finish())
}

/// Which file it is, and when anything about it was changed: a writer may set the time of writing back.
#[cfg(unix)]
fn changed(found: &Metadata) -> impl Hash + use<> {
    use std::os::unix::fs::MetadataExt;
    (found.dev(), found.ino(), found.ctime(), found.ctime_nsec())
}

#[cfg(not(unix))]
fn changed(_: &Metadata) -> impl Hash + use<> {}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 10;

    fn names(due: &[Due]) -> Vec<String> {
        due.iter().map(|due| due.path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_file_is_given_once_it_has_settled_and_again_when_it_changes() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::write(at("a.png"), "a").unwrap();
        let mut folder = Folder::new(place.path(), Duration::from_secs(3600));
        let looked = folder.look(MOST).unwrap();
        assert_eq!((looked.due.len(), looked.unsettled), (0, 1));
        let mut folder = Folder::new(place.path(), Duration::ZERO);
        let first = folder.look(MOST).unwrap().due;
        assert_eq!(names(&first), ["a.png"]);
        assert_eq!(names(&folder.look(MOST).unwrap().due), ["a.png"], "nobody took it");
        fs::write(at("b.png"), "b").unwrap();
        fs::write(at("notes.txt"), "b").unwrap();
        folder.take(&first);
        let looked = folder.look(MOST).unwrap();
        assert_eq!((names(&looked.due), looked.others), (vec!["b.png".into()], 1));
        // a file that is written to between is not taken as it was
        fs::write(at("b.png"), "longer").unwrap();
        assert!(!Folder::is_as_it_was(&looked.due[0]) && Folder::is_as_it_was(&first[0]));
        folder.take(&looked.due);
        fs::write(at("a.png"), "another").unwrap();
        let looked = folder.look(MOST).unwrap();
        assert_eq!(names(&looked.due), ["a.png", "b.png"]);
        folder.take(&looked.due);
        assert!(folder.look(MOST).unwrap().due.is_empty());
        // one that goes and comes back is new
        let bytes = fs::read(at("a.png")).unwrap();
        fs::remove_file(at("a.png")).unwrap();
        assert!(folder.look(MOST).unwrap().due.is_empty());
        fs::write(at("a.png"), bytes).unwrap();
        assert_eq!(names(&folder.look(MOST).unwrap().due), ["a.png"]);
    }

    #[test]
    fn many_files_are_given_some_at_a_time() {
        let place = tempfile::tempdir().unwrap();
        (0..25).for_each(|i| fs::write(place.path().join(format!("{i:02}.png")), "x").unwrap());
        let mut folder = Folder::new(place.path(), Duration::ZERO);
        let mut counts = Vec::new();
        loop {
            let looked = folder.look(MOST).unwrap();
            folder.take(&looked.due);
            counts.push(looked.due.len());
            if !looked.more {
                break;
            }
        }
        assert_eq!(counts, [10, 10, 5]);
        fs::remove_dir_all(place.path()).unwrap();
        assert!(folder.look(MOST).is_err());
    }
}
