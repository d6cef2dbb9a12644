//! SVHN's cropped digits: a MATLAB 5 file with `X`, height × width × 3 × n bytes in column order, and `y`, n labels.
//!
//! The label 10 stands for the digit 0. Labels follow the pictures in the file, so it is read once for them and once
//! for the pictures, one of which is in memory at a time. Layout: "MAT-File Format", MathWorks, chapter 1.

use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use flate2::read::ZlibDecoder;

use super::format::{Entry, Fault, Reader, Source, check_rows};
use super::forward::Forward;
use super::netpbm::ppm;
use super::place::{self, Seekable};
use crate::error::{Error, Result};

const FILE_HEADER: u64 = 128;
const INT8: u32 = 1;
const UINT8: u32 = 2;
const INT16: u32 = 3;
const UINT16: u32 = 4;
const INT32: u32 = 5;
const UINT32: u32 = 6;
const DOUBLE: u32 = 9;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;

pub(super) fn is_mat(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".mat")
}

/// As SVHN's authors call them: `train_32x32.mat`.
pub(super) fn is_svhn(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with("_32x32.mat")
}

pub(super) fn plan(path: &Path) -> Result<Source> {
    let bad = |reason: String| Error::BadArchive { path: path.into(), reason };
    let (pictures, labels) = read(path).map_err(bad)?;
    let Place { height, width, count, .. } = pictures;
    if labels.len() != count {
        return Err(bad(format!("X has {count} pictures, and y {} labels", labels.len())));
    }
    let entry = |(row, label): (usize, &u32)| Entry { label: Some((label % 10).to_string().into()), ..Entry::row(row) };
    let entries = labels.iter().enumerate().map(entry).collect();
    let file = path.to_path_buf();
    let open = move || {
        let body = matrix_at(&file, pictures.element)
            .map_err(|error| Error::BadArchive { path: file.clone(), reason: error.to_string() })?;
        Ok(Box::new(Pictures { body: Forward::new(body.values), height, width }) as Box<dyn Reader>)
    };
    Ok(Source::inside(path, entries, open).with_part(part(path)))
}

/// The part of the data set that a file is by its name.
pub(super) fn part(path: &Path) -> Option<&'static str> {
    let name = place::name(path).to_lowercase();
    ["train", "test", "extra"].into_iter().find(|part| name.contains(part))
}

/// Where the pictures are.
#[derive(Clone, Copy)]
struct Place {
    /// Offset of the element in the file.
    element: u64,
    height: usize,
    width: usize,
    count: usize,
}

/// A matrix, read up to its values.
struct Matrix {
    name: String,
    sides: Vec<usize>,
    kind: u32,
    values: Box<dyn Read + Send>,
}

fn read(path: &Path) -> Result<(Place, Vec<u32>), String> {
    let explain = |error: io::Error| error.to_string();
    let mut file = BufReader::new(Seekable::open(path).map_err(explain)?);
    let mut header = [0; FILE_HEADER as usize];
    file.read_exact(&mut header).map_err(|_| "it is too short for a MATLAB file")?;
    if header.starts_with(b"MATLAB 7.3") {
        return Err("it is a MATLAB 7.3 file (HDF5): save it with -v7".into());
    }
    if header[126..] != *b"IM" {
        return Err("it is no little-endian MATLAB 5 file".into());
    }
    let length = file.get_ref().length().map_err(explain)?;
    let (mut pictures, mut labels) = (None, None);
    let mut element = FILE_HEADER;
    while element + 8 <= length {
        file.seek(SeekFrom::Start(element)).map_err(explain)?;
        let [_, size] = words(&mut file).map_err(explain)?;
        let mut matrix = matrix_at(path, element).map_err(explain)?;
        match (matrix.name.as_str(), matrix.sides.as_slice(), matrix.kind) {
            ("X", &[height, width, 3, count], UINT8) if height * width > 0 && height * width <= 1 << 24 => {
                pictures = Some(Place { element, height, width, count });
            }
            ("X", sides, kind) => {
                return Err(format!("X is {sides:?} of type {kind}, expected [height, width, 3, n] bytes"));
            }
            ("y", sides, kind) => {
                let count = sides.iter().try_fold(1, |count: usize, &side| count.checked_mul(side));
                let count = count.ok_or("y has sides beyond all measure")?;
                check_rows(count as u64, length)?;
                labels = Some(numbers(&mut matrix.values, kind, count).map_err(explain)?);
            }
            _ => {}
        }
        element += 8 + u64::from(size);
    }
    pictures.zip(labels).ok_or_else(|| "it does not hold X and y, as SVHN's files do".into())
}

fn words<const N: usize>(from: &mut impl Read) -> io::Result<[u32; N]> {
    let mut words = [0; N];
    for word in &mut words {
        let mut bytes = [0; 4];
        from.read_exact(&mut bytes)?;
        *word = u32::from_le_bytes(bytes);
    }
    Ok(words)
}

/// An element's type and length; of a small one, which shares the eight bytes of its tag, the contents too.
fn tag(from: &mut impl Read) -> io::Result<(u32, u32, Option<[u8; 4]>)> {
    let [first, second] = words(from)?;
    Ok(match first >> 16 {
        0 => (first, second, None),
        length => (first & 0xffff, length, Some(second.to_le_bytes())),
    })
}

/// A whole small element, of at most 4 KiB, without the bytes that fill it up to eight.
fn small(from: &mut impl Read) -> io::Result<(u32, Vec<u8>)> {
    let (kind, length, inside) = tag(from)?;
    if length > 4096 {
        return Err(io::Error::other("a header is too long"));
    }
    let length = length as usize;
    let bytes = match inside {
        Some(bytes) => bytes.get(..length).ok_or_else(|| io::Error::other("a small element is too long"))?.to_vec(),
        None => {
            let mut bytes = vec![0; length.next_multiple_of(8)];
            from.read_exact(&mut bytes)?;
            bytes.truncate(length);
            bytes
        }
    };
    Ok((kind, bytes))
}

fn matrix_at(path: &Path, element: u64) -> io::Result<Matrix> {
    let mut file = BufReader::new(Seekable::open(path)?);
    file.seek(SeekFrom::Start(element))?;
    let [kind, size] = words(&mut file)?;
    let body = file.take(size.into());
    let mut values: Box<dyn Read + Send> = match kind {
        MATRIX => Box::new(body),
        COMPRESSED => {
            let mut inside: Box<dyn Read + Send> = Box::new(ZlibDecoder::new(body));
            let [kind, _] = words(&mut inside)?;
            if kind != MATRIX {
                return Err(io::Error::other(format!("an element of type {kind}, expected a matrix")));
            }
            inside
        }
        kind => return Err(io::Error::other(format!("an element of type {kind}, expected a matrix"))),
    };
    small(&mut values)?; // flags
    let (_, sides) = small(&mut values)?;
    let (_, name) = small(&mut values)?;
    let sides = sides.as_chunks().0.iter().map(|&side| u32::from_le_bytes(side) as usize).collect();
    let (kind, _, inside) = tag(&mut values)?;
    if let Some(inside) = inside {
        values = Box::new(io::Cursor::new(inside));
    }
    Ok(Matrix { name: String::from_utf8_lossy(&name).into_owned(), sides, kind, values })
}

fn numbers(from: &mut impl Read, kind: u32, count: usize) -> io::Result<Vec<u32>> {
    let width = match kind {
        INT8 | UINT8 => 1,
        INT16 | UINT16 => 2,
        INT32 | UINT32 => 4,
        DOUBLE => 8,
        kind => return Err(io::Error::other(format!("labels of type {kind}"))),
    };
    let mut bytes = Vec::new();
    let length = (width as u64).saturating_mul(count as u64);
    from.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let number = |bytes: &[u8]| {
        let mut wide = [0; 8];
        wide[..width].copy_from_slice(bytes);
        if kind == DOUBLE { f64::from_le_bytes(wide) as u32 } else { u64::from_le_bytes(wide) as u32 }
    };
    Ok(bytes.chunks_exact(width).map(number).collect())
}

struct Pictures {
    body: Forward<Box<dyn Read + Send>>,
    height: usize,
    width: usize,
}

impl Reader for Pictures {
    fn read(&mut self, entry: &Entry) -> Result<Vec<u8>, Fault> {
        let (height, width) = (self.height, self.width);
        let size = (3 * height * width) as u64;
        let values = self.body.contents(entry.at * size, size)?;
        Ok(ppm(width, height, |channel, row, column| values[(channel * width + column) * height + row]))
    }
}
