//! Files of this machine that end: opening a pipe would wait for whoever writes into it, and a device may give bytes
//! without end. Whatever is named by a user, or by what somebody else wrote, is opened here.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::Path;

/// Open a file for reading.
///
/// Errors: those of the system, and pipes, sockets, devices and folders.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    check(&fs::metadata(path)?)?;
    File::open(path)
}

/// A whole file.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A whole text file, without a byte-order mark.
///
/// Errors: as [`open`]; more than `most` bytes, and what is not UTF-8.
pub(crate) fn read_text(path: &Path, most: u64) -> io::Result<String> {
    let mut text = String::new();
    let file = open(path)?;
    let length = file.metadata()?.len();
    if length > most {
        let reason = format!("it is {length} bytes long, and at most {most} are read");
        return Err(io::Error::other(reason));
    }
    file.take(most).read_to_string(&mut text)?;
    Ok(without_mark(text))
}

/// A text without the byte-order mark that some editors put before it.
pub(crate) fn without_mark(mut text: String) -> String {
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    text
}

/// Refuse what is there and is no file; what is not there is nobody's.
pub(crate) fn check_path(path: &Path) -> io::Result<()> {
    fs::metadata(path).map_or(Ok(()), |found| if found.is_dir() { Ok(()) } else { check(&found) })
}

/// Refuse what is no file.
pub(crate) fn check(found: &Metadata) -> io::Result<()> {
    let problem = match (found.is_file(), found.is_dir()) {
        (true, _) => return Ok(()),
        (false, true) => "it is a folder",
        (false, false) => "it is a pipe, a socket or a device, and no file",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
}
