//! What searches did, counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a search did, for reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Queries asked.
    pub queries: u64,
    /// Pairs of a query and a cell that could not be skipped.
    pub visits: u64,
    /// Distances estimated in low precision.
    pub estimated: u64,
    /// Distances computed in f32.
    pub computed: u64,
}

/// [`Work`] of all threads.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    queries: AtomicU64,
    visits: AtomicU64,
    estimated: AtomicU64,
    computed: AtomicU64,
}

impl Work {
    /// Count what another search did, too.
    pub fn add(&mut self, more: Self) {
        self.queries += more.queries;
        self.visits += more.visits;
        self.estimated += more.estimated;
        self.computed += more.computed;
    }
}

impl Counters {
    pub(crate) fn add(&self, work: Work) {
        self.queries.fetch_add(work.queries, Ordering::Relaxed);
        self.visits.fetch_add(work.visits, Ordering::Relaxed);
        self.estimated.fetch_add(work.estimated, Ordering::Relaxed);
        self.computed.fetch_add(work.computed, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Work {
        Work {
            queries: self.queries.load(Ordering::Relaxed),
            visits: self.visits.load(Ordering::Relaxed),
            estimated: self.estimated.load(Ordering::Relaxed),
            computed: self.computed.load(Ordering::Relaxed),
        }
    }
}
