//! How long a head pays: the cost of a search on a sample, for several lengths.

use rayon::prelude::*;

use crate::lanes::{Line, Rows, floats, lines_of, squared_distance, to_lines};
use crate::path::Path;
use crate::principal::Random;
use crate::product::{Directions, dots};
use crate::vectors::Vectors;

/// Lengths that are tried, besides the whole row.
const LENGTHS: [usize; 13] = [16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 640, 768, 1024];
/// Rows of the sample that stand for the bank, and queries that stand for those to come.
const ROWS: usize = 4096;
const QUERIES: usize = 64;

/// What the layout knows when it asks.
pub(crate) struct Sampled<'a> {
    pub(crate) path: Path,
    /// Rows that stand for all, and the cell of each.
    pub(crate) rows: &'a Rows,
    pub(crate) cell_of: &'a [u32],
    /// Cells×d.
    pub(crate) centroids: &'a [f32],
    /// Directions, row-major, d numbers each.
    pub(crate) directions: &'a [f32],
    /// How many of the rows a search is to find.
    pub(crate) k: f64,
}

/// A row or a query less a centroid: along the directions, squared norm, and squared norm of what each length leaves out.
struct Centred {
    cell: usize,
    along: Vec<f32>,
    square: f32,
    left: Vec<f32>,
}

/// The length with the least estimated cost; `None`: the whole row.
pub(crate) fn choose(from: &Sampled<'_>) -> Option<usize> {
    let d = from.rows.dimension();
    let count = from.directions.len() / d;
    let lengths: Vec<usize> = LENGTHS.into_iter().filter(|&length| length <= count && length < d).collect();
    let directions = Directions::new(from.path, from.directions, d);
    let along = |rows: &[Line]| -> Vec<Vec<f32>> {
        let out = directions.project(from.path, rows);
        out.chunks_exact(lines_of(count)).map(|row| floats(row)[..count].to_vec()).collect()
    };
    let left = |square: f32, along: &[f32]| -> Vec<f32> {
        let mut from = 0;
        let mut left = square;
        let each = lengths.iter().map(|&length| {
            left -= along[from..length].iter().map(|v| v * v).sum::<f32>();
            from = length;
            left.max(0.0)
        });
        each.collect()
    };
    let minus = |a: &[f32], b: &[f32]| -> Vec<f32> { a.iter().zip(b).map(|(a, b)| a - b).collect() };

    let square_of = |row: &[Line]| floats(row).iter().map(|v| v * v).sum::<f32>();
    let squares: Vec<f32> = (0..from.rows.len()).map(|row| square_of(from.rows.lines(row))).collect();
    let mut random = Random(7);
    let rows: Vec<usize> = random.sample(from.rows.len(), ROWS);
    let centroids = to_lines(Vectors::new(from.centroids, d));
    let centroid = |cell: usize| &centroids[cell * lines_of(d)..][..lines_of(d)];
    let centroids_along = along(&centroids);
    let centre = |lines: &[Line], along: &[f32], cell: usize| -> Centred {
        let (along, square) = (minus(along, &centroids_along[cell]), squared_distance::<false>(lines, centroid(cell)));
        Centred { cell, square, left: left(square, &along), along }
    };
    let centred: Vec<Centred> = rows
        .par_iter()
        .map(|&row| {
            let lines = from.rows.lines(row);
            centre(lines, &along(lines)[0], from.cell_of[row] as usize)
        })
        .collect();

    let rank = from.k.ceil().clamp(1.0, from.rows.len() as f64) as usize;
    // seven of eight queries are rows, the eighth lies between two rows, where out-of-distribution ones may be
    let pairs: Vec<(usize, usize, bool)> = (0..QUERIES)
        .map(|query| (rows[random.below(rows.len())], rows[random.below(rows.len())], query % 8 == 7))
        .collect();
    let search = |&(a, b, between): &(usize, usize, bool)| -> (u64, Vec<u64>) {
        let mixed = |(a, b): (&Line, &Line)| {
            Line(std::array::from_fn(|lane| if between { a.0[lane] + b.0[lane] } else { a.0[lane] }))
        };
        let mut q: Vec<Line> = from.rows.lines(a).iter().zip(from.rows.lines(b)).map(mixed).collect();
        // as long as the two are, whatever they add up to
        let length = (squares[a].sqrt() + squares[if between { b } else { a }].sqrt()) / 2.0;
        let scale = length / square_of(&q).sqrt().max(f32::MIN_POSITIVE);
        q.iter_mut().for_each(|line| line.0.iter_mut().for_each(|v| *v *= scale));
        let mut nearness = vec![0.0; from.rows.len()];
        dots(from.path, &from.rows.lines, &q, &mut nearness);
        nearness.iter_mut().zip(&squares).for_each(|(product, square)| *product -= square / 2.0);
        let nearest = *nearness.select_nth_unstable_by(rank - 1, |a, b| b.total_cmp(a)).1;
        // τ is somewhat larger while it is being found
        let limit = (square_of(&q) - 2.0 * nearest).max(0.0) * 1.05 + 0.001 * length * length;
        let q_along = &along(&q)[0];
        let mut cells: Vec<Option<Centred>> = (0..centroids_along.len()).map(|_| None).collect();
        let (mut scanned, mut passed) = (0, vec![0; lengths.len()]);
        for row in &centred {
            let from_cell = cells[row.cell].get_or_insert_with(|| centre(&q, q_along, row.cell));
            if (from_cell.square.sqrt() - row.square.sqrt()).powi(2) > limit {
                continue;
            }
            scanned += 1;
            let (mut product, mut done) = (0.0, 0);
            for (i, &length) in lengths.iter().enumerate() {
                let (a, b) = (&from_cell.along[done..length], &row.along[done..length]);
                product += a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
                done = length;
                let tails = (from_cell.left[i] * row.left[i]).sqrt();
                let estimate = from_cell.square + row.square - 2.0 * (product + tails);
                passed[i] += u64::from(estimate <= limit);
            }
        }
        (scanned, passed)
    };
    let found: Vec<(u64, Vec<u64>)> = pairs.par_iter().map(search).collect();
    let scanned = found.iter().map(|(scanned, _)| scanned).sum::<u64>() as f64;
    // in units of one 16-lane instruction: the codes of a panel for one query; a row compared in f32
    let cost = |length: usize, passed: f64| {
        scanned * (length as f64 / 64.0 + 0.4) + passed * (2.0 * lines_of(d) as f64 + 24.0)
    };
    let found_at_least = from.k * rows.len() as f64 / from.rows.len() as f64;
    let all = cost(d, QUERIES as f64 * found_at_least);
    let costs = lengths
        .iter()
        .enumerate()
        .map(|(i, &length)| (length, cost(length, found.iter().map(|(_, passed)| passed[i]).sum::<u64>() as f64)));
    costs.min_by(|a, b| a.1.total_cmp(&b.1)).filter(|&(_, cost)| cost < all).map(|(length, _)| length)
}
