//! How far embeddings in one precision are from those in another, and what that does to scores.

use outskirt_exact::{Vectors, kth_distances_brute, normalize};

/// Which neighbour's distance is compared; fewer where there are fewer images.
const K: usize = 10;

/// The same images, embedded twice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deviation {
    /// How many images were compared.
    pub images: usize,
    /// Distance between the two embeddings of an image, both of norm one: the median, and the largest.
    pub embedding: (f32, f32),
    /// Which neighbour, among the compared images.
    pub k: usize,
    /// Difference of the distances to it, relative to the one in f32: the median, and the largest.
    pub score: (f32, f32),
}

impl Deviation {
    /// `found` and `expected` are n×dimension; `None` for fewer than two images, or where one has no direction.
    pub fn of(found: &[f32], expected: &[f32], dimension: usize) -> Option<Self> {
        let images = expected.len() / dimension.max(1);
        if images < 2 || found.len() != expected.len() {
            return None;
        }
        let unit = |values: &[f32]| -> Option<Vec<f32>> {
            let mut all = Vec::with_capacity(values.len());
            values.chunks_exact(dimension).try_for_each(|row| normalize(row, &mut all)).ok()?;
            Some(all)
        };
        let (found, expected) = (unit(found)?, unit(expected)?);
        let rows = found.chunks_exact(dimension).zip(expected.chunks_exact(dimension));
        let apart = rows.map(|(a, b)| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt()).collect();
        let k = K.min(images - 1);
        // each image is its own nearest
        let distances =
            |rows: &[f32]| kth_distances_brute(Vectors::new(rows, dimension), Vectors::new(rows, dimension), k + 1);
        let pairs = distances(&found).into_iter().zip(distances(&expected));
        let differences = pairs.map(|(a, b)| (a - b).abs() / b.max(f32::MIN_POSITIVE)).collect();
        Some(Self { images, embedding: middle_and_most(apart), k, score: middle_and_most(differences) })
    }
}

fn middle_and_most(mut values: Vec<f32>) -> (f32, f32) {
    values.sort_unstable_by(f32::total_cmp);
    (values[values.len() / 2], values[values.len() - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_embeddings_do_not_differ_and_turned_ones_do() {
        let rows = [1.0, 0.0, 0.0, 2.0, -3.0, 0.0];
        let same = Deviation::of(&rows, &rows, 2).unwrap();
        assert_eq!((same.images, same.k, same.embedding, same.score), (3, 2, (0.0, 0.0), (0.0, 0.0)));
        // the first is turned by a right angle: √2 from where it was, and 0 from the second in place of √2
        let turned = Deviation::of(&[0.0, 1.0, 0.0, 2.0, -3.0, 0.0], &rows, 2).unwrap();
        assert!((turned.embedding.1 - 2f32.sqrt()).abs() < 1e-6 && turned.score.1 > 0.2, "{turned:?}");
        assert_eq!(Deviation::of(&rows[..2], &rows[..2], 2), None);
        assert_eq!(Deviation::of(&[0.0; 6], &rows, 2), None);
    }
}
