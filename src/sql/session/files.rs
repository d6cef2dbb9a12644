//! Files that queries name by path: `SELECT * FROM 'cameras.csv'`.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::{fmt, fs};

use async_trait::async_trait;
use datafusion::catalog::{DynamicFileCatalog, UrlTableFactory};
use datafusion::common::Result as DataFusionResult;
use datafusion::datasource::TableProvider;
use datafusion::execution::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::prelude::SessionContext;

use super::{hints, read};
use crate::error::{Error, Result};
use crate::regular;
use crate::sql::location::{Location, url};
use crate::sql::policy::Policy;

/// Let queries name files, as far as the policy has it: DataFusion's `enable_url_table`, and what is refused before.
pub(super) fn enable(context: SessionContext, policy: &Policy) -> SessionContext {
    let factory = Arc::new(Files { state: OnceLock::new(), policy: policy.clone() });
    let state = context.state();
    let catalogs = Arc::new(DynamicFileCatalog::new(Arc::clone(state.catalog_list()), Arc::clone(&factory) as _));
    let builder: SessionStateBuilder = context.into_state_builder();
    let context = SessionContext::from(builder.with_catalog_list(catalogs).build());
    // weak: the state has the catalogs, and they have this
    let state = context.state_weak_ref();
    let _ = factory.state.set(Box::new(move || Some(state.upgrade()?.read().clone())));
    context
}

/// Refuse a file that nobody may read, that lies elsewhere, or whose reading would not end; what it means.
pub(super) fn check(name: &str, policy: &Policy) -> Result<Location> {
    policy.check_read(name)?;
    let location = Location::of(name)?;
    location.paths().try_for_each(|path| regular::check_path(path).map_err(Error::io("read", path)))?;
    Ok(location)
}

/// The plan of CREATE EXTERNAL TABLE with its place as DataFusion takes it: what is there has no wildcards.
pub(super) fn as_written(plan: LogicalPlan) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Ddl(DdlStatement::CreateExternalTable(mut created)) => {
            if let Location::Path(path) = Location::of(&created.location)?
                && path.exists()
            {
                created.location = url(&path, path.is_dir())?.into();
            }
            Ok(LogicalPlan::Ddl(DdlStatement::CreateExternalTable(created)))
        }
        other => Ok(other),
    }
}

struct Files {
    /// The session's, while it lives.
    state: OnceLock<Box<dyn Fn() -> Option<SessionState> + Send + Sync>>,
    policy: Policy,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Files")
    }
}

impl Files {
    /// What is called by a name that no table has.
    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        // of a plain name a confined session says what it says of any: that there is no such table
        if self.policy.is_confined() && !name.contains(['/', '.', ':', '\\']) {
            return Ok(None);
        }
        let location = check(name, &self.policy)?;
        if let Location::Path(path) = &location
            && !path.exists()
        {
            // what looks like a path is no table that is missing
            return if name.contains(['/', '.']) { Err(missing(name, path)) } else { Ok(None) };
        }
        let Some(state) = self.state.get().and_then(|state| state()) else { return Ok(None) };
        read::table(&state, name, &location).await.map(Some)
    }
}

#[async_trait]
impl UrlTableFactory for Files {
    async fn try_new(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        Ok(self.table(name).await?)
    }
}

/// A file that is not there, with the one beside it that is called most alike.
fn missing(name: &str, path: &Path) -> Error {
    let beside = path.parent().and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let beside: Vec<String> = beside.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let called = path.file_name().unwrap_or_default().to_string_lossy();
    match hints::nearest(&called, &beside) {
        Some(meant) => Error::MisspelledPath { path: name.into(), meant },
        None => Error::MissingPath { path: name.into() },
    }
}
