//! Names of tables and columns, and the Arrow type of an embedding: one constant per name.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::sql::sqlparser::keywords::ALL_KEYWORDS;

/// One row per image.
pub const IMAGES: &str = "images";
/// One row per network that has embedded images.
pub const BACKBONES: &str = "backbones";
/// One row per bank.
pub const BANKS: &str = "banks";
/// One row per calibrated bank and k.
pub const CALIBRATIONS: &str = "calibrations";
/// One row per migration that has run.
pub const SCHEMA_MIGRATIONS: &str = "schema_migrations";

/// Every table, in the order in which SQL lists them.
pub const TABLES: [&str; 5] = [IMAGES, BACKBONES, BANKS, CALIBRATIONS, SCHEMA_MIGRATIONS];

/// `images.id`: own key, stable across compaction.
pub const ID: &str = "id";
/// `images.dataset`.
pub const DATASET: &str = "dataset";
/// `images.split`.
pub const SPLIT: &str = "split";
/// `images.uri`.
pub const URI: &str = "uri";
/// `images.label`, nullable.
pub const LABEL: &str = "label";
/// `images.width` in pixels.
pub const WIDTH: &str = "width";
/// `images.height` in pixels.
pub const HEIGHT: &str = "height";
/// `images.content_hash`: SHA-256 of the file.
pub const CONTENT_HASH: &str = "content_hash";
/// `images.ingested_at`, UTC.
pub const INGESTED_AT: &str = "ingested_at";
/// `images.bytes`: the file, where it is stored.
pub const BYTES: &str = "bytes";

/// Metadata key of an embedding column: the backbone's name.
pub const BACKBONE_KEY: &str = "outskirt.backbone";
/// Metadata key of an embedding column: the SHA-256 of the weights that filled it.
pub const SHA256_KEY: &str = "outskirt.sha256";

/// Metadata key of a column of kept scores: the bank's name.
pub const SCORE_BANK_KEY: &str = "outskirt.score_bank";
/// Metadata key of a column of kept scores: which neighbour.
pub const SCORE_K_KEY: &str = "outskirt.score_k";

/// The Arrow type of embeddings of dimension d: FixedSizeList<Float32, d>.
pub fn embedding_type(dimension: usize) -> DataType {
    DataType::FixedSizeList(Arc::new(Field::new("item", DataType::Float32, true)), dimension as i32)
}

/// The column of a backbone: named after it, NULL where it has not seen the image, marked with its weights.
pub fn embedding_field(backbone: &str, dimension: usize, sha256: &str) -> Field {
    Field::new(backbone, embedding_type(dimension), true).with_metadata(
        [(BACKBONE_KEY, backbone), (SHA256_KEY, sha256)].map(|(key, value)| (key.into(), value.into())).into(),
    )
}

/// Whether SQL gives a meaning of its own to `name`, so that a column of that name would need quotes.
pub fn is_sql_word(name: &str) -> bool {
    ALL_KEYWORDS.binary_search(&name.to_ascii_uppercase().as_str()).is_ok()
}

/// Whether `name` may name a backbone or a bank: an identifier that needs no quotes, and a file name.
pub fn is_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}
