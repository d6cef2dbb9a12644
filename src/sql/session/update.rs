//! UPDATE images: new values of some columns, written to the rows that a query finds.

use std::collections::{HashMap, HashSet};

use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::{Field, Schema, UInt64Type};
use datafusion::sql::sqlparser::ast;

use super::catalog::Session;
use super::statement::{column_name, parsed};
use super::values::{computed_by, rows};
use crate::error::{Error, Result};
use crate::schema;
use crate::store::WriteLock;

impl Session {
    /// UPDATE images.
    pub(super) async fn update(&self, lock: &WriteLock, update: &ast::Update) -> Result<u64> {
        let table = self.store.schema(schema::IMAGES).await?;
        let (query, assigned) = new_values(update)?;
        let external = self.external().await?;
        let mut fields = vec![Field::clone(table.field_with_name(schema::ID)?)];
        for column in &assigned {
            let field = table.field_with_name(column).map_err(|_| unknown(column, &table, &external))?;
            refuse_kept(field, &external)?;
            fields.push(field.clone());
        }
        let gathered = self.values(query, &fields).await?;
        let columns = &gathered.columns;
        let ids = columns[0].as_primitive::<UInt64Type>();
        let mut seen = HashSet::with_capacity(ids.len());
        if let Some(&id) = ids.values().iter().find(|&&id| !seen.insert(id)) {
            return Err(Error::UpdatedTwice { id });
        }
        let count = ids.len() as u64;
        let new =
            |name: &str| fields.iter().position(|field| field.name() == name).map(|at| columns[at].as_string::<i32>());
        let (datasets, uris) = (new(schema::DATASET), new(schema::URI));
        if datasets.is_some() || uris.is_some() {
            let rows: HashMap<u64, usize> = ids.values().iter().enumerate().map(|(row, &id)| (id, row)).collect();
            let value = |values: Option<&StringArray>, row: usize, before: &String| match values {
                Some(values) if values.is_valid(row) => values.value(row).to_owned(),
                _ => before.clone(),
            };
            self.refuse_twins_of(|id, (dataset, uri)| {
                let &row = rows.get(&id)?;
                Some((value(datasets, row, dataset), value(uris, row, uri)))
            })
            .await?;
        }
        if count > 0 {
            let batch = rows(fields, columns.clone())?;
            self.begin_commit();
            self.store.update_images(lock, batch).await?;
        }
        Ok(count)
    }
}

/// UPDATE as the query that finds its rows, `SELECT id, new values FROM … WHERE …`, and the columns it assigns.
/// DataFusion's own plan of an UPDATE knows no FROM.
fn new_values(update: &ast::Update) -> Result<(ast::Statement, Vec<String>)> {
    let unsupported = |what: &str| Error::UnsupportedChange {
        what: format!("UPDATE with {what}"),
        instead: "write UPDATE images SET column = value [FROM …] [WHERE …]",
    };
    let clauses = [
        ("RETURNING", update.returning.is_some()),
        ("OUTPUT", update.output.is_some()),
        ("OR", update.or.is_some()),
        ("ORDER BY", !update.order_by.is_empty()),
        ("LIMIT", update.limit.is_some()),
        ("JOIN", !update.table.joins.is_empty()),
    ];
    if let Some((clause, _)) = clauses.into_iter().find(|(_, is_there)| *is_there) {
        return Err(unsupported(clause));
    }
    let ast::TableFactor::Table { name, alias, .. } = &update.table.relation else {
        return Err(unsupported("a subquery as its table"));
    };
    let mut id: Vec<ast::Ident> = match alias {
        Some(alias) => vec![alias.name.clone()],
        None => name.0.iter().filter_map(|part| part.as_ident().cloned()).collect(),
    };
    id.push(ast::Ident::new(schema::ID));
    let mut projection = vec![ast::SelectItem::UnnamedExpr(ast::Expr::CompoundIdentifier(id))];
    let mut assigned: Vec<String> = Vec::new();
    for assignment in &update.assignments {
        let ast::AssignmentTarget::ColumnName(target) = &assignment.target else {
            return Err(unsupported("SET (a, b) = (…)"));
        };
        let Some(column) = column_name(target) else {
            return Err(unsupported("a computed column name"));
        };
        if assigned.contains(&column) {
            return Err(unsupported(&format!("two values for {column}")));
        }
        // named by position, because a value may have the name of a column of its own
        let alias = ast::Ident::with_quote('"', format!("new value of {column}"));
        projection.push(ast::SelectItem::ExprWithAlias { expr: assignment.value.clone(), alias });
        assigned.push(column);
    }
    let mut from = vec![update.table.clone()];
    if let Some(ast::UpdateTableFromKind::BeforeSet(more) | ast::UpdateTableFromKind::AfterSet(more)) = &update.from {
        from.extend(more.iter().cloned());
    }
    let mut statement = parsed("SELECT 1")?;
    if let ast::Statement::Query(query) = &mut statement
        && let ast::SetExpr::Select(select) = query.body.as_mut()
    {
        (select.projection, select.from, select.selection) = (projection, from, update.selection.clone());
    }
    Ok((statement, assigned))
}

fn unknown(column: &str, table: &Schema, external: &[String]) -> Error {
    let settable = table.fields().iter().filter(|field| refuse_kept(field, external).is_ok());
    Error::UnknownColumn { column: column.into(), known: settable.map(|field| field.name().clone()).collect() }
}

/// Refuse to set a column that stands for the file or for its place in banks.
pub(super) fn refuse_kept(field: &Field, external: &[String]) -> Result<()> {
    let column = field.name().as_str();
    let instead = match column {
        schema::ID => "banks and graphs know the image by it; INSERT another row and DELETE this one".into(),
        schema::CONTENT_HASH | schema::BYTES | schema::INGESTED_AT => {
            "it describes the file, and 'outskirt ingest' writes it again where that has changed".into()
        }
        _ => match computed_by(field, external) {
            Some(instead) => instead,
            None => return Ok(()),
        },
    };
    Err(Error::KeptColumn { column: column.into(), instead })
}
