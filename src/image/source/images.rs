//! The images of sources, read one at a time.

use std::iter::{self, FusedIterator};
use std::path::{Path, PathBuf};
use std::vec;

use super::format::{Entry, Fault, ImageFile, Reader, Source, Table, TableColumns};
use super::{address, remote};
use crate::error::{Error, Result};

/// The images that [`open`](super::open) found, read one at a time.
///
/// An [`Error::BadImage`] stands for one image (unreadable, over [`MAX_FILE_BYTES`](super::MAX_FILE_BYTES), a link inside an archive, a name
/// that is not UTF-8), or for what a broken file of a folder still holds, and the next item is the next image. Any other
/// error is the last item: it is an
/// [`Error::BadArchive`], after all that could be read of the archive, or an [`Error::Io`] or [`Error::MissingPath`]
/// for an archive that went away, or an [`Error::Unreachable`] when the network is gone. An archive cut exactly between two members cannot be told from one that was written
/// without an end mark, and is read as a whole one.
pub struct ImageFiles {
    sources: vec::IntoIter<Source>,
    current: Option<Current>,
    total: usize,
    left_out: Vec<String>,
    notes: Vec<String>,
}

/// The source being read.
struct Current {
    path: PathBuf,
    root: String,
    entries: vec::IntoIter<Entry>,
    cut: Option<String>,
    in_folder: bool,
    by_folder: bool,
    reader: Box<dyn Reader>,
}

impl ImageFiles {
    pub(super) fn new(sources: Vec<Source>) -> Self {
        let total = total(&sources);
        Self { sources: sources.into_iter(), current: None, total, left_out: Vec::new(), notes: Vec::new() }
    }

    /// With the names of the parameters that are not kept.
    pub(super) fn leaving_out(self, left_out: Vec<String>) -> Self {
        Self { left_out, ..self }
    }

    /// With lines for whoever reads them.
    pub(super) fn noting(self, notes: Vec<String>) -> Self {
        Self { notes, ..self }
    }

    /// What there is to say of what was found, a line each: what lies beside the pictures and is left alone, counted by what
    /// its names end in, and labels that are missing.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The parameters of addresses' queries that their uris do not keep, by name: addresses that differ in these alone
    /// are one image.
    pub fn left_out_of_uris(&self) -> &[String] {
        &self.left_out
    }

    /// What the tables say that hold or name the images, in their order; once, and before the first image. A broken one
    /// in a folder is one image that cannot be read.
    ///
    /// Errors: those of [`open`](super::open).
    pub fn table_columns(&mut self) -> Result<Vec<TableColumns>> {
        let mut told = Vec::new();
        for source in self.sources.as_mut_slice() {
            match source.table.take() {
                Some(Table::Listed(path, rows)) => told.push(TableColumns::Listed { path, rows }),
                Some(Table::Embedded(tell)) if !source.entries.is_empty() => match tell() {
                    Ok(rows) => told.push(TableColumns::Embedded { path: source.named(), rows }),
                    Err(error) if source.in_folder => match refused(&source.path, error) {
                        Error::BadImage { reason, .. } => *source = Source::broken(&source.path, reason),
                        error => return Err(error),
                    },
                    Err(error) => return Err(error),
                },
                _ => {}
            }
        }
        self.total = total(self.sources.as_slice());
        Ok(told)
    }

    /// Number of images found by [`open`](super::open), those that will be refused included: the length of a progress bar.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Members of archives that are left out because a later one of the same name counts.
    pub fn superseded(&self) -> usize {
        self.sources.as_slice().iter().map(|source| source.superseded).sum()
    }

    /// Whether a source breaks off.
    pub(super) fn are_cut(&self) -> bool {
        self.sources.as_slice().iter().any(|source| source.cut.is_some())
    }

    fn advance(&mut self) -> Option<Result<ImageFile>> {
        loop {
            if let Some(current) = &mut self.current {
                current.reader.ahead(current.entries.as_slice());
                let (read, is_over) = match current.entries.next() {
                    Some(entry) => (Some(current.read(entry)), false),
                    None => (current.end().err().map(Err), true),
                };
                let breaks = matches!(&read, Some(Err(Error::BadArchive { .. })));
                let is_refused = breaks && current.in_folder;
                let path = if is_refused { std::mem::take(&mut current.path) } else { PathBuf::new() };
                if is_over || is_refused {
                    self.current = None;
                }
                match read {
                    Some(Err(error)) if is_refused => return Some(Err(refused(&path, error))),
                    Some(read) => return Some(read),
                    None => {}
                }
            }
            let Source { path, root, entries, by_folder, cut, in_folder, open, .. } = self.sources.next()?;
            if entries.is_empty() && cut.is_none() {
                continue; // nothing of it was selected
            }
            match open() {
                Ok(reader) => {
                    let entries = entries.into_iter();
                    self.current = Some(Current { path, root, entries, cut, in_folder, by_folder, reader });
                }
                Err(error) if in_folder => return Some(Err(refused(&path, error))),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Current {
    /// Say what is wrong with the whole, once all of it was read.
    fn end(&mut self) -> Result<()> {
        let ended = self.cut.take().map_or_else(|| self.reader.end(), Err);
        ended.map_err(|reason| Error::BadArchive { path: self.path.clone(), reason })
    }

    fn read(&mut self, entry: Entry) -> Result<ImageFile> {
        let uri = format!("{}{}", self.root, entry.name);
        let bad_image = |reason| Error::BadImage { uri: uri.clone(), reason };
        if let Some(reason) = entry.refused {
            return Err(bad_image(reason));
        }
        match self.reader.read(&entry) {
            Ok(bytes) => {
                let is_labelled = entry.label.is_some() && !self.by_folder;
                Ok(ImageFile { uri, label: entry.label.map(|label| label.to_string()), is_labelled, bytes })
            }
            Err(Fault::Image(reason)) => Err(bad_image(reason)),
            Err(Fault::Container(reason)) => {
                let reason = format!("it breaks off in {}: {reason}", entry.name);
                Err(Error::BadArchive { path: self.path.clone(), reason })
            }
            Err(Fault::Lost(reason)) => Err(Error::Unreachable { address: address::shown(&uri), reason }),
        }
    }
}

fn total(sources: &[Source]) -> usize {
    let is_broken = |source: &&Source| source.in_folder && source.cut.is_some();
    sources.iter().map(|source| source.entries.len()).sum::<usize>() + sources.iter().filter(is_broken).count()
}

impl Iterator for ImageFiles {
    type Item = Result<ImageFile>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.advance();
        if let Some(Err(error)) = &item
            && !matches!(error, Error::BadImage { .. })
        {
            self.current = None;
            self.sources = Vec::new().into_iter();
        }
        item
    }
}

impl FusedIterator for ImageFiles {}

impl std::fmt::Debug for ImageFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageFiles").field("total", &self.total).finish_non_exhaustive()
    }
}

/// What a container in a folder is that cannot be read: one image that cannot, as long as its host answers.
pub(super) fn refused(path: &Path, error: Error) -> Error {
    if let Some(address) = address::of(path)
        && let Err(lost) = remote::probe(iter::once(address))
    {
        return lost;
    }
    let reason = match error {
        Error::Unreachable { .. } => return error,
        Error::BadArchive { path: named, reason } if named == path => reason,
        Error::Io { action, path: named, source } if named == path => format!("cannot {action} it: {source}"),
        Error::MissingPath { path: named } if named == path => "there is no such file".into(),
        other => other.to_string(),
    };
    Error::BadImage { uri: path.display().to_string(), reason }
}
