//! Where a command writes: results, notices and progress apart; and what it reads, where that is not a file.

use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::typed::Lines;
use crate::backbone::Trusted;
use crate::error::{Error, Result};
use crate::regular;
use crate::sql::policy::Policy;
use crate::store::{Patience, Store};

/// The streams of a command, and what stands behind them.
pub struct Console<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    input: Box<dyn BufRead + 'a>,
    /// Whether anything was read of it.
    has_begun: bool,
    lines: Option<Box<dyn Lines + 'a>>,
    terminal: bool,
    line_width: Option<usize>,
    program: String,
    trusted: Option<PathBuf>,
    /// Writers wait so long for another one.
    wait: Duration,
}

impl std::fmt::Debug for Console<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Console")
    }
}

impl<'a> Console<'a> {
    /// Results to `out`, everything else to `err`; statements are read from standard input.
    pub fn new(out: &'a mut dyn Write, err: &'a mut dyn Write) -> Self {
        let input = Box::new(BufReader::new(std::io::stdin()));
        Self {
            out,
            err,
            input,
            has_begun: false,
            lines: None,
            terminal: false,
            line_width: None,
            program: "outskirt".into(),
            trusted: None,
            wait: Duration::ZERO,
        }
    }

    /// Read statements from elsewhere than standard input.
    pub fn reading(mut self, input: impl Read + 'a) -> Self {
        self.input = Box::new(BufReader::new(input));
        self
    }

    /// Somebody types: `outskirt sql` without a query is a shell on these lines.
    pub fn typed(mut self, lines: impl Lines + 'a) -> Self {
        self.lines = Some(Box::new(lines));
        self
    }

    /// Results go to a terminal: binary ones are refused.
    pub fn on_terminal(mut self) -> Self {
        self.terminal = true;
        self
    }

    /// Whether results go to a terminal: the columns that a line of it has.
    pub(super) fn line_width(&self) -> Option<usize> {
        let measured = || terminal_size::terminal_size_of(std::io::stdout()).map(|(columns, _)| columns.0.into());
        if self.terminal { self.line_width.or_else(measured) } else { None }
    }

    /// A terminal whose lines have so many columns.
    pub fn of_width(mut self, columns: usize) -> Self {
        self.line_width = Some(columns);
        self
    }

    /// How the program was called, for commands that are printed to be typed.
    pub fn called(mut self, program: String) -> Self {
        self.program = program;
        self
    }

    /// The file that lists the TorchScript modules which the user trusts.
    pub fn trusting(mut self, file: Option<PathBuf>) -> Self {
        self.trusted = file;
        self
    }

    /// From here on writers wait so long for another one.
    pub(super) fn waits(&mut self, wait: Duration) {
        self.wait = wait;
    }

    /// How writers of a database wait; what they say goes to stderr.
    pub(super) fn patience(&self) -> Patience {
        Patience::up_to(self.wait, |line| drop(writeln!(io::stderr(), "{line}")))
    }

    /// Open a database, for a writer that tries again by itself: it waits for another one so long at most, and says nothing of it.
    pub(super) async fn open_to_retry(&self, folder: &Path, most: Duration) -> Result<Store> {
        Ok(Store::open(folder).await?.patient(Patience::up_to(self.wait.min(most), |_| ())))
    }

    /// Open a database.
    pub(super) async fn open(&self, folder: &Path) -> Result<Store> {
        Ok(Store::open(folder).await?.patient(self.patience()))
    }

    /// Open a database, or make it.
    pub(super) async fn create(&self, folder: &Path) -> Result<Store> {
        Store::create_in_turn(folder, self.patience()).await
    }

    /// The file given to [`Self::trusting`].
    pub(super) fn trusted_file(&self) -> Option<&Path> {
        self.trusted.as_deref()
    }

    /// The modules that it lists.
    pub(super) fn trusted(&self) -> Result<Trusted> {
        self.trusted.as_deref().map_or_else(|| Ok(Trusted::default()), Trusted::read)
    }

    /// What a session of this command may reach and run: whatever the user may.
    pub(super) fn policy(&self) -> Result<Policy> {
        Ok(Policy::open(self.trusted()?))
    }

    /// The name given to [`Self::called`].
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Whether results go to a terminal.
    pub(super) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// The lines that somebody types, once.
    pub(super) fn take_lines(&mut self) -> Option<Box<dyn Lines + 'a>> {
        self.lines.take()
    }

    /// The next line of the input, with its end; `None` after the last.
    pub(super) fn read_line(&mut self) -> Result<Option<String>> {
        let mut line = Vec::new();
        let read = self.input.read_until(b'\n', &mut line);
        let line = read.and_then(|_| match std::mem::replace(&mut self.has_begun, true) {
            false => regular::text(line),
            true => String::from_utf8(line).map_err(|_| io::Error::other("it is no text in UTF-8")),
        });
        let line = line.map_err(Error::io("read", Path::new("standard input")))?;
        Ok((!line.is_empty()).then_some(line))
    }

    /// Results that are formatted already.
    pub fn bytes(&mut self, text: &[u8]) -> Result<()> {
        self.out.write_all(text).map_err(|source| Error::Output { source })
    }

    /// The stream of results.
    pub(super) fn results(&mut self) -> &mut dyn Write {
        self.out
    }

    /// Let out what the stream holds back.
    pub fn flush(&mut self) -> Result<()> {
        self.out.flush().map_err(|source| Error::Output { source })
    }

    /// A line of results.
    pub fn line(&mut self, text: impl std::fmt::Display) -> Result<()> {
        writeln!(self.out, "{text}").map_err(|source| Error::Output { source })
    }

    /// A line for people, beside the results.
    pub fn notice(&mut self, text: impl std::fmt::Display) -> Result<()> {
        writeln!(self.err, "{text}").map_err(|source| Error::Output { source })
    }

    /// What is suspicious, a line each.
    pub(super) fn warnings(&mut self, warnings: Vec<String>) -> Result<()> {
        warnings.into_iter().try_for_each(|warning| self.notice(format!("warning: {warning}")))
    }

    /// Something that turns on stderr while work goes on whose length is not known.
    pub(super) fn spinner(&self, what: &'static str) -> ProgressBar {
        let bar = self.progress(what, 0);
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }

    /// The same beside a database, whose long work says what it does.
    pub(super) fn told(&self, store: Store, what: &'static str) -> (Store, ProgressBar) {
        let bar = self.spinner(what);
        // nothing is counted: how long it takes is what there is to see
        if let Ok(style) = ProgressStyle::with_template("{msg} {spinner} {elapsed}") {
            bar.set_style(style);
        }
        let heard = bar.clone();
        (store.telling(move |what| heard.set_message(what)), bar)
    }

    /// A bar for tasks that end when they end: nobody knows when.
    #[cfg(feature = "cluster")]
    pub(super) fn tasks(&self) -> ProgressBar {
        let bar = self.progress("", 1);
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} tasks done") {
            bar.set_style(style);
        }
        bar
    }

    /// A progress bar on stderr; invisible where that is no terminal. `total` 0 means unknown.
    pub fn progress(&self, what: &'static str, total: u64) -> ProgressBar {
        let target =
            if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = if total > 0 { ProgressBar::new(total) } else { ProgressBar::no_length() };
        bar.set_draw_target(target);
        let template = if total > 0 {
            "{msg} {wide_bar} {human_pos}/{human_len}, {rate}, {eta} left"
        } else {
            "{msg} {spinner} {human_pos}, {rate}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.with_key("rate", |state: &ProgressState, line: &mut dyn std::fmt::Write| {
                let rate = state.per_sec();
                let _ = write!(line, "{rate:.*}/s", usize::from(rate < 100.0));
            }));
        }
        // nothing is drawn before the first step
        bar.with_message(what)
    }
}

/// Show on a progress bar that so many of all are done.
pub(super) fn advance(bar: &ProgressBar, done: usize, all: usize) {
    bar.set_length(all as u64);
    bar.set_position(done as u64);
}
