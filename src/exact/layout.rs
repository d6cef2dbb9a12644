//! How a bank lies in memory: cells of near vectors, rows by radius, and the head of each row in 8 bits.

use std::sync::OnceLock;

use rayon::prelude::*;

use crate::code::{CellRows, CodedCell, Given, PANEL};
use crate::frame::{CELL_DIRECTIONS, Frame, compact, means, most_sampled, sample};
use crate::lanes::{Line, Rows, floats, lines_of, squared_distance, sum_error, to_lines};
use crate::packed::PackedCell;
use crate::path::Path;
use crate::principal::{defect, spread};
use crate::product::{Directions, Table, product_error};
use crate::vectors::{Vectors, squared};
use crate::work::Counters;

/// Rows per cell of a block.
const BLOCK_CELL: usize = 256;
/// How to lay a bank out; none of it changes a result.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// The k most searches will ask for.
    pub k: usize,
    /// Number of cells; `None`: chosen from the number of rows.
    pub cells: Option<usize>,
    /// Numbers per row that are coded in 8 bits; `None`: what pays on a sample of the rows.
    pub head: Option<usize>,
    /// Instructions to use.
    pub path: Path,
}

impl Default for Layout {
    fn default() -> Self {
        Self { k: 50, cells: None, head: None, path: Path::detect() }
    }
}

/// Rows around one centroid.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) first_row: usize,
    pub(crate) rows: usize,
    /// Distances of its rows to its centroid lie in [low, high].
    pub(crate) low: f32,
    pub(crate) high: f32,
}

/// Bounds of rounding, all absolute, for vectors of norm at most one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slack {
    /// Of the squared distance between a query and a centroid.
    pub(crate) centroid: f32,
    /// Of the squared norm of a tail.
    pub(crate) tail: f32,
    /// Of the estimate of a squared distance, quantisation apart.
    pub(crate) estimate: f32,
    /// Relative, of a squared distance between rows.
    pub(crate) distance: f32,
    /// Of 2 − 2⟨q, x⟩, what norms that are not quite one make of it.
    pub(crate) norm: f32,
}

impl Cell {
    /// The same, with radii of which the squares lie between these.
    pub(crate) fn between(self, least: f32, largest: f32) -> Self {
        Self { low: least.sqrt() * (1.0 - 1e-6), high: largest.sqrt() * (1.0 + 1e-6), ..self }
    }
}

/// Rows cell by cell, in each by radius.
#[derive(Debug)]
pub(crate) enum Kept {
    Full(Rows),
    Packed(Vec<PackedCell>),
}

/// All bank vectors in memory, searched without an approximation.
#[derive(Debug)]
pub struct Exact {
    pub(crate) dimension: usize,
    /// Lines per row.
    pub(crate) stride: usize,
    pub(crate) path: Path,
    pub(crate) rows: Kept,
    /// Number of the row at each position, as rows were given; none: they lie as they came.
    pub(crate) order: Option<Vec<u32>>,
    /// Position of each number, made when first asked for.
    pub(crate) positions: OnceLock<Vec<u32>>,
    error: f32,
    /// Orthonormal directions onto which heads are projected; none: the head is the whole row.
    pub(crate) directions: Option<Directions>,
    /// Numbers per head, and lines.
    pub(crate) head: usize,
    pub(crate) width: usize,
    pub(crate) centroids: Vec<Line>,
    pub(crate) centroid_table: Table,
    pub(crate) centroid_norms: Vec<f32>,
    pub(crate) centroid_heads: Vec<Line>,
    /// The mean of all heads.
    pub(crate) mean_head: Vec<Line>,
    pub(crate) cells: Vec<Cell>,
    /// Per cell, where the path estimates in 8 bits.
    pub(crate) coded: Vec<CodedCell>,
    pub(crate) slack: Slack,
    pub(crate) counters: Counters,
}

impl Exact {
    /// A block of a larger bank, to be shown once: quick to lay out. Cells are rows that came together, in that order.
    pub fn block(rows: Rows, path: Path) -> Self {
        let cell_of: Vec<u32> = (0..rows.len()).map(|row| (row / BLOCK_CELL) as u32).collect();
        let centroids = means(&rows, &cell_of);
        let squares = squares(&rows, &cell_of, &centroids);
        let cells = squares.chunks(BLOCK_CELL).enumerate().map(|(cell, squares)| {
            let low = squares.iter().copied().fold(f32::INFINITY, f32::min);
            let high = squares.iter().copied().fold(0.0, f32::max);
            Cell { first_row: cell * BLOCK_CELL, rows: squares.len(), low: 0.0, high: 0.0 }.between(low, high)
        });
        let cells = cells.collect();
        let mut bank = Self::framed(path, rows.dimension(), None, centroids, cells, Kept::Full(rows), 0.0);
        bank.code(&squares);
        for (coded, cell) in bank.coded.iter_mut().zip(&bank.cells) {
            // rows are not in order of their radius: any panel may hold any
            coded.radii.fill((cell.low, cell.high));
        }
        bank
    }

    /// Take normalised vectors, n ≥ 1, all finite and of norm one (but for rounding).
    pub fn new(rows: Rows, layout: Layout) -> Self {
        let mut sampled = Rows::with_capacity(0, rows.dimension());
        sample(rows.len(), layout).iter().for_each(|&row| sampled.push(rows.row(row)));
        let frame = Frame::of(&sampled, rows.len(), layout, usize::MAX);
        drop(sampled);
        let mut cell_of = frame.assign(&rows);
        compact(&mut cell_of);
        Self::laid_out(rows, layout.path, &cell_of, frame.head)
    }

    /// Rows in cells, along a head of the given length and directions; none: the head is the whole row.
    fn laid_out(mut rows: Rows, path: Path, cell_of: &[u32], head: Option<(usize, Vec<f32>)>) -> Self {
        let (n, d) = (rows.len(), rows.dimension());
        let centroids = means(&rows, cell_of);
        let squares = squares(&rows, cell_of, &centroids);
        let mut order: Vec<u32> = (0..n as u32).collect();
        order.par_sort_unstable_by(|&a, &b| {
            let key = |row: u32| (cell_of[row as usize], squares[row as usize], row);
            let (a, b) = (key(a), key(b));
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2))
        });
        rows.permute(&order);
        let squares: Vec<f32> = order.iter().map(|&row| squares[row as usize]).collect();
        let mut first_row = 0;
        let cells = order.chunk_by(|&a, &b| cell_of[a as usize] == cell_of[b as usize]).map(|cell| {
            let place = Cell { first_row, rows: cell.len(), low: 0.0, high: 0.0 };
            first_row += cell.len();
            place.between(squares[place.first_row], squares[first_row - 1])
        });
        let cells = cells.collect();
        let mut bank = Self::framed(path, d, head, centroids, cells, Kept::Full(rows), 0.0);
        bank.code(&squares);
        bank.order = Some(order);
        bank
    }

    /// A bank without codes; `error` is how far rows are from those that were given, at most.
    pub(crate) fn framed(
        path: Path,
        d: usize,
        head: Option<(usize, Vec<f32>)>,
        centroids: Vec<f32>,
        cells: Vec<Cell>,
        rows: Kept,
        error: f32,
    ) -> Self {
        assert!(path.is_available(), "this processor has no {}", path.name());
        let centroids = to_lines(Vectors::new(&centroids, d));
        let (head, directions) = match head {
            Some((head, mut directions)) => {
                directions.truncate(head * d);
                spread(&mut directions, d);
                (head, Some(directions))
            }
            None => (d, None),
        };
        let slack = slack(d, head, directions.as_ref().map(|directions| defect(directions, d)), error);
        let directions = directions.map(|directions| Directions::new(path, &directions, d));
        let (stride, width) = (lines_of(d), lines_of(head));
        let centroid_heads = match &directions {
            Some(directions) => directions.project(path, &centroids),
            None => centroids.clone(),
        };
        Self {
            dimension: d,
            stride,
            path,
            rows,
            order: None,
            positions: OnceLock::new(),
            error,
            head,
            width,
            mean_head: mean_head(&centroid_heads, &cells, width),
            centroid_norms: centroids.chunks_exact(stride).map(squared_norm).collect(),
            centroid_heads,
            directions,
            centroid_table: Table::new(path, floats(&centroids).chunks_exact(stride * 16).map(|row| &row[..d]), d),
            centroids,
            cells,
            coded: Vec::new(),
            slack,
            counters: Counters::default(),
        }
    }

    /// Most bytes that n vectors of d numbers take while they are laid out: in f32, in 8 bits, along directions, and the
    /// copies of a sample.
    pub fn bytes(n: usize, d: usize) -> u64 {
        let (line, sample) = (64 * lines_of(d) as u64, most_sampled(n) as u64);
        n as u64 * (line + d as u64 + 4 * d.min(CELL_DIRECTIONS) as u64 + 128) + 3 * sample * line
    }

    /// Most bytes that each vector of a [`Self::block`] takes.
    pub fn block_bytes(d: usize) -> u64 {
        64 * lines_of(d) as u64 + d as u64 + 128
    }

    /// Number of vectors.
    pub fn len(&self) -> usize {
        self.cells.last().map_or(0, |cell| cell.first_row + cell.rows)
    }

    /// Never: a bank has at least one vector.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// How far a vector is from the one that was given, at most, and with it any distance that is found: zero, unless
    /// the bank is packed.
    pub fn error(&self) -> f32 {
        self.error
    }

    /// Numbers per vector.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// The instructions it searches with.
    pub fn path(&self) -> Path {
        self.path
    }

    /// Numbers per row that are compared in 8 bits first, and cells, in words.
    pub fn describe(&self) -> String {
        let (cells, head, d) = (self.cells.len(), self.head, self.dimension);
        format!("{}, {cells} cells, head {head} of {d}", self.path.name())
    }

    /// A row of a cell in lines: as it lies, or unpacked.
    #[inline(always)]
    pub(crate) fn row<'a>(&'a self, cell: usize, index: usize, scratch: &'a mut Vec<Line>) -> &'a [Line] {
        match &self.rows {
            Kept::Full(rows) => rows.lines(self.cells[cell].first_row + index),
            Kept::Packed(_) => self.some_rows(cell, index, 1, scratch),
        }
    }

    /// Rows of a cell, one after the other.
    #[inline(always)]
    pub(crate) fn some_rows<'a>(
        &'a self,
        cell: usize,
        first: usize,
        count: usize,
        scratch: &'a mut Vec<Line>,
    ) -> &'a [Line] {
        let stride = self.stride;
        match &self.rows {
            Kept::Full(rows) => &rows.lines[(self.cells[cell].first_row + first) * stride..][..count * stride],
            Kept::Packed(cells) => {
                scratch.clear();
                for index in first..first + count {
                    let packed = &cells[cell];
                    let high = match &packed.panels[index / PANEL].high {
                        shared if shared.is_empty() => &self.coded[cell].codes[index / PANEL],
                        own => own,
                    };
                    packed.unpack(self.path, index, high, &self.centroids[cell * stride..][..stride], scratch);
                }
                scratch
            }
        }
    }

    /// The vector at a position.
    pub(crate) fn values<'a>(&'a self, position: usize, scratch: &'a mut Vec<Line>) -> &'a [f32] {
        match &self.rows {
            Kept::Full(rows) => rows.row(position),
            Kept::Packed(_) => {
                let cell = self.cells.partition_point(|cell| cell.first_row <= position) - 1;
                &floats(self.row(cell, position - self.cells[cell].first_row, scratch))[..self.dimension]
            }
        }
    }

    /// Heads in 8 bits, cell by cell, where the path estimates in them.
    fn code(&mut self, squares: &[f32]) {
        let (Path::Avx512Vnni, Kept::Full(rows)) = (self.path, &self.rows) else { return };
        let coded = |number: usize| -> CodedCell {
            let cell = &self.cells[number];
            let rows = &rows.lines[cell.first_row * self.stride..][..cell.rows * self.stride];
            let heads = match &self.directions {
                Some(directions) => directions.project(self.path, rows),
                None => rows.to_vec(),
            };
            self.code_cell(number, heads, &squares[cell.first_row..][..cell.rows], None)
        };
        self.coded = (0..self.cells.len()).into_par_iter().map(coded).collect();
    }

    /// The rows of a cell in 8 bits, by their heads; on a path that estimates in them.
    pub(crate) fn code_cell(
        &self,
        number: usize,
        mut heads: Vec<Line>,
        squares: &[f32],
        given: Option<Given>,
    ) -> CodedCell {
        let centre = &self.centroid_heads[number * self.width..][..self.width];
        heads.chunks_exact_mut(self.width).for_each(|head| subtract(head, centre));
        let mut offset = centre.to_vec();
        subtract(&mut offset, &self.mean_head);
        let tail = self.directions.as_ref().map(|_| self.slack.tail);
        let rows = CellRows { head: self.head, heads: &heads, offset: &offset, squares, tail };
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a path is only used where the processor has its features.
        return unsafe { crate::code::cell(rows, given) };
        #[cfg(not(target_arch = "x86_64"))]
        unreachable!("no path of this processor estimates in 8 bits")
    }
}

/// Squared distance of each row to the centroid of its cell.
fn squares(rows: &Rows, cell_of: &[u32], centroids: &[f32]) -> Vec<f32> {
    let d = rows.dimension();
    let square = |row: usize| squared(rows.row(row), &centroids[cell_of[row] as usize * d..][..d]) as f32;
    (0..rows.len()).into_par_iter().with_min_len(64).map(square).collect()
}

pub(crate) fn subtract(from: &mut [Line], what: &[Line]) {
    for (line, what) in from.iter_mut().zip(what) {
        line.0.iter_mut().zip(&what.0).for_each(|(value, what)| *value -= what);
    }
}

/// Mean of the heads of all rows, by those of the centroids. Any vector would do: near the rows, codes miss least.
fn mean_head(centroid_heads: &[Line], cells: &[Cell], width: usize) -> Vec<Line> {
    let rows: usize = cells.iter().map(|cell| cell.rows).sum();
    let mut mean = vec![Line([0.0; 16]); width];
    for (head, cell) in centroid_heads.chunks_exact(width).zip(cells) {
        let share = cell.rows as f32 / rows as f32;
        for (mean, line) in mean.iter_mut().zip(head) {
            mean.0.iter_mut().zip(&line.0).for_each(|(mean, value)| *mean += share * value);
        }
    }
    mean
}

fn squared_norm(row: &[Line]) -> f32 {
    let zero = vec![Line([0.0; 16]); row.len()];
    squared_distance::<false>(row, &zero)
}

/// Bounds of every rounding between a query and a row, both of norm ≤ 1 + 2⁻²⁰, c a mean of such rows; V the
/// directions with ‖VVᵀ − I‖ = δ. With y = q − c and z = x − c (norms ≤ 2): ⟨y, z⟩ = ⟨Vy, Vz⟩ + ⟨tails⟩ + O(δ).
fn slack(d: usize, head: usize, defect: Option<f64>, error: f32) -> Slack {
    let (sum, any) = (sum_error(d), product_error(d));
    // coordinates along V: one rounded sum each, for the vector and for the centroid, and their difference
    let coordinates = if defect.is_some() { 3.0 * (head as f64).sqrt() * any } else { 16.0 * 2f64.powi(-24) };
    let defect = defect.unwrap_or(0.0);
    let centroid = 4.0 * any;
    let tail = centroid + 5.0 * coordinates + 5.0 * defect + 4.0 * sum;
    let estimate = centroid + 10.0 * coordinates + 16.0 * defect + 1.2e-5;
    let up = |value: f64| (value * 1.01) as f32;
    let norm = up(4e-6 + 2.1 * f64::from(error));
    Slack { centroid: up(centroid), tail: up(tail), estimate: up(estimate), distance: up(2.0 * sum), norm }
}
