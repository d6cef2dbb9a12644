//! From readers, which are synchronous, to crates that are not.

use std::future::Future;
use std::io;
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, sync_channel};

use tokio::runtime::{Builder, Runtime};

/// Threads of our own: a reader may run on an executor's thread, which must not wait for itself.
static RUNTIME: LazyLock<io::Result<Runtime>> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(2).thread_name("reading").enable_all().build());

/// Start a future; what it gives comes to the receiver.
pub(super) fn start<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> io::Result<Receiver<T>> {
    let runtime = RUNTIME.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
    let (sender, receiver) = sync_channel(1);
    runtime.spawn(async move {
        let _ = sender.send(work.await); // nobody may be waiting any more
    });
    Ok(receiver)
}

/// What a future gives.
pub(super) fn wait<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> io::Result<T> {
    start(work)?.recv().map_err(|_| io::Error::other("the thread that reads it died"))
}
