//! The shell's own commands: a backslash, a name, at most one argument. [`COMMANDS`] is the list.

use std::path::PathBuf;

use datafusion::common::TableReference;
use datafusion::logical_expr::TableType;

use super::catalog::{self, Relation};
use crate::cli::{Console, Format, table};
use crate::error::{Error, Result};
use crate::schema;
use crate::sql::session::Session;

/// A command as `\?` lists it.
pub(super) struct Usage {
    pub name: &'static str,
    argument: &'static str,
    what: &'static str,
}

/// Every command.
pub(super) const COMMANDS: [Usage; 8] = [
    Usage { name: "\\?", argument: "", what: "this list" },
    Usage { name: "\\d", argument: "[NAME]", what: "tables and views; or the columns of one, or of 'a file'" },
    Usage { name: "\\df", argument: "[PATTERN]", what: "Outskirt's functions; or all that match, '*' for anything" },
    Usage { name: "\\banks", argument: "", what: "banks" },
    Usage { name: "\\format", argument: "[table|csv|json]", what: "how rows are printed" },
    Usage { name: "\\timing", argument: "[on|off]", what: "rows and seconds of each statement" },
    Usage { name: "\\i", argument: "FILE", what: "run the statements of a file" },
    Usage { name: "\\q", argument: "", what: "leave; so does Ctrl-D" },
];

/// A command that was typed.
#[derive(Debug, PartialEq)]
pub(super) enum Command {
    Help,
    Relations,
    Columns(String),
    Functions(Option<String>),
    Banks,
    /// None asks.
    Format(Option<Format>),
    /// None turns it over.
    Timing(Option<bool>),
    Run(PathBuf),
    Quit,
}

/// Read a command: a line that begins with a backslash.
pub(super) fn parse(line: &str) -> Result<Command> {
    let line = line.trim().trim_end_matches(';').trim_end();
    let (name, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let argument = Some(argument.trim()).filter(|argument| !argument.is_empty());
    let Some(usage) = COMMANDS.iter().find(|command| command.name == name) else {
        return Err(Error::UnknownCommand { name: name.into() });
    };
    let wrong = || Error::CommandUsage { typed: line.into(), usage: format!("{} {}", usage.name, usage.argument) };
    Ok(match (name, argument) {
        ("\\?", None) => Command::Help,
        ("\\d", None) => Command::Relations,
        ("\\d", Some(name)) => Command::Columns(name.into()),
        ("\\df", pattern) => Command::Functions(pattern.map(str::to_owned)),
        ("\\banks", None) => Command::Banks,
        ("\\format", None) => Command::Format(None),
        ("\\format", Some(name)) => Command::Format(Some(format(name)?)),
        ("\\timing", None) => Command::Timing(None),
        ("\\timing", Some("on")) => Command::Timing(Some(true)),
        ("\\timing", Some("off")) => Command::Timing(Some(false)),
        ("\\i", Some(file)) => Command::Run(file.trim_matches('\'').into()),
        ("\\q", None) => Command::Quit,
        _ => return Err(wrong()),
    })
}

/// A format that the shell can print, by name.
fn format(name: &str) -> Result<Format> {
    let known = Format::TEXT;
    known.into_iter().find(|format| format.name() == name).ok_or_else(|| not_in_the_shell(name))
}

/// The error of a format that is no text.
pub(super) fn not_in_the_shell(name: &str) -> Error {
    Error::ShellFormat { name: name.into(), known: Format::TEXT.map(|format| format.name().to_owned()).into() }
}

/// `\?`.
pub(super) fn help(console: &mut Console<'_>) -> Result<()> {
    let row = |command: &Usage| vec![format!("{} {}", command.name, command.argument), command.what.to_owned()];
    console.line(table::render(&["command", ""], &COMMANDS.iter().map(row).collect::<Vec<_>>(), &[]))?;
    console
        .line("A statement ends with ';', also lines later. Tab completes, Ctrl-C cancels, arrows go back in history.")
}

/// `\d`: rows are counted where Lance knows their number.
pub(super) async fn relations(session: &Session, console: &mut Console<'_>) -> Result<()> {
    let mut lines = Vec::new();
    for Relation { name, provider } in catalog::relations(session).await? {
        let kind = match provider.table_type() {
            TableType::Base => "table",
            TableType::View => "view",
            TableType::Temporary => "temporary",
        };
        let counted = schema::TABLES.contains(&name.as_str());
        let rows =
            if counted { catalog::rows(session, &format!("SELECT count(*) FROM {name}")).await? } else { vec![] };
        lines.push(vec![name, kind.to_owned(), rows.concat().concat()]);
    }
    console.line(table::render(&["name", "kind", "rows"], &lines, &[2]))
}

/// `\d NAME`.
pub(super) async fn columns(session: &Session, name: &str, console: &mut Console<'_>) -> Result<()> {
    let provider = match name.strip_prefix('\'').and_then(|name| name.strip_suffix('\'')) {
        Some(file) => session.context().table_provider(TableReference::bare(file)).await?,
        None => match session.context().table_provider(name).await {
            Ok(provider) => provider,
            Err(_) => {
                let known = catalog::relations(session).await?.into_iter().map(|relation| relation.name).collect();
                return Err(Error::UnknownTable { name: name.into(), known });
            }
        },
    };
    let rows: Vec<Vec<String>> = provider
        .schema()
        .fields()
        .iter()
        .map(|field| {
            let named = |key, what| field.metadata().get(key).map(|name| format!("{what} of {name}"));
            let holds = named(schema::BACKBONE_KEY, "embeddings").or_else(|| named(schema::LOGITS_KEY, "logits"));
            let nullable = if field.is_nullable() { "" } else { "not null" };
            vec![field.name().clone(), field.data_type().to_string(), nullable.to_owned(), holds.unwrap_or_default()]
        })
        .collect();
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
pub(super) async fn banks(session: &Session, console: &mut Console<'_>) -> Result<()> {
    let rows = catalog::banks(session).await?;
    if rows.is_empty() {
        return console.notice("no banks yet: 'outskirt bank create' makes one");
    }
    console.line(table::render(&["name", "backbone", "k", "rows", "version"], &rows, &[2, 3, 4]))
}

#[cfg(test)]
mod tests {
    use super::{Command, Format, matches, parse};

    #[test]
    fn commands_are_read() {
        for (line, command) in [
            ("\\q", Command::Quit),
            (" \\d  images ;", Command::Columns("images".into())),
            ("\\df", Command::Functions(None)),
            ("\\df knn*", Command::Functions(Some("knn*".into()))),
            ("\\timing off", Command::Timing(Some(false))),
            ("\\format csv", Command::Format(Some(Format::Csv))),
            ("\\i 'my file.sql'", Command::Run("my file.sql".into())),
        ] {
            assert_eq!(parse(line).unwrap(), command, "{line}");
        }
    }

    #[test]
    fn what_is_no_command_says_what_is() {
        for (line, error) in [
            ("\\x", "unknown command '\\x': \\? lists the commands, and a statement of SQL ends with ';'"),
            ("\\timing maybe", "'\\timing maybe' is not a command: write \\timing [on|off]"),
            ("\\i", "'\\i' is not a command: write \\i FILE"),
            ("\\format xml", "the shell prints table, csv, json, not 'xml'"),
        ] {
            let found = parse(line).unwrap_err().to_string();
            assert!(found.starts_with(error), "{line}: {found}");
        }
    }

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
