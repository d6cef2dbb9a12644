//! Where rows lie: directions, cells and a head's length, as a sample of the rows tells.

use rayon::prelude::*;

use crate::lanes::{Rows, floats, lines_of};
use crate::options::Layout;
use crate::path::Path;
use crate::principal::{Random, principal};
use crate::product::Directions;
use crate::{head, kmeans};

/// Rows of the sample, at least, and per cell; directions are found from the former.
const SAMPLE: usize = 16_384;
const SAMPLE_PER_CELL: usize = 16;
/// Directions looked for, and those of them in which cells are found.
pub(crate) const DIRECTIONS: usize = 1024;
pub(crate) const CELL_DIRECTIONS: usize = 128;

/// Which of n rows are the sample, ascending.
pub(crate) fn sample(n: usize, layout: Layout) -> Vec<usize> {
    assert!(n > 0 && n <= u32::MAX as usize, "1 ≤ n < 2³²");
    let cells = layout.cells.unwrap_or_else(|| cells_for(n));
    Random(0x5eed).sample(n, SAMPLE.max(cells.saturating_mul(SAMPLE_PER_CELL)))
}

/// How many rows a sample of n has, at most, with as many cells as [`cells_for`] says.
pub(crate) fn most_sampled(n: usize) -> usize {
    SAMPLE.max(cells_for(n) * SAMPLE_PER_CELL).min(n)
}

/// What a sample tells.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) path: Path,
    /// The first directions (none: rows as they are), and centres of cells along them, row-major.
    directions: Option<Vec<f32>>,
    centres: Vec<f32>,
    /// Means of the sample's rows in each cell, cells×d.
    pub(crate) centroids: Vec<f32>,
    /// Length of the head, and at least as many directions; none: the head is the whole row.
    pub(crate) head: Option<(usize, Vec<f32>)>,
}

impl Frame {
    /// Of rows that are a sample of n.
    pub(crate) fn of(sample: &Rows, n: usize, layout: Layout) -> Self {
        let (d, path) = (sample.dimension(), layout.path);
        path.assert_available();
        let mut random = Random(0x5eed);
        let count = DIRECTIONS.min(d / 2).min(sample.len());
        let directions = (count >= 16).then(|| {
            let some = random.sample(sample.len(), SAMPLE);
            if some.len() == sample.len() {
                return principal(path, sample, count, random.next());
            }
            let mut fewer = Rows::with_capacity(some.len(), d);
            some.iter().for_each(|&row| fewer.push(sample.row(row)));
            principal(path, &fewer, count, random.next())
        });
        let cells = layout.cells.unwrap_or_else(|| cells_for(n));
        let mut frame = Self { path, directions, centres: Vec::new(), centroids: Vec::new(), head: None };
        let (along, width) = frame.along(sample);
        let (centres, cell_of) = kmeans::train(path, &along, width, cells, random.next());
        frame.centres = centres;
        frame.centroids = means(sample, &cell_of);
        if let Some(directions) = &frame.directions {
            let choose = || {
                head::choose(&head::Sampled {
                    path,
                    rows: sample,
                    cell_of: &cell_of,
                    centroids: &frame.centroids,
                    directions,
                    k: layout.k as f64 * sample.len() as f64 / n as f64,
                })
            };
            let head = layout.head.or_else(choose).filter(|head| (1..=count).contains(head));
            frame.head = head.map(|head| (head, directions.clone()));
        }
        frame
    }

    /// The cell of each row.
    pub(crate) fn assign(&self, rows: &Rows) -> Vec<u32> {
        let (along, width) = self.along(rows);
        kmeans::nearest(self.path, &along, &self.centres, width)
    }

    /// Rows along the first directions, row-major, and how many directions these are.
    fn along(&self, rows: &Rows) -> (Vec<f32>, usize) {
        let d = rows.dimension();
        let Some(directions) = &self.directions else { return (rows.to_values(), d) };
        let count = (directions.len() / d).min(CELL_DIRECTIONS);
        let directions = Directions::new(self.path, &directions[..count * d], d);
        let mut along = vec![0.0; rows.len() * count];
        let (rows, out) = (rows.lines.par_chunks(256 * lines_of(d)), along.par_chunks_mut(256 * count));
        rows.zip(out).for_each(|(rows, out)| {
            let lines = directions.project(self.path, rows);
            for (out, lines) in out.chunks_exact_mut(count).zip(lines.chunks_exact(lines_of(count))) {
                out.copy_from_slice(&floats(lines)[..count]);
            }
        });
        (along, count)
    }
}

/// Number cells anew, so that none is empty.
pub(crate) fn compact(cell_of: &mut [u32]) {
    let mut number = vec![u32::MAX; cell_of.iter().max().map_or(0, |&last| last as usize + 1)];
    let mut used = 0;
    for cell in cell_of {
        let number = &mut number[*cell as usize];
        if *number == u32::MAX {
            *number = used;
            used += 1;
        }
        *cell = *number;
    }
}

/// Cells enough that most can be skipped, and rows enough in each that asking for one is worth a product.
fn cells_for(n: usize) -> usize {
    (n / 192).clamp(1, 4096)
}

/// Mean of the rows of each cell, in f64.
pub(crate) fn means(rows: &Rows, cell_of: &[u32]) -> Vec<f32> {
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
