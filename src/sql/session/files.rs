//! Files that queries name by path: `SELECT * FROM 'cameras.csv'`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{DynamicFileCatalog, UrlTableFactory};
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::TableProvider;
use datafusion::datasource::dynamic_file::DynamicListTableFactory;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::SessionContext;

use crate::error::Error;
use crate::regular;
use crate::sql::policy::Policy;

/// Let queries name files, as far as the policy has it: DataFusion's `enable_url_table`, and what is refused before.
pub(super) fn enable(context: SessionContext, policy: &Policy) -> SessionContext {
    let factory = Arc::new(Checked { files: DynamicListTableFactory::default(), policy: policy.clone() });
    let state = context.state();
    let catalogs = Arc::new(DynamicFileCatalog::new(Arc::clone(state.catalog_list()), Arc::clone(&factory) as _));
    let builder: SessionStateBuilder = context.into_state_builder();
    let context = SessionContext::from(builder.with_catalog_list(catalogs).build());
    factory.files.session_store().with_state(context.state_weak_ref());
    context
}

/// Refuse a file that nobody may read, that lies elsewhere, or whose reading would not end.
pub(super) fn check(location: &str, policy: &Policy) -> Result<(), Error> {
    policy.check_read(location)?;
    let Some(path) = local(location)? else { return Ok(()) };
    regular::check_path(&path).map_err(Error::io("read", &path))
}

/// The path of a file of this machine, up to its wildcards; `None` for what is no location.
///
/// Errors: [`Error::FileAddress`] for an address.
pub(super) fn local(location: &str) -> Result<Option<PathBuf>, Error> {
    let Ok(url) = ListingTableUrl::parse(location) else { return Ok(None) };
    if url.scheme() == "file" {
        return Ok(Some(Path::new("/").join(url.prefix().as_ref())));
    }
    // what an address carries besides may give access
    let address = format!("{}://{}", url.scheme(), location.split("://").nth(1).unwrap_or_default());
    let address = address.split(['?', '#']).next().unwrap_or_default();
    let address = match address.split_once("://").map(|(scheme, rest)| (scheme, rest.rsplit_once('@'))) {
        Some((scheme, Some((_, rest)))) => format!("{scheme}://{rest}"),
        _ => address.to_owned(),
    };
    Err(Error::FileAddress { address })
}

#[derive(Debug)]
struct Checked {
    files: DynamicListTableFactory,
    policy: Policy,
}

#[async_trait]
impl UrlTableFactory for Checked {
    /// What is called by a name that no table has.
    async fn try_new(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        // of a plain name a confined session says what it says of any: that there is no such table
        if self.policy.is_confined() && !name.contains(['/', '.', ':', '\\']) {
            return Ok(None);
        }
        check(name, &self.policy).map_err(DataFusionError::from)?;
        let found = self.files.try_new(name).await?;
        // what looks like a path is no table that is missing
        match local(name) {
            Ok(Some(path)) if found.is_none() && name.contains(['/', '.']) && !path.exists() => {
                Err(Error::MissingPath { path: name.into() }.into())
            }
            _ => Ok(found),
        }
    }
}
