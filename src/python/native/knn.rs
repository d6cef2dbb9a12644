//! `outskirt.KNN` without a database: the engine on arrays.

use std::fs::File;
use std::time::{Duration, Instant};

use outskirt_exact::{
    Collection, Error, Exact, Given, Layout, Metric, Path, Question, RowNumber, Rows, Sampling, Stored, Vectors,
    normalized,
};
use pyo3::prelude::*;
use pyo3::types::PyByteArray;

use crate::arrays::{Floats, bytes};
use crate::errors::raised;
use crate::runtime::check_fork;

/// Queries that are asked at first, until it is known how long they take.
const FIRST_STEP: usize = 1024;
/// So long does a step take at most, between two looks at whether Ctrl-C was pressed.
const STEP_TIME: Duration = Duration::from_millis(400);

/// More queries where the last ones were quick, as many as take half of the time by that; half as many where they were slow.
fn next_step(step: usize, took: Duration) -> usize {
    if took < STEP_TIME / 2 {
        let times = (STEP_TIME / 2).as_secs_f64() / took.as_secs_f64().max(1e-6);
        step * (times as usize).clamp(2, 64)
    } else if took > STEP_TIME {
        (step / 2).max(64)
    } else {
        step
    }
}

/// Rows, and what finds the nearest of them.
enum Index {
    /// Of unit vectors, by angle: what a bank is.
    Units(Exact),
    /// Of vectors as they are, by Euclidean distance.
    Plain(Collection),
}

/// Rows to search.
#[pyclass(frozen, module = "outskirt._native")]
pub(crate) struct Searcher {
    index: Index,
}

#[pymethods]
impl Searcher {
    /// Of the rows of an array (n×d).
    #[new]
    fn new(py: Python<'_>, rows: &Bound<'_, PyAny>, euclidean: bool, k: usize) -> PyResult<Self> {
        check_fork(py)?;
        let rows = Floats::of(rows)?;
        let made = py.detach(|| Index::of(&rows, euclidean, k));
        Ok(Self { index: made.map_err(|refused| refused.raised(py))? })
    }

    /// Of rows that [`Self::rows`] gave, unit vectors already.
    #[staticmethod]
    fn of_units(py: Python<'_>, rows: &Bound<'_, PyAny>, k: usize) -> PyResult<Self> {
        check_fork(py)?;
        let given = Floats::of(rows)?;
        let made = py.detach(|| {
            let mut units = Rows::with_capacity(given.rows, given.width);
            given.values().chunks_exact(given.width).for_each(|row| units.push(row));
            Ok(Index::Units(Exact::checked(units, Layout { k, ..Layout::default() })?))
        });
        Ok(Self { index: made.map_err(|refused: Refused| refused.raised(py))? })
    }

    /// Another one, of these rows and further ones.
    fn with_more(&self, py: Python<'_>, more: &Bound<'_, PyAny>, k: usize) -> PyResult<Self> {
        check_fork(py)?;
        let more = Floats::of(more)?;
        let made = py.detach(|| self.index.and_more(&more, k));
        Ok(Self { index: made.map_err(|refused| refused.raised(py))? })
    }

    /// From a file that `write` made.
    #[staticmethod]
    fn open(py: Python<'_>, path: std::path::PathBuf) -> PyResult<(String, Self)> {
        check_fork(py)?;
        let opened = py.detach(|| {
            let stored = Stored::open(&path)?;
            let note = stored.note().to_owned();
            Ok((note, stored.load(Path::detect(), 0)?.0))
        });
        let (note, exact) = opened.map_err(|error: std::io::Error| {
            let class = if error.kind() == std::io::ErrorKind::NotFound { "NotFoundError" } else { "Error" };
            raised(py, class, &format!("{} is no index that KNN.save made: {error}", path.display()))
        })?;
        Ok((note, Self { index: Index::Units(exact) }))
    }

    /// The exact index file, with a note; the caller gives it its name.
    fn write(&self, py: Python<'_>, path: std::path::PathBuf, note: &str) -> PyResult<()> {
        check_fork(py)?;
        let written = py.detach(|| match &self.index {
            Index::Units(exact) => file(&exact.to_rows(), &path, note),
            Index::Plain(_) => Err(std::io::Error::other("an index of unit vectors is wanted")),
        });
        written.map_err(|error| raised(py, "Error", &format!("cannot write {}: {error}", path.display())))
    }

    /// All rows as bytes of f32, in the order in which they came; unit vectors where they are compared by angle.
    fn rows<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyByteArray>> {
        let values = py.detach(|| match &self.index {
            Index::Units(exact) => exact.to_rows().to_values(),
            Index::Plain(rows) => rows.rows().values().to_vec(),
        });
        bytes(py, &values)
    }

    /// (n, d).
    #[getter]
    fn shape(&self) -> (usize, usize) {
        self.index.shape()
    }

    /// How far the k-th nearest row of each query is: bytes of f32.
    fn kth<'py>(&self, py: Python<'py>, queries: &Bound<'py, PyAny>, k: usize) -> PyResult<Bound<'py, PyByteArray>> {
        let found = self.in_steps(py, queries, |index, queries, first| index.kth(queries, k, first))?;
        bytes(py, &found)
    }

    /// The k nearest rows of each query, nearest first: bytes of i64 places, and of f32 distances.
    fn nearest<'py>(
        &self,
        py: Python<'py>,
        queries: &Bound<'py, PyAny>,
        k: usize,
    ) -> PyResult<(Bound<'py, PyByteArray>, Bound<'py, PyByteArray>)> {
        let found = self.in_steps(py, queries, |index, queries, first| index.nearest(queries, k, first))?;
        let (places, distances): (Vec<i64>, Vec<f32>) = found.into_iter().unzip();
        Ok((bytes(py, &places)?, bytes(py, &distances)?))
    }

    /// How far the k-th nearest *other* row is, of rows that are given by their places: bytes of f32.
    fn leave_one_out<'py>(&self, py: Python<'py>, places: Vec<usize>, k: usize) -> PyResult<Bound<'py, PyByteArray>> {
        check_fork(py)?;
        let (index, (n, width)) = (&self.index, self.index.shape());
        if let Some(place) = places.iter().find(|place| **place >= n) {
            return Err(raised(py, "Error", &format!("there is no row {place} among {n}")));
        }
        let values = py.detach(|| index.values_of(&places));
        let mut found = Vec::with_capacity(places.len());
        let (all, mut first, mut step) = (Vectors::new(&values, width), 0, FIRST_STEP);
        while first < places.len() {
            let end = places.len().min(first + step);
            let start = Instant::now();
            let (queries, own) = (all.rows(first, end), &places[first..end]);
            found.extend(py.detach(|| index.leave_one_out(queries, own, k)).map_err(|refused| refused.raised(py))?);
            py.check_signals()?;
            (first, step) = (end, next_step(step, start.elapsed()));
        }
        bytes(py, &found)
    }
}

impl Searcher {
    /// Queries by some thousand, so that Ctrl-C is heard.
    fn in_steps<T: Send>(
        &self,
        py: Python<'_>,
        queries: &Bound<'_, PyAny>,
        ask: impl Fn(&Index, Vectors<'_>, usize) -> Result<Vec<T>, Refused> + Sync,
    ) -> PyResult<Vec<T>> {
        check_fork(py)?;
        let queries = Floats::of(queries)?;
        let (_, width) = self.index.shape();
        if queries.width != width {
            let message = format!("the vectors have {} numbers each, and those of the fit {width}", queries.width);
            return Err(raised(py, "DimensionError", &message));
        }
        let all = Vectors::new(queries.values(), width);
        let (mut found, mut first, mut step) = (Vec::new(), 0, FIRST_STEP);
        while first < queries.rows {
            let end = queries.rows.min(first + step);
            let start = Instant::now();
            let some = all.rows(first, end);
            found.extend(py.detach(|| ask(&self.index, some, first)).map_err(|refused| refused.raised(py))?);
            py.check_signals()?;
            (first, step) = (end, next_step(step, start.elapsed()));
        }
        Ok(found)
    }
}

/// Why not.
enum Refused {
    Vector { row: usize, problem: &'static str },
    Engine(Error),
}

const NOT_FINITE: &str = "not finite";

impl Refused {
    fn of(row: usize, problem: &'static str) -> Self {
        let problem = if problem == NOT_FINITE { "not finite (NaN or infinite)" } else { problem };
        Self::Vector { row, problem }
    }

    fn raised(&self, py: Python<'_>) -> PyErr {
        match self {
            Self::Vector { row, problem } => {
                raised(py, "VectorError", &format!("row {row} is {problem}: leave such rows out, or put them right"))
            }
            Self::Engine(error) => raised(py, "Error", &error.to_string()),
        }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFinite(Given::Row(row) | Given::Query(row)) => Self::of(row, NOT_FINITE),
            other => Self::Engine(other),
        }
    }
}

impl Index {
    fn of(rows: &Floats, euclidean: bool, k: usize) -> Result<Self, Refused> {
        let layout = Layout { k, ..Layout::default() };
        if euclidean {
            return Ok(Self::Plain(Collection::with_layout(
                rows.values().to_vec(),
                rows.width,
                Metric::Euclidean,
                layout,
            )?));
        }
        let mut units = Rows::with_capacity(rows.rows, rows.width);
        push_units(&mut units, Vectors::checked(rows.values(), rows.width)?)?;
        Ok(Self::Units(Exact::checked(units, layout)?))
    }

    fn and_more(&self, more: &Floats, k: usize) -> Result<Self, Refused> {
        let (_, width) = self.shape();
        let more = match Vectors::checked(more.values(), more.width)? {
            more if more.dimension() == width => more,
            more => return Err(Error::OtherDimension { given: more.dimension(), wanted: width }.into()),
        };
        let layout = Layout { k, ..Layout::default() };
        Ok(match self {
            Self::Units(exact) => {
                let mut units = exact.to_rows();
                push_units(&mut units, more)?;
                Self::Units(Exact::checked(units, layout)?)
            }
            Self::Plain(rows) => {
                let values = [rows.rows().values(), more.values()].concat();
                Self::Plain(Collection::with_layout(values, width, Metric::Euclidean, layout)?)
            }
        })
    }

    fn shape(&self) -> (usize, usize) {
        match self {
            Self::Units(exact) => (exact.len(), exact.dimension()),
            Self::Plain(rows) => (rows.len(), rows.dimension()),
        }
    }

    /// `first` is the number of the first query.
    fn kth(&self, queries: Vectors<'_>, k: usize, first: usize) -> Result<Vec<f32>, Refused> {
        match self {
            Self::Units(exact) => {
                let units = units(queries, first)?;
                let queries = Vectors::new(&units, queries.dimension());
                // of unit vectors the first stands for all
                exact.accepts(queries.rows(0, queries.len().min(1)), Question::all(k))?;
                Ok(exact.kth_distances(queries, k))
            }
            Self::Plain(_) => {
                let found = self.nearest(queries, k, first)?;
                Ok(found.chunks_exact(k).filter_map(|nearest| Some(nearest.last()?.1)).collect())
            }
        }
    }

    /// k for each query, one query after the other.
    fn nearest(&self, queries: Vectors<'_>, k: usize, first: usize) -> Result<Vec<(i64, f32)>, Refused> {
        match self {
            Self::Units(exact) => {
                let units = units(queries, first)?;
                let queries = Vectors::new(&units, queries.dimension());
                exact.accepts(queries, Question::all(k))?;
                let place = |(number, distance): (RowNumber, f32)| (i64::from(number.0), distance);
                Ok(exact.nearest(queries, k, None).into_iter().flatten().map(place).collect())
            }
            Self::Plain(rows) => {
                let found = rows.search().nearest(queries.values(), k).map_err(|error| match error {
                    Error::NotFinite(Given::Query(row)) => Refused::of(first + row, NOT_FINITE),
                    other => other.into(),
                })?;
                Ok(found.into_iter().flatten().map(|one| (one.row as i64, one.value as f32)).collect())
            }
        }
    }

    /// Some rows, as they are compared.
    fn values_of(&self, places: &[usize]) -> Vec<f32> {
        match self {
            Self::Units(exact) => {
                let rows = exact.to_rows();
                places.iter().flat_map(|&place| rows.row(place)).copied().collect()
            }
            Self::Plain(rows) => places.iter().flat_map(|&place| rows.rows().row(place)).copied().collect(),
        }
    }

    /// `queries` are the rows at these places.
    fn leave_one_out(&self, queries: Vectors<'_>, places: &[usize], k: usize) -> Result<Vec<f32>, Refused> {
        match self {
            Self::Units(exact) => {
                let own: Vec<Option<RowNumber>> = places.iter().map(|&place| Some(RowNumber(place as u32))).collect();
                let question = Question { excluded: Some(&own), ..Question::all(k) };
                exact.accepts(queries, question)?;
                Ok(exact.find(queries, question).into_iter().map(|kth| kth.distance()).collect())
            }
            Self::Plain(rows) => {
                let found = rows.search().nearest(queries.values(), k + 1)?;
                let others = found.iter().zip(places).map(|(nearest, &place)| {
                    let others = nearest.iter().filter(|one| one.row != place).take(k);
                    others.last().map_or(0.0, |one| one.value as f32)
                });
                Ok(others.collect())
            }
        }
    }
}

/// Normalised, or which row is no vector.
fn units(queries: Vectors<'_>, first: usize) -> Result<Vec<f32>, Refused> {
    normalized(queries).map_err(|(row, problem)| Refused::of(first + row, problem))
}

fn push_units(rows: &mut Rows, more: Vectors<'_>) -> Result<(), Refused> {
    // by parts: what is normalised is beside the rows for a moment
    for first in (0..more.len()).step_by(FIRST_STEP) {
        let units = units(more.rows(first, more.len().min(first + FIRST_STEP)), first)?;
        units.chunks_exact(more.dimension()).for_each(|unit| rows.push(unit));
    }
    Ok(())
}

/// Write an index file.
fn file(rows: &Rows, path: &std::path::Path, note: &str) -> std::io::Result<()> {
    let mut sampling = Sampling::new(rows.len(), rows.dimension(), Layout::default());
    (0..rows.len()).for_each(|row| sampling.see(rows.row(row)));
    let mut placing = sampling.placing();
    (0..rows.len()).for_each(|row| placing.place(row as u64, rows.row(row)));
    let mut filing = placing.filing(path, note)?;
    for row in 0..rows.len() {
        filing.add(rows.row(row))?;
    }
    filing.finish()?;
    File::open(path)?.sync_all()
}
