//! `outskirt sql` without a query: statements and commands, line by line.
//!
//! [`Lines`] give what is typed: a [`Terminal`], or lines that are there already. A statement ends with a semicolon, a command
//! begins with a backslash; `listings.rs` prints what commands list. An error is one line, and the shell goes on.

mod listings;
mod terminal;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use terminal::Terminal;

use super::console::Console;
use super::format::Format;
use super::output::Output;
use super::statements::watch;
use super::typed::commands::{self, Command};
use super::typed::{Line, Lines, Names, statement};
use crate::error::{Error, Result};
use crate::sql::cancel;
use crate::sql::session::Session;

/// Run what is typed until it ends.
pub(super) async fn run(
    session: &Session,
    db: &Path,
    format: Format,
    lines: &mut dyn Lines,
    console: &mut Console<'_>,
) -> Result<()> {
    if format.is_binary() {
        return Err(commands::not_in_the_shell(format.name()));
    }
    watch(session, console);
    cancel::prepare(session);
    console.notice(format!("outskirt {} on {}: \\? for help", env!("CARGO_PKG_VERSION"), db.display()))?;
    let mut shell = Shell { session, format, timing: true, said: Vec::new() };
    let mut names = Arc::default();
    let mut stale = true;
    let mut before = String::new();
    loop {
        if std::mem::take(&mut stale) {
            // a table that cannot be opened is no reason not to type
            names = Arc::new(Names::of(session).await.unwrap_or_default());
        }
        let line = match lines.next_line(&before, &names)? {
            Line::End => return Ok(()),
            Line::Interrupt => {
                before.clear();
                continue;
            }
            Line::Text(line) => line,
        };
        if let Some(command) = command(&before, &line) {
            lines.remember(line.trim());
            if shell.attempt(Entry::Command(command), lines, console).await? == Next::Leave {
                return Ok(());
            }
            stale = true;
            continue;
        }
        before.push_str(&line);
        before.push('\n');
        while let Some(end) = statement::end(&before) {
            let statement: String = before.drain(..end).collect();
            if !statement::is_blank(&statement) {
                lines.remember(statement.trim());
                shell.attempt(Entry::Statement(&statement), lines, console).await?;
                stale = true;
            }
        }
        if statement::is_blank(&before) {
            before.clear();
        }
    }
}

/// The command that a line is, also within a statement unless a quote or a comment is open there.
fn command<'a>(before: &str, line: &'a str) -> Option<&'a str> {
    let text = line.trim();
    match text.trim_end_matches(';').to_ascii_lowercase().as_str() {
        "exit" | "quit" if before.is_empty() => Some("\\q"),
        "help" if before.is_empty() => Some("\\?"),
        _ => (text.starts_with('\\') && !statement::is_open(before)).then_some(text),
    }
}

/// What can fail without ending the shell.
enum Entry<'a> {
    Command(&'a str),
    Statement(&'a str),
}

#[derive(PartialEq)]
enum Next {
    GoOn,
    Leave,
}

/// What commands change.
struct Shell<'s> {
    session: &'s Session,
    format: Format,
    timing: bool,
    /// Notices of banks that were printed already.
    said: Vec<String>,
}

impl Shell<'_> {
    /// Run an entry; say what is wrong with it, or that it was cancelled. Only output that nobody reads is an error.
    async fn attempt(&mut self, entry: Entry<'_>, lines: &mut dyn Lines, console: &mut Console<'_>) -> Result<Next> {
        let interrupted = lines.interrupted()?;
        let session = self.session;
        let done = cancel::unless(interrupted, session, async {
            match entry {
                Entry::Command(text) => self.command(commands::parse(text)?, console).await,
                Entry::Statement(text) => self.statements(text, console).await.map(|()| Next::GoOn),
            }
        });
        match done.await {
            Some(Ok(next)) => return Ok(next),
            Some(Err(Error::Output { source })) => return Err(Error::Output { source }),
            Some(Err(error)) => console.notice(format!("error: {error}"))?,
            // the terminal has shown ^C on this line
            None => console.notice("\ncancelled")?,
        }
        Ok(Next::GoOn)
    }

    async fn command(&mut self, command: Command, console: &mut Console<'_>) -> Result<Next> {
        match command {
            Command::Help => listings::help(console)?,
            Command::Relations => listings::relations(self.session, console).await?,
            Command::Columns(name) => listings::columns(self.session, &name, console).await?,
            Command::Functions(pattern) => listings::functions(self.session, pattern.as_deref(), console)?,
            Command::Banks => listings::banks(self.session, console)?,
            Command::Format(format) => {
                self.format = format.unwrap_or(self.format);
                console.notice(format!("rows are printed as {}", self.format.name()))?;
            }
            Command::Timing(on) => {
                self.timing = on.unwrap_or(!self.timing);
                console.notice(format!("timing is {}", if self.timing { "on" } else { "off" }))?;
            }
            Command::Run(file) => {
                let text = std::fs::read_to_string(&file).map_err(Error::io("read", &file))?;
                self.statements(&text, console).await?;
            }
            Command::Quit => return Ok(Next::Leave),
        }
        Ok(Next::GoOn)
    }

    async fn statements(&mut self, text: &str, console: &mut Console<'_>) -> Result<()> {
        for statement in self.session.parse(text)? {
            let start = Instant::now();
            let rows = cancel::apart(self.session.run(statement).await?);
            let count = Output::new(self.format).print(rows, console).await?;
            if self.timing {
                console.notice(footer(count, start.elapsed()))?;
            }
        }
        for notice in self.session.banks().notices() {
            if !self.said.contains(&notice) {
                console.notice(&notice)?;
                self.said.push(notice);
            }
        }
        Ok(())
    }
}

fn footer(rows: Option<usize>, time: Duration) -> String {
    let seconds = format!("{:.3} s", time.as_secs_f64());
    match rows {
        None => seconds,
        Some(1) => format!("1 row, {seconds}"),
        Some(rows) => format!("{rows} rows, {seconds}"),
    }
}
