//! ORDER BY beside an uncorrelated scalar subquery: DataFusion 54 loses it where the key is not selected.
//!
//! The optimiser marks the plan's order as wanted before it removes sorts that nobody needs; it looks for the order from the
//! top downwards through nodes of one input, and `ScalarSubqueryExec`, which stands at the top, has more: the plan itself and
//! the subqueries beside it. DataFusion 55 is right (apache/datafusion PR #23677). `tests/slt/order.slt` has the cases, `tests/suite/guards.rs` tells when this can go.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_optimizer::output_requirements::OutputRequirements;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::scalar_subquery::ScalarSubqueryExec;

/// DataFusion's rules for physical plans, with the order of plans that have scalar subqueries kept.
pub(super) fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    // the first of that name adds the requirement, the second takes it away again
    let adds = OutputRequirements::new_add_mode();
    if let Some(at) = rules.iter().position(|rule| rule.name() == adds.name()) {
        rules[at] = Arc::new(KeepOrder(adds));
    }
    rules
}

#[derive(Debug)]
struct KeepOrder(OutputRequirements);

impl PhysicalOptimizerRule for KeepOrder {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if plan.downcast_ref::<ScalarSubqueryExec>().is_none() {
            return self.0.optimize(plan, config);
        }
        let mut children: Vec<_> = plan.children().into_iter().cloned().collect();
        children[0] = self.optimize(Arc::clone(&children[0]), config)?;
        plan.with_new_children(children)
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}
