//! Rows of any f32, checked, under one metric.

use rayon::prelude::*;

use crate::error::{Error, Given};
use crate::lanes::are_finite;
use crate::layout::{Exact, fits};
use crate::metric::Metric;
use crate::options::Layout;
use crate::surrogate::Surrogates;
use crate::vectors::Vectors;

/// Vectors as they are, normalised or not, to be searched exactly: [`Self::search`].
///
/// It keeps them as they came (4·d bytes a row), a surrogate of each in whole cache lines (4·d rounded up to 64), and on
/// processors with AVX-512 VNNI at most one byte a number besides. It does not change once it is made.
#[derive(Debug)]
pub struct Collection {
    pub(crate) metric: Metric,
    values: Vec<f32>,
    dimension: usize,
    ids: Option<Vec<u64>>,
    /// Surrogates of the rows; none: no rows.
    pub(crate) bank: Option<Exact>,
    pub(crate) surrogates: Surrogates,
}

impl Collection {
    /// Take n×d numbers, row after row; n may be 0. Every row is known by its place.
    ///
    /// Errors: [`Error::Dimension`] (1 ≤ d < 2¹⁷), [`Error::Length`], [`Error::TooMany`], [`Error::NotFinite`], and with
    /// [`Metric::Cosine`] [`Error::Zero`].
    pub fn new(values: Vec<f32>, dimension: usize, metric: Metric) -> Result<Self, Error> {
        Self::with_layout(values, dimension, metric, Layout::default())
    }

    /// The same, laid out as said: how fast searches are, not what they find. Also [`Error::Path`].
    pub fn with_layout(values: Vec<f32>, dimension: usize, metric: Metric, layout: Layout) -> Result<Self, Error> {
        let rows = checked(&values, dimension, metric, Given::Row)?;
        fits(rows.len(), Surrogates::dimension(metric, dimension), layout)?;
        let surrogates = Surrogates::new(metric, rows);
        let bank = (!rows.is_empty()).then(|| Exact::of_surrogates(surrogates.rows(rows), layout));
        Ok(Self { metric, values, dimension, ids: None, bank, surrogates })
    }

    /// Have results name rows by these, one for each in their order. Any numbers; two rows may have the same.
    ///
    /// Errors: [`Error::Ids`] where there is not one for each.
    pub fn with_ids(self, ids: Vec<u64>) -> Result<Self, Error> {
        if ids.len() != self.len() {
            return Err(Error::Ids { ids: ids.len(), rows: self.len() });
        }
        Ok(Self { ids: Some(ids), ..self })
    }

    /// Number of rows, n.
    pub fn len(&self) -> usize {
        self.values.len() / self.dimension
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Numbers per row, d.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// What near means.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// The rows as they were given.
    pub fn rows(&self) -> Vectors<'_> {
        Vectors::new(&self.values, self.dimension)
    }

    /// The id of a row: its place where none were given; `None` where there is no such row.
    pub fn id(&self, row: usize) -> Option<u64> {
        (row < self.len()).then(|| self.ids.as_ref().map_or(row as u64, |ids| ids[row]))
    }
}

/// Numbers as vectors that a metric takes.
pub(crate) fn checked(
    values: &[f32],
    dimension: usize,
    metric: Metric,
    at: fn(usize) -> Given,
) -> Result<Vectors<'_>, Error> {
    let vectors = Vectors::checked(values, dimension)?;
    let wrong = |row: usize| {
        let row = vectors.row(row);
        !are_finite(row) || metric == Metric::Cosine && row.iter().all(|&value| value == 0.0)
    };
    match (0..vectors.len()).into_par_iter().with_min_len(64).find_first(|&row| wrong(row)) {
        None => Ok(vectors),
        Some(row) if are_finite(vectors.row(row)) => Err(Error::Zero(at(row))),
        Some(row) => Err(Error::NotFinite(at(row))),
    }
}
