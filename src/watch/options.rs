//! What is watched, and how.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::ingest::IngestOptions;

/// What decides whether an image is out of distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// A score above the bank's threshold, which a share of ID images, in (0, 1), does not exceed.
    Tpr(f64),
    /// Benjamini-Hochberg on the p-values of those told together: of these about such a share, in (0, 1), is told by chance. Images that
    /// come one by one are tested one by one.
    Fdr(f64),
}

/// What is watched.
#[derive(Debug, Clone)]
pub struct WatchOptions {
    /// Any depth.
    pub folder: PathBuf,
    /// How its pictures are ingested; refused ones stop nothing.
    pub ingest: IngestOptions,
    /// What they are scored against, at its own k; it must be calibrated.
    pub bank: String,
    /// What is out of distribution.
    pub limit: Limit,
    /// Nearest images of the bank that are told beside a score.
    pub neighbors: usize,
    /// So long a file must not have changed.
    pub settle: Duration,
    /// So long it takes until the folder is looked at again, at least.
    pub poll: Duration,
    /// Says what was told: see [`state_file`].
    pub state: PathBuf,
    /// Whether banks follow the table: images that a bank's predicate holds for become rows of it, once they were scored.
    pub follow: bool,
}

impl WatchOptions {
    /// Refuse a folder that is none or cannot be listed.
    pub fn check(&self) -> Result<()> {
        let folder = &self.folder;
        match std::fs::metadata(folder) {
            Ok(found) if found.is_dir() => std::fs::read_dir(folder).map(drop).map_err(Error::io("list", folder)),
            Ok(_) => Err(Error::NotAFolder { path: folder.clone() }),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::MissingPath { path: folder.clone() }),
            Err(error) => Err(Error::io("read", folder)(error)),
        }
    }
}

/// Where it is noted what was told, unless somebody says otherwise: a file of the database's folder for each folder, dataset and bank.
pub fn state_file(database: &Path, folder: &Path, dataset: &str, bank: &str) -> PathBuf {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.into());
    let mut digest = Sha256::new();
    for part in [folder.as_os_str().as_encoded_bytes(), dataset.as_bytes(), bank.as_bytes()] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    let name: String = digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    database.join("watch").join(format!("{name}.json"))
}
