//! What is typed, line by line.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::complete::Names;
use crate::error::Result;

/// What was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A line of text; more of them where they were pasted.
    Text(String),
    /// Ctrl-C: begin again.
    Interrupt,
    /// Ctrl-D: the end.
    End,
}

/// Where the shell's lines come from.
pub trait Lines {
    /// The next line. `before` is what its statement has so far; `names` are there to complete it.
    fn next_line(&mut self, before: &str, names: &Arc<Names>) -> Result<Line>;

    /// A statement or a command is whole: keep it for later.
    fn remember(&mut self, _entry: &str) {}

    /// Resolves when whoever types wants the statement cancelled that runs now.
    fn interrupted(&mut self) -> Result<BoxFuture<'static, ()>> {
        Ok(Box::pin(std::future::pending()))
    }
}

/// A script: nobody waits, and nothing is cancelled.
impl<I: Iterator<Item = Line>> Lines for I {
    fn next_line(&mut self, _before: &str, _names: &Arc<Names>) -> Result<Line> {
        Ok(self.next().unwrap_or(Line::End))
    }
}
