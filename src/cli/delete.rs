//! `outskirt delete`.

use std::path::Path;

use super::console::Console;
use super::follow::follow;
use super::statements;
use crate::error::Result;
use crate::schema;
use crate::sql::session::Session;

/// Delete the images for which a predicate holds, in one commit; banks follow
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Files on disk stay where they are. Until 'outskirt optimize', earlier versions of the table have
the images still.

Examples:
  outskirt delete --where \"dataset = 'camera_7' AND ingested_at < '2026-01-01'\" --dry-run
  outskirt delete --where \"dataset = 'new_batch' AND is_ood(my_net, 'shop')\"
  outskirt delete --where \"id IN (SELECT id FROM 'junk.csv')\"")]
pub struct Args {
    /// SQL over images; any function may be called
    #[arg(long = "where", value_name = "SQL", allow_hyphen_values = true)]
    predicate: String,
    /// Count them, and delete nothing
    #[arg(long)]
    dry_run: bool,
    /// Leave banks as they are: 'outskirt bank refresh' brings them up to date later
    #[arg(long)]
    no_refresh: bool,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let store = console.open(db).await?;
    let session = Session::with_policy(&store, &console.policy()?).await?;
    statements::watch(&session, console);
    session.check_condition(&args.predicate).await?;
    let count = match args.dry_run {
        true => session.count_where(&args.predicate).await?,
        false => session.delete_where(&args.predicate).await?,
    };
    statements::notices(&session, console)?;
    let left = store.count(schema::IMAGES).await?;
    if args.dry_run {
        return console.line(format!("would delete {count} of {left} images"));
    }
    let images = if count == 1 { "image" } else { "images" };
    console.line(format!("deleted {count} {images}, {left} are left"))?;
    // also where nothing is left to delete: an interrupted run may have got no further
    if args.no_refresh { Ok(()) } else { follow(&store, console).await }
}
