//! What Tab offers: names of the session that begin as the word under the cursor does, upper case or lower.

use datafusion::common::utils::quote_identifier;

use super::commands::COMMANDS;
use super::statement;
use crate::cli::format::Format;
use crate::error::Result;
use crate::sql::catalog;
use crate::sql::session::Session;

/// Names that a word can become.
#[derive(Debug, Default)]
pub struct Names {
    tables: Vec<String>,
    /// (table, column).
    columns: Vec<(String, String)>,
    functions: Vec<String>,
    banks: Vec<String>,
    settings: Vec<String>,
}

/// Words of SQL that are worth a Tab.
const KEYWORDS: [&str; 74] = [
    "ALL",
    "AND",
    "ANTI",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COPY",
    "CREATE",
    "CROSS",
    "CURRENT",
    "DELETE",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "DROP",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "EXPLAIN",
    "EXTERNAL",
    "FALSE",
    "FIRST",
    "FOLLOWING",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "ILIKE",
    "IN",
    "INNER",
    "INSERT",
    "INTERSECT",
    "INTO",
    "IS",
    "JOIN",
    "LAST",
    "LATERAL",
    "LEFT",
    "LIKE",
    "LIMIT",
    "LOCATION",
    "NOT",
    "NULL",
    "NULLS",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OVER",
    "PARTITION",
    "PRECEDING",
    "RIGHT",
    "SELECT",
    "SEMI",
    "SET",
    "SHOW",
    "STORED",
    "TABLE",
    "THEN",
    "UNBOUNDED",
    "UNION",
    "UNNEST",
    "UPDATE",
    "USING",
    "VALUES",
    "VIEW",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WITH",
];
/// After these a table comes.
const BEFORE_TABLES: [&str; 6] = ["FROM", "JOIN", "INTO", "UPDATE", "TABLE", "DESCRIBE"];

impl Names {
    /// Of a session, as it is now.
    pub async fn of(session: &Session) -> Result<Self> {
        let relations = catalog::relations(session).await?;
        let mut columns = Vec::new();
        for relation in &relations {
            for field in relation.provider.schema().fields() {
                columns.push((relation.name.clone(), quote_identifier(field.name()).into_owned()));
            }
        }
        let tables = relations.into_iter().map(|relation| relation.name).collect();
        let functions = catalog::functions(session).into_keys().collect();
        Ok(Self { tables, columns, functions, banks: session.banks().names(), settings: catalog::settings(session) })
    }

    /// Where the word under the cursor (a byte of `line`) begins, and what it may become. `before` is what the
    /// statement has in earlier lines.
    pub fn complete(&self, before: &str, line: &str, cursor: usize) -> (usize, Vec<String>) {
        let line = line.get(..cursor).unwrap_or(line);
        let (word, mut found) = self.candidates(before, line);
        found.sort_unstable();
        found.dedup();
        (line.len() - word, found)
    }

    /// The length of the word at the end of `line`, and what it may become.
    fn candidates(&self, before: &str, line: &str) -> (usize, Vec<String>) {
        let begins = |name: &&String, word: &str| begins_with(name, word);
        if let (true, Some(command)) = (statement::is_blank(before), line.trim_start().strip_prefix('\\')) {
            return self.command(command);
        }
        if let Some(word) = quoted(before, line) {
            return (word.len(), self.banks.iter().filter(|name| begins(name, word)).cloned().collect());
        }
        let start = line
            .rfind(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.' | '"')))
            .map_or(0, |at| at + line[at..].chars().next().map_or(0, char::len_utf8));
        let (head, word) = line.split_at(start);
        let last = head.split_whitespace().next_back().or_else(|| before.split_whitespace().next_back());
        if last.is_some_and(|last| BEFORE_TABLES.iter().any(|keyword| keyword.eq_ignore_ascii_case(last))) {
            return (word.len(), self.tables.iter().filter(|name| begins(name, word)).cloned().collect());
        }
        if word.is_empty() {
            return (0, Vec::new());
        }
        let settings: Vec<String> = self.settings.iter().filter(|name| begins(name, word)).cloned().collect();
        if let Some((table, column)) = word.rsplit_once('.') {
            let known = self.tables.iter().any(|name| name.eq_ignore_ascii_case(table));
            let of_table = |name: &str| !known || name.eq_ignore_ascii_case(table);
            let columns = self.columns.iter().filter(|(name, own)| of_table(name) && begins_with(own, column));
            let columns: Vec<String> = columns.map(|(_, column)| column.clone()).collect();
            return if settings.is_empty() { (column.len(), columns) } else { (word.len(), settings) };
        }
        let lower = word.chars().all(|c| !c.is_uppercase());
        let keywords = KEYWORDS.iter().filter(|keyword| begins_with(keyword, word));
        let keywords = keywords.map(|keyword| if lower { keyword.to_lowercase() } else { keyword.to_string() });
        let columns = self.columns.iter().map(|(_, column)| column);
        let names = columns.chain(&self.tables).chain(&self.functions).filter(|name| begins(name, word)).cloned();
        (word.len(), names.chain(keywords).chain(settings).collect())
    }

    /// Of a command, what comes after its backslash.
    fn command(&self, text: &str) -> (usize, Vec<String>) {
        let Some((command, argument)) = text.split_once(char::is_whitespace) else {
            let names = COMMANDS.iter().filter_map(|command| command.name.strip_prefix('\\'));
            return (text.len(), names.filter(|name| begins_with(name, text)).map(str::to_owned).collect());
        };
        let argument = argument.trim_start();
        let known: Vec<&str> = match command {
            "d" => self.tables.iter().map(String::as_str).collect(),
            "df" => self.functions.iter().map(String::as_str).collect(),
            "format" => Format::TEXT.iter().map(|format| format.name()).collect(),
            "timing" | "x" | "pager" => vec!["on", "off"],
            "rows" => vec!["all"],
            _ => Vec::new(),
        };
        let found = known.into_iter().filter(|name| begins_with(name, argument)).map(str::to_owned).collect();
        (argument.len(), found)
    }
}

/// Also where the name needs quotes, and whether they are there already or not.
fn begins_with(name: &str, word: &str) -> bool {
    let (name, word) = (name.trim_start_matches('"'), word.trim_start_matches('"'));
    name.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
}

/// What stands in the single quotes that are open at the end of `line`.
fn quoted<'a>(before: &str, line: &'a str) -> Option<&'a str> {
    let at = line.rfind('\'')?;
    let open =
        statement::is_open(&format!("{before}{line}")) && !statement::is_open(&format!("{before}{}", &line[..at]));
    open.then(|| &line[at + 1..])
}
