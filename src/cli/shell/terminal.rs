//! Lines from a terminal: editing, history, completion. The only file that names `rustyline`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::BoxFuture;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{Behavior, CompletionType, Config, Context, Editor, Helper};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::cli::typed::{Line, Lines, Names};
use crate::error::{Error, Result};

const PROMPT: &str = "outskirt> ";
const CONTINUED: &str = "     ...> ";

/// A terminal, with a history that outlives it.
pub struct Terminal {
    editor: Option<Editor<Completion, FileHistory>>,
    history: Option<PathBuf>,
    /// Ctrl-C while a statement runs, counted.
    interrupts: Option<watch::Receiver<u64>>,
}

impl std::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terminal").field("history", &self.history).finish()
    }
}

impl Terminal {
    /// The terminal of this process; nothing is done to it before the first line. A history that cannot be read or
    /// written is no error.
    pub fn new(history: Option<PathBuf>) -> Self {
        Self { editor: None, history, interrupts: None }
    }

    fn begin(&self) -> rustyline::Result<Editor<Completion, FileHistory>> {
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .behavior(Behavior::PreferTerm) // results may be redirected, the prompt is not
            .history_ignore_dups(true)?
            .history_ignore_space(true)
            .build();
        let mut editor = Editor::with_config(config)?;
        if let Some(path) = &self.history {
            if let Some(folder) = path.parent() {
                let _ = std::fs::create_dir_all(folder);
            }
            let _ = editor.load_history(path);
        }
        Ok(editor)
    }

    fn read(&mut self, before: &str, names: &Arc<Names>) -> rustyline::Result<String> {
        let mut editor = match self.editor.take() {
            Some(editor) => editor,
            None => self.begin()?,
        };
        editor.set_helper(Some(Completion { before: before.into(), names: Arc::clone(names) }));
        let line = editor.readline(if before.is_empty() { PROMPT } else { CONTINUED });
        self.editor = Some(editor);
        line
    }
}

impl Lines for Terminal {
    fn next_line(&mut self, before: &str, names: &Arc<Names>) -> Result<Line> {
        loop {
            let source = match self.read(before, names) {
                Ok(line) => return Ok(Line::Text(line)),
                Err(ReadlineError::Interrupted) => return Ok(Line::Interrupt),
                Err(ReadlineError::Eof) => return Ok(Line::End),
                Err(ReadlineError::Signal(_)) => continue,
                Err(ReadlineError::Io(source)) => source,
                Err(other) => std::io::Error::other(other),
            };
            return Err(Error::io("read", Path::new("the terminal"))(source));
        }
    }

    fn remember(&mut self, entry: &str) {
        if let Some(editor) = &mut self.editor
            && let Ok(true) = editor.add_history_entry(entry)
            && let Some(path) = &self.history
        {
            let _ = editor.append_history(path);
        }
    }

    fn interrupted(&mut self) -> Result<BoxFuture<'static, ()>> {
        let mut interrupts = match &self.interrupts {
            Some(interrupts) => interrupts.clone(),
            None => {
                let begun = count_interrupts().map_err(Error::io("listen to", Path::new("Ctrl-C")))?;
                self.interrupts.insert(begun).clone()
            }
        };
        interrupts.mark_unchanged();
        Ok(Box::pin(async move {
            if interrupts.changed().await.is_err() {
                std::future::pending().await
            }
        }))
    }
}

/// Count Ctrl-C on a thread of its own: those that run queries may all be busy with a batch.
fn count_interrupts() -> std::io::Result<watch::Receiver<u64>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut signal = {
        let _inside = runtime.enter();
        signal(SignalKind::interrupt())?
    };
    let (count, interrupts) = watch::channel(0);
    std::thread::Builder::new().name("ctrl-c".into()).spawn(move || {
        runtime.block_on(async {
            while signal.recv().await.is_some() {
                count.send_modify(|count| *count += 1);
            }
        });
    })?;
    Ok(interrupts)
}

/// What rustyline asks while a line is edited.
struct Completion {
    before: String,
    names: Arc<Names>,
}

impl Completer for Completion {
    type Candidate = String;

    fn complete(&self, line: &str, cursor: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.names.complete(&self.before, line, cursor))
    }
}

impl Hinter for Completion {
    type Hint = String;
}
impl Highlighter for Completion {}
impl Validator for Completion {}
impl Helper for Completion {}
