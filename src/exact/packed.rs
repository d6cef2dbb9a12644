//! Rows in 20 bits a number: for banks that would not fit in f32.
//!
//! A row x of a cell with centroid c is kept as whole multiples i of a step s of its own: x̂ = c + s·i, i within
//! ±127·2¹². How far x̂ may be from x is measured, and the search is exact among the x̂: distances differ from those to the
//! rows that were given by no more than that ([`Exact::error`]), by the triangle inequality. The upper 8 bits of i are
//! codes as the rest of the package uses them; where heads are whole rows both are one.
//!
//! The rows come twice: once so that a sample tells directions and centroids, once to be packed.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use rayon::prelude::*;

use crate::code::{Code, CodedCell, PANEL};
use crate::frame::{Frame, most_sampled, sample};
use crate::lanes::{Line, Rows, floats, lines_of, to_lines};
use crate::layout::{Cell, Exact, Kept, Layout};
use crate::path::Path;
use crate::vectors::{Vectors, squared};
#[cfg(target_arch = "x86_64")]
use crate::wide::load;

/// Values of the lower 12 bits, and the largest of the upper 8.
const LOWER: i32 = 1 << 12;
const MOST: i32 = 127 * LOWER;
/// Lower bits of one line: 16 bytes and 16 half bytes.
const LOW: usize = 24;
/// Rows that are packed together, on all threads.
const BATCH: usize = 4096;

/// Numbers per head: codes of their own, beside the 2.5 bytes that a number takes already.
fn most_head(d: usize) -> usize {
    (d / 4).max(16)
}

/// Sixteen rows: upper bits as codes, lower bits row by row.
#[derive(Debug)]
pub(crate) struct Panel {
    /// Empty where the cell's codes are the same.
    pub(crate) high: Box<[Code]>,
    low: Box<[u8]>,
}

/// The rows of one cell, the step of each, and its number among all rows.
#[derive(Debug, Default)]
pub(crate) struct PackedCell {
    pub(crate) panels: Vec<Panel>,
    steps: Vec<f32>,
    numbers: Vec<u32>,
}

/// Room in which a cell is sorted, for one cell after the other: a new one each time would be new pages each time.
#[derive(Default)]
struct Scratch {
    lines: Vec<Line>,
    high: Vec<u8>,
    low: Vec<u8>,
}

/// One row on its way into a panel.
struct Row<'a> {
    step: f32,
    /// 16 and [`LOW`] bytes per line.
    high: &'a [u8],
    low: &'a [u8],
}

impl PackedCell {
    fn push(&mut self, number: u32, row: Row<'_>) {
        let lines = row.high.len() / 16;
        let lane = self.steps.len() % PANEL;
        if lane == 0 {
            let (high, low) = (vec![Code([128; 64]); lines * 4], vec![0; PANEL * lines * LOW]);
            self.panels.push(Panel { high: high.into(), low: low.into() });
        }
        self.steps.push(row.step);
        self.numbers.push(number);
        self.set(self.steps.len() - 1, row);
    }

    fn set(&mut self, index: usize, row: Row<'_>) {
        let (panel, lane) = (&mut self.panels[index / PANEL], index % PANEL);
        for (code, bytes) in panel.high.iter_mut().zip(row.high.as_chunks::<4>().0) {
            code.0[lane * 4..][..4].copy_from_slice(bytes);
        }
        panel.low[lane * row.low.len()..][..row.low.len()].copy_from_slice(row.low);
        self.steps[index] = row.step;
    }

    /// Upper and lower bits of a row, as [`Row`] has them.
    fn get(&self, index: usize, high: &mut Vec<u8>, low: &mut Vec<u8>) {
        let (panel, lane) = (&self.panels[index / PANEL], index % PANEL);
        panel.high.iter().for_each(|code| high.extend_from_slice(&code.0[lane * 4..][..4]));
        let length = panel.low.len() / PANEL;
        low.extend_from_slice(&panel.low[lane * length..][..length]);
    }

    /// A row in f32, appended to `out`; `high` are the codes of its panel.
    #[inline(always)]
    pub(crate) fn unpack(&self, path: Path, index: usize, high: &[Code], centroid: &[Line], out: &mut Vec<Line>) {
        let (lane, step) = (index % PANEL, self.steps[index]);
        let low = &self.panels[index / PANEL].low[lane * centroid.len() * LOW..];
        let first = out.len();
        out.resize(first + centroid.len(), Line([0.0; 16]));
        let lines = high.as_chunks::<4>().0.iter().zip(low.as_chunks::<LOW>().0).zip(centroid).zip(&mut out[first..]);
        match path {
            // SAFETY: a path is only used where the processor has its features.
            #[cfg(target_arch = "x86_64")]
            Path::Avx512Vnni => unsafe { unpack_avx512(lines, lane, step) },
            _ => lines
                .for_each(|(((codes, low), centre), out)| *out = unpack(&row_codes(codes, lane), low, step, centre)),
        }
    }

    /// Put the rows in order of their distance to the centroid; all of them in f32, and squares of those distances.
    fn sort(&mut self, path: Path, centroid: &[Line], scratch: &mut Scratch) -> (Vec<Line>, Vec<f32>) {
        let (stride, rows) = (centroid.len(), self.steps.len());
        let Scratch { lines, high, low } = scratch;
        lines.clear();
        high.clear();
        low.clear();
        (0..rows).for_each(|index| self.unpack(path, index, &self.panels[index / PANEL].high, centroid, lines));
        let square = |row| squared(floats(row), floats(centroid)) as f32;
        let squares: Vec<f32> = lines.chunks_exact(stride).map(square).collect();
        let mut order: Vec<usize> = (0..rows).collect();
        order.sort_by(|&a, &b| squares[a].total_cmp(&squares[b]));
        let (steps, numbers) = (self.steps.clone(), self.numbers.clone());
        order.iter().for_each(|&from| self.get(from, high, low));
        let bytes = high.chunks_exact(stride * 16).zip(low.chunks_exact(stride * LOW));
        for (to, (&from, (high, low))) in order.iter().zip(bytes).enumerate() {
            self.set(to, Row { step: steps[from], high, low });
            self.numbers[to] = numbers[from];
        }
        let sorted = order.iter().flat_map(|&from| &lines[from * stride..][..stride]).copied().collect();
        (sorted, order.iter().map(|&from| squares[from]).collect())
    }
}

/// The codes of one row in four steps of a panel.
#[inline(always)]
fn row_codes(codes: &[Code; 4], lane: usize) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (part, code) in codes.iter().enumerate() {
        bytes[part * 4..][..4].copy_from_slice(&code.0[lane * 4..][..4]);
    }
    bytes
}

/// What [`unpack`] does, for a whole row.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma")]
fn unpack_avx512<'a>(
    lines: impl Iterator<Item = (((&'a [Code; 4], &'a [u8; LOW]), &'a Line), &'a mut Line)>,
    lane: usize,
    step: f32,
) {
    let (step, half) = (_mm512_set1_ps(step), _mm512_set1_epi32(128 * LOWER + LOWER / 2));
    for (((codes, low), centre), out) in lines {
        let high = _mm512_cvtepu8_epi32(bytes(&row_codes(codes, lane)));
        let (lower, upper) = low.split_at(16);
        let lower = _mm512_cvtepu8_epi32(bytes(lower.as_chunks().0.first().unwrap_or(&[0; 16])));
        let nibbles = _mm_cvtsi64_si128(i64::from_le_bytes(*upper.as_chunks().0.first().unwrap_or(&[0; 8])));
        let nibbles = _mm_and_si128(_mm_unpacklo_epi64(nibbles, _mm_srli_epi16::<4>(nibbles)), _mm_set1_epi8(15));
        let lower = _mm512_or_si512(lower, _mm512_slli_epi32::<8>(_mm512_cvtepu8_epi32(nibbles)));
        let whole = _mm512_sub_epi32(_mm512_or_si512(_mm512_slli_epi32::<12>(high), lower), half);
        let line = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole), step, load(centre));
        // SAFETY: a line is 64 bytes at an address divisible by 64.
        unsafe { _mm512_store_ps(out.0.as_mut_ptr(), line) };
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
fn bytes(of: &[u8; 16]) -> __m128i {
    // SAFETY: sixteen bytes are there.
    unsafe { _mm_loadu_si128(of.as_ptr().cast()) }
}

/// c + s·i for sixteen numbers.
#[inline(always)]
fn unpack(high: &[u8; 16], low: &[u8; LOW], step: f32, centre: &Line) -> Line {
    let mut out = Line([0.0; 16]);
    for half in 0..2 {
        for lane in 0..8 {
            let j = half * 8 + lane;
            let lower = i32::from(low[j]) | (i32::from(low[16 + lane] >> (4 * half) & 15) << 8);
            let whole = (i32::from(high[j]) - 128) * LOWER + lower - LOWER / 2;
            out.0[j] = (whole as f32).mul_add(step, centre.0[j]);
        }
    }
    out
}

/// The bits and the step of a row, and the square of its distance to what they say.
#[inline(always)]
fn pack(row: &[Line], centroid: &[Line], high: &mut [u8], low: &mut [u8]) -> (f32, f64) {
    let mut most = [0.0f32; 16];
    for (x, c) in row.iter().zip(centroid) {
        (0..16).for_each(|j| most[j] = most[j].max((x.0[j] - c.0[j]).abs()));
    }
    let step = most.into_iter().fold(0.0, f32::max) / MOST as f32;
    let step = if step > f32::MIN_POSITIVE { step } else { 0.0 };
    let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
    let mut squares = [0.0f64; 16];
    let bytes = high.as_chunks_mut::<16>().0.iter_mut().zip(low.as_chunks_mut::<LOW>().0);
    for ((x, c), (high, low)) in row.iter().zip(centroid).zip(bytes) {
        *low = [0; LOW];
        for half in 0..2 {
            for lane in 0..8 {
                let j = half * 8 + lane;
                let whole = ((x.0[j] - c.0[j]) * inverse).round_ties_even().clamp(-MOST as f32, MOST as f32) as i32;
                let upper = (whole + LOWER / 2) >> 12;
                let lower = whole - upper * LOWER + LOWER / 2;
                high[j] = (upper + 128) as u8;
                low[j] = lower as u8;
                low[16 + lane] |= ((lower >> 8) as u8) << (4 * half);
            }
        }
        let kept = unpack(high, low, step, c);
        (0..16).for_each(|j| squares[j] += (f64::from(x.0[j]) - f64::from(kept.0[j])).powi(2));
    }
    (step, squares.iter().sum())
}

fn pack_on(path: Path, row: &[Line], centroid: &[Line], high: &mut [u8], low: &mut [u8]) -> (f32, f64) {
    match path {
        // SAFETY: a path is only used where the processor has its features.
        #[cfg(target_arch = "x86_64")]
        Path::Avx512Vnni => unsafe { pack_avx512(row, centroid, high, low) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => unsafe { pack_avx2(row, centroid, high, low) },
        _ => pack(row, centroid, high, low),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma")]
fn pack_avx512(row: &[Line], centroid: &[Line], high: &mut [u8], low: &mut [u8]) -> (f32, f64) {
    pack(row, centroid, high, low)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn pack_avx2(row: &[Line], centroid: &[Line], high: &mut [u8], low: &mut [u8]) -> (f32, f64) {
    pack(row, centroid, high, low)
}

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
    /// Most bytes that packing n vectors of d numbers takes: the copies of a sample, or later all that is packed.
    pub fn bytes(n: usize, d: usize) -> u64 {
        let (lines, heads) = (lines_of(d) as u64, most_head(d) as u64);
        let packed = n as u64 * (lines * (16 + LOW as u64) + heads + 64);
        packed.max(3 * most_sampled(n) as u64 * 64 * lines) + BATCH as u64 * 128 * lines
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
    pub fn packing(self) -> Packing {
        assert_eq!(self.seen, self.n, "n rows");
        let frame = Frame::of(&self.rows, self.n, self.layout, most_head(self.rows.dimension()));
        let d = self.rows.dimension();
        Packing {
            growing: frame.centroids.chunks_exact(d).map(|_| PackedCell::default()).collect(),
            centroids: to_lines(Vectors::new(&frame.centroids, d)),
            waiting: Rows::with_capacity(BATCH, d),
            n: self.n,
            packed: 0,
            square: 0.0,
            frame,
        }
    }
}

/// The second reading: rows are packed as they come.
#[derive(Debug)]
pub struct Packing {
    frame: Frame,
    centroids: Vec<Line>,
    growing: Vec<PackedCell>,
    waiting: Rows,
    n: usize,
    packed: usize,
    /// Of the largest distance between a row and what is kept of it.
    square: f64,
}

impl Packing {
    /// The next row.
    pub fn add(&mut self, row: &[f32]) {
        self.waiting.push(row);
        if self.waiting.len() == BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let (path, stride) = (self.frame.path, lines_of(self.waiting.dimension()));
        let cell_of = self.frame.assign(&self.waiting);
        let mut high = vec![0u8; cell_of.len() * stride * 16];
        let mut low = vec![0u8; cell_of.len() * stride * LOW];
        let rows = self.waiting.lines.par_chunks(stride).zip(&cell_of);
        let bytes = high.par_chunks_mut(stride * 16).zip(low.par_chunks_mut(stride * LOW));
        let kept: Vec<(f32, f64)> = rows
            .zip(bytes)
            .with_min_len(16)
            .map(|((row, &cell), (high, low))| {
                pack_on(path, row, &self.centroids[cell as usize * stride..][..stride], high, low)
            })
            .collect();
        let bytes = high.chunks(stride * 16).zip(low.chunks(stride * LOW));
        for ((&cell, &(step, square)), (high, low)) in cell_of.iter().zip(&kept).zip(bytes) {
            self.square = self.square.max(square);
            self.growing[cell as usize].push(self.packed as u32, Row { step, high, low });
            self.packed += 1;
        }
        self.waiting.lines.clear();
    }

    /// All rows were packed. Panics where they were not n.
    pub fn finish(mut self) -> Exact {
        if !self.waiting.is_empty() {
            self.flush();
        }
        assert_eq!(self.packed, self.n, "n rows");
        let d = self.waiting.dimension();
        let stride = lines_of(d);
        // a cell of the sample may have got no row
        let (mut centroids, mut packed) = (Vec::new(), Vec::new());
        for (cell, centroid) in self.growing.into_iter().zip(self.frame.centroids.chunks_exact(d)) {
            if !cell.steps.is_empty() {
                centroids.extend_from_slice(centroid);
                packed.push(cell);
            }
        }
        let mut first_row = 0;
        let unsorted = |cell: &PackedCell| {
            let rows = cell.steps.len();
            first_row += rows;
            Cell { first_row: first_row - rows, rows, low: 0.0, high: 0.0 }
        };
        let cells = packed.iter().map(unsorted).collect();
        // a little more than what f64 finds
        let error = (self.square.sqrt() * (1.0 + 1e-6)) as f32;
        let mut bank =
            Exact::framed(self.frame.path, d, self.frame.head, centroids, cells, Kept::Packed(Vec::new()), error);
        let place = |scratch: &mut Scratch, (number, cell): (usize, &mut PackedCell)| -> (Cell, Option<CodedCell>) {
            let (mut lines, squares) = cell.sort(bank.path, &bank.centroids[number * stride..][..stride], scratch);
            let place = bank.cells[number].between(squares[0], squares[squares.len() - 1]);
            if bank.path != Path::Avx512Vnni {
                return (place, None);
            }
            let mut given = None;
            match &bank.directions {
                Some(directions) => lines = directions.project(bank.path, &lines),
                None => {
                    let high = cell.panels.iter_mut().map(|panel| std::mem::take(&mut panel.high)).collect();
                    given = Some((high, cell.steps.iter().map(|step| step * LOWER as f32).collect()));
                }
            }
            (place, Some(bank.code_cell(number, lines, &squares, given)))
        };
        let placed: Vec<(Cell, Option<CodedCell>)> =
            packed.par_iter_mut().enumerate().map_init(Scratch::default, place).collect();
        for (cell, (place, coded)) in bank.cells.iter_mut().zip(placed) {
            *cell = place;
            bank.coded.extend(coded);
        }
        bank.order = Some(packed.iter_mut().flat_map(|cell| std::mem::take(&mut cell.numbers)).collect());
        bank.rows = Kept::Packed(packed);
        bank
    }
}
