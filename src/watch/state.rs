//! What was told, on disk: so that a process that was killed tells the rest when it begins again.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::regular;

/// Of what is written; another one is refused.
const FORMAT: u32 = 1;
/// No such file is longer.
const MOST_BYTES: u64 = 16 << 20;

/// What the file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    format: u32,
    dataset: String,
    bank: String,
    /// The largest `images.id` up to which all images of the dataset were told.
    pub(super) told: u64,
    /// The files that are being ingested: those of them that were there before and changed have smaller ids.
    pub(super) batch: Option<InHand>,
}

/// Files that are being ingested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InHand {
    /// When that began: nanoseconds since 1970, UTC.
    pub(super) since: i64,
    pub(super) uris: Vec<String>,
}

/// The file, and its lock: two processes would tell the same images.
#[derive(Debug)]
pub(super) struct State {
    path: PathBuf,
    pub(super) kept: Kept,
    _lock: File,
}

impl State {
    /// Read it, or begin one that says that everything up to `newest` was told.
    ///
    /// Errors: another process has it; a file that is none, or of another dataset or bank; a folder that cannot be written.
    pub(super) fn open(path: &Path, dataset: &str, bank: &str, newest: u64) -> Result<Self> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        let beside = path.with_added_extension("lock");
        regular::check_path(&beside).map_err(Error::io("open", &beside))?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&beside);
        let lock = lock.map_err(Error::io("open", &beside))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::WatchedAlready { state: path.into() }),
            Err(TryLockError::Error(source)) => return Err(Error::Io { action: "lock", path: beside, source }),
        }
        let bad = |reason: String| Error::WatchState { path: path.into(), reason };
        let kept = match regular::read_text(path, MOST_BYTES) {
            Ok(text) => serde_json::from_str::<Kept>(&text).map_err(|error| bad(error.to_string()))?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let kept =
                    Kept { format: FORMAT, dataset: dataset.into(), bank: bank.into(), told: newest, batch: None };
                let state = Self { path: path.into(), kept, _lock: lock };
                state.write()?;
                return Ok(state);
            }
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        if kept.format != FORMAT {
            return Err(bad(format!("it has format {}, and this version reads {FORMAT}", kept.format)));
        }
        if (kept.dataset.as_str(), kept.bank.as_str()) != (dataset, bank) {
            return Err(bad(format!("it is of dataset '{}' and bank '{}'", kept.dataset, kept.bank)));
        }
        Ok(Self { path: path.into(), kept, _lock: lock })
    }

    /// Note that files are being ingested.
    pub(super) fn begin(&mut self, batch: InHand) -> Result<()> {
        self.kept.batch = Some(batch);
        self.write()
    }

    /// Note that all images up to `told` were told, and what changed of the files in hand.
    pub(super) fn end(&mut self, told: u64) -> Result<()> {
        let before = self.kept.clone();
        self.kept.told = told.max(self.kept.told);
        self.kept.batch = None;
        if before == self.kept { Ok(()) } else { self.write() }
    }

    /// Whole or not at all, and on the disk before it counts.
    fn write(&self) -> Result<()> {
        let beside = self.path.with_added_extension("new");
        let written = || -> std::io::Result<()> {
            let mut file = File::create(&beside)?;
            file.write_all(&serde_json::to_vec(&self.kept)?)?;
            file.sync_all()?;
            fs::rename(&beside, &self.path)?;
            let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        };
        written().map_err(Error::io("write", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_found_again_and_belongs_to_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/state.json");
        let mut state = State::open(&path, "d", "b", 7).unwrap();
        let again = State::open(&path, "d", "b", 0).unwrap_err().to_string();
        assert!(again.contains("another 'outskirt watch'"), "{again}");
        state.begin(InHand { since: 5, uris: vec!["/x.png".into()] }).unwrap();
        drop(state);
        let mut state = State::open(&path, "d", "b", 100).unwrap();
        assert_eq!((state.kept.told, state.kept.batch.as_ref().unwrap().since), (7, 5));
        state.end(9).unwrap();
        drop(state);
        assert_eq!(State::open(&path, "d", "b", 0).unwrap().kept.told, 9);
        let other = State::open(&path, "e", "b", 0).unwrap_err().to_string();
        assert!(other.contains("of dataset 'd' and bank 'b'"), "{other}");
        for text in ["", "{}", "{\"format\":2,\"dataset\":\"d\",\"bank\":\"b\",\"told\":1,\"batch\":null}"] {
            fs::write(&path, text).unwrap();
            let error = State::open(&path, "d", "b", 0).unwrap_err().to_string();
            assert!(error.contains("state.json"), "{error}");
        }
    }
}
