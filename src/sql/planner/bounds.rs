//! Which scores a query can use: comparisons as bounds, and the first n of an order.

use std::collections::BinaryHeap;
use std::fmt;

/// A score, ordered and hashed by its number: never NaN.
#[derive(Debug, Clone, Copy)]
pub struct Number(pub f32);

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Number {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl std::hash::Hash for Number {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// Scores that pass are more than `floor` and at most `ceiling`; the others' rows are dropped, as are those without.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// A score up to this does not pass.
    pub floor: Option<Number>,
    /// A score beyond this does not pass.
    pub ceiling: Option<Number>,
}

impl Bounds {
    /// `score > c`.
    pub fn above(c: f64) -> Self {
        Self { floor: Some(Number(at_most(c))), ceiling: None }
    }

    /// `score >= c`.
    pub fn from(c: f64) -> Self {
        Self { floor: Some(Number(below(c))), ceiling: None }
    }

    /// `score < c`.
    pub fn under(c: f64) -> Self {
        Self { floor: None, ceiling: Some(Number(below(c))) }
    }

    /// `score <= c`.
    pub fn up_to(c: f64) -> Self {
        Self { floor: None, ceiling: Some(Number(at_most(c))) }
    }

    /// Scores that pass both.
    pub fn and(self, other: Self) -> Self {
        Self {
            floor: self.floor.max(other.floor),
            ceiling: match (self.ceiling, other.ceiling) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
        }
    }

    /// Every score passes.
    pub fn is_open(&self) -> bool {
        self.floor.is_none() && self.ceiling.is_none()
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.floor, self.ceiling) {
            (Some(Number(floor)), Some(Number(ceiling))) => write!(f, "{floor} < score <= {ceiling}"),
            (Some(Number(floor)), None) => write!(f, "score > {floor}"),
            (None, Some(Number(ceiling))) => write!(f, "score <= {ceiling}"),
            (None, None) => write!(f, "any score"),
        }
    }
}

/// The largest f32 that is at most c: a score is at most c where it is at most this.
fn at_most(c: f64) -> f32 {
    let near = c as f32;
    if f64::from(near) <= c { near } else { near.next_down() }
}

/// The largest f32 below c.
fn below(c: f64) -> f32 {
    let near = c as f32;
    if f64::from(near) < c { near } else { near.next_down() }
}

/// Only the first rows of an order by score are wanted.
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

/// Rows after which there are bounds for the first time.
const FIRST_STEP: usize = 128;

/// The best scores so far.
#[derive(Debug)]
pub(super) struct Running {
    top: Top,
    /// The worst of the best is on top.
    best: BinaryHeap<Number>,
    seen: usize,
}

impl Running {
    pub(super) fn new(top: Top) -> Self {
        Self { top, best: BinaryHeap::new(), seen: 0 }
    }

    /// Rows of which so much is known that it is time to ask again: as many as were seen.
    pub(super) fn step(&self) -> usize {
        self.seen.max(FIRST_STEP)
    }

    /// Rows were searched.
    pub(super) fn see(&mut self, rows: usize) {
        self.seen += rows;
    }

    pub(super) fn add(&mut self, score: f32) {
        let rank = if self.top.largest { -score } else { score };
        self.best.push(Number(rank));
        if self.best.len() > self.top.rows {
            self.best.pop();
        }
    }

    /// Scores that can still be among the first: equal ones can, another key may decide.
    pub(super) fn bounds(&self) -> Bounds {
        let full = self.best.len() >= self.top.rows;
        match self.best.peek().filter(|_| full) {
            Some(&Number(worst)) if self.top.largest => Bounds::from(f64::from(-worst)),
            Some(&Number(worst)) => Bounds::up_to(f64::from(worst)),
            None => Bounds::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(bounds: Bounds, score: f32) -> bool {
        bounds.floor.is_none_or(|floor| score > floor.0) && bounds.ceiling.is_none_or(|ceiling| score <= ceiling.0)
    }

    #[test]
    fn bounds_say_what_the_comparison_says() {
        // 0.1 lies between two f32; 0.5 is one
        for c in [0.1, 0.5, 0.0, 2.0, -1.0, 1e-50, f64::from(0.1f32)] {
            let near = c as f32;
            for score in [near, near.next_up(), near.next_down(), 0.0, 2.0, 0.7] {
                let wide = f64::from(score);
                assert_eq!(passes(Bounds::above(c), score), wide > c, "{score} > {c}");
                assert_eq!(passes(Bounds::from(c), score), wide >= c, "{score} >= {c}");
                assert_eq!(passes(Bounds::under(c), score), wide < c, "{score} < {c}");
                assert_eq!(passes(Bounds::up_to(c), score), wide <= c, "{score} <= {c}");
                let between = Bounds::from(c).and(Bounds::up_to(c + 0.25));
                assert_eq!(passes(between, score), wide >= c && wide <= c + 0.25, "{score} between");
            }
        }
    }

    #[test]
    fn the_first_of_an_order_bound_the_rest() {
        let mut largest = Running::new(Top { rows: 2, largest: true });
        let mut smallest = Running::new(Top { rows: 2, largest: false });
        for score in [0.5, 0.7, 0.6, 0.1] {
            largest.add(score);
            smallest.add(score);
        }
        assert!(passes(largest.bounds(), 0.6) && !passes(largest.bounds(), 0.599));
        assert!(passes(smallest.bounds(), 0.5) && !passes(smallest.bounds(), 0.501));
        let mut few = Running::new(Top { rows: 3, largest: true });
        few.add(0.5);
        assert!(few.bounds().is_open());
    }
}
