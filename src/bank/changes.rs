//! By which rows two versions of a bank differ. Fragments that both versions share are not read.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use futures::TryStreamExt;

use super::Definition;
use super::rows::each_of;
use crate::error::{Error, Result};
use crate::index::vectors::Rows;
use crate::schema;
use crate::statistics::sampling::is_sampled;
use crate::store::{Fragments, Store};

/// Rows written since that are looked up by id in the older version; of more it is read whole.
const LOOKED_UP: usize = 1000;

/// Rows by which two versions of a bank differ.
#[derive(Debug, Default)]
pub(super) struct Difference {
    pub(super) added: HashSet<u64>,
    pub(super) removed: HashSet<u64>,
    pub(super) changed: HashSet<u64>,
    /// Rows of the older version.
    before: usize,
    /// Rows of the newer version.
    pub(super) after: usize,
}

impl Difference {
    pub(super) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    /// Rows that an index of the older version loses and gains, as a share of those it has.
    pub(super) fn churn(&self) -> f64 {
        (self.added.len() + self.removed.len() + 2 * self.changed.len()) as f64 / self.before.max(1) as f64
    }
}

/// By which rows a bank of one version differs from the same bank of a later one, and how many it has then.
///
/// Only rows that were written or deleted in between can differ: of the others not even the ids are read, but for those
/// that share a fragment with one that was.
pub(super) async fn difference(store: &Store, from: &Definition, to: &Definition) -> Result<Difference> {
    let (old_fragments, new_fragments) = store.different(schema::IMAGES, from.follows(), to.follows()).await?;
    let written = written_since(store, from, to).await?;
    let there = ids(store, &new_fragments, None).await?;
    let mut touched = ids(store, &new_fragments, Some(&written)).await?;
    touched.extend(ids(store, &old_fragments, None).await?.difference(&there));
    let now = row_hashes(store, to, &new_fragments, &written).await?;
    let before = match touched.len() {
        0 => HashMap::new(),
        1..=LOOKED_UP => {
            let ids: Vec<String> = touched.iter().map(u64::to_string).collect();
            row_hashes(store, from, &old_fragments, &format!("{} IN ({})", schema::ID, ids.join(", "))).await?
        }
        _ => row_hashes(store, from, &old_fragments, "true").await?,
    };
    let mut difference = Difference { before: from.row_count, ..Difference::default() };
    for &id in &touched {
        match (before.get(&id), now.get(&id)) {
            (None, Some(_)) => difference.added.insert(id),
            (Some(_), None) => difference.removed.insert(id),
            (Some(before), Some(now)) if before != now => difference.changed.insert(id),
            _ => false,
        };
    }
    difference.after = from.row_count + difference.added.len() - difference.removed.len();
    Ok(difference)
}

/// SQL: rows that may have been written between what two versions of a bank follow. Where an earlier version of the table was
/// restored in between, that is any row.
async fn written_since(store: &Store, from: &Definition, to: &Definition) -> Result<String> {
    Ok(match store.is_linear(schema::IMAGES, from.follows(), to.follows()).await? {
        true => format!("_row_last_updated_at_version > {}", from.follows()),
        false => "true".into(),
    })
}

/// Ids of the images of some fragments for which a condition holds.
async fn ids(store: &Store, fragments: &Fragments, condition: Option<&str>) -> Result<HashSet<u64>> {
    let mut ids = HashSet::new();
    if fragments.is_empty() {
        return Ok(ids);
    }
    let mut batches = store.scan_fragments(fragments, &[schema::ID], condition).await?;
    while let Some(batch) = batches.try_next().await? {
        ids.extend(batch.column(0).as_primitive::<UInt64Type>().values());
    }
    Ok(ids)
}

/// Of the bank's rows in some fragments for which a condition holds: by id, what tells one embedding from another.
async fn row_hashes(
    store: &Store,
    bank: &Definition,
    fragments: &Fragments,
    condition: &str,
) -> Result<HashMap<u64, u64>> {
    let mut row_hashes = HashMap::new();
    read(store, bank, fragments, condition, |id, unit| {
        let mut hasher = DefaultHasher::new();
        unit.iter().for_each(|value| value.to_bits().hash(&mut hasher));
        row_hashes.insert(id, hasher.finish());
    })
    .await?;
    Ok(row_hashes)
}

/// Call `each` with the bank's rows in some fragments for which a condition holds.
async fn read(
    store: &Store,
    bank: &Definition,
    fragments: &Fragments,
    condition: &str,
    mut each: impl FnMut(u64, &[f32]),
) -> Result<()> {
    if fragments.is_empty() {
        return Ok(());
    }
    let filter = format!("({}) AND {condition}", bank.predicate);
    let columns = [schema::ID, bank.backbone.as_str()];
    let mut batches = store.scan_fragments(fragments, &columns, Some(&filter)).await?;
    while let Some(batch) = batches.try_next().await? {
        each_of(&batch, bank, |id, unit| {
            if is_sampled(id, bank.alpha, bank.seed) {
                each(id, unit);
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// What has to be done to an index of one version of a bank so that it is one of a later version.
pub(super) struct Changes {
    /// Ids of rows to take out.
    pub(super) removed: Vec<u64>,
    /// Ids of rows to put in afterwards, and their normalised embeddings.
    pub(super) ids: Vec<u64>,
    pub(super) vectors: Rows,
}

impl Changes {
    pub(super) fn none(bank: &Definition) -> Self {
        Self { removed: Vec::new(), ids: Vec::new(), vectors: Rows::with_capacity(0, bank.dimension) }
    }
}

/// By what an index of an older version of a bank is brought up to it.
pub(super) async fn changes(store: &Store, base: &Definition, bank: &Definition) -> Result<Changes> {
    let difference = difference(store, base, bank).await?;
    if difference.after != bank.row_count {
        let (expected, found) = (bank.row_count, difference.after);
        return Err(Error::BankChanged { bank: bank.name.clone(), expected, found });
    }
    let mut changes = Changes::none(bank);
    changes.removed = difference.removed.union(&difference.changed).copied().collect();
    let (_, new_fragments) = store.different(schema::IMAGES, base.follows(), bank.follows()).await?;
    let written = written_since(store, base, bank).await?;
    read(store, bank, &new_fragments, &written, |id, unit| {
        if difference.added.contains(&id) || difference.changed.contains(&id) {
            changes.ids.push(id);
            changes.vectors.push(unit);
        }
    })
    .await?;
    Ok(changes)
}

/// Share of the rows that differ between two versions of a bank.
pub(super) async fn churn_of(store: &Store, bank: &Definition, base: &Definition) -> Result<f64> {
    match base.table_version == bank.table_version {
        true => Ok(0.0),
        false => Ok(difference(store, base, bank).await?.churn()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_with_another_embedding_is_lost_and_gained() {
        let (added, removed, changed) = ([1].into(), [2, 3].into(), [4].into());
        assert_eq!(Difference { added, removed, changed, before: 10, after: 9 }.churn(), 0.5);
        assert_eq!(Difference::default().churn(), 0.0);
    }
}
