//! What the names of a session stand for: the database's tables at a version, and the views over them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::prelude::SessionContext;
use datafusion::sql::TableReference;
use datafusion::sql::parser::{DFParser, Statement};
use serde::{Deserialize, Serialize};

use super::hints;
use super::prepared::PreparedStatements;
use super::statement::settled;
use crate::bank::Banks;
use crate::error::{Error, Result};
use crate::schema;
use crate::sql::memory::BankMemory;
use crate::sql::policy::Policy;
use crate::sql::spill::SpillFolder;
use crate::store::Store;

/// The catalog and the schema of the database's tables, among those that a session may have.
pub(super) const SCHEMA: (&str, &str) = ("datafusion", "public");

/// SQL over a database, as it was when the session began: tables keep their version, banks their definition. A
/// change through the session moves `images` to the version that it makes.
pub struct Session {
    pub(super) context: SessionContext,
    pub(super) banks: Arc<Banks>,
    pub(super) store: Store,
    pub(super) policy: Policy,
    pub(super) views: Mutex<Views>,
    pub(super) prepared: Mutex<PreparedStatements>,
    /// Whether a change is past the point at which it can still be given up.
    committing: Arc<AtomicBool>,
    /// What its banks hold, counted among what its queries gather.
    memory: Arc<BankMemory>,
    /// What it spilled is not removed.
    pub(super) _spill: SpillFolder,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("store", &self.store).field("banks", &self.banks).finish_non_exhaustive()
    }
}

/// Versions of `images`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MovedOn {
    /// The one that a session sees.
    pub seen: u64,
    /// The latest.
    pub latest: u64,
}

/// One row of the table `views`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct StoredView {
    pub(super) name: String,
    pub(super) definition: String,
    pub(super) created_at: String,
}

/// What a session knows of the database's views.
#[derive(Debug, Default)]
pub(super) struct Views {
    stored: Vec<StoredView>,
    /// The views that do not plan, and why.
    broken: BTreeMap<String, String>,
}

/// A statement that runs; when it ends, nothing is being committed any more.
pub(super) struct Running<'s>(&'s Session);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.committing.store(false, Ordering::Relaxed);
    }
}

impl Session {
    /// A session over registered tables.
    pub(super) fn over(
        context: SessionContext,
        banks: Arc<Banks>,
        store: Store,
        spill: SpillFolder,
        policy: Policy,
    ) -> Self {
        let (views, prepared, committing) = Default::default();
        // weak: the context has the functions, and they have the banks
        let state = context.state_weak_ref();
        let memory = Arc::new(BankMemory::new(move || {
            let state = state.upgrade()?;
            let pool = Arc::clone(&state.read().runtime_env().memory_pool);
            Some(pool)
        }));
        let account = Arc::clone(&memory);
        banks.account(move |bytes| account.hold(bytes));
        Self { memory, context, banks, store, policy, views, prepared, committing, _spill: spill }
    }

    /// Another session over the database as it is now, with the same policy. Settings, prepared statements and temporary
    /// tables are not taken along.
    pub async fn again(&self) -> Result<Self> {
        Self::with_policy(&self.store, &self.policy).await
    }

    /// Take another session's settings along.
    pub fn settings_of(&self, other: &Self) {
        let settings = other.context.state().config().options().clone();
        *self.context.state_ref().write().config_mut().options_mut() = ConfigOptions::clone(&settings);
    }

    /// Whether `images` has moved on to a later version than the session sees.
    pub async fn moved_on(&self) -> Result<Option<MovedOn>> {
        let (seen, latest) = (self.banks.images_seen(), self.store.version(schema::IMAGES).await?);
        Ok((latest > seen).then_some(MovedOn { seen, latest }))
    }

    /// Whether the statement that runs is committing a change: whoever cancels it now would not know whether it was made,
    /// so it has to be waited for.
    pub fn is_committing(&self) -> bool {
        self.committing.load(Ordering::Relaxed)
    }

    /// From here on the statement that runs is waited for.
    pub(super) fn begin_commit(&self) {
        self.committing.store(true, Ordering::Relaxed);
    }

    /// What marks that, for who learns elsewhere that the moment has come.
    pub(super) fn commit_mark(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.committing)
    }

    /// A statement begins.
    pub(super) fn running(&self) -> Running<'_> {
        Running(self)
    }

    /// The name of a table or view in the database's schema; `None` where the reference means another schema.
    pub(super) fn name_in_database(&self, reference: &TableReference) -> Option<String> {
        let state = self.context.state();
        let defaults = &state.config_options().catalog;
        let resolved = reference.clone().resolve(&defaults.default_catalog, &defaults.default_schema);
        ((&*resolved.catalog, &*resolved.schema) == SCHEMA).then(|| resolved.table.to_string())
    }

    /// The table of the database that a name means.
    pub(super) fn own_table(&self, reference: &TableReference) -> Option<&'static str> {
        let name = self.name_in_database(reference)?;
        schema::TABLES.into_iter().find(|table| *table == name)
    }

    /// Plan a statement, or say which view of those it reads does not work.
    pub(super) async fn plan(&self, statement: Statement) -> Result<LogicalPlan> {
        let statement = settled(statement)?;
        // another pool may be in place
        self.memory.hold(self.banks.bytes());
        self.refuse_broken_views(&statement)?;
        self.register_versions(&statement).await?;
        let planned = self.context.state().statement_to_plan(statement.clone()).await;
        let plan = planned.map_err(|error| hints::explained(&self.context, &statement, error))?;
        hints::check(&plan)?;
        Ok(plan)
    }

    /// Register the earlier versions of tables that a statement reads: `images@12`.
    async fn register_versions(&self, statement: &Statement) -> Result<()> {
        for reference in self.context.state().resolve_table_references(statement)? {
            let Some(name) = self.name_in_database(&reference) else { continue };
            let Some((table, version)) = versioned(&name) else { continue };
            self.policy.check_version(&name)?;
            if self.context.table_exist(in_database(&name))? {
                continue;
            }
            let kept = self.store.versions(table).await?;
            if !kept.contains(&version) {
                return Err(Error::NoVersion { table: table.into(), version, kept });
            }
            self.context.register_table(in_database(&name), self.store.provider(table, Some(version)).await?)?;
        }
        Ok(())
    }

    /// Register one of the database's tables at its latest version, and the views over it.
    pub(super) async fn reregister(&self, table: &'static str) -> Result<()> {
        self.register_latest(table).await?;
        if table == schema::IMAGES {
            // what a change of images writes beside it
            self.register_latest(schema::CURATION_LOG).await?;
            self.register_latest(schema::DELETIONS).await?;
        }
        self.register_views().await
    }

    async fn register_latest(&self, table: &'static str) -> Result<()> {
        let latest = self.store.provider(table, None).await?;
        if table == schema::IMAGES {
            self.banks.see_images(self.store.version(table).await?);
        }
        let name = in_database(table);
        self.context.deregister_table(name.clone())?;
        self.context.register_table(name, latest)?;
        Ok(())
    }

    /// Register the views as they are stored now, over the tables as the session has them now.
    pub(super) async fn register_views(&self) -> Result<()> {
        for view in self.stored_views() {
            if !self.is_broken(&view.name) {
                self.context.deregister_table(in_database(&view.name))?;
            }
        }
        let mut stored: Vec<StoredView> = self.store.read_rows(schema::VIEWS).await?;
        stored.sort_by(|a, b| (&a.created_at, &a.name).cmp(&(&b.created_at, &b.name)));
        let mut broken = BTreeMap::new();
        let mut waiting: Vec<&StoredView> = stored.iter().collect();
        // a view that was replaced may read one that was made after it: go round while that helps
        while !waiting.is_empty() {
            let (before, mut left) = (waiting.len(), Vec::new());
            broken.clear();
            for view in waiting {
                if let Err(error) = self.register_view(&view.definition).await {
                    broken.insert(view.name.clone(), error.to_string());
                    left.push(view);
                }
            }
            if left.len() == before {
                break;
            }
            waiting = left;
        }
        *self.lock_views() = Views { stored, broken };
        Ok(())
    }

    /// Whether the database has a view of this name, working or not.
    pub(super) fn is_view(&self, name: &str) -> bool {
        self.stored_views().iter().any(|view| view.name == name)
    }

    /// Say so where a statement reads a view that does not work.
    pub(super) fn refuse_broken_views(&self, statement: &Statement) -> Result<()> {
        let broken = self.lock_views().broken.clone();
        if broken.is_empty() {
            return Ok(());
        }
        for reference in self.context.state().resolve_table_references(statement)? {
            if let Some((view, reason)) = self.name_in_database(&reference).and_then(|name| broken.get_key_value(&name))
            {
                return Err(Error::BrokenView { view: view.clone(), reason: reason.clone() });
            }
        }
        Ok(())
    }

    pub(super) fn lock_prepared(&self) -> MutexGuard<'_, PreparedStatements> {
        self.prepared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn lock_views(&self) -> MutexGuard<'_, Views> {
        self.views.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn stored_views(&self) -> Vec<StoredView> {
        self.lock_views().stored.clone()
    }

    fn is_broken(&self, name: &str) -> bool {
        self.lock_views().broken.contains_key(name)
    }

    /// Plan a definition and register its view.
    pub(super) async fn register_view(&self, definition: &str) -> Result<()> {
        let statement = DFParser::parse_sql(definition)?.pop_front().ok_or(Error::EmptyQuery)?;
        self.register_versions(&statement).await?;
        let mut plan = self.context.state().statement_to_plan(statement).await?;
        if let LogicalPlan::Ddl(DdlStatement::CreateView(view)) = &mut plan {
            view.name = in_database(view.name.table());
        }
        self.context.execute_logical_plan(plan).await?;
        Ok(())
    }
}

/// The table and the version that `images@12` means.
pub(super) fn versioned(name: &str) -> Option<(&'static str, u64)> {
    let (table, version) = name.split_once('@')?;
    Some((schema::TABLES.into_iter().find(|known| *known == table)?, version.parse().ok()?))
}

/// The full name of a table or view of the database.
pub(super) fn in_database(name: &str) -> TableReference {
    TableReference::full(SCHEMA.0, SCHEMA.1, name)
}
