//! Lloyd's algorithm: which cell a vector belongs to. Cells only order the work, so a few rounds do.

use rayon::prelude::*;

use crate::lanes::Line;
use crate::path::Path;
use crate::principal::Random;
use crate::product::{Table, panel, products};

const ROUNDS: usize = 8;
/// Rows of the training sample per cell.
const SAMPLE_PER_CELL: usize = 48;

/// The cell of each of the row-major n×d points; at most `cells` of them, numbered from 0, none empty.
pub(crate) fn assign(path: Path, points: &[f32], d: usize, cells: usize, seed: u64) -> Vec<u32> {
    let n = points.len() / d;
    if cells <= 1 || n <= 1 {
        return vec![0; n];
    }
    let mut random = Random(seed);
    let gather = |rows: &[usize]| rows.iter().flat_map(|&row| &points[row * d..(row + 1) * d]).copied().collect();
    let sample: Vec<f32> = gather(&random.sample(n, cells * SAMPLE_PER_CELL));
    let sampled = sample.len() / d;
    let mut centres: Vec<f32> =
        random.sample(sampled, cells).iter().flat_map(|&row| &sample[row * d..(row + 1) * d]).copied().collect();
    let cells = centres.len() / d;
    for _ in 0..ROUNDS {
        let nearest = nearest(path, &sample, &centres, d);
        let mut sums = vec![0.0f64; cells * d];
        let mut counts = vec![0u32; cells];
        for (row, &cell) in sample.chunks_exact(d).zip(&nearest) {
            counts[cell as usize] += 1;
            let sum = &mut sums[cell as usize * d..][..d];
            sum.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        for (cell, &count) in counts.iter().enumerate() {
            let centre = &mut centres[cell * d..][..d];
            if count == 0 {
                // an empty cell begins again at some point
                let row = random.below(sampled);
                centre.copy_from_slice(&sample[row * d..(row + 1) * d]);
            } else {
                let sums = &sums[cell * d..][..d];
                centre.iter_mut().zip(sums).for_each(|(value, sum)| *value = (sum / f64::from(count)) as f32);
            }
        }
    }
    let mut nearest = nearest(path, points, &centres, d);
    let mut number = vec![u32::MAX; cells];
    let mut used = 0;
    for cell in &mut nearest {
        let number = &mut number[*cell as usize];
        if *number == u32::MAX {
            *number = used;
            used += 1;
        }
        *cell = *number;
    }
    nearest
}

/// The nearest centre of each point.
fn nearest(path: Path, points: &[f32], centres: &[f32], d: usize) -> Vec<u32> {
    let count = centres.len() / d;
    let half_norms: Vec<f32> =
        centres.chunks_exact(d).map(|centre| centre.iter().map(|v| v * v).sum::<f32>() / 2.0).collect();
    let sixteen = |points: &[f32]| {
        let (mut lines, mut sums) = (Vec::new(), vec![Line([0.0; 16]); count]);
        panel(points.chunks_exact(d), d, &mut lines);
        products(path, Table::new(centres, count, d, d), &lines, &mut sums);
        let (mut least, mut cells) = ([f32::INFINITY; 16], [0u32; 16]);
        for (cell, (sums, half)) in sums.iter().zip(&half_norms).enumerate() {
            for ((least, nearest), sum) in least.iter_mut().zip(&mut cells).zip(&sums.0) {
                let distance = half - sum;
                *nearest = if distance < *least { cell as u32 } else { *nearest };
                *least = least.min(distance);
            }
        }
        cells.into_iter().take(points.len() / d)
    };
    points.par_chunks(16 * d).with_min_len(16).flat_map_iter(sixteen).collect()
}
