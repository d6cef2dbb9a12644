//! Where a command writes: results, notices and progress apart.

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::error::{Error, Result};

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns, for people
    Table,
    /// Comma-separated, with a header
    Csv,
    /// One JSON object a line
    Json,
}

/// The two streams of a command.
pub struct Console<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    program: String,
}

impl std::fmt::Debug for Console<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Console")
    }
}

impl<'a> Console<'a> {
    /// Results to `out`, everything else to `err`.
    pub fn new(out: &'a mut dyn Write, err: &'a mut dyn Write) -> Self {
        Self { out, err, program: "outskirt".into() }
    }

    /// How the program was called, for commands that are printed to be typed.
    pub fn called(mut self, program: String) -> Self {
        self.program = program;
        self
    }

    /// The name given to [`Self::called`].
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Results that are formatted already.
    pub fn bytes(&mut self, text: &[u8]) -> Result<()> {
        self.out.write_all(text).map_err(|source| Error::Output { source })
    }

    /// A line of results.
    pub fn line(&mut self, text: impl std::fmt::Display) -> Result<()> {
        writeln!(self.out, "{text}").map_err(|source| Error::Output { source })
    }

    /// A line for people, beside the results.
    pub fn notice(&mut self, text: impl std::fmt::Display) -> Result<()> {
        writeln!(self.err, "{text}").map_err(|source| Error::Output { source })
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
                let _ = write!(line, "{:.0}/s", state.per_sec());
            }));
        }
        bar.set_message(what);
        bar
    }
}
