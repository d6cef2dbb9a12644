//! A way to end what would go on for ever.

use tokio::sync::watch::{self, Sender};

/// Asked to stop, [`watch`](super::watch()) ends after the batch that it has in hand. Clones are the same wish.
#[derive(Debug, Clone)]
pub struct Stop(Sender<bool>);

impl Default for Stop {
    fn default() -> Self {
        Self(watch::channel(false).0)
    }
}

impl Stop {
    /// Ask for the end.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }

    /// Whether somebody has.
    pub fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Wait until somebody has.
    pub async fn asked(&self) {
        // the sender lives as long as this does
        let _ = self.0.subscribe().wait_for(|asked| *asked).await;
    }
}
