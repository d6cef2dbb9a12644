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

What writes merges small files by itself, where that leaves 64 fewer of a table (--automatic), and
says so. It prunes no version, so that every one can be restored, and says when another thousand of
them have come together; where --automatic-keep says how old they may become, older ones go then.

Examples:
  outskirt optimize
  outskirt optimize --keep 7days          versions of the last week stay, for 'my_bank@12' in SQL
  outskirt optimize --automatic 200 --automatic-keep 30days")]
pub struct Args {
    /// Keep versions that are younger, such as 12h or 7days
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    keep: Duration,
    /// From now on merge files without being asked where that leaves so many fewer of a table, or 'off'; nothing else is done
    #[arg(long, value_name = "FILES", value_parser = number_or_off)]
    automatic: Option<Setting<usize>>,
    /// From now on say when so many more versions of images have come together, or 'off'; nothing else is done
    #[arg(long, value_name = "VERSIONS", value_parser = number_or_off)]
    automatic_versions: Option<Setting<usize>>,
    /// From now on prune older versions then without being asked, or 'off'; nothing else is done
    #[arg(long, value_name = "TIME", value_parser = time_or_off)]
    automatic_keep: Option<Setting<Duration>>,
}

/// A value, or none where it is off.
#[derive(Debug, Clone, Copy)]
struct Setting<T>(Option<T>);

fn number_or_off(text: &str) -> Result<Setting<usize>, String> {
    match text {
        "off" => Ok(Setting(None)),
        _ => match text.parse() {
            Ok(number @ 2..) => Ok(Setting(Some(number))),
            _ => Err("it is a number, 2 or more, or 'off'".into()),
        },
    }
}

fn time_or_off(text: &str) -> Result<Setting<Duration>, String> {
    match text {
        "off" => Ok(Setting(None)),
        _ => humantime::parse_duration(text).map(|time| Setting(Some(time))).map_err(|error| error.to_string()),
    }
}

/// Keep other settings, and say what holds now.
async fn set(args: &Args, store: &Store, console: &mut Console<'_>) -> Result<()> {
    let lock = store.lock_in_turn().await?;
    let mut upkeep = store.upkeep().await?;
    if let Some(Setting(files)) = args.automatic {
        upkeep.merge_past = files;
    }
    if let Some(Setting(versions)) = args.automatic_versions {
        upkeep.many_versions = versions;
    }
    if let Some(Setting(time)) = args.automatic_keep {
        upkeep.keep = time;
    }
    store.set_upkeep(&lock, upkeep).await?;
    let merged = match upkeep.merge_past {
        Some(files) => format!("files of a table are merged where that leaves {files} fewer"),
        None => "files are not merged".into(),
    };
    let pruned = match (upkeep.many_versions, upkeep.keep) {
        (Some(versions), Some(time)) => {
            let time = humantime::format_duration(time);
            format!("with every {versions} versions those older than {time} are pruned")
        }
        (Some(versions), None) => format!("every {versions} versions are told, and none is pruned"),
        (None, _) => "no version is pruned".into(),
    };
    console.line(format!("by itself: {merged}; {pruned}"))
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let store = console.open(db).await?;
    if args.automatic.is_some() || args.automatic_versions.is_some() || args.automatic_keep.is_some() {
        return set(&args, &store, console).await;
    }
    let (store, bar) = console.told(store, "looking at the tables");
    let done = bank::optimize(&store, args.keep).await;
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
