//! A DataFusion session over one database: its tables, views, Outskirt's functions and settings.
//!
//! Queries are DataFusion's. What changes the database is not: `change` writes rows of `images` (with `insert` and
//! `update`), `alter` its columns, `views` keeps views, `copy` has files written whole or not at all, `files` finds files by
//! path (`read` as `format` says, `streamed` where DataFusion does not), `condition` checks what commands take as predicates, and `guard`
//! refuses what would damage or hide the database's tables, or what the session's policy does not name. All of them stand on `catalog`,
//! which has the session's tables and views; `walk` comes by the parts of a statement. This file says which of them runs a statement.

mod alter;
mod bind;
mod catalog;
mod change;
mod condition;
mod copy;
mod extension;
mod files;
mod format;
mod guard;
mod hints;
mod insert;
mod prepare;
mod prepared;
mod read;
mod statement;
mod streamed;
mod twins;
mod update;
mod values;
mod views;
mod walk;

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::Result as DataFusionResult;
use datafusion::common::runtime::SpawnedTask;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{EmptyRecordBatchStream, execute_stream};
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::planner::object_name_to_table_reference;
use datafusion::sql::sqlparser::ast;
use futures::StreamExt;

pub use bind::{Parameter, Parameters};
pub use catalog::{MovedOn, Session};
pub use extension::in_own_session;
pub(crate) use statement::expression;

use crate::bank::Banks;
use crate::error::{Error, Result};
use crate::schema;
use crate::sql::functions::register_all;
use crate::sql::functions::settings::explain;
use crate::sql::memory::QueryMemory;
use crate::sql::networks::Networks;
use crate::sql::policy::Policy;
use crate::sql::spill;
use crate::store::Store;

impl Session {
    /// Begin a session that may do what the process may. Files can be queried by path: `SELECT * FROM 'cameras.csv'`.
    pub async fn open(store: &Store) -> Result<Self> {
        Self::with_policy(store, &Policy::default()).await
    }

    /// Begin a session that may reach and run what a policy says.
    pub async fn with_policy(store: &Store, policy: &Policy) -> Result<Self> {
        // what the session finds here is pinned before anybody may prune it
        let _finding = store.read_lock().await?;
        let banks = Arc::new(Banks::load(store).await?);
        let (runtime, spill) = spill::runtime(store.folder(), Arc::new(QueryMemory::new()))?;
        let config = SessionConfig::new()
            .with_information_schema(true)
            .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false)
            // the largest scores first: not the images that have none
            .set_str("datafusion.sql_parser.default_null_ordering", "nulls_last");
        let builder = SessionStateBuilder::new().with_config(config).with_runtime_env(runtime).with_default_features();
        let state = extension::extended(builder, &banks).build();
        let mut context = files::enable(SessionContext::new_with_state(state), policy);
        for table in schema::TABLES {
            context.register_table(table, store.provider(table, None).await?)?;
        }
        let networks = Arc::new(Networks::load(store, policy).await);
        register_all(&mut context, &banks, &networks)?;
        let session = Self::over(context, banks, store.clone(), spill, policy.clone());
        session.register_views().await?;
        Ok(session)
    }

    /// The DataFusion context, to register tables of one's own.
    pub fn context(&self) -> &SessionContext {
        &self.context
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The database's banks.
    pub fn banks(&self) -> &Banks {
        &self.banks
    }

    /// One query, or one setting. What changes data or defines something goes through [`Session::run`].
    pub async fn sql(&self, query: &str) -> Result<DataFrame> {
        let mut statements = self.parse(query)?;
        let count = statements.len();
        match statements.pop_front() {
            Some(statement) if count == 1 => {
                let plan = self.plan(self.executed(statement)?).await?;
                self.guard(&plan)?;
                SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).verify_plan(&plan)?;
                Ok(self.frame(plan).await?)
            }
            _ => Err(Error::ManyStatements { count }),
        }
    }

    /// Run the statements of a text, separated by semicolons, one after the other; the rows of the last one stream, and
    /// those of the others are computed and dropped. Each change is done before the next statement begins.
    ///
    /// Errors: those of [`Self::parse`], before anything is run, and of [`Self::run`]: what ran before it stays done.
    pub async fn execute(&self, text: &str) -> Result<SendableRecordBatchStream> {
        let mut rows = done(())?;
        for statement in self.parse(text)? {
            while let Some(batch) = rows.next().await {
                batch?;
            }
            rows = self.run(statement).await?;
        }
        Ok(rows)
    }

    /// The statements of a text, separated by semicolons.
    pub fn parse(&self, text: &str) -> Result<VecDeque<Statement>> {
        let statements = DFParser::parse_sql(text)?;
        if statements.is_empty() { Err(Error::EmptyQuery) } else { Ok(statements) }
    }

    /// Run one statement; its rows stream. A change is done when this returns, and its one row is the count.
    pub async fn run(&self, statement: Statement) -> Result<SendableRecordBatchStream> {
        let statement = self.executed(statement)?;
        let _running = self.running();
        if let Statement::Statement(parsed) = &statement {
            match parsed.as_ref() {
                ast::Statement::Prepare { name, data_types, statement } => {
                    return done(self.prepare(name, data_types, statement)?);
                }
                ast::Statement::Deallocate { name, .. } => return done(self.deallocate(name)?),
                ast::Statement::StartTransaction { .. }
                | ast::Statement::Commit { .. }
                | ast::Statement::Rollback { .. }
                | ast::Statement::Savepoint { .. } => {
                    return Err(Error::UnsupportedChange {
                        what: "a transaction of several statements".into(),
                        instead: "each statement is one commit; versions of a bank are read as 'bank@version'",
                    });
                }
                ast::Statement::CreateView(view) => {
                    self.policy.check_definition("CREATE VIEW")?;
                    return done(self.create_view(view).await?);
                }
                ast::Statement::Drop { object_type: ast::ObjectType::View, names, if_exists, .. } => {
                    self.policy.check_definition("DROP VIEW")?;
                    return done(self.drop_view(names, *if_exists).await?);
                }
                ast::Statement::AlterTable(alter) if self.changes_images(&alter.name)? => {
                    self.policy.check_change("ALTER TABLE")?;
                    return done(self.alter(alter).await?);
                }
                other => {
                    if let Some(table) = statement::target(other)
                        && self.changes_images(table)?
                    {
                        return counted(self.change(other).await?);
                    }
                }
            }
        }
        let plan = match &statement {
            Statement::Statement(parsed) if matches!(parsed.as_ref(), ast::Statement::Insert(_)) => {
                self.plan_values(statement).await?
            }
            _ => self.plan(statement).await?,
        };
        self.guard(&plan)?;
        // EXPLAIN alone writes nothing
        let (plan, copied) = match plan {
            LogicalPlan::Explain(_) => (plan, Vec::new()),
            plan => self.redirected(files::as_written(plan)?)?,
        };
        // the tables that it reads stay pinned, also where a change moves the session on to other versions
        let pinned = plan.clone();
        let frame = self.frame(plan);
        // on a task of its own: constants are computed while a query is planned, a picture's embedding among them, and whoever
        // cancels it need not wait for that
        let planning = SpawnedTask::spawn(async move { frame.await?.create_physical_plan().await });
        let plan = planning.join_unwind().await.map_err(|_| Error::WorkerDied)??;
        let rows = execute_stream(plan, self.context.task_ctx())?;
        let schema = rows.schema();
        // Lance panics over some damaged files
        let rows = AssertUnwindSafe(rows).catch_unwind();
        let rows = rows.map(move |batch| {
            let _held = &pinned;
            batch.unwrap_or_else(|_| Err(Error::ReadPanicked.into()))
        });
        let rows: SendableRecordBatchStream = Box::pin(RecordBatchStreamAdapter::new(schema, rows));
        if copied.is_empty() { Ok(rows) } else { copy::finished(rows, copied).await }
    }

    /// A plan to be run. EXPLAIN without ANALYZE computes no constants that take long.
    fn frame(&self, plan: LogicalPlan) -> impl Future<Output = DataFusionResult<DataFrame>> + Send + use<> {
        let context = self.context.clone();
        async move {
            if matches!(plan, LogicalPlan::Explain(_)) {
                let mut state = context.state();
                explain(state.config_mut().options_mut());
                return Ok(DataFrame::new(state, plan));
            }
            context.execute_logical_plan(plan).await
        }
    }

    /// Whether a statement that changes this table is ours to carry out; the database's other tables and its views
    /// are refused.
    fn changes_images(&self, name: &ast::ObjectName) -> Result<bool> {
        let reference = object_name_to_table_reference(name.clone(), true)?;
        match self.own_table(&reference) {
            Some(schema::IMAGES) => Ok(true),
            Some(table) => Err(Error::ReadOnly { table: table.into(), instead: schema::written_by(table) }),
            None => match self.name_in_database(&reference) {
                Some(name) if self.is_view(&name) => {
                    Err(Error::ViewExists { name, instead: "rows are changed in the table that it reads" })
                }
                _ => Ok(false),
            },
        }
    }
}

/// What a definition gives: no columns, no rows.
fn done((): ()) -> Result<SendableRecordBatchStream> {
    Ok(Box::pin(EmptyRecordBatchStream::new(Arc::new(Schema::empty()))))
}

/// What a change gives: the number of rows.
fn counted(rows: u64) -> Result<SendableRecordBatchStream> {
    let schema = Arc::new(Schema::new(vec![Field::new("count", DataType::UInt64, false)]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(UInt64Array::from(vec![rows]))])?;
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter([Ok(batch)]))))
}
