//! `outskirt benchmark`.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::backbone::registered;
use super::evaluate::{Line, print, warn};
use super::network::report_rejects;
use super::{Console, Format, ingest};
use crate::backbone::{self, Backbone, Checkpoint};
use crate::bank::{self, BankSpec};
use crate::error::{Error, Result};
use crate::evaluate::benchmark::{Experiment, Part, Plan, plan, weights_in};
use crate::evaluate::{Compared, evaluate};
use crate::image::{self, ImageFiles};
use crate::index::IndexKind;
use crate::ingest::IngestOptions;
use crate::sql::session::Session;
use crate::store::Store;

/// Run one of the reference's experiments from files to its table, in percent
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  outskirt benchmark cifar10 --data ~/data --backbone resnet20_cifar10
  outskirt benchmark imagenet --data /data --backbone resnet50_supcon.toml --k 1000 --alpha 0.1

DIR holds the ID images (cifar10: a folder with train and test, or the CIFAR-10 archive; imagenet:
train and val) and OOD sets, as folders, archives or the files of their authors, also in folders
called datasets, ood, ood_data and ood_datasets. Those that are not there are named and left out.
Of a set with more than 10,000 images that many are drawn; of SVHN the first 1,000 of each digit
are taken. Running it again embeds only what is new.")]
pub struct Args {
    /// The experiment
    #[arg(value_enum)]
    experiment: Name,
    /// Where the data sets are
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// A name that 'outskirt backbone list' shows, or a manifest's path; may be given again. Where it is not: for cifar10
    /// every network that comes with outskirt and whose weights lie in DIR or in DIR/checkpoints
    #[arg(long)]
    backbone: Vec<String>,
    /// The weights file of the one backbone, where it is neither where the manifest says nor in DIR/checkpoints
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Neighbours counted, separated by commas; 50 for cifar10 and 1000 for imagenet where it is not given
    #[arg(long, value_delimiter = ',')]
    k: Vec<NonZeroUsize>,
    /// Share of the ID training images that the bank keeps, in (0, 1]
    #[arg(long, default_value_t = 1.0)]
    alpha: f64,
    /// Seed of that sampling, and of the OOD images drawn
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Compare mahalanobis_score, msp_score and energy_score too
    #[arg(long)]
    baselines: bool,
    /// How the table is printed: percent for people, fractions with all digits for machines
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Name {
    Cifar10,
    Imagenet,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    args.format.check(console)?;
    let experiment = match args.experiment {
        Name::Cifar10 => Experiment::Cifar10,
        Name::Imagenet => Experiment::Imagenet,
    };
    let plan = plan(experiment, &args.data, args.seed)?;
    if !plan.missing.is_empty() {
        console.notice(format!("not in {}: {}", args.data.display(), plan.missing.join(", ")))?;
    }
    let mut ks: Vec<usize> = args.k.iter().map(|k| k.get()).collect();
    if ks.is_empty() {
        ks.push(experiment.k());
    }
    let mut lines = Vec::new();
    for (checkpoint, weights) in backbones(&args, experiment, db).await? {
        let backbone = Backbone::load(checkpoint, weights.as_deref())?;
        lines.extend(of_backbone(&args, experiment, &plan, backbone, &ks, db, console).await?);
    }
    print(&lines, args.format, console)
}

/// The networks asked for, with the files of their weights.
async fn backbones(args: &Args, experiment: Experiment, db: &Path) -> Result<Vec<(Checkpoint, Option<PathBuf>)>> {
    let mut found = Vec::new();
    for name in &args.backbone {
        let checkpoint = backbone::find(name, registered(db).await?)?;
        let is_there = args.weights.is_some() || checkpoint.is_embedded() || checkpoint.weights_path().exists();
        let weights = if is_there { args.weights.clone() } else { weights_in(&args.data, &checkpoint)? };
        found.push((checkpoint, weights));
    }
    if args.backbone.is_empty() && experiment == Experiment::Cifar10 {
        for checkpoint in backbone::built_in()?.into_iter().filter(|known| !known.is_embedded()) {
            if let Some(weights) = weights_in(&args.data, &checkpoint)? {
                found.push((checkpoint, Some(weights)));
            }
        }
    }
    if found.is_empty() {
        return Err(Error::NoBackboneGiven { folder: args.data.clone() });
    }
    if args.weights.is_some() && found.len() != 1 {
        return Err(Error::WeightsOfSeveral { backbones: args.backbone.clone() });
    }
    Ok(found)
}

/// Embed the images that are not there yet, make the bank, compare.
async fn of_backbone(
    args: &Args,
    experiment: Experiment,
    plan: &Plan,
    backbone: Backbone,
    ks: &[usize],
    db: &Path,
    console: &mut Console<'_>,
) -> Result<Vec<Line>> {
    let name = backbone.manifest().name.clone();
    let with_logits = args.baselines && backbone.classes().is_some();
    let backbone = if with_logits { backbone.with_logits()? } else { backbone };
    let bank_name = format!("{}_{name}", experiment.name());
    let train = image::open(&plan.train.paths, &plan.train.selection)?;
    // the bank cannot hold more: better said now than after all was embedded
    let rows = train.total();
    if let Some(&k) = ks.iter().find(|&&k| k > rows) {
        return Err(Error::KOutOfRange { bank: bank_name, k: k as i128, rows, most: rows });
    }
    let store = Store::create(db).await?;
    add(&store, &backbone, &plan.train, train, console).await?;
    for part in [&plan.test].into_iter().chain(&plan.ood) {
        let files = image::open(&part.paths, &part.selection)?;
        add(&store, &backbone, part, files, console).await?;
    }
    drop(backbone);
    for (name, refreshed) in bank::refresh_all(&store).await? {
        if let Err(error) = refreshed {
            console.notice(format!("bank {name} was not refreshed: {error}"))?;
        }
    }

    let spec = BankSpec {
        name: bank_name,
        backbone: name.clone(),
        predicate: of_part(&plan.train),
        k: ks[0],
        alpha: args.alpha,
        seed: args.seed,
        index: IndexKind::Exact,
    };
    let bank = make(&store, &spec).await?;
    console.notice(format!(
        "{name}: {} ID embeddings of {} numbers in the bank {}",
        bank.row_count, bank.dimension, bank.name
    ))?;
    let session = Session::open(&store).await?;
    let mut compared: Vec<Compared> = ks.iter().map(|&k| Compared::Knn(Some(k))).collect();
    if args.baselines {
        compared.push(Compared::Mahalanobis);
    }
    if with_logits {
        compared.extend([Compared::Msp, Compared::Energy]);
    }
    let (id, ood) = (of_part(&plan.test), plan.ood.iter().map(of_part).collect::<Vec<_>>());
    let mut lines = Vec::new();
    for score in compared {
        let evaluation = evaluate(&session, &bank.name, score, &id, &ood).await?;
        let mut about = Vec::new();
        if args.backbone.len() != 1 {
            about.push(("backbone", name.clone()));
        }
        if args.baselines {
            about.push(("score", score.name().into()));
        }
        if ks.len() > 1 {
            let k = if let Compared::Knn(Some(k)) = score { k.to_string() } else { String::new() };
            about.push(("k", k));
        }
        lines.push(Line { about, evaluation });
    }
    for notice in session.banks().notices() {
        console.notice(notice)?;
    }
    warn(&session, &bank.name, None, &id, console).await?;
    Ok(lines)
}

async fn add(
    store: &Store,
    backbone: &Backbone,
    part: &Part,
    files: ImageFiles,
    console: &mut Console<'_>,
) -> Result<()> {
    let options = IngestOptions {
        dataset: part.dataset.clone(),
        split: part.split.into(),
        store_images: false,
        workers: rayon::current_num_threads(),
        strict: false,
    };
    let summary = ingest::with_progress(store, backbone, files, &options, None, console).await?;
    console.notice(ingest::describe(&options, &summary))?;
    report_rejects(&summary, console)
}

fn of_part(part: &Part) -> String {
    format!("dataset = '{}' AND split = '{}'", part.dataset, part.split)
}

/// The bank, as it is asked for now and of all images that are there now.
async fn make(store: &Store, spec: &BankSpec) -> Result<bank::Definition> {
    if let Some(there) = bank::list(store).await?.into_iter().find(|bank| bank.name == spec.name) {
        let same = (&there.backbone, &there.predicate, there.k, there.alpha, there.seed)
            == (&spec.backbone, &spec.predicate, spec.k, spec.alpha, spec.seed);
        if same {
            return Ok(there);
        }
        bank::drop_bank(store, &spec.name).await?;
    }
    bank::create(store, spec).await
}
