//! Rows that a plan gathers at once, where it reads columns whose values are large.
//!
//! DataFusion counts batches in rows: a filter or a repartition would put 8,192 stored pictures together again that the scan
//! gave a few at a time.

use std::fmt;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

use crate::store::rows_of_scans;

/// Lets the whole plan work in batches as small as its scans give them.
#[derive(Debug)]
pub(super) struct BoundBatches;

impl PhysicalOptimizerRule for BoundBatches {
    fn name(&self) -> &str {
        "bound_batches"
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(rows) = rows_of_scans(plan.as_ref()).filter(|&rows| rows < config.execution.batch_size) else {
            return Ok(plan);
        };
        // a filter does not ask the session: it was told when it was planned
        let plan = plan.transform_up(|node| match node.downcast_ref::<FilterExec>() {
            Some(filter) => Ok(Transformed::yes(Arc::new(filter.with_batch_size(rows)?))),
            None => Ok(Transformed::no(node)),
        });
        Ok(Arc::new(BatchRowsExec { input: plan.data()?, rows }))
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Runs its input with another number of rows a batch.
#[derive(Debug)]
pub(crate) struct BatchRowsExec {
    input: Arc<dyn ExecutionPlan>,
    rows: usize,
}

impl BatchRowsExec {
    #[cfg(feature = "cluster")]
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, rows: usize) -> Self {
        Self { input, rows }
    }

    #[cfg(feature = "cluster")]
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }
}

impl DisplayAs for BatchRowsExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BatchRowsExec: rows={}", self.rows)
    }
}

impl ExecutionPlan for BatchRowsExec {
    fn name(&self) -> &'static str {
        "BatchRowsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self { input: children.swap_remove(0), rows: self.rows }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let context = TaskContext::new(
            context.task_id(),
            context.session_id(),
            context.session_config().clone().with_batch_size(self.rows),
            context.scalar_functions().clone(),
            context.higher_order_functions().clone(),
            context.aggregate_functions().clone(),
            context.window_functions().clone(),
            context.runtime_env(),
        );
        self.input.execute(partition, Arc::new(context))
    }
}
