//! Zip archives. Their directory stands at the end, so one pass lists them.

use std::ffi::OsStr;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use zip::ZipArchive;
use zip::result::ZipError;

use super::archive::{by_part, is_image, label, superseded};
use super::beside::Beside;
use super::folder::{dataset, is_known};
use super::format::{Entry, Fault, MAX_FILE_BYTES, Reader, Source, picture, too_large};
use super::place::Seekable;
use super::{parts, zip_members};
use crate::error::{Error, Result};

type Archive = ZipArchive<BufReader<Seekable>>;

pub(super) fn is_zip(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".zip")
}

/// The pictures of an archive, and the files of data sets in it.
pub(super) fn plan(path: &Path) -> Result<Vec<Source>> {
    let (members, note) = zip_members::list(&open(path)?).map_err(|error| broken(path, &error))?;
    let (mut entries, mut others) = (Vec::new(), Vec::new());
    for member in members {
        let entry = Entry::new(member.name, member.index as u64, member.size);
        if !is_image(OsStr::new(&*entry.name)) {
            others.push(entry);
            continue;
        }
        let refused = if member.is_encrypted {
            Some("it is encrypted: unpack the archive with its password".to_owned())
        } else {
            (member.size > MAX_FILE_BYTES).then(|| too_large(member.size))
        };
        entries.push(Entry { refused, ..entry });
    }
    let superseded = superseded(&mut entries);
    label(&mut entries);
    let (mut sets, beside) = data_sets(path, &others)?;
    let file = path.to_path_buf();
    let read = move || Ok(Box::new(Members { archive: open(&file)? }) as Box<dyn Reader>);
    let note = note.map(|note| format!("{}: {note}", path.display()));
    let mut sources =
        by_part(Source { superseded, by_folder: true, beside, note, ..Source::inside(path, entries, read) });
    sources.append(&mut sets);
    Ok(sources)
}

/// The files of data sets among the members that are no pictures, each as it is read where it lies by itself; and the rest.
fn data_sets(path: &Path, members: &[Entry]) -> Result<(Vec<Source>, Beside)> {
    let (mut sources, mut beside) = (Vec::new(), Beside::default());
    let split = |member: &Entry| match member.name.rsplit_once('/') {
        Some((folder, name)) => (folder.to_owned(), name.to_owned()),
        None => (String::new(), member.name.to_string()),
    };
    let split: Vec<(String, String)> = members.iter().map(split).collect();
    let parts = parts::of_members(members);
    for (at, (folder, name)) in split.iter().enumerate() {
        let siblings: Vec<String> =
            split.iter().filter(|(other, _)| other == folder).map(|(_, name)| name.clone()).collect();
        match dataset(&member_path(path, &members[at].name), name, &siblings)? {
            Some(source) => {
                let part = source.part.clone().or(parts[at].map(String::from));
                sources.push(Source { part, ..source });
            }
            None if !is_known(name, &siblings) => beside.see(name),
            None => {}
        }
    }
    Ok((sources, beside))
}

/// A member as a file of its own: `photos.zip!/MNIST/raw/t10k-images-idx3-ubyte`.
fn member_path(archive: &Path, member: &str) -> PathBuf {
    let mut path = archive.as_os_str().to_owned();
    path.push("!/");
    path.push(member);
    path.into()
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
