//! A bank that does not fit into memory: read from its table block by block, once for each batch of queries.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};

use super::Definition;
use super::build::{for_each_id, for_each_row};
use super::open::{Watch, elsewhere, own_runtime};
use crate::error::{Error, Result};
use crate::index::{Ask, Exact, Found, Neighbor, NeighborIndex, Question, Running, SearchOptions, Work};
use crate::vectors::{Rows, Vectors};

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
    watch: Arc<OnceLock<Watch>>,
}

impl Streamed {
    /// Blocks as large as the limit allows: one is searched, one waits, one is filled, and Lance reads ahead.
    pub(super) fn new(
        folder: &Path,
        bank: &Definition,
        limit: u64,
        options: SearchOptions,
        watch: &Arc<OnceLock<Watch>>,
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
        Ok(Self { folder: folder.into(), bank: bank.clone(), block_rows, options, watch: Arc::clone(watch) })
    }

    /// Show every block to `visit`; the next one is read meanwhile.
    fn each_block(&self, mut visit: impl FnMut(Exact, Vec<u64>)) -> Result<()> {
        let (bank, dimension) = (&self.bank, self.bank.dimension);
        let (send, blocks) = sync_channel::<(Rows, Vec<u64>)>(1);
        let mut done = 0;
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || {
                own_runtime(&self.folder, async |store| {
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
            for (block, ids) in blocks {
                done += ids.len();
                visit(Exact::block(block, self.options.instructions), ids);
                if let Some(watch) = self.watch.get() {
                    watch.tell(&bank.name, done, bank.row_count);
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
    /// Take a question through all blocks; `answer` gets what was found, and the ids of all rows.
    fn run<T>(
        &self,
        queries: Vectors<'_>,
        question: Question<'_>,
        answer: impl FnOnce(&Running<'_>, &[u64]) -> T,
    ) -> Result<(T, Work)> {
        let numbers = match question.own {
            Some(own) => Some(self.numbers(own)?),
            None => None,
        };
        let bounds = question.bounds(queries.len());
        let mut running = Running::new(queries.len(), bounds.ask(question.k, numbers.as_deref()));
        let (mut ids, mut work) = (Vec::with_capacity(self.bank.row_count), Work::default());
        self.each_block(|block, of_block| {
            running.visit(&block, queries);
            work.add(block.work());
            ids.extend(of_block);
        })?;
        work.queries = queries.len() as u64;
        Ok((answer(&running, &ids), work))
    }

    /// Row numbers of ids in the bank's order.
    fn numbers(&self, own: &[Option<u64>]) -> Result<Vec<u32>> {
        let wanted: HashSet<u64> = own.iter().flatten().copied().collect();
        let read = || {
            own_runtime(&self.folder, async |store| {
                let (mut numbers, mut row) = (HashMap::with_capacity(wanted.len()), 0);
                for_each_id(&store, &self.bank, |id| {
                    if wanted.contains(&id) {
                        numbers.insert(id, row);
                    }
                    row += 1;
                })
                .await?;
                Ok(numbers)
            })
        };
        let numbers = elsewhere(&self.bank.name, read)?;
        Ok(own.iter().map(|id| id.and_then(|id| numbers.get(&id).copied()).unwrap_or(Ask::NOBODY)).collect())
    }
}

impl NeighborIndex for Streamed {
    fn find(&self, queries: Vectors<'_>, question: Question<'_>) -> Result<Found> {
        let (kth, work) = self.run(queries, question, |running, _| running.found())?;
        Ok(Found { kth, work })
    }

    fn nearest(&self, queries: Vectors<'_>, k: usize, own: Option<&[Option<u64>]>) -> Result<Vec<Vec<Neighbor>>> {
        let (near, _) = self.run(queries, Question { own, ..Question::all(k) }, |running, ids| {
            let told = |(row, distance): (u32, f32)| Neighbor { id: ids[row as usize], distance };
            running.nearest().into_iter().map(|near| near.into_iter().map(told).collect()).collect()
        })?;
        Ok(near)
    }

    fn describe(&self) -> String {
        format!("exact, {}, streamed in blocks of {} rows", self.options.instructions.name(), self.block_rows)
    }
}
