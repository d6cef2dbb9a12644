//! The table `curation_log`: what changed `images`, and the way back to an earlier version of it.

use std::collections::HashSet;

use arrow::array::{Array, AsArray};
use arrow::datatypes::UInt64Type;
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};

use super::{Fragments, Store, WriteLock, now};
use crate::error::{Error, Result};
use crate::schema;

/// A change of `images`: a row of `curation_log`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// When it was done, UTC.
    pub changed_at: String,
    /// `ingest`, `embed`, `score`, `insert`, `update`, `delete`, `alter`, `tag`, `dedup`, `hash`, `optimize`, `migrate`,
    /// `undo`, `restore` or `takeover`.
    pub verb: String,
    /// What was written.
    pub detail: Option<String>,
    /// SQL over `images`: which rows.
    pub predicate: Option<String>,
    /// Rows that were written or deleted.
    pub row_count: u64,
    /// The version of `images` that it found.
    pub version_before: u64,
    /// The version that it left; `None` where it was interrupted.
    pub version_after: Option<u64>,
    /// Of undo and restore: the version whose rows came back.
    pub restored_version: Option<u64>,
    /// The largest id that `images` ever had, when it was done.
    pub largest_id: Option<u64>,
}

impl Change {
    /// A change that has not been done yet.
    pub fn of(verb: &str) -> Self {
        Self { verb: verb.into(), ..Self::default() }
    }

    /// Its verb, also where it has none.
    pub fn named(&self) -> &str {
        if self.verb.is_empty() { "not recorded" } else { &self.verb }
    }

    /// Whether the rows are the same before and after, but for what their pictures give again.
    pub fn is_of_storage(&self) -> bool {
        ["optimize", "migrate", "hash", "takeover"].contains(&self.verb.as_str())
    }
}

/// What [`Store::restore`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The version of `images` before.
    pub from: u64,
    /// The version whose rows came back.
    pub version: u64,
    /// The version that has them now; `None` where nothing was done.
    pub made: Option<u64>,
    /// Images that came back.
    pub back: usize,
    /// Images that are gone.
    pub gone: usize,
}

impl Store {
    /// Record a change that is done, from version `before` of `images` to the current one; nothing where that is the same.
    pub async fn record(&self, lock: &WriteLock, before: u64, change: Change) -> Result<()> {
        let after = self.version(schema::IMAGES).await?;
        if after == before {
            return Ok(());
        }
        let largest_id = Some(self.largest_id().await?);
        let change =
            Change { changed_at: now(), version_before: before, version_after: Some(after), largest_id, ..change };
        self.write_rows(lock, schema::CURATION_LOG, &[], &[change]).await
    }

    /// The changes that were recorded and are finished, in their order.
    pub async fn changes(&self) -> Result<Vec<Change>> {
        let mut changes: Vec<Change> = self.read_rows(schema::CURATION_LOG).await?;
        changes.retain(|change| change.version_after.is_some());
        changes.sort_by(|a, b| (a.version_after, &a.changed_at).cmp(&(b.version_after, &b.changed_at)));
        Ok(changes)
    }

    /// The largest id that `images` had when something of it was recorded last, and the version that it had then; of older
    /// records, which lack it, 0 and none. Only the newest are read, as many as it takes.
    pub(super) async fn recorded_largest_id(&self) -> Result<(u64, Option<u64>)> {
        let log = self.pieces(schema::CURATION_LOG).await?;
        for newest in log.list()?.into_iter().rev() {
            let mut batches = log.scan(&[newest], &["largest_id", "version_after"], &[]).await?;
            let mut found = None;
            while let Some(batch) = batches.try_next().await? {
                let column = |at: usize| batch.column(at).as_primitive::<UInt64Type>();
                let known = (0..batch.num_rows()).filter(|&row| column(0).is_valid(row));
                // a restore that was interrupted has an id and no version
                found = known.fold(found, |found: Option<(u64, Option<u64>)>, row| {
                    let version = column(1).is_valid(row).then(|| column(1).value(row));
                    let (largest, latest) = found.unwrap_or_default();
                    Some((largest.max(column(0).value(row)), latest.max(version)))
                });
            }
            if let Some(found) = found {
                return Ok(found);
            }
        }
        Ok((0, None))
    }

    /// What [`Self::restore`] would do.
    ///
    /// Errors: [`Error::NoVersion`] for a version that is not kept.
    pub async fn restored(&self, version: u64) -> Result<Restored> {
        let from = self.version(schema::IMAGES).await?;
        let kept = self.versions(schema::IMAGES).await?;
        if !kept.contains(&version) {
            return Err(Error::NoVersion { table: schema::IMAGES.into(), version, kept });
        }
        let (now, then) = self.different(schema::IMAGES, from, version).await?;
        let (now, then) = (self.ids(&now).await?, self.ids(&then).await?);
        let (back, gone) = (then.difference(&now).count(), now.difference(&then).count());
        Ok(Restored { from, version, made: None, back, gone })
    }

    /// Number of images of an earlier version for which a predicate holds.
    ///
    /// Errors: one that it cannot answer, for want of a column.
    pub async fn count_at(&self, version: u64, predicate: &str) -> Result<usize> {
        let _lock = self.read_lock().await?;
        Ok(self.table_at(schema::IMAGES, Some(version)).await?.count_rows(Some(predicate.into())).await?)
    }

    /// Datasets and uris of the images that an earlier version has and the current one does not.
    async fn images_back(&self, from: u64, version: u64) -> Result<HashSet<(String, String)>> {
        let (now, then) = self.different(schema::IMAGES, from, version).await?;
        let now = self.ids(&now).await?;
        let mut back = HashSet::new();
        let columns = [schema::ID, schema::DATASET, schema::URI];
        let mut batches = self.scan_fragments(&then, &columns, None).await?;
        while let Some(batch) = batches.try_next().await? {
            let ids = batch.column(0).as_primitive::<UInt64Type>();
            let text = |column: usize, row: usize| batch.column(column).as_string::<i32>().value(row).to_owned();
            let rows = (0..batch.num_rows()).filter(|&row| !now.contains(&ids.value(row)));
            back.extend(rows.map(|row| (text(1, row), text(2, row))));
        }
        Ok(back)
    }

    async fn ids(&self, fragments: &Fragments) -> Result<HashSet<u64>> {
        let mut ids = HashSet::new();
        let mut batches = self.scan_fragments(fragments, &[schema::ID], None).await?;
        while let Some(batch) = batches.try_next().await? {
            ids.extend(batch.column(0).as_primitive::<UInt64Type>().values());
        }
        Ok(ids)
    }

    /// Record a restore that was committed and then interrupted: its verb, and what it did, where nothing was done since.
    pub async fn finish_restore(&self, lock: &WriteLock) -> Result<Option<(String, Restored)>> {
        let begun: Vec<Change> = self.read_rows(schema::CURATION_LOG).await?;
        let begun = begun.into_iter().filter(|change| change.version_after.is_none());
        let Some(mut change) = begun.max_by_key(|change| change.version_before) else { return Ok(None) };
        let (from, made) = (change.version_before, change.version_before + 1);
        let Some(version) = change.restored_version else { return Ok(None) };
        let latest = self.version(schema::IMAGES).await?;
        if latest < made || self.restored_by(schema::IMAGES, made).await? != Some(version) {
            return Ok(None);
        }
        let (now, then) = self.different(schema::IMAGES, from, version).await?;
        let (now, then) = (self.ids(&now).await?, self.ids(&then).await?);
        let (back, gone) = (then.difference(&now).count(), now.difference(&then).count());
        self.forget_deleted(lock, self.images_back(from, version).await?).await?;
        change.version_after = Some(made);
        let verb = change.verb.clone();
        self.write_rows(lock, schema::CURATION_LOG, &["changed_at", "version_before"], &[change]).await?;
        Ok((latest == made).then_some((verb, Restored { from, version, made: Some(made), back, gone })))
    }

    /// Make `images` what it was at an earlier version, in one commit: rows with their ids, and columns. Versions in
    /// between stay. Ids that were given since are not given again.
    ///
    /// Errors: [`Error::NoVersion`].
    pub async fn restore(&self, lock: &WriteLock, version: u64, verb: &str) -> Result<Restored> {
        let restored = self.restored(version).await?;
        let back = self.images_back(restored.from, version).await?;
        let mut change = Change {
            changed_at: now(),
            row_count: (restored.back + restored.gone) as u64,
            version_before: restored.from,
            restored_version: Some(version),
            largest_id: Some(self.largest_id().await?),
            ..Change::of(verb)
        };
        // first: the restored version has forgotten the largest id
        self.write_rows(lock, schema::CURATION_LOG, &[], std::slice::from_ref(&change)).await?;
        let table = self.writable(schema::IMAGES).await?;
        table.checkout(version).await?;
        table.restore().await?;
        // where it was made before they could be
        self.let_be_null(lock, schema::IMAGES, &schema::OF_PICTURES).await?;
        let made = self.version(schema::IMAGES).await?;
        self.forget_deleted(lock, back).await?;
        change.version_after = Some(made);
        self.write_rows(lock, schema::CURATION_LOG, &["changed_at", "version_before"], &[change]).await?;
        Ok(Restored { made: Some(made), ..restored })
    }
}
