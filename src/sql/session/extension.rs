//! What makes a DataFusion session one of Outskirt's: its functions, settings, and what its planner knows about scores.

use std::sync::Arc;

use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::SessionContext;

use crate::bank::Banks;
use crate::error::Result;
use crate::sql::functions::{Settings, register_all};
use crate::sql::networks::Networks;
use crate::sql::planner::{self, Planner};
use crate::sql::policy::Policy;
use crate::store::Store;

/// Make a DataFusion session of one's own, over one's own tables, with Outskirt's functions over a database's banks:
/// `SELECT knn_ood_score(embedding, 'shop') FROM mine`. Scores are pruned as in a [`Session`](super::Session).
///
/// `builder` keeps its catalogs, files, runtime and functions. Its rules and its query planner are replaced by DataFusion's with
/// Outskirt's, and some of its settings are set, where DataFusion 54 is wrong about scores. NULL scores come first in `ORDER BY
/// score DESC`, as DataFusion has it, unless `datafusion.sql_parser.default_null_ordering` says otherwise. The database's tables are not in the
/// session, and nothing in it changes the database: banks are those of the moment, as they were.
///
/// Errors: those of reading the database; a function of the same name.
pub async fn in_own_session(store: &Store, builder: SessionStateBuilder, policy: &Policy) -> Result<SessionContext> {
    // what is found here is pinned before anybody may prune it
    let _finding = store.read_lock().await?;
    let banks = Arc::new(Banks::load(store).await?);
    let networks = Arc::new(Networks::load(store, policy).await);
    let mut context = SessionContext::new_with_state(extended(builder, &banks).build());
    register_all(&mut context, &banks, &networks)?;
    Ok(context)
}

/// Rules, planner and settings.
pub(super) fn extended(mut builder: SessionStateBuilder, banks: &Arc<Banks>) -> SessionStateBuilder {
    let config = builder.config().take().unwrap_or_default();
    let config = config
        .with_option_extension(Settings::default())
        // DataFusion 54 drops groups whose value is NULL (apache/datafusion#22190, #23440; tests/slt/order.slt)
        .set_bool("datafusion.optimizer.enable_topk_aggregation", false)
        // … takes DISTINCT over sorted rows with LIMIT for such a group (#25350)
        .set_bool("datafusion.optimizer.enable_distinct_aggregation_soft_limit", false)
        // … loses a column beside an unnested struct whose fields a join and a filter read
        .set_bool("datafusion.optimizer.enable_leaf_expression_pushdown", false);
    builder
        .with_config(config)
        .with_analyzer_rules(planner::analyzer_rules())
        .with_optimizer_rules(planner::rules(banks))
        .with_physical_optimizer_rules(planner::physical_rules())
        .with_query_planner(Arc::new(Planner::new(banks)))
}
