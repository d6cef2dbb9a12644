//! Queries as a search needs them.

#[cfg(target_arch = "x86_64")]
use crate::code;
use crate::code::CodedQuery;
use crate::lanes::{Line, to_lines};
use crate::layout::Exact;
use crate::numbers::{Position, RowNumber};
use crate::originals::Originals;
use crate::path::Path;
use crate::vectors::{Vectors, distance, product};

/// Queries as a search needs them.
pub(crate) struct Queries<'a> {
    /// Number of the first among all that were asked.
    pub(crate) first: usize,
    pub(crate) values: Vectors<'a>,
    pub(crate) lines: Vec<Line>,
    /// Along the bank's directions, where its path estimates in 8 bits; none where it has none: the head is the whole row.
    pub(crate) heads: Option<Vec<Line>>,
    /// In 8 bits, four codes to an integer, where the bank's path estimates in them.
    pub(crate) coded: (Vec<i32>, Vec<CodedQuery>),
    /// ‖q‖² / 2, where the bank's rows have any norm and its path estimates by products.
    pub(crate) halves: Option<Vec<f32>>,
    /// What decides, where the bank holds surrogates.
    pub(crate) originals: Option<Originals<'a>>,
}

impl Queries<'_> {
    /// A query in lines.
    #[inline(always)]
    pub(crate) fn line(&self, bank: &Exact, query: usize) -> &[Line] {
        &self.lines[query * bank.stride..][..bank.stride]
    }

    /// The distance in f64 of a query to the row at a position, or what else they are compared by, and that row's number.
    pub(crate) fn exact<'a>(&'a self, bank: &'a Exact, query: usize) -> impl Fn(Position) -> (f64, RowNumber) + 'a {
        move |at| match &self.originals {
            Some(originals) => originals.key(query, bank.number(at)),
            None => (distance(self.values.row(query), bank.values(at, &mut Vec::new())), bank.number(at)),
        }
    }

    /// Whether the row at a position may be found.
    #[inline(always)]
    pub(crate) fn allows(&self, bank: &Exact, at: Position) -> bool {
        self.originals.as_ref().is_none_or(|originals| originals.allows(bank.number(at)))
    }

    /// Whether the search is to end.
    pub(crate) fn stopped(&self) -> bool {
        self.originals.as_ref().is_some_and(|originals| originals.stop.now())
    }

    /// Of rows that the first cells should hold, how many more for those that may not be found.
    pub(crate) fn thinned(&self, rows: usize) -> usize {
        self.originals.as_ref().map_or(rows, |originals| rows.saturating_mul(originals.thinned))
    }
}

impl Exact {
    /// Queries in lines, along the directions, and in 8 bits.
    pub(crate) fn prepare<'a>(&self, values: Vectors<'a>, first: usize) -> Queries<'a> {
        let lines = to_lines(values);
        // nobody else looks at heads
        let directions = self.directions.as_ref().filter(|_| self.path == Path::Avx512Vnni);
        let heads = directions.map(|directions| directions.project(self.path, &lines));
        let coded = match self.path {
            // SAFETY: a path is only used where the processor has its features.
            #[cfg(target_arch = "x86_64")]
            Path::Avx512Vnni => unsafe { code::queries(heads.as_deref().unwrap_or(&lines), &self.mean_head) },
            _ => Default::default(),
        };
        let half = |query: usize| (product(values.row(query), values.row(query)) / 2.0) as f32;
        let halves = self.halves.as_ref().map(|_| (0..values.len()).map(half).collect());
        Queries { first, values, lines, heads, coded, halves, originals: None }
    }
}
