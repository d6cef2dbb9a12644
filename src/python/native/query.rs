//! What a statement gives: rows that Arrow's stream interface, NumPy or plain Python take.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchIterator, RecordBatchReader};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int32Type, Int64Type, SchemaRef, TimeUnit, TimestampNanosecondType, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::ffi_stream::FFI_ArrowArrayStream;
use arrow::util::display::array_value_to_string;
use datafusion::common::ScalarValue;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::sql::parser::Statement;
use futures::{StreamExt, TryStreamExt};
use outskirt::sql::session::Session;
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict, PyList, PyTuple};

use crate::arrays::bytes;
use crate::errors::{of_arrow, to_python};
use crate::runtime::{Task, wait};

/// Rows that are there.
#[pyclass(frozen, module = "outskirt._native")]
pub(crate) struct Rows {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Vec<RecordBatch>,
}

#[pymethods]
impl Rows {
    fn __len__(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    #[getter]
    fn names(&self) -> Vec<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    #[getter]
    fn types(&self) -> Vec<String> {
        self.schema.fields().iter().map(|field| field.data_type().to_string()).collect()
    }

    /// Arrow's PyCapsule interface.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let _ = requested_schema; // the interface allows to give what there is
        let batches: Vec<Result<RecordBatch, ArrowError>> = self.batches.iter().cloned().map(Ok).collect();
        capsule(py, RecordBatchIterator::new(batches, Arc::clone(&self.schema)))
    }

    /// Each batch as rows of its own.
    fn split(&self) -> Vec<Self> {
        let one = |batch: &RecordBatch| Self { schema: Arc::clone(&self.schema), batches: vec![batch.clone()] };
        self.batches.iter().map(one).collect()
    }

    /// By column: bytes with NumPy's name of the type and a shape, or a list of Python's values where NumPy has no such type
    /// or some are NULL.
    fn columns<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let all = concat_batches(&self.schema, &self.batches).map_err(|error| of_arrow(py, &error))?;
        all.columns().iter().map(|column| numpy(py, column)).collect()
    }

    /// The values of each row.
    fn tuples<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        let mut rows = Vec::with_capacity(self.__len__());
        for batch in &self.batches {
            for row in 0..batch.num_rows() {
                let values = batch.columns().iter().map(|column| value(py, column, row));
                rows.push(PyTuple::new(py, values.collect::<PyResult<Vec<_>>>()?)?);
            }
        }
        Ok(rows)
    }

    /// A dictionary for each row.
    fn dictionaries<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for batch in &self.batches {
            for row in 0..batch.num_rows() {
                let one = PyDict::new(py);
                for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
                    one.set_item(field.name(), value(py, column, row)?)?;
                }
                list.append(one)?;
            }
        }
        Ok(list)
    }
}

/// A query that was planned; each reading runs it again, over the same versions of the tables.
#[pyclass(frozen, module = "outskirt._native")]
pub(crate) struct Query {
    session: Arc<Session>,
    statement: Statement,
    schema: SchemaRef,
    /// The first run, which was planned when the query was made.
    ready: Mutex<Option<SendableRecordBatchStream>>,
}

impl Query {
    pub(crate) fn of(session: Arc<Session>, statement: Statement, ready: SendableRecordBatchStream) -> Self {
        Self { session, statement, schema: ready.schema(), ready: Mutex::new(Some(ready)) }
    }

    fn stream(&self, py: Python<'_>) -> PyResult<SendableRecordBatchStream> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ready) = ready {
            return Ok(ready);
        }
        let (session, statement) = (Arc::clone(&self.session), self.statement.clone());
        wait(py, async move { session.run(statement).await })
    }
}

#[pymethods]
impl Query {
    #[getter]
    fn names(&self) -> Vec<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    #[getter]
    fn types(&self) -> Vec<String> {
        self.schema.fields().iter().map(|field| field.data_type().to_string()).collect()
    }

    /// Arrow's PyCapsule interface: rows are computed as they are asked for.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let _ = requested_schema; // the interface allows to give what there is
        let stream = self.stream(py)?;
        capsule(py, Reader { schema: Arc::clone(&self.schema), stream: Some(stream) })
    }

    /// All rows, or the first ones.
    #[pyo3(signature = (most=None))]
    fn collect(&self, py: Python<'_>, most: Option<usize>) -> PyResult<Rows> {
        let mut stream = self.stream(py)?;
        let batches = wait(py, async move {
            let Some(most) = most else { return stream.try_collect().await.map_err(outskirt::Error::from) };
            let (mut batches, mut rows) = (Vec::new(), 0);
            while rows < most
                && let Some(batch) = stream.try_next().await?
            {
                let batch: RecordBatch = batch.slice(0, batch.num_rows().min(most - rows));
                rows += batch.num_rows();
                batches.push(batch);
            }
            Ok(batches)
        })?;
        Ok(Rows { schema: Arc::clone(&self.schema), batches })
    }
}

/// A stream, asked for batches one after the other from any thread.
struct Reader {
    schema: SchemaRef,
    stream: Option<SendableRecordBatchStream>,
}

impl Iterator for Reader {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut stream = self.stream.take()?;
        let asked = Python::attach(|py| {
            // whoever reads may never look himself
            py.check_signals()?;
            let task = Task::spawn(py, async move {
                let batch = stream.next().await;
                (batch, stream)
            })?;
            let (batch, stream) = task.join(py, |_| Ok(()))?;
            match batch.transpose() {
                Ok(batch) => Ok((batch, stream)),
                Err(error) => Err(to_python(py, &outskirt::Error::from(error))),
            }
        });
        match asked {
            Ok((None, _)) => None,
            Ok((Some(batch), stream)) => {
                self.stream = Some(stream);
                Some(Ok(batch))
            }
            Err(error) => {
                // whoever reads the stream makes an error of his own of it; Ctrl-C stays one
                let message = Python::attach(|py| {
                    if error.is_instance_of::<pyo3::exceptions::PyKeyboardInterrupt>(py) {
                        // SAFETY: it takes no arguments, and the interpreter is attached
                        unsafe { pyo3::ffi::PyErr_SetInterrupt() };
                    }
                    error.value(py).to_string()
                });
                Some(Err(ArrowError::ExternalError(message.into())))
            }
        }
    }
}

impl RecordBatchReader for Reader {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

fn capsule<'py>(py: Python<'py>, reader: impl RecordBatchReader + Send + 'static) -> PyResult<Bound<'py, PyCapsule>> {
    PyCapsule::new(py, FFI_ArrowArrayStream::new(Box::new(reader)), Some(c"arrow_array_stream".to_owned()))
}

/// See [`Rows::columns`].
fn numpy<'py>(py: Python<'py>, column: &ArrayRef) -> PyResult<Bound<'py, PyAny>> {
    let with = |bytes: Bound<'py, pyo3::types::PyByteArray>, kind: &str, shape: Vec<usize>| {
        (bytes, kind, shape).into_bound_py_any(py)
    };
    let failed = |error: ArrowError| of_arrow(py, &error);
    let rows = vec![column.len()];
    match column.data_type() {
        // NULL is NaN, as everywhere in Python
        DataType::Float32 => {
            let values: Vec<f32> =
                column.as_primitive::<Float32Type>().iter().map(|value| value.unwrap_or(f32::NAN)).collect();
            with(bytes(py, &values)?, "float32", rows)
        }
        DataType::Float64 => {
            let values: Vec<f64> =
                column.as_primitive::<Float64Type>().iter().map(|value| value.unwrap_or(f64::NAN)).collect();
            with(bytes(py, &values)?, "float64", rows)
        }
        kind if column.null_count() > 0 && kind.is_integer() => {
            numpy(py, &cast(column, &DataType::Float64).map_err(failed)?)
        }
        _ if column.null_count() > 0 => values(py, column),
        DataType::UInt64 => with(bytes(py, column.as_primitive::<UInt64Type>().values())?, "uint64", rows),
        kind if kind.is_integer() => {
            let column = cast(column, &DataType::Int64).map_err(failed)?;
            with(bytes(py, column.as_primitive::<Int64Type>().values())?, "int64", rows)
        }
        DataType::Boolean => {
            let column: &BooleanArray = column.as_boolean();
            let values: Vec<u8> = column.values().iter().map(u8::from).collect();
            with(bytes(py, &values)?, "bool", rows)
        }
        DataType::Timestamp(..) => {
            let column = cast(column, &DataType::Timestamp(TimeUnit::Nanosecond, None)).map_err(failed)?;
            with(bytes(py, column.as_primitive::<TimestampNanosecondType>().values())?, "datetime64[ns]", rows)
        }
        DataType::FixedSizeList(item, width) if item.data_type() == &DataType::Float32 => {
            let list = column.as_fixed_size_list();
            let numbers = list.values().slice(list.value_offset(0) as usize, list.len() * *width as usize);
            with(
                bytes(py, numbers.as_primitive::<Float32Type>().values())?,
                "float32",
                vec![list.len(), *width as usize],
            )
        }
        _ => values(py, column),
    }
}

/// A list of Python's values.
fn values<'py>(py: Python<'py>, column: &ArrayRef) -> PyResult<Bound<'py, PyAny>> {
    let list = PyList::empty(py);
    for row in 0..column.len() {
        list.append(value(py, column, row)?)?;
    }
    Ok(list.into_any())
}

/// One value as Python has it; what Python has no type for is its text.
fn value<'py>(py: Python<'py>, column: &ArrayRef, row: usize) -> PyResult<Bound<'py, PyAny>> {
    if column.is_null(row) {
        return Ok(py.None().into_bound(py));
    }
    let items = match column.data_type() {
        DataType::List(_) => Some(column.as_list::<i32>().value(row)),
        DataType::LargeList(_) => Some(column.as_list::<i64>().value(row)),
        DataType::FixedSizeList(..) => Some(column.as_fixed_size_list().value(row)),
        _ => None,
    };
    if let Some(items) = items {
        return values(py, &items);
    }
    if let Some(fields) = column.as_struct_opt() {
        let one = PyDict::new(py);
        for (name, part) in fields.column_names().into_iter().zip(fields.columns()) {
            one.set_item(name, value(py, part, row)?)?;
        }
        return Ok(one.into_any());
    }
    if let Some(value) = time(py, column, row)? {
        return Ok(value);
    }
    use ScalarValue as S;
    let scalar = S::try_from_array(column, row).map_err(|error| to_python(py, &outskirt::Error::from(error)))?;
    match scalar {
        S::Boolean(Some(value)) => value.into_bound_py_any(py),
        S::Float16(Some(value)) => value.to_f64().into_bound_py_any(py),
        S::Float32(Some(value)) => value.into_bound_py_any(py),
        S::Float64(Some(value)) => value.into_bound_py_any(py),
        S::Int8(Some(value)) => value.into_bound_py_any(py),
        S::Int16(Some(value)) => value.into_bound_py_any(py),
        S::Int32(Some(value)) => value.into_bound_py_any(py),
        S::Int64(Some(value)) => value.into_bound_py_any(py),
        S::UInt8(Some(value)) => value.into_bound_py_any(py),
        S::UInt16(Some(value)) => value.into_bound_py_any(py),
        S::UInt32(Some(value)) => value.into_bound_py_any(py),
        S::UInt64(Some(value)) => value.into_bound_py_any(py),
        S::Utf8(Some(text)) | S::Utf8View(Some(text)) | S::LargeUtf8(Some(text)) => text.into_bound_py_any(py),
        S::Binary(Some(value)) | S::BinaryView(Some(value)) | S::LargeBinary(Some(value)) => {
            pyo3::types::PyBytes::new(py, &value).into_bound_py_any(py)
        }
        S::Null => Ok(py.None().into_bound(py)),
        _ => text(py, column, row)?.into_bound_py_any(py),
    }
}

/// As Arrow writes it.
fn text(py: Python<'_>, column: &ArrayRef, row: usize) -> PyResult<String> {
    array_value_to_string(column, row).map_err(|error| of_arrow(py, &error))
}

/// A date, time, duration or decimal number as Python's; `None`: it is none of these.
fn time<'py>(py: Python<'py>, column: &ArrayRef, row: usize) -> PyResult<Option<Bound<'py, PyAny>>> {
    use DataType as D;
    let as_integer = |kind: D| -> PyResult<i64> {
        let one = column.slice(row, 1);
        let whole = cast(&one, &kind).and_then(|one| cast(&one, &D::Int64)).map_err(|error| of_arrow(py, &error))?;
        Ok(whole.as_primitive::<Int64Type>().value(0))
    };
    let datetime = || py.import("datetime");
    let duration = |micros: i64| datetime()?.getattr("timedelta")?.call1((0, 0, micros));
    let epoch = |zone: Bound<'py, PyAny>| datetime()?.getattr("datetime")?.call1((1970, 1, 1, 0, 0, 0, 0, zone));
    Ok(Some(match column.data_type() {
        D::Timestamp(_, zone) => {
            let micros = as_integer(D::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
            let zone = match zone {
                Some(_) => datetime()?.getattr("timezone")?.getattr("utc")?,
                None => py.None().into_bound(py),
            };
            epoch(zone)?.call_method1("__add__", (duration(micros)?,))?
        }
        D::Date32 | D::Date64 => {
            let one = cast(&column.slice(row, 1), &D::Date32).and_then(|one| cast(&one, &D::Int32));
            let days = one.map_err(|error| of_arrow(py, &error))?.as_primitive::<Int32Type>().value(0);
            datetime()?.getattr("date")?.call_method1("fromordinal", (719_163 + days,))?
        }
        D::Time32(_) | D::Time64(_) => {
            let micros = as_integer(D::Time64(TimeUnit::Microsecond))?;
            let day = epoch(py.None().into_bound(py))?;
            day.call_method1("__add__", (duration(micros)?,))?.call_method0("time")?
        }
        D::Duration(_) => duration(as_integer(D::Duration(TimeUnit::Microsecond))?)?,
        D::Decimal32(..) | D::Decimal64(..) | D::Decimal128(..) | D::Decimal256(..) => {
            py.import("decimal")?.getattr("Decimal")?.call1((text(py, column, row)?,))?
        }
        _ => return Ok(None),
    }))
}
