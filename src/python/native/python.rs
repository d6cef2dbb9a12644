//! Facts as Python's dictionaries, lists and values.

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use serde_json::Value;

/// What becomes a dictionary or list.
pub(crate) struct Plain(pub(crate) Value);

impl<'py> IntoPyObject<'py> for Plain {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.0 {
            Value::Null => Ok(py.None().into_bound(py)),
            Value::Bool(truth) => truth.into_bound_py_any(py),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(whole), _) => whole.into_bound_py_any(py),
                (None, Some(whole)) => whole.into_bound_py_any(py),
                (None, None) => number.as_f64().into_bound_py_any(py),
            },
            Value::String(text) => text.into_bound_py_any(py),
            Value::Array(items) => {
                let list = PyList::empty(py);
                for item in items {
                    list.append(Self(item))?;
                }
                Ok(list.into_any())
            }
            Value::Object(fields) => {
                let dictionary = PyDict::new(py);
                for (name, value) in fields {
                    dictionary.set_item(name, Self(value))?;
                }
                Ok(dictionary.into_any())
            }
        }
    }
}
