//! What was found, as tables: with what is known of each image.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Float32Array, RecordBatch, StringArray, UInt64Array};
use arrow::compute::{cast, concat_batches, filter_record_batch, take};
use arrow::datatypes::{DataType, UInt64Type};
use futures::TryStreamExt;

use super::sample::{SampleOptions, Sampled, Strategy};
use crate::error::Result;
use crate::sql::session::Session;

/// Images that a query names; of more the whole table is read.
const NAMED: usize = 500;

/// Chosen images in their order: id, dataset, split, label, uri; `per` where there are groups, `score` (FLOAT) where there is a bank, and
/// `stands_for` of diverse ones.
pub async fn sampled_table(session: &Session, options: &SampleOptions, chosen: &[Sampled]) -> Result<RecordBatch> {
    let ids: Vec<u64> = chosen.iter().map(|chosen| chosen.id).collect();
    let mut columns = Vec::from(known(session, &ids).await?);
    if options.per.is_some() {
        columns.push(("per", Arc::new(StringArray::from_iter(chosen.iter().map(|chosen| chosen.group.as_deref())))));
    }
    if options.bank.is_some() {
        columns.push(("score", Arc::new(Float32Array::from_iter(chosen.iter().map(|chosen| chosen.score)))));
    }
    if options.strategy == Strategy::Diverse {
        let stands_for = chosen.iter().map(|chosen| chosen.stands_for.map(|members| members as u64));
        columns.push(("stands_for", Arc::new(UInt64Array::from_iter(stands_for))));
    }
    table(columns)
}

/// Columns as a table, in which any value may be NULL.
pub(super) fn table(columns: Vec<(&'static str, ArrayRef)>) -> Result<RecordBatch> {
    Ok(RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))?)
}

/// Id, dataset, split, label and uri of images, in the order of their ids as given.
pub(super) async fn known(session: &Session, ids: &[u64]) -> Result<[(&'static str, ArrayRef); 5]> {
    let wanted: HashSet<u64> = ids.iter().copied().collect();
    let mut query = "SELECT id, dataset, split, label, uri FROM images".to_owned();
    if ids.len() <= NAMED {
        let named: Vec<String> = ids.iter().map(u64::to_string).collect();
        // of none there is a schema
        query += &format!(" WHERE id IN ({})", if named.is_empty() { "NULL".into() } else { named.join(", ") });
    }
    let mut rows = session.sql(&query).await?.execute_stream().await?;
    let mut found = vec![RecordBatch::new_empty(rows.schema())];
    while let Some(batch) = rows.try_next().await? {
        let is_wanted = batch.column(0).as_primitive::<UInt64Type>().iter();
        let is_wanted: BooleanArray = is_wanted.map(|id| id.map(|id| wanted.contains(&id))).collect();
        found.push(filter_record_batch(&batch, &is_wanted)?);
    }
    let found = concat_batches(&rows.schema(), &found)?;
    let places = found.column(0).as_primitive::<UInt64Type>().values().iter();
    let places: HashMap<u64, u64> = places.copied().zip(0..).collect();
    let order = UInt64Array::from_iter(ids.iter().map(|id| places.get(id).copied()));
    let column = |at: usize| -> Result<ArrayRef> { Ok(cast(&take(found.column(at), &order, None)?, &DataType::Utf8)?) };
    let id: ArrayRef = Arc::new(UInt64Array::from(ids.to_vec()));
    Ok([("id", id), ("dataset", column(1)?), ("split", column(2)?), ("label", column(3)?), ("uri", column(4)?)])
}
