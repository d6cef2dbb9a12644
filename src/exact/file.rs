//! A bank in a file, as it lies in memory: found again in the time that reading takes.
//!
//! ```text
//! header and note │ rows, cell by cell, in lines │ codes, cell by cell │ index
//! ```
//!
//! The header says where the rest begins and what its checksums are; it is written last, so that a file that was not
//! finished is none. The index has directions, centroids, cells and, per row, number, id and checksum. Numbers are as the
//! machine has them; the header tells a file of another kind of machine. [`crate::Sampling`] writes such files.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path as FilePath;
use std::sync::OnceLock;

use bytemuck::allocation::pod_collect_to_vec;
use bytemuck::{Pod, cast_slice};
use rayon::prelude::*;

use crate::code::{CodedCell, PANEL};
use crate::lanes::{Line, Rows, are_finite, floats, lines_of};
use crate::layout::{Cell, Exact, Head, Parts, check_units};
use crate::numbers::RowNumber;
use crate::path::Path;
use crate::storage::{FileRows, Kept, bad, read_rows};
use crate::vectors::MOST_NUMBERS;

/// The first eight bytes, which say the byte order too.
const MAGIC: u64 = u64::from_le_bytes(*b"outskirt");
/// What this version reads and writes.
const FORMAT: u64 = 1;
/// Rows begin at a multiple of this.
const PAGE: u64 = 4096;
/// Bytes that one thread reads at a time.
const CHUNK: usize = 1 << 20;

/// What the beginning of a file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct Header {
    pub(crate) magic: u64,
    pub(crate) format: u64,
    pub(crate) rows: u64,
    pub(crate) dimension: u64,
    /// Numbers per head; 0: the head is the whole row.
    pub(crate) head: u64,
    /// Bits of an f64: how far the directions are from orthonormal.
    pub(crate) defect: u64,
    pub(crate) cells: u64,
    /// Whether rows are there in 8 bits.
    pub(crate) coded: u64,
    pub(crate) note: u64,
    pub(crate) index: u64,
    pub(crate) index_check: u64,
    /// Of the note, and of all above.
    pub(crate) check: u64,
}

const HEADER: usize = size_of::<Header>();

impl Header {
    /// Of a file that is being written.
    pub(crate) fn new(rows: usize, dimension: usize, note: &str) -> Self {
        let (rows, dimension, note) = (rows as u64, dimension as u64, note.len() as u64);
        let (magic, format) = (MAGIC, FORMAT);
        Self {
            magic,
            format,
            rows,
            dimension,
            note,
            head: 0,
            defect: 0,
            cells: 0,
            coded: 0,
            index: 0,
            index_check: 0,
            check: 0,
        }
    }

    pub(crate) fn checked(self, note: &[u8]) -> u64 {
        let bytes: [u8; HEADER] = bytemuck::cast(Self { check: 0, ..self });
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&bytes);
        hasher.update(note);
        hasher.finalize().into()
    }

    pub(crate) fn rows_at(self) -> u64 {
        (HEADER as u64 + self.note).next_multiple_of(PAGE)
    }

    pub(crate) fn row_bytes(self) -> u64 {
        64 * lines_of(self.dimension as usize) as u64
    }

    pub(crate) fn codes_at(self) -> u64 {
        self.rows_at() + self.rows * self.row_bytes()
    }

    /// Whether there can be a bank of which this is true, whoever wrote the checksum: no sum or product of it is too large from
    /// here on.
    fn is_possible(self) -> bool {
        (1..=MOST_NUMBERS as u64).contains(&self.dimension)
            && (1..u64::from(u32::MAX)).contains(&self.rows)
            && (1..=self.rows).contains(&self.cells)
            && self.head <= self.dimension
            && (0.0..1.0).contains(&f64::from_bits(self.defect))
            && self.coded <= 1
            && (self.codes_at()..1 << 60).contains(&self.index)
    }

    /// Bytes of the index.
    fn index_bytes(self) -> u64 {
        let width = 64 * self.width() as u64;
        let heads = if self.head == 0 { 0 } else { self.cells * width };
        let cells = self.cells * (self.row_bytes() + size_of::<CellEntry>() as u64);
        self.head * self.dimension * 4 + cells + heads + width + self.rows * (4 + 4 + 8)
    }

    /// Numbers per row that are coded, in whole lines.
    fn width(self) -> usize {
        lines_of(if self.head == 0 { self.dimension } else { self.head } as usize)
    }

    fn steps(self) -> usize {
        (if self.head == 0 { self.dimension } else { self.head } as usize).div_ceil(4)
    }

    /// Bytes of the codes of a cell of so many rows.
    pub(crate) fn code_bytes(self, rows: usize) -> u64 {
        if self.coded == 0 { 0 } else { rows.div_ceil(PANEL) as u64 * (64 * (self.steps() as u64 + 3) + 8) }
    }
}

/// A cell in the index.
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct CellEntry {
    pub(crate) rows: u32,
    pub(crate) low: f32,
    pub(crate) high: f32,
    pub(crate) head_norm: f32,
    pub(crate) residual: f32,
    /// Of its codes.
    pub(crate) check: u32,
}

/// What the index has.
pub(crate) struct IndexOf<'a> {
    pub(crate) directions: &'a [f32],
    pub(crate) centroids: &'a [Line],
    /// Where the head is not the whole row.
    pub(crate) centroid_heads: &'a [Line],
    pub(crate) mean_head: &'a [Line],
    pub(crate) cells: &'a [CellEntry],
    /// Number of the row at each position.
    pub(crate) numbers: &'a [RowNumber],
    /// Of the row at each position.
    pub(crate) checks: &'a [u32],
    /// By number, ascending.
    pub(crate) ids: &'a [u64],
}

impl IndexOf<'_> {
    /// Write it, and the header that ends the file.
    pub(crate) fn write(&self, file: &File, mut header: Header, note: &str) -> io::Result<()> {
        let parts: [&[u8]; 8] = [
            cast_slice(self.directions),
            cast_slice(self.centroids),
            cast_slice(self.centroid_heads),
            cast_slice(self.mean_head),
            cast_slice(self.cells),
            cast_slice(self.numbers),
            cast_slice(self.checks),
            cast_slice(self.ids),
        ];
        let rows = self.cells.iter().map(|cell| cell.rows as usize);
        let mut at = header.codes_at() + rows.map(|rows| header.code_bytes(rows)).sum::<u64>();
        let mut hasher = crc32fast::Hasher::new();
        header.index = at;
        for part in parts {
            hasher.update(part);
            file.write_all_at(part, at)?;
            at += part.len() as u64;
        }
        header.index_check = hasher.finalize().into();
        file.sync_all()?;
        header.check = header.checked(note.as_bytes());
        file.write_all_at(note.as_bytes(), HEADER as u64)?;
        file.write_all_at(bytemuck::bytes_of(&header), 0)?;
        file.sync_all()
    }
}

/// The codes of a cell as bytes: what [`read_codes`] reads.
pub(crate) fn code_bytes(coded: &CodedCell) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(cast_slice(&coded.codes));
    [&coded.scales, &coded.bases, &coded.tails].iter().for_each(|lines| bytes.extend_from_slice(cast_slice(lines)));
    coded.radii.iter().for_each(|&(low, high)| bytes.extend_from_slice(cast_slice(&[low, high])));
    bytes
}

fn read_codes(bytes: &[u8], entry: &CellEntry, steps: usize) -> CodedCell {
    let panels = (entry.rows as usize).div_ceil(PANEL);
    let mut bytes = Cursor(bytes);
    let codes = bytes.take(panels * steps);
    let (scales, bases, tails) = (bytes.take(panels), bytes.take(panels), bytes.take(panels));
    let radii = bytes.take::<[f32; 2]>(panels).into_iter().map(|[low, high]| (low, high)).collect();
    CodedCell { head_norm: entry.head_norm, residual: entry.residual, steps, codes, scales, bases, tails, radii }
}

/// Bytes from which values are taken, which are there: the length of the whole was compared before.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<T: Pod>(&mut self, count: usize) -> Vec<T> {
        let (taken, rest) = self.0.split_at(count * size_of::<T>());
        self.0 = rest;
        pod_collect_to_vec(taken)
    }
}

/// A file of which the beginning was read.
#[derive(Debug)]
pub struct Stored {
    file: File,
    header: Header,
    note: String,
}

impl Stored {
    /// Read who the file says it is.
    ///
    /// Errors: a file that cannot be read, was not finished, is damaged or of another format.
    pub fn open(path: &FilePath) -> io::Result<Self> {
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
        }
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut header: [u8; HEADER] = [0; HEADER];
        if length < HEADER as u64 {
            return Err(bad(format!("it has {length} bytes")));
        }
        file.read_exact_at(&mut header, 0)?;
        let header: Header = bytemuck::cast(header);
        if header.magic != MAGIC {
            return Err(bad("it was not finished, or is another kind of file"));
        }
        if header.format != FORMAT {
            return Err(bad(format!("format {}, this outskirt reads {FORMAT}", header.format)));
        }
        if header.note > length - HEADER as u64 {
            return Err(bad("its beginning is damaged"));
        }
        let mut note = vec![0; header.note as usize];
        file.read_exact_at(&mut note, HEADER as u64)?;
        if header.check != header.checked(&note) {
            return Err(bad("its beginning is damaged"));
        }
        if !header.is_possible() {
            return Err(bad("its beginning says what cannot be"));
        }
        let note = String::from_utf8(note).map_err(|_| bad("its beginning is damaged"))?;
        Ok(Self { file, header, note })
    }

    /// What was noted when it was written.
    pub fn note(&self) -> &str {
        &self.note
    }

    /// Most bytes that it takes in memory, with room for so many more rows.
    pub fn bytes_in_memory(&self, more: usize) -> u64 {
        (self.header.rows + more as u64) * self.header.row_bytes() + self.bytes_in_file(more)
    }

    /// The same, where rows stay in the file, but for those that are added.
    pub fn bytes_in_file(&self, more: usize) -> u64 {
        let (header, more) = (self.header, more as u64);
        let codes = 4 * header.steps() as u64 + 3 * 4 + 8;
        let directions = header.head * header.dimension * 4 * 3;
        let cells = (header.cells + more / 64) * (2 * header.row_bytes() + 64 * header.width() as u64 + 64);
        (header.rows + more) * (codes + 32) + more * header.row_bytes() + directions + cells
    }

    /// The bank in memory, with room for so many more rows, and the ids of its rows, ascending.
    ///
    /// Errors: what cannot be read or is not what was written.
    pub fn load(self, path: Path, more: usize) -> io::Result<(Exact, Vec<u64>)> {
        self.bank(path, |stored, checks| {
            let (n, stride) = (stored.header.rows as usize, lines_of(stored.header.dimension as usize));
            let mut lines = Vec::with_capacity((n + more) * stride);
            lines.resize(n * stride, Line([0.0; 16]));
            let some = (CHUNK / (64 * stride)).max(1);
            let read = |(chunk, lines): (usize, &mut [Line])| {
                let first = chunk * some;
                read_rows(&stored.file, stored.header.rows_at(), first, lines, &checks[first..], stride)
            };
            lines.par_chunks_mut(some * stride).enumerate().try_for_each(read)?;
            Ok(Kept::Memory(Rows::of_lines(lines, stored.header.dimension as usize)))
        })
    }

    /// The bank with its rows left in the file, and the ids of its rows, ascending. What searches cannot read they say
    /// afterwards: [`Exact::failure`].
    ///
    /// Errors: as for [`Self::load`]; a path without codes, which would read every row each time.
    pub fn search_in_place(self, path: Path) -> io::Result<(Exact, Vec<u64>)> {
        if path != Path::Avx512Vnni || self.header.coded == 0 {
            return Err(bad("rows stay in a file only where they are coded in 8 bits"));
        }
        self.bank(path, |stored, checks| {
            let (at, dimension) = (stored.header.rows_at(), stored.header.dimension as usize);
            let file = stored.file.try_clone()?;
            let stride = lines_of(dimension);
            Ok(Kept::File(FileRows::new(file, at, stride, checks), Rows::with_capacity(0, dimension)))
        })
    }

    fn bank(self, path: Path, rows: impl FnOnce(&Self, Vec<u32>) -> io::Result<Kept>) -> io::Result<(Exact, Vec<u64>)> {
        let header = self.header;
        let (n, d, cells) = (header.rows as usize, header.dimension as usize, header.cells as usize);
        let length = self.file.metadata()?.len();
        if length < header.index + header.index_bytes() {
            return Err(bad("it was cut off"));
        }
        let mut index = vec![0; (length - header.index) as usize];
        read_in_parts(&self.file, &mut index, header.index)?;
        if u64::from(crc32fast::hash(&index)) != header.index_check {
            return Err(bad("its index is damaged"));
        }
        // a checksum tells chance from what was written, and not who wrote it
        let lies = || bad("its index says what cannot be");
        if index.len() as u64 != header.index_bytes() {
            return Err(lies());
        }
        let mut index = Cursor(&index);
        let (head, width, stride) = (header.head as usize, header.width(), lines_of(d));
        let directions = index.take::<f32>(head * d);
        let centroids = index.take::<Line>(cells * stride);
        let centroid_heads = if head == 0 { centroids.clone() } else { index.take(cells * width) };
        let mean_head = index.take(width);
        let entries = index.take::<CellEntry>(cells);
        let (numbers, checks, ids) = (index.take(n), index.take::<u32>(n), index.take::<u64>(n));
        let lines = [&centroids, &centroid_heads, &mean_head];
        let numbers_fit = are_finite(&directions) && lines.iter().all(|lines| are_finite(floats(lines)));
        if !numbers_fit || !are_cells(&entries, header) || !are_all(&numbers) || !ids.is_sorted_by(|a, b| a < b) {
            return Err(lies());
        }
        let mut first_row = 0;
        let cells = entries.iter().map(|entry| {
            let cell = Cell { first_row, rows: entry.rows as usize, low: entry.low, high: entry.high };
            first_row += cell.rows;
            cell
        });
        let cells: Vec<Cell> = cells.collect();
        let defect = f64::from_bits(header.defect);
        let head = (head > 0).then_some(Head { directions, count: head, defect });
        let rows = rows(&self, checks)?;
        let heads = Some((centroid_heads, mean_head));
        let mut bank = Exact::framed(Parts { path, dimension: d, head, centroids, cells, rows, heads });
        if path == Path::Avx512Vnni {
            match header.coded {
                0 => bank.code_anew(),
                _ => bank.coded = self.codes(&entries)?,
            }
        }
        bank.numbers = Some(numbers);
        Ok((bank, ids))
    }

    fn codes(&self, entries: &[CellEntry]) -> io::Result<Vec<CodedCell>> {
        let mut at = self.header.codes_at();
        let places = entries.iter().map(|entry| {
            let length = self.header.code_bytes(entry.rows as usize);
            at += length;
            (entry, at - length, length as usize)
        });
        let places: Vec<(&CellEntry, u64, usize)> = places.collect();
        let read = |(entry, at, length): (&CellEntry, u64, usize)| {
            let mut bytes = vec![0; length];
            self.file.read_exact_at(&mut bytes, at)?;
            if crc32fast::hash(&bytes) != entry.check {
                return Err(bad("codes are damaged"));
            }
            let coded = read_codes(&bytes, entry, self.header.steps());
            match are_codes(&coded, entry.rows as usize) {
                true => Ok(coded),
                false => Err(bad("its codes say what cannot be")),
            }
        };
        places.into_par_iter().map(read).collect()
    }
}

/// Whether cells have all rows, and lie before the index, with radii that can be.
fn are_cells(entries: &[CellEntry], header: Header) -> bool {
    let rows = || entries.iter().map(|entry| u64::from(entry.rows)).sum::<u64>();
    let codes = || entries.iter().map(|entry| header.code_bytes(entry.rows as usize)).sum::<u64>();
    let is_cell = |entry: &CellEntry| {
        let norms = [entry.low, entry.high, entry.head_norm, entry.residual];
        entry.rows > 0 && norms.iter().all(|norm| (0.0..f32::INFINITY).contains(norm)) && entry.low <= entry.high
    };
    entries.iter().all(is_cell) && rows() == header.rows && header.codes_at() + codes() == header.index
}

/// Whether each of 0..n is there once.
fn are_all(numbers: &[RowNumber]) -> bool {
    let mut found = vec![false; numbers.len()];
    numbers.iter().all(|number| found.get_mut(number.0 as usize).is_some_and(|found| !std::mem::replace(found, true)))
}

/// Whether codes of so many rows can be.
fn are_codes(coded: &CodedCell, rows: usize) -> bool {
    let of_rows = |lines: &[Line]| are_finite(&floats(lines)[..rows]);
    let radii = coded.radii.iter().all(|&(low, high)| low <= high && high.is_finite());
    radii && of_rows(&coded.scales) && of_rows(&coded.bases) && of_rows(&coded.tails)
}

fn read_in_parts(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    bytes
        .par_chunks_mut(CHUNK)
        .enumerate()
        .try_for_each(|(chunk, bytes)| file.read_exact_at(bytes, at + (chunk * CHUNK) as u64))
}

impl Exact {
    /// Why rows could not be read from their file, the last time that some could not; what was found meanwhile is not to be
    /// used: [`Self::failures`].
    pub fn failure(&self) -> Option<String> {
        match &self.rows {
            Kept::Memory(_) => None,
            Kept::File(file, _) => file.failure(),
        }
    }

    /// How many times rows could not be read from their file. Where that is more after a search than it was before, nothing
    /// that it found is to be used; the next search reads again.
    pub fn failures(&self) -> usize {
        match &self.rows {
            Kept::Memory(_) => 0,
            Kept::File(file, _) => file.failures(),
        }
    }

    /// Whether rows stay in a file.
    pub fn is_in_file(&self) -> bool {
        matches!(self.rows, Kept::File(..))
    }

    /// Take rows out and put others in: `numbers` has the number that each row has from now on, of those that are there by
    /// the number it had, `None` where it is taken out; then of those that are added. From 0, each once. Panics where an added
    /// row is not normalised.
    pub fn change(&mut self, rows: &Rows, numbers: &[Option<RowNumber>]) {
        assert_eq!(rows.dimension(), self.dimension, "rows of one dimension");
        check_units(rows);
        let known = self.len();
        assert_eq!(numbers.len(), known + rows.len(), "a number for every row");
        let numbers: Vec<RowNumber> = numbers.iter().map(|number| number.unwrap_or(RowNumber::NONE)).collect();
        let before: Vec<RowNumber> = self.positions().map(|at| self.number(at)).collect();
        let renumbered = |old: RowNumber| if old == RowNumber::NONE { old } else { numbers[old.0 as usize] };
        let now: Vec<RowNumber> = before.into_iter().map(renumbered).collect();
        let is_removed = |number: &RowNumber| *number == RowNumber::NONE;
        for (cell, present) in self.cells.iter().zip(&mut self.present) {
            *present = now[cell.first_row..][..cell.rows].iter().filter(|number| !is_removed(number)).count();
        }
        self.removed = now.iter().filter(|number| is_removed(number)).count();
        for (cell, coded) in self.cells.iter().zip(&mut self.coded) {
            let of_cell = now[cell.first_row..][..cell.rows].iter().enumerate();
            for (row, _) in of_cell.filter(|(_, number)| is_removed(number)) {
                // no comparison with it holds
                coded.bases[row / PANEL].0[row % PANEL] = f32::NAN;
            }
        }
        self.numbers = Some(now);
        self.by_number = OnceLock::new();
        if rows.is_empty() {
            return;
        }
        let order = self.grow(rows, &numbers[known..]);
        let kept = match &mut self.rows {
            Kept::Memory(kept) | Kept::File(_, kept) => kept,
        };
        order.iter().for_each(|&row| kept.push(rows.row(row as usize)));
    }
}
