//! The files of a folder, at any depth.

use std::path::Path;

use crate::error::{Error, Result};

/// Bytes of all files of a folder; 0 where there is none.
pub(super) fn folder_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    each_file(folder, &mut |_, length| {
        bytes += length;
        Ok(())
    })?;
    Ok(bytes)
}

/// Whether a file was being written when a writer died: object_store's end in `#` and a number, Lance's begin with `.tmp`.
pub(super) fn is_unfinished(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let staged = name.rsplit_once('#').is_some_and(|(_, number)| number.parse::<u32>().is_ok());
    staged || name.starts_with(".tmp")
}

/// Remove files that were being written when a writer died.
pub(super) fn remove_unfinished(folder: &Path) -> Result<()> {
    each_file(folder, &mut |path, _| {
        if is_unfinished(path) {
            std::fs::remove_file(path).map_err(Error::io("remove", path))?;
        }
        Ok(())
    })
}

/// Show every file and its length to `visit`; a folder that is not there has none.
pub(super) fn each_file(folder: &Path, visit: &mut impl FnMut(&Path, u64) -> Result<()>) -> Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(Error::io("list", folder))?,
    };
    for entry in entries {
        let entry = entry.map_err(Error::io("list", folder))?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(Error::io("list", folder))?);
        if kind.is_dir() {
            each_file(&path, visit)?;
        } else if let Ok(metadata) = entry.metadata() {
            visit(&path, metadata.len())?;
        }
    }
    Ok(())
}
