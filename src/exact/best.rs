//! What one query has found so far.

use crate::numbers::{Position, RowNumber};
use crate::slack::{Blur, RADIUS};

/// Candidates that rounding cannot tell from the k-th, beside k, that are kept before f64 tells them apart.
const TIES: usize = 1024;

/// Nearer rows first, and of equally near ones the one that was given first.
pub(crate) fn by_distance(a: &(f64, RowNumber), b: &(f64, RowNumber)) -> std::cmp::Ordering {
    a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
}

/// Rows beyond k after which the k nearest are sorted out: often enough that the limit follows.
fn spare(k: usize) -> usize {
    (k / 4).max(64)
}

/// A squared distance in f32, from above; squares of tiny distances underflow, by far less than the least normal number.
fn up(square: f64) -> f32 {
    (square as f32).next_up() + f32::MIN_POSITIVE
}

/// The nearest rows that a query has visited, and how far it still has to look.
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
    excluded: Position,
    within: usize,
    /// Rows that are within for certain are counted and not kept.
    counts: bool,
    /// Rows are surrogates: how far off they are.
    blur: Option<Blur>,
    /// Squared distances and positions of the rows that may be among the k nearest.
    pub(crate) candidates: Vec<(f32, Position)>,
    /// Candidates from which on the k nearest are sorted out.
    room: usize,
    /// Relative error of a squared distance ([`crate::slack`]): of two that are compared, twice that.
    pub(crate) error: f32,
}

impl Best {
    /// To look for k rows; a search stops when k are within `floor`, and needs none beyond `ceiling`.
    pub(crate) fn new(k: usize, floor: Option<f32>, ceiling: Option<f32>, excluded: Position, error: f32) -> Self {
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
        let room = k + spare(k) + if ceiling.is_some() { TIES } else { 0 };
        Self {
            k,
            limit,
            done: limit < 0.0,
            stops: floor.is_some(),
            certain,
            excluded,
            within: 0,
            counts: false,
            blur: None,
            candidates: Vec::new(),
            room,
            error,
        }
    }

    /// To look for k surrogates.
    pub(crate) fn blurred(k: usize, blur: Blur, error: f32) -> Self {
        Self { blur: Some(blur), ..Self::new(k, None, None, Position::NONE, error) }
    }

    /// To look for all surrogates of at most this figure; those that are so for certain need not be kept.
    pub(crate) fn all_within(figure: f64, counts: bool, blur: Blur, error: f32) -> Self {
        let (most, certain) = (blur.most(figure), blur.certain(figure));
        let limit = if most < 0.0 { -1.0 } else { up(most * (1.0 + f64::from(error))) };
        let certain = if counts { (certain * (1.0 - f64::from(error))) as f32 - f32::MIN_POSITIVE } else { -1.0 };
        let (k, room, blur) = (usize::MAX, usize::MAX, Some(blur));
        let one = Self::new(1, None, None, Position::NONE, error);
        Self { k, limit, done: limit < 0.0, certain, counts, blur, room, ..one }
    }

    /// To look for none.
    pub(crate) fn none(error: f32) -> Self {
        Self::new(1, None, Some(-1.0), Position::NONE, error)
    }

    /// Rows that the first cells should hold: τ is near its end then, or known already.
    pub(crate) fn at_first(&self) -> usize {
        if self.room == usize::MAX { 1 } else { 2 * self.k }
    }

    /// The limit of distances that in f32 are at most this one: a float less than the next.
    pub(crate) fn limit_of(distance: f32, error: f32) -> f32 {
        let beyond = distance.next_up();
        beyond * beyond * (1.0 + error) + f32::MIN_POSITIVE
    }

    /// A row at this squared distance; says whether the limit has moved. `exact` is the distance in f64 of the row at a
    /// position, and its number.
    #[inline(always)]
    pub(crate) fn add(
        &mut self,
        squared: f32,
        position: Position,
        exact: &dyn Fn(Position) -> (f64, RowNumber),
    ) -> bool {
        if squared > self.limit || position == self.excluded {
            return false;
        }
        let is_certain = squared <= self.certain;
        if is_certain {
            self.within += 1;
            self.done = self.within >= self.k;
        }
        if is_certain && self.counts {
            return false;
        }
        self.candidates.push((squared, position));
        if self.candidates.len() >= self.room {
            self.shrink(exact);
            return true;
        }
        false
    }

    /// Lower the limit to what was found so far.
    pub(crate) fn settle(&mut self, exact: &dyn Fn(Position) -> (f64, RowNumber)) {
        if self.candidates.len() > self.k && !self.done {
            self.shrink(exact);
        }
    }

    /// Keep the k nearest and what rounding cannot tell from the k-th, and lower the limit to it.
    #[cold]
    #[inline(never)]
    fn shrink(&mut self, exact: &dyn Fn(Position) -> (f64, RowNumber)) {
        let (_, kth, _) = self.candidates.select_nth_unstable_by(self.k - 1, |a, b| a.0.total_cmp(&b.0));
        let error = f64::from(self.error);
        let beyond = match self.blur {
            Some(blur) => up(blur.widen(f64::from(kth.0) * (1.0 + error)) * (1.0 + error)),
            None => kth.0 * (1.0 + 2.0 * self.error) + f32::MIN_POSITIVE,
        };
        self.limit = self.limit.min(beyond);
        let limit = self.limit;
        self.candidates.retain(|&(squared, _)| squared <= limit);
        if self.candidates.len() > 4 * self.k + TIES {
            // copies of one row are many at times: the k of them that f64 finds nearest tell as much as all
            let mut exactly: Vec<_> =
                self.candidates.iter().map(|&candidate| (exact(candidate.1), candidate)).collect();
            exactly.select_nth_unstable_by(self.k - 1, |a, b| by_distance(&a.0, &b.0));
            self.candidates.clear();
            self.candidates.extend(exactly.into_iter().take(self.k).map(|(_, candidate)| candidate));
        }
        let beyond = self.candidates.len().saturating_sub(self.k);
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
        Self { candidates: Vec::new(), ..self.clone() }
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
        self.candidates.extend(part.candidates);
    }
}
