//! `outskirt report`.

use std::path::{Path, PathBuf};

use super::console::Console;
use super::statements;
use crate::error::{Error, Result};
use crate::report::{Question, Report, page, report};
use crate::sql::session::Session;

/// Write a page of what lies outside a bank: how much, how sure that is, and the pictures
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The page is one file that asks nothing of any network: sentences with their SQL, charts, tables that sort, and
pictures that filter, each with its score, p-value and nearest images of the bank. Its size follows
--max-images, not the number of images.

Examples:
  outskirt report --bank shop --out report.html
  outskirt report --bank shop --where \"dataset = 'camera_7'\" --id \"split = 'test'\" --out camera_7.html
  outskirt report --bank cifar10 --id \"dataset = 'cifar10' AND split = 'test'\" \\
      --ood \"dataset = 'textures'\" --ood \"dataset = 'places'\" --out cifar10.html
  outskirt report --bank shop --format json > report.json")]
pub struct Args {
    /// The bank, which must be calibrated
    #[arg(long)]
    bank: String,
    /// SQL over images: which are measured; all but the bank's own where it is left out
    #[arg(long = "where", value_name = "SQL", allow_hyphen_values = true)]
    predicate: Option<String>,
    /// SQL over images: in-distribution images that neither the bank nor its calibration has seen, to check the calibration with and
    /// to compare OOD sets with; those of the calibration where it is left out
    #[arg(long, value_name = "SQL", allow_hyphen_values = true)]
    id: Option<String>,
    /// SQL over images: one OOD set, for its ROC curve, AUROC and FPR95; may be given again
    #[arg(long, value_name = "SQL", allow_hyphen_values = true)]
    ood: Vec<String>,
    /// The share of ID images that the threshold accepts
    #[arg(long, default_value_t = 0.95)]
    tpr: f64,
    /// What the report is called
    #[arg(long)]
    title: Option<String>,
    /// Pictures that are shown
    #[arg(long, default_value_t = 200, value_name = "N")]
    max_images: usize,
    /// The file; one that is there is replaced
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// A page for people, or the same facts for programs: JSON, to --out or else printed
    #[arg(long, value_enum, default_value_t = Form::Html)]
    format: Form,
    #[cfg(feature = "cluster")]
    #[command(flatten)]
    cluster: super::cluster::ClusterArgs,
}

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// A page
    Html,
    /// One JSON object
    Json,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let out = match (args.format, args.out) {
        (Form::Html, out) => {
            let out = out.ok_or(Error::NoOut)?;
            check_page(&out)?;
            Some(out)
        }
        (Form::Json, out) => out,
    };
    let session = Session::with_policy(&console.open(db).await?, &console.policy()?).await?;
    #[cfg(feature = "cluster")]
    let client = args.cluster.attach(&session, console).await?;
    let question = Question {
        bank: args.bank,
        predicate: args.predicate,
        id: args.id,
        ood: args.ood,
        tpr: args.tpr,
        title: args.title,
        max_images: args.max_images,
    };
    let spinner = console.spinner("report");
    let work = report(&session, &question, |stage| spinner.set_message(stage.to_owned()));
    #[cfg(feature = "cluster")]
    let work = super::cluster::with(client, &session, work);
    let found = work.await;
    spinner.finish_and_clear();
    let found = found?;
    statements::notices(&session, console)?;
    let text = match args.format {
        Form::Html => page(&found),
        Form::Json => serde_json::to_string_pretty(&found).map_err(|error| Error::Output { source: error.into() })?,
    };
    let Some(out) = out else { return console.line(text) };
    write(&out, text.as_bytes()).map_err(Error::io("write", &out))?;
    console.line(format!("{}: {}", out.display(), summary(&found, text.len())))
}

/// Refuse what is no name of a page: a picture would be written over.
pub(super) fn check_page(out: &Path) -> Result<()> {
    let is_page = out.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
    let is_page = is_page.is_some_and(|ending| ending == "html" || ending == "htm");
    if is_page { Ok(()) } else { Err(Error::NoPage { path: out.into() }) }
}

/// Whole or not at all: whoever has the former one open keeps it. A link leads on, and what is no file (a pipe, a device) is written
/// to as it is.
pub(super) fn write(out: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let is_other = std::fs::metadata(out).is_ok_and(|found| !found.is_file() && !found.is_dir());
    if is_other {
        return std::fs::write(out, bytes);
    }
    let out = std::fs::canonicalize(out).unwrap_or_else(|_| out.into());
    let name = out.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let beside = out.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = std::fs::write(&beside, bytes).and_then(|()| std::fs::rename(&beside, &out));
    if written.is_err() {
        // what is left of it is of no use
        let _ = std::fs::remove_file(&beside);
    }
    written
}

fn summary(report: &Report, bytes: usize) -> String {
    let without = report.pictures.iter().filter(|picture| picture.without_picture.is_some()).count();
    let without = if without > 0 { format!(", {without} of them without a picture") } else { String::new() };
    format!(
        "{} of {} images lie outside bank {}; {} are shown{without}; {:.1} MB",
        report.ood,
        report.images,
        report.bank.name,
        report.pictures.len(),
        bytes as f64 / 1e6
    )
}
