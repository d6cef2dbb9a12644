//! Waiting: the interpreter goes on meanwhile, Ctrl-C ends it, and a forked process is told that it cannot.

use std::future::Future;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

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
    let task = runtime(py)?.spawn(doing);
    join(py, task)?.map_err(|error| to_python(py, &error))
}

/// What a callback raised, on whatever thread it was called: whoever waits raises it again, and ends what he waits for.
#[derive(Clone, Default)]
pub(crate) struct Raised(Arc<Mutex<Option<PyErr>>>);

impl Raised {
    pub(crate) fn keep(&self, error: PyErr) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    fn take(&self) -> Option<PyErr> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// [`wait`] for what calls Python meanwhile.
pub(crate) fn wait_raising<T: Send + 'static>(
    py: Python<'_>,
    raised: &Raised,
    doing: impl Future<Output = outskirt::Result<T>> + Send + 'static,
) -> PyResult<T> {
    let task = runtime(py)?.spawn(doing);
    let done = join_raising(py, raised, task);
    if let Some(error) = raised.take() {
        return Err(error);
    }
    done?.map_err(|error| to_python(py, &error))
}

/// Wait for a task of any kind.
pub(crate) fn join<T: Send + 'static>(py: Python<'_>, task: JoinHandle<T>) -> PyResult<T> {
    join_raising(py, &Raised::default(), task)
}

/// The runtime's own timers stand still where all its threads compute, so this waits by itself.
fn join_raising<T: Send + 'static>(py: Python<'_>, elsewhere: &Raised, task: JoinHandle<T>) -> PyResult<T> {
    let runtime = runtime(py)?;
    let (tell, mut told) = sync_channel(1);
    let abort = task.abort_handle();
    runtime.spawn(async move {
        // nobody listens any more where it was interrupted
        let _ = tell.send(task.await);
    });
    loop {
        let (waited, back) = py.detach(move || (told.recv_timeout(ASKS_EVERY), told));
        told = back;
        match waited {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(died)) => {
                let what = match died.try_into_panic() {
                    Ok(panic) => match panic.downcast_ref::<String>() {
                        Some(text) => text.clone(),
                        None => panic.downcast_ref::<&str>().copied().unwrap_or("no message").to_owned(),
                    },
                    Err(cancelled) => cancelled.to_string(),
                };
                return Err(raised(py, "Error", &format!("a worker of outskirt died: {what}")));
            }
            Err(RecvTimeoutError::Disconnected) => return Err(raised(py, "Error", "a worker of outskirt was stopped")),
            Err(RecvTimeoutError::Timeout) => {
                let ended = elsewhere.take().map_or_else(|| py.check_signals(), Err);
                if let Err(interrupted) = ended {
                    abort.abort();
                    // what it held, a lock above all, is let go before the caller goes on
                    let _ = py.detach(move || told.recv_timeout(ENDS_WITHIN));
                    return Err(interrupted);
                }
            }
        }
    }
}
