//! What the optimiser's rules share: the columns of a plan, and the parts of an expression that are certainly evaluated.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Projection};

/// All columns of a plan, as expressions.
pub(super) fn columns(plan: &LogicalPlan) -> Vec<Expr> {
    plan.schema().columns().into_iter().map(Expr::Column).collect()
}

/// The plan with these columns alone, where it has more.
pub(super) fn project(plan: LogicalPlan, columns: Vec<Expr>) -> Result<LogicalPlan> {
    if plan.schema().fields().len() == columns.len() {
        return Ok(plan);
    }
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?))
}

/// Visit the parts of an expression that are certainly evaluated, and do not look into those that `found` says are found.
pub(super) fn find_needed(expr: &Expr, mut found: impl FnMut(&Expr) -> Result<bool>) -> Result<()> {
    expr.apply(|part| {
        // CASE and the like may never evaluate a part, nor may an aggregate that filters its rows
        let filters = matches!(part, Expr::AggregateFunction(call) if call.params.filter.is_some());
        let stops = found(part)? || filters || part.short_circuits();
        Ok(if stops { TreeNodeRecursion::Jump } else { TreeNodeRecursion::Continue })
    })
    .map(drop)
}
