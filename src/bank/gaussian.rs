//! Gaussians of a bank's rows: one for each class of the column `label`, where rows without a label are a class of their own,
//! or one for all.

use std::collections::HashMap;

use arrow::array::{Array, AsArray};
use arrow::datatypes::UInt64Type;
use futures::TryStreamExt;

use super::Definition;
use super::rows::{for_each_row, has_embedding};
use crate::error::{Error, Result};
use crate::schema;
use crate::statistics::gaussian::{Fit, Gaussian};
use crate::store::{Store, memory};

/// Which rows of a bank share a mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Classes {
    /// Those of one label, as it is in the bank's version.
    Labels,
    /// All.
    One,
}

/// The Gaussians of a bank's rows, which share a covariance: that about their means.
pub(super) async fn fit(store: &Store, bank: &Definition, by: Classes) -> Result<Gaussian> {
    let d = bank.dimension as u64;
    memory::check(&format!("the covariance of bank '{}'", bank.name), 2 * 8 * d * d, "take a smaller network")?;
    let classes = match by {
        Classes::Labels => classes(store, bank).await?,
        Classes::One => HashMap::new(),
    };
    let mut fit = Fit::new(bank.dimension);
    for_each_row(store, bank, |id, unit| fit.add(classes.get(&id).copied().unwrap_or(0), unit)).await?;
    if fit.rows != bank.row_count {
        return Err(Error::BankChanged { bank: bank.name.clone(), expected: bank.row_count, found: fit.rows });
    }
    fit.finish().ok_or_else(|| Error::NoCovariance { bank: bank.name.clone(), rows: bank.row_count })
}

/// The class of each row of a bank by id, numbered from 1; rows without a label are left out.
async fn classes(store: &Store, bank: &Definition) -> Result<HashMap<u64, u32>> {
    let filter = format!("{} AND {} IS NOT NULL", has_embedding(bank, &bank.predicate), schema::LABEL);
    let columns = [schema::ID, schema::LABEL];
    let mut batches = store.scan(schema::IMAGES, Some(bank.follows()), &columns, Some(&filter)).await?;
    let (mut names, mut classes) = (HashMap::<String, u32>::new(), HashMap::new());
    while let Some(batch) = batches.try_next().await? {
        let (ids, labels) = (batch.column(0).as_primitive::<UInt64Type>(), batch.column(1).as_string::<i32>());
        for row in (0..batch.num_rows()).filter(|&row| labels.is_valid(row)) {
            let next = names.len() as u32 + 1;
            let class = *names.entry(labels.value(row).to_owned()).or_insert(next);
            classes.insert(ids.value(row), class);
        }
    }
    Ok(classes)
}
