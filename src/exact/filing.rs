//! A bank written into a file without being in memory: its rows come three times, in the same order. First a sample of
//! them tells directions and centroids, then each finds its cell, then each is written where it will lie.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path as FilePath;

use bytemuck::cast_slice;
use rayon::prelude::*;

use crate::file::{CellEntry, Header, IndexOf, code_bytes};
use crate::frame::{Frame, most_sampled, sample};
use crate::lanes::{Line, Rows, floats, lines_of, to_lines};
use crate::layout::{Cell, Exact, Head, Parts, by_cell, heads_of};
use crate::numbers::{Position, RowNumber};
use crate::options::Layout;
use crate::path::Path;
use crate::slack::NORM;
use crate::storage::Kept;
use crate::vectors::{Vectors, is_unit, squared};

/// Rows that find their cells together, on all threads.
const BATCH: usize = 4096;
/// Rows of a cell, at most: one is in memory per thread. A larger one becomes several around one centroid.
const MOST: usize = 8192;

/// The first reading of a bank's rows: some of them are kept, to see where all lie.
#[derive(Debug)]
pub struct Sampling {
    layout: Layout,
    n: usize,
    seen: usize,
    /// Of the rows to keep, those that have not come yet.
    wanted: std::vec::IntoIter<usize>,
    next: Option<usize>,
    rows: Rows,
}

impl Sampling {
    /// Most bytes that writing n vectors of d numbers takes: the copies of a sample, or later what is known of each row
    /// and a cell per thread.
    pub fn bytes(n: usize, d: usize) -> u64 {
        let (line, threads) = (64 * lines_of(d) as u64, rayon::current_num_threads() as u64);
        let cells = 3 * (MOST.min(n) as u64) * line * threads;
        64 * n as u64 + BATCH as u64 * 2 * line + (3 * most_sampled(n) as u64 * line).max(cells)
    }

    /// For n ≥ 1 rows of d numbers.
    pub fn new(n: usize, d: usize, layout: Layout) -> Self {
        let wanted = sample(n, layout);
        let rows = Rows::with_capacity(wanted.len(), d);
        let mut wanted = wanted.into_iter();
        Self { layout, n, seen: 0, next: wanted.next(), wanted, rows }
    }

    /// The next row.
    pub fn see(&mut self, row: &[f32]) {
        if self.next == Some(self.seen) {
            self.rows.push(row);
            self.next = self.wanted.next();
        }
        self.seen += 1;
    }

    /// All rows were seen: they can come again. Panics where they were not n.
    pub fn placing(self) -> Placing {
        assert_eq!(self.seen, self.n, "n rows");
        let frame = Frame::of(&self.rows, self.n, self.layout);
        let d = self.rows.dimension();
        Placing {
            centroids: to_lines(Vectors::new(&frame.centroids, d)),
            waiting: Rows::with_capacity(BATCH.min(self.n), d),
            cell_of: Vec::with_capacity(self.n),
            squares: Vec::with_capacity(self.n),
            ids: Vec::with_capacity(self.n),
            n: self.n,
            frame,
        }
    }
}

/// The second reading: each row finds its cell.
#[derive(Debug)]
pub struct Placing {
    frame: Frame,
    centroids: Vec<Line>,
    waiting: Rows,
    cell_of: Vec<u32>,
    /// Of the radii.
    squares: Vec<f32>,
    ids: Vec<u64>,
    n: usize,
}

impl Placing {
    /// The next row, and an id of the caller's that no other has. Rows are numbered by their ids, ascending. Panics where the
    /// row is not normalised.
    pub fn place(&mut self, id: u64, row: &[f32]) {
        assert!(is_unit(row, NORM), "vectors of norm one: that of id {id} is not");
        self.ids.push(id);
        self.waiting.push(row);
        if self.waiting.len() == BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let stride = lines_of(self.waiting.dimension());
        let cell_of = self.frame.assign(&self.waiting);
        let rows = self.waiting.lines.par_chunks(stride).zip(&cell_of).with_min_len(64);
        let radius = |(row, &cell): (&[Line], &u32)| {
            squared(floats(row), floats(&self.centroids[cell as usize * stride..][..stride])) as f32
        };
        self.squares.par_extend(rows.map(radius));
        self.cell_of.extend(cell_of);
        self.waiting.clear();
    }

    /// All rows were placed: they can come a last time, into a file that is created here, with a note of the caller's.
    /// Panics where they were not n.
    ///
    /// Errors: a file that cannot be written.
    pub fn filing(mut self, path: &FilePath, note: &str) -> io::Result<Filing> {
        if !self.waiting.is_empty() {
            self.flush();
        }
        assert_eq!(self.ids.len(), self.n, "n rows");
        let d = self.waiting.dimension();
        let stride = lines_of(d);
        let order = by_cell(&self.cell_of, &self.squares, |row| self.ids[row as usize]);
        let (mut cells, mut centroids, mut first_row) = (Vec::new(), Vec::new(), 0);
        for cell in order.chunk_by(|&a, &b| self.cell_of[a as usize] == self.cell_of[b as usize]) {
            let centroid = &self.centroids[self.cell_of[cell[0] as usize] as usize * stride..][..stride];
            for cell in cell.chunks(MOST) {
                let square = |row: Option<&u32>| row.map_or(0.0, |&row| self.squares[row as usize]);
                let place = Cell { first_row, rows: cell.len(), low: 0.0, high: 0.0 };
                cells.push(place.between(square(cell.first()), square(cell.last())));
                centroids.extend_from_slice(centroid);
                first_row += cell.len();
            }
        }
        let mut positions = vec![Position::NONE; self.n];
        order.iter().enumerate().for_each(|(at, &row)| positions[row as usize] = Position::new(at));
        let mut by_id: Vec<u32> = (0..self.n as u32).collect();
        by_id.par_sort_unstable_by_key(|&row| self.ids[row as usize]);
        let mut numbers = vec![RowNumber::NONE; self.n];
        (0..).zip(&by_id).for_each(|(number, &row)| numbers[positions[row as usize].index()] = RowNumber(number));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        let head = self.frame.head.map(|head| Head::new(head, d));
        let mut header = Header::new(self.n, d, note);
        let mut directions = Vec::new();
        if let Some(head) = &head {
            (header.head, header.defect) = (head.count as u64, head.defect.to_bits());
            directions.clone_from(&head.directions);
        }
        header.cells = cells.len() as u64;
        header.coded = (self.frame.path == Path::Avx512Vnni).into();
        let rows = Kept::Memory(Rows::with_capacity(0, d));
        let parts = Parts { path: self.frame.path, dimension: d, head, centroids, cells, rows, heads: None };
        Ok(Filing {
            file,
            header,
            note: note.to_owned(),
            bank: Exact::framed(parts),
            directions,
            positions,
            numbers,
            ids: by_id.into_iter().map(|row| self.ids[row as usize]).collect(),
            row: Rows::with_capacity(1, d),
            written: 0,
        })
    }
}

/// The third reading: each row is written where it will lie.
#[derive(Debug)]
pub struct Filing {
    file: File,
    header: Header,
    note: String,
    /// Without rows and codes.
    bank: Exact,
    directions: Vec<f32>,
    /// By turn in which rows come.
    positions: Vec<Position>,
    /// By position.
    numbers: Vec<RowNumber>,
    ids: Vec<u64>,
    row: Rows,
    written: usize,
}

impl Filing {
    /// The next row. Panics beyond n.
    ///
    /// Errors: a file that cannot be written.
    pub fn add(&mut self, row: &[f32]) -> io::Result<()> {
        self.row.clear();
        self.row.push(row);
        let place = u64::from(self.positions[self.written].0) * self.header.row_bytes();
        self.written += 1;
        self.file.write_all_at(cast_slice(&self.row.lines), self.header.rows_at() + place)
    }

    /// All rows were written: they are coded, and the file is whole. Panics where they were not n.
    ///
    /// Errors: a file that cannot be read or written.
    pub fn finish(self) -> io::Result<()> {
        assert_eq!(self.written, self.positions.len(), "n rows");
        let (header, bank) = (self.header, &self.bank);
        let mut at = header.codes_at();
        let places = bank.cells.iter().enumerate().map(|(number, cell)| {
            let length = header.code_bytes(cell.rows);
            at += length;
            (number, at - length)
        });
        let places: Vec<(usize, u64)> = places.collect();
        let coded: Vec<(CellEntry, Vec<u32>)> =
            places.into_par_iter().map(|(number, at)| self.code(number, at)).collect::<io::Result<_>>()?;
        let (cells, checks): (Vec<CellEntry>, Vec<Vec<u32>>) = coded.into_iter().unzip();
        let index = IndexOf {
            directions: &self.directions,
            centroids: &bank.centroids,
            centroid_heads: if header.head == 0 { &[] } else { &bank.centroid_heads },
            mean_head: &bank.mean_head,
            cells: &cells,
            numbers: &self.numbers,
            checks: &checks.concat(),
            ids: &self.ids,
        };
        index.write(&self.file, header, &self.note)
    }

    /// Read the rows of a cell, and write their codes.
    fn code(&self, number: usize, at: u64) -> io::Result<(CellEntry, Vec<u32>)> {
        let (bank, cell, stride) = (&self.bank, self.bank.cells[number], self.bank.stride);
        let mut lines = vec![Line([0.0; 16]); cell.rows * stride];
        let place = self.header.rows_at() + cell.first_row as u64 * self.header.row_bytes();
        self.file.read_exact_at(bytemuck::cast_slice_mut(&mut lines), place)?;
        let checks = lines.chunks_exact(stride).map(|row| crc32fast::hash(cast_slice(row))).collect();
        let (rows, low, high) = (cell.rows as u32, cell.low, cell.high);
        let mut entry = CellEntry { rows, low, high, head_norm: 0.0, residual: 0.0, check: 0 };
        if self.header.coded != 0 {
            let squares = bank.squares(number, &lines);
            let coded = bank.code_cell(number, heads_of(bank.path, bank.directions.as_ref(), &lines), &squares);
            let bytes = code_bytes(&coded);
            (entry.head_norm, entry.residual) = (coded.head_norm, coded.residual);
            entry.check = crc32fast::hash(&bytes);
            self.file.write_all_at(&bytes, at)?;
        }
        Ok((entry, checks))
    }
}
