//! `outskirt query`.

use std::collections::HashMap;
use std::path::Path;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};

use super::console::Console;
use super::format::{Format, Rows};
use super::output::Layout;
use super::plot::{Drawing, Plots};
use super::statements::{self, Manner};
use super::table;
use crate::error::{Error, Result};
use crate::evaluate::sanity;
use crate::report::answer;
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
  outskirt query drift --param bank=shop --param \"before=split = 'val'\" \\
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
    #[command(flatten)]
    plots: Plots,
    #[cfg(feature = "cluster")]
    #[command(flatten)]
    cluster: super::cluster::ClusterArgs,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let Some(name) = args.name else { return list(console) };
    let query = NamedQuery::find(&name)?;
    if args.show {
        return console.line(query.text.trim_end());
    }
    args.format.check(console.is_terminal())?;
    let drawing = args.plots.drawing(args.format, console)?;
    let values = args.parameters.iter().map(|parameter| pair(parameter)).collect::<Result<Vec<_>>>()?;
    let session = Session::with_policy(&console.open(db).await?, &console.policy()?).await?;
    #[cfg(feature = "cluster")]
    let client = args.cluster.attach(&session, console).await?;
    let manner = Manner { format: args.format, rows: args.rows, quiet: false };
    if args.plots.is_asked() && name != "score_histogram" {
        console.notice(format!("query {name} has no plot: score_histogram has"))?;
    }
    let work = ask(&session, &query, &name, &values, drawing, manner, console);
    #[cfg(feature = "cluster")]
    let work = super::cluster::with(client, &session, work);
    work.await
}

/// Ask a query, and print what it gives.
async fn ask(
    session: &Session,
    query: &NamedQuery,
    name: &str,
    values: &[(String, String)],
    drawing: Option<Drawing>,
    manner: Manner,
    console: &mut Console<'_>,
) -> Result<()> {
    let text = query.render(values, session.banks())?;
    // a file of one's own may ask it of other tables
    for condition in query.conditions(values).filter(|_| !name.ends_with(".sql")) {
        session.check_condition(condition).await?;
    }
    match (name, drawing) {
        ("score_histogram", Some(drawing)) => histogram(session, &text, drawing, manner.rows, console).await,
        ("calibration_check" | "drift", _) => {
            let rows = statements::execute_kept(session, &text, manner, console).await?;
            let bank = query.bank(values, session.banks()).unwrap_or_default();
            let conditions: Vec<&str> = query.conditions(values).collect();
            console.warnings(match conditions[..] {
                [before, after] => sanity::of_drift(session, &bank, before, after).await?,
                [id] => sanity::seen_before(session, &bank, true, id, "held-out ID images").await?,
                _ => Vec::new(),
            })?;
            // beside the rows: these are for programs too
            answer(session, name, &bank, &rows)?.map_or(Ok(()), |answer| console.notice(answer))
        }
        _ => {
            // of those that outskirt brings nobody has the file
            let place = name.ends_with(".sql").then_some(name);
            statements::execute(session, &text, place, manner, console).await
        }
    }
}

/// Print the rows of `score_histogram` with bars that fit the line, in place of those of the query.
async fn histogram(
    session: &Session,
    text: &str,
    drawing: Drawing,
    most: Option<Rows>,
    console: &mut Console<'_>,
) -> Result<()> {
    statements::watch(session, console);
    let (_, batches) = statements::kept(session, text).await?;
    let (mut rows, mut counts) = (Vec::new(), Vec::new());
    for batch in &batches {
        let text = |column: usize| cast(batch.column(column), &DataType::Utf8);
        let (datasets, from, images) = (text(0)?, cast(batch.column(1), &DataType::Float64)?, text(2)?);
        let (datasets, images) = (datasets.as_string::<i32>(), images.as_string::<i32>());
        for at in 0..batch.num_rows() {
            let from = from.as_primitive::<Float64Type>().value(at);
            rows.push(vec![datasets.value(at).to_owned(), format!("{from}"), images.value(at).to_owned()]);
            counts.push(images.value(at).parse().unwrap_or(0.0));
        }
    }
    let mut peaks: HashMap<String, f64> = HashMap::new();
    for (row, count) in rows.iter().zip(&counts) {
        let peak = peaks.entry(row[0].clone()).or_insert(1.0);
        *peak = peak.max(*count);
    }
    let lengths: Vec<f64> = rows.iter().zip(&counts).map(|(row, count): (_, &f64)| count / peaks[&row[0]]).collect();
    let printed = Layout::of(console, most).rows.unwrap_or(rows.len()).min(rows.len());
    let header = ["dataset", "score_from", "images"];
    console.line(drawing.bars(&header, &rows[..printed], &[1, 2], &lengths[..printed]))?;
    if printed < rows.len() {
        console.notice(format!("{printed} of {} rows are printed: --rows all prints all", rows.len()))?;
    }
    statements::notices(session, console)
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
