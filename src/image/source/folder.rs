//! Folders, on this machine and in S3: pictures and data set files at any depth.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::archive::{is_hidden, is_image, share};
use super::format::{Entry, Source};
use super::images::refused;
use super::{address, cifar, files, idx, lance, svhn, table};
use crate::error::{Error, Result};

/// What lies in a folder of S3, at any depth; `addresses` are all files there.
pub(super) fn listed(folder: &str, addresses: Vec<String>) -> Result<Vec<Source>> {
    let root = folder.trim_end_matches('/').len() + 1;
    let mut walk = Walk::default();
    let mut shared: Option<Arc<str>> = None;
    for together in addresses.chunk_by(|one, other| folder_of(one) == folder_of(other)) {
        let inside = folder_of(&together[0]).get(root..).unwrap_or_default();
        if inside.split('/').any(|part| is_hidden(part.as_ref())) {
            continue;
        }
        let label = inside.rsplit('/').next().filter(|label| !label.is_empty());
        let names: Vec<String> = together.iter().map(|address| address::name(address)).collect();
        for (address, name) in together.iter().zip(&names).filter(|(_, name)| !is_hidden(name.as_ref())) {
            if is_image(name.as_ref()) {
                let label = label.map(|label| share(&mut shared, label));
                walk.files.push(Entry { label, ..Entry::new(address.as_str(), 0, 0) });
            } else if let Some(source) = dataset(Path::new(address), name, &names)? {
                walk.flush();
                walk.sources.push(source);
            }
        }
    }
    walk.flush();
    Ok(walk.sources)
}

fn folder_of(address: &str) -> &str {
    address.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// What a folder holds, at any depth.
pub(super) fn folder(path: &Path) -> Result<Vec<Source>> {
    let mut walk = Walk::default();
    walk.enter(path, None)?;
    walk.flush();
    Ok(walk.sources)
}

#[derive(Default)]
struct Walk {
    sources: Vec<Source>,
    /// Image files since the last source.
    files: Vec<Entry>,
    /// The folders that led here, links resolved: meeting one again is a circle.
    above: Vec<PathBuf>,
}

impl Walk {
    fn enter(&mut self, folder: &Path, label: Option<&str>) -> Result<()> {
        let real = fs::canonicalize(folder).map_err(Error::io("read", folder))?;
        if self.above.contains(&real) {
            return Ok(());
        }
        let mut entries =
            fs::read_dir(&real).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(Error::io("list", folder))?;
        self.above.push(real);
        entries.sort_by_key(fs::DirEntry::file_name);
        let names: Vec<String> = entries.iter().map(|entry| entry.file_name().to_string_lossy().into()).collect();
        let mut shared: Option<Arc<str>> = None;
        for (entry, name) in entries.iter().zip(&names) {
            let (os_name, path) = (entry.file_name(), entry.path());
            if is_hidden(&os_name) {
                continue;
            }
            let mut kind = entry.file_type();
            if kind.as_ref().is_ok_and(fs::FileType::is_symlink) {
                kind = fs::metadata(&path).map(|target| target.file_type());
            }
            match kind {
                Ok(kind) if kind.is_dir() && lance::is_table(&path) => {
                    if let Some(source) = contained(&path, lance::images(&path), table::part(&path))? {
                        self.flush();
                        self.sources.push(source);
                    }
                }
                Ok(kind) if kind.is_dir() => self.enter(&path, Some(name))?,
                // a dangling link is an image that cannot be read, and reading it says so; pipes and devices are neither
                Ok(kind) if !kind.is_file() => {}
                _ if is_image(&os_name) => {
                    let label = label.map(|label| share(&mut shared, label));
                    self.files.push(Entry { label, ..files::entry(&path) });
                }
                _ => {
                    if let Some(source) = dataset(&path, name, &names)? {
                        self.flush();
                        self.sources.push(source);
                    }
                }
            }
        }
        self.above.pop();
        Ok(())
    }

    fn flush(&mut self) {
        if !self.files.is_empty() {
            let files = files::source(std::mem::take(&mut self.files), Vec::new());
            self.sources.push(Source { by_folder: true, ..files });
        }
    }
}

/// A file of a data set, among the files of its folder.
fn dataset(path: &Path, name: &str, siblings: &[String]) -> Result<Option<Source>> {
    if idx::is_images(name) {
        contained(path, idx::plan(path).map(Some), idx::part(path))
    } else if svhn::is_svhn(name) {
        contained(path, svhn::plan(path).map(Some), svhn::part(path))
    } else if table::is_parquet(name) {
        contained(path, table::images(path), table::part(path))
    } else if cifar::is_batch_among(name, |sibling| siblings.iter().any(|name| name == sibling)) {
        contained(path, cifar::file(path), cifar::part(path))
    } else {
        Ok(None)
    }
}

/// What a folder has of a container: one that cannot be listed is refused, in its place and of its part.
fn contained(path: &Path, found: Result<Option<Source>>, part: Option<&str>) -> Result<Option<Source>> {
    match found {
        Ok(found) => Ok(found.map(|source| Source { in_folder: true, ..source })),
        Err(error) => match refused(path, error) {
            Error::BadImage { reason, .. } => Ok(Some(Source::broken(path, reason).with_part(part))),
            error => Err(error),
        },
    }
}
