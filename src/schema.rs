//! Names of tables and columns, and the Arrow type of an embedding: one constant per name.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::sql::sqlparser::ast::{Expr, SelectItem, SetExpr, Statement};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::ALL_KEYWORDS;
use datafusion::sql::sqlparser::parser::Parser;

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

/// One row per view.
pub const VIEWS: &str = "views";

/// One row per file that was refused.
pub const REJECTS: &str = "rejects";

/// One row per change of `images`.
pub const CURATION_LOG: &str = "curation_log";

/// One row per deleted image.
pub const DELETIONS: &str = "deletions";

/// Every table, in the order in which SQL lists them.
pub const TABLES: [&str; 9] =
    [IMAGES, REJECTS, DELETIONS, BACKBONES, BANKS, CALIBRATIONS, VIEWS, CURATION_LOG, SCHEMA_MIGRATIONS];

/// What writes a table that SQL's INSERT, UPDATE and DELETE do not.
pub fn written_by(table: &str) -> &'static str {
    match table {
        REJECTS => "'outskirt ingest' writes it: mend the files and run it again",
        BACKBONES => "'outskirt ingest --backbone' writes it",
        BANKS => "'outskirt bank create' and 'outskirt bank drop' change it",
        CALIBRATIONS => "'outskirt bank calibrate' writes it",
        VIEWS => "CREATE VIEW and DROP VIEW change it",
        CURATION_LOG => "what changes images writes it, and 'outskirt undo' takes that back",
        DELETIONS => "DELETE writes it, and 'outskirt undo' takes from it",
        _ => "'outskirt migrate' writes it",
    }
}

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

/// The columns that `images` has from its beginning. Besides them: embeddings, and the user's own.
pub const IMAGE_COLUMNS: [&str; 10] = [ID, DATASET, SPLIT, URI, LABEL, WIDTH, HEIGHT, CONTENT_HASH, INGESTED_AT, BYTES];

/// Columns of `images` that a row has of its picture: NULL where it came as numbers.
pub const OF_PICTURES: [&str; 3] = [WIDTH, HEIGHT, CONTENT_HASH];

/// Metadata key of an embedding column: the backbone's name.
pub const BACKBONE_KEY: &str = "outskirt.backbone";
/// Metadata key of an embedding column: the SHA-256 of the weights that filled it.
pub const SHA256_KEY: &str = "outskirt.sha256";

/// Metadata key of an embedding column: what the network's products were taken in, where that is not f32.
pub const PRECISION_KEY: &str = "outskirt.precision";
/// What it is in a column that does not say it.
pub const F32: &str = "f32";

/// Metadata key of a column of class logits: the backbone's name. [`SHA256_KEY`] stands beside it.
pub const LOGITS_KEY: &str = "outskirt.logits";

/// Metadata key of a column of kept scores: the bank's name.
pub const SCORE_BANK_KEY: &str = "outskirt.score_bank";
/// Metadata key of a column of kept scores: which neighbour.
pub const SCORE_K_KEY: &str = "outskirt.score_k";

/// The column of difference hashes of pictures, where somebody asked for copies.
pub const DHASH: &str = "dhash";
/// Metadata key of that column.
pub const HASH_KEY: &str = "outskirt.hash";

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

/// The name of the column of a backbone's class logits.
pub fn logits_column(backbone: &str) -> String {
    format!("{backbone}_logits")
}

/// That column: NULL where logits were not asked for, marked with the weights.
pub fn logits_field(backbone: &str, classes: usize, sha256: &str) -> Field {
    Field::new(logits_column(backbone), embedding_type(classes), true).with_metadata(
        [(LOGITS_KEY, backbone), (SHA256_KEY, sha256)].map(|(key, value)| (key.into(), value.into())).into(),
    )
}

/// Whether a column of `images` holds class logits.
pub fn is_logits(field: &Field) -> bool {
    field.metadata().contains_key(LOGITS_KEY)
}

/// Whether a column of `images` holds embeddings.
pub fn is_embedding(field: &Field) -> bool {
    field.metadata().contains_key(BACKBONE_KEY)
}

/// Whether a column of `images` holds kept scores, or their version.
pub fn is_score(field: &Field) -> bool {
    field.metadata().contains_key(SCORE_BANK_KEY)
}

/// Whether a column of `images` holds hashes of pictures.
pub fn is_hash(field: &Field) -> bool {
    field.metadata().contains_key(HASH_KEY)
}

/// Whether a column of `images` is the user's own: ALTER TABLE or the metadata of an ingest added it.
pub fn is_users(field: &Field) -> bool {
    let is_computed = is_embedding(field) || is_logits(field) || is_score(field) || is_hash(field);
    !is_computed && !IMAGE_COLUMNS.contains(&field.name().as_str())
}

/// Whether SQL gives a meaning of its own to `name`, so that a column of that name would need quotes.
pub fn is_sql_word(name: &str) -> bool {
    ALL_KEYWORDS.binary_search(&name.to_ascii_uppercase().as_str()).is_ok()
}

/// Whether a column of this name, which is one by [`is_name`], must stand in quotes: `from`, `select`; not `date`, `year`.
pub fn needs_quotes(name: &str) -> bool {
    let query = format!(
        "SELECT {name}, t.{name} FROM t WHERE {name} = 1 AND {name} IS NOT NULL GROUP BY {name} ORDER BY {name}"
    );
    let parsed = Parser::parse_sql(&GenericDialect {}, &query);
    let Some(Statement::Query(query)) = parsed.ok().and_then(|mut parsed| parsed.pop()) else { return true };
    let SetExpr::Select(select) = *query.body else { return true };
    !matches!(select.projection.first(), Some(SelectItem::UnnamedExpr(Expr::Identifier(_))))
}

/// Whether `name` may name a backbone, a bank, a view or a column: an identifier that needs no quotes, and a file name.
pub fn is_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}
