//! What decides where an [`crate::Exact`] holds surrogates: the vectors as they were given.

use crate::bitmap::Bitmap;
use crate::metric::Metric;
use crate::numbers::RowNumber;
use crate::stop::Stop;
use crate::vectors::Vectors;

/// Rows and queries as they were given, and which of them count.
#[derive(Clone, Copy)]
pub(crate) struct Originals<'a> {
    pub(crate) metric: Metric,
    pub(crate) rows: Vectors<'a>,
    pub(crate) queries: Vectors<'a>,
    /// The rows that may be found; none: all.
    pub(crate) allowed: Option<&'a Bitmap>,
    /// Of how many rows one may be found, rounded down.
    pub(crate) thinned: usize,
    pub(crate) stop: &'a Stop<'a>,
}

impl Originals<'_> {
    /// What a row is compared by, in f64, and its number.
    pub(crate) fn key(&self, query: usize, number: RowNumber) -> (f64, RowNumber) {
        (self.metric.key(self.queries.row(query), self.rows.row(number.0 as usize)), number)
    }

    #[inline(always)]
    pub(crate) fn allows(&self, number: RowNumber) -> bool {
        self.allowed.is_none_or(|allowed| allowed.contains(number.0 as usize))
    }
}
