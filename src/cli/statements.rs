//! Statements of SQL, run one after another, and their rows printed.

use super::console::{Console, advance};
use super::format::{Format, Rows};
use super::output::{Layout, Output};
use super::typed::statement;
use crate::error::Result;
use crate::sql::session::Session;

/// No file of statements is longer; standard input gives as many as it has.
pub(super) const MAX_STATEMENTS_BYTES: u64 = 64 << 20;

/// Show how far reading a large bank has come.
pub(super) fn watch(session: &Session, console: &Console<'_>) {
    let bar = console.progress("reading the bank", 1);
    session.banks().watch(move |_, done, all| {
        if done == all {
            return bar.finish_and_clear();
        }
        if bar.is_finished() {
            bar.reset();
        }
        advance(&bar, done, all);
    });
}

/// Run all statements of a text and print their rows.
pub(super) async fn execute(
    session: &Session,
    text: &str,
    format: Format,
    rows: Option<Rows>,
    console: &mut Console<'_>,
) -> Result<()> {
    let mut output = begin(session, format, rows, console)?;
    statements(session, text, &mut output, console).await?;
    notices(session, console)
}

/// The same of the console's input, each statement as soon as it has come.
pub(super) async fn execute_input(
    session: &Session,
    format: Format,
    rows: Option<Rows>,
    console: &mut Console<'_>,
) -> Result<()> {
    let mut output = begin(session, format, rows, console)?;
    let (mut text, mut count) = (String::new(), 0);
    while let Some(line) = console.read_line()? {
        text.push_str(if count == 0 && text.is_empty() { line.trim_start_matches('\u{feff}') } else { &line });
        while line.contains(';')
            && let Some(end) = statement::end(&text)
        {
            let whole: String = text.drain(..end).collect();
            if !statement::is_blank(&whole) {
                count += 1;
                statements(session, &whole, &mut output, console).await?;
            }
        }
    }
    if count == 0 || !statement::is_blank(&text) {
        statements(session, &text, &mut output, console).await?;
    }
    notices(session, console)
}

fn begin(session: &Session, format: Format, rows: Option<Rows>, console: &Console<'_>) -> Result<Output> {
    format.check(console.is_terminal())?;
    watch(session, console);
    Ok(Output::new(format, Layout::of(console, rows)))
}

async fn statements(session: &Session, text: &str, output: &mut Output, console: &mut Console<'_>) -> Result<()> {
    for statement in session.parse(text)? {
        let printed = output.print(session.run(statement).await?, console).await?;
        let (rows, columns) = printed.left_out;
        for (left_out, instead) in [(rows, "--rows all"), (columns, "--format json")] {
            if let Some(left_out) = left_out {
                console.notice(format!("{left_out}: {instead} prints all"))?;
            }
        }
    }
    Ok(())
}

/// Say what the user should know of the banks that were used.
pub(super) fn notices(session: &Session, console: &mut Console<'_>) -> Result<()> {
    session.banks().notices().into_iter().try_for_each(|notice| console.notice(notice))
}
