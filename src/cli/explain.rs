//! `outskirt explain`.

use std::path::{Path, PathBuf};

use super::console::Console;
use super::picture::Manner;
use super::report::{Form, check_page, write};
use super::table::on_one_line;
use super::{statements, table};
use crate::error::{Error, Result};
use crate::report::{Explained, Which, explain, explained_page};
use crate::sql::session::Session;

/// Explain one image: its score, what that means, and the images of the bank that are nearest to it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A picture that is not in the database is embedded by the bank's network. The own entry in the bank of one that is, is left
out. On a terminal a small picture stands above.

Examples:
  outskirt explain 17 --bank shop
  outskirt explain photos/new.jpg --bank shop --neighbors 10
  outskirt explain 'data.tar.gz!/cat/1.png' --bank shop --out 1.html
  outskirt explain 17 --bank shop --format json")]
pub struct Args {
    /// The image: its id, or its path, address or uri, in the database or not
    image: String,
    /// The bank
    #[arg(long)]
    bank: String,
    /// The share of ID images that the threshold accepts
    #[arg(long, default_value_t = 0.95)]
    tpr: f64,
    /// How many of the nearest images of the bank
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    neighbors: u32,
    /// Write a page instead, to a file whose name ends in .html; with --format json that object
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the same facts for programs: 'json' is one object
    #[arg(long, value_enum)]
    format: Option<Form>,
    /// Print no picture, also on a terminal
    #[arg(long)]
    no_picture: bool,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    match (&args.out, args.format) {
        (Some(_), Some(Form::Json)) => {}
        (Some(out), _) => check_page(out)?,
        (None, Some(Form::Html)) => return Err(Error::NoOut),
        (None, _) => {}
    }
    let which = args.image.parse().map_or_else(|_| Which::Uri(args.image.clone()), Which::Id);
    let session = Session::with_policy(&console.open(db).await?, &console.policy()?).await?;
    let found = explain(&session, &args.bank, &which, args.neighbors as usize, args.tpr).await?;
    statements::notices(&session, console)?;
    let json = match args.format {
        Some(Form::Json) => {
            Some(serde_json::to_string_pretty(&found).map_err(|error| Error::Output { source: error.into() })?)
        }
        _ => None,
    };
    if let Some(out) = args.out {
        let text = json.unwrap_or_else(|| explained_page(&found));
        write(&out, text.as_bytes()).map_err(Error::io("write", &out))?;
        return console.line(format!("{}: {}", out.display(), verdict(&found)));
    }
    if let Some(json) = json {
        return console.line(json);
    }
    if let Some(columns) = console.line_width().filter(|_| !args.no_picture)
        && let Some(picture) = found.thumbnails.get(&None)
    {
        console.bytes(&Manner::of_environment().shown(picture, columns)?)?;
    }
    console.line(text(&found))
}

const CHANGED: &str =
    "its file has changed since: this is of the picture as it was; 'outskirt ingest' of its folder takes the new one";

fn verdict(found: &Explained) -> String {
    match &found.decision {
        Some(decision) if decision.is_ood => format!("it lies outside bank {}", found.bank.name),
        Some(_) => format!("it lies within bank {}", found.bank.name),
        None => format!("bank {} is not calibrated, so there is no threshold", found.bank.name),
    }
}

fn text(found: &Explained) -> String {
    let named = [("dataset", &found.dataset), ("split", &found.split), ("label", &found.label)];
    let named = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
    let own = found.metadata.iter().map(|(name, value)| (name.clone(), value.clone()));
    let about: Vec<String> = named.chain(own).map(|(name, value)| format!("{name} {}", on_one_line(&value))).collect();
    let id = found.id.map_or_else(|| "not in the database: embedded now".into(), |id| format!("id {id}"));
    let bank = &found.bank;
    let mut lines = vec![
        on_one_line(&found.uri).into_owned(),
        [vec![id], about].concat().join(", "),
        String::new(),
        format!(
            "{} (version {}, k = {}, {} embeddings of {})",
            verdict(found),
            bank.version,
            bank.k,
            bank.rows,
            bank.backbone
        ),
        format!("score       {:.4}", found.score),
    ];
    if let Some(decision) = &found.decision {
        lines.push(format!("threshold   {:.4} at {} % TPR", decision.threshold, 100.0 * decision.tpr));
        let share = 100.0 * decision.percentile;
        lines.push(format!("percentile  {share:.2} % of {} calibration images have a smaller score", decision.images));
        lines.push(format!("p-value     {:.4}", decision.pvalue));
    }
    if found.file_has_changed {
        lines.push(CHANGED.into());
    }
    if found.is_in_bank {
        lines.push("it is in the bank itself: its own entry is left out".into());
    }
    let rows = found.neighbors.iter().map(|neighbor| {
        let uri = neighbor.uri.clone().unwrap_or_else(|| "deleted since".into());
        vec![
            format!("{:.4}", neighbor.distance),
            neighbor.id.to_string(),
            neighbor.label.clone().unwrap_or_default(),
            uri,
        ]
    });
    lines.extend([String::new(), "nearest images of the bank".into()]);
    lines.push(table::render(&["distance", "id", "label", "uri"], &rows.collect::<Vec<_>>(), &[0, 1]));
    lines.join("\n")
}
