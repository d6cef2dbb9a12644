//! A few rows that stand for many: greedy farthest-point selection.

use rayon::prelude::*;

/// Rows that a thread looks at in one go.
const ROWS: usize = 1024;
const LANES: usize = 8;
/// The square of a distance between unit vectors up to which they are copies.
const SAME: f32 = 1e-12;

/// Rows that were chosen, and for how many each stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// Their places, in the order in which they were chosen.
    pub chosen: Vec<usize>,
    /// How many rows are nearest to each, itself among them; of equally near ones the one that was chosen first has them.
    pub members: Vec<usize>,
}

/// Choose up to `n` of `rows` (N × `dimension`, unit vectors): first the one that is most like all (nearest to their mean), then
/// always the one that is farthest from all that are chosen. Copies of chosen ones are not chosen, so there may be fewer.
///
/// The largest distance of any row to the nearest chosen one is at most twice the least that any `n` rows can have: Gonzalez,
/// *Clustering to minimize the maximum intercluster distance*, Theoretical Computer Science 1985. O(N · n · dimension).
pub fn farthest_first(rows: &[f32], dimension: usize, n: usize) -> Coverage {
    let count = rows.len().checked_div(dimension).unwrap_or(0);
    let row = |at: usize| &rows[at * dimension..(at + 1) * dimension];
    let mut found = Coverage { chosen: Vec::new(), members: Vec::new() };
    if count == 0 || n == 0 {
        return found;
    }
    let mut mean = vec![0f64; dimension];
    (0..count).for_each(|at| mean.iter_mut().zip(row(at)).for_each(|(sum, x)| *sum += f64::from(*x)));
    let mean: Vec<f32> = mean.iter().map(|sum| (sum / count as f64) as f32).collect();
    let (mut nearest, mut of) = (vec![f32::INFINITY; count], vec![0usize; count]);
    let mut next = (0..count).min_by(|a, b| square(row(*a), &mean).total_cmp(&square(row(*b), &mean)));
    while let Some(chosen) = next.filter(|_| found.chosen.len() < n) {
        let place = found.chosen.len();
        found.chosen.push(chosen);
        let blocks = nearest.par_chunks_mut(ROWS).zip(of.par_chunks_mut(ROWS)).enumerate();
        let farthest = blocks.map(|(block, (nearest, of))| {
            let mut farthest = (f32::NEG_INFINITY, 0);
            for (at, (nearest, of)) in nearest.iter_mut().zip(of).enumerate() {
                let distance = square(row(block * ROWS + at), row(chosen));
                if distance < *nearest {
                    (*nearest, *of) = (distance, place);
                }
                if *nearest > farthest.0 {
                    farthest = (*nearest, block * ROWS + at);
                }
            }
            farthest
        });
        // of equally far ones the first, whatever the threads
        let first = |one: (f32, usize), other: (f32, usize)| {
            if other.0 > one.0 || other.0 == one.0 && other.1 < one.1 { other } else { one }
        };
        let (distance, farthest) = farthest.reduce(|| (f32::NEG_INFINITY, usize::MAX), first);
        next = (distance > SAME).then_some(farthest);
    }
    found.members = vec![0; found.chosen.len()];
    of.iter().for_each(|place| found.members[*place] += 1);
    found
}

/// The square of a distance: sums of every eighth term, which a processor adds together.
fn square(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let (ones, others) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = ones.remainder().iter().zip(others.remainder()).map(|(a, b)| (a - b) * (a - b)).sum();
    for (ones, others) in ones.zip(others) {
        for lane in 0..LANES {
            let off = ones[lane] - others[lane];
            sums[lane] += off * off;
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points on a circle, by their angle in degrees.
    fn circle(angles: &[f32]) -> Vec<f32> {
        angles.iter().flat_map(|angle| [angle.to_radians().cos(), angle.to_radians().sin()]).collect()
    }

    #[test]
    fn each_group_is_chosen_once_and_stands_for_its_members() {
        let rows = circle(&[0.0, 1.0, 2.0, 3.0, 90.0, 91.0, 180.0]);
        let found = farthest_first(&rows, 2, 3);
        let group = |at: usize| [0, 0, 0, 0, 1, 1, 2][at];
        let mut groups: Vec<(usize, usize)> = found.chosen.iter().map(|at| group(*at)).zip(found.members).collect();
        groups.sort_unstable();
        assert_eq!(groups, [(0, 4), (1, 2), (2, 1)]);
    }

    #[test]
    fn copies_are_not_chosen_twice_and_nothing_of_nothing() {
        let rows = circle(&[10.0, 10.0, 10.0, 50.0]);
        let found = farthest_first(&rows, 2, 4);
        assert_eq!(found.members.iter().sum::<usize>(), 4);
        assert_eq!(found.chosen.len(), 2);
        assert_eq!(farthest_first(&[], 2, 3).chosen, [] as [usize; 0]);
        assert_eq!(farthest_first(&rows, 2, 0).members, [] as [usize; 0]);
    }

    /// The radius is at most twice the best one, which all choices of three give.
    #[test]
    fn the_radius_is_within_twice_the_best() {
        let angles: Vec<f32> = (0..12u32).map(|at| (at * at * 37 % 360) as f32).collect();
        let rows = circle(&angles);
        let radius = |chosen: &[usize]| {
            let nearest = |at: usize| {
                let of = |c: &usize| square(&rows[2 * at..2 * at + 2], &rows[2 * c..2 * c + 2]).sqrt();
                chosen.iter().map(of).fold(f32::INFINITY, f32::min)
            };
            (0..12).map(nearest).fold(0.0, f32::max)
        };
        let mut best = f32::INFINITY;
        for a in 0..12 {
            for b in a + 1..12 {
                for c in b + 1..12 {
                    best = best.min(radius(&[a, b, c]));
                }
            }
        }
        let found = radius(&farthest_first(&rows, 2, 3).chosen);
        assert!(best <= found && found <= 2.0 * best, "{best} {found}");
    }
}
