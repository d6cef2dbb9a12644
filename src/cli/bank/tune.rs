//! `outskirt bank tune`.

use std::num::NonZeroUsize;
use std::path::Path;

use crate::bank::{self, Definition, Tried, Tuned};
use crate::cli::console::Console;
use crate::cli::{statements, table};
use crate::error::Result;
use crate::evaluate::held_back;
use crate::sql::session::Session;

/// Arguments of `bank tune`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  outskirt bank tune cifar10 --id \"dataset = 'cifar10' AND split = 'val'\" --ood \"dataset = 'food101'\"

The best k is that with the largest AUROC. Choose it by images that no table is made of: OOD images of
other kinds than those that you test with, and ID images that do not calibrate the bank.")]
pub struct Args {
    /// The bank
    name: String,
    /// SQL over images: held-out in-distribution images
    #[arg(long, value_name = "SQL", allow_hyphen_values = true)]
    id: String,
    /// SQL over images: out-of-distribution images for validation
    #[arg(long, value_name = "SQL", allow_hyphen_values = true)]
    ood: String,
    /// Numbers of neighbours that are tried, separated by commas; 1,5,10,20,50,100,200,500,1000 as far as the bank has so many
    /// images, where it is not given
    #[arg(long, value_delimiter = ',')]
    k: Vec<NonZeroUsize>,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let store = console.open(db).await?;
    let ks: Vec<usize> = args.k.iter().map(|k| k.get()).collect();
    let bar = console.spinner("searching");
    let tuned = bank::tune(&store, &args.name, &args.id, &args.ood, &ks).await;
    bar.finish_and_clear();
    let tuned = tuned?;
    if tuned.id_inside_bank > 0 {
        console.notice(format!(
            "{} of the {} ID images are rows of the bank itself: their scores are too low, most of all at small k",
            tuned.id_inside_bank, tuned.id_images
        ))?;
    }
    let session = Session::with_policy(&store, &console.policy()?).await?;
    console.warnings(held_back::of_tuning(&session, &args.name, &args.id, &args.ood).await?)?;
    statements::notices(&session, console)?;
    print(&tuned, db, console)
}

fn print(tuned: &Tuned, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let (bank, best) = (&tuned.bank, tuned.best());
    console.line(format!(
        "bank {}: {} ID images, {} OOD images, in percent",
        bank.name, tuned.id_images, tuned.ood_images
    ))?;
    let percent = |number: f64| format!("{:.2}", 100.0 * number);
    let row = |tried: &Tried| {
        let (interval, metrics) = (tried.auroc, tried.metrics);
        let mark = match (tried.k == best.k, tried.k == bank.k) {
            (true, true) => "best, the bank's own",
            (true, false) => "best",
            (false, true) => "the bank's own",
            (false, false) => "",
        };
        let interval = format!("{}–{}", percent(interval.lower), percent(interval.upper));
        vec![tried.k.to_string(), percent(metrics.auroc), interval, percent(metrics.fpr95), mark.into()]
    };
    let rows: Vec<Vec<String>> = tuned.tried.iter().map(row).collect();
    console.line(table::render(&["k", "AUROC", "95 % interval", "FPR95", ""], &rows, &[0, 1, 2, 3]))?;
    if best.k == bank.k {
        return console.line(format!("k = {} is the bank's own: there is nothing to change", bank.k));
    }
    console.line(format!(
        "k = {k} in a query: knn_ood_score({column}, '{name}', {k}); as the bank's own, where its calibrations go too:\n  {}",
        make_anew(bank, best.k, db),
        k = best.k,
        column = bank.backbone,
        name = bank.name
    ))
}

/// The commands that make a bank anew with another k.
fn make_anew(bank: &Definition, k: usize, db: &Path) -> String {
    let name = &bank.name;
    let here = quoted(&std::path::absolute(db).unwrap_or_else(|_| db.into()).display().to_string());
    let mut line = format!(
        "outskirt --db {here} bank drop {name} && outskirt --db {here} bank create {name} --backbone {} --where {} --k {k}",
        bank.backbone,
        quoted(&bank.predicate)
    );
    if bank.alpha < 1.0 {
        line += &format!(" --alpha {} --seed {}", bank.alpha, bank.seed);
    }
    if bank.index_kind != "exact" {
        line += &format!(" --index {}", bank.index_kind);
    }
    line
}

/// An argument of a shell.
fn quoted(text: &str) -> String {
    let escaped = text.chars().flat_map(|letter| {
        let escape = matches!(letter, '"' | '\\' | '$' | '`').then_some('\\');
        escape.into_iter().chain([letter])
    });
    format!("\"{}\"", escaped.collect::<String>())
}
