//! Space given back without taking a row from any bank.

use std::fs;
use std::time::Duration;

use super::derived::{base, derived, forget_others, leftover_files, make};
use super::tags::set_tags;
use super::tidy::follow_compaction;
use super::{Definition, list};
use crate::error::{Error, Result};
use crate::schema;
use crate::store::{Change, Footprint, Store};

/// What [`optimize`] did.
#[derive(Debug, Clone, PartialEq)]
pub struct Optimized {
    /// By table: what it took, and what it takes now.
    pub tables: Vec<(&'static str, Footprint, Footprint)>,
    /// Bytes of the database, before and after.
    pub bytes: (u64, u64),
    /// Banks whose index files were made anew, so that the versions they stood for need not be kept.
    pub rebuilt: Vec<String>,
    /// Banks that are behind `images`, and so keep an older version of it.
    pub behind: Vec<Definition>,
    /// Old versions that stay because somebody reads them; `None` where none was pruned, as others were just reading.
    pub still_read: Option<usize>,
}

/// Merge small files, leave deleted rows out of them, prune versions that are older than `keep` and that no bank stands
/// for, and remove index files of no bank.
///
/// No row, id, score or bank changes. Errors: another writer, a disk without room for the merged files.
pub async fn optimize(store: &Store, keep: Duration) -> Result<Optimized> {
    let lock = store.lock_in_turn().await?;
    let (mut before, bytes_before) = (Vec::new(), store.bytes().await?);
    for table in schema::TABLES {
        before.push(store.footprint(table).await?);
    }
    // first what costs no space
    set_tags(store).await?;
    let banks = list(store).await?;
    for file in leftover_files(store, &banks)? {
        fs::remove_file(&file).map_err(Error::io("remove", &file))?;
    }
    forget_others(store, &banks).await?;
    store.tell("pruning old versions");
    store.prune(&lock, keep).await?;
    let images = store.version(schema::IMAGES).await?;
    for table in schema::TABLES {
        store.tell(format!("compacting {table}"));
        store.compact(&lock, table).await?;
    }
    store.record(&lock, images, Change::of("optimize")).await?;
    let followed = follow_compaction(store, &lock, images).await?;
    let is_behind = |bank: &Definition| followed.iter().all(|followed| followed.name != bank.name);
    let behind: Vec<Definition> = list(store).await?.into_iter().filter(is_behind).collect();
    let mut rebuilt = Vec::new();
    for bank in followed {
        let mut outdated = Vec::new();
        for part in derived(&bank)? {
            if base(store, &part).await?.is_some_and(|base| base.table_version != bank.table_version) {
                outdated.push(part);
            }
        }
        if !outdated.is_empty() {
            make(store, &lock, &bank, &outdated).await?;
            rebuilt.push(bank.name);
        }
    }
    set_tags(store).await?;
    store.tell("pruning old versions");
    let still_read = store.prune(&lock, keep).await?;
    let mut tables = Vec::new();
    for (table, before) in schema::TABLES.into_iter().zip(before) {
        tables.push((table, before, store.footprint(table).await?));
    }
    Ok(Optimized { tables, bytes: (bytes_before, store.bytes().await?), rebuilt, behind, still_read })
}
