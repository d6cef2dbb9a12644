//! Files that hold images, kept listed and open while some of their images after others are asked for.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::address::KeptQuery;
use super::format::{Entry, Fault, Label, Open, Reader, Source};
use super::place;
use crate::error::Result;

/// Files kept: a batch of CIFAR is in memory as long as its file is.
const FILES: usize = 2;
/// Readers kept of one: the partitions of a query take turns, each in its order.
const READERS: usize = 4;

/// Images by their uris, asked for again and again: an archive is listed once for all that ask one after the other, and
/// read once where they ask in its order. One that has changed in between is opened anew.
pub struct Opened {
    /// What a path holds. Lists are among it, whose images this reads: so it is handed in.
    plan: fn(&Path, &KeptQuery) -> Result<Vec<Source>>,
    /// What the uris that are asked for keep of an address's query.
    pub(super) query: KeptQuery,
    /// The last that were asked for, the latest last.
    files: Mutex<VecDeque<(PathBuf, Arc<File>)>>,
}

struct File {
    /// What tells whether it is still the same.
    state: Option<String>,
    parts: Vec<Part>,
}

struct Part {
    /// With all its entries.
    source: Source,
    left: Arc<Mutex<Vec<Left>>>,
}

/// A reader that somebody is done with.
struct Left {
    /// The first entry that it can still read.
    next: usize,
    reader: Box<dyn Reader>,
}

impl Opened {
    /// Nothing opened yet.
    pub(super) fn listed_by(plan: fn(&Path, &KeptQuery) -> Result<Vec<Source>>, query: KeptQuery) -> Self {
        Self { plan, query, files: Mutex::default() }
    }

    /// The images of a file that are wanted, by their uris; what it does not hold stays in `wanted`.
    pub(super) fn some(&self, path: &Path, wanted: &mut HashMap<String, Label>) -> Result<Vec<Source>> {
        Ok(self.file(path)?.parts.iter().map(|part| part.some(wanted)).collect())
    }

    fn file(&self, path: &Path) -> Result<Arc<File>> {
        let state = place::state(path);
        let mut files = lock(&self.files);
        if let Some(at) = files.iter().position(|(kept, _)| kept == path)
            && let Some((path, file)) = files.remove(at)
            && file.state == state
            && state.is_some()
        {
            files.push_back((path, Arc::clone(&file)));
            return Ok(file);
        }
        // whoever asks for the same file meanwhile waits for its list
        let parts =
            (self.plan)(path, &self.query)?.into_iter().map(|source| Part { source, left: Arc::default() }).collect();
        let file = Arc::new(File { state, parts });
        files.push_back((path.into(), Arc::clone(&file)));
        if files.len() > FILES {
            files.pop_front();
        }
        Ok(file)
    }
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("files", &lock(&self.files).len()).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Part {
    fn some(&self, wanted: &mut HashMap<String, Label>) -> Source {
        let Source { path, root, asked, entries, by_folder, cut, open, .. } = &self.source;
        let mut uri = root.clone();
        let mut found = Vec::new();
        let (mut first, mut next, mut by_folder) = (None, 0, *by_folder);
        for (place, entry) in entries.iter().enumerate() {
            uri.truncate(root.len());
            uri.push_str(&entry.name);
            if let Some(label) = wanted.remove(uri.as_str()) {
                first.get_or_insert(place);
                next = place + 1;
                // who names an image may say its class as well
                by_folder &= label.is_none();
                found.push(Entry { label: label.or_else(|| entry.label.clone()), ..entry.clone() });
            }
            if wanted.is_empty() {
                break;
            }
        }
        let (first, is_last) = (first.unwrap_or(0), next == entries.len());
        let (open, left) = (Arc::clone(open), Arc::clone(&self.left));
        let open = move || {
            let kept = take(&mut lock(&left), first);
            let (reader, again) = match kept {
                Some(kept) => (kept.reader, Some(Arc::clone(&open))),
                None => (open()?, None),
            };
            let left = Arc::clone(&left);
            Ok(Box::new(Lent { reader: Some(reader), again, next, is_last, left }) as Box<dyn Reader>)
        };
        let (path, root, asked, cut) = (path.clone(), root.clone(), Arc::clone(asked), cut.clone());
        let open = Arc::new(open);
        Source {
            path,
            root,
            asked,
            entries: found,
            superseded: 0,
            by_folder,
            part: None,
            beside: Default::default(),
            note: None,
            cut,
            in_folder: false,
            table: None,
            open,
        }
    }
}

/// The reader that is nearest before an entry.
fn take(left: &mut Vec<Left>, first: usize) -> Option<Left> {
    let before = left.iter().enumerate().filter(|(_, left)| left.next <= first);
    let (at, _) = before.max_by_key(|(_, left)| left.next)?;
    Some(left.remove(at))
}

/// A reader that goes back when it has read what was asked for.
struct Lent {
    /// `None` once it broke.
    reader: Option<Box<dyn Reader>>,
    /// For one that lay there a while: its connection may be gone.
    again: Option<Arc<Open>>,
    next: usize,
    is_last: bool,
    left: Arc<Mutex<Vec<Left>>>,
}

impl Reader for Lent {
    fn ahead(&mut self, next: &[Entry]) {
        if let Some(reader) = &mut self.reader {
            reader.ahead(next);
        }
    }

    fn read(&mut self, entry: &Entry) -> Result<Vec<u8>, Fault> {
        let Some(reader) = &mut self.reader else { return Err(Fault::Container("it broke before".into())) };
        let mut read = reader.read(entry);
        let again = self.again.take();
        if let (true, Some(open)) = (is_over(&read), again) {
            self.reader = open().ok();
            read = self.reader.as_mut().map_or(read, |reader| reader.read(entry));
        }
        if is_over(&read) {
            self.reader = None;
        }
        read
    }

    /// To its end only what was asked for up to there.
    fn end(&mut self) -> Result<(), String> {
        if self.is_last { self.reader.take().map_or(Ok(()), |mut reader| reader.end()) } else { Ok(()) }
    }
}

fn is_over(read: &Result<Vec<u8>, Fault>) -> bool {
    matches!(read, Err(Fault::Container(_) | Fault::Lost(_)))
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            let mut left = lock(&self.left);
            left.push(Left { next: self.next, reader });
            if left.len() > READERS {
                left.remove(0); // the one that nobody took for longest
            }
        }
    }
}
