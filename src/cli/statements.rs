//! Statements of SQL, run one after another, and their rows printed.

use super::console::{Console, advance};
use super::format::Format;
use super::output::Output;
use crate::error::Result;
use crate::sql::session::Session;

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
pub(super) async fn execute(session: &Session, text: &str, format: Format, console: &mut Console<'_>) -> Result<()> {
    format.check(console.is_terminal())?;
    let mut output = Output::new(format);
    watch(session, console);
    for statement in session.parse(text)? {
        output.print(session.run(statement).await?, console).await?;
    }
    notices(session, console)
}

/// Say what the user should know of the banks that were used.
pub(super) fn notices(session: &Session, console: &mut Console<'_>) -> Result<()> {
    session.banks().notices().into_iter().try_for_each(|notice| console.notice(notice))
}
