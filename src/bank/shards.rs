//! The shards of a bank: each is a bank of its own, with some of the rows, and a file of its own, so that neither making nor searching
//! needs memory or disk for more than a few of them. Which shard a row is in follows from its id, as SQL: a shard's rows are read,
//! followed and brought up to date as any bank's.

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use futures::TryStreamExt;

use super::Definition;
use super::definition::MARK;
use super::rows::has_embedding;
use crate::error::{Error, Result};
use crate::index::IndexKind;
use crate::schema;
use crate::statistics::sampling::is_sampled;
use crate::store::Store;

/// What a shard of an id is computed with: a multiplier and a prime below 2³¹, and the size of a step, so that ids that count up by
/// any number go around all shards.
const MULTIPLIER: u64 = 48_271;
const PRIME: u64 = (1 << 31) - 1;
const STEP: u64 = 1 << 16;

/// SQL for the shard that an image would be in, of so many.
fn shard_of(shards: u32) -> String {
    format!("CAST({} AS BIGINT) * {MULTIPLIER} % {PRIME} / {STEP} % {shards}", schema::ID)
}

/// The same of an id.
fn shard_of_id(id: u64, shards: u32) -> usize {
    (id.wrapping_mul(MULTIPLIER) % PRIME / STEP % u64::from(shards)) as usize
}

/// The shards of a bank, their rows not counted; none where it has none.
pub(super) fn shards(bank: &Definition) -> Result<Vec<Definition>> {
    let IndexKind::Sharded(shards) = bank.index_kind()? else { return Ok(Vec::new()) };
    let shard = |number| Definition {
        name: format!("{}{MARK}{}{MARK}of{MARK}{shards}", bank.name, number + 1),
        predicate: format!("({}) AND {} = {number}", bank.predicate, shard_of(shards)),
        index_kind: IndexKind::Exact.to_string(),
        row_count: 0,
        ..bank.clone()
    };
    Ok((0..shards).map(shard).collect())
}

/// The shards of a bank, and how many rows each has.
///
/// Errors: those of reading the ids; other rows than the bank had.
pub(super) async fn counted(store: &Store, bank: &Definition) -> Result<Vec<Definition>> {
    let mut shards = shards(bank)?;
    let count = shards.len() as u32;
    let filter = has_embedding(bank, &bank.predicate);
    let mut batches = store.scan(schema::IMAGES, Some(bank.follows()), &[schema::ID], Some(&filter)).await?;
    while let Some(batch) = batches.try_next().await? {
        let ids = batch.column(0).as_primitive::<UInt64Type>().values();
        for &id in ids.iter().filter(|&&id| is_sampled(id, bank.alpha, bank.seed)) {
            shards[shard_of_id(id, count)].row_count += 1;
        }
    }
    let found = shards.iter().map(|shard| shard.row_count).sum();
    if found != bank.row_count {
        return Err(Error::BankChanged { bank: bank.name.clone(), expected: bank.row_count, found });
    }
    Ok(shards)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_count_up_by_any_number_go_around_all_shards() {
        for shards in [2, 3, 8, 10, 64] {
            for by in [1, 2, 3, 7, 8, 11, 16, 100, 1000, 1024, 65_536] {
                let mut rows = vec![0; shards as usize];
                (0..20_000).for_each(|row| rows[shard_of_id(row * by, shards)] += 1);
                let fair = 20_000 / shards as usize;
                let (least, most) = (rows.iter().min().unwrap(), rows.iter().max().unwrap());
                assert!(*least * 10 >= fair * 9 && *most * 10 <= fair * 11, "{shards} shards, by {by}: {rows:?}");
            }
        }
    }
}
