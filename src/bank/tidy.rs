//! What is done without being asked after a change: small files merged where they are many, and versions pruned where the user
//! has said that he does not need them.
//!
//! By itself nothing is pruned: every version can be undone and restored to until somebody says otherwise.

use super::tags::{advance_version, set_tags};
use super::{Definition, list};
use crate::error::Result;
use crate::schema;
use crate::store::{Change, Store, WriteLock};

/// What [`tidy`] did, and what it leaves to the user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tidied {
    /// Tables whose small files were merged: pieces that their rows were in, and are in.
    pub merged: Vec<(&'static str, usize, usize)>,
    /// Versions of `images` that are kept, where they have become many.
    pub many_versions: Option<usize>,
    /// Whether some were pruned, as older than the user's limit.
    pub pruned: bool,
}

impl Tidied {
    /// What the user should know, a line each.
    pub fn notices(&self) -> Vec<String> {
        let merged = self.merged.iter().map(|(table, before, after)| {
            format!(
                "{table}: its {before} files were merged into {after} ('outskirt optimize --automatic off' leaves them)"
            )
        });
        let versions = self.many_versions.map(|versions| match self.pruned {
            true => format!("older versions were pruned: images has {versions}"),
            false => format!(
                "images has {versions} versions that can be restored: 'outskirt optimize --keep 30days' prunes older ones"
            ),
        });
        merged.chain(versions).collect()
    }
}

/// Keep a database in order after a change of `images` from version `before`, as its settings say. No row, id, score or bank
/// changes, and nothing that can be restored is pruned, unless by a limit that the user has set.
///
/// The change is committed already: whoever calls this takes an error for something to tell.
pub async fn tidy(store: &Store, lock: &WriteLock, before: u64) -> Result<Tidied> {
    let upkeep = store.upkeep().await?;
    let mut tidied = Tidied::default();
    if let Some(past) = upkeep.merge_past {
        for table in schema::TABLES {
            let version = store.version(table).await?;
            let Some((from, to)) = store.compact_past(lock, table, past).await? else { continue };
            tidied.merged.push((table, from, to));
            if table == schema::IMAGES {
                let change = Change { detail: Some("by itself".into()), ..Change::of("optimize") };
                store.record(lock, version, change).await?;
                follow_compaction(store, lock, version).await?;
            }
        }
    }
    let kept = store.versions(schema::IMAGES).await?.len();
    let made = store.version(schema::IMAGES).await?.saturating_sub(before) as usize;
    if upkeep.many_versions.is_some_and(|many| kept / many > kept.saturating_sub(made) / many) {
        if let Some(keep) = upkeep.keep {
            set_tags(store).await?;
            store.prune(lock, keep).await?;
        }
        let left = store.versions(schema::IMAGES).await?.len();
        (tidied.pruned, tidied.many_versions) = (left < kept, Some(left));
    }
    Ok(tidied)
}

/// Let the banks that followed `images` up to a version follow it through a compaction of that; they are given back.
pub(super) async fn follow_compaction(store: &Store, lock: &WriteLock, images: u64) -> Result<Vec<Definition>> {
    let compacted = store.version(schema::IMAGES).await?;
    let mut followed = Vec::new();
    for bank in list(store).await?.into_iter().filter(|bank| bank.follows() == images) {
        let bank = Definition { checked_version: Some(compacted), ..bank };
        advance_version(store, lock, &bank).await?;
        followed.push(bank);
    }
    Ok(followed)
}
