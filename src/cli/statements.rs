//! Statements of SQL, run one after another, and their rows printed.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::sql::parser::Statement;
use futures::TryStreamExt;

use super::console::{Console, advance};
use super::format::{Format, Rows};
use super::output::{Layout, Output};
use super::typed::statement;
use crate::error::{Error, Result};
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

/// How statements are run and their rows printed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    pub(super) format: Format,
    pub(super) rows: Option<Rows>,
    /// Changes are not counted.
    pub(super) quiet: bool,
}

/// Run all statements of a text and print their rows. Where it has a name, errors say in which line of it a statement begins.
pub(super) async fn execute(
    session: &Session,
    text: &str,
    name: Option<&str>,
    manner: Manner,
    console: &mut Console<'_>,
) -> Result<()> {
    let mut output = begin(session, manner, console)?;
    statements(session, parsed(session, text, name, 1)?, manner, &mut output, console).await?;
    notices(session, console)
}

/// Run the one statement of a text whose rows are few, print them, and give them back.
pub(super) async fn execute_kept(
    session: &Session,
    text: &str,
    manner: Manner,
    console: &mut Console<'_>,
) -> Result<Vec<RecordBatch>> {
    let mut output = begin(session, manner, console)?;
    let (schema, kept) = kept(session, text).await?;
    let rows = RecordBatchStreamAdapter::new(schema, futures::stream::iter(kept.clone().into_iter().map(Ok)));
    tell_left_out(output.print(Box::pin(rows), console).await?.left_out, console)?;
    notices(session, console)?;
    Ok(kept)
}

/// The rows of the one statement of a text.
pub(super) async fn kept(session: &Session, text: &str) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let (statement, _) = parsed(session, text, None, 1)?.swap_remove(0);
    let rows = session.run(statement).await?;
    Ok((rows.schema(), rows.try_collect().await?))
}

/// The same of the console's input, each statement as soon as it has come.
pub(super) async fn execute_input(session: &Session, manner: Manner, console: &mut Console<'_>) -> Result<()> {
    let mut output = begin(session, manner, console)?;
    let name = Some("standard input");
    let (mut text, mut count, mut line) = (String::new(), 0, 1);
    while let Some(next) = console.read_line()? {
        text.push_str(&next);
        while next.contains(';')
            && let Some(end) = statement::end(&text)
        {
            let whole: String = text.drain(..end).collect();
            if !statement::is_blank(&whole) {
                count += 1;
                statements(session, parsed(session, &whole, name, line)?, manner, &mut output, console).await?;
            }
            line += newlines(&whole);
        }
    }
    if count == 0 || !statement::is_blank(&text) {
        statements(session, parsed(session, &text, name, line)?, manner, &mut output, console).await?;
    }
    notices(session, console)
}

fn begin(session: &Session, manner: Manner, console: &Console<'_>) -> Result<Output> {
    manner.format.check(console.is_terminal())?;
    watch(session, console);
    Ok(Output::new(manner.format, Layout::of(console, manner.rows)))
}

fn newlines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

/// A statement, and where it begins, for errors.
pub(super) type Placed = (Statement, Option<String>);

/// The statements of a text, all of them before the first is run. `line` is the text's first line in what `name` names.
pub(super) fn parsed(session: &Session, text: &str, name: Option<&str>, line: usize) -> Result<Vec<Placed>> {
    let mut all = Vec::new();
    for (part, word) in statement::all(text) {
        let before = part.as_ptr() as usize - text.as_ptr() as usize;
        let place = name.map(|name| format!("{name}, line {}", line + newlines(&text[..word])));
        // the parser counts lines from the statement on, and people from the file's beginning
        let as_placed = || {
            let column = text[..before].rsplit('\n').next().unwrap_or_default().chars().count();
            let lines = line - 1 + newlines(&text[..before]);
            session.parse(&format!("{}{}{part}", "\n".repeat(lines), " ".repeat(column)))
        };
        let found = session.parse(part).or_else(|error| as_placed().and(Err(error)));
        let found = found.map_err(|error| at(place.clone(), error))?;
        all.extend(found.into_iter().map(|statement| (statement, place.clone())));
    }
    if all.is_empty() { Err(Error::EmptyQuery) } else { Ok(all) }
}

/// An error of a statement that begins there.
pub(super) fn at(place: Option<String>, error: Error) -> Error {
    match (place, error) {
        // nobody reads on, whatever statement it was
        (_, error @ Error::Output { .. }) | (None, error) => error,
        (Some(place), error) => Error::InStatement { place, source: Box::new(error) },
    }
}

async fn statements(
    session: &Session,
    statements: Vec<Placed>,
    manner: Manner,
    output: &mut Output,
    console: &mut Console<'_>,
) -> Result<()> {
    for (statement, place) in statements {
        let change = session.change_of(&statement);
        let run = async {
            let rows = session.run(statement).await?;
            match change {
                Some(verb) => output.print_change(verb, manner.quiet, rows, console).await,
                None => output.print(rows, console).await,
            }
        };
        tell_left_out(run.await.map_err(|error| at(place, error))?.left_out, console)?;
    }
    Ok(())
}

/// Say which rows and columns were not printed.
fn tell_left_out((rows, columns): (Option<String>, Option<String>), console: &mut Console<'_>) -> Result<()> {
    for (left_out, instead) in [(rows, "--rows all"), (columns, "--format json")] {
        if let Some(left_out) = left_out {
            console.notice(format!("{left_out}: {instead} prints all"))?;
        }
    }
    Ok(())
}

/// Say what the user should know of the banks that were used.
pub(super) fn notices(session: &Session, console: &mut Console<'_>) -> Result<()> {
    session.banks().notices().into_iter().try_for_each(|notice| console.notice(notice))
}
