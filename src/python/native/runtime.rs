//! Waiting: the interpreter goes on meanwhile, Ctrl-C ends it, and a forked process is told that it cannot.

use std::future::Future;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{AbortHandle, JoinError};

use crate::errors::{fork_error, raised, to_python};

/// So often is asked whether Ctrl-C was pressed.
const ASKS_EVERY: Duration = Duration::from_millis(100);
/// What was cancelled is given so long to let go of what it holds.
const ENDS_WITHIN: Duration = Duration::from_secs(1);

/// Threads, and the process that they are of: a fork has none of them.
static RUNTIME: OnceLock<(u32, Runtime)> = OnceLock::new();

/// The process that first searched: rayon's threads are its own.
static SEARCHES: OnceLock<u32> = OnceLock::new();

/// Refuse to wait for threads that a forked process does not have.
pub(crate) fn check_fork(py: Python<'_>) -> PyResult<()> {
    let here = std::process::id();
    let threads = RUNTIME.get().map(|(process, _)| process).or(SEARCHES.get());
    match threads {
        Some(process) if *process != here => Err(fork_error(py)),
        _ => {
            SEARCHES.get_or_init(|| here);
            Ok(())
        }
    }
}

/// The threads of this process.
pub(crate) fn runtime(py: Python<'_>) -> PyResult<&'static Runtime> {
    check_fork(py)?;
    if let Some((_, runtime)) = RUNTIME.get() {
        return Ok(runtime);
    }
    // planners recurse
    let made = Builder::new_multi_thread().enable_all().thread_stack_size(8 << 20).thread_name("outskirt").build()?;
    Ok(&RUNTIME.get_or_init(|| (std::process::id(), made)).1)
}

/// Wait for what the library does. Ctrl-C drops it: what was committed stays.
pub(crate) fn wait<T: Send + 'static>(
    py: Python<'_>,
    doing: impl Future<Output = outskirt::Result<T>> + Send + 'static,
) -> PyResult<T> {
    Task::spawn(py, doing)?.join(py, |_| Ok(()))?.map_err(|error| to_python(py, &error))
}

/// Something under way on the runtime's threads, which never call Python: whoever waits here does.
///
/// The runtime's own timers stand still where all its threads compute, so this waits by itself.
pub(crate) struct Task<T> {
    told: Receiver<Result<T, JoinError>>,
    abort: AbortHandle,
}

impl<T: Send + 'static> Task<T> {
    pub(crate) fn spawn(py: Python<'_>, doing: impl Future<Output = T> + Send + 'static) -> PyResult<Self> {
        let runtime = runtime(py)?;
        let task = runtime.spawn(doing);
        let (tell, told) = sync_channel(1);
        let abort = task.abort_handle();
        runtime.spawn(async move {
            // nobody listens any more where it was interrupted
            let _ = tell.send(task.await);
        });
        Ok(Self { told, abort })
    }

    /// What it gave, if it has ended by then. Ctrl-C ends it.
    pub(crate) fn within(&mut self, py: Python<'_>, time: Duration) -> PyResult<Option<T>> {
        let told = &mut self.told;
        match py.detach(move || told.recv_timeout(time)) {
            Ok(Ok(done)) => Ok(Some(done)),
            Ok(Err(died)) => {
                let what = match died.try_into_panic() {
                    Ok(panic) => match panic.downcast_ref::<String>() {
                        Some(text) => text.clone(),
                        None => panic.downcast_ref::<&str>().copied().unwrap_or("no message").to_owned(),
                    },
                    Err(cancelled) => cancelled.to_string(),
                };
                Err(raised(py, "Error", &format!("a worker of outskirt died: {what}")))
            }
            Err(RecvTimeoutError::Disconnected) => Err(raised(py, "Error", "a worker of outskirt was stopped")),
            Err(RecvTimeoutError::Timeout) => {
                let interrupted = py.check_signals();
                if interrupted.is_err() {
                    self.end(py);
                }
                interrupted.map(|()| None)
            }
        }
    }

    /// What it gives; `meanwhile` is called now and then, and what it raises ends the task.
    pub(crate) fn join(mut self, py: Python<'_>, mut meanwhile: impl FnMut(Python<'_>) -> PyResult<()>) -> PyResult<T> {
        loop {
            let done = self.within(py, ASKS_EVERY)?;
            if let Err(raised) = meanwhile(py) {
                self.end(py);
                return Err(raised);
            }
            if let Some(done) = done {
                return Ok(done);
            }
        }
    }

    /// Drop what it does. What it held, a lock above all, is let go before the caller goes on.
    pub(crate) fn end(&mut self, py: Python<'_>) {
        self.abort.abort();
        let told = &mut self.told;
        let _ = py.detach(move || told.recv_timeout(ENDS_WITHIN));
    }
}

/// How far something is, as the threads that do it say, until whoever waits tells Python.
#[derive(Clone, Default)]
pub(crate) struct Progress(Arc<Mutex<Option<Said>>>);

/// How much is done, and of how much.
type Said = (u64, Option<u64>);

impl Progress {
    pub(crate) fn say(&self, done: u64, all: Option<u64>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((done, all));
    }

    /// Call back with what was said since.
    pub(crate) fn tell(&self, py: Python<'_>, call: Option<&Py<PyAny>>) -> PyResult<()> {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (said, call) {
            (Some(said), Some(call)) => call.call1(py, said).map(drop),
            _ => Ok(()),
        }
    }
}
