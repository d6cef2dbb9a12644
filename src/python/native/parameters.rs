//! Python's values in the places of a statement.

use outskirt::sql::session::{Parameter, Parameters};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyString};

use crate::errors::raised;

/// A list or tuple for `$1`, `$2`, …, or a dictionary for `$name`; None for no values.
pub(crate) fn parameters(values: &Bound<'_, PyAny>) -> PyResult<Parameters> {
    let mut all = Parameters::default();
    if values.is_none() {
        return Ok(all);
    }
    if let Ok(named) = values.cast::<PyDict>() {
        for (name, value) in named {
            all.named.push((name.str()?.extract()?, parameter(&value)?));
        }
        return Ok(all);
    }
    let Ok(items) = values.try_iter() else {
        let message = "parameters: a list such as [value] for $1, $2, …, or a dictionary for $name";
        return Err(raised(values.py(), "Error", message));
    };
    for value in items {
        all.positional.push(parameter(&value?)?);
    }
    Ok(all)
}

fn parameter(value: &Bound<'_, PyAny>) -> PyResult<Parameter> {
    let kind = value.get_type().name()?.to_string();
    if kind == "NAType" || kind == "NaTType" {
        return Ok(Parameter::Null); // what pandas has for it
    }
    // NumPy's scalars and arrays, and torch's tensors, have it
    if value.hasattr("tolist")? {
        return parameter(&value.call_method0("tolist")?);
    }
    Ok(if value.is_none() {
        Parameter::Null
    } else if let Ok(truth) = value.cast::<PyBool>() {
        Parameter::Boolean(truth.is_true())
    } else if value.is_instance_of::<PyInt>() {
        Parameter::Integer(value.extract()?)
    } else if value.is_instance_of::<PyFloat>() || kind == "Decimal" {
        Parameter::Float(value.extract()?)
    } else if value.is_instance_of::<PyString>() {
        Parameter::Text(value.extract()?)
    } else if let Ok(bytes) = value.cast::<PyBytes>() {
        Parameter::Binary(bytes.as_bytes().to_vec())
    } else if let Ok(bytes) = value.cast::<PyByteArray>() {
        Parameter::Binary(bytes.to_vec())
    } else if value.hasattr("isoformat")? {
        Parameter::Text(value.call_method0("isoformat")?.extract()?)
    } else if value.hasattr("__fspath__")? || kind == "UUID" {
        Parameter::Text(value.str()?.extract()?)
    } else if let (Ok(items), false) = (value.try_iter(), value.is_instance_of::<PyDict>()) {
        Parameter::List(items.map(|item| parameter(&item?)).collect::<PyResult<_>>()?)
    } else {
        let message = format!(
            "a value of type {kind} cannot stand in a statement: give a number, text, bytes, a date or time, or a list of numbers"
        );
        return Err(raised(value.py(), "Error", &message));
    })
}
