//! `outskirt copy`.

use std::path::PathBuf;

use super::console::{Console, advance};
use crate::error::Result;
use crate::store::copy;

/// Copy a database to another folder or bucket, with all its versions
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Nobody writes to the database meanwhile. Every file is read back from where it was written and compared; a copy that was
interrupted goes on where it was. Index files are not copied: they are made again where they are asked for.

Examples:
  outskirt copy shop.db s3://pets/shop.db
  outskirt copy s3://pets/shop.db backup.db")]
pub struct Args {
    /// The database: a folder, or s3://BUCKET/PATH
    from: PathBuf,
    /// Where it is to be as well: a folder or an address where nothing is
    to: PathBuf,
}

pub(super) async fn run(args: Args, console: &mut Console<'_>) -> Result<()> {
    let bar = console.progress("copy", 0);
    let tell = |done: u64, all: u64| advance(&bar, done as usize, all as usize);
    let copied = copy(&args.from, &args.to, console.patience(), tell).await;
    bar.finish_and_clear();
    let copied = copied?;
    let there = if copied.there > 0 { format!(", {} were there", copied.there) } else { String::new() };
    console.line(format!(
        "{}: {} files copied and read back, {:.1} MB{there}",
        args.to.display(),
        copied.files,
        copied.bytes as f64 / 1e6
    ))
}
