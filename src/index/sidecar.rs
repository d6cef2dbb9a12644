//! What an index file was built from, and what stands beside a graph: format, checksum, and that origin.
//!
//! The sidecar is written last and read first: an index file without a sidecar that fits it does not exist.
//! Both are written to a temporary name, synced and renamed, the graph first: a crash between leaves a pair that does not fit,
//! which is found by its checksum and made anew.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{HnswOptions, Quality};
use crate::error::{Error, Result};
use crate::regular;

/// The format that this version reads and writes.
pub const FORMAT: u32 = 1;

/// No sidecar is longer.
const MAX_NOTE_BYTES: u64 = 1 << 20;

/// What an index file was built from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// The bank's name.
    pub bank: String,
    /// The version of `images` that the bank stands for.
    pub table_version: u64,
    /// SHA-256 of the backbone's weights.
    pub backbone_sha256: String,
    /// The bank's predicate.
    pub predicate: String,
    /// The bank's sampling ratio.
    pub alpha: f64,
    /// The seed of that sampling.
    pub seed: u64,
    /// Number of vectors.
    pub rows: usize,
    /// Numbers per vector.
    pub dimension: usize,
}

impl Origin {
    /// Refuse a file at `path` that was built from this, where another is wanted; another version of the same bank may be.
    pub(crate) fn check(&self, wanted: &Self, path: &Path) -> Result<()> {
        if (Self { table_version: wanted.table_version, rows: wanted.rows, ..self.clone() }) != *wanted {
            return Err(bad(path, "it was built for another bank or network".into()));
        }
        Ok(())
    }
}

/// The contents of `<graph file>.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sidecar {
    /// [`FORMAT`] of the version that wrote it.
    pub format: u32,
    /// Which bank, of which version.
    #[serde(flatten)]
    pub origin: Origin,
    /// How the graph was built and is searched.
    pub options: HnswOptions,
    /// What one step of the codes stands for, where numbers are stored in 8 bits; like the checksum, the caller's is not
    /// compared.
    #[serde(default)]
    pub step: f32,
    /// How the graph answered when it was last measured: as it was built, or as the bank was refreshed. The caller's is not
    /// compared.
    #[serde(default)]
    pub quality: Option<Quality>,
    /// SHA-256 of the index file; empty in what the caller asks for, filled by [`Self::commit`].
    pub checksum: String,
}

impl Sidecar {
    /// Call `write` with a temporary path, then put the file it wrote and this sidecar in place.
    pub fn commit(mut self, path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let folder = folder_of(path)?;
        let fresh = beside(path, ".new");
        if let Err(error) = write(&fresh) {
            let error = full(&fresh).map_or(error, Error::io("write", &fresh));
            // what is half written only takes space
            let _ = fs::remove_file(&fresh);
            return Err(error);
        }
        self.checksum = checksum(&fresh)?;
        let (note, fresh_note) = self.prepare(path)?;
        for (from, to) in [(&fresh, path), (&fresh_note, note.as_path())] {
            File::open(from).and_then(|file| file.sync_all()).map_err(Error::io("sync", from))?;
            fs::rename(from, to).map_err(Error::io("rename", from))?;
        }
        File::open(folder).and_then(|file| file.sync_all()).map_err(Error::io("sync", folder))
    }

    /// Write this sidecar in place of the one of a file that stays.
    pub(crate) fn replace(&self, path: &Path) -> Result<()> {
        let folder = folder_of(path)?;
        let (note, fresh_note) = self.prepare(path)?;
        File::open(&fresh_note).and_then(|file| file.sync_all()).map_err(Error::io("sync", &fresh_note))?;
        fs::rename(&fresh_note, note).map_err(Error::io("rename", &fresh_note))?;
        File::open(folder).and_then(|file| file.sync_all()).map_err(Error::io("sync", folder))
    }

    /// Write it under a temporary name; gives the name it is to have, and that one.
    fn prepare(&self, path: &Path) -> Result<(PathBuf, PathBuf)> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| bad(path, error.to_string()))?;
        let (note, fresh) = (beside(path, ".json"), beside(path, ".json.new"));
        fs::write(&fresh, text).map_err(Error::io("write", &fresh))?;
        Ok((note, fresh))
    }

    /// Check that the file at `path` is whole and was built for the bank that `self` says; gives its own sidecar, whose
    /// version and rows may be another version's.
    ///
    /// Errors: [`Error::BadIndexFile`] with the first difference; the caller rebuilds.
    pub fn verify(&self, path: &Path) -> Result<Self> {
        let found = self.beside(path)?;
        if checksum(path)? != found.checksum {
            return Err(bad(path, "its checksum is wrong".into()));
        }
        Ok(found)
    }

    /// The same, but for the file itself.
    pub(crate) fn beside(&self, path: &Path) -> Result<Self> {
        let note = beside(path, ".json");
        let text = regular::read_text(&note, MAX_NOTE_BYTES)
            .map_err(|error| bad(path, format!("its sidecar cannot be read ({error})")))?;
        let found: Self = serde_json::from_str(&text).map_err(|error| bad(path, format!("sidecar: {error}")))?;
        if found.format != FORMAT {
            return Err(bad(path, format!("format {}, this outskirt reads {FORMAT}", found.format)));
        }
        found.origin.check(&self.origin, path)?;
        if found.options != self.options {
            return Err(bad(path, "it was built with other options".into()));
        }
        Ok(found)
    }
}

/// Call `write` with a temporary path, and put the file that it wrote and synced in place.
pub(crate) async fn replace(path: &Path, write: impl AsyncFnOnce(&Path) -> Result<()>) -> Result<()> {
    let folder = folder_of(path)?;
    let fresh = beside(path, ".new");
    if let Err(error) = write(&fresh).await {
        // what is half written only takes space
        let _ = fs::remove_file(&fresh);
        return Err(error);
    }
    fs::rename(&fresh, path).map_err(Error::io("rename", &fresh))?;
    File::open(folder).and_then(|file| file.sync_all()).map_err(Error::io("sync", folder))
}

/// The folder of an index file, which is there then.
fn folder_of(path: &Path) -> Result<&Path> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    Ok(folder)
}

/// The files that belong to the index at `path`.
pub(crate) fn files(path: &Path) -> [PathBuf; 4] {
    [path.to_path_buf(), beside(path, ".json"), beside(path, ".new"), beside(path, ".json.new")]
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Why nothing more can be written to a file: usearch does not say.
fn full(path: &Path) -> Option<std::io::Error> {
    let more = || File::options().append(true).create(true).open(path)?.write_all(&[0; 1 << 16]);
    more().err()
}

fn bad(path: &Path, reason: String) -> Error {
    Error::BadIndexFile { path: path.into(), reason }
}

fn checksum(path: &Path) -> Result<String> {
    let mut digest = Sha256::new();
    let mut file = regular::open(path).map_err(Error::io("read", path))?;
    std::io::copy(&mut file, &mut digest).map_err(Error::io("read", path))?;
    Ok(format!("{:x}", digest.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Sidecar {
        Sidecar {
            format: FORMAT,
            origin: Origin {
                bank: "b".into(),
                table_version: 3,
                backbone_sha256: "00".into(),
                predicate: "true".into(),
                alpha: 1.0,
                seed: 0,
                rows: 10,
                dimension: 4,
            },
            options: HnswOptions::default(),
            step: 0.0,
            quality: None,
            checksum: String::new(),
        }
    }

    #[test]
    fn a_committed_file_verifies_and_a_changed_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.hnsw");
        wanted().commit(&path, |fresh| fs::write(fresh, b"graph").map_err(Error::io("write", fresh))).unwrap();
        wanted().verify(&path).unwrap();
        let of = |origin: Origin| Sidecar { origin, ..wanted() };
        let Sidecar { origin, .. } = wanted();
        for other in [of(Origin { predicate: "false".into(), ..origin.clone() }), of(Origin { alpha: 0.5, ..origin })] {
            assert!(other.verify(&path).unwrap_err().to_string().contains("another bank"));
        }
        // another version of the bank is told, not refused: the caller brings the graph up to date
        let later = Sidecar { origin: Origin { table_version: 4, rows: 11, ..wanted().origin }, ..wanted() };
        assert_eq!(later.verify(&path).unwrap().origin.table_version, 3);
        fs::write(&path, b"grapH").unwrap();
        assert!(wanted().verify(&path).unwrap_err().to_string().contains("checksum"));
        fs::remove_file(&path).unwrap();
        assert!(wanted().verify(&path).is_err());
        fs::write(beside(&path, ".json"), b"{").unwrap();
        assert!(wanted().verify(&path).unwrap_err().to_string().contains("sidecar"));
    }
}
