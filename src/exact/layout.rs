//! How a bank lies in memory: cells of near vectors, rows by radius, and the head of each row in 8 bits.

use std::sync::OnceLock;

use rayon::prelude::*;

use crate::code::{CellRows, CodedCell, PANEL};
use crate::error::{Error, Given};
use crate::frame::{CELL_DIRECTIONS, Frame, compact, means, most_sampled, sample};
use crate::lanes::{Line, Rows, are_finite, floats, lines_of, squared_distance, to_lines};
use crate::numbers::{Position, RowNumber};
use crate::options::Layout;
use crate::path::Path;
use crate::principal::{defect, spread};
use crate::product::{Directions, Table};
use crate::slack::{NORM, RADIUS, Slack};
use crate::storage::{FileRows, Kept};
use crate::vectors::{MOST_NUMBERS, Vectors, is_unit, product, squared};
use crate::work::Counters;

/// Rows per cell of a block.
const BLOCK_CELL: usize = 256;

/// Rows around one centroid.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) first_row: usize,
    pub(crate) rows: usize,
    /// Distances of its rows to its centroid lie in [low, high].
    pub(crate) low: f32,
    pub(crate) high: f32,
}

impl Cell {
    /// The same, with radii of which the squares lie between these.
    pub(crate) fn between(self, least: f32, largest: f32) -> Self {
        Self { low: least.sqrt() * (1.0 - RADIUS), high: largest.sqrt() * (1.0 + RADIUS), ..self }
    }
}

/// Directions along which the first numbers of a row are taken.
#[derive(Debug)]
pub(crate) struct Head {
    /// Orthonormal but for `defect`, count×d.
    pub(crate) directions: Vec<f32>,
    pub(crate) count: usize,
    /// ‖VVᵀ − I‖.
    pub(crate) defect: f64,
}

impl Head {
    /// The first so many of some directions of d numbers.
    pub(crate) fn new((count, mut directions): (usize, Vec<f32>), d: usize) -> Self {
        directions.truncate(count * d);
        spread(&mut directions, d);
        let defect = defect(&directions, d);
        Self { directions, count, defect }
    }
}

/// What a bank is made of before its rows are coded.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) path: Path,
    pub(crate) dimension: usize,
    /// None: the head is the whole row.
    pub(crate) head: Option<Head>,
    /// In lines, one per cell.
    pub(crate) centroids: Vec<Line>,
    pub(crate) cells: Vec<Cell>,
    pub(crate) rows: Kept,
    /// Heads of the centroids, and any vector near the mean of all heads, where they are known already.
    pub(crate) heads: Option<(Vec<Line>, Vec<Line>)>,
}

/// All bank vectors, searched without an approximation: in memory, or in 8 bits there and in f32 in a file.
#[derive(Debug)]
pub struct Exact {
    pub(crate) dimension: usize,
    /// Lines per row.
    pub(crate) stride: usize,
    pub(crate) path: Path,
    pub(crate) rows: Kept,
    /// Number of the row at each position, [`RowNumber::NONE`] where it was taken out; none: they lie as they came.
    pub(crate) numbers: Option<Vec<RowNumber>>,
    /// ‖x‖² / 2 of the row at each position, where norms are not one and the path estimates by products.
    pub(crate) halves: Option<Vec<f32>>,
    /// How many were taken out.
    pub(crate) removed: usize,
    /// Positions by number, made when first asked for.
    pub(crate) by_number: OnceLock<Vec<Position>>,
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
    /// Per cell: rows that were not taken out.
    pub(crate) present: Vec<usize>,
    /// Per cell, where the path estimates in 8 bits.
    pub(crate) coded: Vec<CodedCell>,
    pub(crate) slack: Slack,
    pub(crate) counters: Counters,
}

impl Exact {
    /// A block of a larger bank, to be shown once: quick to lay out. Cells are rows that came together, in that order.
    /// `numbers` are those of the rows among all of the bank's; there may be none. Panics as [`Self::new`].
    pub fn block(rows: Rows, numbers: Vec<RowNumber>, path: Path) -> Self {
        assert_eq!(numbers.len(), rows.len(), "a number for every row");
        check_units(&rows);
        let cell_of: Vec<u32> = (0..rows.len()).map(|row| (row / BLOCK_CELL) as u32).collect();
        let centroids = means(&rows, &cell_of);
        let squares = squares(&rows, &cell_of, &centroids);
        let cells = squares.chunks(BLOCK_CELL).enumerate().map(|(cell, squares)| {
            let low = squares.iter().copied().fold(f32::INFINITY, f32::min);
            let high = squares.iter().copied().fold(0.0, f32::max);
            Cell { first_row: cell * BLOCK_CELL, rows: squares.len(), low: 0.0, high: 0.0 }.between(low, high)
        });
        let cells = cells.collect();
        let (dimension, centroids) = (rows.dimension(), to_lines(Vectors::new(&centroids, rows.dimension())));
        let rows = Kept::Memory(rows);
        let mut bank = Self::framed(Parts { path, dimension, head: None, centroids, cells, rows, heads: None });
        bank.numbers = Some(numbers);
        bank.code(&squares);
        for (coded, cell) in bank.coded.iter_mut().zip(&bank.cells) {
            // rows are not in order of their radius: any panel may hold any
            coded.radii.fill((cell.low, cell.high));
        }
        bank
    }

    /// Take normalised vectors, n ≥ 1, of at most 2¹⁷ numbers, all finite and of norm one (but for rounding: 1 ± 2⁻²⁰).
    /// Panics where they are not: what is skipped is proven for these alone.
    pub fn new(rows: Rows, layout: Layout) -> Self {
        check_units(&rows);
        Self::laid_out(rows, layout)
    }

    /// The same, or why not: the checked constructor. Whatever may be wrong with rows and layout is an error.
    pub fn checked(rows: Rows, layout: Layout) -> Result<Self, Error> {
        fits(rows.len(), rows.dimension(), layout)?;
        match (rows.len(), wrong_unit(&rows)) {
            (0, _) => Err(Error::Empty),
            (_, Some(row)) if !are_finite(rows.row(row)) => Err(Error::NotFinite(Given::Row(row))),
            (_, Some(row)) => Err(Error::NotUnit(Given::Row(row))),
            (_, None) => Ok(Self::laid_out(rows, layout)),
        }
    }

    /// Take surrogates: vectors of norms up to one, n ≥ 1.
    pub(crate) fn of_surrogates(rows: Rows, layout: Layout) -> Self {
        let mut bank = Self::laid_out(rows, layout);
        if let (Path::Avx2 | Path::Portable, Kept::Memory(rows)) = (layout.path, &bank.rows) {
            let half = |row: usize| (product(rows.row(row), rows.row(row)) / 2.0) as f32;
            bank.halves = Some((0..rows.len()).map(half).collect());
        }
        bank
    }

    fn laid_out(mut rows: Rows, layout: Layout) -> Self {
        let (cell_of, head) = cells_of(&rows, layout);
        let (d, path) = (rows.dimension(), layout.path);
        let Sorted { order, squares, cells, centroids } = sorted(&rows, &cell_of, 0);
        rows.permute(&order);
        let (head, rows) = (head.map(|head| Head::new(head, d)), Kept::Memory(rows));
        let mut bank = Self::framed(Parts { path, dimension: d, head, centroids, cells, rows, heads: None });
        bank.code(&squares);
        bank.numbers = Some(order.into_iter().map(RowNumber).collect());
        bank
    }

    /// A bank without codes.
    pub(crate) fn framed(parts: Parts) -> Self {
        let Parts { path, dimension: d, head, centroids, cells, rows, heads } = parts;
        path.assert_available();
        assert!(d <= MOST_NUMBERS, "vectors of at most {MOST_NUMBERS} numbers: beyond, rounding is not bounded");
        let count = head.as_ref().map_or(d, |head| head.count);
        let slack = Slack::new(path, d, head.as_ref().map(|head| head.defect));
        let directions = head.map(|head| Directions::new(path, &head.directions, d));
        let (stride, width) = (lines_of(d), lines_of(count));
        let (centroid_heads, mean_head) = heads.unwrap_or_else(|| {
            let heads = heads_of(path, directions.as_ref(), &centroids);
            let mean = mean_head(&heads, &cells, width);
            (heads, mean)
        });
        Self {
            dimension: d,
            stride,
            path,
            rows,
            numbers: None,
            halves: None,
            removed: 0,
            by_number: OnceLock::new(),
            head: count,
            width,
            mean_head,
            centroid_norms: centroids.chunks_exact(stride).map(squared_norm).collect(),
            centroid_heads,
            directions,
            centroid_table: table(path, &centroids, d),
            centroids,
            present: cells.iter().map(|cell| cell.rows).collect(),
            cells,
            coded: Vec::new(),
            slack,
            counters: Counters::default(),
        }
    }

    /// Put rows into cells of their own beside those that are there, numbered as said. The caller adds them to what is
    /// kept, in the order that is returned.
    pub(crate) fn grow(&mut self, rows: &Rows, numbers: &[RowNumber]) -> Vec<u32> {
        let (d, path, first) = (self.dimension, self.path, self.end());
        let (cell_of, _) = cells_of(rows, Layout { path, ..Layout::default() });
        let Sorted { order, squares, cells, centroids } = sorted(rows, &cell_of, first);
        self.centroid_norms.extend(centroids.chunks_exact(self.stride).map(squared_norm));
        self.centroid_heads.extend(heads_of(path, self.directions.as_ref(), &centroids));
        self.centroids.extend(centroids);
        self.centroid_table = table(path, &self.centroids, d);
        let known = self.cells.len();
        self.present.extend(cells.iter().map(|cell| cell.rows));
        self.cells.extend(cells);
        if path == Path::Avx512Vnni {
            let coded = |number: usize| {
                let cell = self.cells[number];
                let added = cell.first_row - first..cell.first_row - first + cell.rows;
                let lines: Vec<Line> =
                    order[added.clone()].iter().flat_map(|&row| rows.lines(row as usize)).copied().collect();
                self.code_cell(number, heads_of(path, self.directions.as_ref(), &lines), &squares[added])
            };
            let coded: Vec<CodedCell> = (known..self.cells.len()).into_par_iter().map(coded).collect();
            self.coded.extend(coded);
        }
        let all = self.numbers.get_or_insert_with(|| (0..first as u32).map(RowNumber).collect());
        all.extend(order.iter().map(|&row| numbers[row as usize]));
        order
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
        self.end() - self.removed
    }

    /// Whether all vectors were taken out.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All positions, of which some may be empty.
    pub(crate) fn positions(&self) -> impl Iterator<Item = Position> + use<> {
        (0..self.end()).map(Position::new)
    }

    /// The position after the last.
    pub(crate) fn end(&self) -> usize {
        self.cells.last().map_or(0, |cell| cell.first_row + cell.rows)
    }

    /// Numbers per vector.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// The vectors, in the order in which they were given: a copy.
    pub fn to_rows(&self) -> Rows {
        let mut positions: Vec<Position> = self.positions().filter(|&at| self.number(at) != RowNumber::NONE).collect();
        positions.sort_unstable_by_key(|&at| self.number(at));
        let (mut rows, mut scratch) = (Rows::with_capacity(positions.len(), self.dimension), Vec::new());
        positions.iter().for_each(|&at| rows.push(self.values(at, &mut scratch)));
        rows
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

    /// Those rows of a panel that are wanted, each at its place; nothing that means anything at the others.
    #[inline(always)]
    pub(crate) fn panel_rows<'a>(
        &'a self,
        cell: usize,
        panel: usize,
        wanted: u16,
        scratch: &'a mut Vec<Line>,
    ) -> &'a [Line] {
        let cell = &self.cells[cell];
        let (first, count) = (cell.first_row + panel * PANEL, PANEL.min(cell.rows - panel * PANEL));
        self.rows_at(first, count, |file| file.some(first, wanted, scratch))
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
        let first = self.cells[cell].first_row + first;
        self.rows_at(first, count, |file| file.all(first, count, scratch))
    }

    /// Rows of one cell from a position on; `read` takes them from their file where they are there.
    #[inline(always)]
    fn rows_at<'a>(&'a self, first: usize, count: usize, read: impl FnOnce(&'a FileRows) -> &'a [Line]) -> &'a [Line] {
        let stride = self.stride;
        match &self.rows {
            Kept::Memory(rows) => &rows.lines[first * stride..][..count * stride],
            Kept::File(file, added) => match first.checked_sub(file.len()) {
                Some(first) => &added.lines[first * stride..][..count * stride],
                None => read(file),
            },
        }
    }

    /// The vector at a position.
    pub(crate) fn values<'a>(&'a self, at: Position, scratch: &'a mut Vec<Line>) -> &'a [f32] {
        let at = at.index();
        &floats(self.rows_at(at, 1, |file| file.all(at, 1, scratch)))[..self.dimension]
    }

    /// Heads in 8 bits, cell by cell, where the path estimates in them.
    pub(crate) fn code(&mut self, squares: &[f32]) {
        let (Path::Avx512Vnni, Kept::Memory(rows)) = (self.path, &self.rows) else { return };
        let coded = |number: usize| -> CodedCell {
            let cell = &self.cells[number];
            let rows = &rows.lines[cell.first_row * self.stride..][..cell.rows * self.stride];
            let heads = heads_of(self.path, self.directions.as_ref(), rows);
            self.code_cell(number, heads, &squares[cell.first_row..][..cell.rows])
        };
        self.coded = (0..self.cells.len()).into_par_iter().map(coded).collect();
    }

    /// The same, of rows that were laid out before.
    pub(crate) fn code_anew(&mut self) {
        let Kept::Memory(rows) = &self.rows else { return };
        let of_cell = |(number, cell): (usize, &Cell)| {
            self.squares(number, &rows.lines[cell.first_row * self.stride..][..cell.rows * self.stride])
        };
        let squares: Vec<f32> = self.cells.par_iter().enumerate().flat_map_iter(of_cell).collect();
        self.code(&squares);
    }

    /// Squared distance of rows in lines to the centroid of a cell.
    pub(crate) fn squares(&self, cell: usize, rows: &[Line]) -> Vec<f32> {
        let centroid = floats(&self.centroids[cell * self.stride..][..self.stride]);
        rows.chunks_exact(self.stride).map(|row| squared(floats(row), centroid) as f32).collect()
    }

    /// The rows of a cell in 8 bits, by their heads; on a path that estimates in them.
    pub(crate) fn code_cell(&self, number: usize, mut heads: Vec<Line>, squares: &[f32]) -> CodedCell {
        let centre = &self.centroid_heads[number * self.width..][..self.width];
        heads.chunks_exact_mut(self.width).for_each(|head| subtract(head, centre));
        let mut offset = centre.to_vec();
        subtract(&mut offset, &self.mean_head);
        let tail = self.directions.as_ref().map(|_| &self.slack);
        let rows = CellRows { head: self.head, heads: &heads, offset: &offset, squares, tail };
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a path is only used where the processor has its features.
        return unsafe { crate::code::cell(rows) };
        #[cfg(not(target_arch = "x86_64"))]
        unreachable!("no path of this processor estimates in 8 bits")
    }
}

/// Whether so many vectors of so many numbers can be laid out so.
pub(crate) fn fits(n: usize, d: usize, layout: Layout) -> Result<(), Error> {
    if d == 0 || d > MOST_NUMBERS {
        return Err(Error::Dimension { given: d, most: MOST_NUMBERS });
    }
    if n >= u32::MAX as usize {
        return Err(Error::TooMany { rows: n });
    }
    if layout.path.is_available() { Ok(()) } else { Err(Error::Path(layout.path.name())) }
}

/// The first vector that is not of norm one, or of numbers that are not finite.
fn wrong_unit(rows: &Rows) -> Option<usize> {
    (0..rows.len()).into_par_iter().with_min_len(64).find_first(|&row| !is_unit(rows.row(row), NORM))
}

/// Panics where a vector is not of norm one, or of numbers that are not finite.
pub(crate) fn check_units(rows: &Rows) {
    let wrong = wrong_unit(rows);
    assert!(wrong.is_none(), "vectors of norm one: row {} is not", wrong.unwrap_or_default());
}

/// The cell of each row, as a sample of them tells, and directions for heads.
fn cells_of(rows: &Rows, layout: Layout) -> (Vec<u32>, Option<(usize, Vec<f32>)>) {
    let mut sampled = Rows::with_capacity(0, rows.dimension());
    sample(rows.len(), layout).iter().for_each(|&row| sampled.push(rows.row(row)));
    let frame = Frame::of(&sampled, rows.len(), layout);
    drop(sampled);
    let mut cell_of = frame.assign(rows);
    compact(&mut cell_of);
    (cell_of, frame.head)
}

/// Rows in the order in which they will lie.
struct Sorted {
    order: Vec<u32>,
    /// By place in that order, of their radii.
    squares: Vec<f32>,
    cells: Vec<Cell>,
    centroids: Vec<Line>,
}

/// By cell, and in each by radius; the first one's position is given.
fn sorted(rows: &Rows, cell_of: &[u32], mut first_row: usize) -> Sorted {
    let centroids = means(rows, cell_of);
    let squares = squares(rows, cell_of, &centroids);
    let order = by_cell(cell_of, &squares, |row| row);
    let squares: Vec<f32> = order.iter().map(|&row| squares[row as usize]).collect();
    let mut at = 0;
    let cells = order.chunk_by(|&a, &b| cell_of[a as usize] == cell_of[b as usize]).map(|cell| {
        let place = Cell { first_row, rows: cell.len(), low: 0.0, high: 0.0 };
        let place = place.between(squares[at], squares[at + cell.len() - 1]);
        first_row += cell.len();
        at += cell.len();
        place
    });
    let cells = cells.collect();
    Sorted { order, squares, cells, centroids: to_lines(Vectors::new(&centroids, rows.dimension())) }
}

/// Rows by cell, in each by radius, then by number.
pub(crate) fn by_cell<T: Ord>(cell_of: &[u32], squares: &[f32], number: impl Fn(u32) -> T + Sync) -> Vec<u32> {
    let mut order: Vec<u32> = (0..cell_of.len() as u32).collect();
    order.par_sort_unstable_by(|&a, &b| {
        let cells = cell_of[a as usize].cmp(&cell_of[b as usize]);
        cells.then(squares[a as usize].total_cmp(&squares[b as usize])).then_with(|| number(a).cmp(&number(b)))
    });
    order
}

fn table(path: Path, centroids: &[Line], d: usize) -> Table {
    Table::new(path, floats(centroids).chunks_exact(lines_of(d) * 16).map(|row| &row[..d]), d)
}

/// Rows in lines along directions, or as they are.
pub(crate) fn heads_of(path: Path, directions: Option<&Directions>, rows: &[Line]) -> Vec<Line> {
    directions.map_or_else(|| rows.to_vec(), |directions| directions.project(path, rows))
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
