//! What an ingest of own embeddings is asked for.

use std::path::PathBuf;

use crate::image::KeptQuery;

/// What to ingest, and as what.
#[derive(Debug, Clone, Default)]
pub struct OwnOptions {
    /// The column, or the array of an `.npz` or safetensors file, that holds the embeddings.
    pub column: String,
    /// The column that holds class logits, of which one list has as many numbers as every other.
    pub logits: Option<String>,
    /// The external backbone, which the first ingest declares.
    pub backbone: String,
    /// The text of the model's version.
    pub version: String,
    /// `images.dataset` of all rows; without it the column `dataset` says it.
    pub dataset: Option<String>,
    /// `images.split` of all rows; without it the column `split`, and where there is none, ''.
    pub split: Option<String>,
    /// The column that says which rows of `images` a row belongs to, where not its uri: those that have the same value in
    /// their column of this name. Rows are filled then, and none is added.
    pub key: Option<String>,
    /// A table whose rows belong to the files' rows, in their order: further columns for arrays, which have none.
    pub metadata: Option<PathBuf>,
    /// What uris keep of addresses' queries.
    pub query: KeptQuery,
    /// Stop at the first row that is refused, or that belongs to none by its key.
    pub strict: bool,
    /// Take rows again that were deleted.
    pub again: bool,
}
