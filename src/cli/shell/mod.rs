//! `outskirt sql` without a query: statements and commands, line by line.
//!
//! [`Lines`] give what is typed: a [`Terminal`], or lines that are there already. A statement ends with a semicolon, a command
//! begins with a backslash; `listings.rs` prints what commands list. An error is one line, and the shell goes on.

mod listings;
mod pager;
mod terminal;

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::sql::parser::Statement;
pub use terminal::Terminal;

use super::console::Console;
use super::format::{Format, Rows};
use super::output::{Layout, Output, Printed};
use super::statements::{MAX_STATEMENTS_BYTES, Manner, at, parsed, watch};
use super::typed::commands::{self, Command};
use super::typed::{Line, Lines, Names, statement};
use crate::error::{Error, Result};
use crate::regular;
use crate::sql::cancel;
use crate::sql::session::Session;

/// Run what is typed until it ends.
pub(super) async fn run(
    session: Session,
    db: &Path,
    manner: Manner,
    lines: &mut dyn Lines,
    console: &mut Console<'_>,
) -> Result<()> {
    let Manner { format, rows, quiet } = manner;
    if format.is_binary() {
        return Err(commands::not_in_the_shell(format.name()));
    }
    watch(&session, console);
    cancel::prepare(&session);
    console.notice(format!("outskirt {} on {}: \\? for help", env!("CARGO_PKG_VERSION"), db.display()))?;
    let mut shell = Shell {
        session: Arc::new(session),
        format,
        rows,
        quiet,
        expanded: false,
        pager: false,
        file: None,
        timing: true,
        said: Vec::new(),
    };
    let mut names = Arc::default();
    let mut stale = true;
    let mut before = String::new();
    loop {
        if std::mem::take(&mut stale) {
            // a table that cannot be opened is no reason not to type
            names = Arc::new(Names::of(&shell.session).await.unwrap_or_default());
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
struct Shell {
    session: Arc<Session>,
    format: Format,
    rows: Option<Rows>,
    /// Changes are not counted.
    quiet: bool,
    expanded: bool,
    pager: bool,
    /// Where rows go instead of the terminal.
    file: Option<(PathBuf, File)>,
    timing: bool,
    /// Notices that were printed already.
    said: Vec<String>,
}

impl Shell {
    /// Run an entry; say what is wrong with it, or that it was cancelled. Only output that nobody reads is an error.
    async fn attempt(&mut self, entry: Entry<'_>, lines: &mut dyn Lines, console: &mut Console<'_>) -> Result<Next> {
        let interrupted = lines.interrupted()?;
        let session = Arc::clone(&self.session);
        let done = cancel::unless(interrupted, &session, async {
            match entry {
                Entry::Command(text) => self.command(commands::parse(text)?, console).await,
                Entry::Statement(text) => self.statements(text, None, console).await.map(|()| Next::GoOn),
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
        let on = |is_on: bool| if is_on { "on" } else { "off" };
        match command {
            Command::Help => listings::help(console)?,
            Command::Relations => listings::relations(&self.session, false, console).await?,
            Command::Tables => listings::relations(&self.session, true, console).await?,
            Command::Columns(name) => listings::columns(&self.session, &name, console).await?,
            Command::Functions(pattern) => listings::functions(&self.session, pattern.as_deref(), console)?,
            Command::Banks => listings::banks(&self.session, console)?,
            Command::Format(format) => {
                self.format = format.unwrap_or(self.format);
                console.notice(format!("rows are printed as {}", self.format.name()))?;
            }
            Command::Expanded(wanted) => {
                self.expanded = wanted.unwrap_or(!self.expanded);
                console.notice(format!("a line for each column is {}", on(self.expanded)))?;
            }
            Command::Rows(rows) => {
                self.rows = rows.or(self.rows);
                match Layout::of(console, self.rows).rows {
                    Some(rows) => console.notice(format!("tables have {rows} rows at most"))?,
                    None => console.notice("tables have all rows")?,
                }
            }
            Command::Into(file) => self.redirect(file, console)?,
            Command::Pager(wanted) => {
                self.pager = wanted.unwrap_or(!self.pager);
                console.notice(format!("the pager is {}", on(self.pager)))?;
            }
            Command::Refresh => {
                self.session = Arc::new(self.session.again().await?);
                watch(&self.session, console);
                cancel::prepare(&self.session);
                self.said.clear();
                console.notice("this is the database as it is now; settings and prepared statements begin anew")?;
            }
            Command::Timing(wanted) => {
                self.timing = wanted.unwrap_or(!self.timing);
                console.notice(format!("timing is {}", on(self.timing)))?;
            }
            Command::Run(file) => {
                let text = regular::read_text(&file, MAX_STATEMENTS_BYTES).map_err(Error::io("read", &file))?;
                self.statements(&text, file.to_str(), console).await?;
            }
            Command::Quit => return Ok(Next::Leave),
        }
        Ok(Next::GoOn)
    }

    /// Rows go into a file, which must not be there yet, or to the terminal again.
    fn redirect(&mut self, file: Option<PathBuf>, console: &mut Console<'_>) -> Result<()> {
        self.file = match file {
            Some(path) => {
                let file = File::create_new(&path).map_err(|error| match error.kind() {
                    ErrorKind::AlreadyExists => Error::OutputExists { path: path.clone() },
                    _ => Error::io("create", &path)(error),
                })?;
                console.notice(format!("rows go into {}, until \\o", path.display()))?;
                Some((path, file))
            }
            None => None,
        };
        Ok(())
    }

    /// Run statements, of a file where it has a name.
    async fn statements(&mut self, text: &str, name: Option<&str>, console: &mut Console<'_>) -> Result<()> {
        for (statement, place) in parsed(&self.session, text, name, 1)? {
            // what cannot be told is no reason not to run it
            if let Ok(Some(moved)) = self.session.moved_on().await {
                self.say(
                    format!(
                        "images is at version {} by now, and this shell reads version {}: \\refresh",
                        moved.latest, moved.seen
                    ),
                    console,
                )?;
            }
            let start = Instant::now();
            let printed = self.print(statement, console).await.map_err(|error| at(place, error))?;
            let (rows, columns) = printed.left_out;
            for (left_out, instead) in [(rows, "\\rows all"), (columns, "\\x")] {
                if let Some(left_out) = left_out {
                    console.notice(format!("{left_out}: {instead} shows all, and so does \\pager on"))?;
                }
            }
            if self.timing {
                console.notice(footer(printed.rows, start.elapsed()))?;
            }
        }
        for notice in self.session.banks().notices() {
            self.say(notice, console)?;
        }
        Ok(())
    }

    /// Run a statement and print its rows where they go.
    async fn print(&mut self, statement: Statement, console: &mut Console<'_>) -> Result<Printed> {
        let change = self.session.change_of(&statement);
        let rows = cancel::apart(self.session.run(statement).await?);
        if let Some(verb) = change {
            return Output::new(self.format, Layout::default()).print_change(verb, self.quiet, rows, console).await;
        }
        if let Some((path, file)) = &mut self.file {
            let layout = Layout { expanded: self.expanded, ..Layout::default() };
            let printed = Output::new(self.format, layout).print_to(rows, file).await;
            return printed.map_err(|error| match error {
                Error::Output { source } => Error::io("write", path)(source),
                other => other,
            });
        }
        if self.pager && console.is_terminal() {
            let layout = Layout { expanded: self.expanded, ..Layout::default() };
            return pager::show(Output::new(self.format, layout), rows).await;
        }
        let layout = Layout { expanded: self.expanded, ..Layout::of(console, self.rows) };
        Output::new(self.format, layout).print(rows, console).await
    }

    /// Say something once.
    fn say(&mut self, notice: String, console: &mut Console<'_>) -> Result<()> {
        if !self.said.contains(&notice) {
            console.notice(&notice)?;
            self.said.push(notice);
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
