//! The shell's own commands: a backslash, a name, at most one argument. [`COMMANDS`] is the list.

use std::path::PathBuf;

use crate::cli::format::{Format, Rows};
use crate::error::{Error, Result};

/// A command as `\?` lists it.
pub(crate) struct Usage {
    pub(crate) name: &'static str,
    pub(crate) argument: &'static str,
    pub(crate) what: &'static str,
}

/// Every command.
pub(crate) const COMMANDS: [Usage; 14] = [
    Usage { name: "\\?", argument: "", what: "this list" },
    Usage { name: "\\d", argument: "[NAME]", what: "tables and views; or the columns of one, or of 'a file'" },
    Usage { name: "\\dt", argument: "", what: "tables" },
    Usage { name: "\\df", argument: "[PATTERN]", what: "Outskirt's functions; or all that match, '*' for anything" },
    Usage { name: "\\banks", argument: "", what: "banks" },
    Usage { name: "\\format", argument: "[table|csv|json]", what: "how rows are printed" },
    Usage { name: "\\x", argument: "[on|off]", what: "a line for each column, for rows that are wide" },
    Usage { name: "\\rows", argument: "[N|all]", what: "how many rows of a table are printed" },
    Usage { name: "\\o", argument: "[FILE]", what: "rows go into a file; without one, to the terminal again" },
    Usage { name: "\\pager", argument: "[on|off]", what: "tables are shown by $PAGER, or less, whole" },
    Usage { name: "\\refresh", argument: "", what: "see the database as it is now; settings begin anew" },
    Usage { name: "\\timing", argument: "[on|off]", what: "rows and seconds of each statement" },
    Usage { name: "\\i", argument: "FILE", what: "run the statements of a file" },
    Usage { name: "\\q", argument: "", what: "leave; so does Ctrl-D" },
];

/// A command that was typed.
#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    Help,
    Relations,
    Tables,
    Columns(String),
    Functions(Option<String>),
    Banks,
    /// None asks.
    Format(Option<Format>),
    /// None turns it over, as below.
    Expanded(Option<bool>),
    /// None asks.
    Rows(Option<Rows>),
    /// None ends it.
    Into(Option<PathBuf>),
    Pager(Option<bool>),
    Refresh,
    Timing(Option<bool>),
    Run(PathBuf),
    Quit,
}

/// Read a command: a line that begins with a backslash.
pub(crate) fn parse(line: &str) -> Result<Command> {
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
        ("\\dt", None) => Command::Tables,
        ("\\x", on) => Command::Expanded(on.map(|on| switch(on).ok_or_else(wrong)).transpose()?),
        ("\\rows", rows) => Command::Rows(rows.map(|rows| rows.parse().map_err(|_| wrong())).transpose()?),
        ("\\o", file) => Command::Into(file.map(|file| file.trim_matches('\'').into())),
        ("\\pager", on) => Command::Pager(on.map(|on| switch(on).ok_or_else(wrong)).transpose()?),
        ("\\refresh", None) => Command::Refresh,
        ("\\timing", on) => Command::Timing(on.map(|on| switch(on).ok_or_else(wrong)).transpose()?),
        ("\\i", Some(file)) => Command::Run(file.trim_matches('\'').into()),
        ("\\q", None) => Command::Quit,
        _ => return Err(wrong()),
    })
}

fn switch(word: &str) -> Option<bool> {
    match word {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

/// A format that the shell can print, by name.
fn format(name: &str) -> Result<Format> {
    let known = Format::TEXT;
    known.into_iter().find(|format| format.name() == name).ok_or_else(|| not_in_the_shell(name))
}

/// The error of a format that is no text.
pub(crate) fn not_in_the_shell(name: &str) -> Error {
    Error::ShellFormat { name: name.into(), known: Format::TEXT.map(|format| format.name().to_owned()).into() }
}

#[cfg(test)]
mod tests {
    use super::{Command, Format, Rows, parse};

    #[test]
    fn commands_are_read() {
        for (line, command) in [
            ("\\q", Command::Quit),
            (" \\d  images ;", Command::Columns("images".into())),
            ("\\df", Command::Functions(None)),
            ("\\df knn*", Command::Functions(Some("knn*".into()))),
            ("\\timing off", Command::Timing(Some(false))),
            ("\\x", Command::Expanded(None)),
            ("\\x on;", Command::Expanded(Some(true))),
            ("\\rows all", Command::Rows(Some(Rows::All))),
            ("\\rows 20", Command::Rows(Some(Rows::AtMost(20)))),
            ("\\o 'out file.csv'", Command::Into(Some("out file.csv".into()))),
            ("\\o", Command::Into(None)),
            ("\\dt", Command::Tables),
            ("\\format csv", Command::Format(Some(Format::Csv))),
            ("\\i 'my file.sql'", Command::Run("my file.sql".into())),
        ] {
            assert_eq!(parse(line).unwrap(), command, "{line}");
        }
    }

    #[test]
    fn what_is_no_command_says_what_is() {
        for (line, error) in [
            ("\\y", "unknown command '\\y': \\? lists the commands, and a statement of SQL ends with ';'"),
            ("\\timing maybe", "'\\timing maybe' is not a command: write \\timing [on|off]"),
            ("\\rows many", "'\\rows many' is not a command: write \\rows [N|all]"),
            ("\\i", "'\\i' is not a command: write \\i FILE"),
            ("\\format xml", "the shell prints table, csv, json, not 'xml'"),
        ] {
            let found = parse(line).unwrap_err().to_string();
            assert!(found.starts_with(error), "{line}: {found}");
        }
    }
}
