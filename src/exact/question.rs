//! What a search is asked, and what it answers.

use crate::numbers::RowNumber;

/// What is asked about the k-th nearest vector of each query. Vectors are known by `Key`: here by number, and by an id
/// where an index has them.
#[derive(Debug)]
pub struct Question<'a, Key = RowNumber> {
    /// Which neighbour, from 1.
    pub k: usize,
    /// Distances up to this need no value: [`Kth::Within`] says enough. The search stops as soon as k vectors are that
    /// near.
    pub floor: Option<Bound<'a>>,
    /// Distances beyond this need no value: [`Kth::Beyond`] says enough. The search goes no farther.
    pub ceiling: Option<Bound<'a>>,
    /// Per query, the vector that is excluded: its own.
    pub excluded: Option<&'a [Option<Key>]>,
}

/// A distance to compare with.
#[derive(Debug, Clone, Copy)]
pub enum Bound<'a> {
    /// One for all queries.
    All(f32),
    /// One per query.
    Each(&'a [f32]),
}

/// What was found of a k-th distance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kth {
    /// It is at most the floor.
    Within,
    /// It is this, more than the floor and at most the ceiling.
    At(f32),
    /// It is more than the ceiling.
    Beyond,
}

impl Kth {
    /// The distance where it was asked for, otherwise NaN.
    pub fn distance(self) -> f32 {
        if let Self::At(distance) = self { distance } else { f32::NAN }
    }
}

impl Bound<'_> {
    #[inline(always)]
    fn of(self, query: usize) -> f32 {
        match self {
            Self::All(bound) => bound,
            Self::Each(bounds) => bounds[query],
        }
    }

    fn fits(self, queries: usize) -> bool {
        match self {
            Self::All(_) => true,
            Self::Each(bounds) => bounds.len() == queries,
        }
    }
}

// derived, these would want the same of keys
impl<Key> Clone for Question<'_, Key> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Key> Copy for Question<'_, Key> {}

impl<'a, Key> Question<'a, Key> {
    /// Every k-th distance.
    pub fn all(k: usize) -> Self {
        Self { k, floor: None, ceiling: None, excluded: None }
    }

    /// Whether it is at most a cutoff.
    pub fn within(k: usize, cutoff: Bound<'a>) -> Self {
        Self { k, floor: Some(cutoff), ceiling: Some(cutoff), excluded: None }
    }

    /// The same, where vectors are known otherwise.
    pub fn excluding<'b, Other>(self, excluded: Option<&'b [Option<Other>]>) -> Question<'b, Other>
    where
        'a: 'b,
    {
        Question { k: self.k, floor: self.floor, ceiling: self.ceiling, excluded }
    }

    /// Where the k-th distance of a query lies; `None`: no k vectors were found within the ceiling.
    pub fn answer(&self, query: usize, kth: Option<f32>) -> Kth {
        match kth {
            Some(kth) if self.floor_of(query).is_some_and(|floor| kth <= floor) => Kth::Within,
            Some(kth) if self.ceiling_of(query).is_none_or(|ceiling| kth <= ceiling) => Kth::At(kth),
            _ => Kth::Beyond,
        }
    }

    pub(crate) fn floor_of(&self, query: usize) -> Option<f32> {
        self.floor.map(|floor| floor.of(query))
    }

    /// The ceiling of a query, where there is one.
    pub fn ceiling_of(&self, query: usize) -> Option<f32> {
        self.ceiling.map(|ceiling| ceiling.of(query))
    }

    /// Whether there is one of each per query.
    pub(crate) fn fits(&self, queries: usize) -> bool {
        let bounds = [self.floor, self.ceiling];
        let fit = bounds.iter().flatten().all(|bound| bound.fits(queries));
        fit && self.excluded.is_none_or(|excluded| excluded.len() == queries)
    }
}
