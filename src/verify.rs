//! A whole database checked: rows, banks, graphs, calibrations and kept scores, each against what it comes from.
//!
//! Nothing is trusted that can be read or computed again. What is derived (exact indexes, graphs, tags, leftovers) can be mended;
//! of what is not, the finding says what is lost.

use std::collections::HashSet;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Field, UInt64Type};
use futures::TryStreamExt;
use sha2::{Digest, Sha256};

use crate::bank;
pub use crate::bank::{Finding, State};
use crate::error::{Error, Result};
use crate::index::vectors::{embedding, normalize};
use crate::schema;
use crate::store::Store;

/// Check everything; `sample` images per bank are compared with brute force. With `repair`, mend what is derived.
///
/// Errors: with `repair`, another writer. Everything else is a finding.
pub async fn verify(store: &Store, sample: usize, repair: bool) -> Result<Vec<Finding>> {
    let lock = if repair { Some(store.lock_in_turn().await?) } else { None };
    let _reading = store.read_lock().await?;
    let mut findings = Vec::new();
    for table in schema::TABLES {
        store.tell(format!("reading {table}"));
        let read = if table == schema::IMAGES { images(store).await } else { rows(store, table).await };
        findings.push(Finding { subject: format!("table {table}"), state: State::of(read) });
    }
    let columns = store.embedding_columns().await?;
    for column in columns {
        store.tell(format!("reading the embeddings of {}", column.backbone));
        let subject = format!("embeddings {}", column.backbone);
        findings.push(Finding { subject, state: State::of(embeddings(store, &column.backbone).await) });
    }
    let Ok(banks) = bank::list(store).await else { return Ok(findings) };
    for bank in &banks {
        store.tell(format!("comparing bank {}", bank.name));
        findings.extend(bank::examine(store, bank, sample, lock.as_ref()).await);
    }
    if let Some(leftovers) = bank::leftovers(store, &banks, lock.as_ref())? {
        findings.push(Finding { subject: "folder indexes".into(), state: leftovers });
    }
    Ok(findings)
}

/// Refuse a database with problems among its findings.
///
/// Errors: [`Error::NotWell`] with their number, and how many of them `repair` mends.
pub fn refuse_problems(store: &Store, findings: &[Finding]) -> Result<()> {
    let derived = findings.iter().filter(|finding| matches!(finding.state, State::Derived(_))).count();
    let broken = findings.iter().filter(|finding| matches!(finding.state, State::Broken(_))).count();
    match derived + broken {
        0 => Ok(()),
        problems => Err(Error::NotWell { uri: store.place().display().to_string(), problems, derived }),
    }
}

/// The rows of `images`, but for embeddings: ids, and pictures that are stored.
async fn images(store: &Store) -> Result<String> {
    let columns = columns_but(store, schema::is_embedding).await?;
    let names: Vec<&str> = columns.iter().map(String::as_str).collect();
    let at = |name: &str| names.iter().position(|column| *column == name).unwrap_or_default();
    let (id, hash, bytes) = (at(schema::ID), at(schema::CONTENT_HASH), at(schema::BYTES));
    let (dataset, uri) = (at(schema::DATASET), at(schema::URI));
    let (mut ids, mut pictures, mut known, mut twins) = (HashSet::new(), 0, HashSet::new(), 0);
    let bad = |reason| Error::BadRow { table: schema::IMAGES.into(), reason };
    let mut batches = store.scan(schema::IMAGES, None, &names, None).await?;
    while let Some(batch) = batches.try_next().await? {
        let of_batch = batch.column(id).as_primitive::<UInt64Type>().values();
        if let Some(id) = of_batch.iter().find(|id| **id >= 1 << 62) {
            return Err(bad(format!(
                "id {id} is larger than any that outskirt gives: no image can be added beside it"
            )));
        }
        if let Some(twice) = of_batch.iter().find(|id| !ids.insert(**id)) {
            return Err(bad(format!("id {twice} is there twice")));
        }
        let (datasets, uris) = (batch.column(dataset).as_string::<i32>(), batch.column(uri).as_string::<i32>());
        for row in 0..batch.num_rows() {
            // half of a SHA-256: uris of millions of rows would take more
            let name = Sha256::digest(format!("{}\0{}", datasets.value(row), uris.value(row)));
            twins += usize::from(!known.insert(<[u8; 16]>::try_from(&name[..16]).unwrap_or_default()));
        }
        let (hashes, stored) = (batch.column(hash).as_string::<i32>(), batch.column(bytes).as_binary::<i32>());
        for row in (0..batch.num_rows()).filter(|&row| stored.is_valid(row)) {
            pictures += 1;
            if format!("{:x}", Sha256::digest(stored.value(row))) != hashes.value(row) {
                return Err(bad(format!("id {}: the stored picture does not have its content_hash", of_batch[row])));
            }
        }
    }
    let version = store.version(schema::IMAGES).await?;
    let stored = if pictures > 0 { format!(", {pictures} stored pictures with their SHA-256") } else { String::new() };
    // an ingest makes none; earlier versions did, one per split
    let twins = match twins {
        0 => String::new(),
        twins => format!(
            "; {twins} uris stand more than once in their dataset: SELECT dataset, uri, count(*) FROM images GROUP BY 1, 2 \
             HAVING count(*) > 1"
        ),
    };
    Ok(format!("{} rows in version {version}, every id once{stored}{twins}", ids.len()))
}

/// All rows of a small table.
async fn rows(store: &Store, table: &str) -> Result<String> {
    let columns: Vec<String> = store.schema(table).await?.fields().iter().map(|field| field.name().clone()).collect();
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let batches: Vec<RecordBatch> = store.scan(table, None, &columns, None).await?.try_collect().await?;
    let count = batches.iter().map(RecordBatch::num_rows).sum::<usize>();
    Ok(format!("{count} {}", if count == 1 { "row" } else { "rows" }))
}

/// All embeddings of a backbone: each can be normalised.
async fn embeddings(store: &Store, backbone: &str) -> Result<String> {
    let mut batches = store.scan(schema::IMAGES, None, &[schema::ID, backbone], None).await?;
    let (mut count, mut unit) = (0, Vec::new());
    while let Some(batch) = batches.try_next().await? {
        for row in 0..batch.num_rows() {
            let bad = |problem| {
                let id = batch.column(0).as_primitive::<UInt64Type>().value(row);
                Error::BadVector { what: format!("images (id {id}), column {backbone}"), row, problem }
            };
            if let Some(values) = embedding(batch.column(1).as_fixed_size_list(), row).map_err(bad)? {
                unit.clear();
                normalize(values, &mut unit).map_err(bad)?;
                count += 1;
            }
        }
    }
    Ok(format!("{count}, all finite and none zero"))
}

async fn columns_but(store: &Store, left_out: fn(&Field) -> bool) -> Result<Vec<String>> {
    let table = store.schema(schema::IMAGES).await?;
    Ok(table.fields().iter().filter(|field| !left_out(field)).map(|field| field.name().clone()).collect())
}
