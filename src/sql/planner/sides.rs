//! Conditions with their constant to the right: DataFusion 54 takes `id = 2 AND '2' = id` for two values of `id`, and gives no
//! rows, and of `id >= 2 AND '2' < id` it keeps the first alone.
//!
//! Where it drops conditions that others imply it compares them, and their operators, as they are written, whichever side the
//! column is on. It turns `2 < id` around before that, but only a constant that is one as it is written: not a text that becomes
//! a number or a time, not `1 + 1`. `tests/suite/guards.rs` tells when this can go.

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;

/// Turns comparisons around whose left side names no column.
#[derive(Debug)]
pub(super) struct ConstantsRight;

impl AnalyzerRule for ConstantsRight {
    fn name(&self) -> &str {
        "constants_right"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let turned = plan.transform_down_with_subqueries(|node| match node {
            // their expressions give no names to columns
            LogicalPlan::Filter(_) | LogicalPlan::Join(_) => node.map_expressions(|part| part.transform_up(turned)),
            other => Ok(Transformed::no(other)),
        });
        Ok(turned?.data)
    }
}

fn turned(part: Expr) -> Result<Transformed<Expr>> {
    match part {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op.swap() {
            Some(swapped) if is_constant(&left) && !is_constant(&right) => {
                Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left: right, op: swapped, right: left })))
            }
            _ => Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right }))),
        },
        other => Ok(Transformed::no(other)),
    }
}

/// Whether an expression has the same value for every row.
fn is_constant(part: &Expr) -> bool {
    let of_rows = |part: &Expr| {
        matches!(
            part,
            Expr::Column(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::ScalarSubquery(_)
                | Expr::Exists(_)
                | Expr::InSubquery(_)
        )
    };
    !part.exists(|part| Ok(of_rows(part))).unwrap_or(true)
}
