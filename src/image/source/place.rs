//! Files, on this machine or at an address, or in a zip archive there (`photos.zip!/name`).

use std::fs::{self, File};
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::address;
use super::format::{MAX_FILE_BYTES, too_large};
use super::remote::{self, Blocks};
use super::zip_members;
use crate::regular;

/// A file's name, which says what it is.
pub(super) fn name(path: &Path) -> String {
    if let Some((_, member)) = in_zip(path) {
        return member.rsplit('/').next().unwrap_or_default().into();
    }
    match address::of(path) {
        Some(address) => address::name(address),
        None => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    }
}

/// The zip archive that holds a file, and the file's name in it.
fn in_zip(path: &Path) -> Option<(PathBuf, &str)> {
    let text = path.to_str()?;
    let of = |at: usize| (PathBuf::from(&text[..at]), &text[at + 2..]);
    if address::is_address(text) {
        return address::inside(text).map(of);
    }
    let mut ends = text.match_indices("!/").map(|(at, _)| at);
    ends.find(|&at| text[..at].to_ascii_lowercase().ends_with(".zip") && Path::new(&text[..at]).is_file()).map(of)
}

/// A file in a zip archive, whole.
fn held(archive: &Path, member: &str) -> io::Result<Vec<u8>> {
    zip_members::contents(BufReader::new(Seekable::at(archive)?), member)
}

/// A file from its beginning.
pub(super) fn open(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    if let Some((archive, member)) = in_zip(path) {
        return Ok(Box::new(Cursor::new(held(&archive, member)?)));
    }
    Ok(match address::of(path) {
        Some(address) => Box::new(remote::open(address)?),
        None => Box::new(BufReader::new(here(path)?)),
    })
}

/// A file of this machine.
fn here(path: &Path) -> io::Result<File> {
    if let Some(reason) = path.to_str().and_then(address::refused_entry) {
        return Err(io::Error::other(reason));
    }
    regular::open(path)
}

/// A whole file that is small beside pictures: a list, the names of classes, a batch of CIFAR.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(too_large(bytes.len() as u64)));
    }
    Ok(bytes)
}

pub(super) fn exists(path: &Path) -> bool {
    if let Some((archive, member)) = in_zip(path) {
        let archive = Seekable::at(&archive).map(BufReader::new);
        return archive.and_then(|archive| zip_members::has(archive, member)).unwrap_or(false);
    }
    address::of(path).map_or_else(|| path.exists(), remote::exists)
}

/// What tells whether a file has changed, where something does.
pub(super) fn state(path: &Path) -> Option<String> {
    if let Some(address) = address::of(path) {
        return remote::state(address);
    }
    let file = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    Some(format!("{} {:?}", file.len(), file.modified().ok()?))
}

/// A file that is read anywhere.
pub(super) enum Seekable {
    Here(File),
    There(Blocks),
    /// In memory: a file out of an archive.
    Held(Cursor<Bytes>),
}

impl Seekable {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        match in_zip(path) {
            Some((archive, member)) => Ok(Self::Held(Cursor::new(held(&archive, member)?.into()))),
            None => Self::at(path),
        }
    }

    /// A file by itself.
    fn at(path: &Path) -> io::Result<Self> {
        Ok(match address::of(path) {
            Some(address) => Self::There(Blocks::open(address)?),
            None => Self::Here(here(path)?),
        })
    }

    pub(super) fn length(&self) -> io::Result<u64> {
        match self {
            Self::Here(file) => Ok(file.metadata()?.len()),
            Self::There(blocks) => Ok(blocks.length()),
            Self::Held(bytes) => Ok(bytes.get_ref().len() as u64),
        }
    }
}

impl Read for Seekable {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Here(file) => file.read(into),
            Self::There(blocks) => blocks.read(into),
            Self::Held(bytes) => bytes.read(into),
        }
    }
}

impl Seek for Seekable {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::Here(file) => file.seek(to),
            Self::There(blocks) => blocks.seek(to),
            Self::Held(bytes) => bytes.seek(to),
        }
    }
}
