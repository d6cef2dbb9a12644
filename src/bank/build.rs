//! Making and dropping banks, and reading a bank's vectors out of its version of the table.

use std::fs;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;
use futures::{Stream, TryStreamExt};

use super::derived::{derived, files_of, make};
use super::graph::check_graph_memory;
use super::{Definition, list};
use crate::error::{Error, Result};
use crate::index::IndexKind;
use crate::index::vectors::{Rows, embedding, normalize};
use crate::schema;
use crate::statistics::sampling::{is_sampled, mixed};
use crate::store::{Store, now, quote};

/// What a bank is to hold.
#[derive(Debug, Clone)]
pub struct BankSpec {
    /// Its name.
    pub name: String,
    /// The backbone whose column it reads.
    pub backbone: String,
    /// SQL over `images`: the ID images.
    pub predicate: String,
    /// Default number of neighbours.
    pub k: usize,
    /// Share of the rows kept, in (0, 1].
    pub alpha: f64,
    /// Of that sampling.
    pub seed: u64,
    /// A graph that is kept beside the exact bank, or none.
    pub index: IndexKind,
}

/// A bank's rows in memory.
pub(super) struct InMemory {
    /// `images.id`, in table order.
    pub ids: Vec<u64>,
    /// Normalised embeddings.
    pub vectors: Rows,
}

/// Create a bank of the current version of `images`.
///
/// Errors: a name that exists or cannot be one, a backbone without embeddings, a predicate that fails or matches
/// nothing, k above the number of rows, a zero or non-finite embedding.
pub async fn create(store: &Store, spec: &BankSpec) -> Result<Definition> {
    if !schema::is_name(&spec.name) {
        return Err(Error::BadName { what: "bank", name: spec.name.clone() });
    }
    if !(spec.alpha > 0.0 && spec.alpha <= 1.0) {
        return Err(Error::BadAlpha { alpha: spec.alpha });
    }
    let lock = store.lock()?;
    if list(store).await?.iter().any(|bank| bank.name == spec.name) {
        return Err(Error::BankExists { name: spec.name.clone() });
    }
    store.check_predicate(&spec.predicate).await?;
    let columns = store.embedding_columns().await?;
    let column = columns.iter().find(|column| column.backbone == spec.backbone).ok_or_else(|| Error::NoEmbeddings {
        name: spec.backbone.clone(),
        known: columns.iter().map(|column| column.backbone.clone()).collect(),
    })?;
    let mut bank = Definition {
        name: spec.name.clone(),
        backbone: spec.backbone.clone(),
        sha256: column.sha256.clone(),
        predicate: spec.predicate.clone(),
        k: spec.k,
        alpha: spec.alpha,
        seed: spec.seed,
        index_kind: spec.index.to_string(),
        table_version: store.version(schema::IMAGES).await?,
        row_count: 0,
        dimension: column.dimension,
        created_at: now(),
        checked_version: None,
    };
    let mut count = 0;
    for_each_id(store, &bank, |_| count += 1).await?;
    if count == 0 {
        return Err(Error::NoRows { predicate: spec.predicate.clone(), backbone: spec.backbone.clone() });
    }
    bank.row_count = count;
    bank.check_k(spec.k as i128)?;
    if spec.index != IndexKind::Exact {
        check_graph_memory(&bank, true)?;
    }
    make(store, &lock, &bank, derived(&bank)?).await?;
    // the row last: what came before is derived, or a tag that the next attempt replaces
    store.tag(schema::IMAGES, &bank.tag(), bank.table_version).await?;
    store.write_rows(&lock, schema::BANKS, &[], std::slice::from_ref(&bank)).await?;
    Ok(bank)
}

/// Drop a bank, its calibrations and its index files. The images stay.
pub async fn drop_bank(store: &Store, name: &str) -> Result<Definition> {
    let lock = store.lock()?;
    let bank = super::find(store, name).await?;
    store.delete(&lock, schema::CALIBRATIONS, &format!("bank = {}", quote(name))).await?;
    store.delete(&lock, schema::BANKS, &format!("name = {}", quote(name))).await?;
    store.untag(schema::IMAGES, |tag| bank.owns(tag)).await?;
    for file in files_of(store, &bank) {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &file)(error));
            }
            _ => {}
        }
    }
    Ok(bank)
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
