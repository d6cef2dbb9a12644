//! Files that are read forwards only: from their beginning, decompressed where they are compressed.

use std::io::{self, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

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

    pub(super) fn contents(&mut self, start: u64, size: u64) -> io::Result<Vec<u8>> {
        let before = start.checked_sub(self.at).ok_or(io::ErrorKind::InvalidInput)?;
        self.at += io::copy(&mut self.body.by_ref().take(before), &mut io::sink())?;
        // grown while reading: a header may promise more than there is
        let mut bytes = Vec::new();
        if self.at == start {
            self.at += self.body.by_ref().take(size).read_to_end(&mut bytes)? as u64;
        }
        if bytes.len() as u64 == size { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}
