//! Queries as a search needs them.

#[cfg(target_arch = "x86_64")]
use crate::code;
use crate::code::CodedQuery;
use crate::lanes::{Line, to_lines};
use crate::layout::Exact;
use crate::numbers::{Position, RowNumber};
use crate::path::Path;
use crate::vectors::{Vectors, distance};

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
}

impl Queries<'_> {
    /// A query in lines.
    #[inline(always)]
    pub(crate) fn line(&self, bank: &Exact, query: usize) -> &[Line] {
        &self.lines[query * bank.stride..][..bank.stride]
    }

    /// The distance in f64 of a query to the row at a position, and that row's number.
    pub(crate) fn exact<'a>(&'a self, bank: &'a Exact, query: usize) -> impl Fn(Position) -> (f64, RowNumber) + 'a {
        move |at| (distance(self.values.row(query), bank.values(at, &mut Vec::new())), bank.number(at))
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
        Queries { first, values, lines, heads, coded }
    }
}
