//! The optimiser rule: scores out of expressions, into plan nodes of their own.

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;

use datafusion::common::alias::AliasGenerator;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, JoinType, Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    Between, BinaryExpr, Expr, ExprSchemable, Filter, LogicalPlan, Operator, Projection, Sort, SubqueryAlias,
};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::bounds::{Bounds, Top};
use super::expressions::{columns, find_needed, project};
use super::node::{Call, Scored};
use crate::bank::Banks;
use crate::sql::functions::arguments::BankCall;
use crate::sql::functions::bank_function::BankFunction;
use crate::sql::functions::knn_ood_threshold::knn_ood_threshold;
use crate::sql::functions::{is_ood, knn_ood_pvalue, knn_ood_score};
use crate::statistics::thresholds;

/// Begins the name of a score's column.
const COLUMN: &str = "__knn_ood_score";

/// See the [module](super).
pub struct PullScores(pub(super) Arc<Banks>);

impl Debug for PullScores {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("PullScores")
    }
}

impl OptimizerRule for PullScores {
    fn name(&self) -> &str {
        "pull_scores"
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let names = config.alias_generator();
        plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Filter(filter) => self.filter(filter, names),
            LogicalPlan::Sort(sort) => self.sort(sort, names),
            LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) => {
                self.expressions(plan, names)
            }
            other => Ok(Transformed::no(other)),
        })
    }
}

impl PullScores {
    /// The score that a call of a function asks for, with everything resolved; `None` for any other expression.
    fn resolve(
        &self,
        function: &BankFunction,
        expr: &Expr,
        input: &LogicalPlan,
    ) -> Result<Option<(Call, BankCall<'_>)>> {
        let Expr::ScalarFunction(ScalarFunction { func, args }) = expr else { return Ok(None) };
        if func.name() != function.name || args.len() < 2 || args.iter().any(Expr::is_volatile) {
            return Ok(None);
        }
        let types = args.iter().map(|arg| arg.get_type(input.schema())).collect::<Result<Vec<_>>>()?;
        let literals: Vec<_> = args.iter().map(literal).collect();
        let resolved = function.resolve(&self.0, &types, &literals)?;
        let call = Call {
            bank: resolved.bank.name.clone(),
            version: resolved.bank.table_version,
            k: resolved.k,
            embedding: args[0].clone(),
            id: resolved.id.map(|id| args[id].clone()),
        };
        Ok(Some((call, resolved)))
    }

    /// A call of `knn_ood_score`.
    fn call(&self, expr: &Expr, input: &LogicalPlan) -> Result<Option<Call>> {
        Ok(self.resolve(&knn_ood_score::FUNCTION, expr, input)?.map(|(call, _)| call))
    }

    /// A condition that only bounds one score: `knn_ood_score(…) > c` and the like, `knn_ood_pvalue(…) < p`,
    /// `is_ood(…)`.
    fn bounded(&self, expr: &Expr, input: &LogicalPlan) -> Result<Option<(Call, Bounds)>> {
        Ok(match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let (compared, number, op) = match (number(left), number(right)) {
                    (None, Some(number)) => (uncast(left), number, Some(*op)),
                    (Some(number), None) => (uncast(right), number, op.swap()),
                    _ => return Ok(None),
                };
                if let Some((call, resolved)) = self.resolve(&knn_ood_pvalue::FUNCTION, compared, input)? {
                    let calibration = resolved.calibration()?;
                    let limit = |strictly| thresholds::pvalue_limit(&calibration.scores, number, strictly);
                    return Ok(match op {
                        Some(Operator::Lt) => Some((call, Bounds::above(limit(true)))),
                        Some(Operator::LtEq) => Some((call, Bounds::above(limit(false)))),
                        Some(Operator::Gt) => Some((call, Bounds::up_to(limit(false)))),
                        Some(Operator::GtEq) => Some((call, Bounds::up_to(limit(true)))),
                        _ => None,
                    });
                }
                let call = self.call(compared, input)?;
                let bounds = match op {
                    Some(Operator::Gt) => Bounds::above(number),
                    Some(Operator::GtEq) => Bounds::from(number),
                    Some(Operator::Lt) => Bounds::under(number),
                    Some(Operator::LtEq) => Bounds::up_to(number),
                    _ => return Ok(None),
                };
                call.map(|call| (call, bounds))
            }
            Expr::Between(Between { expr, negated: false, low, high }) => match (number(low), number(high)) {
                (Some(low), Some(high)) => {
                    self.call(uncast(expr), input)?.map(|call| (call, Bounds::from(low).and(Bounds::up_to(high))))
                }
                _ => None,
            },
            Expr::Not(inner) => self.decision(inner, input)?.map(|(call, threshold)| (call, Bounds::up_to(threshold))),
            other => self.decision(other, input)?.map(|(call, threshold)| (call, Bounds::above(threshold))),
        })
    }

    /// `is_ood(embedding, bank [, tpr [, confidence]])`: the score that it asks for, and the threshold.
    fn decision(&self, expr: &Expr, input: &LogicalPlan) -> Result<Option<(Call, f64)>> {
        match self.resolve(&is_ood::FUNCTION, expr, input)? {
            Some((call, resolved)) => Ok(Some((call, f64::from(knn_ood_threshold(&resolved)?)))),
            None => Ok(None),
        }
    }

    /// Conditions without a score first, then scores with their bounds, then what is left.
    fn filter(&self, filter: Filter, names: &AliasGenerator) -> Result<Transformed<LogicalPlan>> {
        let input = Arc::unwrap_or_clone(filter.input);
        let (mut cheap, mut rest, mut bounded) = (Vec::new(), Vec::new(), Vec::<(Call, Bounds)>::new());
        for condition in split_conjunction(&filter.predicate) {
            if !is_costly(condition)? {
                cheap.push(condition.clone());
            } else if let Some((call, bounds)) = self.bounded(condition, &input)? {
                match bounded.iter_mut().find(|(known, _)| *known == call) {
                    Some((_, known)) => *known = known.and(bounds),
                    None => bounded.push((call, bounds)),
                }
            } else {
                rest.push(condition.clone());
            }
        }
        let same = |input| Filter::try_new(filter.predicate.clone(), Arc::new(input)).map(LogicalPlan::Filter);
        let rest = conjunction(rest);
        if bounded.is_empty() && rest.is_none() {
            return Ok(Transformed::no(same(input)?));
        }
        let columns = columns(&input);
        let mut plan = input.clone();
        if let Some(cheap) = conjunction(cheap) {
            plan = LogicalPlan::Filter(Filter::try_new(cheap, Arc::new(plan))?);
        }
        let mut changed = !bounded.is_empty();
        for (call, bounds) in bounded {
            plan = Scored::new(plan, call, bounds, false, names.next(COLUMN))?.into_plan();
        }
        if let Some(rest) = rest {
            let (with_scores, exprs) = self.replace(plan, vec![rest.clone()], names)?;
            changed |= exprs[0] != rest;
            let predicate = exprs.into_iter().next().unwrap_or(rest);
            plan = LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(with_scores))?);
        }
        // a filter that is only split would be put together again, and so on
        if changed { Ok(Transformed::yes(project(plan, columns)?)) } else { Ok(Transformed::no(same(input)?)) }
    }

    /// Scores that rows are sorted by, and how far a limit lets the search stop.
    fn sort(&self, sort: Sort, names: &AliasGenerator) -> Result<Transformed<LogicalPlan>> {
        let input = Arc::unwrap_or_clone(sort.input);
        let columns = columns(&input);
        let keys: Vec<Expr> = sort.expr.iter().map(|key| key.expr.clone()).collect();
        let (mut input, replaced) = self.replace(input, keys.clone(), names)?;
        let mut changed = replaced != keys;
        let mut expr = sort.expr;
        expr.iter_mut().zip(replaced).for_each(|(key, replaced)| key.expr = replaced);
        if let (Some(rows), Some(first)) = (sort.fetch, expr.first())
            && let Expr::Column(column) = &first.expr
        {
            let top = Top { rows, largest: !first.asc };
            let bounded = limit_search(input, column, top)?;
            changed |= bounded.transformed;
            input = bounded.data;
        }
        let plan = LogicalPlan::Sort(Sort { expr, input: Arc::new(input), fetch: sort.fetch });
        let plan = project(plan, columns)?;
        Ok(if changed { Transformed::yes(plan) } else { Transformed::no(plan) })
    }

    /// Scores in the expressions of a node whose output is those expressions.
    fn expressions(&self, plan: LogicalPlan, names: &AliasGenerator) -> Result<Transformed<LogicalPlan>> {
        let exprs = plan.expressions();
        if exprs.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) {
            // its parts are named one by one
            return Ok(Transformed::no(plan));
        }
        let input = plan.inputs()[0].clone();
        let columns = columns(&plan);
        let preserver = NamePreserver::new(&plan);
        let saved: Vec<_> = exprs.iter().map(|expr| preserver.save(expr)).collect();
        let (input, replaced) = self.replace(input, exprs.clone(), names)?;
        if replaced == exprs {
            return Ok(Transformed::no(plan));
        }
        let replaced = replaced.into_iter().zip(saved).map(|(expr, name)| name.restore(expr)).collect();
        Ok(Transformed::yes(project(plan.with_new_exprs(replaced, vec![input])?, columns)?))
    }

    /// Compute every score that expressions certainly need as a column of `input`, and replace the calls by those columns.
    fn replace(
        &self,
        mut input: LogicalPlan,
        exprs: Vec<Expr>,
        names: &AliasGenerator,
    ) -> Result<(LogicalPlan, Vec<Expr>)> {
        let mut calls: Vec<(Call, Column)> = Vec::new();
        for expr in &exprs {
            let mut needed_calls = Vec::new();
            find_needed(expr, |part| {
                let call = self.call(part, &input)?;
                needed_calls.extend(call.clone());
                Ok(call.is_some())
            })?;
            for call in needed_calls {
                if !calls.iter().any(|(known, _)| *known == call) {
                    let (with_score, column) = match reuse(input, &call)? {
                        Ok(found) => found,
                        Err(input) => {
                            let all = Bounds::default();
                            let scored = Scored::new(input, call.clone(), all, true, names.next(COLUMN))?;
                            let column = scored.output();
                            (scored.into_plan(), column)
                        }
                    };
                    input = with_score;
                    calls.push((call, column));
                }
            }
        }
        if calls.is_empty() {
            return Ok((input, exprs));
        }
        let used = |expr: Expr| {
            expr.transform_down(|part| {
                let found = match self.call(&part, &input)? {
                    Some(call) => calls.iter().find(|(known, _)| *known == call),
                    None => None,
                };
                Ok(match found {
                    Some((_, column)) => Transformed::new(Expr::Column(column.clone()), true, TreeNodeRecursion::Jump),
                    None => Transformed::no(part),
                })
            })
            .map(|changed| changed.data)
        };
        let exprs = exprs.into_iter().map(used).collect::<Result<Vec<_>>>()?;
        Ok((input, exprs))
    }
}

/// Whether an expression searches a bank: cheaper conditions come first.
fn is_costly(expr: &Expr) -> Result<bool> {
    expr.exists(|part| match part {
        Expr::ScalarFunction(call) => Ok(BankFunction::of(&call.func).is_some_and(BankFunction::searches)),
        _ => Ok(false),
    })
}

fn literal(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value),
        _ => None,
    }
}

/// The number that a literal says; never NaN.
fn number(expr: &Expr) -> Option<f64> {
    match literal(expr)?.cast_to(&arrow::datatypes::DataType::Float64).ok()? {
        ScalarValue::Float64(number) => number.filter(|number| !number.is_nan()),
        _ => None,
    }
}

/// A FLOAT as a DOUBLE is the same number.
fn uncast(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(cast) if *cast.field.data_type() == arrow::datatypes::DataType::Float64 => &cast.expr,
        other => other,
    }
}

/// The input's column that an expression passes on, where that is all it does.
fn passed_column(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => passed_column(&alias.expr),
        _ => None,
    }
}

/// A call in terms of a plan's input: `below` says which column of it a column is, `None` where it is none.
fn translate(call: &Call, below: impl Fn(&Column) -> Option<Column>) -> Result<Option<Call>> {
    if !call.columns().all(|column| below(column).is_some()) {
        return Ok(None);
    }
    let expr = |expr: Expr| {
        let changed = expr.transform(|part| {
            Ok(match part {
                Expr::Column(column) => Transformed::yes(Expr::Column(below(&column).unwrap_or(column))),
                other => Transformed::no(other),
            })
        });
        changed.map(|changed| changed.data)
    };
    call.map(expr).map(Some)
}

/// The column of a projection's input that its column is.
fn below_projection(projection: &Projection, column: &Column) -> Option<Column> {
    passed_column(&projection.expr[projection.schema.maybe_index_of_column(column)?]).cloned()
}

/// The column of what an alias stands for.
fn below_alias(alias: &SubqueryAlias, column: &Column) -> Option<Column> {
    let at = alias.schema.maybe_index_of_column(column)?;
    Some(Column::from(alias.input.schema().qualified_field(at)))
}

/// Pass on, as a column of `plan`, the score that a node below computes. `Err` has the plan as it was where none does.
fn reuse(plan: LogicalPlan, call: &Call) -> Result<Result<(LogicalPlan, Column), LogicalPlan>> {
    if let Some(scored) = Scored::of(&plan) {
        if scored.call == *call {
            let scored = Scored { needed: true, ..scored.clone() };
            let column = scored.output();
            return Ok(Ok((scored.into_plan(), column)));
        }
        let scored = scored.clone();
        return Ok(match reuse(scored.input.as_ref().clone(), call)? {
            Ok((input, column)) => Ok((scored.with_input(input)?.into_plan(), column)),
            Err(_) => Err(plan),
        });
    }
    Ok(match plan {
        LogicalPlan::Projection(projection) => {
            let below = translate(call, |column| below_projection(&projection, column))?;
            let Some(below) = below else { return Ok(Err(LogicalPlan::Projection(projection))) };
            match reuse(projection.input.as_ref().clone(), &below)? {
                Ok((input, column)) => {
                    let (mut exprs, column_of) = (projection.expr, Expr::Column(column.clone()));
                    if !exprs.contains(&column_of) {
                        exprs.push(column_of);
                    }
                    Ok((LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?), column))
                }
                Err(_) => Err(LogicalPlan::Projection(projection)),
            }
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let below = translate(call, |column| below_alias(&alias, column))?;
            let Some(below) = below else { return Ok(Err(LogicalPlan::SubqueryAlias(alias))) };
            match reuse(alias.input.as_ref().clone(), &below)? {
                Ok((input, column)) => {
                    let column = Column::new(Some(alias.alias.clone()), column.name);
                    let alias = SubqueryAlias::try_new(Arc::new(input), alias.alias)?;
                    Ok((LogicalPlan::SubqueryAlias(alias), column))
                }
                Err(_) => Err(LogicalPlan::SubqueryAlias(alias)),
            }
        }
        plan @ (LogicalPlan::Filter(_) | LogicalPlan::Sort(_) | LogicalPlan::Limit(_) | LogicalPlan::Join(_)) => {
            let mut inputs: Vec<LogicalPlan> = plan.inputs().into_iter().cloned().collect();
            for at in 0..inputs.len() {
                let there = call.columns().all(|column| inputs[at].schema().has_column(column));
                if there
                    && passes_on(&plan, at, call)
                    && let Ok((input, column)) = reuse(inputs[at].clone(), call)?
                {
                    inputs[at] = input;
                    return Ok(Ok((plan.with_new_exprs(plan.expressions(), inputs)?, column)));
                }
            }
            Err(plan)
        }
        other => Err(other),
    })
}

/// Whether a score of a node's input is the score of its own rows: a join may not show one side, or pad it with NULL, of
/// which only the score of a plain column is NULL too.
fn passes_on(plan: &LogicalPlan, input: usize, call: &Call) -> bool {
    let LogicalPlan::Join(join) = plan else { return true };
    let padded = matches!(call.embedding, Expr::Column(_));
    match join.join_type {
        JoinType::Inner => true,
        JoinType::Left => input == 0 || padded,
        JoinType::Right => input == 1 || padded,
        JoinType::Full => padded,
        JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => input == 0,
        JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => input == 1,
    }
}

/// Tell the node that computes a column which rows of an order by it are needed. Only nodes that keep all rows may lie
/// between.
fn limit_search(plan: LogicalPlan, column: &Column, top: Top) -> Result<Transformed<LogicalPlan>> {
    if let Some(scored) = Scored::of(&plan) {
        if scored.output() == *column {
            let changed = scored.top != Some(top);
            let scored = Scored { top: Some(top), ..scored.clone() };
            return Ok(Transformed::new_transformed(scored.into_plan(), changed));
        }
        if !scored.bounds.is_unbounded() || scored.top.is_some() {
            return Ok(Transformed::no(plan));
        }
        let scored = scored.clone();
        return limit_search(scored.input.as_ref().clone(), column, top)?
            .map_data(|input| Ok(scored.with_input(input)?.into_plan()));
    }
    match plan {
        LogicalPlan::Projection(projection) => match below_projection(&projection, column) {
            Some(below) => limit_search(projection.input.as_ref().clone(), &below, top)?.map_data(|input| {
                Projection::try_new_with_schema(projection.expr, Arc::new(input), projection.schema)
                    .map(LogicalPlan::Projection)
            }),
            None => Ok(Transformed::no(LogicalPlan::Projection(projection))),
        },
        LogicalPlan::SubqueryAlias(alias) => match below_alias(&alias, column) {
            Some(below) => limit_search(alias.input.as_ref().clone(), &below, top)?
                .map_data(|input| SubqueryAlias::try_new(Arc::new(input), alias.alias).map(LogicalPlan::SubqueryAlias)),
            None => Ok(Transformed::no(LogicalPlan::SubqueryAlias(alias))),
        },
        other => Ok(Transformed::no(other)),
    }
}
