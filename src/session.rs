//! A DataFusion session over one database: its tables, Outskirt's functions and settings.

use std::collections::VecDeque;
use std::sync::Arc;

use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder};
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use datafusion::sql::parser::{DFParser, Statement};

use crate::bank::Banks;
use crate::error::{Error, Result};
use crate::functions::{Settings, register_all};
use crate::planner::{self, Planner};
use crate::schema;
use crate::store::Store;

/// SQL over a database, as it was when the session began: tables keep their version, banks their definition.
pub struct Session {
    context: SessionContext,
    banks: Arc<Banks>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("banks", &self.banks).finish()
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
        register_all(&mut context, &banks)?;
        Ok(Self { context, banks })
    }

    /// The DataFusion context, to register tables of one's own.
    pub fn context(&self) -> &SessionContext {
        &self.context
    }

    /// The database's banks.
    pub fn banks(&self) -> &Banks {
        &self.banks
    }

    /// One query.
    pub async fn sql(&self, query: &str) -> Result<DataFrame> {
        Ok(self.context.sql(query).await?)
    }

    /// The statements of a text, separated by semicolons.
    pub fn parse(&self, text: &str) -> Result<VecDeque<Statement>> {
        let statements = DFParser::parse_sql(text)?;
        if statements.is_empty() { Err(Error::EmptyQuery) } else { Ok(statements) }
    }

    /// Run one statement; its rows stream.
    pub async fn run(&self, statement: Statement) -> Result<SendableRecordBatchStream> {
        let plan = self.context.state().statement_to_plan(statement).await?;
        // a session would only forget the table, and its user believe that it is gone
        if let LogicalPlan::Ddl(DdlStatement::DropTable(dropped)) = &plan
            && schema::TABLES.contains(&dropped.name.table())
        {
            return Err(Error::ReadOnly { table: dropped.name.table().into() });
        }
        let frame = self.context.execute_logical_plan(plan).await?;
        let plan = frame.create_physical_plan().await?;
        Ok(execute_stream(plan, self.context.task_ctx())?)
    }
}
