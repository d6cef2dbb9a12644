//! Which plans can be divided among machines, and what must be changed in them first.
//!
//! Ballista 54.1 runs each partition of a stage on its own. A node that counts, across partitions of one process, what others
//! have done would give wrong rows without a word: it is given one partition, or the plan is refused by name.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, Result};
use datafusion::config::ConfigOptions;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec};
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use super::shards::spread;
use crate::error::Error;
use crate::sql::cancel::yielding;
use crate::sql::functions::bank_function::BankFunction;
use crate::sql::functions::settings;
use crate::sql::planner::ScoreExec;
use crate::store::RecipeScan;

/// Whether a plan reads a table of a database.
pub(super) fn reads_tables(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    plan.exists(|node| Ok(node.downcast_ref::<RecipeScan>().is_some()))
}

/// A plan as a cluster can run it.
///
/// Errors: what it cannot do, by name.
pub(super) fn fitted(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.apply(|node| {
        check(node)?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    // who cancels a query need not wait for a join
    yielding(spread(plan)?)?
        .transform_up(|node| {
            let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() else { return Ok(Transformed::no(node)) };
            use JoinType::{Full, Left, LeftAnti, LeftMark, LeftSemi};
            // the last of its partitions gives the rows of the left side that none has met
            let counts = matches!(join.join_type(), Left | Full | LeftSemi | LeftAnti | LeftMark);
            if !counts || join.right().output_partitioning().partition_count() == 1 {
                return Ok(Transformed::no(node));
            }
            let right = Arc::new(CoalescePartitionsExec::new(Arc::clone(join.right())));
            let left = Arc::clone(join.left());
            node.with_new_children(vec![left, right]).map(Transformed::yes)
        })
        .data()
}

/// Say which banks of a plan are behind their tables, or refuse them: as the session is set to.
pub(super) fn check_banks(plan: &Arc<dyn ExecutionPlan>, options: &ConfigOptions) -> Result<()> {
    let options = settings::search(options)?;
    plan.apply(|node| {
        if let Some(score) = node.downcast_ref::<ScoreExec>() {
            let (spec, banks) = (score.spec(), score.banks());
            banks.check_fresh(&*banks.definition(&format!("{}@{}", spec.bank, spec.version))?, options)?;
        }
        for expression in expressions(node) {
            expression.apply(|part| {
                let Some(call) = part.downcast_ref::<ScalarFunctionExpr>() else {
                    return Ok(TreeNodeRecursion::Continue);
                };
                let Some(banks) = BankFunction::banks(call.fun()) else { return Ok(TreeNodeRecursion::Continue) };
                let names = call.args().iter().filter_map(|argument| argument.downcast_ref::<Literal>());
                let names = names.filter_map(|literal| literal.value().try_as_str().flatten());
                for bank in names.filter_map(|name| banks.definition(name).ok()) {
                    banks.check_fresh(&bank, options)?;
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

/// What a node computes for each row.
fn expressions(node: &Arc<dyn ExecutionPlan>) -> Vec<Arc<dyn PhysicalExpr>> {
    if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
        return projection.expr().iter().map(|one| Arc::clone(&one.expr)).collect();
    }
    if let Some(filter) = node.downcast_ref::<FilterExec>() {
        return vec![Arc::clone(filter.predicate())];
    }
    let Some(aggregate) = node.downcast_ref::<AggregateExec>() else { return Vec::new() };
    let keys = aggregate.group_expr().expr().iter().map(|(key, _)| Arc::clone(key));
    keys.chain(aggregate.aggr_expr().iter().flat_map(|call| call.expressions())).collect()
}

fn check(node: &Arc<dyn ExecutionPlan>) -> Result<()> {
    let refused = |what: &str| Err(Error::NotOnCluster { what: what.into() }.into());
    if node.downcast_ref::<HashJoinExec>().is_some_and(|join| join.null_aware) {
        return refused("NOT IN over a subquery that may have NULL");
    }
    if node.downcast_ref::<RepartitionExec>().is_some_and(RepartitionExec::preserve_order) {
        return refused("rows that keep an order while they are divided anew");
    }
    let is_memory = |source: &DataSourceExec| source.data_source().downcast_ref::<MemorySourceConfig>().is_some();
    let is_known = !node.children().is_empty()
        || node.downcast_ref::<RecipeScan>().is_some()
        || node.downcast_ref::<EmptyExec>().is_some()
        || node.downcast_ref::<PlaceholderRowExec>().is_some()
        || node.downcast_ref::<DataSourceExec>().is_some_and(is_memory);
    let what = match node.name() {
        _ if is_known => return Ok(()),
        "DataSourceExec" => "a file of this machine",
        "LazyMemoryExec" => "rows that a function makes (generate_series, range)",
        other => return refused(&format!("what only this machine has ({other})")),
    };
    refused(what)
}
