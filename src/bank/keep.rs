//! Scores kept as columns of `images`, each with the bank's version that it stands for.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use futures::TryStreamExt;

use super::open::open_exact;
use super::rows::{each_of, embeddings, has_embedding};
use super::tags::advance_unaffected;
use super::{Definition, find};
use crate::error::{Error, Result};
use crate::index::vectors::Vectors;
use crate::schema;
use crate::store::{Change, Store, WriteLock};

/// Scores per commit: an interruption loses no more.
const SCORES_PER_COMMIT: usize = 65_536;

/// What [`keep_scores`] did.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// The bank, as its scores were computed.
    pub bank: Definition,
    /// The column of the scores; the bank's version of each is in `…_version`.
    pub column: String,
    /// Scores computed now: of rows that had none, or one of another version of the bank.
    pub computed: usize,
    /// Rows whose score was there already.
    pub fresh: usize,
}

/// Write `knn_ood_score(embedding, bank)` into a column of `images`, for the rows that have an embedding, for which
/// `predicate` holds, and whose score is missing or of another version of the bank. `tell` hears (done, all).
///
/// Every commit holds whole rows, score and version: after an interruption the next run goes on.
///
/// Errors: an unknown bank, a column that is something else or another bank's, a predicate that fails or matches
/// nothing.
pub async fn keep_scores(
    store: &Store,
    bank: &str,
    predicate: Option<&str>,
    column: Option<&str>,
    tell: impl Fn(usize, usize),
) -> Result<Kept> {
    let lock = store.lock_in_turn().await?;
    let bank = find(store, bank).await?;
    let column = column.map_or_else(|| format!("{}_score", bank.name), str::to_owned);
    let predicate = predicate.unwrap_or("true");
    store.check_predicate(predicate).await?;
    let fields = fields(&bank, &column)?;
    let there = columns_are_there(store, &bank, &fields).await?;
    let stale = if there {
        let version = bank.table_version;
        format!("({predicate}) AND ({column} IS NULL OR {column}_version IS NULL OR {column}_version <> {version})")
    } else {
        predicate.to_owned()
    };
    let rows = store.count_where(schema::IMAGES, &has_embedding(&bank, predicate)).await?;
    if rows == 0 {
        return Err(Error::NoRows { predicate: predicate.into(), backbone: bank.backbone });
    }
    let wanted = store.count_where(schema::IMAGES, &has_embedding(&bank, &stale)).await?;
    let done = Kept { bank, column, computed: wanted, fresh: rows - wanted };
    if wanted > 0 {
        let before = store.version(schema::IMAGES).await?;
        if !there {
            store.add_null_columns(&lock, schema::IMAGES, &fields).await?;
        }
        let filled = fill(store, &lock, &done, &stale, fields, tell).await;
        let (detail, predicate) = (Some(format!("{} of bank {}", done.column, done.bank.name)), Some(predicate.into()));
        let change = Change { detail, predicate, row_count: done.computed as u64, ..Change::of("score") };
        store.record(&lock, before, change).await?;
        filled?;
        // scores are no part of a bank
        advance_unaffected(store, &lock, &done.column, before, store.version(schema::IMAGES).await?).await?;
    }
    Ok(done)
}

/// Score the rows for which `stale` holds, and commit them some at a time.
async fn fill(
    store: &Store,
    lock: &WriteLock,
    kept: &Kept,
    stale: &str,
    fields: [Field; 2],
    tell: impl Fn(usize, usize),
) -> Result<()> {
    let bank = &kept.bank;
    let opened = open_exact(store, bank)?;
    let [score, version] = fields;
    let schema = Arc::new(Schema::new(vec![Field::new(schema::ID, DataType::UInt64, false), score, version]));
    // the reading keeps its version of the table, whatever is committed meanwhile
    let reading = store.version(schema::IMAGES).await?;
    let mut batches = embeddings(store, bank, Some(reading), stale).await?;
    let (mut ids, mut queries, mut done) = (Vec::new(), Vec::new(), 0);
    loop {
        let batch = batches.try_next().await?;
        if let Some(batch) = &batch {
            each_of(batch, bank, |id, unit| {
                ids.push(id);
                queries.extend_from_slice(unit);
                Ok(())
            })?;
        }
        if ids.len() >= SCORES_PER_COMMIT || batch.is_none() && !ids.is_empty() {
            let scores = opened.kth_distances(Vectors::new(&queries, bank.dimension), bank.k)?;
            done += ids.len();
            let columns: Vec<ArrayRef> = vec![
                Arc::new(UInt64Array::from(std::mem::take(&mut ids))),
                Arc::new(Float32Array::from(scores)),
                Arc::new(UInt64Array::from(vec![bank.table_version; queries.len() / bank.dimension])),
            ];
            queries.clear();
            let rows = RecordBatch::try_new(Arc::clone(&schema), columns)?;
            store.update_images(lock, rows).await?;
            tell(done, kept.computed);
        }
        if batch.is_none() {
            return Ok(());
        }
    }
}

/// The score's column and its version's.
fn fields(bank: &Definition, column: &str) -> Result<[Field; 2]> {
    if !schema::is_name(column) || schema::is_sql_word(column) {
        return Err(Error::BadName { what: "column", name: column.into() });
    }
    let marked = |name: String, data_type| {
        let metadata = [(schema::SCORE_BANK_KEY, bank.name.clone()), (schema::SCORE_K_KEY, bank.k.to_string())];
        Field::new(name, data_type, true).with_metadata(metadata.map(|(key, value)| (key.into(), value)).into())
    };
    Ok([marked(column.into(), DataType::Float32), marked(format!("{column}_version"), DataType::UInt64)])
}

/// Whether the columns are there; refuse others of the same name.
async fn columns_are_there(store: &Store, bank: &Definition, fields: &[Field]) -> Result<bool> {
    let existing = store.schema(schema::IMAGES).await?;
    let mut there = 0;
    for field in fields {
        let Ok(found) = existing.field_with_name(field.name()) else { continue };
        let of_bank = found.metadata().get(schema::SCORE_BANK_KEY);
        let k = found.metadata().get(schema::SCORE_K_KEY);
        if of_bank != Some(&bank.name) || k != Some(&bank.k.to_string()) || found.data_type() != field.data_type() {
            return Err(Error::NotItsScores {
                column: field.name().clone(),
                bank: bank.name.clone(),
                k: bank.k,
                holds: match (of_bank, k) {
                    (Some(bank), Some(k)) => format!("scores of bank '{bank}' at k = {k}"),
                    _ => "something else".into(),
                },
            });
        }
        there += 1;
    }
    Ok(there == fields.len())
}
