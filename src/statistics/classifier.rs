//! A classifier that is to tell two samples of embeddings apart: where it can, they differ.

use outskirt_exact::Vectors;

use super::cholesky::dot;
use super::gaussian::Fit;
use super::intervals::{Area, Interval};
use super::normal;
use super::sampling::mixed;

/// Parts of each sample; a row is scored by a classifier that has not seen its part.
const FOLDS: usize = 5;
/// Of the order in which rows go to parts.
const SEED: u64 = 5;

/// How well two samples are told apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Told {
    /// The chance that a row of the second sample scores above one of the first: 0.5 where nothing tells them apart.
    pub auroc: f64,
    /// Where it lies, with the confidence that was asked for.
    pub interval: Interval,
    /// The chance of an AUROC as large where the samples have one distribution.
    pub pvalue: f64,
}

/// Tell two samples of normalised rows apart, n×d and m×d, in O((n + m) · d² + d³); `None` where one has fewer than four rows, or
/// the rows do not vary.
///
/// Lopez-Paz, Oquab: *Revisiting Classifier Two-Sample Tests*, ICLR 2017. The classifier is a linear discriminant: rows are
/// whitened by their covariance, which is shrunk by d / (d + n + m) towards a sphere and does not know the samples, and are
/// projected on the difference of the samples' means. Five-fold: the means are those of the other parts. AUROC is the mean of the
/// parts'. Its variance is DeLong's of each part, times what Nadeau and Bengio (*Inference for the Generalization Error*, Machine
/// Learning 2003) add for classifiers that share most of what they are fitted to: without that, one in five p-values is below 0.1
/// where nothing differs.
pub fn tell_apart(one: Vectors<'_>, other: Vectors<'_>, confidence: f64) -> Option<Told> {
    let (n, m) = (one.len(), other.len());
    let folds = FOLDS.min(n.min(m) / 2);
    if folds < 2 {
        return None;
    }
    let d = one.dimension();
    let mut fit = Fit::new(d);
    let samples = [one, other];
    samples.iter().for_each(|sample| (0..sample.len()).for_each(|at| fit.add(0, sample.row(at))));
    let gaussian = fit.finish_shrunk(d as f64 / (d + n + m) as f64)?;
    let parts: Vec<Vec<Part>> = samples
        .iter()
        .map(|sample| {
            let mut parts = vec![Part { rows: Vec::new(), sum: vec![0.0; d] }; folds];
            let mut order: Vec<usize> = (0..sample.len()).collect();
            order.sort_unstable_by_key(|&at| mixed(at as u64, SEED));
            order.iter().enumerate().for_each(|(place, &at)| parts[place % folds].add(gaussian.whiten(sample.row(at))));
            parts
        })
        .collect();
    let (mut auroc, mut variance, mut null_variance, mut overlap) = (0.0, 0.0, 0.0, 0);
    for fold in 0..folds {
        let means = parts.iter().map(|parts| mean_of_others(parts, fold)).collect::<Vec<_>>();
        let direction: Vec<f64> = means[1].iter().zip(&means[0]).map(|(other, one)| other - one).collect();
        let scores = |part: &Part| part.rows.iter().map(|row| dot(row, &direction)).collect::<Vec<f64>>();
        let (first, second) = (scores(&parts[0][fold]), scores(&parts[1][fold]));
        let area = Area::of(&first, &second)?;
        let (rows, pairs) = ((first.len() + second.len()) as f64, (first.len() * second.len()) as f64);
        let share = 1.0 / folds as f64;
        auroc += share * area.auroc;
        variance += share * share * area.variance;
        overlap += area.overlap;
        // of a rank sum
        null_variance += share * share * (rows + 1.0) / (12.0 * pairs);
    }
    // 1 / folds + rows that are scored / rows that were fitted to, in place of 1 / folds
    let shared = 1.0 + folds as f64 / (folds - 1) as f64;
    (variance, null_variance) = (shared * variance, shared * null_variance);
    let interval = Area { auroc, variance, overlap }.interval(n, m, confidence);
    Some(Told { auroc, interval, pvalue: normal::cdf((0.5 - auroc) / null_variance.sqrt()) })
}

/// Whitened rows of a sample.
#[derive(Clone)]
struct Part {
    rows: Vec<Vec<f64>>,
    sum: Vec<f64>,
}

impl Part {
    fn add(&mut self, row: Vec<f64>) {
        self.sum.iter_mut().zip(&row).for_each(|(sum, x)| *sum += x);
        self.rows.push(row);
    }
}

/// The mean row of all parts but one.
fn mean_of_others(parts: &[Part], left_out: usize) -> Vec<f64> {
    let others = || parts.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, part)| part);
    let rows = others().map(|part| part.rows.len()).sum::<usize>() as f64;
    let mut mean = vec![0.0; parts[left_out].sum.len()];
    for part in others() {
        mean.iter_mut().zip(&part.sum).for_each(|(mean, sum)| *mean += sum / rows);
    }
    mean
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::simulated::Normal;

    /// Rows of d numbers around (100, 0, …), the second number shifted: normalised, that number is about normal.
    fn sample(normal: &mut Normal, rows: usize, d: usize, shift: f64) -> Vec<f32> {
        let mut units = Vec::new();
        for _ in 0..rows {
            let row: Vec<f32> = (0..d)
                .map(|at| {
                    (normal.next() + if at == 1 { shift } else { 0.0 } + if at == 0 { 100.0 } else { 0.0 }) as f32
                })
                .collect();
            outskirt_exact::normalize(&row, &mut units).unwrap();
        }
        units
    }

    /// The best AUROC is Φ(shift / √2), and a classifier of many rows is near it.
    #[test]
    fn what_differs_is_told_apart_and_what_does_not_is_not() {
        let mut normal = Normal::new(4);
        let (one, other) = (sample(&mut normal, 400, 5, 0.0), sample(&mut normal, 300, 5, 1.5));
        let told = tell_apart(Vectors::new(&one, 5), Vectors::new(&other, 5), 0.95).unwrap();
        let best = normal::cdf(1.5 / 2f64.sqrt());
        assert!(told.interval.lower < best && best < told.interval.upper && told.pvalue < 1e-12, "{told:?}, {best}");
        assert!(told.interval.upper - told.interval.lower < 0.12, "{told:?}");
        let (small, numbers) = (sample(&mut normal, 6, 5, 0.0), sample(&mut normal, 6, 5, 9.0));
        let apart = tell_apart(Vectors::new(&small, 5), Vectors::new(&numbers, 5), 0.95).unwrap();
        assert!(apart.auroc == 1.0 && apart.interval.upper == 1.0 && apart.interval.lower < 0.95, "{apart:?}");
    }

    /// More numbers than rows, too: under the null the AUROC is 0.5 on average, and small p-values are as rare as they say.
    #[test]
    fn under_the_null_p_values_hold_what_they_say() {
        for (rows, d) in [(40, 4), (15, 60)] {
            let mut normal = Normal::new(6);
            let (mut small, mut held, mut sum, runs) = (0, 0, 0.0, 300);
            for _ in 0..runs {
                let (one, other) = (sample(&mut normal, rows, d, 0.0), sample(&mut normal, rows + 5, d, 0.0));
                let told = tell_apart(Vectors::new(&one, d), Vectors::new(&other, d), 0.9).unwrap();
                small += u32::from(told.pvalue <= 0.1);
                held += u32::from(told.interval.lower <= 0.5 && 0.5 <= told.interval.upper);
                sum += told.auroc / f64::from(runs);
            }
            assert!((sum - 0.5).abs() < 0.03, "{rows}, {d}: {sum}");
            assert!(small <= 50, "{rows}, {d}: {small} of 300 at 0.1");
            assert!(held >= 240, "{rows}, {d}: {held} of 300 at 0.9");
        }
    }

    #[test]
    fn few_or_equal_rows_tell_nothing() {
        let same = [0.6f32, 0.8].repeat(5);
        assert_eq!(tell_apart(Vectors::new(&same, 2), Vectors::new(&same, 2), 0.95), None);
        assert_eq!(tell_apart(Vectors::new(&same[..6], 2), Vectors::new(&same, 2), 0.95), None);
    }
}
