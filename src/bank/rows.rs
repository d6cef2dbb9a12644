//! A bank's rows, read out of its version of `images`: whole into memory, one after the other, or a few of them.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;
use futures::{Stream, TryStreamExt};

use super::Definition;
use crate::error::{Error, Result};
use crate::index::vectors::{Rows, embedding, normalize};
use crate::schema;
use crate::statistics::sampling::{is_sampled, mixed};
use crate::store::Store;

/// A bank's rows in memory.
pub(super) struct InMemory {
    /// `images.id`, in table order.
    pub ids: Vec<u64>,
    /// Normalised embeddings.
    pub vectors: Rows,
}

/// A bank as it would be of another version of `images`: the same predicate, other rows.
///
/// Errors: a version that is not kept, or that holds no such image.
pub async fn at_version(store: &Store, bank: &Definition, version: u64) -> Result<Definition> {
    let kept = store.versions(schema::IMAGES).await?;
    if !kept.contains(&version) {
        let (bank, current) = (bank.name.clone(), bank.table_version);
        return Err(Error::UnknownVersion {
            bank,
            version,
            current,
            first: kept.iter().min().copied(),
            last: kept.iter().max().copied(),
        });
    }
    let mut older = Definition { table_version: version, row_count: 0, checked_version: None, ..bank.clone() };
    let mut rows = 0;
    for_each_id(store, &older, |_| rows += 1).await?;
    if rows == 0 {
        return Err(Error::NoRows { predicate: bank.predicate.clone(), backbone: bank.backbone.clone() });
    }
    older.row_count = rows;
    Ok(older)
}

/// Read a bank's rows from its version of `images`.
pub(super) async fn read_rows(store: &Store, bank: &Definition) -> Result<InMemory> {
    let vectors = Rows::with_capacity(bank.row_count, bank.dimension);
    let mut rows = InMemory { ids: Vec::with_capacity(bank.row_count), vectors };
    for_each_row(store, bank, |id, unit| {
        rows.ids.push(id);
        rows.vectors.push(unit);
    })
    .await?;
    Ok(rows)
}

/// A bank's rows, which must be as many as when it was made.
pub(super) async fn read_whole(store: &Store, bank: &Definition) -> Result<InMemory> {
    let rows = read_rows(store, bank).await?;
    if rows.ids.len() != bank.row_count {
        let (expected, found) = (bank.row_count, rows.ids.len());
        return Err(Error::BankChanged { bank: bank.name.clone(), expected, found });
    }
    Ok(rows)
}

/// Call `each` with id and normalised embedding of every row of a bank, in table order.
pub(super) async fn for_each_row(store: &Store, bank: &Definition, mut each: impl FnMut(u64, &[f32])) -> Result<()> {
    for_each_embedding(store, bank, Some(bank.follows()), &bank.predicate, |id, unit| {
        if is_sampled(id, bank.alpha, bank.seed) {
            each(id, unit);
        }
        Ok(())
    })
    .await
}

/// Call `each` with the id of every row of a bank, in table order.
pub(super) async fn for_each_id(store: &Store, bank: &Definition, mut each: impl FnMut(u64)) -> Result<()> {
    let filter = has_embedding(bank, &bank.predicate);
    let mut batches = store.scan(schema::IMAGES, Some(bank.follows()), &[schema::ID], Some(&filter)).await?;
    while let Some(batch) = batches.try_next().await? {
        let ids = batch.column(0).as_primitive::<UInt64Type>().values();
        ids.iter().filter(|&&id| is_sampled(id, bank.alpha, bank.seed)).for_each(|&id| each(id));
    }
    Ok(())
}

/// SQL: the images for which a predicate holds and which the bank's backbone has seen.
pub(super) fn has_embedding(bank: &Definition, predicate: &str) -> String {
    format!("({predicate}) AND {} IS NOT NULL", bank.backbone)
}

/// Call `each` with id and normalised embedding of every image that has one of the bank's backbone and for which
/// `predicate` holds, in table order.
pub(super) async fn for_each_embedding(
    store: &Store,
    bank: &Definition,
    version: Option<u64>,
    predicate: &str,
    mut each: impl FnMut(u64, &[f32]) -> Result<()>,
) -> Result<()> {
    let mut batches = embeddings(store, bank, version, predicate).await?;
    while let Some(batch) = batches.try_next().await? {
        each_of(&batch, bank, &mut each)?;
    }
    Ok(())
}

/// Ids and embeddings of the images that have one of the bank's backbone and for which `predicate` holds.
pub(super) async fn embeddings(
    store: &Store,
    bank: &Definition,
    version: Option<u64>,
    predicate: &str,
) -> Result<impl Stream<Item = Result<RecordBatch>> + Send + Unpin + use<>> {
    let columns = [schema::ID, bank.backbone.as_str()];
    store.scan(schema::IMAGES, version, &columns, Some(&has_embedding(bank, predicate))).await
}

/// Call `each` with id and normalised embedding of every row of a batch of [`embeddings`].
pub(super) fn each_of(
    batch: &RecordBatch,
    bank: &Definition,
    mut each: impl FnMut(u64, &[f32]) -> Result<()>,
) -> Result<()> {
    let ids = batch.column(0).as_primitive::<UInt64Type>();
    let mut unit = Vec::with_capacity(bank.dimension);
    for row in 0..batch.num_rows() {
        let id = ids.value(row);
        let bad = |problem| {
            let what = format!("images (id {id}), column {}", bank.backbone);
            Error::BadVector { what, row, problem }
        };
        if let Some(values) = embedding(batch.column(1).as_fixed_size_list(), row).map_err(bad)? {
            unit.clear();
            normalize(values, &mut unit).map_err(bad)?;
            each(id, &unit)?;
        }
    }
    Ok(())
}

/// Normalised embeddings of some rows of a bank, in the order of the table.
pub(super) async fn rows_of(store: &Store, bank: &Definition, ids: &[u64]) -> Result<Rows> {
    let listed: Vec<String> = ids.iter().map(u64::to_string).collect();
    let among = format!("{} IN ({})", schema::ID, listed.join(", "));
    let mut rows = Rows::with_capacity(ids.len(), bank.dimension);
    for_each_embedding(store, bank, Some(bank.follows()), &among, |_, unit| {
        rows.push(unit);
        Ok(())
    })
    .await?;
    Ok(rows)
}

/// Normalised embeddings of up to `count` of the images for which a predicate holds, the same ones each time.
pub(super) async fn draw(
    store: &Store,
    bank: &Definition,
    version: Option<u64>,
    predicate: &str,
    count: usize,
) -> Result<Rows> {
    store.check_predicate(predicate).await?;
    let mut drawn: Vec<(u64, Vec<f32>)> = Vec::new();
    for_each_embedding(store, bank, version, predicate, |id, unit| {
        drawn.push((mixed(id, 0), unit.to_vec()));
        if drawn.len() >= 2 * count.max(1024) {
            drawn.select_nth_unstable_by_key(count, |(order, _)| *order);
            drawn.truncate(count);
        }
        Ok(())
    })
    .await?;
    drawn.sort_unstable_by_key(|(order, _)| *order);
    drawn.truncate(count);
    if drawn.is_empty() {
        return Err(Error::NoRows { predicate: predicate.into(), backbone: bank.backbone.clone() });
    }
    let mut rows = Rows::with_capacity(drawn.len(), bank.dimension);
    drawn.iter().for_each(|(_, unit)| rows.push(unit));
    Ok(rows)
}
