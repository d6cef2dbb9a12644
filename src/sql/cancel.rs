//! A query that is cancelled in the middle: it is dropped, and its tasks end at the next batch.
//!
//! [`prepare`] readies a session once, [`apart`] the rows of a query, and [`unless`] waits for either the result or whoever
//! cancels it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use datafusion::common::Result as DataFusionResult;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PiecewiseMergeJoinExec, SortMergeJoinExec,
};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::unnest::UnnestExec;
use futures::StreamExt;

use crate::sql::session::Session;

/// Make the queries of a session such that they can be cancelled within what multiplies rows.
pub fn prepare(session: &Session) {
    let state = session.context().state_ref();
    let mut state = state.write();
    let rule = Arc::new(YieldInJoins);
    *state = SessionStateBuilder::new_from_existing(state.clone()).with_physical_optimizer_rule(rule).build();
}

/// The result of a session's `work`, unless `interrupted` is first: then the work is dropped, and what it had begun with it.
/// Work that is committing a change is waited for: what is reported is what is in the database.
pub async fn unless<T>(
    interrupted: impl Future<Output = ()>,
    session: &Session,
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        done = &mut work => return Some(done),
        () = interrupted => {}
    }
    if session.is_committing() { Some(work.await) } else { None }
}

/// Rows that are computed on a task of their own, so that an interrupt is heard while a batch takes long.
pub fn apart(mut rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
    let mut receiver = RecordBatchReceiverStream::builder(rows.schema(), 1);
    let sender = receiver.tx();
    receiver.spawn(async move {
        while let Some(batch) = rows.next().await {
            if sender.send(batch).await.is_err() {
                break;
            }
        }
        Ok(())
    });
    receiver.build()
}

/// DataFusion lets go of a thread where rows are read. A join makes many batches of one, and a count above it would
/// take them all in one go, minutes of them: it has to let go there too.
#[derive(Debug)]
struct YieldInJoins;

impl PhysicalOptimizerRule for YieldInJoins {
    fn name(&self) -> &str {
        "yield_in_joins"
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        yielding(plan)
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// A plan that lets go of its thread within what multiplies rows.
pub(crate) fn yielding(plan: Arc<dyn ExecutionPlan>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let multiplies = node.is::<CrossJoinExec>()
            || node.is::<NestedLoopJoinExec>()
            || node.is::<HashJoinExec>()
            || node.is::<SortMergeJoinExec>()
            || node.is::<PiecewiseMergeJoinExec>()
            || node.is::<UnnestExec>();
        Ok(if multiplies { Transformed::yes(Arc::new(CooperativeExec::new(node))) } else { Transformed::no(node) })
    })
    .data()
}
