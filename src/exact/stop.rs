//! Whether a search is to end before it is done.

use std::sync::atomic::{AtomicBool, Ordering};

/// A caller's wish that a search end: asked for between cells, and remembered.
pub(crate) struct Stop<'a> {
    wished: Option<&'a (dyn Fn() -> bool + Sync)>,
    seen: AtomicBool,
}

impl<'a> Stop<'a> {
    pub(crate) fn new(wished: Option<&'a (dyn Fn() -> bool + Sync)>) -> Self {
        Self { wished, seen: AtomicBool::new(false) }
    }

    /// Ask.
    pub(crate) fn now(&self) -> bool {
        let Some(wished) = self.wished else { return false };
        if !self.seen() && wished() {
            self.seen.store(true, Ordering::Relaxed);
        }
        self.seen()
    }

    /// Whether it was ever so.
    pub(crate) fn seen(&self) -> bool {
        self.seen.load(Ordering::Relaxed)
    }
}
