//! Keys that rows are sorted by, as columns: DataFusion 54 refuses plans whose order is that of a function inside another
//! expression, such as `row_number() OVER (ORDER BY length(label) > 3)`.
//!
//! It asks of each part of a key between which bounds its values lie. A function that does not say gives bounds of the type
//! NULL, comparing those with numbers is an error, and that is taken for "not sorted". So such a key is computed below the
//! node that needs it, once, and the node is given its column. `tests/suite/guards.rs` tells when this can go.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::expr::{AggregateFunction, Alias, Sort as Key, WindowFunction};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, Projection, Sort, Window};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// What the columns of keys are called; they are gone above the node that needs them.
const KEY: &str = "__order_key_";

/// Computes keys of sorts, windows and ordered aggregates below them.
#[derive(Debug)]
pub(super) struct KeysAsColumns;

impl OptimizerRule for KeysAsColumns {
    fn name(&self) -> &str {
        "keys_as_columns"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let mut keys = Keys::default();
        let above = columns(&plan);
        let with_keys = match &plan {
            LogicalPlan::Sort(sort) => {
                let expr = sort.expr.iter().map(|key| keys.replaced(key)).collect();
                let Some(input) = keys.below(&sort.input)? else { return Ok(Transformed::no(plan)) };
                LogicalPlan::Sort(Sort { expr, input, fetch: sort.fetch })
            }
            LogicalPlan::Window(window) => {
                let expr = window.window_expr.iter().map(|expr| keys.within(expr)).collect();
                let Some(input) = keys.below(&window.input)? else { return Ok(Transformed::no(plan)) };
                LogicalPlan::Window(Window::try_new(expr, input)?)
            }
            LogicalPlan::Aggregate(aggregate) => {
                let expr = aggregate.aggr_expr.iter().map(|expr| keys.within(expr)).collect();
                let Some(input) = keys.below(&aggregate.input)? else { return Ok(Transformed::no(plan)) };
                // its result has no key among its columns
                let group = aggregate.group_expr.clone();
                return Ok(Transformed::yes(LogicalPlan::Aggregate(Aggregate::try_new(input, group, expr)?)));
            }
            _ => return Ok(Transformed::no(plan)),
        };
        let projection = Projection::try_new(above, Arc::new(with_keys))?;
        Ok(Transformed::yes(LogicalPlan::Projection(projection)))
    }
}

/// All columns of a plan.
fn columns(plan: &LogicalPlan) -> Vec<Expr> {
    plan.schema().iter().map(|field| Expr::Column(Column::from(field))).collect()
}

/// The keys that are to be computed.
#[derive(Default)]
struct Keys(Vec<Expr>);

impl Keys {
    /// The column of a key that is to be computed below; any other as it is.
    fn column(&mut self, key: &Expr) -> Expr {
        if !is_refused(key) {
            return key.clone();
        }
        let at = self.0.iter().position(|known| known == key).unwrap_or_else(|| {
            self.0.push(key.clone());
            self.0.len() - 1
        });
        Expr::Column(Column::new_unqualified(format!("{KEY}{at}")))
    }

    fn replaced(&mut self, key: &Key) -> Key {
        Key { expr: self.column(&key.expr), ..key.clone() }
    }

    /// A window or aggregate function over columns instead of keys, under the name that it had.
    fn within(&mut self, expr: &Expr) -> Expr {
        let changed = match expr {
            // an alias of an alias is more than the physical planner takes apart
            Expr::Alias(alias) => {
                let expr = Box::new(self.over_columns(&alias.expr));
                return Expr::Alias(Alias { expr, ..alias.clone() });
            }
            function => self.over_columns(function),
        };
        if changed == *expr { changed } else { changed.alias(expr.schema_name().to_string()) }
    }

    fn over_columns(&mut self, function: &Expr) -> Expr {
        match function {
            Expr::WindowFunction(function) => {
                let mut params = function.params.clone();
                params.partition_by = params.partition_by.iter().map(|key| self.column(key)).collect();
                params.order_by = params.order_by.iter().map(|key| self.replaced(key)).collect();
                Expr::from(WindowFunction { fun: function.fun.clone(), params })
            }
            Expr::AggregateFunction(function) => {
                let mut params = function.params.clone();
                params.order_by = params.order_by.iter().map(|key| self.replaced(key)).collect();
                Expr::AggregateFunction(AggregateFunction { func: Arc::clone(&function.func), params })
            }
            other => other.clone(),
        }
    }

    /// The input with a column for each key; `None` where there is none.
    fn below(&self, input: &Arc<LogicalPlan>) -> Result<Option<Arc<LogicalPlan>>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let keys = self.0.iter().enumerate().map(|(at, key)| key.clone().alias(format!("{KEY}{at}")));
        let projection = Projection::try_new(columns(input).into_iter().chain(keys).collect(), Arc::clone(input))?;
        Ok(Some(Arc::new(LogicalPlan::Projection(projection))))
    }
}

/// Whether a key has a function in it: inside another expression, or over a cast of a column, as `sqrt(id)` is.
fn is_refused(key: &Expr) -> bool {
    key.exists(|part| Ok(matches!(part, Expr::ScalarFunction(_)))).unwrap_or(false)
}
