//! Lance beneath lancedb: what lancedb does not offer is asked of it.

use std::sync::Arc;

use lance::Dataset;
use lancedb::Table;

use crate::error::{Error, Result};

/// Lance's own view of a table, at the version that it is at.
pub(super) async fn dataset(table: &Table) -> Result<Arc<Dataset>> {
    let remote = || Error::BadRow { table: table.name().into(), reason: "it is no local table".into() };
    Ok(table.dataset().ok_or_else(remote)?.get().await?)
}

/// An error of Lance as one of lancedb's.
pub(super) fn lance(error: lance::Error) -> Error {
    lancedb::Error::from(error).into()
}
