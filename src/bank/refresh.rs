//! Banks that follow their table: what changed since a bank's version is found, and the bank moved to the latest one.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use futures::TryStreamExt;

use super::build::each_of;
use super::derived::{base, derived, make};
use super::{Definition, find, list};
use crate::error::{Error, Result};
use crate::index::vectors::Rows;
use crate::schema;
use crate::statistics::sampling::is_sampled;
use crate::store::{Fragments, Store, WriteLock};

/// Share of a file's rows that may have changed before it is made anew: what is gone stays in a graph as a way to others
/// and in an exact index as an empty place, and every opening and search pays for it.
const MOST_CHURN: f64 = 0.2;
/// Rows written since that are looked up by id in the older version; of more it is read whole.
const LOOKED_UP: usize = 1000;

/// What [`refresh`] did.
#[derive(Debug, Clone, PartialEq)]
pub struct Refreshed {
    /// The bank as it is now.
    pub bank: Definition,
    /// Rows that it gained, lost, and has with another embedding.
    pub added: usize,
    /// As above.
    pub removed: usize,
    /// As above.
    pub changed: usize,
    /// Whether its index files were made anew.
    pub rebuilt: bool,
}

impl Refreshed {
    /// Whether its rows and embeddings are those it had before.
    pub fn is_unchanged(&self) -> bool {
        self.added + self.removed + self.changed == 0
    }
}

/// Rows by which two versions of a bank differ.
#[derive(Debug, Default)]
struct Difference {
    added: HashSet<u64>,
    removed: HashSet<u64>,
    changed: HashSet<u64>,
    /// Rows of the older version.
    before: usize,
    /// Rows of the newer version.
    after: usize,
}

impl Difference {
    fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    /// Rows that an index of the older version loses and gains, as a share of those it has.
    fn churn(&self) -> f64 {
        (self.added.len() + self.removed.len() + 2 * self.changed.len()) as f64 / self.before.max(1) as f64
    }
}

/// Move a bank to the latest version of `images`. What did not change is not read, but for ids; a bank whose rows are
/// the same keeps its version, and with it calibrations and kept scores.
///
/// Scores afterwards are those of a bank made from scratch. Errors: an unknown bank, one that would hold fewer rows than
/// k, a version that is no longer kept.
pub async fn refresh(store: &Store, name: &str) -> Result<Refreshed> {
    let lock = store.lock()?;
    refresh_locked(store, &lock, find(store, name).await?).await
}

/// [`refresh`] every bank; each has an answer of its own.
pub async fn refresh_all(store: &Store) -> Result<Vec<(String, Result<Refreshed>)>> {
    let lock = store.lock()?;
    let mut all = Vec::new();
    for bank in list(store).await? {
        let name = bank.name.clone();
        all.push((name, refresh_locked(store, &lock, bank).await));
    }
    Ok(all)
}

async fn refresh_locked(store: &Store, lock: &WriteLock, before: Definition) -> Result<Refreshed> {
    let latest = store.version(schema::IMAGES).await?;
    let unchanged = |bank: Definition| Refreshed { bank, added: 0, removed: 0, changed: 0, rebuilt: false };
    if before.follows() == latest {
        return Ok(unchanged(before));
    }
    let columns = store.embedding_columns().await?;
    if !columns.iter().any(|column| column.backbone == before.backbone && column.sha256 == before.sha256) {
        let known = columns.into_iter().map(|column| column.backbone).collect();
        return Err(Error::NoEmbeddings { name: before.backbone, known });
    }
    let mut bank = Definition { table_version: latest, checked_version: None, ..before.clone() };
    let difference = difference(store, &before, &bank).await?;
    if difference.is_empty() {
        let bank = Definition { checked_version: Some(latest), ..before };
        settle(store, lock, &bank).await?;
        return Ok(unchanged(bank));
    }
    bank.row_count = difference.after;
    if bank.row_count < bank.k {
        return Err(Error::BankTooSmall { bank: bank.name, rows: bank.row_count, k: bank.k });
    }
    store.tag(schema::IMAGES, &bank.tag(), bank.table_version).await?;
    let mut outdated = Vec::new();
    for &which in derived(&bank)? {
        let anew = match base(store, &bank, which).await? {
            Some(base) if base.table_version == before.table_version => difference.churn() > MOST_CHURN,
            Some(base) => {
                // a version that is gone cannot be compared with
                self::difference(store, &base, &bank).await.map_or(true, |since| since.churn() > MOST_CHURN)
            }
            None => true,
        };
        if anew {
            outdated.push(which);
        }
    }
    make(store, lock, &bank, &outdated).await?;
    // the row last: until then the bank is what it was
    store.write_rows(lock, schema::BANKS, &["name"], std::slice::from_ref(&bank)).await?;
    untag_others(store, &bank).await?;
    let Difference { added, removed, changed, .. } = difference;
    let rebuilt = !outdated.is_empty();
    Ok(Refreshed { bank, added: added.len(), removed: removed.len(), changed: changed.len(), rebuilt })
}

/// Say of every bank that followed `images` up to one version that it follows up to a later one, where only a column, or
/// those whose names begin so, was written in between: of banks whose predicates do not read it.
pub(super) async fn carry_forward(store: &Store, lock: &WriteLock, column: &str, from: u64, to: u64) -> Result<()> {
    let banks = list(store).await?.into_iter();
    let banks = banks.filter(|bank| bank.follows() == from && !bank.predicate.contains(column));
    for bank in banks {
        settle(store, lock, &Definition { checked_version: Some(to), ..bank }).await?;
    }
    Ok(())
}

/// Record a bank whose rows are the same at a later version, which is kept from now on in place of the earlier one.
pub(super) async fn settle(store: &Store, lock: &WriteLock, bank: &Definition) -> Result<()> {
    // what the row says is kept at every moment
    store.tag(schema::IMAGES, &bank.tag(), bank.follows()).await?;
    store.write_rows(lock, schema::BANKS, &["name"], std::slice::from_ref(bank)).await?;
    untag_others(store, bank).await
}

/// Keep no other version for a bank than the one it is read from, and those its files were made from.
pub(super) async fn untag_others(store: &Store, bank: &Definition) -> Result<()> {
    let mut bases = Vec::new();
    for &which in derived(bank)? {
        bases.extend(base(store, bank, which).await?.filter(|base| base.table_version != bank.table_version));
    }
    let of_file = |tag: &str| bases.iter().any(|base| base.has_tag(tag));
    store.untag(schema::IMAGES, |tag| bank.owns(tag) && tag != bank.tag() && !of_file(tag)).await
}

/// Share of the rows that has changed since the bank's files were made, the largest; `None` where one is missing.
pub async fn churn(store: &Store, bank: &Definition) -> Result<Option<f64>> {
    let mut most: f64 = 0.0;
    for &which in derived(bank)? {
        match base(store, bank, which).await? {
            Some(base) => most = most.max(churn_of(store, bank, &base).await?),
            None => return Ok(None),
        }
    }
    Ok(Some(most))
}

/// The same, of one file.
pub(super) async fn churn_of(store: &Store, bank: &Definition, base: &Definition) -> Result<f64> {
    match base.table_version == bank.table_version {
        true => Ok(0.0),
        false => Ok(difference(store, base, bank).await?.churn()),
    }
}

/// By which rows a bank of one version differs from the same bank of a later one, and how many it has then.
///
/// Only rows that were written or deleted in between can differ: of the others not even the ids are read, but for those
/// that share a fragment with one that was.
async fn difference(store: &Store, from: &Definition, to: &Definition) -> Result<Difference> {
    let (gone, come) = store.different(schema::IMAGES, from.follows(), to.follows()).await?;
    let written = written_since(from);
    let there = ids(store, &come, None).await?;
    let mut touched = ids(store, &come, Some(&written)).await?;
    touched.extend(ids(store, &gone, None).await?.difference(&there));
    let now = marks(store, to, &come, &written).await?;
    let before = match touched.len() {
        0 => HashMap::new(),
        1..=LOOKED_UP => {
            let ids: Vec<String> = touched.iter().map(u64::to_string).collect();
            marks(store, from, &gone, &format!("{} IN ({})", schema::ID, ids.join(", "))).await?
        }
        _ => marks(store, from, &gone, "true").await?,
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

/// SQL: rows that were written after what a bank follows.
fn written_since(bank: &Definition) -> String {
    format!("_row_last_updated_at_version > {}", bank.follows())
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
async fn marks(store: &Store, bank: &Definition, fragments: &Fragments, condition: &str) -> Result<HashMap<u64, u64>> {
    let mut marks = HashMap::new();
    read(store, bank, fragments, condition, |id, unit| {
        let mut hasher = DefaultHasher::new();
        unit.iter().for_each(|value| value.to_bits().hash(&mut hasher));
        marks.insert(id, hasher.finish());
    })
    .await?;
    Ok(marks)
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
    pub(super) gone: Vec<u64>,
    /// Ids of rows to put in afterwards, and their normalised embeddings.
    pub(super) ids: Vec<u64>,
    pub(super) vectors: Rows,
}

impl Changes {
    pub(super) fn none(bank: &Definition) -> Self {
        Self { gone: Vec::new(), ids: Vec::new(), vectors: Rows::with_capacity(0, bank.dimension) }
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
    changes.gone = difference.removed.union(&difference.changed).copied().collect();
    let (_, come) = store.different(schema::IMAGES, base.follows(), bank.follows()).await?;
    read(store, bank, &come, &written_since(base), |id, unit| {
        if difference.added.contains(&id) || difference.changed.contains(&id) {
            changes.ids.push(id);
            changes.vectors.push(unit);
        }
    })
    .await?;
    Ok(changes)
}
