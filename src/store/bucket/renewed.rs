//! An object that is put again and again, so that others see that whoever put it is still there.
//!
//! It is put by a thread of its own: whatever the program computes, it goes on. What was put last, and when it was answered, is known
//! here by the clock of this machine that only goes forward; others compare when it was written with the clock of the bucket.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::objects::Bucket;
use crate::error::{Error, Result};

/// An object, while the value lives.
#[derive(Debug)]
pub(super) struct Renewed {
    orders: Sender<Order>,
    thread: Option<JoinHandle<()>>,
    /// When the last put that was answered was begun.
    seen: Arc<Mutex<Instant>>,
    held: Duration,
}

enum Order {
    /// Put this from now on; and say when it is done.
    Put(String, Sender<Result<()>>),
    /// Put this once more, or remove it, and end.
    End(Option<String>),
}

impl Renewed {
    /// Put `text` at `name` again and again, from now on.
    ///
    /// Errors: it cannot be put now, unless it `is_there` already.
    pub(super) fn begin(bucket: &Bucket, name: String, text: String, is_there: bool, held: Duration) -> Result<Self> {
        let every = held / 3;
        let bucket = bucket.prompt(every)?;
        let seen = Arc::new(Mutex::new(Instant::now()));
        let (orders, given) = channel();
        let (first, begun) = channel();
        if is_there {
            let _ = first.send(Ok(()));
        }
        let known = Arc::clone(&seen);
        let address = bucket.address();
        let unstarted = |source| Error::Io { action: "start a thread for", path: address.into(), source };
        let thread = std::thread::Builder::new().name("lease".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Ok(runtime) = runtime {
                runtime.block_on(keep(&bucket, &name, text, (!is_there).then_some(first), &given, &known, every));
            }
        });
        let renewed = Self { orders, thread: Some(thread.map_err(unstarted)?), seen, held };
        begun.recv().unwrap_or_else(|_| Err(gone()))?;
        Ok(renewed)
    }

    /// Put another text from now on; it is there when this comes back.
    pub(super) fn set(&self, text: String) -> Result<()> {
        let (done, answer) = channel();
        self.orders.send(Order::Put(text, done)).map_err(|_| gone())?;
        answer.recv().unwrap_or_else(|_| Err(gone()))
    }

    /// Whether others must still see that it is held.
    pub(super) fn is_held(&self) -> bool {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).elapsed() < self.held
    }

    /// End it: with a last text, or without the object.
    pub(super) fn end(&mut self, last: Option<String>) {
        if let Some(thread) = self.thread.take() {
            let _ = self.orders.send(Order::End(last));
            let _ = thread.join();
        }
    }
}

impl Drop for Renewed {
    fn drop(&mut self) {
        self.end(None);
    }
}

fn gone() -> Error {
    Error::BucketLost { reason: "the thread that holds the database's place has ended".into() }
}

async fn keep(
    bucket: &Bucket,
    name: &str,
    mut text: String,
    first: Option<Sender<Result<()>>>,
    given: &Receiver<Order>,
    seen: &Mutex<Instant>,
    every: Duration,
) {
    let put = async |text: &str| {
        let begun = Instant::now();
        let put = bucket.put(name, text.to_owned()).await;
        if put.is_ok() {
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = begun;
        }
        put
    };
    if let Some(first) = first {
        let begun = put(&text).await;
        let failed = begun.is_err();
        let _ = first.send(begun);
        if failed {
            return;
        }
    }
    loop {
        match given.recv_timeout(every) {
            Ok(Order::Put(next, done)) => {
                text = next;
                let _ = done.send(put(&text).await);
            }
            // one that fails is followed by others, until it is over
            Err(RecvTimeoutError::Timeout) => drop(put(&text).await),
            Ok(Order::End(Some(last))) => return drop(put(&last).await),
            Ok(Order::End(None)) | Err(RecvTimeoutError::Disconnected) => {
                return drop(bucket.remove([name.to_owned()]).await);
            }
        }
    }
}
