//! Rows on their way in: record batches that Python makes one after the other, and the reader that asks for them.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, RecordBatchReader, StringArray};
use arrow::buffer::ScalarBuffer;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ffi_stream::ArrowArrayStreamReader;
use arrow_pyarrow::FromPyArrow;
use pyo3::prelude::*;
use pyo3::types::PyIterator;

use crate::arrays::Floats;
use crate::errors::{of_arrow, raised};
use crate::query::Rows;
use crate::runtime::Task;

/// Batches that wait for being checked.
const AHEAD: usize = 2;

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
            let others = names.zip(beside.columns().iter().cloned());
            let is_new = |name: &String| columns.iter().all(|(given, _)| given != name);
            let others: Vec<(String, ArrayRef)> = others.filter(|(name, _)| is_new(name)).collect();
            columns.extend(others);
        }
        RecordBatch::try_from_iter(columns).map(Self).map_err(|error| of_arrow(py, &error))
    }

    /// All rows of an Arrow table.
    #[staticmethod]
    fn read(py: Python<'_>, table: &Bound<'_, PyAny>) -> PyResult<Self> {
        let reader = ArrowArrayStreamReader::from_pyarrow_bound(table)?;
        let schema = reader.schema();
        let read = py.detach(|| plain(concat_batches(&schema, &reader.collect::<Result<Vec<_>, _>>()?)?));
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
        next.map(|batch| batch.and_then(plain).map(Batch).map_err(|error| of_arrow(py, &error))).transpose()
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

/// Batches that Python hands over.
pub(crate) struct Handed {
    schema: SchemaRef,
    batches: Receiver<Result<RecordBatch, ArrowError>>,
}

impl Iterator for Handed {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batches.recv().ok()
    }
}

impl RecordBatchReader for Handed {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

/// A Python iterator of batches, asked by the thread that waits: no other one runs Python's code.
pub(crate) struct Feed<'py> {
    rest: Bound<'py, PyIterator>,
    schema: SchemaRef,
    next: Option<RecordBatch>,
    send: Option<SyncSender<Result<RecordBatch, ArrowError>>>,
}

impl<'py> Feed<'py> {
    /// The first batch says what the columns are.
    pub(crate) fn of(batches: &Bound<'py, PyAny>) -> PyResult<(Self, Handed)> {
        let mut rest = batches.try_iter()?;
        let next = match rest.next().transpose()? {
            Some(batch) => Some(batch.extract::<Batch>()?.0),
            None => None,
        };
        let schema = next.as_ref().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
        let (send, batches) = sync_channel(AHEAD);
        let handed = Handed { schema: Arc::clone(&schema), batches };
        Ok((Self { rest, schema, next, send: Some(send) }, handed))
    }

    /// Hand all of them to the task that takes them, and wait for it.
    pub(crate) fn to<T: Send + 'static>(
        mut self,
        py: Python<'py>,
        mut task: Task<T>,
        mut meanwhile: impl FnMut(Python<'_>) -> PyResult<()>,
    ) -> PyResult<T> {
        let fed = loop {
            match self.hand_over(py, &mut task) {
                Ok(Handing::Ended(done)) => return Ok(done),
                Ok(Handing::Over) => {}
                Ok(Handing::Out) => break Ok(()),
                Err(error) => break Err(error),
            }
            if let Err(error) = meanwhile(py) {
                task.end(py);
                return Err(error);
            }
        };
        if let (Err(error), Some(send)) = (&fed, &self.send) {
            // what came before it is kept
            let message = error.to_string();
            let send = send.clone();
            py.detach(move || drop(send.send(Err(ArrowError::ExternalError(message.into())))));
        }
        self.send = None;
        let done = task.join(py, meanwhile);
        fed.and(done)
    }

    fn hand_over<T: Send + 'static>(&mut self, py: Python<'py>, task: &mut Task<T>) -> PyResult<Handing<T>> {
        let (Some(batch), Some(send)) = (self.next.take(), &self.send) else { return Ok(Handing::Out) };
        let mut waiting = Some(Ok(batch));
        while let Some(batch) = waiting.take() {
            match send.try_send(batch) {
                Ok(()) => {}
                Err(TrySendError::Full(batch)) => {
                    waiting = Some(batch);
                    if let Some(done) = task.within(py, Duration::from_millis(10))? {
                        return Ok(Handing::Ended(done));
                    }
                }
                // it has ended, with an error most likely
                Err(TrySendError::Disconnected(_)) => return Ok(Handing::Out),
            }
        }
        if let Some(next) = self.rest.next().transpose()? {
            let batch = next.extract::<Batch>()?.0;
            check_like(py, &self.schema, &batch)?;
            self.next = Some(batch);
        }
        Ok(Handing::Over)
    }
}

enum Handing<T> {
    /// A batch was taken.
    Over,
    /// There are no more.
    Out,
    /// The task has ended meanwhile.
    Ended(T),
}

/// Refuse a batch of other columns than the first one's.
fn check_like(py: Python<'_>, first: &Schema, batch: &RecordBatch) -> PyResult<()> {
    let schema = batch.schema();
    let differs = first
        .fields()
        .iter()
        .find(|field| schema.field_with_name(field.name()).map_or(true, |now| now.data_type() != field.data_type()));
    let new = schema.fields().iter().find(|field| first.field_with_name(field.name()).is_err());
    let message = match (differs, new) {
        (Some(field), _) => {
            let now = schema.field_with_name(field.name()).map_or("missing".into(), |now| now.data_type().to_string());
            format!(
                "pieces of one append have the same columns: '{}' was {}, and is {now}",
                field.name(),
                field.data_type()
            )
        }
        (None, Some(new)) => {
            format!("pieces of one append have the same columns: '{}' was not there before", new.name())
        }
        (None, None) => return Ok(()),
    };
    Err(raised(py, "DimensionError", &message))
}

/// Without what pandas notes beside the columns, which differs from piece to piece.
fn plain(batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = Schema::new(batch.schema_ref().fields().clone());
    RecordBatch::try_new(Arc::new(schema), batch.columns().to_vec())
}
