//! Zip archives. Their directory stands at the end, so one pass lists them.

use std::ffi::OsStr;
use std::io::BufReader;
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use super::archive::{by_part, is_image, label, member_name, superseded};
use super::beside::Beside;
use super::format::{Entry, Fault, MAX_FILE_BYTES, Reader, Source, picture, too_large};
use super::place::Seekable;
use crate::error::{Error, Result};

type Archive = ZipArchive<BufReader<Seekable>>;

pub(super) fn is_zip(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".zip")
}

pub(super) fn plan(path: &Path) -> Result<Vec<Source>> {
    let mut archive = open(path)?;
    let (mut entries, mut beside) = (Vec::new(), Beside::default());
    for index in 0..archive.len() {
        let member = archive.by_index_raw(index).map_err(|error| broken(path, &error))?;
        let raw = String::from_utf8_lossy(member.name_raw());
        let Some(name) = member_name(&raw) else { continue };
        if !member.is_file() {
            continue;
        }
        if !is_image(OsStr::new(&name)) {
            beside.see(&name);
            continue;
        }
        let refused = if member.encrypted() {
            Some("it is encrypted: unpack the archive with its password".to_owned())
        } else {
            (member.size() > MAX_FILE_BYTES).then(|| too_large(member.size()))
        };
        entries.push(Entry { refused, ..Entry::new(name, index as u64, member.size()) });
    }
    let superseded = superseded(&mut entries);
    label(&mut entries);
    let file = path.to_path_buf();
    let read = move || Ok(Box::new(Members { archive: open(&file)? }) as Box<dyn Reader>);
    Ok(by_part(Source { superseded, by_folder: true, beside, ..Source::inside(path, entries, read) }))
}

fn open(path: &Path) -> Result<Archive> {
    let file = Seekable::open(path).map_err(Error::io("open", path))?;
    ZipArchive::new(BufReader::new(file)).map_err(|error| broken(path, &error))
}

fn broken(path: &Path, error: &ZipError) -> Error {
    Error::BadArchive { path: path.into(), reason: error.to_string() }
}

struct Members {
    archive: Archive,
}

impl Reader for Members {
    /// A member that is broken, its checksum included, says nothing of the others.
    fn read(&mut self, entry: &Entry) -> Result<Vec<u8>, Fault> {
        let bad = |reason: String| Fault::Image(format!("in the archive: {reason}"));
        let mut member = self.archive.by_index(entry.at as usize).map_err(|error| bad(error.to_string()))?;
        picture(&mut member).map_err(|error| bad(error.to_string()))?.map_err(Fault::Image)
    }
}
