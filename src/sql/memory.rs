//! How much memory queries may take: a share of what is free when they ask for it.
//!
//! What sorts, joins, groups and metrics gather is counted here, by DataFusion. Operators that can spill share evenly, as in
//! DataFusion's own `FairSpillPool`, whose size is fixed. `SET datafusion.runtime.memory_limit` puts a limit of the user's in
//! place of this.
//!
//! The banks that a session has opened are counted too ([`BankMemory`]), so that what sorts beside them spills earlier. They are
//! never refused here (`outskirt.memory_limit` bounds a bank), and count for half of the limit at most: what is left is enough
//! for a query that could run without them.

use std::fmt::{self, Display, Formatter};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};

use crate::store::memory;

/// Part of the free memory that queries may take: the rest is for what is not counted.
const SHARE: usize = 2;
/// What is free is asked for again after so long.
const MEASURED_FOR: Duration = Duration::from_millis(100);

/// Part of the limit that banks may count for.
const BANKS_SHARE: usize = 2;

/// What a session's banks take of the pool that its queries have now.
pub(super) struct BankMemory {
    pool: Box<FindPool>,
    /// The pool, and what is reserved in it.
    reserved: Mutex<Option<Reserved>>,
}

type Reserved = (Arc<dyn MemoryPool>, MemoryReservation);

type FindPool = dyn Fn() -> Option<Arc<dyn MemoryPool>> + Send + Sync;

impl BankMemory {
    /// `pool` finds the one that the session has now; none where it has ended.
    pub(super) fn new(pool: impl Fn() -> Option<Arc<dyn MemoryPool>> + Send + Sync + 'static) -> Self {
        Self { pool: Box::new(pool), reserved: Mutex::default() }
    }

    /// Count that so many bytes are held. Another pool may be in place since the last time: the user has set a limit.
    pub(super) fn hold(&self, bytes: u64) {
        if let Some(pool) = (self.pool)() {
            self.hold_in(pool, bytes);
        }
    }

    fn hold_in(&self, pool: Arc<dyn MemoryPool>, bytes: u64) {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, reservation) = match reserved.take() {
            Some(kept) if Arc::ptr_eq(&kept.0, &pool) => reserved.insert(kept),
            _ => {
                let reservation = MemoryConsumer::new("the banks").register(&pool);
                reserved.insert((Arc::clone(&pool), reservation))
            }
        };
        let most = match pool.memory_limit() {
            MemoryLimit::Finite(limit) => limit / BANKS_SHARE,
            _ => usize::MAX,
        };
        reservation.resize(usize::try_from(bytes).unwrap_or(usize::MAX).min(most));
    }
}

/// The pool of a session.
#[derive(Debug)]
pub(super) struct QueryMemory {
    available: fn() -> Option<u64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Consumers that can spill.
    spilling: usize,
    spillable: usize,
    unspillable: usize,
    limit: usize,
    measured: Option<Instant>,
}

impl QueryMemory {
    pub(super) fn new() -> Self {
        Self::of(memory::available)
    }

    fn of(available: fn() -> Option<u64>) -> Self {
        Self { available, state: Mutex::default() }
    }

    /// The state, its limit measured not long ago.
    fn measured(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        if state.measured.is_none_or(|at| at.elapsed() > MEASURED_FOR) {
            let free = (self.available)().map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
            // what was reserved is taken already
            state.limit = free.saturating_add(state.spillable + state.unspillable) / SHARE;
            state.measured = Some(Instant::now());
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn of(&mut self, consumer: &MemoryConsumer) -> &mut usize {
        if consumer.can_spill() { &mut self.spillable } else { &mut self.unspillable }
    }

    /// What is left for a consumer that has so much.
    fn left(&self, consumer: &MemoryConsumer, has: usize) -> usize {
        if consumer.can_spill() {
            (self.limit.saturating_sub(self.unspillable) / self.spilling.max(1)).saturating_sub(has)
        } else {
            self.limit.saturating_sub(self.spillable + self.unspillable)
        }
    }
}

impl Display for QueryMemory {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "half of the free memory")
    }
}

impl MemoryPool for QueryMemory {
    fn name(&self) -> &str {
        "query_memory"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.lock().spilling += usize::from(consumer.can_spill());
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.lock().spilling -= usize::from(consumer.can_spill());
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        *self.lock().of(reservation.consumer()) += additional;
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        *self.lock().of(reservation.consumer()) -= shrink;
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let (consumer, mut state) = (reservation.consumer(), self.measured());
        let left = state.left(consumer, reservation.size());
        if additional > left {
            let mib = |bytes: usize| bytes.div_ceil(1 << 20);
            // of this kind of error operators know that they are to spill
            return Err(DataFusionError::ResourcesExhausted(format!(
                "{} needs {} MiB more, and of {} MiB that queries may take now, half of the free memory, {} MiB are left for it: \
                 ask for fewer rows or groups, or SET datafusion.runtime.memory_limit = '…G'",
                consumer.name(),
                mib(additional),
                mib(state.limit),
                left >> 20,
            )));
        }
        *state.of(consumer) += additional;
        Ok(())
    }

    fn reserved(&self) -> usize {
        let state = self.lock();
        state.spillable + state.unspillable
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.measured().limit)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    static FREE: AtomicU64 = AtomicU64::new(8 << 20);

    #[test]
    fn queries_take_a_share_of_what_is_free_when_they_ask() {
        let own = Arc::new(QueryMemory::of(|| Some(FREE.load(Ordering::Relaxed))));
        let pool: Arc<dyn MemoryPool> = Arc::<QueryMemory>::clone(&own);
        let of = |name: &str, spills| MemoryConsumer::new(name).with_can_spill(spills).register(&pool);
        let (sort, join) = (of("sort", true), of("join", false));
        sort.try_grow(3 << 20).unwrap();
        join.try_grow(1 << 20).unwrap();
        let error = join.try_grow(1).unwrap_err().to_string();
        assert!(error.contains("join needs 1 MiB more, and of 4 MiB") && error.contains("SET datafusion"), "{error}");
        // two that spill have half each of what is left to them
        let other = of("other", true);
        assert!(other.try_grow(2 << 20).is_err());
        other.try_grow(1 << 20).unwrap();
        drop((sort, other));
        assert_eq!(pool.reserved(), 1 << 20);
        // a bank was opened: less is free
        FREE.store(1 << 20, Ordering::Relaxed);
        own.lock().measured = None;
        assert!(join.try_grow(1).is_err());
        join.free();
        assert_eq!(pool.reserved(), 0);
    }

    #[test]
    fn banks_leave_less_to_sorts_and_never_less_than_half() {
        use datafusion::execution::memory_pool::FairSpillPool;
        let banks = BankMemory::new(|| None);
        let pool: Arc<dyn MemoryPool> = Arc::new(FairSpillPool::new(8 << 20));
        let sort = |pool| MemoryConsumer::new("sort").with_can_spill(true).register(pool);
        banks.hold_in(Arc::clone(&pool), 3 << 20);
        let spilling = sort(&pool);
        assert!(spilling.try_grow((5 << 20) + 1).is_err());
        spilling.try_grow(5 << 20).unwrap();
        drop(spilling);
        // larger than all there is: it is not refused, and a sort still has half
        banks.hold_in(Arc::clone(&pool), 1 << 40);
        sort(&pool).try_grow(4 << 20).unwrap();
        assert_eq!(pool.reserved(), 4 << 20);
        // another limit: what was counted is counted there
        let other: Arc<dyn MemoryPool> = Arc::new(FairSpillPool::new(1 << 20));
        banks.hold_in(Arc::clone(&other), 1000);
        assert_eq!((pool.reserved(), other.reserved()), (0, 1000));
    }
}
