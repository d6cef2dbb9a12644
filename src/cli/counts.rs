//! What an ingest counted, for people.

use super::console::Console;
use crate::error::Result;
use crate::ingest::IngestSummary;

/// What became of what was given to an ingest, in a line; `what` it is that was embedded or taken.
pub(super) fn describe_counts(dataset: &str, split: &str, summary: &IngestSummary, what: &str) -> String {
    let mut parts = vec![format!("{} added", summary.added)];
    let is_picture = what == "images";
    for (count, what) in [
        (summary.replaced, if is_picture { "replaced (the file had changed)" } else { "with another embedding" }),
        (summary.filled, "embedded by this backbone too"),
        (summary.unchanged, "there already"),
        (summary.labelled, "with another label"),
        (summary.described, "with other metadata"),
        (summary.deleted, "deleted earlier, left out (--again brings them back)"),
        (summary.repeated, "given twice"),
        (summary.clashed, "left out"),
        (summary.unmatched, "that belong to no row, left out"),
        (summary.refused, "refused"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    let split = if split.is_empty() { String::new() } else { format!("/{split}") };
    format!("{dataset}{split}: {} in {}", parts.join(", "), describe_rate(summary, what))
}

/// How long it took, and how many went through in that time.
pub(super) fn describe_rate(summary: &IngestSummary, what: &str) -> String {
    let seconds = summary.wall.as_secs_f64();
    match summary.embedded() {
        0 => format!("{seconds:.1} s"),
        done => {
            let rate = done as f64 / seconds;
            let digits = usize::from(rate < 100.0);
            format!("{seconds:.1} s, {rate:.digits$} {what}/s")
        }
    }
}

/// Name the first that were refused, and count the others.
pub(super) fn report_rejects(summary: &IngestSummary, console: &mut Console<'_>) -> Result<()> {
    for reject in &summary.first_rejects {
        console.notice(format!("refused {}: {}", reject.uri, reject.reason))?;
    }
    let unnamed = summary.refused - summary.first_rejects.len();
    if unnamed > 0 {
        console.notice(format!("… and {unnamed} more: SELECT * FROM rejects"))?;
    }
    Ok(())
}

/// A count of images, in words.
pub(super) fn images(count: u64) -> String {
    format!("{count} image{}", if count == 1 { "" } else { "s" })
}
