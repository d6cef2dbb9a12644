//! The file that says what a version of a table consists of, looked at before Lance reads it: Lance 14 takes its lengths as they
//! stand there, and ends in a panic where they are wrong.
//!
//! `tests/suite/refusals.rs` damages one in every part. A file whose lengths are right and whose contents are not is Lance's to
//! refuse; should it panic there, that is an error too.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::caught::caught_while;
use crate::error::{Error, Result};

/// What ends the file, and how many bytes that takes: where the manifest begins, Lance's version, four letters.
const MAGIC: &[u8; 4] = b"LANC";
const FOOTER: u64 = 16;

/// Refuse a table whose latest manifest cannot be what was written. `folder` is the table's.
pub(super) fn check_latest(table: &str, folder: &Path) -> Result<()> {
    let Some(path) = latest(&folder.join("_versions")) else { return Ok(()) };
    let damaged = |reason: String| Error::DamagedTable { table: table.into(), path: path.clone(), reason };
    match problem(&path) {
        Ok(None) => Ok(()),
        Ok(Some(problem)) => Err(damaged(problem)),
        Err(error) => Err(damaged(error.to_string())),
    }
}

/// The result of opening a table; a panic of Lance is one that it cannot be opened.
pub(super) async fn opened<T>(
    table: &str,
    folder: &Path,
    opening: impl Future<Output = Result<T, lancedb::Error>>,
) -> Result<T> {
    match caught_while(opening).await {
        Some(opened) => Ok(opened?),
        None => {
            let reason = "what it holds is not what Lance writes".into();
            let path = latest(&folder.join("_versions")).unwrap_or_else(|| folder.into());
            Err(Error::DamagedTable { table: table.into(), path, reason })
        }
    }
}

/// The versions of a table that are kept, ascending, by the names of their manifests: none is read. `folder` is the table's.
pub(super) fn versions(folder: &Path) -> Result<Vec<u64>> {
    let folder = folder.join("_versions");
    let entries = fs::read_dir(&folder).map_err(Error::io("read", &folder))?;
    let mut versions: Vec<u64> = entries.flatten().filter_map(|entry| version(&entry.path())).collect();
    versions.sort_unstable();
    Ok(versions)
}

/// The version that a manifest is of. Newer ones are named so that they sort first: by what is left of the largest number.
pub(super) fn version(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_suffix(".manifest")?;
    let number: u64 = name.parse().ok()?;
    Some(if name.len() == 20 { u64::MAX - number } else { number })
}

/// The manifest of the latest version.
fn latest(folder: &Path) -> Option<PathBuf> {
    let paths = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    paths.filter_map(|path| Some((version(&path)?, path))).max().map(|(_, path)| path)
}

/// What is wrong with the lengths of a manifest.
fn problem(path: &Path) -> std::io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    if size < FOOTER + 4 {
        return Ok(Some(format!("it is {size} bytes long")));
    }
    let mut footer = [0; FOOTER as usize];
    file.seek(SeekFrom::Start(size - FOOTER))?;
    file.read_exact(&mut footer)?;
    if &footer[12..] != MAGIC {
        return Ok(Some("its end is not that of a manifest".into()));
    }
    let begins = u64::from_le_bytes(footer[..8].try_into().unwrap_or_default());
    if begins > size - FOOTER - 4 {
        return Ok(Some(format!("it begins at byte {begins} of {size}")));
    }
    let mut length = [0; 4];
    file.seek(SeekFrom::Start(begins))?;
    file.read_exact(&mut length)?;
    let (says, has) = (u64::from(u32::from_le_bytes(length)), size - FOOTER - 4 - begins);
    Ok((says != has).then(|| format!("it says that it is {says} bytes long, and is {has}")))
}
