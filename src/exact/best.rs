//! What one query has found so far.

use crate::slack::RADIUS;

/// Rows that rounding cannot tell from the k-th, k and these, that are kept before f64 tells them apart.
const UNTOLD: usize = 1024;

/// No position.
pub(crate) const NONE: u32 = u32::MAX;

/// Nearer rows first, and of equally near ones the one that was given first.
pub(crate) fn by_distance(a: &(f64, u32), b: &(f64, u32)) -> std::cmp::Ordering {
    a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
}

/// Rows beyond k after which the k nearest are sorted out: often enough that the limit follows.
fn spare(k: usize) -> usize {
    (k / 4).max(64)
}

/// The nearest rows that a query has met, and how far it still has to look.
#[derive(Debug, Clone)]
pub(crate) struct Best {
    pub(crate) k: usize,
    /// Square of τ: rows farther away are of no use. Includes the rounding of the distances it came from.
    pub(crate) limit: f32,
    /// k rows are within the floor, or none may be within the ceiling: nothing more to ask.
    pub(crate) done: bool,
    /// k rows within a floor are an answer.
    stops: bool,
    /// Squared distances up to this are within the floor for certain.
    certain: f32,
    /// The position that is left out; [`NONE`]: none is.
    own: u32,
    within: usize,
    /// Squared distances and positions.
    pub(crate) kept: Vec<(f32, u32)>,
    room: usize,
    /// Relative error of a squared distance ([`crate::slack`]): of two that are compared, twice that.
    pub(crate) error: f32,
}

impl Best {
    /// To look for k rows; a search stops when k are within `floor`, and needs none beyond `ceiling`.
    pub(crate) fn new(k: usize, floor: Option<f32>, ceiling: Option<f32>, own: u32, error: f32) -> Self {
        // squares of tiny distances underflow, by far less than the least normal number
        let limit = match ceiling {
            Some(c) if c < 0.0 => -1.0,
            Some(c) => Self::limit_of(c, error),
            None => f32::INFINITY,
        };
        let certain = match floor {
            Some(c) if c >= 0.0 => c * c * (1.0 - error) - f32::MIN_POSITIVE,
            _ => -1.0,
        };
        let room = k + spare(k) + if ceiling.is_some() { UNTOLD } else { 0 };
        let (stops, kept) = (floor.is_some(), Vec::new());
        Self { k, limit, done: limit < 0.0, stops, certain, own, within: 0, kept, room, error }
    }

    /// The limit of distances that in f32 are at most this one: a float less than the next.
    pub(crate) fn limit_of(told: f32, error: f32) -> f32 {
        let beyond = told.next_up();
        beyond * beyond * (1.0 + error) + f32::MIN_POSITIVE
    }

    /// A row at this squared distance; says whether the limit has moved. `exact` is a row's distance in f64
    /// and its number among those given.
    #[inline(always)]
    pub(crate) fn add(&mut self, squared: f32, row: u32, exact: &dyn Fn(u32) -> (f64, u32)) -> bool {
        if squared > self.limit || row == self.own {
            return false;
        }
        self.kept.push((squared, row));
        if squared <= self.certain {
            self.within += 1;
            self.done = self.within >= self.k;
        }
        if self.kept.len() >= self.room {
            self.shrink(exact);
            return true;
        }
        false
    }

    /// Lower the limit to what was found so far.
    pub(crate) fn settle(&mut self, exact: &dyn Fn(u32) -> (f64, u32)) {
        if self.kept.len() > self.k && !self.done {
            self.shrink(exact);
        }
    }

    /// Keep the k nearest and what rounding cannot tell from the k-th, and lower the limit to it.
    #[cold]
    #[inline(never)]
    fn shrink(&mut self, exact: &dyn Fn(u32) -> (f64, u32)) {
        let (_, kth, _) = self.kept.select_nth_unstable_by(self.k - 1, |a, b| a.0.total_cmp(&b.0));
        self.limit = self.limit.min(kth.0 * (1.0 + 2.0 * self.error) + f32::MIN_POSITIVE);
        let limit = self.limit;
        self.kept.retain(|&(squared, _)| squared <= limit);
        if self.kept.len() > 4 * self.k + UNTOLD {
            // copies of one row are many at times: the k of them that f64 finds nearest tell as much as all
            let mut told: Vec<_> = self.kept.iter().map(|&kept| (exact(kept.1), kept)).collect();
            told.select_nth_unstable_by(self.k - 1, |a, b| by_distance(&a.0, &b.0));
            self.kept.clear();
            self.kept.extend(told.into_iter().take(self.k).map(|(_, kept)| kept));
        }
        let beyond = self.kept.len().saturating_sub(self.k);
        self.room = self.k + spare(self.k).max(2 * beyond);
    }

    /// τ, rounded up; NaN where there is nothing more to ask.
    #[inline(always)]
    pub(crate) fn tau(&self) -> f32 {
        if self.done { f32::NAN } else { self.limit.max(0.0).sqrt() * (1.0 + RADIUS) }
    }

    /// k rows are certainly within the floor.
    pub(crate) fn sure(&self) -> bool {
        self.stops && self.within >= self.k
    }

    /// The same search in another part of the bank.
    pub(crate) fn part(&self) -> Self {
        Self { kept: Vec::new(), ..self.clone() }
    }

    /// How many rows are within the floor for certain.
    pub(crate) fn within(&self) -> usize {
        self.within
    }

    /// What a [`Self::part`] found, which began with `before` rows within the floor.
    pub(crate) fn join(&mut self, part: Self, before: usize) {
        self.within += part.within - before;
        self.done |= part.done;
        self.limit = self.limit.min(part.limit);
        self.kept.extend(part.kept);
    }
}
