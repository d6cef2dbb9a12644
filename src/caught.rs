//! Panics of other crates over damaged input, caught without their word on stderr: what is wrong is for us to say.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::pin::pin;
use std::sync::Once;
use std::task::Poll;

thread_local! {
    /// Whether this thread runs what may panic.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// What it gives; `None` where it panics, of which nothing is printed.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Option<T> {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        let others = take_hook();
        set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                others(panic);
            }
        }));
    });
    let before = QUIET.replace(true);
    let found = catch_unwind(AssertUnwindSafe(run)).ok();
    QUIET.set(before);
    found
}

/// The same of a future, as far as it runs in the thread that waits for it.
pub(crate) async fn caught_while<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| match caught(|| future.as_mut().poll(context)) {
        Some(Poll::Pending) => Poll::Pending,
        Some(Poll::Ready(found)) => Poll::Ready(Some(found)),
        None => Poll::Ready(None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn panics_are_caught_in_calls_and_in_futures() {
        assert_eq!((caught(|| 1), caught(|| -> i32 { panic!("of a test: not to be seen") })), (Some(1), None));
        assert!(!QUIET.get(), "others are heard again");
        assert_eq!(caught_while(async { 2 }).await, Some(2));
        let late = async {
            tokio::task::yield_now().await;
            panic!("of a test: not to be seen")
        };
        assert_eq!(caught_while::<_>(late).await, None::<()>);
    }
}
