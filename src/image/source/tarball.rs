//! Tar archives, compressed or not.

use std::borrow::Cow;
use std::cell::Cell;
use std::ffi::OsStr;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::rc::Rc;

use super::archive::{by_part, is_image, label, member_name, superseded};
use super::beside::Beside;
use super::format::{Entry, Fault, MAX_FILE_BYTES, NOT_UTF8, Reader, Source, too_large};
use super::forward::Forward;
use super::{address, cifar, forward};
use crate::error::{Error, Result};
use crate::regular;

pub(super) fn is_tar(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [".tar", ".tar.gz", ".tgz"].iter().any(|end| name.ends_with(end))
}

/// The images of an archive; or the batches of a CIFAR distribution, a source per part.
pub(super) fn plan(path: &Path) -> Result<Vec<Source>> {
    let gzip = forward::is_gzip(path)?;
    let mut listing = Listing::default();
    let ended = if gzip || address::of(path).is_some() {
        // a cut shows by itself in compressed data and downloads, so there is no length to compare with
        let (body, budget) = Budgeted::new(forward::open(path, gzip)?);
        let mut archive = tar::Archive::new(body);
        archive.entries().and_then(|entries| listing.read(entries, u64::MAX, &budget))
    } else {
        let file = regular::open(path).map_err(Error::io("open", path))?;
        let length = file.metadata().map_err(Error::io("read", path))?.len();
        let (body, budget) = Budgeted::new(BufReader::new(file));
        let mut archive = tar::Archive::new(body);
        archive.entries_with_seek().and_then(|entries| listing.read(entries, length, &budget))
    };
    if let (Err(error), Some(_)) = (&ended, address::of(path)) {
        // what its folders mean is known when all of it was listed: the same command may find more the next time
        let reason = format!("while it was listed, {}", deepest(error));
        return Err(Error::BadArchive { path: path.into(), reason });
    }
    let Listing { mut images, others, mut beside } = listing;
    if images.is_empty() && ended.is_ok() {
        let sources = cifar::archive(path, &others, || forward::open(path, gzip))?;
        if !sources.is_empty() {
            return Ok(sources);
        }
    }
    let superseded = superseded(&mut images);
    label(&mut images);
    let archive = path.to_path_buf();
    let read = move || {
        let body = Forward::new(forward::open(&archive, gzip)?);
        Ok(Box::new(Members { body, gzip }) as Box<dyn Reader>)
    };
    let cut = ended.err().map(|error| error.to_string());
    // batches without the names that make them some
    others.iter().for_each(|member| beside.see(&member.name));
    Ok(by_part(Source { superseded, by_folder: true, cut, beside, ..Source::inside(path, images, read) }))
}

/// What an error began with: the archive's reader puts words of its own before it.
fn deepest(error: &io::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// Bytes of headers before a member: long names, PAX records, maps of sparse files. `tar` holds them in memory, however
/// long they are.
const HEADERS: u64 = 1 << 20;

/// What may still be read; without end where there is none.
type Budget = Rc<Cell<Option<u64>>>;

/// Reads no further than a budget.
struct Budgeted<R> {
    body: R,
    left: Budget,
}

impl<R> Budgeted<R> {
    fn new(body: R) -> (Self, Budget) {
        let left = Budget::default();
        (Self { body, left: Rc::clone(&left) }, left)
    }
}

impl<R: Read> Read for Budgeted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(left) = self.left.get() else { return self.body.read(into) };
        let count = self.body.read(into)?;
        let left = left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::other(format!(
                "the headers of a member are longer than {} MiB: its name is no name",
                HEADERS >> 20
            ))
        })?;
        self.left.set(Some(left));
        Ok(count)
    }
}

impl<R: Seek> Seek for Budgeted<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.body.seek(to)
    }
}

#[derive(Default)]
struct Listing {
    images: Vec<Entry>,
    others: Vec<Entry>,
    beside: Beside,
}

impl Listing {
    /// Append what is among `entries`, in an archive of `length` bytes; an error is where the archive breaks off.
    fn read<R: Read>(&mut self, entries: tar::Entries<'_, R>, length: u64, budget: &Budget) -> io::Result<()> {
        let mut entries = entries;
        loop {
            budget.set(Some(HEADERS));
            let entry = entries.next();
            budget.set(None);
            let Some(mut entry) = entry.transpose()? else { break };
            let (start, size) = (entry.raw_file_position(), entry.size());
            if length == u64::MAX {
                // what cannot be sought in is read up to the next header, outside its budget
                io::copy(&mut entry, &mut io::sink())?;
            }
            let kind = entry.header().entry_type();
            let sparse = sparse_name(&mut entry)?;
            let raw = sparse.as_deref().map_or_else(|| entry.path_bytes(), Cow::from);
            let name = member_name(&String::from_utf8_lossy(&raw));
            let is_plain = kind.is_file() || kind.is_contiguous();
            if is_plain && start.saturating_add(size) > length {
                let member = name.as_deref().unwrap_or("a hidden member");
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("it ends in the middle of {member}")));
            }
            let Some(name) = name else { continue };
            let member = Entry::new(name, start, size);
            if !is_image(OsStr::new(&*member.name)) {
                if is_plain && cifar::is_part_of_distribution(&member.name) {
                    self.others.push(member);
                } else if is_plain {
                    self.beside.see(&member.name);
                }
                continue;
            }
            let refused = if kind.is_hard_link() || kind.is_symlink() {
                Some(
                    "it is a link inside the archive, and those are not followed: pack with 'tar -h --hard-dereference'"
                        .into(),
                )
            } else if kind.is_gnu_sparse() || sparse.is_some() {
                Some("it is stored as a sparse file: pack without --sparse".into())
            } else if !is_plain {
                continue;
            } else if std::str::from_utf8(&raw).is_err() {
                Some(NOT_UTF8.into())
            } else {
                (size > MAX_FILE_BYTES).then(|| too_large(size))
            };
            self.images.push(Entry { refused, ..member });
        }
        Ok(())
    }
}

/// The name of a member that is stored as a sparse file by way of PAX records: its own is made up.
fn sparse_name<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Option<Vec<u8>>> {
    let Some(records) = entry.pax_extensions()? else { return Ok(None) };
    let name = records.flatten().find(|record| record.key_bytes() == b"GNU.sparse.name");
    Ok(name.map(|record| record.value_bytes().to_vec()))
}

/// The second pass over an archive: contents in the order of the listing.
struct Members {
    body: Forward<Box<dyn Read + Send>>,
    gzip: bool,
}

impl Reader for Members {
    fn read(&mut self, entry: &Entry) -> Result<Vec<u8>, Fault> {
        self.body.picture(entry.at, entry.size)?.map_err(Fault::Image)
    }

    /// A compressed archive ends in a checksum of all its members, which is compared when it is read to the end.
    fn end(&mut self) -> Result<(), String> {
        if self.gzip {
            io::copy(&mut self.body.body, &mut io::sink()).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}
