//! Single files, here and at addresses.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use super::address;
use super::format::{Entry, Fault, MAX_FILE_BYTES, NOT_UTF8, Reader, Source, is_regular, too_large};
use super::remote::{self, Ahead};
use crate::error::Result;

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

/// A file as an entry: one whose name is not UTF-8 is refused when its turn comes.
pub(super) fn entry(path: &Path) -> Entry {
    Entry {
        refused: path.to_str().is_none().then(|| NOT_UTF8.into()),
        ..Entry::new(path.to_string_lossy().into_owned(), 0, 0)
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
            let found = fs::metadata(&*entry.name)?;
            is_regular(&found)?;
            let mut file = File::open(&*entry.name)?;
            let length = found.len();
            if length > MAX_FILE_BYTES {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, too_large(length)));
            }
            let mut bytes = Vec::with_capacity(length as usize);
            file.by_ref().take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|error| Fault::Image(error.to_string()))
    }
}
