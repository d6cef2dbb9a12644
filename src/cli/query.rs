//! `outskirt query`.

use std::path::Path;

use super::console::Console;
use super::format::{Format, Rows};
use super::statements::{self, Manner};
use super::table;
use crate::error::{Error, Result};
use crate::sql::queries::{NamedQuery, shipped};
use crate::sql::session::Session;

/// Run a named query: one question each, with typed parameters
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  outskirt query --list
  outskirt query top_outliers --param bank=cifar10 --param limit=50
  outskirt query reference_table --param bank=cifar10 \\
      --param \"id=dataset = 'cifar10' AND split = 'test'\" --param \"ood=dataset <> 'cifar10'\"
  outskirt query drift --param bank=shop --param \"before=ingested_at < '2026-01-01'\" \\
      --param \"after=ingested_at >= '2026-01-01'\" --format csv
  outskirt query my_question.sql --show")]
pub struct Args {
    /// Its name, or the path of a .sql file of one's own that is written like those of --show
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// A parameter's value; may be given again
    #[arg(short, long = "param", value_name = "NAME=VALUE")]
    parameters: Vec<String>,
    /// List all queries, their questions and parameters
    #[arg(long, conflicts_with_all = ["name", "parameters"])]
    list: bool,
    /// Print the query instead of running it
    #[arg(long)]
    show: bool,
    /// How rows are printed
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Rows of a table that are printed, or 'all'; 100 on a terminal and all elsewhere where it is left out
    #[arg(long, value_name = "N")]
    rows: Option<Rows>,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let Some(name) = args.name else { return list(console) };
    let query = NamedQuery::find(&name)?;
    if args.show {
        return console.line(query.text.trim_end());
    }
    let values = args.parameters.iter().map(|parameter| pair(parameter)).collect::<Result<Vec<_>>>()?;
    let session = Session::with_policy(&console.open(db).await?, &console.policy()?).await?;
    let text = query.render(&values, session.banks())?;
    let manner = Manner { format: args.format, rows: args.rows, quiet: false };
    // of those that outskirt brings nobody has the file
    let place = name.ends_with(".sql").then_some(name.as_str());
    statements::execute(&session, &text, place, manner, console).await
}

fn pair(parameter: &str) -> Result<(String, String)> {
    let (name, value) = parameter.split_once('=').ok_or_else(|| Error::NoValue { parameter: parameter.into() })?;
    Ok((name.trim().into(), value.trim().into()))
}

fn list(console: &mut Console<'_>) -> Result<()> {
    let rows = shipped()?.into_iter().map(|query| {
        let parameters = query.parameters.iter().map(|parameter| match &parameter.default {
            Some(default) => format!("{}={default}", parameter.name),
            None => format!("{}=…", parameter.name),
        });
        vec![query.name, parameters.collect::<Vec<_>>().join(" "), query.question]
    });
    console.line(table::render(&["query", "parameters", "question"], &rows.collect::<Vec<_>>(), &[]))
}
