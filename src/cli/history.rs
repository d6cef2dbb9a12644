//! `outskirt history`.

use std::path::Path;

use super::console::Console;
use super::table;
use crate::curate::{Event, history};
use crate::error::Result;
use crate::store::Change;

/// Show what changed the images, and when: each step from one version of the table to a later one
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The latest comes first. 'outskirt undo' takes the latest change back, 'outskirt restore --version N'
makes the images what they were at version N, and FROM \"images@N\" reads that version in SQL.
What an undo or a restore took back is marked as undone; an ingest that was interrupted and the run
that went on with it are two entries. Versions are kept until 'outskirt optimize'. The table is curation_log in SQL.

Examples:
  outskirt history
  outskirt sql \"SELECT * FROM curation_log WHERE verb = 'delete'\" --format csv")]
pub struct Args {
    /// So many of them
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    last: u32,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let store = console.open(db).await?;
    let events = history(&store).await?;
    if events.is_empty() {
        return console.line("nothing has changed the images yet");
    }
    let rows: Vec<Vec<String>> = events.iter().rev().take(args.last as usize).map(row).collect();
    console.line(table::render(&["version", "when (UTC)", "what", "rows", "before it"], &rows, &[0, 3]))?;
    let more = events.len().saturating_sub(args.last as usize);
    if more > 0 {
        console.notice(format!("{more} earlier ones: --last {} shows all", events.len()))?;
    }
    Ok(())
}

fn row(event: &Event) -> Vec<String> {
    let before = if event.is_kept { format!("version {}", event.before) } else { "not kept".into() };
    let (when, what, rows) = match &event.change {
        Some(change) => {
            let when = change.changed_at.replace('T', " ");
            let when = when.split('.').next().unwrap_or_default().to_owned();
            let undone = if event.is_undone { " (undone)" } else { "" };
            (when, format!("{}{undone}", shortened(describe(change))), change.row_count.to_string())
        }
        None => (
            String::new(),
            "not recorded (interrupted, still running, older than the record, or by another program)".into(),
            String::new(),
        ),
    };
    vec![event.after.to_string(), when, what, rows, before]
}

/// What fits into a line of a terminal; curation_log has the rest.
fn shortened(text: String) -> String {
    match text.char_indices().nth(100) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// A change in a line: `delete WHERE label = 'cat'`.
pub(super) fn describe(change: &Change) -> String {
    let mut text = change.verb.clone();
    if let Some(version) = change.restored_version {
        text.push_str(&format!(" to version {version}"));
    }
    for (before, part) in [(" ", &change.detail), (" WHERE ", &change.predicate)] {
        if let Some(part) = part {
            text.push_str(before);
            text.push_str(&part.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
    text
}
