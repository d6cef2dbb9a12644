//! `IN (SELECT …)` where NULLs decide: DataFusion 54 is wrong there, so the answer of SQL's three-valued logic is spelled
//! out before its optimiser sees the condition.
//!
//! Two faults are met (apache/datafusion#23410 and kin): a filter on the left key of a null-aware anti join is copied to
//! its right side, where it removes the NULLs that decide; and inside OR, IS NULL, CASE and the like the subquery becomes a
//! mark join, whose mark is false where SQL says NULL. A condition that only keeps the rows with a match, `x IN (SELECT …)`
//! by itself, is right in both. The condition of an inner join is taken out of it, as a filter above; that of an outer join
//! is refused. `tests/slt/not_in.slt` has the cases, `tests/suite/guards.rs` tells when DataFusion answers right by itself.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, JoinType, Result, ScalarValue, Spans};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::expr::InSubquery;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Expr, ExprSchemable, Filter, Join, LogicalPlan, LogicalPlanBuilder, Subquery, lit, when,
};
use datafusion::optimizer::AnalyzerRule;

use crate::error::Error;

/// The subquery gives no row; rows, and none of them NULL; rows, and NULL among them.
const EMPTY: i32 = 0;
const WHOLE: i32 = 1;
const WITH_NULL: i32 = 2;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct ThreeValuedIn;

impl AnalyzerRule for ThreeValuedIn {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let rewritten = plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Filter(filter) => rewrite(filter),
            LogicalPlan::Join(join) => out_of_on(join),
            other => Ok(Transformed::no(other)),
        })?;
        Ok(rewritten.data)
    }

    fn name(&self) -> &str {
        "three_valued_in"
    }
}

fn rewrite(filter: Filter) -> Result<Transformed<LogicalPlan>> {
    let schema = Arc::clone(filter.input.schema());
    let mut changed = false;
    let mut conditions = Vec::new();
    for condition in split_conjunction_owned(filter.predicate.clone()) {
        // a row passes where there is a match: whether the others are false or NULL is the same
        if matches!(&condition, Expr::InSubquery(InSubquery { negated: false, .. })) {
            conditions.push(condition);
            continue;
        }
        let spelled = condition.transform_up(|part| match part {
            Expr::InSubquery(part) if has_nulls(&part, &schema)? => Ok(Transformed::yes(spelled_out(part)?)),
            other => Ok(Transformed::no(other)),
        })?;
        changed |= spelled.transformed;
        conditions.push(spelled.data);
    }
    let Some(predicate) = conjunction(conditions).filter(|_| changed) else {
        return Ok(Transformed::no(LogicalPlan::Filter(filter)));
    };
    Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, filter.input)?)))
}

/// A join whose condition has such a part: of an inner join it is as well a filter above it.
fn out_of_on(join: Join) -> Result<Transformed<LogicalPlan>> {
    let Some(on) = &join.filter else { return Ok(Transformed::no(LogicalPlan::Join(join))) };
    let schema = Arc::clone(&join.schema);
    let (mut moved, mut kept) = (Vec::new(), Vec::new());
    for condition in split_conjunction_owned(on.clone()) {
        let by_itself = matches!(&condition, Expr::InSubquery(InSubquery { negated: false, .. }));
        let decides = !by_itself
            && condition.exists(|part| match part {
                Expr::InSubquery(part) => has_nulls(part, &schema),
                _ => Ok(false),
            })?;
        if decides { moved.push(condition) } else { kept.push(condition) }
    }
    let Some(predicate) = conjunction(moved) else { return Ok(Transformed::no(LogicalPlan::Join(join))) };
    if join.join_type != JoinType::Inner {
        return Err(Error::InOfOuterJoin.into());
    }
    let join = LogicalPlan::Join(Join { filter: conjunction(kept), ..join });
    let filtered = rewrite(Filter::try_new(predicate, Arc::new(join))?)?;
    Ok(Transformed::yes(filtered.data))
}

fn has_nulls(part: &InSubquery, schema: &DFSchema) -> Result<bool> {
    // a name of a query around this one is not in the schema
    let left = part.expr.nullable(schema).unwrap_or(true);
    Ok(left || part.subquery.subquery.schema().field(0).is_nullable())
}

/// `x IN (SELECT y …)` as CASE: true where there is a match; else false where there are no rows; else NULL where x or
/// some y is NULL; else false. NOT IN is the opposite.
fn spelled_out(part: InSubquery) -> Result<Expr> {
    let InSubquery { expr, subquery, negated } = part;
    if !subquery.outer_ref_columns.is_empty() {
        return Err(Error::CorrelatedIn { negated }.into());
    }
    let state = state(&subquery)?;
    let is_null = expr.clone().is_null().or(state.clone().eq(lit(WITH_NULL)));
    let matched = Expr::InSubquery(InSubquery { expr, subquery, negated: false });
    when(matched, lit(!negated))
        .when(state.eq(lit(EMPTY)), lit(negated))
        .when(is_null, lit(ScalarValue::Boolean(None)))
        .otherwise(lit(negated))
}

/// What a subquery gives, as a scalar subquery: [`EMPTY`], [`WHOLE`] or [`WITH_NULL`].
fn state(subquery: &Subquery) -> Result<Expr> {
    let rows = LogicalPlan::clone(&subquery.subquery);
    let value = Expr::Column(Column::from(rows.schema().qualified_field(0)));
    let (all, known) = (Expr::Column(Column::from_name("all")), Expr::Column(Column::from_name("known")));
    let plan = LogicalPlanBuilder::from(rows)
        .aggregate(Vec::<Expr>::new(), [count(lit(1)).alias("all"), count(value).alias("known")])?
        .project([when(all.clone().eq(lit(0)), lit(EMPTY))
            .when(known.lt(all), lit(WITH_NULL))
            .otherwise(lit(WHOLE))?
            .alias("state")])?
        .build()?;
    let subquery = Arc::new(plan);
    Ok(Expr::ScalarSubquery(Subquery { subquery, outer_ref_columns: Vec::new(), spans: Spans::new() }))
}
