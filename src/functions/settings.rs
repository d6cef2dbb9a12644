//! Session options: `SET outskirt.search = 'exact' | 'hnsw'`.

use datafusion::common::{Result, config_field, exec_err, extensions_options};
use datafusion::config::{ConfigExtension, ConfigOptions};

use crate::index::IndexKind;

config_field!(IndexKind);

extensions_options! {
    /// What `SET outskirt.…` sets.
    pub struct Settings {
        /// How the k-th neighbour is found: 'exact', or 'hnsw' for banks that keep a graph (approximate)
        pub search: IndexKind, default = IndexKind::Exact
    }
}

impl ConfigExtension for Settings {
    const PREFIX: &'static str = "outskirt";
}

/// The session's kind of search.
pub(super) fn search(options: &ConfigOptions) -> Result<IndexKind> {
    match options.extensions.get::<Settings>() {
        Some(settings) => Ok(settings.search),
        // never a fallback: a filter that ran elsewhere, without the session's options, would ignore SET
        None => exec_err!("the session has no outskirt settings: add them with SessionConfig::with_option_extension"),
    }
}
