//! Lloyd's algorithm: which cell a vector belongs to. Cells only order the work, so a few rounds do.

use rayon::prelude::*;

use crate::principal::Random;
use crate::product::{Matrix, product};

const ROUNDS: usize = 8;
/// Rows of the training sample per cell.
const SAMPLE_PER_CELL: usize = 48;
/// Rows per matrix product.
const BLOCK: usize = 512;

/// The cell of each of the row-major n×d points; at most `cells` of them, numbered from 0, none empty.
pub(crate) fn assign(points: &[f32], d: usize, cells: usize, seed: u64) -> Vec<u32> {
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
        let nearest = nearest(&sample, &centres, d);
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
    let mut nearest = nearest(points, &centres, d);
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
fn nearest(points: &[f32], centres: &[f32], d: usize) -> Vec<u32> {
    let count = centres.len() / d;
    let half_norms: Vec<f32> =
        centres.chunks_exact(d).map(|centre| centre.iter().map(|v| v * v).sum::<f32>() / 2.0).collect();
    let block = |points: &[f32]| -> Vec<u32> {
        let rows = points.len() / d;
        let mut products = vec![0.0; rows * count];
        product(Matrix::new(points, rows, d, d), Matrix::new(centres, count, d, d).transposed(), &mut products);
        let nearest = |products: &[f32]| {
            let mut best = (f32::INFINITY, 0);
            for (cell, (&product, &half)) in products.iter().zip(&half_norms).enumerate() {
                let distance = half - product;
                if distance < best.0 {
                    best = (distance, cell as u32);
                }
            }
            best.1
        };
        products.chunks_exact(count).map(nearest).collect()
    };
    points.par_chunks(BLOCK * d).flat_map_iter(block).collect()
}
