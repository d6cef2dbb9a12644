//! `outskirt optimize`.

use std::path::Path;
use std::time::Duration;

use indicatif::BinaryBytes;

use super::console::Console;
use super::table;
use crate::bank;
use crate::error::Result;
use crate::store::Store;

/// Merge small files, leave deleted images out of them, and prune versions that nobody needs
#[derive(Debug, clap::Args)]
#[command(after_help = "\
No image, id, score or bank changes. Kept are the latest version of each table, those that banks
stand for, those that another program is reading, and those younger than --keep. Merging takes as
much space for a moment as the merged files.

Examples:
  outskirt optimize
  outskirt optimize --keep 7days          versions of the last week stay, for 'my_bank@12' in SQL")]
pub struct Args {
    /// Keep versions that are younger, such as 12h or 7days
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    keep: Duration,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let store = Store::open(db).await?;
    let bar = console.spinner("");
    let done = bank::optimize(&store, args.keep, |what| bar.set_message(what)).await;
    bar.finish_and_clear();
    let done = done?;
    let change = |before: String, after: String| if before == after { after } else { format!("{before} → {after}") };
    let count = |before: usize, after: usize| change(before.to_string(), after.to_string());
    let bytes = |before, after| change(BinaryBytes(before).to_string(), BinaryBytes(after).to_string());
    let rows: Vec<Vec<String>> = done
        .tables
        .iter()
        .map(|(table, before, after)| {
            vec![
                (*table).into(),
                count(before.fragments, after.fragments),
                count(before.versions, after.versions),
                bytes(before.bytes, after.bytes),
            ]
        })
        .collect();
    console.line(table::render(&["table", "fragments", "versions", "size"], &rows, &[1, 2, 3]))?;
    console.line(format!("the database takes {}", bytes(done.bytes.0, done.bytes.1)))?;
    for bank in &done.rebuilt {
        console.line(format!("bank {bank}: its index files were made anew"))?;
    }
    for bank in &done.behind {
        console.notice(format!(
            "bank {} keeps version {} of images: 'outskirt bank refresh {}', then optimize again, gives that space back",
            bank.name,
            bank.follows(),
            bank.name
        ))?;
    }
    let stay = match done.still_read {
        Some(0) => return Ok(()),
        Some(1) => "1 old version stays".to_string(),
        Some(versions) => format!("{versions} old versions stay"),
        None => "old versions stay".into(),
    };
    console.notice(format!(
        "the database is being read by another program: {stay} until it is done and 'outskirt optimize' runs again"
    ))
}
