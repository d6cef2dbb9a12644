//! Single files, here and at addresses.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::address::{self, KeptQuery};
use super::format::{Entry, Fault, MAX_FILE_BYTES, NOT_UTF8, Reader, Source, picture, too_large};
use super::remote::{self, Ahead};
use crate::error::Result;
use crate::regular;

/// A file given by itself.
pub(super) fn one(path: &Path, kept: &KeptQuery) -> Source {
    match path.to_str() {
        Some(text) => named(vec![(text.into(), None)], kept),
        None => source(vec![entry(path)], Vec::new()),
    }
}

/// Files of these absolute paths or addresses, in this order.
pub(super) fn named(uris: Vec<(String, Option<Arc<str>>)>, kept: &KeptQuery) -> Source {
    let mut asked = Vec::new();
    let mut entries = Vec::with_capacity(uris.len());
    for (uri, label) in uris {
        let name = kept.uri(&uri);
        if name != uri {
            asked.push(uri);
            entries.push(Entry { label, ..Entry::new(name, asked.len() as u64, 0) });
        } else {
            entries.push(Entry { label, ..Entry::new(name, 0, 0) });
        }
    }
    source(entries, asked)
}

/// Files of these absolute paths or addresses; `asked` are the addresses of entries that lie at its places, from 1.
pub(super) fn source(entries: Vec<Entry>, asked: Vec<String>) -> Source {
    let asked: Arc<[String]> = asked.into();
    let of_reader = Arc::clone(&asked);
    let open =
        move || Ok(Box::new(Files { asked: Arc::clone(&of_reader), ahead: Ahead::default() }) as Box<dyn Reader>);
    Source { root: String::new(), asked, ..Source::inside(Path::new(""), entries, open) }
}

/// A file as an entry: one whose name is not UTF-8 is refused when its turn comes.
pub(super) fn entry(path: &Path) -> Entry {
    Entry {
        refused: path.to_str().is_none().then(|| NOT_UTF8.into()),
        ..Entry::new(path.to_string_lossy().into_owned(), 0, 0)
    }
}

struct Files {
    /// Addresses that carry more than their uris.
    asked: Arc<[String]>,
    ahead: Ahead,
}

impl Files {
    fn address<'a>(&'a self, entry: &'a Entry) -> Option<&'a str> {
        let asked = (entry.at as usize).checked_sub(1).and_then(|at| self.asked.get(at));
        address::is_address(&entry.name).then(|| asked.map_or(&*entry.name, String::as_str))
    }
}

impl Reader for Files {
    fn ahead(&mut self, next: &[Entry]) {
        let mut ahead = std::mem::take(&mut self.ahead);
        let readable = next.iter().take(4 * remote::AHEAD).filter(|entry| entry.refused.is_none());
        ahead.ask(readable.filter_map(|entry| self.address(entry)));
        self.ahead = ahead;
    }

    fn read(&mut self, entry: &Entry) -> Result<Vec<u8>, Fault> {
        if let Some(address) = self.address(entry).map(String::from) {
            return self.ahead.read(&address);
        }
        if let Some(reason) = address::refused_entry(&entry.name) {
            return Err(Fault::Image(reason));
        }
        let read = || -> io::Result<Result<Vec<u8>, String>> {
            let mut file = regular::open(Path::new(&*entry.name))?;
            let length = file.metadata()?.len();
            if length > MAX_FILE_BYTES { Ok(Err(too_large(length))) } else { picture(&mut file) }
        };
        read().unwrap_or_else(|error| Err(error.to_string())).map_err(Fault::Image)
    }
}
