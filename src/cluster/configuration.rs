//! What sessions of a cluster have in common: settings, functions and limits.

use std::sync::Arc;

use ballista_core::ConfigProducer;
use ballista_core::extension::SessionConfigExt;
use datafusion::config::ConfigOptions;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::prelude::SessionConfig;

use super::security::Security;
use crate::bank::Banks;
use crate::error::Result;
use crate::sql::functions::{Settings, register_all};
use crate::sql::networks::Networks;

/// Bytes of a message between programs of a cluster.
pub(super) const MESSAGE_BYTES: usize = 256 << 20;
/// Bytes of a plan, at most: it goes with each of its tasks.
pub(super) const PLAN_BYTES: usize = 8 << 20;

/// How sessions of scheduler and executors begin.
pub(super) fn producer(security: &Security) -> ConfigProducer {
    let (connects, is_tls) = (security.connects(), security.is_tls());
    Arc::new(move || {
        SessionConfig::new_with_ballista()
            .with_option_extension(Settings::default())
            .with_ballista_use_tls(is_tls)
            .with_ballista_grpc_client_max_message_size(MESSAGE_BYTES)
            // a file that a task left half written is never taken for a whole one
            .with_ballista_shuffle_reader_force_remote_read(true)
            .with_ballista_override_create_grpc_client_endpoint(Arc::clone(&connects))
    })
}

/// A session with DataFusion's functions and ours, over no banks: those come with a plan.
pub(super) fn state(config: SessionConfig) -> Result<SessionState> {
    let mut state = SessionStateBuilder::new().with_default_features().with_config(config).build();
    register_all(&mut state, &Arc::new(Banks::none()), &Arc::new(Networks::built_in()))?;
    Ok(state)
}

/// Whether a setting goes along with a plan: what is Ballista's is the cluster's own.
pub(super) fn travels(key: &str) -> bool {
    let here = ["datafusion.runtime.", "datafusion.catalog.", "outskirt.instructions"];
    (key.starts_with("datafusion.") || key.starts_with("outskirt.")) && !here.iter().any(|own| key.starts_with(own))
}

/// DataFusion's settings for plans that are divided: each part of a plan runs alone.
pub(super) fn restrict(options: &mut ConfigOptions, slots: usize) {
    options.execution.target_partitions = slots;
    let optimizer = &mut options.optimizer;
    optimizer.enable_round_robin_repartition = false;
    optimizer.enable_dynamic_filter_pushdown = false;
    optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    optimizer.prefer_existing_sort = false;
    optimizer.prefer_hash_join = false;
    optimizer.hash_join_single_partition_threshold = 10 << 20;
    optimizer.hash_join_single_partition_threshold_rows = 1_000_000;
}
