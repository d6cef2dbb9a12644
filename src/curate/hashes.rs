//! Difference hashes of pictures: a column of `images`, filled where somebody asks for copies.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, UInt64Type};
use futures::TryStreamExt;
use rayon::prelude::*;
use tokio::sync::mpsc;

use crate::bank::advance_unaffected;
use crate::error::{Error, Result};
use crate::image::{ImageFile, Orientation, content_hash, decode, dhash};
use crate::ingest::{Reject, Row, names_picture, walk};
use crate::schema;
use crate::sql::session::Session;
use crate::store::{Change, WriteLock};

/// Bytes of pictures that are hashed together, and how many at most.
const BYTES: usize = 64 << 20;
const PICTURES: usize = 1024;
/// Hashes per commit, and the time after which there is one: it writes the column anew for whole fragments.
const HASHES_PER_COMMIT: usize = 1 << 20;
const COMMIT_AFTER: Duration = Duration::from_secs(60);
/// Pictures without a hash that are named.
const NAMED: usize = 3;

/// What hashing did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hashed {
    /// Pictures hashed now.
    pub hashed: usize,
    /// Those that could not be read, or are not the files that were ingested.
    pub refused: usize,
    /// The first of them.
    pub examples: Vec<Reject>,
}

/// Ids of the pictures for which a predicate of the session's holds and which have no hash.
///
/// Errors: [`Error::HashColumnTaken`].
pub(super) async fn without_hash(session: &Session, predicate: &str) -> Result<HashSet<u64>> {
    let lacks = lacks(session).await?;
    // rows that came as numbers may name a picture all the same
    let query = format!(
        "SELECT id FROM images WHERE ({predicate}) AND {lacks} AND (width IS NOT NULL OR uri LIKE '/%' OR uri LIKE '%://%')"
    );
    let mut wanted = HashSet::new();
    let mut rows = session.sql(&query).await?.execute_stream().await?;
    while let Some(batch) = rows.try_next().await? {
        wanted.extend(batch.column(0).as_primitive::<UInt64Type>().values());
    }
    Ok(wanted)
}

/// SQL: whether a row has no hash.
async fn lacks(session: &Session) -> Result<String> {
    match session.store().schema(schema::IMAGES).await?.field_with_name(schema::DHASH) {
        Ok(there) if schema::is_hash(there) => Ok(format!("{} IS NULL", schema::DHASH)),
        Ok(_) => Err(Error::HashColumnTaken { column: schema::DHASH }),
        Err(_) => Ok("true".to_owned()),
    }
}

/// Fill `dhash` of these images. `tell` hears (done, all).
///
/// What cannot be read stays NULL and is counted. Every commit holds whole values: after an interruption the next run goes on.
pub(super) async fn hash_pictures(
    session: &Session,
    lock: &WriteLock,
    wanted: HashSet<u64>,
    mut tell: impl FnMut(usize, usize),
) -> Result<Hashed> {
    let store = session.store();
    let before = store.version(schema::IMAGES).await?;
    let (field, lacks, all) = (field(), lacks(session).await?, wanted.len());
    let mut done = Hashed::default();
    store.add_null_columns(lock, schema::IMAGES, std::slice::from_ref(&field)).await?;
    let (files, walking) = walk(store, lacks, Some(wanted)).await?;
    let (sender, mut batches) = mpsc::channel(2);
    let hashing = tokio::task::spawn_blocking(move || hash(files, &sender));
    let schema = Arc::new(Schema::new(vec![Field::new(schema::ID, DataType::UInt64, false), field]));
    let (mut ids, mut hashes, mut seen, mut since) = (Vec::new(), Vec::new(), 0, Instant::now());
    loop {
        let batch: Option<Vec<Outcome>> = batches.recv().await;
        let ended = batch.is_none();
        for outcome in batch.into_iter().flatten() {
            seen += outcome.ids.len();
            match outcome.hash {
                Ok(Some(hash)) => {
                    hashes.extend(outcome.ids.iter().map(|_| hash));
                    ids.extend(outcome.ids);
                }
                Ok(None) => {}
                Err(reject) => {
                    done.refused += outcome.ids.len();
                    if done.examples.len() < NAMED {
                        done.examples.push(reject);
                    }
                }
            }
        }
        if ids.len() >= HASHES_PER_COMMIT || !ids.is_empty() && (ended || since.elapsed() >= COMMIT_AFTER) {
            done.hashed += ids.len();
            let columns: Vec<ArrayRef> = vec![
                Arc::new(UInt64Array::from(std::mem::take(&mut ids))),
                Arc::new(UInt64Array::from(std::mem::take(&mut hashes))),
            ];
            store.update_images(lock, RecordBatch::try_new(Arc::clone(&schema), columns)?).await?;
            since = Instant::now();
        }
        if ended {
            break;
        }
        tell(seen, all);
    }
    let change = Change {
        detail: Some(format!("column {}", schema::DHASH)),
        row_count: done.hashed as u64,
        ..Change::of("hash")
    };
    store.record(lock, before, change).await?;
    // hashes are no part of a bank
    advance_unaffected(store, lock, schema::DHASH, before, store.version(schema::IMAGES).await?).await?;
    hashing.await.map_err(|_| Error::ReadPanicked)?;
    walking.await.map_err(|_| Error::ReadPanicked)??;
    Ok(done)
}

/// The column.
fn field() -> Field {
    let metadata = [(schema::HASH_KEY.into(), schema::DHASH.into())];
    Field::new(schema::DHASH, DataType::UInt64, true).with_metadata(metadata.into())
}

/// A picture, and whose it is; no hash where its rows came as numbers and name none.
struct Outcome {
    ids: Vec<u64>,
    hash: std::result::Result<Option<u64>, Reject>,
}

/// Hash files, some at a time, on all threads; nobody listens where writing has failed.
fn hash(mut files: impl Iterator<Item = (Vec<Row>, Result<ImageFile>)>, outcomes: &mpsc::Sender<Vec<Outcome>>) {
    let (mut some, mut bytes) = (Vec::new(), 0);
    loop {
        let next = files.next();
        let ended = next.is_none();
        if let Some((rows, file)) = next {
            bytes += file.as_ref().map_or(0, |file| file.bytes.len());
            some.push((rows, file));
        }
        if bytes >= BYTES || some.len() >= PICTURES || ended && !some.is_empty() {
            let made = std::mem::take(&mut some).into_par_iter().map(|(rows, file)| outcome(&rows, file)).collect();
            if outcomes.blocking_send(made).is_err() {
                return;
            }
            bytes = 0;
        }
        if ended {
            return;
        }
    }
}

fn outcome(rows: &[Row], file: Result<ImageFile>) -> Outcome {
    let ids = rows.iter().map(|row| row.id).collect();
    let is_picture = rows.iter().any(|row| !row.content_hash.is_empty());
    let hash = match file {
        Ok(file) => {
            let same = |row: &Row| row.content_hash.is_empty() || row.content_hash == content_hash(&file.bytes);
            if rows.iter().all(same) {
                decode(&file.uri, &file.bytes, Orientation::Stored).map(|pixels| Some(dhash(&pixels)))
            } else {
                let reason = "it has changed since it was ingested: run 'outskirt ingest' again".into();
                Err(Error::BadImage { uri: file.uri, reason })
            }
        }
        Err(Error::BadImage { uri, .. }) if !names_picture(&uri, is_picture) => Ok(None),
        Err(error) => Err(error),
    };
    let hash = hash.map_err(|error| match error {
        Error::BadImage { uri, reason } => Reject { uri, reason },
        other => Reject { uri: String::new(), reason: other.to_string() },
    });
    Outcome { ids, hash }
}
