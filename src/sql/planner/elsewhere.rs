//! Plans that are not run here.

use std::fmt;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::session_state::SessionState;
use datafusion::physical_plan::ExecutionPlan;

type Send = dyn Fn(Arc<dyn ExecutionPlan>, &SessionState) -> Result<Arc<dyn ExecutionPlan>> + std::marker::Send + Sync;

/// Of a session's configuration: what becomes of a plan when it is finished. It gives one that runs here.
pub(crate) struct Elsewhere(Box<Send>);

impl Elsewhere {
    pub(crate) fn new(
        send: impl Fn(Arc<dyn ExecutionPlan>, &SessionState) -> Result<Arc<dyn ExecutionPlan>>
        + std::marker::Send
        + Sync
        + 'static,
    ) -> Self {
        Self(Box::new(send))
    }

    pub(super) fn send(&self, plan: Arc<dyn ExecutionPlan>, state: &SessionState) -> Result<Arc<dyn ExecutionPlan>> {
        (self.0)(plan, state)
    }
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Elsewhere")
    }
}
