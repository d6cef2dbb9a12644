//! Rows on their way in: record batches that Python makes one after the other, and the reader that asks for them.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, RecordBatchReader, StringArray};
use arrow::buffer::ScalarBuffer;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ffi_stream::ArrowArrayStreamReader;
use arrow_pyarrow::FromPyArrow;
use pyo3::prelude::*;

use crate::arrays::Floats;
use crate::errors::{of_arrow, raised};
use crate::query::Rows;
use crate::runtime::Raised;

/// Some rows.
#[pyclass(frozen, from_py_object, module = "outskirt._native")]
#[derive(Clone)]
pub(crate) struct Batch(pub(crate) RecordBatch);

#[pymethods]
impl Batch {
    /// Vectors (n×d arrays of float32) and texts, each with a name, and beside them the columns of other rows.
    #[staticmethod]
    fn of(
        py: Python<'_>,
        vectors: Vec<(String, Bound<'_, PyAny>)>,
        texts: Vec<(String, Vec<Option<String>>)>,
        beside: Option<&Self>,
    ) -> PyResult<Self> {
        let mut columns: Vec<(String, ArrayRef)> = Vec::new();
        for (name, array) in vectors {
            columns.push((name, Arc::new(lists(py, &Floats::of(&array)?)?)));
        }
        for (name, texts) in texts {
            columns.push((name, Arc::new(StringArray::from(texts))));
        }
        if let Some(Self(beside)) = beside {
            let names = beside.schema_ref().fields().iter().map(|field| field.name().clone());
            columns.extend(names.zip(beside.columns().iter().cloned()));
        }
        RecordBatch::try_from_iter(columns).map(Self).map_err(|error| of_arrow(py, &error))
    }

    /// All rows of an Arrow table.
    #[staticmethod]
    fn read(py: Python<'_>, table: &Bound<'_, PyAny>) -> PyResult<Self> {
        let reader = ArrowArrayStreamReader::from_pyarrow_bound(table)?;
        let schema = reader.schema();
        let read = py.detach(|| concat_batches(&schema, &reader.collect::<Result<Vec<_>, _>>()?));
        read.map(Self).map_err(|error| of_arrow(py, &error))
    }

    /// An iterator over the batches of an Arrow stream.
    #[staticmethod]
    fn stream(table: &Bound<'_, PyAny>) -> PyResult<Batches> {
        let reader = ArrowArrayStreamReader::from_pyarrow_bound(table)?;
        Ok(Batches(Mutex::new(reader)))
    }

    /// Rows `first` to `first + count`.
    fn slice(&self, py: Python<'_>, first: usize, count: usize) -> PyResult<Self> {
        if first + count > self.0.num_rows() {
            let rows = self.0.num_rows();
            return Err(raised(py, "Error", &format!("rows {first} to {} of {rows}", first + count)));
        }
        Ok(Self(self.0.slice(first, count)))
    }

    /// The same as rows of a result.
    fn rows(&self) -> Rows {
        Rows { schema: self.0.schema(), batches: vec![self.0.clone()] }
    }

    #[getter]
    fn names(&self) -> Vec<String> {
        self.0.schema_ref().fields().iter().map(|field| field.name().clone()).collect()
    }

    fn __len__(&self) -> usize {
        self.0.num_rows()
    }
}

/// What [`Batch::stream`] gives.
#[pyclass(frozen, module = "outskirt._native")]
pub(crate) struct Batches(Mutex<ArrowArrayStreamReader>);

#[pymethods]
impl Batches {
    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Batch>> {
        let next = py.detach(|| self.0.lock().unwrap_or_else(PoisonError::into_inner).next());
        next.map(|batch| batch.map(Batch).map_err(|error| of_arrow(py, &error))).transpose()
    }
}

/// Vectors as a column, without a copy.
pub(crate) fn lists(py: Python<'_>, floats: &Floats) -> PyResult<FixedSizeListArray> {
    let values = Float32Array::new(ScalarBuffer::new(floats.buffer(), 0, floats.rows * floats.width), None);
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let width = i32::try_from(floats.width).unwrap_or(i32::MAX);
    FixedSizeListArray::try_new_with_length(item, width, Arc::new(values), None, floats.rows)
        .map_err(|error| of_arrow(py, &error))
}

/// Asks a Python iterator for batches; what it raises is kept, for the caller to raise it again.
pub(crate) struct FromPython {
    schema: SchemaRef,
    first: Option<RecordBatch>,
    rest: Py<PyAny>,
    raised: Raised,
}

impl FromPython {
    /// The first batch says what the columns are.
    pub(crate) fn of(batches: &Bound<'_, PyAny>, raised: Raised) -> PyResult<Self> {
        let rest = batches.try_iter()?.into_any();
        let mut iterator = rest.try_iter()?;
        let first = match iterator.next().transpose()? {
            Some(batch) => Some(batch.extract::<Batch>()?.0),
            None => None,
        };
        let schema = first.as_ref().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
        Ok(Self { schema, first, rest: rest.unbind(), raised })
    }
}

impl Iterator for FromPython {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        Python::attach(|py| {
            let asked = || -> PyResult<Option<RecordBatch>> {
                let Some(next) = self.rest.bind(py).try_iter()?.next() else { return Ok(None) };
                Ok(Some(next?.extract::<Batch>()?.0))
            };
            match asked() {
                Ok(None) => None,
                Ok(Some(batch)) if batch.schema() != self.schema => {
                    let message = "batches of one append have the same columns, of the same types";
                    Some(Err(ArrowError::SchemaError(message.into())))
                }
                Ok(Some(batch)) => Some(Ok(batch)),
                Err(error) => {
                    let message = error.to_string();
                    self.raised.keep(error);
                    Some(Err(ArrowError::ExternalError(message.into())))
                }
            }
        })
    }
}

impl RecordBatchReader for FromPython {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
