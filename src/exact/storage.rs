//! Rows as a bank keeps them: in memory, or in a file from which they are read as searches want them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use bytemuck::{cast_slice, cast_slice_mut};

use crate::code::PANEL;
use crate::lanes::{Line, Rows, are_finite, floats};

/// Rows of a panel from which on all of them are read at once.
const MANY: u32 = 4;

/// Rows cell by cell, in each by radius.
#[derive(Debug)]
pub(crate) enum Kept {
    Memory(Rows),
    /// In a file, and after them those that were added since it was written.
    File(FileRows, Rows),
}

pub(crate) fn bad(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

/// Rows from one on, compared with their checksums.
pub(crate) fn read_rows(
    file: &File,
    at: u64,
    first: usize,
    lines: &mut [Line],
    checks: &[u32],
    stride: usize,
) -> io::Result<()> {
    file.read_exact_at(cast_slice_mut(lines), at + (first * stride * 64) as u64)?;
    // what is not finite was not written by us, whatever its checksum
    let right = |(row, &check): (&[Line], &u32)| crc32fast::hash(cast_slice(row)) == check && are_finite(floats(row));
    match lines.chunks_exact(stride).zip(checks).all(right) {
        true => Ok(()),
        false => Err(bad("rows are damaged")),
    }
}

/// Rows that stay in a file.
#[derive(Debug)]
pub(crate) struct FileRows {
    file: File,
    at: u64,
    stride: usize,
    /// Of each row.
    checks: Vec<u32>,
    /// How many times rows could not be read, and why the last time.
    failures: AtomicUsize,
    failure: Mutex<Option<String>>,
}

impl FileRows {
    /// Rows that begin at a place of a file, and their checksums.
    pub(crate) fn new(file: File, at: u64, stride: usize, checks: Vec<u32>) -> Self {
        Self { file, at, stride, checks, failures: AtomicUsize::new(0), failure: Mutex::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.checks.len()
    }

    pub(crate) fn failures(&self) -> usize {
        self.failures.load(Ordering::Acquire)
    }

    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Read rows, or remember why not: what is found with others in their place is not used.
    fn read(&self, first: usize, lines: &mut [Line]) {
        let read = read_rows(&self.file, self.at, first, lines, &self.checks[first..], self.stride);
        if let Err(error) = read {
            lines.fill(Line([0.0; 16]));
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
            self.failures.fetch_add(1, Ordering::Release);
        }
    }

    /// Rows one after the other.
    pub(crate) fn all<'a>(&self, first: usize, count: usize, scratch: &'a mut Vec<Line>) -> &'a [Line] {
        scratch.resize(count * self.stride, Line([0.0; 16]));
        self.read(first, scratch);
        scratch
    }

    /// Those of sixteen rows that are wanted.
    pub(crate) fn some<'a>(&self, first: usize, wanted: u16, scratch: &'a mut Vec<Line>) -> &'a [Line] {
        scratch.resize(PANEL * self.stride, Line([0.0; 16]));
        let (from, to) = (wanted.trailing_zeros() as usize, 16 - wanted.leading_zeros() as usize);
        if wanted.count_ones() >= MANY {
            self.read(first + from, &mut scratch[from * self.stride..to * self.stride]);
        } else {
            let each = (from..to).filter(|place| wanted >> place & 1 == 1);
            each.for_each(|place| self.read(first + place, &mut scratch[place * self.stride..][..self.stride]));
        }
        scratch
    }
}
