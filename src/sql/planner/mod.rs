//! What the planner knows about scores: a score is computed once per row, after cheap filters, and no further than a
//! filter or a LIMIT needs.
//!
//! [`PullScores`], an optimiser rule, takes every `knn_ood_score(…)` out of filters, projections, sorts and aggregates
//! into a plan node of its own, [`Scored`], that adds the score as a column. What a filter asks (`> c`, BETWEEN,
//! `is_ood(…)`) becomes the node's [`Bounds`], and `ORDER BY score LIMIT n` its [`Top`]: rows that cannot pass are
//! dropped as soon as the search knows. [`ScoreExec`] runs it. Before that, `share` has `embed(…)` computed once where
//! several scores of a row ask for it. All of it is plain values: bank, version, k, bounds.

mod batches;
mod bounds;
#[cfg(feature = "cluster")]
mod elsewhere;
mod exec;
mod expressions;
mod keys;
mod node;
mod not_in;
mod order;
mod rule;
mod share;
mod sides;

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode};
use datafusion::optimizer::{Analyzer, AnalyzerRule, Optimizer, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};

#[cfg(feature = "cluster")]
pub(crate) use batches::BatchRowsExec;
use batches::BoundBatches;
pub use bounds::{Bounds, Score, Top};
#[cfg(feature = "cluster")]
pub(crate) use elsewhere::Elsewhere;
pub use exec::ScoreExec;
pub(crate) use exec::Spec;
#[cfg(feature = "cluster")]
pub(crate) use exec::{next_group, queries_of};
use keys::KeysAsColumns;
pub use node::Scored;
use not_in::ThreeValuedIn;
pub use rule::PullScores;
use share::ShareEmbeddings;
use sides::ConstantsRight;

use crate::bank::Banks;

/// DataFusion's optimiser rules, and ours where filters have gone down and common parts are not yet taken apart.
pub(crate) fn rules(banks: &Arc<Banks>) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules = Optimizer::new().rules;
    let common = rules.iter().position(|rule| rule.name() == "common_sub_expression_eliminate");
    let at = common.unwrap_or(rules.len());
    rules.insert(at, Arc::new(PullScores(Arc::clone(banks))));
    rules.insert(at, Arc::new(ShareEmbeddings));
    // after all that might put a key back to where it came from
    rules.push(Arc::new(KeysAsColumns));
    rules
}

/// DataFusion's analyser rules, after those that say what it gets wrong.
pub(crate) fn analyzer_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let mut rules = Analyzer::new().rules;
    rules.insert(0, Arc::new(ThreeValuedIn));
    rules.insert(0, Arc::new(ConstantsRight));
    rules
}

/// DataFusion's rules for physical plans, put right, and the last of all: how many rows are gathered at once.
pub(crate) fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = order::physical_rules();
    rules.push(Arc::new(BoundBatches));
    rules
}

/// DataFusion's planner, which also knows [`Scored`].
pub(crate) struct Planner(Arc<Banks>);

impl Planner {
    pub(crate) fn new(banks: &Arc<Banks>) -> Self {
        Self(Arc::clone(banks))
    }
}

impl Debug for Planner {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Planner")
    }
}

#[async_trait::async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, state: &SessionState) -> Result<Arc<dyn ExecutionPlan>> {
        let scored = Arc::new(PlanScored(Arc::clone(&self.0)));
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![scored]);
        let plan = planner.create_physical_plan(plan, state).await?;
        #[cfg(feature = "cluster")]
        if let Some(elsewhere) = state.config().get_extension::<Elsewhere>() {
            return elsewhere.send(plan, state);
        }
        Ok(plan)
    }
}

struct PlanScored(Arc<Banks>);

#[async_trait::async_trait]
impl ExtensionPlanner for PlanScored {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        logical: &[&LogicalPlan],
        physical: &[Arc<dyn ExecutionPlan>],
        state: &SessionState,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(scored) = node.as_any().downcast_ref::<Scored>() else { return Ok(None) };
        let schema = logical[0].schema();
        let embedding = planner.create_physical_expr(&scored.call.embedding, schema, state)?;
        let id = scored.call.id.as_ref().map(|id| planner.create_physical_expr(id, schema, state)).transpose()?;
        let plan = ScoreExec::new(Arc::clone(&physical[0]), Spec::of(scored), embedding, id, Arc::clone(&self.0));
        Ok(Some(Arc::new(plan)))
    }
}
