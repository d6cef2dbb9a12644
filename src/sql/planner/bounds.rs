//! Which scores a query can use: comparisons as bounds, and the first n of an order.

use std::collections::BinaryHeap;
use std::fmt;

/// A score, ordered and hashed by its value; never NaN.
#[derive(Debug, Clone, Copy)]
pub struct Score(pub f32);

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl std::hash::Hash for Score {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// Scores pass that are above `lower` and at most `upper`. Rows with another score are dropped, as are rows without one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// A score passes above this.
    pub lower: Option<Score>,
    /// A score passes up to this.
    pub upper: Option<Score>,
}

impl Bounds {
    /// `score > c`.
    pub fn above(c: f64) -> Self {
        Self { lower: Some(Score(at_most(c))), upper: None }
    }

    /// `score >= c`.
    pub fn from(c: f64) -> Self {
        Self { lower: Some(Score(below(c))), upper: None }
    }

    /// `score < c`.
    pub fn under(c: f64) -> Self {
        Self { lower: None, upper: Some(Score(below(c))) }
    }

    /// `score <= c`.
    pub fn up_to(c: f64) -> Self {
        Self { lower: None, upper: Some(Score(at_most(c))) }
    }

    /// Scores that pass both.
    pub fn and(self, other: Self) -> Self {
        Self {
            lower: self.lower.max(other.lower),
            upper: match (self.upper, other.upper) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
        }
    }

    /// Whether every score passes.
    pub fn is_unbounded(&self) -> bool {
        self.lower.is_none() && self.upper.is_none()
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.lower, self.upper) {
            (Some(Score(lower)), Some(Score(upper))) => write!(f, "{lower} < score <= {upper}"),
            (Some(Score(lower)), None) => write!(f, "score > {lower}"),
            (None, Some(Score(upper))) => write!(f, "score <= {upper}"),
            (None, None) => write!(f, "any score"),
        }
    }
}

/// The largest f32 that is at most c: a score is at most c where it is at most this.
fn at_most(c: f64) -> f32 {
    // -0.0 is 0.0, whatever the total order of floats says
    let rounded = (c + 0.0) as f32;
    if f64::from(rounded) <= c { rounded } else { rounded.next_down() }
}

/// The largest f32 below c.
fn below(c: f64) -> f32 {
    let rounded = c as f32;
    if f64::from(rounded) < c { rounded } else { rounded.next_down() }
}

/// The query needs only the first rows in the order of their scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Top {
    /// How many.
    pub rows: usize,
    /// Largest scores first, or smallest.
    pub largest: bool,
}

impl fmt::Display for Top {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} scores", if self.largest { "largest" } else { "smallest" }, self.rows)
    }
}

/// How many rows are searched before the bounds are read for the first time.
const FIRST_STEP: usize = 128;

/// The best scores so far.
#[derive(Debug)]
pub(super) struct BestScores {
    top: Top,
    /// The worst of them is on top.
    best: BinaryHeap<Score>,
    searched: usize,
}

impl BestScores {
    pub(super) fn new(top: Top) -> Self {
        Self { top, best: BinaryHeap::new(), searched: 0 }
    }

    /// How many rows to search before the bounds are read again: as many as were searched so far.
    pub(super) fn step(&self) -> usize {
        self.searched.max(FIRST_STEP)
    }

    /// Count rows that were searched.
    pub(super) fn count(&mut self, rows: usize) {
        self.searched += rows;
    }

    pub(super) fn add(&mut self, score: f32) {
        let rank = if self.top.largest { -score } else { score };
        self.best.push(Score(rank));
        if self.best.len() > self.top.rows {
            self.best.pop();
        }
    }

    /// The scores that can still be among the first. An equal score can, because another key may decide.
    pub(super) fn bounds(&self) -> Bounds {
        let full = self.best.len() >= self.top.rows;
        match self.best.peek().filter(|_| full) {
            Some(&Score(worst)) if self.top.largest => Bounds::from(f64::from(-worst)),
            Some(&Score(worst)) => Bounds::up_to(f64::from(worst)),
            None => Bounds::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(bounds: Bounds, score: f32) -> bool {
        bounds.lower.is_none_or(|lower| score > lower.0) && bounds.upper.is_none_or(|upper| score <= upper.0)
    }

    #[test]
    fn bounds_say_what_the_comparison_says() {
        // 0.1 lies between two f32; 0.5 is one
        for c in [0.1, 0.5, 0.0, 2.0, -1.0, 1e-50, f64::from(0.1f32)] {
            let rounded = c as f32;
            for score in [rounded, rounded.next_up(), rounded.next_down(), 0.0, 2.0, 0.7] {
                let wide = f64::from(score);
                assert_eq!(passes(Bounds::above(c), score), wide > c, "{score} > {c}");
                assert_eq!(passes(Bounds::from(c), score), wide >= c, "{score} >= {c}");
                assert_eq!(passes(Bounds::under(c), score), wide < c, "{score} < {c}");
                assert_eq!(passes(Bounds::up_to(c), score), wide <= c, "{score} <= {c}");
                let between = Bounds::from(c).and(Bounds::up_to(c + 0.25));
                assert_eq!(passes(between, score), wide >= c && wide <= c + 0.25, "{score} between");
                for both in [Bounds::up_to(c).and(Bounds::under(0.5)), Bounds::under(0.5).and(Bounds::up_to(c))] {
                    assert_eq!(passes(both, score), wide <= c && wide < 0.5, "{score} <= {c} and < 0.5");
                }
            }
        }
    }

    #[test]
    fn a_score_of_zero_is_not_above_minus_zero() {
        assert_eq!(Bounds::up_to(-0.0), Bounds::up_to(0.0));
        assert_eq!(Bounds::above(-0.0), Bounds::above(0.0));
    }

    #[test]
    fn the_first_of_an_order_bound_the_rest() {
        let mut largest = BestScores::new(Top { rows: 2, largest: true });
        let mut smallest = BestScores::new(Top { rows: 2, largest: false });
        for score in [0.5, 0.7, 0.6, 0.1] {
            largest.add(score);
            smallest.add(score);
        }
        assert!(passes(largest.bounds(), 0.6) && !passes(largest.bounds(), 0.599));
        assert!(passes(smallest.bounds(), 0.5) && !passes(smallest.bounds(), 0.501));
        let mut few = BestScores::new(Top { rows: 3, largest: true });
        few.add(0.5);
        assert!(few.bounds().is_unbounded());
    }
}
