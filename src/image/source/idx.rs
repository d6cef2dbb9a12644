//! MNIST and its kin: pictures and labels in two idx files, compressed or not.
//!
//! Big-endian: a magic number (2051: pictures, 2049: labels), the count, and of pictures rows and columns; then bytes.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{Entry, Fault, Reader, Source, check_rows};
use super::forward;
use super::forward::Forward;
use super::netpbm::pgm;
use super::parts;
use super::place::{self, Seekable};
use crate::error::{Error, Result};

const IMAGES: u32 = 2051;
const LABELS: u32 = 2049;
/// Of QMNIST: rows of numbers of 32 bits, of which the first is the class.
const LABEL_ROWS: u32 = 3074;
/// Numbers in such a row.
const MOST_COLUMNS: u32 = 64;
const HEADER: u64 = 16;

pub(super) fn is_images(name: &str) -> bool {
    name.contains("-images") && name.contains("idx3")
}

pub(super) fn is_labels(name: &str) -> bool {
    name.contains("-labels") && (name.contains("idx1") || name.contains("idx2-int"))
}

pub(super) fn plan(path: &Path) -> Result<Source> {
    let bad = |reason: String| Error::BadArchive { path: path.into(), reason };
    let mut body = open(path)?;
    let header = numbers::<4>(&mut body).map_err(|error| bad(error.to_string()))?;
    let [IMAGES, count, rows, columns] = header else {
        return Err(bad(format!("it begins with {}, and pictures in idx format with {IMAGES}", header[0])));
    };
    let (rows, columns) = (rows as usize, columns as usize);
    if rows == 0 || columns == 0 || rows * columns > 1 << 24 {
        return Err(bad(format!("its pictures are {columns}×{rows} pixels")));
    }
    // the header is believed as far as the file can hold what it promises: deflate packs up to 1032 to 1
    let length = Seekable::open(path).and_then(|file| file.length()).map_err(Error::io("read", path))?;
    if u64::from(count).saturating_mul((rows * columns) as u64) > length.saturating_mul(1032) {
        return Err(bad(format!(
            "it is too short for the {count} pictures of {columns}×{rows} pixels that it promises"
        )));
    }
    check_rows(u64::from(count), length).map_err(bad)?;
    let labels = match beside(path) {
        Some(labels) => Some(read_labels(&labels, |labels| match labels == count {
            true => Ok(()),
            false => Err(bad(format!("it has {count} pictures, and the file beside it {labels} labels"))),
        })?),
        None => None,
    };
    let named: Vec<Arc<str>> = (0..=u8::MAX).map(|label| label.to_string().into()).collect();
    let entry = |row| Entry {
        label: labels.as_ref().map(|labels: &Vec<u8>| Arc::clone(&named[usize::from(labels[row])])),
        ..Entry::row(row)
    };
    let entries = (0..count as usize).map(entry).collect();
    let note = labels.is_none().then(|| format!("{}: no file of labels lies beside it, label is NULL", path.display()));
    let file = path.to_path_buf();
    let read = move || Ok(Box::new(Pictures { body: Forward::new(open(&file)?), rows, columns }) as Box<dyn Reader>);
    Ok(Source { note, ..Source::inside(path, entries, read).with_part(part(path)) })
}

/// The part of a data set that a file is by its name.
pub(super) fn part(path: &Path) -> Option<&'static str> {
    parts::of_file(&place::name(path))
}

fn open(path: &Path) -> Result<Box<dyn Read + Send>> {
    forward::open(path, forward::is_gzip(path)?)
}

fn numbers<const N: usize>(body: &mut impl Read) -> io::Result<[u32; N]> {
    let mut numbers = [0; N];
    for number in &mut numbers {
        let mut bytes = [0; 4];
        body.read_exact(&mut bytes)?;
        *number = u32::from_be_bytes(bytes);
    }
    Ok(numbers)
}

/// The labels file, compressed or not, whichever the pictures are.
fn beside(path: &Path) -> Option<PathBuf> {
    let name = place::name(path).replace("-images", "-labels");
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    let (bytes, rows) = (plain.replace("idx3", "idx1"), plain.replace("idx3-ubyte", "idx2-int"));
    [bytes.clone(), format!("{bytes}.gz"), rows.clone(), format!("{rows}.gz")]
        .iter()
        .map(|name| path.with_file_name(name))
        .find(|labels| place::exists(labels))
}

/// The labels, of which there are as many as `check` lets pass.
fn read_labels(path: &Path, check: impl Fn(u32) -> Result<()>) -> Result<Vec<u8>> {
    let bad = |reason: String| Error::BadArchive { path: path.into(), reason };
    let mut body = open(path)?;
    let [kind, count] = numbers::<2>(&mut body).map_err(|error| bad(error.to_string()))?;
    // bytes of a row, and which of them is the class: the low one of a number
    let (row, at) = match kind {
        LABELS => (1, 0),
        LABEL_ROWS => {
            let [columns] = numbers::<1>(&mut body).map_err(|error| bad(error.to_string()))?;
            if !(1..=MOST_COLUMNS).contains(&columns) {
                return Err(bad(format!("its rows have {columns} numbers")));
            }
            (4 * columns as usize, 3)
        }
        other => {
            return Err(bad(format!("it begins with {other}, and labels in idx format with {LABELS} or {LABEL_ROWS}")));
        }
    };
    check(count)?;
    let mut bytes = Vec::new(); // grown while reading, whatever the header promises
    body.take(u64::from(count) * row as u64).read_to_end(&mut bytes).map_err(|error| bad(error.to_string()))?;
    let labels: Vec<u8> = bytes.chunks_exact(row).map(|row| row[at]).collect();
    if labels.len() == count as usize {
        Ok(labels)
    } else {
        Err(bad(format!("it is cut: {count} labels were promised")))
    }
}

struct Pictures {
    body: Forward<Box<dyn Read + Send>>,
    rows: usize,
    columns: usize,
}

impl Reader for Pictures {
    fn read(&mut self, entry: &Entry) -> Result<Vec<u8>, Fault> {
        let size = (self.rows * self.columns) as u64;
        let values = self.body.contents(HEADER + entry.at * size, size)?;
        Ok(pgm(self.columns, self.rows, &values))
    }
}
