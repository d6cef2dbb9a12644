//! Views that stay in the database: their text is a row of `views`, and every session plans it anew.
//!
//! A view may read tables and views of the database and files by their whole path: what is there tomorrow as well.
//! One that does not plan any more (its bank was dropped, say) breaks nothing but the statements that read it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::MutexGuard;

use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::planner::object_name_to_table_reference;
use datafusion::sql::sqlparser::ast;
use serde::{Deserialize, Serialize};

use super::{Session, home};
use crate::error::{Error, Result};
use crate::schema;
use crate::store::{now, quote};

/// One row of the table `views`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Stored {
    name: String,
    definition: String,
    created_at: String,
}

/// What a session knows of the database's views.
#[derive(Debug, Default)]
pub(super) struct Views {
    stored: Vec<Stored>,
    /// Those that do not plan, and why.
    broken: BTreeMap<String, String>,
}

impl Session {
    /// Register the views as they are stored now, over the tables as the session has them now.
    pub(super) async fn load_views(&self) -> Result<()> {
        for view in self.stored_views() {
            if !self.is_broken(&view.name) {
                self.context.deregister_table(home(&view.name))?;
            }
        }
        let mut stored: Vec<Stored> = self.store.read_rows(schema::VIEWS).await?;
        stored.sort_by(|a, b| (&a.created_at, &a.name).cmp(&(&b.created_at, &b.name)));
        let mut broken = BTreeMap::new();
        let mut waiting: Vec<&Stored> = stored.iter().collect();
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
        *self.known() = Views { stored, broken };
        Ok(())
    }

    /// Whether the database has a view of this name, working or not.
    pub(super) fn is_view(&self, name: &str) -> bool {
        self.stored_views().iter().any(|view| view.name == name)
    }

    /// Say so where a statement reads a view that does not work.
    pub(super) fn refuse_broken_views(&self, statement: &Statement) -> Result<()> {
        let broken = self.known().broken.clone();
        if broken.is_empty() {
            return Ok(());
        }
        for reference in self.context.state().resolve_table_references(statement)? {
            if let Some((view, reason)) = self.at_home(&reference).and_then(|name| broken.get_key_value(&name)) {
                return Err(Error::BrokenView { view: view.clone(), reason: reason.clone() });
            }
        }
        Ok(())
    }

    /// CREATE VIEW: planned from the text that is stored, so that what is found today is found tomorrow.
    pub(super) async fn create_view(&self, view: &ast::CreateView) -> Result<()> {
        let name = self.view_name(&view.name)?;
        if !schema::is_name(&name) {
            return Err(Error::BadName { what: "view", name });
        }
        let lock = self.store.lock()?;
        self.load_views().await?;
        let stored = self.stored_views();
        let earlier = stored.iter().find(|stored| stored.name == name);
        if earlier.is_some() && view.if_not_exists {
            return Ok(());
        }
        if earlier.is_some() && !view.or_replace {
            return Err(Error::ViewExists { name, instead: "CREATE OR REPLACE VIEW changes it" });
        }
        if earlier.is_none() && self.context.table_exist(home(&name))? {
            return Err(Error::SessionTable { name });
        }
        let mut definition = view.clone();
        (definition.or_replace, definition.if_not_exists) = (false, false);
        // without its schema, in quotes where it was
        definition.name = ast::ObjectName(definition.name.0.split_off(definition.name.0.len() - 1));
        let row = Stored {
            definition: definition.to_string(),
            created_at: earlier.map_or_else(now, |stored| stored.created_at.clone()),
            name,
        };
        let view = home(&row.name);
        let written = match self.try_view(&row, &stored).await {
            Ok(()) => self.store.write_rows(&lock, schema::VIEWS, &["name"], &[row]).await,
            refused => refused,
        };
        // as they are stored now: the new one, or the old one back
        self.context.deregister_table(view)?;
        self.renew(schema::VIEWS).await?;
        written
    }

    /// DROP VIEW, working or not.
    pub(super) async fn drop_view(&self, names: &[ast::ObjectName], if_exists: bool) -> Result<()> {
        let [name] = names else {
            let what = "DROP VIEW with several names".into();
            return Err(Error::UnsupportedChange { what, instead: "drop them one by one" });
        };
        let name = self.view_name(name)?;
        let lock = self.store.lock()?;
        self.load_views().await?;
        let stored = self.stored_views();
        if !stored.iter().any(|view| view.name == name) {
            let known = stored.into_iter().map(|view| view.name).collect();
            return if if_exists { Ok(()) } else { Err(Error::UnknownView { name, known }) };
        }
        for view in &stored {
            if view.name != name && self.reads(&view.definition).unwrap_or_default().contains(&name) {
                return Err(Error::ViewInUse { view: name, by: view.name.clone() });
            }
        }
        self.store.delete(&lock, schema::VIEWS, &format!("name = {}", quote(&name))).await?;
        self.renew(schema::VIEWS).await
    }

    fn known(&self) -> MutexGuard<'_, Views> {
        self.views.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn stored_views(&self) -> Vec<Stored> {
        self.known().stored.clone()
    }

    fn is_broken(&self, name: &str) -> bool {
        self.known().broken.contains_key(name)
    }

    /// The name of a view in the database, where no table has it.
    fn view_name(&self, name: &ast::ObjectName) -> Result<String> {
        let reference = object_name_to_table_reference(name.clone(), true)?;
        if let Some(table) = self.own_table(&reference) {
            return Err(Error::OwnTable { name: table.into() });
        }
        self.at_home(&reference).ok_or_else(|| Error::BadName { what: "view", name: reference.to_string() })
    }

    /// Plan a definition and register its view.
    async fn register_view(&self, definition: &str) -> Result<()> {
        let statement = DFParser::parse_sql(definition)?.pop_front().ok_or(Error::EmptyQuery)?;
        let mut plan = self.context.state().statement_to_plan(statement).await?;
        if let LogicalPlan::Ddl(DdlStatement::CreateView(view)) = &mut plan {
            view.name = home(view.name.table());
        }
        self.context.execute_logical_plan(plan).await?;
        Ok(())
    }

    /// Register a new view, and refuse one that would not be the same, or not be there, in another session.
    async fn try_view(&self, row: &Stored, stored: &[Stored]) -> Result<()> {
        let view = row.name.as_str();
        let refused = |table: &str, reason| Error::ViewReads { view: view.into(), table: table.into(), reason };
        let mut to_see = self.reads(&row.definition)?;
        let mut seen = Vec::new();
        while let Some(name) = to_see.pop() {
            if name == view {
                let through = seen.last().cloned().unwrap_or(name);
                return Err(refused(&through, "and so itself: name the tables instead"));
            }
            if let Some(inner) = stored.iter().find(|stored| stored.name == name)
                && !seen.contains(&name)
            {
                to_see.extend(self.reads(&inner.definition)?);
                seen.push(name);
            }
        }
        let statement = DFParser::parse_sql(&row.definition)?.pop_front().ok_or(Error::EmptyQuery)?;
        self.refuse_broken_views(&query_of(&statement))?;
        self.context.deregister_table(home(view))?;
        self.register_view(&row.definition).await?;
        for reference in self.context.state().resolve_table_references(&query_of(&statement))? {
            let name = reference.table();
            if reference.schema() == Some("information_schema") || self.own_table(&reference).is_some() {
                continue;
            }
            match self.at_home(&reference) {
                Some(name) if stored.iter().any(|stored| stored.name == name) => {}
                Some(_) if !self.context.table_exist(reference.clone())? => {
                    if !Path::new(name).is_absolute() && !name.contains("://") {
                        return Err(refused(name, "which depends on the folder one stands in: write the whole path"));
                    }
                }
                _ => {
                    let reason =
                        "which is there in this session only: name the file itself, by its whole path, instead";
                    return Err(refused(name, reason));
                }
            }
        }
        Ok(())
    }

    /// The tables and views at home that a view's definition names.
    fn reads(&self, definition: &str) -> Result<Vec<String>> {
        let statement = DFParser::parse_sql(definition)?.pop_front().ok_or(Error::EmptyQuery)?;
        let references = self.context.state().resolve_table_references(&query_of(&statement))?;
        Ok(references.iter().filter_map(|reference| self.at_home(reference)).collect())
    }
}

/// The query of CREATE VIEW, as a statement.
fn query_of(statement: &Statement) -> Statement {
    match statement {
        Statement::Statement(parsed) => match parsed.as_ref() {
            ast::Statement::CreateView(view) => {
                Statement::Statement(Box::new(ast::Statement::Query(view.query.clone())))
            }
            _ => statement.clone(),
        },
        _ => statement.clone(),
    }
}
