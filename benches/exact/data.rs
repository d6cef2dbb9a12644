//! Unit vectors from seeds, and files of f32.

use std::fs::File;
use std::io::{Read, Result, Write};
use std::path::Path;

use outskirt_exact::Rows;
use rayon::prelude::*;

/// Rows that are drawn from one seed of their own, so that threads do not change the data.
const BLOCK: usize = 1024;

/// What is drawn: Gaussian clusters around Gaussian centres, or without clusters one Gaussian.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) dimension: usize,
    pub(crate) clusters: usize,
    /// Standard deviation of a coordinate around its centre; that of the centres is 1.
    pub(crate) sigma: f32,
    /// Of the centres.
    pub(crate) seed: u64,
    /// Of the rows.
    pub(crate) stream: u64,
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in (0, 1].
    fn unit(&mut self) -> f32 {
        ((self.next() >> 40) + 1) as f32 / (1u64 << 24) as f32
    }

    /// Fill with standard normal numbers (Box and Muller), two at a time.
    fn normal(&mut self, out: &mut [f32]) {
        for pair in out.chunks_mut(2) {
            let (radius, angle) = ((-2.0 * self.unit().ln()).sqrt(), std::f32::consts::TAU * self.unit());
            let both = [radius * angle.cos(), radius * angle.sin()];
            pair.iter_mut().zip(both).for_each(|(value, normal)| *value = normal);
        }
    }
}

/// Write `rows` unit vectors.
pub(crate) fn draw(file: &Path, rows: usize, shape: Shape) -> Result<()> {
    let Shape { dimension, clusters, sigma, seed, stream } = shape;
    let mut centres = vec![0.0; clusters * dimension];
    Random(seed).normal(&mut centres);
    let mut out = File::create(file)?;
    let mut values = vec![0.0f32; 64 * BLOCK * dimension];
    for first in (0..rows).step_by(64 * BLOCK) {
        let values = &mut values[..(rows - first).min(64 * BLOCK) * dimension];
        values.par_chunks_mut(BLOCK * dimension).enumerate().for_each(|(block, values)| {
            let mut random = Random(seed ^ stream.rotate_left(48) ^ (first / BLOCK + block + 1) as u64);
            random.0 = random.next();
            for row in values.chunks_exact_mut(dimension) {
                random.normal(row);
                if clusters > 0 {
                    let centre = &centres[(random.next() % clusters as u64) as usize * dimension..][..dimension];
                    row.iter_mut().zip(centre).for_each(|(value, centre)| *value = centre + sigma * *value);
                }
                let norm = row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
                row.iter_mut().for_each(|value| *value = (f64::from(*value) / norm) as f32);
            }
        });
        out.write_all(bytemuck::cast_slice(values))?;
    }
    out.flush()
}

/// All numbers of a file.
pub(crate) fn read(file: &Path) -> Result<Vec<f32>> {
    let mut from = File::open(file)?;
    let mut values = vec![0.0f32; (from.metadata()?.len() / 4) as usize];
    from.read_exact(bytemuck::cast_slice_mut(&mut values))?;
    Ok(values)
}

/// How many rows a file has.
pub(crate) fn count(file: &Path, dimension: usize) -> Result<usize> {
    Ok((file.metadata()?.len() / 4) as usize / dimension)
}

/// All rows of a file.
pub(crate) fn rows(file: &Path, dimension: usize) -> Result<Rows> {
    let mut rows = Rows::with_capacity(count(file, dimension)?, dimension);
    stream(file, dimension, |some| some.chunks_exact(dimension).for_each(|row| rows.push(row)))?;
    Ok(rows)
}

/// Show a file to `visit`, some rows at a time.
pub(crate) fn stream(file: &Path, dimension: usize, mut visit: impl FnMut(&[f32])) -> Result<()> {
    let mut from = File::open(file)?;
    let rows = count(file, dimension)?;
    let mut values = vec![0.0f32; 4096 * dimension];
    for first in (0..rows).step_by(4096) {
        let values = &mut values[..(rows - first).min(4096) * dimension];
        from.read_exact(bytemuck::cast_slice_mut(values))?;
        visit(values);
    }
    Ok(())
}
