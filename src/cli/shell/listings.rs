//! What the shell's commands list: commands, tables, columns, functions, banks.

use arrow::datatypes::FieldRef;
use datafusion::logical_expr::TableType;

use crate::cli::console::Console;
use crate::cli::table;
use crate::cli::typed::commands::{COMMANDS, Usage};
use crate::error::Result;
use crate::sql::catalog;
use crate::sql::session::Session;

/// `\?`.
pub(super) fn help(console: &mut Console<'_>) -> Result<()> {
    let row = |command: &Usage| vec![format!("{} {}", command.name, command.argument), command.what.to_owned()];
    console.line(table::render(&["command", ""], &COMMANDS.iter().map(row).collect::<Vec<_>>(), &[]))?;
    console
        .line("A statement ends with ';', also lines later. Tab completes, Ctrl-C cancels, arrows go back in history.")
}

/// `\d`; `\dt` where only tables are wanted.
pub(super) async fn relations(session: &Session, tables_only: bool, console: &mut Console<'_>) -> Result<()> {
    let mut lines = Vec::new();
    for relation in catalog::relations(session).await? {
        if tables_only && relation.provider.table_type() == TableType::View {
            continue;
        }
        let kind = match relation.provider.table_type() {
            TableType::Base => "table",
            TableType::View => "view",
            TableType::Temporary => "temporary",
        };
        let rows = catalog::count(session, &relation).await?.map_or_else(String::new, |rows| rows.to_string());
        lines.push(vec![relation.name, kind.to_owned(), rows]);
    }
    console.line(table::render(&["name", "kind", "rows"], &lines, &[2]))
}

/// `\d NAME`.
pub(super) async fn columns(session: &Session, name: &str, console: &mut Console<'_>) -> Result<()> {
    let provider = catalog::relation(session, name).await?;
    let schema = provider.schema();
    let row = |field: &FieldRef| {
        let nullable = if field.is_nullable() { "" } else { "not null" };
        let holds = catalog::computed(field).unwrap_or_default();
        vec![field.name().clone(), field.data_type().to_string(), nullable.to_owned(), holds]
    };
    let rows: Vec<Vec<String>> = schema.fields().iter().map(row).collect();
    console.line(table::render(&["column", "type", "", ""], &rows, &[]))?;
    provider.get_table_definition().map_or(Ok(()), |definition| console.line(definition))
}

/// `\df`: Outskirt's functions first.
pub(super) fn functions(session: &Session, pattern: Option<&str>, console: &mut Console<'_>) -> Result<()> {
    let all = catalog::functions(session);
    let listed = all.iter().filter(|(name, function)| match pattern {
        Some(pattern) => matches(pattern, name),
        None => function.own,
    });
    let (own, shipped): (Vec<_>, Vec<_>) = listed.partition(|(_, function)| function.own);
    let row = |(_, f): (&String, &catalog::Function)| vec![f.call.clone(), f.kind.to_owned(), f.description.clone()];
    let rows: Vec<Vec<String>> = own.into_iter().chain(shipped).map(row).collect();
    if rows.is_empty() {
        return console.notice("no function matches");
    }
    console.line(table::render(&["function", "kind", ""], &rows, &[]))?;
    match pattern {
        Some(_) => Ok(()),
        None => console.notice(format!("and {} of DataFusion: \\df * lists them", all.len() - rows.len())),
    }
}

/// Whether a name is as a pattern says: `*` stands for anything, and without one the pattern is any part of the name.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_lowercase(), name.to_lowercase());
    let mut parts = pattern.split('*');
    let (first, rest) = (parts.next().unwrap_or_default(), parts.collect::<Vec<_>>());
    let Some((last, middle)) = rest.split_last() else { return name.contains(first) };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    for part in middle {
        match name.find(part) {
            Some(at) => name = &name[at + part.len()..],
            None => return false,
        }
    }
    name.ends_with(last)
}

/// `\banks`.
pub(super) fn banks(session: &Session, console: &mut Console<'_>) -> Result<()> {
    let banks = session.banks();
    let row = |name: String| -> Result<Vec<String>> {
        let bank = banks.definition(&name)?;
        let numbers = [bank.k.to_string(), bank.row_count.to_string(), bank.table_version.to_string()];
        Ok([name, bank.backbone.clone()].into_iter().chain(numbers).collect())
    };
    let rows = banks.names().into_iter().map(row).collect::<Result<Vec<_>>>()?;
    if rows.is_empty() {
        return console.notice("no banks yet: 'outskirt bank create' makes one");
    }
    console.line(table::render(&["name", "backbone", "k", "rows", "version"], &rows, &[2, 3, 4]))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        for (pattern, name) in [("knn", "knn_ood_score"), ("OOD", "knn_ood_score"), ("knn*score", "knn_ood_score")] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("score*", "knn_ood_score"), ("*knn", "knn_ood_score"), ("x", "knn_ood_score")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
        assert!(matches("*", "any") && matches("a*n*y", "any"));
    }
}
