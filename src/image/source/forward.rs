//! Files that are read forwards only: from their beginning, decompressed where they are compressed.

use std::io::{self, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::format::{MAX_FILE_BYTES, picture, too_large};
use super::place;
use crate::error::{Error, Result};

/// Told by the first two bytes: a `.tar` that is compressed is read as well.
pub(super) fn is_gzip(path: &Path) -> Result<bool> {
    let mut magic = Vec::new();
    let file = place::open(path).map_err(Error::io("open", path))?;
    file.take(2).read_to_end(&mut magic).map_err(Error::io("read", path))?;
    Ok(magic == [0x1f, 0x8b])
}

/// A file from its beginning, decompressed.
pub(super) fn open(path: &Path, gzip: bool) -> Result<Box<dyn Read + Send>> {
    let file = place::open(path).map_err(Error::io("open", path))?;
    Ok(if gzip { Box::new(MultiGzDecoder::new(file)) } else { file })
}

/// Bytes that can only be read forwards, by their place.
pub(super) struct Forward<R> {
    pub(super) body: R,
    /// Bytes read so far.
    pub(super) at: u64,
}

impl<R: Read> Forward<R> {
    pub(super) fn new(body: R) -> Self {
        Self { body, at: 0 }
    }

    /// What lies there, as a whole.
    pub(super) fn contents(&mut self, start: u64, size: u64) -> io::Result<Vec<u8>> {
        if size > MAX_FILE_BYTES {
            return Err(io::Error::other(too_large(size)));
        }
        self.skip_to(start)?;
        // grown while reading: a header may promise more than there is
        let mut bytes = Vec::new();
        self.at += self.body.by_ref().take(size).read_to_end(&mut bytes)? as u64;
        if bytes.len() as u64 == size { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// The picture that lies there, or why what does is none.
    pub(super) fn picture(&mut self, start: u64, size: u64) -> io::Result<Result<Vec<u8>, String>> {
        self.skip_to(start)?;
        let mut part = self.body.by_ref().take(size);
        let found = picture(&mut part)?;
        self.at += size - part.limit();
        match found {
            Ok(bytes) if bytes.len() as u64 != size => Err(io::ErrorKind::UnexpectedEof.into()),
            found => Ok(found),
        }
    }

    fn skip_to(&mut self, start: u64) -> io::Result<()> {
        let before = start.checked_sub(self.at).ok_or(io::ErrorKind::InvalidInput)?;
        self.at += io::copy(&mut self.body.by_ref().take(before), &mut io::sink())?;
        if self.at == start { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}
