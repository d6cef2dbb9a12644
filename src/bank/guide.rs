//! A bank's rows with the log-sum-exp of their class logits: what `nnguide_score` compares with.

use std::collections::HashMap;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, UInt64Type};
use futures::TryStreamExt;

use super::Definition;
use super::rows::{for_each_row, has_embedding};
use crate::error::{Error, Result};
use crate::index::vectors::embedding;
use crate::schema;
use crate::statistics::guidance::{Guide, log_sum_exp};
use crate::store::{Store, memory};

/// All rows of a bank, weighed by their logits as they are in its version.
///
/// Errors: [`Error::NoBankLogits`] where a row has none.
pub(super) async fn read(store: &Store, bank: &Definition) -> Result<Guide> {
    let (n, d) = (bank.row_count as u64, bank.dimension as u64);
    memory::check(&format!("the rows of bank '{}'", bank.name), n * (4 * d + 48), "--alpha keeps fewer rows")?;
    let (classes, weights) = weights(store, bank).await?;
    let (mut guide, mut without) = (Guide::with_capacity(bank.row_count, bank.dimension, classes), 0);
    for_each_row(store, bank, |id, unit| match weights.get(&id) {
        Some(weight) => guide.push(unit, *weight),
        None => without += 1,
    })
    .await?;
    if without > 0 {
        return Err(no_logits(bank, without));
    }
    match guide.rows() {
        found if found == bank.row_count => Ok(guide),
        found => Err(Error::BankChanged { bank: bank.name.clone(), expected: bank.row_count, found }),
    }
}

/// How many logits an image has, and the log-sum-exp of those of each image that the bank's predicate finds, by id; images without
/// logits are left out.
async fn weights(store: &Store, bank: &Definition) -> Result<(usize, HashMap<u64, f64>)> {
    let column = schema::logits_column(&bank.backbone);
    let columns = store.schema_at(schema::IMAGES, bank.follows()).await?;
    let classes = match columns.field_with_name(&column).map(|field| field.data_type()) {
        Ok(DataType::FixedSizeList(_, classes)) => *classes as usize,
        _ => return Err(no_logits(bank, bank.row_count)),
    };
    let filter = format!("{} AND {column} IS NOT NULL", has_embedding(bank, &bank.predicate));
    let columns = [schema::ID, column.as_str()];
    let mut batches = store.scan(schema::IMAGES, Some(bank.follows()), &columns, Some(&filter)).await?;
    let mut weights = HashMap::new();
    while let Some(batch) = batches.try_next().await? {
        let (ids, logits) = (batch.column(0).as_primitive::<UInt64Type>(), batch.column(1).as_fixed_size_list());
        for row in 0..batch.num_rows() {
            let id = ids.value(row);
            let bad = |problem| Error::BadVector { what: format!("images (id {id}), column {column}"), row, problem };
            match embedding(logits, row).map_err(bad)? {
                Some(logits) if logits.iter().any(|logit| !logit.is_finite()) => return Err(bad("not finite")),
                Some(logits) => weights.insert(id, log_sum_exp(logits, 1.0)),
                None => None,
            };
        }
    }
    Ok((classes, weights))
}

fn no_logits(bank: &Definition, rows: usize) -> Error {
    Error::NoBankLogits { bank: bank.name.clone(), column: schema::logits_column(&bank.backbone), rows }
}
