//! Views that stay in the database: their text is a row of `views`, and every session plans it anew.
//!
//! A view may read tables and views of the database and files by their whole path: what is there tomorrow as well.
//! One that does not plan any more (its bank was dropped, say) breaks nothing but the statements that read it.

use std::path::Path;

use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::planner::object_name_to_table_reference;
use datafusion::sql::sqlparser::ast;

use super::catalog::{Session, StoredView, in_database, versioned};
use super::walk::walk_expressions;
use crate::error::{Error, Result};
use crate::schema;
use crate::store::{now, quote};

impl Session {
    /// CREATE VIEW: planned from the text that is stored, so that what is found today is found tomorrow.
    pub(super) async fn create_view(&self, view: &ast::CreateView) -> Result<()> {
        let name = self.view_name(&view.name)?;
        if !schema::is_name(&name) {
            return Err(Error::BadName { what: "view", name });
        }
        walk_expressions(&mut view.query.clone(), |part| match part {
            ast::Expr::Value(value) => match &value.value {
                ast::Value::Placeholder(place) => {
                    Err(Error::ViewPlaceholder { view: name.clone(), place: place.clone() })
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        })?;
        let lock = self.store.lock_in_turn().await?;
        self.register_views().await?;
        let stored = self.stored_views();
        let earlier = stored.iter().find(|stored| stored.name == name);
        if earlier.is_some() && view.if_not_exists {
            return Ok(());
        }
        if earlier.is_some() && !view.or_replace {
            return Err(Error::ViewExists { name, instead: "CREATE OR REPLACE VIEW changes it" });
        }
        if earlier.is_none() && self.context.table_exist(in_database(&name))? {
            return Err(Error::SessionTable { name });
        }
        let mut definition = view.clone();
        (definition.or_replace, definition.if_not_exists) = (false, false);
        // without its schema, in quotes where it was
        definition.name = ast::ObjectName(definition.name.0.split_off(definition.name.0.len() - 1));
        let row = StoredView {
            definition: definition.to_string(),
            created_at: earlier.map_or_else(now, |stored| stored.created_at.clone()),
            name,
        };
        let view = in_database(&row.name);
        let written = match self.try_view(&row, &stored).await {
            Ok(()) => {
                self.begin_commit();
                self.store.write_rows(&lock, schema::VIEWS, &["name"], &[row]).await
            }
            refused => refused,
        };
        // as they are stored now: the new one, or the old one back
        self.context.deregister_table(view)?;
        self.reregister(schema::VIEWS).await?;
        written
    }

    /// DROP VIEW, working or not.
    pub(super) async fn drop_view(&self, names: &[ast::ObjectName], if_exists: bool) -> Result<()> {
        let [name] = names else {
            let what = "DROP VIEW with several names".into();
            return Err(Error::UnsupportedChange { what, instead: "drop them one by one" });
        };
        let name = self.view_name(name)?;
        let lock = self.store.lock_in_turn().await?;
        self.register_views().await?;
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
        self.begin_commit();
        self.store.delete(&lock, schema::VIEWS, &format!("name = {}", quote(&name))).await?;
        self.reregister(schema::VIEWS).await
    }

    /// The name of a view in the database, where no table has it.
    fn view_name(&self, name: &ast::ObjectName) -> Result<String> {
        let reference = object_name_to_table_reference(name.clone(), true)?;
        if let Some(table) = self.own_table(&reference) {
            return Err(Error::OwnTable { name: table.into() });
        }
        self.name_in_database(&reference).ok_or_else(|| Error::BadName { what: "view", name: reference.to_string() })
    }

    /// Register a new view, and refuse one that would not be the same, or not be there, in another session.
    async fn try_view(&self, row: &StoredView, stored: &[StoredView]) -> Result<()> {
        let view = row.name.as_str();
        let refused = |table: &str, reason| Error::ViewReads { view: view.into(), table: table.into(), reason };
        let mut pending = self.reads(&row.definition)?;
        let mut visited = Vec::new();
        while let Some(name) = pending.pop() {
            if name == view {
                let through = visited.last().cloned().unwrap_or(name);
                return Err(refused(&through, "and so itself: name the tables instead"));
            }
            if let Some(inner) = stored.iter().find(|stored| stored.name == name)
                && !visited.contains(&name)
            {
                pending.extend(self.reads(&inner.definition)?);
                visited.push(name);
            }
        }
        let statement = DFParser::parse_sql(&row.definition)?.pop_front().ok_or(Error::EmptyQuery)?;
        self.refuse_broken_views(&query_of(&statement))?;
        self.context.deregister_table(in_database(view))?;
        self.register_view(&row.definition).await?;
        for reference in self.context.state().resolve_table_references(&query_of(&statement))? {
            let name = reference.table();
            if reference.schema() == Some("information_schema") || self.own_table(&reference).is_some() {
                continue;
            }
            match self.name_in_database(&reference) {
                Some(name) if stored.iter().any(|stored| stored.name == name) => {}
                Some(_) if !self.context.table_exist(reference.clone())? => {
                    if !Path::new(name).is_absolute() && !name.contains("://") {
                        return Err(refused(name, "which depends on the folder one stands in: write the whole path"));
                    }
                }
                Some(name) if versioned(&name).is_some() => {
                    let reason = "an earlier version, which 'outskirt optimize' may remove: let it read the table itself, and name \
                                  the version in queries";
                    return Err(refused(&name, reason));
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

    /// The tables and views of the database that a view's definition names.
    fn reads(&self, definition: &str) -> Result<Vec<String>> {
        let statement = DFParser::parse_sql(definition)?.pop_front().ok_or(Error::EmptyQuery)?;
        let references = self.context.state().resolve_table_references(&query_of(&statement))?;
        Ok(references.iter().filter_map(|reference| self.name_in_database(reference)).collect())
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
