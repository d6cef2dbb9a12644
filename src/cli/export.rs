//! `outskirt export`.

use std::path::{Path, PathBuf};

use super::console::{Console, advance};
use super::statements;
use crate::error::Result;
use crate::export::{ExportFiles, ExportFormat, ExportOptions, Exported, export};
use crate::sql::session::Session;

/// Write images, pictures and scores for other programs: datasets, pycocotools, Label Studio, FiftyOne, torchvision, CSV
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The rows come in the order of their ids, with what the table says of them, the columns of your own among it. With --bank each has
ood_score, pvalue (conformal, smaller is more OOD), is_ood and, with --neighbors, the bank's images that are nearest to it. Pictures are
called by their ids and come from where 'outskirt ingest' read them: the table, files, archives, addresses. The folder appears under its
name when it is whole.

  huggingface    data/SPLIT-00000-of-00001.parquet with the pictures in it, README.md, croissant.json: load_dataset(DIR)
  imagefolder    SPLIT/LABEL/ID.png and SPLIT/metadata.parquet: torchvision, Keras, load_dataset(DIR)
  coco           annotations.json (images and categories, no annotations) and images/
  label-studio   tasks-00000.json with predictions, config.xml and images/
  fiftyone       labels.csv, load.py and data/
  csv            images.csv and images/

Examples:
  outskirt export --where \"is_ood(my_net, 'shop')\" --bank shop --neighbors 3 --to review --as label-studio
  outskirt export --bank shop --limit 500 --to worst --as fiftyone --files link
  outskirt export --where \"NOT is_ood(my_net, 'shop')\" --to cleaned --as imagefolder
  outskirt export --column my_net --to all --as huggingface")]
pub struct Args {
    /// The folder, which must be empty or not be there
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Who reads it
    #[arg(long = "as", value_enum, value_name = "FORMAT")]
    format: Format,
    /// SQL over images: which are exported; all where it is left out
    #[arg(long = "where", value_name = "SQL", allow_hyphen_values = true)]
    predicate: Option<String>,
    /// So many at most: with --bank those with the largest scores, else those with the smallest ids
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// The bank whose scores, p-values and decisions go with the images; it must be calibrated
    #[arg(long)]
    bank: Option<String>,
    /// The share of ID images that the threshold accepts, for is_ood
    #[arg(long, default_value_t = 0.95)]
    tpr: f64,
    /// The bank's images that are nearest to each, with their distances
    #[arg(long, value_name = "N", default_value_t = 0)]
    neighbors: usize,
    /// A further column of images, such as embeddings or kept scores; may be given again
    #[arg(long = "column", value_name = "NAME")]
    columns: Vec<String>,
    /// What becomes of the pictures
    #[arg(long, value_enum, default_value_t = Files::Copy)]
    files: Files,
    /// A picture that is missing is an error, and nothing is written
    #[arg(long)]
    strict: bool,
}

/// Whose files are written.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// Hugging Face's datasets: Parquet files that hold the pictures
    Huggingface,
    /// COCO's JSON
    Coco,
    /// Label Studio's tasks
    LabelStudio,
    /// FiftyOne's CSV dataset
    Fiftyone,
    /// A CSV file
    Csv,
    /// A folder per split and label
    Imagefolder,
}

/// What becomes of the pictures.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Files {
    /// Their bytes are written into the folder
    Copy,
    /// Files of this machine become symbolic links to their absolute paths; what cannot be linked is copied
    Link,
    /// They are named where they are, by absolute path or address; images inside archives cannot be
    None,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let session = Session::with_policy(&console.open(db).await?, &console.policy()?).await?;
    let options = ExportOptions {
        to: args.to.clone(),
        format: match args.format {
            Format::Huggingface => ExportFormat::HuggingFace,
            Format::Coco => ExportFormat::Coco,
            Format::LabelStudio => ExportFormat::LabelStudio,
            Format::Fiftyone => ExportFormat::FiftyOne,
            Format::Csv => ExportFormat::Csv,
            Format::Imagefolder => ExportFormat::ImageFolder,
        },
        predicate: args.predicate,
        limit: args.limit,
        bank: args.bank,
        tpr: args.tpr,
        neighbors: args.neighbors,
        columns: args.columns,
        files: match args.files {
            Files::Copy => ExportFiles::Copy,
            Files::Link => ExportFiles::Link,
            Files::None => ExportFiles::None,
        },
        strict: args.strict,
    };
    let bar = console.progress("exporting", 1);
    let found = export(&session, &options, |done, all| advance(&bar, done, all)).await;
    bar.finish_and_clear();
    let found = found?;
    statements::notices(&session, console)?;
    console.line(format!("{}: {}", args.to.display(), summary(&found)))?;
    for warning in warnings(&found) {
        console.notice(warning)?;
    }
    found.notes.iter().try_for_each(|note| console.notice(note))
}

fn summary(found: &Exported) -> String {
    let mut parts = vec![format!("{} images", found.rows)];
    for (count, what) in
        [(found.copied, "copied"), (found.linked, "linked"), (found.referenced, "named where they are")]
    {
        if count > 0 {
            parts.push(format!("{count} pictures {what}"));
        }
    }
    parts.push(format!("{:.1} MB of pictures", found.bytes as f64 / 1e6));
    parts.join(", ")
}

/// What is not as one might think, a line each.
fn warnings(found: &Exported) -> Vec<String> {
    let mut lines = Vec::new();
    if found.missing > 0 {
        let examples = found.examples.iter().map(|(uri, reason)| format!("{uri} ({reason})"));
        lines.push(format!("pictures missing: {}, such as {}", found.missing, examples.collect::<Vec<_>>().join(", ")));
    }
    if found.in_archives > 0 {
        lines.push(format!(
            "images inside archives, which cannot be named: {}; --files copy takes them out",
            found.in_archives
        ));
    }
    if found.left_out > 0 {
        lines.push(format!("images left out for want of a picture: {}", found.left_out));
    }
    if found.changed > 0 {
        lines.push(format!(
            "files that are no longer what was embedded, so that their scores are of the former ones: {}; 'outskirt ingest' embeds them anew",
            found.changed
        ));
    }
    if found.converted > 0 {
        lines.push(format!("pictures written as PNG, for browsers do not show what they were: {}", found.converted));
    }
    lines
}
