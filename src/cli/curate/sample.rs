//! `outskirt curate sample`.

use std::path::Path;

use crate::cli::console::Console;
use crate::cli::format::Format;
use crate::cli::output::print_batch;
use crate::cli::statements;
use crate::curate::{self, SampleOptions};
use crate::error::Result;
use crate::sql::session::Session;

/// A few images of many: the furthest outside, those at the threshold, diverse ones, or any
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Nothing is changed: the rows chosen are printed, the first one first. 'diverse' is greedy farthest-point selection: the
largest distance of any image to the nearest chosen one is at most twice the least possible, and stands_for says how many
images are nearest to each.

Examples:
  outskirt curate sample --n 100 --strategy diverse --bank shop --where \"is_ood(my_net, 'shop')\"
  outskirt curate sample --n 20 --strategy borderline --bank shop --per dataset --format csv > label.csv
  outskirt curate sample --n 5 --strategy random --per label --seed 7")]
pub struct Args {
    /// How many, of each group where there is --per
    #[arg(long, value_name = "N")]
    n: usize,
    /// How they are chosen
    #[arg(long, value_enum)]
    strategy: Strategy,
    /// SQL over images: which are chosen from; all where it is left out
    #[arg(long = "where", value_name = "SQL", allow_hyphen_values = true)]
    predicate: Option<String>,
    /// SQL over images, such as a column: so many of each of its values
    #[arg(long, value_name = "SQL", allow_hyphen_values = true)]
    per: Option<String>,
    /// The bank whose scores decide, and whose backbone's embeddings
    #[arg(long)]
    bank: Option<String>,
    /// The backbone whose embeddings decide, for 'diverse' without a bank
    #[arg(long, conflicts_with = "bank")]
    backbone: Option<String>,
    /// The share of ID images that the threshold accepts, for 'borderline'
    #[arg(long, default_value_t = 0.95)]
    tpr: f64,
    /// Of 'random': another seed gives others
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How rows are printed
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// How images are chosen.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Strategy {
    /// The largest scores
    Outlier,
    /// The scores nearest to the threshold, on both sides
    Borderline,
    /// Such that all are like one of them
    Diverse,
    /// Any
    Random,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    args.format.check(console.is_terminal())?;
    let session = Session::with_policy(&console.open(db).await?, &console.policy()?).await?;
    let strategy = match args.strategy {
        Strategy::Outlier => curate::Strategy::Outlier,
        Strategy::Borderline => curate::Strategy::Borderline,
        Strategy::Diverse => curate::Strategy::Diverse,
        Strategy::Random => curate::Strategy::Random,
    };
    let options = SampleOptions {
        strategy,
        n: args.n,
        predicate: args.predicate,
        per: args.per,
        bank: args.bank,
        backbone: args.backbone,
        tpr: args.tpr,
        seed: args.seed,
    };
    let spinner = console.spinner("choosing");
    let chosen = curate::sample(&session, &options).await;
    spinner.finish_and_clear();
    let chosen = chosen?;
    statements::notices(&session, console)?;
    print_batch(&curate::sampled_table(&session, &options, &chosen).await?, args.format, console)
}
