//! A bank that does not fit into memory: read from its table block by block, once for each batch of queries.

use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};

use super::Definition;
use super::rows::{for_each_id, for_each_row};
use super::runtime::{ReadProgress, block_on_own_runtime, on_own_thread};
use crate::error::{Error, Result};
use crate::index::vectors::{Rows, Vectors};
use crate::index::{
    Exact, Found, Near, Neighbor, NeighborIndex, Question, RowNumber, Running, SearchOptions, Work, row_number,
};

/// Rows per block below which reading by blocks makes no sense, and above which a block brings nothing.
const LEAST_ROWS: usize = 8;
const MOST_ROWS: usize = 65_536;

/// Exact search of rows that stay in their table.
#[derive(Debug)]
pub(super) struct Streamed {
    folder: PathBuf,
    bank: Definition,
    block_rows: usize,
    options: SearchOptions,
    watch: Arc<OnceLock<ReadProgress>>,
    /// Of all rows, ascending: a row's number is its place here. Read when first asked for.
    ids: OnceLock<Vec<u64>>,
}

impl Streamed {
    /// Blocks as large as the limit allows: one is searched, one waits, one is filled, and Lance reads ahead.
    pub(super) fn new(
        folder: &Path,
        bank: &Definition,
        limit: u64,
        options: SearchOptions,
        watch: &Arc<OnceLock<ReadProgress>>,
    ) -> Result<Self> {
        let per_row = 2 * Exact::block_bytes(bank.dimension);
        let rows = (limit / 2 / per_row) as usize;
        if rows < LEAST_ROWS {
            let least = 2 * per_row * LEAST_ROWS as u64;
            return Err(Error::MemoryLimitTooSmall {
                bank: bank.name.clone(),
                limit,
                dimension: bank.dimension,
                least,
            });
        }
        let block_rows = rows.min(MOST_ROWS);
        let (folder, bank, watch) = (folder.into(), bank.clone(), Arc::clone(watch));
        Ok(Self { folder, bank, block_rows, options, watch, ids: OnceLock::new() })
    }

    /// Show every block to `visit`; the next one is read meanwhile.
    fn each_block(&self, ids: &[u64], mut visit: impl FnMut(Exact)) -> Result<()> {
        let (bank, dimension) = (&self.bank, self.bank.dimension);
        let (send, blocks) = sync_channel::<(Rows, Vec<u64>)>(1);
        let mut done = 0;
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || {
                block_on_own_runtime(&self.folder, async |store| {
                    let empty = || (Rows::with_capacity(self.block_rows, dimension), Vec::new());
                    let mut block = empty();
                    let mut stopped = false;
                    for_each_row(&store, bank, |id, unit| {
                        if stopped {
                            return;
                        }
                        block.0.push(unit);
                        block.1.push(id);
                        if block.1.len() == self.block_rows {
                            stopped = send.send(std::mem::replace(&mut block, empty())).is_err();
                        }
                    })
                    .await?;
                    if !block.1.is_empty() && !stopped {
                        // nobody listens any more: then nobody misses it
                        let _ = send.send(block);
                    }
                    Ok(())
                })
            });
            for (block, of_block) in blocks {
                let numbers: Option<Vec<RowNumber>> = of_block.into_iter().map(|id| row_number(ids, id)).collect();
                // a row whose id was not read is none of the bank's: fewer are done than there are
                let Some(numbers) = numbers else { break };
                done += numbers.len();
                visit(Exact::block(block, numbers, self.options.instructions));
                if let Some(watch) = self.watch.get() {
                    watch.report(&bank.name, done, bank.row_count);
                }
            }
            let panicked =
                |_| Err(Error::BankUnreadable { bank: bank.name.clone(), reason: "a thread panicked".into() });
            reader.join().unwrap_or_else(panicked)
        })?;
        if done != bank.row_count {
            return Err(Error::BankChanged { bank: bank.name.clone(), expected: bank.row_count, found: done });
        }
        Ok(())
    }
}

impl Streamed {
    /// Take a question through all blocks; `answer` gets what was found, and the ids of all rows by number.
    fn run<T>(
        &self,
        queries: Vectors<'_>,
        question: Question<'_>,
        answer: impl FnOnce(&Running<'_>, &[u64]) -> T,
    ) -> Result<(T, Work)> {
        let ids = match self.ids.get() {
            Some(ids) => ids,
            None => {
                let ids = on_own_thread(&self.bank.name, || self.read_ids())?;
                self.ids.get_or_init(|| ids)
            }
        };
        let number = |id: &Option<u64>| id.and_then(|id| row_number(ids, id));
        let excluded: Option<Vec<Option<RowNumber>>> =
            question.excluded.map(|excluded| excluded.iter().map(number).collect());
        let mut running = Running::new(queries.len(), question.excluding(excluded.as_deref()));
        let mut work = Work::default();
        self.each_block(ids, |block| {
            running.visit(&block, queries);
            work.add(block.work());
        })?;
        work.queries = queries.len() as u64;
        Ok((answer(&running, ids), work))
    }

    fn read_ids(&self) -> Result<Vec<u64>> {
        block_on_own_runtime(&self.folder, async |store| {
            let mut ids = Vec::with_capacity(self.bank.row_count);
            for_each_id(&store, &self.bank, |id| ids.push(id)).await?;
            ids.sort_unstable();
            Ok(ids)
        })
    }
}

impl NeighborIndex for Streamed {
    fn find(&self, queries: Vectors<'_>, question: Question<'_>) -> Result<Found> {
        let (kth, work) = self.run(queries, question, |running, _| running.found())?;
        Ok(Found { kth, work })
    }

    fn nearest(&self, queries: Vectors<'_>, k: usize, own: Option<&[Option<u64>]>) -> Result<Vec<Vec<Neighbor>>> {
        let (near, _) = self.run(queries, Question { excluded: own, ..Question::all(k) }, |running, ids| {
            let neighbor =
                |&(distance, row): &(f64, RowNumber)| Neighbor { id: ids[row.0 as usize], distance: distance as f32 };
            running.nearest().iter().map(|near| near.iter().map(neighbor).collect()).collect()
        })?;
        Ok(near)
    }

    fn nearest_within(&self, queries: Vectors<'_>, question: Question<'_>) -> Result<(Vec<Near>, Work)> {
        self.run(queries, Question { floor: None, ..question }, |running, ids| {
            let with_id = |&(distance, row): &(f64, RowNumber)| (distance, ids[row.0 as usize]);
            running.nearest().iter().map(|near| near.iter().map(with_id).collect()).collect()
        })
    }

    fn bytes(&self) -> u64 {
        // the ids, and three blocks while it is searched
        8 * self.bank.row_count as u64 + 3 * self.block_rows as u64 * Exact::block_bytes(self.bank.dimension)
    }

    fn describe(&self) -> String {
        format!("exact, {}, streamed in blocks of {} rows", self.options.instructions.name(), self.block_rows)
    }
}
