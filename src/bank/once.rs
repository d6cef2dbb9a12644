//! What is made once for each key and kept.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::error::Result;

type Slot<Value> = Arc<OnceLock<Result<Arc<Value>, String>>>;

/// Values by key, each made by the first who asks for it; others wait for that. What could not be made is tried again by the
/// next who asks.
#[derive(Debug)]
pub(super) struct Once<Key, Value>(Mutex<HashMap<Key, Slot<Value>>>);

impl<Key, Value> Default for Once<Key, Value> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<Key: Eq + Hash, Value> Once<Key, Value> {
    /// The value of a key, made by `make` where it is not there.
    ///
    /// Errors: what `make` said, in words: all who wait are told.
    pub(super) fn get(&self, key: Key, make: impl FnOnce() -> Result<Value>) -> Result<Arc<Value>, String> {
        let slot = {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(kept.entry(key).or_default())
        };
        // outside the lock: other keys need not wait
        let made = slot.get_or_init(|| make().map(Arc::new).map_err(|error| error.to_string()));
        made.clone().inspect_err(|_| {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.retain(|_, there| !Arc::ptr_eq(there, &slot));
        })
    }

    /// All that are there.
    pub(super) fn values(&self) -> Vec<Arc<Value>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.values().filter_map(|slot| slot.get()?.as_ref().ok()).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_value_is_made_once_and_a_failure_tried_again() {
        let kept = Once::<u8, u32>::default();
        let failed = kept.get(1, || Err(Error::BadBankVersion { name: "x@".into() })).unwrap_err();
        assert!(failed.contains("'x@' names no version"), "{failed}");
        assert_eq!(*kept.get(1, || Ok(5)).unwrap(), 5);
        assert_eq!(*kept.get(1, || Ok(6)).unwrap(), 5);
        assert_eq!(*kept.get(2, || Ok(7)).unwrap(), 7);
        assert_eq!(kept.values().len(), 2);
    }
}
