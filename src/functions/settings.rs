//! Session options: `SET outskirt.search = 'exact' | 'hnsw'`.

use datafusion::common::extensions_options;
use datafusion::config::{ConfigExtension, ConfigOptions};

use crate::error::Result;
use crate::index::IndexKind;

extensions_options! {
    /// What `SET outskirt.…` sets.
    pub struct Settings {
        /// How the k-th neighbour is found: 'exact', or 'hnsw' for banks that keep a graph (approximate)
        pub search: String, default = "exact".to_string()
    }
}

impl ConfigExtension for Settings {
    const PREFIX: &'static str = "outskirt";
}

/// The session's kind of search.
pub(super) fn search(options: &ConfigOptions) -> Result<IndexKind> {
    options.extensions.get::<Settings>().map_or(Ok(IndexKind::Exact), |settings| settings.search.parse())
}
