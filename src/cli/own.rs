//! `outskirt ingest --embedding-column`: rows that came as numbers.

use std::path::{Path, PathBuf};

use super::console::Console;
use super::counts::{describe_counts, report_rejects};
use super::follow::{follow, tidy};
use crate::backbone::external_in;
use crate::error::{Error, Result};
use crate::image::{KeptQuery, table_files};
use crate::ingest::{OwnOptions, ingest_embeddings};
use crate::schema;

/// The arguments about embeddings that another program made.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Own embeddings")]
pub struct Numbers {
    /// The paths are no pictures but embeddings, in this column: of .parquet, .arrow, .feather, .lance, .csv and .jsonl
    /// tables, or the array of this name of .npz and .safetensors files, or a .npy file's. Columns dataset, split, uri and
    /// label say that of each row, others become columns of images. --backbone is a name of your own for the model
    #[arg(long, value_name = "COLUMN")]
    pub embedding_column: Option<String>,
    /// The version of the model: a text such as 'ViT-B-32/openai', by which embeddings of another one are told apart
    #[arg(long, value_name = "TEXT")]
    pub model_version: Option<String>,
    /// A row belongs to the rows of images that have the same value in this column, id or one of your own; without it to the one
    /// of its uri. No row is added, and nothing but the embeddings and logits is written
    #[arg(long, value_name = "COLUMN")]
    pub key: Option<String>,
    /// Class logits as well, in this column, for msp_score and energy_score
    #[arg(long, value_name = "COLUMN")]
    pub logits_column: Option<String>,
}

/// What is said of an ingest beside those.
#[derive(Debug)]
pub struct Given {
    /// Files.
    pub paths: Vec<PathBuf>,
    /// Of all rows, where it is said.
    pub dataset: Option<String>,
    /// Of all rows, where it is said.
    pub split: Option<String>,
    /// The external backbone.
    pub backbone: String,
    /// A table whose rows belong to those of the files.
    pub metadata: Option<PathBuf>,
    /// What uris keep of addresses' queries.
    pub query: KeptQuery,
    /// Stop at the first row that is refused, or that belongs to none by its key.
    pub strict: bool,
    /// Take rows again that were deleted.
    pub again: bool,
    /// Leave banks as they are.
    pub no_refresh: bool,
}

pub(super) async fn run(given: Given, numbers: Numbers, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let Given { paths, dataset, split, backbone, metadata, query, strict, again, no_refresh } = given;
    let known = external_in(db).await?.into_iter().find(|known| known.name == backbone);
    // the text need be given once
    let version = match (numbers.model_version, known) {
        (Some(version), _) => version,
        (None, Some(known)) => known.version,
        (None, None) => return Err(Error::NoModelVersion { name: backbone }),
    };
    if numbers.key.is_some() && split.is_some() {
        return Err(Error::KeyAndSplit);
    }
    let options = OwnOptions {
        column: numbers.embedding_column.unwrap_or_default(),
        logits: numbers.logits_column,
        key: numbers.key.clone(),
        backbone,
        version,
        dataset,
        split,
        metadata,
        query,
        strict,
        again,
    };
    let found = table_files(&paths)?;
    if let Some(first) = &found.first_other {
        let count = found.others;
        console.notice(format!(
            "{count} files of these folders are no tables or arrays; the first: {}",
            first.display()
        ))?;
    }
    let paths = found.files;
    let store = console.create(db).await?;
    let before = store.version(schema::IMAGES).await?;
    // text is read from beginning to end before its first row is given
    let bar = console.spinner("reading the tables");
    let mut said = Vec::new();
    let progress = |done, total: Option<u64>| {
        bar.set_message("ingesting embeddings");
        bar.set_length(total.unwrap_or(done));
        bar.set_position(done);
    };
    let tell = |line: String| said.push(line);
    let summary = ingest_embeddings(&store, &paths, &options, tell, progress).await;
    bar.finish_and_clear();
    said.into_iter().try_for_each(|line| console.notice(line))?;
    let summary = summary?;
    let dataset = options.dataset.as_deref().unwrap_or("all datasets");
    console.line(describe_counts(dataset, options.split.as_deref().unwrap_or(""), &summary, "rows"))?;
    if let Some(first) = &summary.first_clash {
        let count = summary.clashed;
        let same = numbers.key.as_deref().unwrap_or(schema::URI);
        console.notice(format!(
            "{count} left out: another row of this run has the same {same} and other numbers; the first: {first}"
        ))?;
    }
    if let (Some(first), Some(key)) = (&summary.first_unmatched, &numbers.key) {
        let count = summary.unmatched;
        console.notice(format!("{count} left out: no row of images has their {key}; the first: {first}"))?;
    }
    if summary.in_other_splits > 0 {
        let count = summary.in_other_splits;
        console.notice(format!(
            "{count} of them are in another split, where they stay: UPDATE images SET split = '…' WHERE … moves them"
        ))?;
    }
    report_rejects(&summary, console)?;
    if !no_refresh {
        follow(&store, console).await?;
    }
    tidy(&store, before, console).await
}
