//! Outskirt's functions in a session of the Python package `datafusion`, which has a DataFusion of its own: through the
//! C interface of datafusion-ffi.
//!
//! Over that interface constants arrive as arrays, and settings under another name, so each scalar function is one that
//! makes literals of constant arrays and puts the settings where Outskirt's look for them.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, new_empty_array};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::config::{ConfigOptions, ExtensionOptions};
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::{
    AggregateUDF, ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, WindowUDF,
};
use datafusion::prelude::SessionContext;
use datafusion_ffi::config::extension_options::FFI_ExtensionOptions;
use datafusion_ffi::udaf::FFI_AggregateUDF;
use datafusion_ffi::udf::FFI_ScalarUDF;
use datafusion_ffi::udwf::FFI_WindowUDF;
use outskirt::sql::functions::Settings;
use outskirt::sql::policy::Policy;
use outskirt::sql::session::in_own_session;
use outskirt::store::Store;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::runtime::wait;

/// The functions over a database's banks.
pub(crate) fn functions(py: Python<'_>, store: Store) -> PyResult<Vec<Function>> {
    let context = wait(py, async move {
        let builder = SessionStateBuilder::new().with_default_features();
        in_own_session(&store, builder, &Policy::default()).await
    })?;
    let (ours, plain) = (context.state(), SessionContext::new().state());
    let others: HashSet<&String> = plain
        .scalar_functions()
        .keys()
        .chain(plain.aggregate_functions().keys())
        .chain(plain.window_functions().keys())
        .collect();
    let mut functions = Vec::new();
    for (name, function) in ours.scalar_functions() {
        if !others.contains(name) {
            let literal = Literal { function: Arc::clone(function), signature: function.signature().clone() };
            functions.push(Function(Kind::Scalar(Arc::new(literal.into()))));
        }
    }
    for (name, function) in ours.aggregate_functions() {
        if !others.contains(name) {
            functions.push(Function(Kind::Aggregate(Arc::clone(function))));
        }
    }
    for (name, function) in ours.window_functions() {
        if !others.contains(name) {
            functions.push(Function(Kind::Window(Arc::clone(function))));
        }
    }
    Ok(functions)
}

/// One of them, as `datafusion` takes it.
#[pyclass(frozen, module = "outskirt._native")]
pub(crate) struct Function(Kind);

enum Kind {
    Scalar(Arc<ScalarUDF>),
    Aggregate(Arc<AggregateUDF>),
    Window(Arc<WindowUDF>),
}

#[pymethods]
impl Function {
    /// `scalar`, `aggregate` or `window`.
    #[getter]
    fn kind(&self) -> &'static str {
        match &self.0 {
            Kind::Scalar(_) => "scalar",
            Kind::Aggregate(_) => "aggregate",
            Kind::Window(_) => "window",
        }
    }

    #[getter]
    fn name(&self) -> &str {
        match &self.0 {
            Kind::Scalar(function) => function.name(),
            Kind::Aggregate(function) => function.name(),
            Kind::Window(function) => function.name(),
        }
    }

    /// What `datafusion` asks a function of its kind for.
    fn capsule<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        match &self.0 {
            Kind::Scalar(function) => {
                let name = c"datafusion_scalar_udf".to_owned();
                PyCapsule::new(py, FFI_ScalarUDF::from(Arc::clone(function)), Some(name))
            }
            Kind::Aggregate(function) => {
                let name = c"datafusion_aggregate_udf".to_owned();
                PyCapsule::new(py, FFI_AggregateUDF::from(Arc::clone(function)), Some(name))
            }
            Kind::Window(function) => {
                let name = c"datafusion_window_udf".to_owned();
                PyCapsule::new(py, FFI_WindowUDF::from(Arc::clone(function)), Some(name))
            }
        }
    }
}

/// Outskirt's settings, for `SessionConfig.with_extension`.
#[pyfunction]
pub(crate) fn settings(py: Python<'_>) -> PyResult<Bound<'_, PyCapsule>> {
    let mut options = FFI_ExtensionOptions::default();
    for entry in Settings::default().entries() {
        let value = entry.value.unwrap_or_default();
        options.set(&entry.key, &value).map_err(|error| crate::errors::to_python(py, &error.into()))?;
    }
    PyCapsule::new(py, options, Some(c"datafusion_extension_options".to_owned()))
}

/// A scalar function whose constants are literals again.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Literal {
    function: Arc<ScalarUDF>,
    signature: Signature,
}

impl ScalarUDFImpl for Literal {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn aliases(&self) -> &[String] {
        self.function.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.function.coerce_types(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.function.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.function.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if args.number_rows == 0 {
            return Ok(ColumnarValue::Array(new_empty_array(args.return_field.data_type())));
        }
        let literals = args.args.into_iter().map(literal).collect::<Result<Vec<_>>>()?;
        let config_options = Arc::new(with_settings(&args.config_options)?);
        self.function.invoke_with_args(ScalarFunctionArgs { args: literals, config_options, ..args })
    }
}

/// A scalar, where an array that is no vectors has one value in all its rows.
fn literal(value: ColumnarValue) -> Result<ColumnarValue> {
    let ColumnarValue::Array(array) = &value else { return Ok(value) };
    if array.data_type().is_nested() {
        return Ok(value);
    }
    let first = ScalarValue::try_from_array(array, 0)?;
    for row in 1..array.len() {
        if ScalarValue::try_from_array(array, row)? != first {
            return Ok(value);
        }
    }
    Ok(ColumnarValue::Scalar(first))
}

/// The options with Outskirt's settings, as the other DataFusion has them.
fn with_settings(options: &ConfigOptions) -> Result<ConfigOptions> {
    let mut settings = Settings::default();
    if let Some(foreign) = options.extensions.get::<FFI_ExtensionOptions>() {
        for entry in foreign.entries() {
            // with more than one prefix, after it has gone through the interface more than once
            if let (Some((_, name)), Some(value)) = (entry.key.rsplit_once("outskirt."), entry.value) {
                settings.set(name, &value)?;
            }
        }
    }
    let mut options = options.clone();
    options.extensions.insert(settings);
    Ok(options)
}
