//! `outskirt ingest`.

use std::path::{Path, PathBuf};

use super::console::Console;
use super::follow::{follow, tidy};
use super::network::Network;
use super::own::{self, Numbers};
use super::summary::{describe_ingest, ingest_with_progress, report_ingest};
use crate::error::{Error, Result};
use crate::image::{self, KeptQuery, Selection};
use crate::ingest::{IngestOptions, Metadata};
use crate::schema;

/// Parameters that a notice names.
const NAMES_SHOWN: usize = 6;

/// Embed images with a backbone and add them to the database, which is created where there is none
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  outskirt ingest data/train --dataset pets --split train --backbone pets.toml
  outskirt ingest cifar10/train-0.tar.gz cifar10/train-1.tar.gz --dataset cifar10 --split train \\
      --backbone resnet20_cifar10 --weights resnet20-12fca82f.th
  outskirt ingest https://host/pets.tar.gz s3://bucket/pets/ --dataset pets --backbone pets.toml

Class folders give the column label: cats/1.png is labelled 'cats'. Files that are in the table
already are left alone, so the same command can be run again. Files that cannot be read are
counted, and named in the table rejects. S3 is told by AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_REGION, AWS_ENDPOINT_URL, …; AWS_SKIP_SIGNATURE=true reads public buckets.")]
pub struct Args {
    /// Folders (any depth), PNG, JPEG, WebP, TIFF, GIF, BMP, TGA, PPM, PGM and PBM files; .tar, .tar.gz and .zip archives; CIFAR-10/100 (binary or Python
    /// version), SVHN .mat and MNIST idx files; .parquet and .lance tables with image bytes, and .csv, .jsonl and .parquet
    /// tables with a column uri, whose other columns become columns of images; .txt lists of paths. All but .lance also at
    /// http://, https:// and s3:// addresses; folders and wildcards of S3
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Value of the column dataset; tables of embeddings may have it as a column
    #[arg(long)]
    dataset: Option<String>,
    /// Value of the column split; '' where it is not given
    #[arg(long)]
    split: Option<String>,
    /// Of data sets that come in parts, the one to take, or 'all'; --split where that is train, test, val or another part's name
    #[arg(long, value_name = "PART")]
    part: Option<String>,
    /// Of each label at most N, the first ones: 1000 of SVHN is the reference's rule
    #[arg(long, value_name = "N")]
    per_class: Option<usize>,
    /// N images, drawn by --seed
    #[arg(long, value_name = "N")]
    sample: Option<usize>,
    /// The seed of --sample
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Of addresses' queries keep the parameters of these names in uri; nothing else of a query is kept, for it may give
    /// access
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    keep_query: Vec<String>,
    /// A .csv, .jsonl or .parquet table with a column uri: its other columns become columns of images
    #[arg(long, value_name = "FILE")]
    metadata: Option<PathBuf>,
    /// Stop at the first file or row that cannot be taken, and with --key at the first that belongs to no image
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    network: Network,
    /// Keep the bytes of new files in the table as well
    #[arg(long)]
    store_images: bool,
    /// Take images again that were deleted: without it they stay out
    #[arg(long)]
    again: bool,
    /// Leave banks as they are: 'outskirt bank refresh' brings them up to date later
    #[arg(long)]
    no_refresh: bool,
    #[command(flatten)]
    numbers: Numbers,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let (dataset, split) = (args.dataset.clone().unwrap_or_default(), args.split.clone().unwrap_or_default());
    let mut args = args;
    if args.numbers.embedding_column.is_none() && args.paths.iter().all(|path| image::is_array(path)) {
        // there is but one thing that an array can be
        args.numbers.embedding_column = Some(String::new());
    }
    if args.numbers.embedding_column.is_some() {
        let of_pictures = [
            ("--part", args.part.is_some()),
            ("--per-class", args.per_class.is_some()),
            ("--sample", args.sample.is_some()),
            ("--store-images", args.store_images),
        ];
        let given = of_pictures.into_iter().filter(|(_, is_given)| *is_given).map(|(option, _)| option);
        let given: Vec<&str> = given.chain(args.network.given()).collect();
        if !given.is_empty() {
            return Err(Error::OnlyOfPictures { options: given.join(", ") });
        }
        let query = KeptQuery::parameters(args.keep_query);
        let backbone = args.network.name().to_owned();
        let Args { paths, dataset, split, metadata, strict, again, no_refresh, numbers, .. } = args;
        let given = own::Given { paths, dataset, split, backbone, metadata, query, strict, again, no_refresh };
        return own::run(given, numbers, db, console).await;
    }
    if args.dataset.is_none() {
        return Err(Error::NoDataset);
    }
    let of_embeddings = [
        ("--model-version", args.numbers.model_version.is_some()),
        ("--key", args.numbers.key.is_some()),
        ("--logits-column", args.numbers.logits_column.is_some()),
    ];
    if let Some((option, _)) = of_embeddings.into_iter().find(|(_, is_given)| *is_given) {
        return Err(Error::OnlyOfEmbeddings { option });
    }
    let part = args.part.or_else(|| Selection::part_of_split(&split));
    let query = KeptQuery::parameters(args.keep_query);
    let (per_class, sample, seed) = (args.per_class, args.sample, args.seed);
    let selection = Selection { part, or_all_parts: false, per_class, sample, seed, query };
    let mut files = image::open(&args.paths, &selection)?;
    let beside = args.metadata.map(|path| match path.to_str() {
        Some(text) => image::here(text).map(PathBuf::from),
        None => Ok(path),
    });
    let metadata = Metadata::of(files.table_columns()?, beside.transpose()?.as_deref(), &selection.query)?;
    metadata.renamed().try_for_each(|line| console.notice(line))?;
    if let names @ [_, ..] = files.left_out_of_uris() {
        console.notice(format!(
            "of queries uri does not keep {}: addresses that differ in that alone are one image (--keep-query NAME keeps it)",
            names.iter().take(NAMES_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ")
        ))?;
    }
    files.notes().iter().try_for_each(|line| console.notice(line))?;
    let backbone = args.network.load(db, console).await?;
    let store = console.create(db).await?;
    let before = store.version(schema::IMAGES).await?;
    let options = IngestOptions {
        dataset,
        split,
        store_images: args.store_images,
        workers: args.network.workers(),
        strict: args.strict,
        again: args.again,
    };
    let summary = ingest_with_progress(&store, &backbone, files, &options, Some(&metadata), console).await?;
    console.line(describe_ingest(&options, &summary))?;
    report_ingest(&options, &summary, console)?;
    metadata.unmatched().into_iter().try_for_each(|line| console.notice(line))?;
    args.network.report(&backbone, &summary, console)?;
    if !args.no_refresh {
        follow(&store, console).await?;
    }
    tidy(&store, before, console).await
}
