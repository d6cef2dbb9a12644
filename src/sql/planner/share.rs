//! The optimiser rule that embeds a picture once, however many scores of a row ask for its embedding.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::expressions::{columns, find_needed, project};
use crate::sql::functions::embed;

/// Begins the name of an embedding's column.
const COLUMN: &str = "__embed";

/// Calls of `embed` that stand more than once in a node become a column of its input. DataFusion would do that too, but
/// scores have gone into nodes of their own by then.
#[derive(Debug)]
pub(crate) struct ShareEmbeddings;

impl OptimizerRule for ShareEmbeddings {
    fn name(&self) -> &str {
        "share_embeddings"
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Filter(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Projection(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::Window(_) => share(plan, config),
            other => Ok(Transformed::no(other)),
        })
    }
}

fn share(plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
    let exprs = plan.expressions();
    let repeated = repeated(&exprs)?;
    if repeated.is_empty() || exprs.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) {
        return Ok(Transformed::no(plan));
    }
    let input = plan.inputs()[0].clone();
    let named: Vec<(Expr, String)> =
        repeated.into_iter().map(|call| (call, config.alias_generator().next(COLUMN))).collect();
    let mut exprs_below = columns(&input);
    exprs_below.extend(named.iter().map(|(call, name)| call.clone().alias(name)));
    let input = LogicalPlan::Projection(Projection::try_new(exprs_below, Arc::new(input))?);
    let (before, preserver) = (columns(&plan), NamePreserver::new(&plan));
    let exprs = exprs
        .into_iter()
        .map(|expr| {
            let name = preserver.save(&expr);
            let expr = expr.transform_down(|part| {
                Ok(match named.iter().find(|(call, _)| *call == part) {
                    Some((_, name)) => {
                        let column = Expr::Column(Column::new_unqualified(name));
                        Transformed::new(column, true, TreeNodeRecursion::Jump)
                    }
                    None => Transformed::no(part),
                })
            })?;
            Ok(name.restore(expr.data))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Transformed::yes(project(plan.with_new_exprs(exprs, vec![input])?, before)?))
}

/// The calls of `embed` that expressions certainly need, more than once.
fn repeated(exprs: &[Expr]) -> Result<Vec<Expr>> {
    let mut calls: Vec<(Expr, usize)> = Vec::new();
    for expr in exprs {
        find_needed(expr, |part| {
            let is_call = matches!(part, Expr::ScalarFunction(call) if call.func.name() == embed::NAME);
            if !is_call || part.is_volatile() {
                return Ok(false);
            }
            match calls.iter_mut().find(|(known, _)| known == part) {
                Some((_, times)) => *times += 1,
                None => calls.push((part.clone(), 1)),
            }
            Ok(true)
        })?;
    }
    Ok(calls.into_iter().filter(|(_, times)| *times > 1).map(|(call, _)| call).collect())
}
