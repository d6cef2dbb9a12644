//! Folders and single files.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::archive::{is_hidden, is_image, share};
use super::remote::{self, Ahead};
use super::{
    Entry, Fault, MAX_FILE_BYTES, NOT_UTF8, READ, Reader, Source, address, cifar, idx, lance, refused, svhn, table,
    too_large,
};
use crate::error::{Error, Result};

/// The paths that `given` stands for: itself, or what its wildcards match, by name.
pub(super) fn expand(given: &Path) -> Result<Vec<PathBuf>> {
    let Some(text) = given.to_str() else { return Ok(vec![given.into()]) };
    if address::is_address(text) {
        return remote::expand(text);
    }
    if text.contains("://") && !given.exists() {
        return Err(Error::UnknownFile { path: given.into(), read: READ });
    }
    if given.exists() || !text.contains(['*', '?', '[']) {
        return Ok(vec![given.into()]);
    }
    let bad = |reason: String| Error::BadPattern { pattern: text.into(), reason };
    let matches = glob::glob(text).map_err(|error| bad(error.to_string()))?;
    let found = matches.collect::<Result<Vec<_>, _>>().map_err(|error| bad(error.to_string()))?;
    if found.is_empty() { Err(bad("nothing there matches it".into())) } else { Ok(found) }
}

/// A file given by itself.
pub(super) fn one(path: &Path) -> Source {
    match path.to_str() {
        Some(text) => named(vec![(text.into(), None)]),
        None => source(vec![entry(path)], HashMap::new()),
    }
}

/// Files of these absolute paths or addresses, in this order.
pub(super) fn named(uris: Vec<(String, Option<Arc<str>>)>) -> Source {
    let mut whole = HashMap::new();
    let mut entries = Vec::with_capacity(uris.len());
    for (uri, label) in uris {
        let name = address::shown(&uri);
        if name != uri {
            whole.insert(name.clone(), uri);
        }
        entries.push(Entry { label, ..Entry::new(name, 0, 0) });
    }
    source(entries, whole)
}

/// Files of these absolute paths or addresses; `whole` are those that read otherwise than they are shown.
pub(super) fn source(entries: Vec<Entry>, whole: HashMap<String, String>) -> Source {
    let whole = Arc::new(whole);
    let open = move || Ok(Box::new(Files { whole: Arc::clone(&whole), ahead: Ahead::default() }) as Box<dyn Reader>);
    Source { root: String::new(), ..Source::inside(Path::new(""), entries, open) }
}

fn entry(path: &Path) -> Entry {
    Entry {
        refused: path.to_str().is_none().then(|| NOT_UTF8.into()),
        ..Entry::new(path.to_string_lossy().into_owned(), 0, 0)
    }
}

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
        self.above.push(real);
        let mut entries = fs::read_dir(folder)
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .map_err(Error::io("list", folder))?;
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
                    self.files.push(Entry { label, ..self::entry(&path) });
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
            self.sources.push(source(std::mem::take(&mut self.files), HashMap::new()));
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

struct Files {
    /// Addresses that carry more than is shown, by what is.
    whole: Arc<HashMap<String, String>>,
    ahead: Ahead,
}

impl Files {
    fn address<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        address::is_address(name).then(|| self.whole.get(name).map_or(name, String::as_str))
    }
}

impl Reader for Files {
    fn ahead(&mut self, next: &[Entry]) {
        let mut ahead = std::mem::take(&mut self.ahead);
        let readable = next.iter().take(4 * remote::AHEAD).filter(|entry| entry.refused.is_none());
        ahead.ask(readable.filter_map(|entry| self.address(&entry.name)));
        self.ahead = ahead;
    }

    fn read(&mut self, entry: &Entry) -> Result<Vec<u8>, Fault> {
        if let Some(address) = self.address(&entry.name).map(String::from) {
            return self.ahead.read(&address);
        }
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(&*entry.name)?;
            let length = file.metadata()?.len();
            if length > MAX_FILE_BYTES {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, too_large(length)));
            }
            let mut bytes = Vec::with_capacity(length as usize);
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|error| Fault::Image(error.to_string()))
    }
}
