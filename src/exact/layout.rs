//! How a bank lies in memory: cells of near vectors, rows by radius, and the head of each row in 8 bits.

use rayon::prelude::*;

use crate::code::{CellRows, CodedCell};
use crate::lanes::{Line, Rows, floats, lines_of, squared_distance, sum_error, to_lines};
use crate::path::Path;
use crate::principal::{Random, defect, principal, spread};
use crate::product::{product_error, project};
use crate::vectors::Vectors;
use crate::work::Counters;
use crate::{head, kmeans};

/// Rows of the sample from which directions are found.
const SAMPLE: usize = 16_384;
/// Rows per cell of a block.
const BLOCK_CELL: usize = 256;
/// Directions looked for, and those of them in which cells are found.
const DIRECTIONS: usize = 1024;
const CELL_DIRECTIONS: usize = 128;

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
}

/// All bank vectors in memory, searched without an approximation.
#[derive(Debug)]
pub struct Exact {
    pub(crate) dimension: usize,
    /// Lines per row.
    pub(crate) stride: usize,
    pub(crate) path: Path,
    pub(crate) rows: Rows,
    /// Orthonormal directions onto which heads are projected; none: the head is the whole row.
    pub(crate) directions: Option<Vec<Line>>,
    /// Numbers per head, and lines.
    pub(crate) head: usize,
    pub(crate) width: usize,
    pub(crate) centroids: Vec<Line>,
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
    /// A block of a larger bank, to be shown once: quick to lay out, cells are rows that came together.
    pub fn block(rows: Rows, path: Path) -> Self {
        let cell_of: Vec<u32> = (0..rows.len()).map(|row| (row / BLOCK_CELL) as u32).collect();
        let centroids = means(&rows, &cell_of);
        Self::laid_out(rows, path, &cell_of, centroids, None)
    }

    /// Take normalised vectors, n ≥ 1, all finite and of norm one (but for rounding).
    pub fn new(rows: Rows, layout: Layout) -> Self {
        let (n, d) = (rows.len(), rows.dimension());
        assert!(n > 0 && n <= u32::MAX as usize, "1 ≤ n < 2³²");
        let mut random = Random(0x5eed);
        let sample = random.sample(n, SAMPLE);
        let mut sampled = Rows::with_capacity(sample.len(), d);
        sample.iter().for_each(|&row| sampled.push(rows.row(row)));

        // directions, and cells along the first of them
        let count = DIRECTIONS.min(d / 2).min(n);
        let directions = (count >= 16).then(|| principal(layout.path, &sampled, count, random.next()));
        let cells = layout.cells.unwrap_or_else(|| cells_for(n));
        let cell_of = match &directions {
            Some(directions) => {
                let (along, count) = along(layout.path, &rows, directions);
                kmeans::assign(layout.path, &along, count, cells, random.next())
            }
            None => kmeans::assign(layout.path, &rows.to_values(), d, cells, random.next()),
        };
        let centroids = means(&rows, &cell_of);
        let head = layout.head.or_else(|| {
            head::choose(&head::Sampled {
                path: layout.path,
                rows: &sampled,
                cell_of: &sample.iter().map(|&row| cell_of[row]).collect::<Vec<u32>>(),
                centroids: &centroids,
                directions: directions.as_ref()?,
                k: layout.k as f64 * sample.len() as f64 / n as f64,
            })
        });
        drop(sampled);
        let chosen = head.filter(|&head| head <= count).zip(directions);
        Self::laid_out(rows, layout.path, &cell_of, centroids, chosen)
    }

    /// Rows in cells, along a head of the given length and directions; none: the head is the whole row.
    fn laid_out(
        mut rows: Rows,
        path: Path,
        cell_of: &[u32],
        centroids: Vec<f32>,
        head: Option<(usize, Vec<f32>)>,
    ) -> Self {
        assert!(path.is_available(), "this processor has no {}", path.name());
        let (n, d) = (rows.len(), rows.dimension());
        let stride = lines_of(d);
        let cells = centroids.len() / d;
        let centroid_lines = to_lines(Vectors::new(&centroids, d));
        let squares: Vec<f32> = (0..n)
            .into_par_iter()
            .map(|row| {
                let centroid = &centroids[cell_of[row] as usize * d..][..d];
                let sum: f64 =
                    rows.row(row).iter().zip(centroid).map(|(&x, &c)| (f64::from(x) - f64::from(c)).powi(2)).sum();
                sum as f32
            })
            .collect();
        let mut order: Vec<u32> = (0..n as u32).collect();
        order.par_sort_unstable_by(|&a, &b| {
            let key = |row: u32| (cell_of[row as usize], squares[row as usize], row);
            let (a, b) = (key(a), key(b));
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2))
        });
        rows.permute(&order);

        let (head, directions) = match head {
            Some((head, mut directions)) => {
                directions.truncate(head * d);
                spread(&mut directions, d);
                (head, Some(directions))
            }
            None => (d, None),
        };
        let slack = slack(d, head, directions.as_ref().map(|directions| defect(directions, d)));
        let directions = directions.map(|directions| to_lines(Vectors::new(&directions, d)));
        let width = lines_of(head);
        let centroid_norms = centroid_lines.chunks_exact(stride).map(squared_norm).collect();
        let centroid_heads = match &directions {
            Some(directions) => {
                let mut heads = vec![Line([0.0; 16]); cells * width];
                project(path, &centroid_lines, directions, d, &mut heads);
                heads
            }
            None => centroid_lines.clone(),
        };
        let squares: Vec<f32> = order.iter().map(|&row| squares[row as usize]).collect();
        let mut all = Vec::with_capacity(cells);
        for cell in order.chunk_by(|&a, &b| cell_of[a as usize] == cell_of[b as usize]) {
            let first_row = all.last().map_or(0, |last: &Cell| last.first_row + last.rows);
            let radius = |position: usize| squares[position].sqrt();
            all.push(Cell {
                first_row,
                rows: cell.len(),
                low: radius(first_row) * (1.0 - 1e-6),
                high: radius(first_row + cell.len() - 1) * (1.0 + 1e-6),
            });
        }
        let mut bank = Self {
            dimension: d,
            stride,
            path,
            rows,
            head,
            width,
            mean_head: mean_head(&centroid_heads, &all, width),
            centroid_norms,
            centroid_heads,
            directions,
            centroids: centroid_lines,
            cells: all,
            coded: Vec::new(),
            slack,
            counters: Counters::default(),
        };
        bank.code(&squares);
        bank
    }

    /// Number of vectors.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Never: a bank has at least one vector.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
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

    /// The row at a position, in lines.
    #[inline(always)]
    pub(crate) fn row(&self, position: usize) -> &[Line] {
        self.rows.lines(position)
    }

    /// Heads in 8 bits, cell by cell, where the path estimates in them.
    #[cfg(target_arch = "x86_64")]
    fn code(&mut self, squares: &[f32]) {
        if self.path != Path::Avx512Vnni {
            return;
        }
        let width = self.width;
        let coded = |(cell, centre): (&Cell, &[Line])| -> CodedCell {
            let rows = &self.rows.lines[cell.first_row * self.stride..][..cell.rows * self.stride];
            let mut heads = match &self.directions {
                Some(directions) => {
                    let mut heads = vec![Line([0.0; 16]); cell.rows * width];
                    project(self.path, rows, directions, self.dimension, &mut heads);
                    heads
                }
                None => rows.to_vec(),
            };
            heads.chunks_exact_mut(width).for_each(|head| subtract(head, centre));
            let mut offset = centre.to_vec();
            subtract(&mut offset, &self.mean_head);
            let rows = CellRows {
                head: self.head,
                heads: &heads,
                offset: &offset,
                squares: &squares[cell.first_row..][..cell.rows],
                tail: self.directions.as_ref().map(|_| self.slack.tail),
            };
            // SAFETY: a path is only used where the processor has its features.
            unsafe { crate::code::cell(rows) }
        };
        self.coded = self.cells.par_iter().zip(self.centroid_heads.par_chunks_exact(width)).map(coded).collect();
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn code(&mut self, _squares: &[f32]) {}
}

fn subtract(from: &mut [Line], what: &[Line]) {
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

/// Cells enough that most can be skipped, and rows enough in each that asking for one is worth a product.
fn cells_for(n: usize) -> usize {
    (n / 192).clamp(1, 4096)
}

/// Rows along the first directions, row-major, and how many directions these are.
fn along(path: Path, rows: &Rows, directions: &[f32]) -> (Vec<f32>, usize) {
    let d = rows.dimension();
    let count = (directions.len() / d).min(CELL_DIRECTIONS);
    let directions = to_lines(Vectors::new(&directions[..count * d], d));
    let mut along = vec![0.0; rows.len() * count];
    let (rows, out) = (rows.lines.par_chunks(256 * lines_of(d)), along.par_chunks_mut(256 * count));
    rows.zip(out).for_each(|(rows, out)| {
        let mut lines = vec![Line([0.0; 16]); out.len() / count * lines_of(count)];
        project(path, rows, &directions, d, &mut lines);
        for (out, lines) in out.chunks_exact_mut(count).zip(lines.chunks_exact(lines_of(count))) {
            out.copy_from_slice(&floats(lines)[..count]);
        }
    });
    (along, count)
}

/// Mean of the rows of each cell, in f64.
fn means(rows: &Rows, cell_of: &[u32]) -> Vec<f32> {
    let d = rows.dimension();
    let cells = cell_of.iter().max().map_or(0, |&last| last as usize + 1);
    let mut members = vec![Vec::new(); cells];
    (0u32..).zip(cell_of).for_each(|(row, &cell)| members[cell as usize].push(row));
    let mean = |rows_of: &Vec<u32>| {
        let mut sums = vec![0.0f64; d];
        for &row in rows_of {
            sums.iter_mut().zip(rows.row(row as usize)).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        let count = rows_of.len() as f64;
        sums.into_iter().map(move |sum| (sum / count) as f32)
    };
    members.par_iter().flat_map_iter(mean).collect()
}

fn squared_norm(row: &[Line]) -> f32 {
    let zero = vec![Line([0.0; 16]); row.len()];
    squared_distance::<false>(row, &zero)
}

/// Bounds of every rounding between a query and a row, both of norm ≤ 1 + 2⁻²⁰, c a mean of such rows; V the
/// directions with ‖VVᵀ − I‖ = δ. With y = q − c and z = x − c (norms ≤ 2): ⟨y, z⟩ = ⟨Vy, Vz⟩ + ⟨tails⟩ + O(δ).
fn slack(d: usize, head: usize, defect: Option<f64>) -> Slack {
    let (sum, any) = (sum_error(d), product_error(d));
    // coordinates along V: one rounded sum each, for the vector and for the centroid, and their difference
    let coordinates = if defect.is_some() { 3.0 * (head as f64).sqrt() * any } else { 16.0 * 2f64.powi(-24) };
    let defect = defect.unwrap_or(0.0);
    let centroid = 4.0 * any;
    let tail = centroid + 5.0 * coordinates + 5.0 * defect + 4.0 * sum;
    let estimate = centroid + 10.0 * coordinates + 16.0 * defect + 1.2e-5;
    let up = |value: f64| (value * 1.01) as f32;
    Slack { centroid: up(centroid), tail: up(tail), estimate: up(estimate), distance: up(2.0 * sum) }
}
