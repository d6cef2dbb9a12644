//! A DataFusion session over one database: its tables, views, Outskirt's functions and settings.
//!
//! Queries are DataFusion's. What changes the database is not: `change` writes rows of `images` (with `insert` and
//! `update`), `alter` its columns, `views` keeps views, and `guard` refuses what would damage or hide the database's tables.

mod alter;
mod change;
mod guard;
mod insert;
mod update;
mod views;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use arrow::array::{RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::execution::context::SQLOptions;
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{EmptyRecordBatchStream, execute_stream};
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use datafusion::sql::TableReference;
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::planner::object_name_to_table_reference;
use datafusion::sql::sqlparser::ast;

use crate::bank::Banks;
use crate::error::{Error, Result};
use crate::schema;
use crate::sql::functions::{Settings, register_all};
use crate::sql::networks::Networks;
use crate::sql::planner::{self, Planner};
use crate::store::{ReadLock, Store};
pub(crate) use change::expression;
use views::Views;

/// Where the database's tables are, among the schemas that a session may have.
const HOME: (&str, &str) = ("datafusion", "public");

/// SQL over a database, as it was when the session began: tables keep their version, banks their definition. A
/// change through the session moves `images` to the version that it makes.
pub struct Session {
    context: SessionContext,
    banks: Arc<Banks>,
    store: Store,
    views: Mutex<Views>,
    /// What it sees is not pruned.
    _reader: ReadLock,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("store", &self.store).field("banks", &self.banks).finish_non_exhaustive()
    }
}

impl Session {
    /// Begin a session. Files can be queried by path: `SELECT * FROM 'cameras.csv'`.
    pub async fn open(store: &Store) -> Result<Self> {
        let config = SessionConfig::new()
            .with_information_schema(true)
            .with_option_extension(Settings::default())
            .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false)
            // the largest scores first: not the images that have none
            .set_str("datafusion.sql_parser.default_null_ordering", "nulls_last");
        let reader = store.read_lock().await?;
        let banks = Arc::new(Banks::load(store).await?);
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_default_features()
            .with_optimizer_rules(planner::rules(&banks))
            .with_query_planner(Arc::new(Planner::new(&banks)))
            .build();
        let mut context = SessionContext::new_with_state(state).enable_url_table();
        for table in schema::TABLES {
            context.register_table(table, store.provider(table, None).await?)?;
        }
        register_all(&mut context, &banks, &Arc::new(Networks::load(store).await))?;
        let session = Self { context, banks, store: store.clone(), views: Mutex::default(), _reader: reader };
        session.load_views().await?;
        Ok(session)
    }

    /// The DataFusion context, to register tables of one's own.
    pub fn context(&self) -> &SessionContext {
        &self.context
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
                let plan = self.plan(statement).await?;
                SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).verify_plan(&plan)?;
                Ok(self.context.execute_logical_plan(plan).await?)
            }
            _ => Err(Error::ManyStatements { count }),
        }
    }

    /// The statements of a text, separated by semicolons.
    pub fn parse(&self, text: &str) -> Result<VecDeque<Statement>> {
        let statements = DFParser::parse_sql(text)?;
        if statements.is_empty() { Err(Error::EmptyQuery) } else { Ok(statements) }
    }

    /// Run one statement; its rows stream. A change is done when this returns, and its one row is the count.
    pub async fn run(&self, statement: Statement) -> Result<SendableRecordBatchStream> {
        if let Statement::Statement(parsed) = &statement {
            match parsed.as_ref() {
                ast::Statement::StartTransaction { .. }
                | ast::Statement::Commit { .. }
                | ast::Statement::Rollback { .. }
                | ast::Statement::Savepoint { .. } => {
                    return Err(Error::UnsupportedChange {
                        what: "a transaction of several statements".into(),
                        instead: "each statement is one commit; versions of a bank are read as 'bank@version'",
                    });
                }
                ast::Statement::CreateView(view) => return done(self.create_view(view).await?),
                ast::Statement::Drop { object_type: ast::ObjectType::View, names, if_exists, .. } => {
                    return done(self.drop_view(names, *if_exists).await?);
                }
                ast::Statement::AlterTable(alter) if self.changes_images(&alter.name)? => {
                    return done(self.alter(alter).await?);
                }
                other => {
                    if let Some(table) = change::target(other)
                        && self.changes_images(table)?
                    {
                        return counted(self.change(other).await?);
                    }
                }
            }
        }
        let plan = self.plan(statement).await?;
        self.guard(&plan)?;
        let frame = self.context.execute_logical_plan(plan).await?;
        let plan = frame.create_physical_plan().await?;
        Ok(execute_stream(plan, self.context.task_ctx())?)
    }

    /// Plan a statement, or say which view of those it reads does not work.
    async fn plan(&self, statement: Statement) -> Result<LogicalPlan> {
        self.refuse_broken_views(&statement)?;
        Ok(self.context.state().statement_to_plan(statement).await?)
    }

    /// Whether a statement that changes this table is ours to carry out; the database's other tables and its views
    /// are refused.
    fn changes_images(&self, name: &ast::ObjectName) -> Result<bool> {
        let reference = object_name_to_table_reference(name.clone(), true)?;
        match self.own_table(&reference) {
            Some(schema::IMAGES) => Ok(true),
            Some(table) => Err(Error::ReadOnly { table: table.into(), instead: schema::written_by(table) }),
            None => match self.at_home(&reference) {
                Some(name) if self.is_view(&name) => {
                    Err(Error::ViewExists { name, instead: "rows are changed in the table that it reads" })
                }
                _ => Ok(false),
            },
        }
    }

    /// The name of a table in the schema where the database's tables are; none where it is in another schema.
    fn at_home(&self, reference: &TableReference) -> Option<String> {
        let state = self.context.state();
        let defaults = &state.config_options().catalog;
        let resolved = reference.clone().resolve(&defaults.default_catalog, &defaults.default_schema);
        ((&*resolved.catalog, &*resolved.schema) == HOME).then(|| resolved.table.to_string())
    }

    /// The table of the database that a name means.
    fn own_table(&self, reference: &TableReference) -> Option<&'static str> {
        let name = self.at_home(reference)?;
        schema::TABLES.into_iter().find(|table| *table == name)
    }

    /// Show one of the database's tables at its latest version, and the views over it.
    async fn renew(&self, table: &'static str) -> Result<()> {
        let latest = self.store.provider(table, None).await?;
        if table == schema::IMAGES {
            self.banks.see_images(self.store.version(table).await?);
        }
        let name = home(table);
        self.context.deregister_table(name.clone())?;
        self.context.register_table(name, latest)?;
        self.load_views().await
    }
}

/// The full name of a table or view of the database.
fn home(name: &str) -> TableReference {
    TableReference::full(HOME.0, HOME.1, name)
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
