//! Folders, on this machine and in S3: pictures and data set files at any depth.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::archive::{is_hidden, is_image, share};
use super::beside::Beside;
use super::format::{Entry, Source};
use super::images::refused;
use super::{address, cifar, files, idx, lance, parts, svhn, table};
use crate::error::{Error, Result};

/// Folders within folders that are gone into: paths have an end, and so has the stack.
pub(super) const MOST_DEEP: usize = 256;

/// What lies in a folder of S3, at any depth; `addresses` are all files there.
pub(super) fn listed(folder: &str, addresses: Vec<String>) -> Result<Vec<Source>> {
    let root = folder.trim_end_matches('/').len() + 1;
    let mut walk = Walk::default();
    let mut shared: Option<Arc<str>> = None;
    let below = |address: &String| Entry::new(address.get(root..).unwrap_or_default(), 0, 0);
    let parts = parts::of_members(&addresses.iter().map(below).collect::<Vec<_>>());
    let mut at = 0;
    for together in addresses.chunk_by(|one, other| folder_of(one) == folder_of(other)) {
        let part = parts[at];
        at += together.len();
        if walk.part != part {
            walk.flush();
            walk.part = part;
        }
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
                let part = source.part.clone().or(part.map(String::from));
                walk.sources.push(Source { part, ..source });
            } else if !is_known(name, &names) {
                walk.beside.see(name);
            }
        }
    }
    Ok(walk.end())
}

fn folder_of(address: &str) -> &str {
    address.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// What a folder holds, at any depth.
pub(super) fn folder(path: &Path) -> Result<Vec<Source>> {
    let mut walk = Walk::default();
    let real = fs::canonicalize(path).map_err(Error::io("read", path))?;
    let entries = entries(&real).map_err(Error::io("list", path))?;
    walk.enter(real, entries, None)?;
    Ok(walk.end())
}

/// What lies in a folder, by name, bytewise.
pub(super) fn entries(folder: &Path) -> io::Result<Vec<fs::DirEntry>> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    Ok(entries)
}

#[derive(Default)]
struct Walk {
    sources: Vec<Source>,
    /// Image files since the last source.
    files: Vec<Entry>,
    /// The part of a data set that the folder is, or one above it.
    part: Option<&'static str>,
    beside: Beside,
    /// The folders that led here, links resolved: meeting one again is a circle.
    above: Vec<PathBuf>,
}

impl Walk {
    /// Go into a folder below the one that was given; one that cannot be listed is an image that cannot be read.
    fn enter_below(&mut self, folder: &Path, is_link: bool, label: &str) -> Result<()> {
        if self.above.len() > MOST_DEEP {
            let reason =
                format!("it lies {MOST_DEEP} folders below the one that was given, and no deeper ones are read");
            self.refuse(folder, reason);
            return Ok(());
        }
        // only behind a link a folder is another than its name says
        let real = if is_link { fs::canonicalize(folder) } else { Ok(folder.into()) };
        match real.and_then(|real| entries(&real).map(|entries| (real, entries))) {
            Ok((real, _)) if self.above.contains(&real) => Ok(()),
            Ok((real, entries)) => self.enter(real, entries, Some(label)),
            Err(error) => {
                self.refuse(folder, format!("cannot list it: {error}"));
                Ok(())
            }
        }
    }

    fn refuse(&mut self, folder: &Path, reason: String) {
        self.flush();
        self.sources.push(Source::broken(folder, reason));
    }

    fn enter(&mut self, real: PathBuf, entries: Vec<fs::DirEntry>, label: Option<&str>) -> Result<()> {
        self.above.push(real);
        let names: Vec<String> = entries.iter().map(|entry| entry.file_name().to_string_lossy().into()).collect();
        let is_visible_folder = |entry: &fs::DirEntry| {
            let is_folder = |kind: fs::FileType| kind.is_dir() || (kind.is_symlink() && entry.path().is_dir());
            entry.file_type().is_ok_and(is_folder) && !is_hidden(&entry.file_name())
        };
        let folders: Vec<&str> = entries
            .iter()
            .zip(&names)
            .filter(|(entry, _)| self.part.is_none() && is_visible_folder(entry))
            .map(|(_, name)| name.as_str())
            .collect();
        let are_parts = parts::are_parts(folders.iter().copied());
        let mut shared: Option<Arc<str>> = None;
        for (entry, name) in entries.iter().zip(&names) {
            let (os_name, path) = (entry.file_name(), entry.path());
            if is_hidden(&os_name) {
                continue;
            }
            let mut kind = entry.file_type();
            let is_link = kind.as_ref().is_ok_and(fs::FileType::is_symlink);
            if is_link {
                kind = fs::metadata(&path).map(|target| target.file_type());
            }
            match kind {
                Ok(kind) if kind.is_dir() && lance::is_table(&path) => {
                    if let Some(source) = contained(&path, lance::images(&path), table::part(&path))? {
                        self.flush();
                        self.sources.push(source);
                    }
                }
                Ok(kind) if kind.is_dir() => {
                    let part = parts::named(name).filter(|_| are_parts);
                    if part.is_some() {
                        self.flush();
                        self.part = part;
                    }
                    self.enter_below(&path, is_link, name)?;
                    if part.is_some() {
                        self.flush();
                        self.part = None;
                    }
                }
                // a dangling link is an image that cannot be read, and reading it says so; pipes and devices are neither
                Ok(kind) if !kind.is_file() => {}
                _ if is_image(&os_name) => {
                    let label = label.map(|label| share(&mut shared, label));
                    self.files.push(Entry { label, ..files::entry(&path) });
                }
                _ => {
                    if let Some(source) = dataset(&path, name, &names)? {
                        self.flush();
                        let part = source.part.clone().or(self.part.map(String::from));
                        self.sources.push(Source { part, ..source });
                    } else if !is_known(name, &names) {
                        self.beside.see(name);
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
            self.sources.push(Source { by_folder: true, ..files }.with_part(self.part));
        }
    }

    /// All of it; what is left alone is told by a source of its own.
    fn end(mut self) -> Vec<Source> {
        self.flush();
        let beside = std::mem::take(&mut self.beside);
        self.sources.push(Source { beside, ..files::source(Vec::new(), Vec::new()) });
        self.sources
    }
}

/// Whether a file is read with another, or is one that is there already.
pub(super) fn is_known(name: &str, siblings: &[String]) -> bool {
    idx::is_labels(name)
        || is_twice(name, siblings)
        || (cifar::is_part_of_distribution(name)
            && siblings.iter().any(|other| cifar::is_batch_among(other, |names| names == name)))
}

/// Whether a compressed file of pictures lies beside itself, as torchvision leaves them.
fn is_twice(name: &str, siblings: &[String]) -> bool {
    let plain = name.strip_suffix(".gz").filter(|_| idx::is_images(name));
    plain.is_some_and(|plain| siblings.iter().any(|other| other == plain))
}

/// A file of a data set, among the files of its folder.
pub(super) fn dataset(path: &Path, name: &str, siblings: &[String]) -> Result<Option<Source>> {
    if is_twice(name, siblings) {
        Ok(None)
    } else if idx::is_images(name) {
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
