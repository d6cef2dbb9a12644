//! Which versions of `images` the banks keep from being pruned: those that they are read from, and those that their files
//! were made from. Tags of Lance hold them.

use super::derived::{base, derived};
use super::{Definition, list};
use crate::error::Result;
use crate::schema;
use crate::store::{Store, WriteLock};

/// Say of every bank that followed `images` up to one version that it follows up to a later one, where only a column, or
/// those whose names begin so, was written in between: of banks whose predicates do not read it.
pub(crate) async fn advance_unaffected(
    store: &Store,
    lock: &WriteLock,
    column: &str,
    from: u64,
    to: u64,
) -> Result<()> {
    let banks = list(store).await?.into_iter();
    let banks = banks.filter(|bank| bank.follows() == from && !bank.predicate.contains(column));
    for bank in banks {
        advance_version(store, lock, &Definition { checked_version: Some(to), ..bank }).await?;
    }
    Ok(())
}

/// Record a bank whose rows are the same at a later version, which is kept from now on in place of the earlier one.
pub(super) async fn advance_version(store: &Store, lock: &WriteLock, bank: &Definition) -> Result<()> {
    // what the row says is kept at every moment
    store.tag(schema::IMAGES, &bank.tag(), bank.follows()).await?;
    store.write_rows(lock, schema::BANKS, &["name"], std::slice::from_ref(bank)).await?;
    untag_other_versions(store, bank).await
}

/// Keep no other version for a bank than the one it is read from, and those its files were made from.
pub(super) async fn untag_other_versions(store: &Store, bank: &Definition) -> Result<()> {
    let mut bases = Vec::new();
    for part in derived(bank)? {
        bases.extend(base(store, &part).await?.filter(|base| base.table_version != bank.table_version));
    }
    let of_file = |tag: &str| bases.iter().any(|base| base.has_tag(tag));
    store.untag(schema::IMAGES, |tag| bank.owns(tag) && tag != bank.tag() && !of_file(tag)).await
}

/// Let exactly those versions of `images` be tagged that banks are read from and their files were made from.
pub(super) async fn set_tags(store: &Store) -> Result<()> {
    let banks = list(store).await?;
    for bank in &banks {
        store.tag(schema::IMAGES, &bank.tag(), bank.follows()).await?;
        untag_other_versions(store, bank).await?;
    }
    // and none of banks that are gone
    store.untag(schema::IMAGES, |tag| Definition::is_tag(tag) && !banks.iter().any(|bank| bank.owns(tag))).await
}
