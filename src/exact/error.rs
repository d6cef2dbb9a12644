//! What is refused, and why: facts, and what to do.

use std::fmt;

/// Which of the vectors that were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// Those of a collection or bank, by their row.
    Row(usize),
    /// Those of a search, by their place among the queries.
    Query(usize),
}

/// Why a collection was not made, or a search not answered.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// Vectors of no number, or of more than there may be.
    Dimension {
        /// What was given.
        given: usize,
        /// The most that there may be; the least is 1.
        most: usize,
    },
    /// Queries of another dimension than the rows'.
    OtherDimension {
        /// What was given.
        given: usize,
        /// That of the rows.
        wanted: usize,
    },
    /// Numbers that are no whole number of vectors.
    Length {
        /// How many numbers.
        numbers: usize,
        /// Numbers per vector.
        dimension: usize,
    },
    /// More rows than the 2³² − 1 that are told apart.
    TooMany {
        /// How many rows.
        rows: usize,
    },
    /// No row, where at least one is needed.
    Empty,
    /// A number that is NaN or infinite.
    NotFinite(Given),
    /// A vector of zeros, which has no direction and so no cosine.
    Zero(Given),
    /// A vector whose norm is not one, where unit vectors are wanted.
    NotUnit(Given),
    /// Ids that are not as many as rows.
    Ids {
        /// How many ids.
        ids: usize,
        /// How many rows.
        rows: usize,
    },
    /// A bitmap made for another number of rows.
    Bitmap {
        /// For how many it was made.
        bits: usize,
        /// How many rows there are.
        rows: usize,
    },
    /// k is 0, or more than there are rows where a k-th must exist.
    K {
        /// What was asked.
        k: usize,
        /// The most that there may be.
        most: usize,
    },
    /// A bound that is NaN: nothing compares with it.
    Bound,
    /// Bounds or exclusions that are not one per query.
    PerQuery,
    /// Instructions that this processor does not have, by name.
    Path(&'static str),
    /// The caller's closure asked for the search to end.
    Cancelled,
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row(at) => write!(f, "row {at}"),
            Self::Query(at) => write!(f, "query {at}"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dimension { given, most } => write!(f, "vectors of {given} numbers: 1 to {most} are possible"),
            Self::OtherDimension { given, wanted } => write!(f, "queries of {given} numbers for rows of {wanted}"),
            Self::Length { numbers, dimension } => {
                write!(f, "{numbers} numbers are no whole number of vectors of {dimension}: give n×d, row after row")
            }
            Self::TooMany { rows } => write!(f, "{rows} rows: at most {} fit into one collection", u32::MAX),
            Self::Empty => write!(f, "no row: give at least one"),
            Self::NotFinite(at) => write!(f, "{at} has a number that is NaN or infinite: leave that vector out"),
            Self::Zero(at) => write!(f, "{at} is all zero and has no cosine: leave it out, or take another metric"),
            Self::NotUnit(at) => write!(f, "vectors of norm one: {at} is not; normalise it, or use a Collection"),
            Self::Ids { ids, rows } => write!(f, "{ids} ids for {rows} rows: give one per row"),
            Self::Bitmap { bits, rows } => write!(f, "a bitmap of {bits} rows for {rows}: make it for as many"),
            Self::K { k, most: usize::MAX } => write!(f, "k = {k}: 1 or more is possible"),
            Self::K { k, most } => write!(f, "k = {k}: 1 to {most} is possible"),
            Self::Bound => write!(f, "the bound is NaN: give a number"),
            Self::PerQuery => write!(f, "bounds and exclusions: give one of each per query"),
            Self::Path(name) => write!(f, "this processor has no {name}: take one of Path::available()"),
            Self::Cancelled => write!(f, "cancelled"),
        }
    }
}

impl std::error::Error for Error {}
