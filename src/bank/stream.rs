//! A bank that does not fit into memory: read from its table block by block, once for each batch of queries.

use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};

use super::Definition;
use super::build::for_each_row;
use super::open::{Watch, own_runtime};
use crate::error::{Error, Result};
use crate::index::{Exact, NeighborIndex, Running, SearchOptions};
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
    fn each_block(&self, mut visit: impl FnMut(Exact)) -> Result<()> {
        let (bank, dimension) = (&self.bank, self.bank.dimension);
        let (send, blocks) = sync_channel::<Rows>(1);
        let mut done = 0;
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || {
                own_runtime(&self.folder, async |store| {
                    let empty = || Rows::with_capacity(self.block_rows, dimension);
                    let mut block = empty();
                    let mut stopped = false;
                    for_each_row(&store, bank, |_, unit| {
                        if stopped {
                            return;
                        }
                        block.push(unit);
                        if block.len() == self.block_rows {
                            stopped = send.send(std::mem::replace(&mut block, empty())).is_err();
                        }
                    })
                    .await?;
                    if !block.is_empty() && !stopped {
                        // nobody listens any more: then nobody misses it
                        let _ = send.send(block);
                    }
                    Ok(())
                })
            });
            for block in blocks {
                done += block.len();
                visit(Exact::block(block, self.options.instructions));
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

impl NeighborIndex for Streamed {
    fn kth_distances(&self, queries: Vectors<'_>, k: usize) -> Result<Vec<f32>> {
        let mut running = Running::new(queries.len(), k);
        self.each_block(|block| running.visit(&block, queries))?;
        // k ≤ the bank's rows, all of which were shown
        Ok(running.kth_distances().into_iter().map(|kth| kth.unwrap_or(f32::NAN)).collect())
    }

    fn within(&self, queries: Vectors<'_>, k: usize, cutoffs: &[f32]) -> Result<Vec<bool>> {
        let mut running = Running::within(k, cutoffs.to_vec());
        self.each_block(|block| running.visit(&block, queries))?;
        Ok(running.are_within())
    }
}
