//! `outskirt curate delete`.

use std::path::Path;

use crate::cli::console::Console;
use crate::cli::counts::images;
use crate::cli::follow::follow;
use crate::cli::statements;
use crate::curate::{self, Curated};
use crate::error::Result;
use crate::schema;
use crate::sql::session::Session;

/// Delete the images for which a predicate holds, but for those marked keep; banks follow
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --yes the images are counted and nothing is deleted. Files on disk stay where they are; 'outskirt undo' takes it back until
'outskirt optimize' gives the space of earlier versions back. In SQL: DELETE FROM images WHERE …

Examples:
  outskirt curate delete --where \"dataset = 'camera_7' AND is_ood(my_net, 'shop', 0.999)\"
  outskirt curate delete --where \"id IN (SELECT id FROM 'junk.csv')\" --yes")]
pub struct Args {
    /// SQL over images; any function may be called
    #[arg(long = "where", value_name = "SQL", allow_hyphen_values = true)]
    predicate: String,
    /// Delete them
    #[arg(long)]
    yes: bool,
    /// Leave banks as they are: 'outskirt bank refresh' brings them up to date later
    #[arg(long)]
    no_refresh: bool,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let store = console.open(db).await?;
    let session = Session::with_policy(&store, &console.policy()?).await?;
    statements::watch(&session, console);
    let Curated { changed, kept, .. } = curate::delete(&session, &args.predicate, args.yes).await?;
    statements::notices(&session, console)?;
    let kept = if kept > 0 { format!("; {} marked keep stay", images(kept)) } else { String::new() };
    let images = images(changed);
    if !args.yes {
        let all = store.count(schema::IMAGES).await?;
        return console.line(format!("would delete {images} of {all}{kept}; --yes does it"));
    }
    console.line(format!("deleted {images}, {} are left{kept}", store.count(schema::IMAGES).await?))?;
    // also where nothing is left to delete: an interrupted run may have got no further
    if args.no_refresh { Ok(()) } else { follow(&store, console).await }
}
