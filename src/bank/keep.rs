//! Scores kept as columns of `images`, each with the bank's version that it stands for.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float32Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Float32Type, Schema, UInt64Type};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt, stream};

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
/// Scores that are asked for elsewhere at a time, about.
const ROWS_ELSEWHERE: usize = 1 << 22;

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

/// The scores of the images for which a condition (SQL over `images`) holds, by another program than this: batches of `id` (UINT64) and
/// score (FLOAT), NULL where there is no embedding.
pub type ScoresElsewhere<'a> = dyn Fn(&Definition, String) -> BoxStream<'a, Result<RecordBatch>> + Send + Sync + 'a;

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
    keep_scores_of(store, bank, predicate, column, None, tell).await
}

/// The same, the scores computed elsewhere where that is given.
pub async fn keep_scores_of(
    store: &Store,
    bank: &str,
    predicate: Option<&str>,
    column: Option<&str>,
    elsewhere: Option<&ScoresElsewhere<'_>>,
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
        let filled = fill(store, &lock, &done, &stale, fields, elsewhere, tell).await;
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
    elsewhere: Option<&ScoresElsewhere<'_>>,
    tell: impl Fn(usize, usize),
) -> Result<()> {
    let bank = &kept.bank;
    let [score, version] = fields;
    let schema = Arc::new(Schema::new(vec![Field::new(schema::ID, DataType::UInt64, false), score, version]));
    // the reading keeps its version of the table, whatever is committed meanwhile
    let reading = store.version(schema::IMAGES).await?;
    let mut scored = match elsewhere {
        None => computed(store, bank, embeddings(store, bank, Some(reading), stale).await?)?.boxed(),
        Some(elsewhere) => {
            let conditions = slices(store, bank, reading, stale, kept.computed).await?;
            let asked = stream::iter(conditions).flat_map(|condition| elsewhere(bank, condition));
            asked.map(|batch| scores_of(&batch?)).boxed()
        }
    };
    let (mut ids, mut scores, mut done): (Vec<u64>, Vec<f32>, usize) = (Vec::new(), Vec::new(), 0);
    loop {
        let more = scored.try_next().await?;
        let is_last = more.is_none();
        if let Some((more_ids, more_scores)) = more {
            ids.extend(more_ids);
            scores.extend(more_scores);
        }
        while ids.len() >= SCORES_PER_COMMIT || is_last && !ids.is_empty() {
            let rows = ids.len().min(SCORES_PER_COMMIT);
            done += rows;
            let columns: Vec<ArrayRef> = vec![
                Arc::new(UInt64Array::from_iter_values(ids.drain(..rows))),
                Arc::new(Float32Array::from_iter_values(scores.drain(..rows))),
                Arc::new(UInt64Array::from(vec![bank.table_version; rows])),
            ];
            store.update_images(lock, RecordBatch::try_new(Arc::clone(&schema), columns)?).await?;
            tell(done, kept.computed);
        }
        if is_last {
            return Ok(());
        }
    }
}

/// Ids and scores of rows, computed here.
fn computed<'a>(
    store: &Store,
    bank: &'a Definition,
    batches: impl Stream<Item = Result<RecordBatch>> + Unpin + Send + 'a,
) -> Result<impl Stream<Item = Result<(Vec<u64>, Vec<f32>)>> + Send + 'a> {
    let opened = open_exact(store, bank)?;
    Ok(stream::try_unfold(Some((batches, opened)), move |reading| async move {
        let Some((mut batches, opened)) = reading else { return Ok(None) };
        let (mut ids, mut queries) = (Vec::new(), Vec::new());
        let mut is_last = false;
        while ids.len() < SCORES_PER_COMMIT && !is_last {
            match batches.try_next().await? {
                Some(batch) => each_of(&batch, bank, |id, unit| {
                    ids.push(id);
                    queries.extend_from_slice(unit);
                    Ok(())
                })?,
                None => is_last = true,
            }
        }
        let scores = opened.kth_distances(Vectors::new(&queries, bank.dimension), bank.k)?;
        Ok::<_, Error>(Some(((ids, scores), (!is_last).then_some((batches, opened)))))
    }))
}

/// Ids and scores out of a batch that was computed elsewhere.
fn scores_of(batch: &RecordBatch) -> Result<(Vec<u64>, Vec<f32>)> {
    let (ids, scores) = (batch.column(0).as_primitive::<UInt64Type>(), batch.column(1).as_primitive::<Float32Type>());
    Ok(ids.values().iter().zip(scores).filter_map(|(&id, score)| Some((id, score?))).unzip())
}

/// Conditions that divide the rows for which `stale` holds, by their ids: what was asked elsewhere comes when all of it is done, and an
/// interruption is to lose no more than one of them.
async fn slices(store: &Store, bank: &Definition, version: u64, stale: &str, rows: usize) -> Result<Vec<String>> {
    let filter = has_embedding(bank, stale);
    let mut batches = store.scan(schema::IMAGES, Some(version), &[schema::ID], Some(&filter)).await?;
    let (mut first, mut last) = (u64::MAX, 0);
    while let Some(batch) = batches.try_next().await? {
        let ids = batch.column(0).as_primitive::<UInt64Type>().values();
        (first, last) = ids.iter().fold((first, last), |(first, last), &id| (first.min(id), last.max(id)));
    }
    let slices = rows.div_ceil(ROWS_ELSEWHERE).max(1) as u64;
    let step = ((last.max(first) - first) / slices + 1).max(1);
    let starts = (0..slices).map(|slice| first.saturating_add(slice * step));
    Ok(starts
        .map(|start| format!("({filter}) AND {id} >= {start} AND {id} < {}", start + step, id = schema::ID))
        .collect())
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
