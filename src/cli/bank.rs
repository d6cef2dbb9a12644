//! `outskirt bank create | calibrate | refresh | verify | list | drop`.

use std::path::Path;

use clap::Subcommand;

use super::{Console, table};
use crate::bank::{self, BankSpec, Definition, Recall, Refreshed};
use crate::error::Result;
use crate::evaluate::sanity;
use crate::index::IndexKind;
use crate::schema;
use crate::sql::session::Session;
use crate::store::Store;

/// Create, calibrate, refresh, verify, list and drop banks.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a bank of the images for which a predicate holds
    #[command(after_help = "\
Example:
  outskirt bank create cifar10 --backbone resnet20_cifar10 \\
      --where \"dataset = 'cifar10' AND split = 'train'\" --k 50")]
    Create(Create),
    /// Measure the scores of held-out ID images, from which thresholds come
    #[command(after_help = "\
Example:
  outskirt bank calibrate cifar10 --where \"dataset = 'cifar10' AND split = 'val'\"")]
    Calibrate(Calibrate),
    /// Bring a bank up to date with its table: images that were added, deleted or changed since
    #[command(after_help = "\
Only what changed is read. A bank none of whose images changed keeps its version, and with it its
calibration and kept scores. 'outskirt ingest' refreshes all banks when it is done.

Examples:
  outskirt bank refresh cifar10
  outskirt bank refresh cifar10 --calibrate
  outskirt bank refresh --all")]
    Refresh(Refresh),
    /// Compare a bank's graph with exact search on a sample of images
    #[command(after_help = "\
Example:
  outskirt bank verify cifar10 --ood \"dataset = 'textures'\"")]
    Verify(Verify),
    /// List the banks
    List,
    /// Drop a bank, its calibrations and its index file; the images stay
    Drop {
        /// The bank
        name: String,
    },
}

/// Arguments of `bank refresh`.
#[derive(Debug, clap::Args)]
pub struct Refresh {
    /// The bank
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    name: Option<String>,
    /// Every bank
    #[arg(long)]
    all: bool,
    /// Measure the calibrations of a bank that changed again, with the images that their predicates find now
    #[arg(long)]
    calibrate: bool,
}

/// Arguments of `bank create`.
#[derive(Debug, clap::Args)]
pub struct Create {
    /// Its name: lower-case letters, digits and '_'
    name: String,
    /// The backbone whose embeddings it holds
    #[arg(long)]
    backbone: String,
    /// SQL over images: the in-distribution images
    #[arg(long = "where", value_name = "SQL")]
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
    /// outskirt.search = 'hnsw' uses it)
    #[arg(long, default_value = "exact", value_parser = |name: &str| name.parse::<IndexKind>())]
    index: IndexKind,
}

/// Arguments of `bank calibrate`.
#[derive(Debug, clap::Args)]
pub struct Calibrate {
    /// The bank
    name: String,
    /// SQL over images: held-out in-distribution images, none of them in the bank
    #[arg(long = "where", value_name = "SQL")]
    predicate: String,
    /// Neighbours counted, where not the bank's own
    #[arg(long)]
    k: Option<usize>,
}

/// Arguments of `bank verify`.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// The bank
    name: String,
    /// Images of each side that are searched for in both ways
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    sample: u32,
    /// SQL over images: in-distribution images; without it those of the calibration, or else the bank's own
    #[arg(long, value_name = "SQL")]
    id: Option<String>,
    /// SQL over images: out-of-distribution images, to see what FPR95 and AUROC lose
    #[arg(long, value_name = "SQL")]
    ood: Option<String>,
}

pub(super) async fn run(command: Command, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let store = Store::open(db).await?;
    match command {
        Command::Create(args) => {
            let spec = BankSpec {
                name: args.name,
                backbone: args.backbone,
                predicate: args.predicate,
                k: args.k,
                alpha: args.alpha,
                seed: args.seed,
                index: args.index,
            };
            let bar = console.progress("building the bank", 0);
            bar.enable_steady_tick(std::time::Duration::from_millis(200));
            let made = bank::create(&store, &spec).await;
            bar.finish_and_clear();
            let made = made?;
            console.line(format!(
                "bank {}: {} embeddings of dimension {} from {}, k = {}, table version {}",
                made.name, made.row_count, made.dimension, made.backbone, made.k, made.table_version
            ))?;
            let warnings = sanity::of_bank(&Session::open(&store).await?, &made.name).await?;
            warnings.into_iter().try_for_each(|warning| console.notice(format!("warning: {warning}")))
        }
        Command::Calibrate(args) => {
            let bar = console.progress("scoring held-out images", 0);
            bar.enable_steady_tick(std::time::Duration::from_millis(200));
            let made = bank::calibrate(&store, &args.name, &args.predicate, args.k).await;
            bar.finish_and_clear();
            let made = made?;
            let threshold = match made.threshold(0.95) {
                Ok(threshold) => format!("threshold at 95 % TPR {threshold:.6}"),
                Err(reason) => reason.to_string(),
            };
            console.line(format!(
                "bank {}: calibrated with {} images at k = {}, {threshold}",
                made.bank,
                made.scores.len(),
                made.k
            ))
        }
        Command::Verify(args) => {
            let bar = console.progress("searching in both ways", 0);
            bar.enable_steady_tick(std::time::Duration::from_millis(200));
            let sample = args.sample as usize;
            let found = bank::recall(&store, &args.name, sample, args.id.as_deref(), args.ood.as_deref()).await;
            bar.finish_and_clear();
            verified(&found?, console)
        }
        Command::Refresh(args) => {
            let done = match &args.name {
                Some(name) => vec![(name.clone(), bank::refresh(&store, name).await)],
                None => bank::refresh_all(&store).await?,
            };
            for (_, refreshed) in done {
                let refreshed = refreshed?;
                console.line(describe(&refreshed))?;
                if args.calibrate {
                    calibrate_again(&store, &refreshed.bank, console).await?;
                }
            }
            Ok(())
        }
        Command::List => list(&store, console).await,
        Command::Drop { name } => {
            let dropped = bank::drop_bank(&store, &name).await?;
            console.line(format!("bank {}: dropped; its {} images stay", dropped.name, dropped.row_count))
        }
    }
}

/// Refresh all banks after their table has changed; what fails is a notice: the change is made already.
pub(super) async fn follow(store: &Store, console: &mut Console<'_>) -> Result<()> {
    for (name, refreshed) in bank::refresh_all(store).await? {
        match refreshed {
            Ok(refreshed) if refreshed.added + refreshed.removed + refreshed.changed > 0 => {
                console.line(describe(&refreshed))?;
            }
            Ok(_) => {}
            Err(error) => console.notice(format!("bank {name} was not refreshed: {error}"))?,
        }
    }
    Ok(())
}

fn describe(refreshed: &Refreshed) -> String {
    let Refreshed { bank, added, removed, changed, rebuilt } = refreshed;
    if added + removed + changed == 0 {
        return format!(
            "bank {}: up to date with version {} of images, {} embeddings",
            bank.name,
            bank.follows(),
            bank.row_count
        );
    }
    let graph = if *rebuilt { ", its index files were made anew" } else { "" };
    format!(
        "bank {}: {added} embeddings added, {removed} removed, {changed} changed; {} now, version {}{graph}",
        bank.name, bank.row_count, bank.table_version
    )
}

async fn calibrate_again(store: &Store, bank: &Definition, console: &mut Console<'_>) -> Result<()> {
    for made in bank::list_calibrations(store).await? {
        if made.bank == bank.name && made.table_version != bank.table_version {
            let made = bank::calibrate(store, &bank.name, &made.predicate, Some(made.k)).await?;
            console.line(format!(
                "bank {}: calibrated with {} images at k = {}",
                made.bank,
                made.scores.len(),
                made.k
            ))?;
        }
    }
    Ok(())
}

fn verified(found: &Recall, console: &mut Console<'_>) -> Result<()> {
    let bank = &found.bank;
    if let Some(notice) = &found.notice {
        console.notice(notice)?;
    }
    console.line(format!(
        "bank {}: {} embeddings, {}, k = {}; {} ID images ({}), {} OOD images",
        bank.name, bank.row_count, bank.index_kind, bank.k, found.id_images, found.id_predicate, found.ood_images
    ))?;
    console.line(format!(
        "k-th distance equal to the exact one: {:.2} % of the images; error {:.6} on average, {:.6} at most",
        100.0 * found.recall,
        found.mean_error,
        found.largest_error
    ))?;
    if let Some((exact, graph)) = &found.metrics {
        let row = |name: &str, exact: f64, graph: f64| {
            let drift = format!("{:+.2}", 100.0 * (graph - exact));
            vec![name.into(), format!("{:.2}", 100.0 * exact), format!("{:.2}", 100.0 * graph), drift]
        };
        let rows = [row("FPR95", exact.fpr95, graph.fpr95), row("AUROC", exact.auroc, graph.auroc)];
        console.line(table::render(&["percent", "exact", "graph", "drift"], &rows, &[1, 2, 3]))?;
    }
    Ok(())
}

async fn list(store: &Store, console: &mut Console<'_>) -> Result<()> {
    let banks = bank::list(store).await?;
    if banks.is_empty() {
        return console.notice("no banks yet: 'outskirt bank create' makes one");
    }
    let calibrations = bank::list_calibrations(store).await?;
    let images = store.version(schema::IMAGES).await?;
    let mut churns = Vec::with_capacity(banks.len());
    for bank in &banks {
        // a version that is gone leaves it unknown
        churns.push(bank::churn(store, bank).await.ok().flatten());
    }
    let rows: Vec<Vec<String>> = banks
        .into_iter()
        .zip(churns)
        .map(|(bank, churn)| {
            let calibrated = calibrations.iter().find(|made| made.bank == bank.name && made.k == bank.k);
            let state = if bank.follows() == images { "current" } else { "behind" };
            vec![
                bank.name,
                bank.backbone,
                bank.row_count.to_string(),
                bank.dimension.to_string(),
                bank.k.to_string(),
                bank.alpha.to_string(),
                bank.index_kind,
                churn.map_or("".into(), |churn| format!("{:.1} %", 100.0 * churn)),
                bank.table_version.to_string(),
                state.into(),
                bank.created_at.split('T').next().unwrap_or_default().into(),
                calibrated.map_or("no".into(), |made| {
                    let older = if made.table_version == bank.table_version { "" } else { " (older version)" };
                    format!("{} images{older}", made.scores.len())
                }),
                bank.predicate,
            ]
        })
        .collect();
    let header = [
        "name",
        "backbone",
        "rows",
        "d",
        "k",
        "alpha",
        "index",
        "churn",
        "version",
        "state",
        "made",
        "calibrated",
        "where",
    ];
    console.line(table::render(&header, &rows, &[2, 3, 4, 5, 7, 8]))
}
