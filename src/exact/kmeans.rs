//! Lloyd's algorithm: which cell a vector belongs to. Cells only order the work, so a few rounds do.

use rayon::prelude::*;

use crate::lanes::Line;
use crate::path::Path;
use crate::principal::Random;
use crate::product::{Table, panel, products};

const ROUNDS: usize = 8;

/// Centres of at most `cells` cells of the row-major n×d points, and the cell of each point; none is empty.
pub(crate) fn train(path: Path, points: &[f32], d: usize, cells: usize, seed: u64) -> (Vec<f32>, Vec<u32>) {
    let n = points.len() / d;
    let mut random = Random(seed);
    let point = |row: usize| &points[row * d..(row + 1) * d];
    let mut centres: Vec<f32> = random.sample(n, cells.max(1)).into_iter().flat_map(point).copied().collect();
    let cells = centres.len() / d;
    for _ in 0..ROUNDS {
        let nearest = nearest(path, points, &centres, d);
        let mut sums = vec![0.0f64; cells * d];
        let mut counts = vec![0u32; cells];
        for (row, &cell) in points.chunks_exact(d).zip(&nearest) {
            counts[cell as usize] += 1;
            let sum = &mut sums[cell as usize * d..][..d];
            sum.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        for (cell, &count) in counts.iter().enumerate() {
            let centre = &mut centres[cell * d..][..d];
            if count == 0 {
                // an empty cell begins again at some point
                centre.copy_from_slice(point(random.below(n)));
            } else {
                let sums = &sums[cell * d..][..d];
                centre.iter_mut().zip(sums).for_each(|(value, sum)| *value = (sum / f64::from(count)) as f32);
            }
        }
    }
    let mut nearest = nearest(path, points, &centres, d);
    let mut number = vec![u32::MAX; cells];
    let mut used = Vec::with_capacity(centres.len());
    for cell in &mut nearest {
        let (old, number) = (*cell as usize, &mut number[*cell as usize]);
        if *number == u32::MAX {
            *number = (used.len() / d) as u32;
            used.extend_from_slice(&centres[old * d..][..d]);
        }
        *cell = *number;
    }
    (used, nearest)
}

/// The nearest centre of each point.
pub(crate) fn nearest(path: Path, points: &[f32], centres: &[f32], d: usize) -> Vec<u32> {
    let count = centres.len() / d;
    let half_norms: Vec<f32> =
        centres.chunks_exact(d).map(|centre| centre.iter().map(|v| v * v).sum::<f32>() / 2.0).collect();
    let table = Table::new(path, centres.chunks_exact(d), d);
    let sixteen = |points: &[f32]| {
        let (mut lines, mut sums) = (Vec::new(), vec![Line([0.0; 16]); count]);
        panel(points.chunks_exact(d), d, &mut lines);
        products(path, &table, &lines, &mut sums);
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
