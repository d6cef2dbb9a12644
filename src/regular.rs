//! Files of this machine that end: opening a pipe would wait for whoever writes into it, and a device may give bytes
//! without end. Whatever is named by a user, or by what somebody else wrote, is opened here.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
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
    let mut bytes = Vec::new();
    let file = open(path)?;
    let length = file.metadata()?.len();
    if length > most {
        let reason = format!("it is {length} bytes long, and at most {most} are read");
        return Err(io::Error::other(reason));
    }
    file.take(most).read_to_end(&mut bytes)?;
    text(bytes)
}

/// Bytes as a text, without the byte-order mark that some editors put before it.
///
/// Errors: what is not UTF-8, by name where that can be told.
pub(crate) fn text(mut bytes: Vec<u8>) -> io::Result<String> {
    check_encoding(&bytes)?;
    if bytes.starts_with(MARK) {
        bytes.drain(..MARK.len());
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
        io::Error::other(format!("it is no text in UTF-8 (line {line} is not)"))
    })
}

/// Refuse the beginning of a text in UTF-16 or UTF-32, which its byte-order mark gives away.
pub(crate) fn check_encoding(begins: &[u8]) -> io::Result<()> {
    let encoding = match begins {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => "UTF-32",
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "UTF-16",
        _ => return Ok(()),
    };
    let reason = format!("it is a text in {encoding}: convert it to UTF-8, as 'iconv -f {encoding} -t UTF-8' does");
    Err(io::Error::other(reason))
}

/// A text's bytes, whose byte-order mark is left out and which begin after it.
pub(crate) struct Text<R> {
    from: R,
    /// Bytes of the mark.
    mark: u64,
}

impl<R: Read + Seek> Text<R> {
    /// Errors: those of reading, and texts in UTF-16.
    pub(crate) fn of(mut from: R) -> io::Result<Self> {
        let mut begins = Vec::new();
        from.by_ref().take(4).read_to_end(&mut begins)?;
        check_encoding(&begins)?;
        let mark = if begins.starts_with(MARK) { MARK.len() as u64 } else { 0 };
        from.seek(SeekFrom::Start(mark))?;
        Ok(Self { from, mark })
    }
}

impl<R: Read> Read for Text<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.from.read(into)
    }
}

impl<R: Seek> Seek for Text<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => SeekFrom::Start(at + self.mark),
            other => other,
        };
        Ok(self.from.seek(to)?.saturating_sub(self.mark))
    }
}

/// The byte-order mark of UTF-8.
const MARK: &[u8] = "\u{feff}".as_bytes();

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_says_in_which_encoding_it_is_refused() {
        assert_eq!(text(b"\xef\xbb\xbfa".to_vec()).unwrap(), "a");
        let refused = |bytes: &[u8]| text(bytes.to_vec()).unwrap_err().to_string();
        assert!(refused(b"\xff\xfea\0").contains("UTF-16: convert it to UTF-8, as 'iconv -f UTF-16 -t UTF-8' does"));
        assert!(refused(b"\xfe\xff\0a").contains("in UTF-16"));
        assert!(refused(b"\xff\xfe\0\0a\0\0\0").contains("in UTF-32"));
        assert_eq!(refused(b"a\nb\xe9\n"), "it is no text in UTF-8 (line 2 is not)");
    }

    #[test]
    fn a_text_begins_after_its_mark_however_often_it_is_read() {
        let mut read = Text::of(io::Cursor::new(b"\xef\xbb\xbfab")).unwrap();
        for _ in 0..2 {
            let mut all = String::new();
            read.read_to_string(&mut all).unwrap();
            assert_eq!(all, "ab");
            read.rewind().unwrap();
        }
        assert_eq!(read.seek(SeekFrom::End(0)).unwrap(), 2);
        assert!(Text::of(io::Cursor::new(b"\xff\xfea\0")).is_err());
    }
}
