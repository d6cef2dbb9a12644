//! What Python calls, in `outskirt._native`. People call the package `outskirt` around it, which says what everything is.
//!
//! `runtime` waits (threads, Ctrl-C, fork), `errors` are the library's as Python's, `arrays` are NumPy's. `batches` is what
//! comes in, `query` what goes out. `database` calls the library (`curated` what a curator asks),
//! `knn` the engine; `functions` are SQL's in another DataFusion, and `program` is the command line.

mod arrays;
mod batches;
mod curated;
mod database;
mod errors;
mod functions;
mod knn;
mod metrics;
mod parameters;
mod program;
mod python;
mod query;
mod runtime;

use pyo3::prelude::*;

/// The module.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<batches::Batch>()?;
    module.add_class::<batches::Batches>()?;
    module.add_class::<database::Database>()?;
    module.add_class::<functions::Function>()?;
    module.add_class::<knn::Searcher>()?;
    module.add_class::<query::Query>()?;
    module.add_class::<query::Rows>()?;
    module.add_function(wrap_pyfunction!(metrics::metric, module)?)?;
    module.add_function(wrap_pyfunction!(metrics::fpr_at_tpr, module)?)?;
    module.add_function(wrap_pyfunction!(metrics::interval, module)?)?;
    module.add_function(wrap_pyfunction!(metrics::pvalues, module)?)?;
    module.add_function(wrap_pyfunction!(metrics::bh_limit, module)?)?;
    module.add_function(wrap_pyfunction!(metrics::threshold, module)?)?;
    module.add_function(wrap_pyfunction!(functions::settings, module)?)?;
    module.add_function(wrap_pyfunction!(program::main, module)?)
}
