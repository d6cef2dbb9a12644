//! What a bank's files were made from, and the bank as it was then.

use super::Definition;
use crate::error::Result;
use crate::index::Origin;
use crate::schema;
use crate::store::Store;

/// What files of this bank must have been made from.
pub(super) fn origin(bank: &Definition) -> Origin {
    Origin {
        bank: bank.name.clone(),
        table_version: bank.table_version,
        backbone_sha256: bank.sha256.clone(),
        predicate: bank.predicate.clone(),
        alpha: bank.alpha,
        seed: bank.seed,
        rows: bank.row_count,
        dimension: bank.dimension,
    }
}

/// A bank at the version from which a file was made.
pub(super) async fn at_origin(store: &Store, bank: &Definition, found: &Origin) -> Result<Definition> {
    let (table_version, row_count) = (found.table_version, found.rows);
    if table_version == bank.table_version {
        return Ok(Definition { row_count, ..bank.clone() });
    }
    let mut then = Definition { table_version, row_count, checked_version: None, ..bank.clone() };
    let tags = store.tags(schema::IMAGES).await?;
    then.checked_version = tags.into_iter().filter(|(tag, _)| then.has_tag(tag)).map(|(_, version)| version).max();
    Ok(then)
}
