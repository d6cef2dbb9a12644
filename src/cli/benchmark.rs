//! `outskirt benchmark`.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::console::Console;
use super::counts::report_rejects;
use super::evaluation::{Labels, print};
use super::format::Format;
use super::statements;
use super::summary::{describe_ingest, ingest_with_progress};
use crate::backbone::Backbone;
use crate::bank::{self, Definition};
use crate::error::Result;
use crate::evaluate::benchmark::{Experiment, Part, Plan, check_ks, networks, plan};
use crate::evaluate::{Compared, Evaluation, baselines, evaluate, sanity};
use crate::image::{self, ImageFiles};
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
called datasets, ood, ood_data, ood_datasets and id. Those that are not there are named and left out.
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
    /// Compare mahalanobis_score, rmds_score, nnguide_score, msp_score, energy_score, max_logit_score and gen_score too
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
    args.format.check(console.is_terminal())?;
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
    let mut evaluations = Vec::new();
    for (checkpoint, weights) in networks(experiment, &args.backbone, args.weights.as_deref(), &args.data, db).await? {
        let backbone = Backbone::load(checkpoint, weights.as_deref(), &console.trusted()?)?;
        let with_logits = args.baselines && backbone.classes().is_some();
        let backbone = if with_logits { backbone.with_logits()? } else { backbone };
        let (store, bank) = embed(&args, &plan, backbone, &ks, db, console).await?;
        evaluations.extend(compare(&args, &plan, &store, &bank, &ks, console).await?);
    }
    print(&evaluations, args.format, console)
}

/// Embed the images that are not there yet, and make the bank.
async fn embed(
    args: &Args,
    plan: &Plan,
    backbone: Backbone,
    ks: &[usize],
    db: &Path,
    console: &mut Console<'_>,
) -> Result<(Store, Definition)> {
    let spec = plan.bank(&backbone.manifest().name, ks[0], args.alpha, args.seed);
    let train = image::open(&plan.train.paths, &plan.train.selection)?;
    // better said now than after all was embedded
    check_ks(&spec.name, ks, train.total())?;
    let store = console.create(db).await?;
    ingest(&store, &backbone, &plan.train, train, console).await?;
    for part in plan.compared_parts() {
        let files = image::open(&part.paths, &part.selection)?;
        ingest(&store, &backbone, part, files, console).await?;
    }
    drop(backbone);
    for followed in bank::follow(&store).await? {
        if let Err(error) = followed.refreshed {
            console.notice(format!("bank {} was not refreshed: {error}", followed.bank))?;
        }
    }
    let bank = bank::ensure(&store, &spec).await?;
    console.notice(format!(
        "{}: {} ID embeddings of {} numbers in the bank {}",
        bank.backbone, bank.row_count, bank.dimension, bank.name
    ))?;
    Ok((store, bank))
}

async fn ingest(
    store: &Store,
    backbone: &Backbone,
    part: &Part,
    files: ImageFiles,
    console: &mut Console<'_>,
) -> Result<()> {
    let options = part.ingest_options();
    let summary = ingest_with_progress(store, backbone, files, &options, None, console).await?;
    console.notice(describe_ingest(&options, &summary))?;
    report_rejects(&summary, console)
}

/// Evaluate the bank by each score: `knn_ood_score` at each k, then the others where they are asked for.
async fn compare(
    args: &Args,
    plan: &Plan,
    store: &Store,
    bank: &Definition,
    ks: &[usize],
    console: &mut Console<'_>,
) -> Result<Vec<(Labels, Evaluation)>> {
    let session = Session::open(store).await?;
    let (id, ood) = (plan.test.predicate(), plan.ood.iter().map(Part::predicate).collect::<Vec<_>>());
    let mut scores: Vec<Compared> = ks.iter().map(|&k| Compared::Knn(Some(k))).collect();
    if args.baselines {
        let baselines = baselines(&session, store, &bank.name).await?;
        scores.extend(baselines.scores);
        for left_out in baselines.left_out {
            console.notice(left_out)?;
        }
    }
    let mut evaluations = Vec::new();
    for score in scores {
        let evaluation = evaluate(&session, &bank.name, score, &id, &ood).await?;
        evaluations.push((labels(args, bank, score), evaluation));
    }
    statements::notices(&session, console)?;
    console.warnings(sanity::of_evaluation(&session, &bank.name, None, &id, &ood).await?)?;
    Ok(evaluations)
}

/// What tells one evaluation from the others that were asked for.
fn labels(args: &Args, bank: &Definition, score: Compared) -> Labels {
    let mut labels = Labels::new();
    if args.backbone.len() != 1 {
        labels.push(("backbone", bank.backbone.clone()));
    }
    if args.baselines {
        labels.push(("score", score.name().into()));
    }
    if args.k.len() > 1 {
        let k = if let Compared::Knn(Some(k)) = score { k.to_string() } else { String::new() };
        labels.push(("k", k));
    }
    labels
}
