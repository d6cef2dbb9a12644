//! The table `rejects`: files that could not be embedded, until they are.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::AsArray;
use futures::TryStreamExt;
use serde::Serialize;

use crate::error::Result;
use crate::schema;
use crate::store::{Store, WriteLock, now, quote};

/// What could not be read, decoded, embedded or taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// Absolute path, or archive path!/entry.
    pub uri: String,
    /// Why.
    pub reason: String,
}

/// The rejects within a scope, kept up to date.
pub(crate) struct Rejects<'a> {
    store: &'a Store,
    lock: &'a WriteLock,
    backbone: String,
    /// SQL over `rejects`.
    scope: String,
    /// The uris that the table names.
    there: HashSet<String>,
}

/// Uris of files that were refused before and are whole now.
#[derive(Clone, Default)]
pub(crate) struct Recovered(Arc<Mutex<Vec<String>>>);

impl Recovered {
    /// Those since the last time.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push(&self, uri: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(uri.to_owned());
    }
}

/// Sees which of the files that were refused before are read now.
pub(crate) struct RecoveryWatch {
    there: HashSet<String>,
    recovered: Recovered,
}

impl RecoveryWatch {
    /// Where it tells them.
    pub(crate) fn recovered(&self) -> Recovered {
        self.recovered.clone()
    }

    /// A file is as it was when it was embedded.
    pub(crate) fn unchanged(&mut self, uri: &str) {
        if self.there.remove(uri) {
            self.recovered.push(uri);
        }
    }

    /// A file was read, so that the one that holds it can be read again; should that break further on, it is refused
    /// again after this.
    pub(crate) fn read(&mut self, uri: &str) {
        if !self.there.is_empty() {
            uri.match_indices("!/").for_each(|(at, _)| self.unchanged(&uri[..at]));
        }
    }
}

/// A row of the table.
#[derive(Serialize)]
struct Row<'a> {
    dataset: &'a str,
    split: &'a str,
    uri: &'a str,
    backbone: &'a str,
    reason: &'a str,
    rejected_at: &'a str,
}

/// Uris in one statement.
const TOGETHER: usize = 1000;

impl<'a> Rejects<'a> {
    pub(crate) async fn of(store: &'a Store, lock: &'a WriteLock, backbone: &str, scope: String) -> Result<Self> {
        let mut batches = store.scan(schema::REJECTS, None, &[schema::URI], Some(&scope)).await?;
        let mut there = HashSet::new();
        while let Some(batch) = batches.try_next().await? {
            there.extend(batch.column(0).as_string::<i32>().iter().flatten().map(String::from));
        }
        Ok(Self { store, lock, backbone: backbone.into(), scope, there })
    }

    /// For whoever reads files: those that were refused before.
    pub(crate) fn watch(&self) -> RecoveryWatch {
        RecoveryWatch { there: self.there.clone(), recovered: Recovered::default() }
    }

    /// Forget those that are embedded now, or were recovered whole.
    pub(crate) async fn mend(&mut self, whole: impl Iterator<Item = &str>) -> Result<()> {
        let mended: Vec<String> = whole.filter(|uri| self.there.remove(*uri)).map(quote).collect();
        for uris in mended.chunks(TOGETHER) {
            let predicate = format!("{} AND {} IN ({})", self.scope, schema::URI, uris.join(", "));
            self.store.delete(self.lock, schema::REJECTS, &predicate).await?;
        }
        Ok(())
    }

    /// Name files of a dataset and split.
    pub(crate) async fn add(&mut self, rejects: &[Reject], dataset: &str, split: &str) -> Result<()> {
        let keyed = rejects.iter().map(|reject| ((dataset, split, reject.uri.as_str()), reject.reason.as_str()));
        self.write(keyed.collect()).await
    }

    /// Name files that are images already, in each dataset and split where `lacking` (SQL over `images`) holds.
    pub(crate) async fn add_images(&mut self, rejects: &[Reject], lacking: &str) -> Result<()> {
        for rejects in rejects.chunks(TOGETHER) {
            let reasons: BTreeMap<&str, &str> =
                rejects.iter().map(|reject| (reject.uri.as_str(), reject.reason.as_str())).collect();
            let uris: Vec<String> = reasons.keys().map(|uri| quote(uri)).collect();
            let predicate = format!("({lacking}) AND {} IN ({})", schema::URI, uris.join(", "));
            let columns = [schema::DATASET, schema::SPLIT, schema::URI];
            let mut batches = self.store.scan(schema::IMAGES, None, &columns, Some(&predicate)).await?;
            let mut images = Vec::new();
            while let Some(batch) = batches.try_next().await? {
                let text = |column: usize, row: usize| batch.column(column).as_string::<i32>().value(row).to_owned();
                images.extend((0..batch.num_rows()).map(|row| (text(0, row), text(1, row), text(2, row))));
            }
            let reason = |uri: &str| reasons.get(uri).copied().unwrap_or_default();
            let rows = images.iter().map(|(dataset, split, uri)| ((&**dataset, &**split, &**uri), reason(uri)));
            self.write(rows.collect()).await?;
        }
        Ok(())
    }

    /// By dataset, split and uri: the reason.
    async fn write(&mut self, rejects: BTreeMap<(&str, &str, &str), &str>) -> Result<()> {
        if rejects.is_empty() {
            return Ok(());
        }
        let rejected_at = now();
        let row = |(&(dataset, split, uri), &reason)| Row {
            dataset,
            split,
            uri,
            backbone: &self.backbone,
            reason,
            rejected_at: &rejected_at,
        };
        let rows: Vec<Row<'_>> = rejects.iter().map(row).collect();
        self.store
            .write_rows(self.lock, schema::REJECTS, &[schema::DATASET, schema::SPLIT, schema::URI], &rows)
            .await?;
        self.there.extend(rejects.keys().map(|(_, _, uri)| (*uri).to_owned()));
        Ok(())
    }
}
