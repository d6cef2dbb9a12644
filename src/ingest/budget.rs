//! How many bytes of pictures are on their way at once: whoever reads one waits until there is room for it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::store::memory;

/// Bytes for each worker, where memory allows: a batch being embedded, one that waits, and what came out of order.
const PER_WORKER: u64 = 64 << 20;
/// Bytes below which large pictures would hold up each other.
const LEAST: u64 = 64 << 20;

/// Bytes that are held, and how many may be.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    held: Mutex<usize>,
    freed: Condvar,
}

impl Budget {
    /// Room for so many workers, within a quarter of the memory that there is.
    pub(super) fn of(workers: usize) -> Arc<Self> {
        let quarter = memory::available().map_or(u64::MAX, |bytes| bytes / 4);
        Self::within(((workers.max(4) as u64 * PER_WORKER).min(quarter).max(LEAST)) as usize)
    }

    /// Room for so many bytes.
    pub(super) fn within(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, held: Mutex::default(), freed: Condvar::new() })
    }

    /// All that may be held.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Whether so many more would be held at once.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.fits(*self.lock(), bytes)
    }

    /// Hold so many bytes, once there is room; one picture that is larger than all of it is held alone.
    pub(super) fn hold(self: &Arc<Self>, bytes: usize) -> Held {
        let held = self.lock();
        let full = |held: &mut usize| !self.fits(*held, bytes);
        *self.freed.wait_while(held, full).unwrap_or_else(PoisonError::into_inner) += bytes;
        Held { budget: Arc::clone(self), bytes }
    }

    /// Bytes that are held now.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        *self.lock()
    }

    fn fits(&self, held: usize, bytes: usize) -> bool {
        held == 0 || held + bytes <= self.limit
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that are counted until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.budget.lock() -= self.bytes;
        self.budget.freed.notify_all();
    }
}
