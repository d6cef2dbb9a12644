//! How a bank lies in memory: cells of near vectors, rows by radius, and the head of each row in 8 bits.

use rayon::prelude::*;

use crate::lanes::{Line, Rows, floats, lines_of, product_error, squared_distance, sum_error, to_lines};
use crate::path::Path;
use crate::principal::{Random, defect, principal};
use crate::vectors::Vectors;
use crate::work::Counters;
use crate::{head, kmeans};

/// Rows that are coded and compared together.
pub(crate) const PANEL: usize = 16;
/// Rows of the sample from which directions are found.
const SAMPLE: usize = 16_384;
/// Rows per cell of a block.
const BLOCK_CELL: usize = 256;
/// Directions looked for: more never pays as a head, and cells are found in these.
const DIRECTIONS: usize = 128;

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
    pub(crate) first_panel: usize,
    pub(crate) panels: usize,
    /// Distances of its rows to its centroid lie in [low, high].
    pub(crate) low: f32,
    pub(crate) high: f32,
    /// A code times this is a coordinate.
    pub(crate) scale: f32,
    /// Largest norm of a head, and of what its code misses.
    pub(crate) head_norm: f32,
    pub(crate) code_error: f32,
}

/// Sixteen rows, four numbers of each: what one instruction multiplies. Codes are offset by 128.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Code(pub(crate) [u8; 64]);

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
    pub(crate) centroids: Vec<f32>,
    pub(crate) centroid_norms: Vec<f32>,
    pub(crate) centroid_heads: Vec<Line>,
    pub(crate) cells: Vec<Cell>,
    /// head/4 per panel.
    pub(crate) codes: Vec<Code>,
    /// Per panel: ‖x − c‖² of its rows, NaN where there is none (no comparison with it holds).
    pub(crate) norms: Vec<Line>,
    /// Per panel: norm of what the head leaves out.
    pub(crate) tails: Vec<Line>,
    /// Per panel: least and largest radius.
    pub(crate) radii: Vec<(f32, f32)>,
    pub(crate) slack: Slack,
    pub(crate) counters: Counters,
}

impl Exact {
    /// A block of a larger bank, to be shown once: quick to lay out, cells are rows that came together.
    pub fn block(rows: Rows, path: Path) -> Self {
        let cell_of: Vec<u32> = (0..rows.len()).map(|row| (row / BLOCK_CELL) as u32).collect();
        Self::laid_out(rows, path, &cell_of, None)
    }

    /// Take normalised vectors, n ≥ 1, all finite and of norm one (but for rounding).
    pub fn new(rows: Rows, layout: Layout) -> Self {
        let (n, d) = (rows.len(), rows.dimension());
        assert!(n > 0 && n <= u32::MAX as usize, "1 ≤ n < 2³²");
        let mut random = Random(0x5eed);
        let sample = random.sample(n, SAMPLE);
        let gathered: Vec<f32> = sample.iter().flat_map(|&row| rows.row(row)).copied().collect();

        // directions, rows along them, cells
        let count = DIRECTIONS.min(d / 2).min(n);
        let directions = (count >= 16).then(|| principal(&gathered, d, count, random.next()));
        drop(gathered);
        let along = directions.as_ref().map(|directions| {
            let directions = to_lines(Vectors::new(directions, d));
            let mut along = vec![0.0; n * count];
            let (rows, out) = (rows.lines.par_chunks(256 * lines_of(d)), along.par_chunks_mut(256 * count));
            rows.zip(out).for_each(|(rows, out)| {
                let mut lines = vec![Line([0.0; 16]); out.len() / count * lines_of(count)];
                layout.path.project(rows, &directions, d, &mut lines);
                for (out, lines) in out.chunks_exact_mut(count).zip(lines.chunks_exact(lines_of(count))) {
                    out.copy_from_slice(&floats(lines)[..count]);
                }
            });
            along
        });
        let cells = layout.cells.unwrap_or_else(|| cells_for(n));
        let cell_of = match &along {
            Some(along) => kmeans::assign(along, count, cells, random.next()),
            None => kmeans::assign(&rows.to_values(), d, cells, random.next()),
        };
        let head = {
            let along = along.as_ref();
            layout.head.or_else(|| {
                head::choose(&head::Sampled {
                    rows: &rows,
                    along: along?,
                    sample: &sample,
                    directions: count,
                    k: layout.k,
                })
            })
        };
        drop(along);
        let chosen = head.filter(|&head| head <= count).zip(directions);
        Self::laid_out(rows, layout.path, &cell_of, chosen)
    }

    /// Rows in cells, along a head of the given length and directions; none: the head is the whole row.
    fn laid_out(mut rows: Rows, path: Path, cell_of: &[u32], head: Option<(usize, Vec<f32>)>) -> Self {
        assert!(path.is_available(), "this processor has no {}", path.name());
        let (n, d) = (rows.len(), rows.dimension());
        let stride = lines_of(d);
        let cells = cell_of.iter().max().map_or(0, |&last| last as usize + 1);

        let centroids = means(&rows, cell_of, cells);
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
                (head, Some(directions))
            }
            None => (d, None),
        };
        let slack = slack(d, head, directions.as_ref().map(|directions| defect(directions, d)));
        let directions = directions.map(|directions| to_lines(Vectors::new(&directions, d)));
        let width = lines_of(head);
        let mut bank = Self {
            dimension: d,
            stride,
            path,
            rows,
            head,
            width,
            centroid_norms: centroid_lines.chunks_exact(stride).map(squared_norm).collect(),
            centroid_heads: match &directions {
                Some(directions) => {
                    let mut heads = vec![Line([0.0; 16]); cells * width];
                    path.project(&centroid_lines, directions, d, &mut heads);
                    heads
                }
                None => centroid_lines,
            },
            directions,
            centroids,
            cells: Vec::with_capacity(cells),
            codes: Vec::new(),
            norms: Vec::new(),
            tails: Vec::new(),
            radii: Vec::new(),
            slack,
            counters: Counters::default(),
        };
        let mut first_row = 0;
        for cell in 0..cells {
            let rows = order[first_row..].iter().take_while(|&&row| cell_of[row as usize] as usize == cell).count();
            let radius = |position: usize| squares[order[position] as usize].sqrt();
            bank.cells.push(Cell {
                first_row,
                rows,
                first_panel: bank.cells.last().map_or(0, |last: &Cell| last.first_panel + last.panels),
                panels: rows.div_ceil(PANEL),
                low: radius(first_row) * (1.0 - 1e-6),
                high: radius(first_row + rows - 1) * (1.0 + 1e-6),
                scale: 0.0,
                head_norm: 0.0,
                code_error: 0.0,
            });
            first_row += rows;
        }
        let squares: Vec<f32> = order.iter().map(|&row| squares[row as usize]).collect();
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

    /// Heads in 8 bits, panel by panel.
    fn code(&mut self, squares: &[f32]) {
        struct Coded {
            scale: f32,
            head_norm: f32,
            code_error: f32,
            codes: Vec<Code>,
            norms: Vec<Line>,
            tails: Vec<Line>,
            radii: Vec<(f32, f32)>,
        }
        if self.path != Path::Avx512Vnni {
            return;
        }
        let steps = self.head.div_ceil(4);
        let coded = |number: usize| -> Coded {
            let cell = self.cells[number];
            let rows = &self.rows.lines[cell.first_row * self.stride..][..cell.rows * self.stride];
            let mut heads = match &self.directions {
                Some(directions) => {
                    let mut heads = vec![Line([0.0; 16]); cell.rows * self.width];
                    self.path.project(rows, directions, self.dimension, &mut heads);
                    heads
                }
                None => rows.to_vec(),
            };
            let centre = &self.centroid_heads[number * self.width..][..self.width];
            for head in heads.chunks_exact_mut(self.width) {
                for (line, centre) in head.iter_mut().zip(centre) {
                    line.0.iter_mut().zip(&centre.0).for_each(|(value, centre)| *value -= centre);
                }
            }
            let largest = heads.iter().flat_map(|line| line.0).fold(0.0f32, |most, value| most.max(value.abs()));
            let scale = largest / 127.0;
            let inverse = if scale > f32::MIN_POSITIVE { 1.0 / scale } else { 0.0 };
            let mut out = Coded {
                scale,
                head_norm: 0.0,
                code_error: 0.0,
                codes: vec![Code([128; 64]); cell.panels * steps],
                norms: vec![Line([f32::NAN; 16]); cell.panels],
                tails: vec![Line([0.0; 16]); cell.panels],
                radii: vec![(f32::INFINITY, 0.0); cell.panels],
            };
            for (i, head) in heads.chunks_exact(self.width).enumerate() {
                let (panel, lane) = (i / PANEL, i % PANEL);
                let (mut norm, mut missed) = (0.0f64, 0.0f64);
                for (j, value) in head.iter().flat_map(|line| line.0).take(self.head).enumerate() {
                    let code = (value * inverse).round().clamp(-127.0, 127.0);
                    out.codes[panel * steps + j / 4].0[lane * 4 + j % 4] = (code as i32 + 128) as u8;
                    norm += f64::from(value).powi(2);
                    missed += (f64::from(value) - f64::from(code) * f64::from(scale)).powi(2);
                }
                let square = squares[cell.first_row + i];
                let tail = match self.directions {
                    Some(_) => (f64::from(square) - norm + f64::from(self.slack.tail)).max(0.0).sqrt(),
                    None => 0.0,
                };
                out.norms[panel].0[lane] = square;
                out.tails[panel].0[lane] = (tail * (1.0 + 1e-6)) as f32;
                out.head_norm = out.head_norm.max((norm.sqrt() * (1.0 + 1e-6)) as f32);
                out.code_error = out.code_error.max((missed.sqrt() * (1.0 + 1e-6)) as f32);
                let radii = &mut out.radii[panel];
                *radii = (radii.0.min(square.sqrt() * (1.0 - 1e-6)), radii.1.max(square.sqrt() * (1.0 + 1e-6)));
            }
            out
        };
        let all: Vec<Coded> = (0..self.cells.len()).into_par_iter().map(coded).collect();
        for (cell, coded) in self.cells.iter_mut().zip(all) {
            (cell.scale, cell.head_norm, cell.code_error) = (coded.scale, coded.head_norm, coded.code_error);
            self.codes.extend(coded.codes);
            self.norms.extend(coded.norms);
            self.tails.extend(coded.tails);
            self.radii.extend(coded.radii);
        }
    }
}

/// Cells enough that most can be skipped, and rows enough in each that asking for one is worth a product.
fn cells_for(n: usize) -> usize {
    (n / 192).clamp(1, 4096)
}

/// Mean of the rows of each cell, in f64.
fn means(rows: &Rows, cell_of: &[u32], cells: usize) -> Vec<f32> {
    let d = rows.dimension();
    let mut sums = vec![0.0f64; cells * d];
    let mut counts = vec![0u32; cells];
    for (row, &cell) in cell_of.iter().enumerate() {
        counts[cell as usize] += 1;
        let sum = &mut sums[cell as usize * d..][..d];
        sum.iter_mut().zip(rows.row(row)).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    sums.chunks_exact(d).zip(&counts).flat_map(|(sum, &n)| sum.iter().map(move |s| (s / f64::from(n)) as f32)).collect()
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
    let coordinates = if defect.is_some() { 3.0 * (head as f64).sqrt() * sum } else { 16.0 * 2f64.powi(-24) };
    let defect = defect.unwrap_or(0.0);
    let centroid = 4.0 * any;
    let tail = centroid + 5.0 * coordinates + 5.0 * defect + 4.0 * sum;
    let estimate = centroid + 10.0 * coordinates + 16.0 * defect + 8e-6;
    let up = |value: f64| (value * 1.01) as f32;
    Slack { centroid: up(centroid), tail: up(tail), estimate: up(estimate), distance: up(2.0 * sum) }
}
