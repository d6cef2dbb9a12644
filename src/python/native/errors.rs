//! The library's errors as Python's: the classes are in `outskirt/errors.py`.

use arrow::error::ArrowError;
use outskirt::Error;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyModule, PyType};

/// An error of this class.
pub(crate) fn raised(py: Python<'_>, class: &str, message: &str) -> PyErr {
    static CLASSES: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let found = || -> PyResult<PyErr> {
        let classes = CLASSES.get_or_try_init(py, || PyModule::import(py, "outskirt.errors").map(Bound::unbind))?;
        let class = classes.bind(py).getattr(class)?.cast_into::<PyType>()?;
        Ok(PyErr::from_type(class, message.to_owned()))
    };
    found().unwrap_or_else(|error| error)
}

pub(crate) fn fork_error(py: Python<'_>) -> PyErr {
    let message = "this process was forked from one that had begun to use outskirt, whose threads it lacks: start processes \
                   with multiprocessing.get_context('spawn') (of a DataLoader: multiprocessing_context='spawn'), or use \
                   outskirt in them alone";
    raised(py, "ForkError", message)
}

/// What the library says, as the class that callers tell apart.
pub(crate) fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    use Error as E;
    let class = match innermost(error) {
        E::UnknownBank { .. } | E::BadBankVersion { .. } | E::UnknownVersion { .. } => "UnknownBankError",
        E::UnknownBackbone { .. } => "UnknownBackboneError",
        E::NoDatabase { .. } | E::MissingPath { .. } => "NotFoundError",
        E::Locked { .. } | E::UndoLocked { .. } => "BusyError",
        E::BadVector { .. } | E::RefusedRow { .. } | E::AllImagesRefused { .. } => "VectorError",
        E::WrongDimension { .. } | E::EmbeddingDimension { .. } | E::ExternalDimension { .. } => "DimensionError",
        E::NotCalibrated { .. } | E::TprNeedsMore { .. } | E::ConfidenceNeedsMore { .. } => "CalibrationError",
        _ => "Error",
    };
    raised(py, class, &error.to_string())
}

/// What an error says of a statement, of a query or of a stream.
fn innermost(error: &Error) -> &Error {
    let root = match error {
        Error::InStatement { source, .. } => return innermost(source),
        Error::Query { source } => source.find_root(),
        _ => return error,
    };
    match root {
        datafusion::error::DataFusionError::External(inner) => inner.downcast_ref::<Error>().map_or(error, innermost),
        _ => error,
    }
}

/// An error of Arrow's about what was given.
pub(crate) fn of_arrow(py: Python<'_>, error: &ArrowError) -> PyErr {
    raised(py, "Error", &error.to_string())
}
