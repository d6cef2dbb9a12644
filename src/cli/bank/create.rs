//! `outskirt bank create`.

use std::path::Path;

use crate::backbone::{self, Checkpoint};
use crate::bank::{self, BankSpec};
use crate::cli::console::Console;
use crate::error::{Error, Result};
use crate::evaluate::sanity;
use crate::index::IndexKind;
use crate::sql::session::Session;
use crate::store::Store;

/// Arguments of `bank create`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  outskirt bank create cifar10 --backbone resnet20_cifar10 \\
      --where \"dataset = 'cifar10' AND split = 'train'\" --k 50")]
pub struct Args {
    /// Its name: lower-case letters, digits and '_'
    name: String,
    /// The backbone whose embeddings it holds: its name, or its manifest's path
    #[arg(long)]
    backbone: String,
    /// SQL over images: the in-distribution images
    #[arg(long = "where", value_name = "SQL", allow_hyphen_values = true)]
    predicate: String,
    /// Neighbours counted where a query does not say otherwise
    #[arg(long, default_value_t = 50)]
    k: usize,
    /// Share of the images that is kept, in (0, 1]
    #[arg(long, default_value_t = 1.0)]
    alpha: f64,
    /// Seed of that sampling
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// exact; or hnsw, hnsw-bf16, hnsw-i8 to keep a graph as well, its vectors in 4, 2 or 1 bytes per number (SET
    /// outskirt.search = 'hnsw' uses it); or sharded-2 to sharded-4096, the exact index in so many files, of a bank that is
    /// larger than a machine
    #[arg(long, default_value = "exact", value_parser = |name: &str| name.parse::<IndexKind>())]
    index: IndexKind,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let store = console.open(db).await?;
    let Args { name, backbone, predicate, k, alpha, seed, index } = args;
    let backbone = named(&store, backbone).await?;
    let spec = BankSpec { name, backbone, predicate, k, alpha, seed, index };
    let (store, bar) = console.told(store, "reading ids");
    let made = bank::create(&store, &spec).await;
    bar.finish_and_clear();
    let made = made?;
    console.line(format!(
        "bank {}: {} embeddings of dimension {} from {}, k = {}, table version {}",
        made.name, made.row_count, made.dimension, made.backbone, made.k, made.table_version
    ))?;
    console.warnings(sanity::of_bank(&Session::open(&store).await?, &made.name).await?)
}

/// The column that is meant: that of a manifest where its path is given, as for 'outskirt ingest'.
///
/// Errors: a manifest that cannot be read; a column that other weights have filled.
async fn named(store: &Store, backbone: String) -> Result<String> {
    if !backbone::is_path(&backbone) {
        return Ok(backbone);
    }
    let manifest = Checkpoint::read(Path::new(&backbone))?.manifest;
    let columns = store.embedding_columns().await?;
    let column = columns.into_iter().find(|column| column.backbone == manifest.name);
    match column.filter(|column| !column.sha256.eq_ignore_ascii_case(&manifest.sha256)) {
        Some(column) => {
            let (stored, given) = (format!("sha256 {}", column.sha256), format!("sha256 {}", manifest.sha256));
            Err(Error::OtherCheckpoint { column: column.backbone, stored, given })
        }
        None => Ok(manifest.name),
    }
}
