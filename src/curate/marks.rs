//! What a curator has decided of an image: the column `curation` of `images`, which UPDATE and `outskirt curate tag` write as well.
//!
//! It is a column of the user's own, so it stays with the image (its dataset and uri) when its file changes, is a version of the table like
//! any other change, and is taken back by `undo`.

use crate::error::Result;
use crate::schema;
use crate::store::{Store, quote};

/// The column.
pub const CURATION: &str = "curation";
/// Its value for an image that no verb of a curator deletes.
pub const KEEP: &str = "keep";
/// Its value for an image that is not looked at again: no sample has it, and no search for copies.
pub const IGNORE: &str = "ignore";

/// SQL: whether an image is marked so.
pub(super) async fn is_marked(store: &Store, mark: &str) -> Result<String> {
    Ok(match store.schema(schema::IMAGES).await?.field_with_name(CURATION) {
        Ok(_) => format!("coalesce(CAST({CURATION} AS VARCHAR) = {}, false)", quote(mark)),
        Err(_) => "false".into(),
    })
}

/// SQL: whether an image is to be looked at.
pub(super) async fn not_ignored(store: &Store) -> Result<String> {
    Ok(format!("NOT {}", is_marked(store, IGNORE).await?))
}
