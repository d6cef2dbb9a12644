//! A bank in shards examined: each shard's file, and the search of all of them beside comparing every row.

use outskirt_exact::distance;

use super::finding::{Finding, State};
use super::index::{check_column, check_memory, compared, exact_index, sampled, tagged};
use crate::bank::rows::read_whole;
use crate::bank::shards::counted;
use crate::bank::{Bank, Definition};
use crate::error::Result;
use crate::index::vectors::Vectors;
use crate::store::{Store, WriteLock};

/// Files that are not as they should be, one by one, and all others together; rows and distances of the whole; and the bank, opened
/// where it is well. Without a lock nothing is written.
pub(super) async fn examine_shards(
    store: &Store,
    bank: &Definition,
    sample: usize,
    lock: Option<&WriteLock>,
) -> (Vec<Finding>, Option<Bank>) {
    let mut findings = Vec::new();
    match search(store, bank, sample, lock, &mut findings).await {
        Ok((facts, opened)) => {
            let state = tagged(store, bank, lock).await.or(State::Well(facts));
            findings.push(Finding { subject: format!("bank {}", bank.name), state });
            (findings, Some(opened))
        }
        Err(error) => {
            let state = State::Broken(error.to_string());
            findings.push(Finding { subject: format!("bank {}", bank.name), state });
            (findings, None)
        }
    }
}

async fn search(
    store: &Store,
    bank: &Definition,
    sample: usize,
    lock: Option<&WriteLock>,
    findings: &mut Vec<Finding>,
) -> Result<(String, Bank)> {
    check_column(store, bank).await?;
    let (shards, k) = (counted(store, bank).await?, bank.check_k(bank.k as i128)?);
    let queries = sampled(store, bank, sample).await?;
    let asked = Vectors::new(&queries, bank.dimension);
    // of each query, the k nearest rows of all shards so far
    let mut nearest: Vec<Vec<f64>> = vec![Vec::new(); asked.len()];
    let (mut well, mut broken) = (0, Vec::new());
    for shard in shards.iter().filter(|shard| shard.row_count > 0) {
        check_memory(shard)?;
        let (state, is_whole) = exact_index(store, bank, shard, lock).await;
        match state {
            State::Well(_) if is_whole => well += 1,
            state => findings.push(Finding { subject: format!("index of {}", shard.name), state }),
        }
        if !is_whole {
            broken.push(shard.name.clone());
        }
        let rows = read_whole(store, shard).await?.vectors.to_values();
        let rows = Vectors::new(&rows, bank.dimension);
        for (query, nearest) in nearest.iter_mut().enumerate() {
            nearest.extend((0..rows.len()).map(|row| distance(asked.row(query), rows.row(row))));
            if nearest.len() >= k {
                nearest.select_nth_unstable_by(k - 1, f64::total_cmp);
                nearest.truncate(k);
            }
        }
    }
    if well > 0 {
        let (subject, files) = (format!("index of {}", bank.name), if well == 1 { "file" } else { "files" });
        findings.push(Finding { subject, state: State::Well(format!("{well} {files} of shards, checksums right")) });
    }
    let truth: Vec<f32> = nearest.iter().map(|nearest| nearest[k - 1] as f32).collect();
    let opened = Bank::in_shards(store, bank, shards, broken);
    let facts = compared(&opened, &queries, &truth)?;
    Ok((facts, opened))
}
