//! `outskirt curate tag`, `keep` and `ignore`: a column set for many images at once.

use std::path::Path;

use crate::cli::console::Console;
use crate::cli::counts::images;
use crate::cli::follow::follow;
use crate::cli::statements;
use crate::curate::{self, CURATION, Curated, IGNORE, KEEP};
use crate::error::{Error, Result};
use crate::sql::session::Session;

/// Set a column for the images for which a predicate holds
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --yes the images are counted and nothing is written; with it banks follow. A column that is not there yet is added, of type TEXT. It is one entry of
'outskirt history', which 'outskirt undo' takes back. In SQL: ALTER TABLE images ADD COLUMN k TEXT; UPDATE images SET k = 'v' WHERE …

Examples:
  outskirt curate tag --where \"dataset = 'camera_7' AND is_ood(my_net, 'shop')\" --set state=to_label
  outskirt curate tag --where \"id IN (SELECT id FROM 'labelled.csv')\" --set label=cat --yes
  outskirt curate tag --where \"state = 'done'\" --unset state --yes")]
pub struct Args {
    /// SQL over images; any function may be called
    #[arg(long = "where", value_name = "SQL", allow_hyphen_values = true)]
    predicate: String,
    /// A column and its value: one of your own, label or split
    #[arg(long, value_name = "COLUMN=VALUE", required_unless_present = "unset")]
    set: Option<String>,
    /// A column to be NULL
    #[arg(long, value_name = "COLUMN", conflicts_with = "set")]
    unset: Option<String>,
    /// Do it
    #[arg(long)]
    yes: bool,
    /// Leave banks as they are: 'outskirt bank refresh' brings them up to date later
    #[arg(long, requires = "yes")]
    no_refresh: bool,
}

/// Which images a mark is for.
#[derive(Debug, clap::Args)]
pub struct MarkArgs {
    /// SQL over images; any function may be called
    #[arg(long = "where", value_name = "SQL", allow_hyphen_values = true)]
    predicate: String,
    /// Take the mark away
    #[arg(long)]
    no_more: bool,
    /// Do it
    #[arg(long)]
    yes: bool,
    /// Leave banks as they are: 'outskirt bank refresh' brings them up to date later
    #[arg(long, requires = "yes")]
    no_refresh: bool,
}

/// How it is done.
struct Manner {
    yes: bool,
    no_refresh: bool,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let (column, value) = match (&args.set, &args.unset) {
        (Some(set), _) => match set.split_once('=') {
            Some((column, value)) => (column.trim().to_owned(), Some(value.to_owned())),
            None => return Err(Error::NoTag { given: set.clone() }),
        },
        (None, Some(column)) => (column.clone(), None),
        (None, None) => return Err(Error::NoTag { given: String::new() }),
    };
    let manner = Manner { yes: args.yes, no_refresh: args.no_refresh };
    set(&args.predicate, &column, value.as_deref(), manner, db, console).await
}

pub(super) async fn keep(args: MarkArgs, db: &Path, console: &mut Console<'_>) -> Result<()> {
    mark(KEEP, args, db, console).await
}

pub(super) async fn ignore(args: MarkArgs, db: &Path, console: &mut Console<'_>) -> Result<()> {
    mark(IGNORE, args, db, console).await
}

async fn mark(mark: &str, args: MarkArgs, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let MarkArgs { predicate, no_more, yes, no_refresh } = args;
    let manner = Manner { yes, no_refresh };
    if no_more {
        let marked = format!("({predicate}) AND {CURATION} = '{mark}'");
        return set(&marked, CURATION, None, manner, db, console).await;
    }
    set(&predicate, CURATION, Some(mark), manner, db, console).await
}

async fn set(
    predicate: &str,
    column: &str,
    value: Option<&str>,
    manner: Manner,
    db: &Path,
    console: &mut Console<'_>,
) -> Result<()> {
    let store = console.open(db).await?;
    let session = Session::with_policy(&store, &console.policy()?).await?;
    statements::watch(&session, console);
    let Curated { changed, unchanged, kept } = curate::tag(&session, predicate, column, value, manner.yes).await?;
    statements::notices(&session, console)?;
    let value = value.map_or_else(|| "NULL".into(), |value| format!("'{value}'"));
    let mut others = if unchanged > 0 { format!("; {unchanged} have it already") } else { String::new() };
    if kept > 0 {
        others += &format!("; {kept} are marked keep, and stay so");
    }
    if !manner.yes {
        return console.line(format!("would set {column} = {value} in {}{others}; --yes does it", images(changed)));
    }
    console.line(format!("{column} = {value} in {}{others}", images(changed)))?;
    // also where nothing is left to do: an interrupted run may have got no further
    if manner.no_refresh { Ok(()) } else { follow(&store, console).await }
}
