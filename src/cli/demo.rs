//! `outskirt demo`: the whole road on pictures it draws itself.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::console::Console;
use super::counts::report_rejects;
use super::evaluation::{Labels, print};
use super::format::Format;
use super::stages::Stages;
use super::statements::{self, Manner};
use super::summary::ingest_with_progress;
use crate::backbone::{self, Backbone, Trusted};
use crate::bank;
use crate::demo::{self, CLASSES, DataSet, Folder, OOD};
use crate::error::Result;
use crate::evaluate::{Compared, evaluate};
use crate::image::{self, Selection};
use crate::ingest::{IngestOptions, IngestSummary};
use crate::sql::queries::NamedQuery;
use crate::sql::session::Session;
use crate::store::Store;

/// Draw ten classes of pictures and five sets that do not belong, embed them, build and calibrate a bank,
/// and print how well the score tells them apart
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where pictures and database go; a demo that is there is replaced
    #[arg(long, default_value = "outskirt-demo", value_name = "FOLDER")]
    dir: PathBuf,
    /// Seed of the pictures
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Instead: train the demo's network again and write its weights to FILE (.safetensors)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dir", "seed"])]
    train: Option<PathBuf>,
    /// Passes over the training pictures
    #[arg(long, default_value_t = 30, requires = "train")]
    epochs: usize,
}

/// `is_named`: whether the command line names a database.
pub(super) async fn run(args: Args, is_named: bool, console: &mut Console<'_>) -> Result<()> {
    if let Some(file) = &args.train {
        return train(file, args.epochs, console);
    }
    if is_named {
        let place = args.dir.join("db");
        console.notice(format!(
            "the demo's database is {}, and --db (OUTSKIRT_DB) is left alone: --dir moves it",
            place.display()
        ))?;
    }
    run_experiment(&args, console).await
}

fn train(file: &Path, epochs: usize, console: &mut Console<'_>) -> Result<()> {
    demo::train(file, epochs, |epoch, loss, accuracy| {
        // an epoch that nobody reads of is no reason to stop
        let _ = console.notice(format!("epoch {epoch}: loss {loss:.4}, held-out accuracy {:.2} %", 100.0 * accuracy));
    })?;
    let sha256 = backbone::sha256_file(file)?;
    console.line(format!("{}: put sha256 = \"{sha256}\" into its manifest", file.display()))
}

async fn run_experiment(args: &Args, console: &mut Console<'_>) -> Result<()> {
    let mut stages = Stages::default();
    let folder = Folder::prepare(&args.dir)?;
    console.line(format!("1. drawing {} classes and {} sets that do not belong …", CLASSES.len(), OOD.len()))?;
    let start = Instant::now();
    let drawn = demo::write_pictures(&folder.pictures, args.seed, demo::COUNTS)?;
    stages.add("draw PNG files", start, drawn);

    console.line(format!("2. embedding them with the backbone {} …", demo::BACKBONE))?;
    let start = Instant::now();
    let backbone = Backbone::load(backbone::find(demo::BACKBONE, Vec::new())?, None, &Trusted::default())?;
    let store = console.create(&folder.database).await?;
    stages.add("create the database, load the backbone", start, 0);
    ingest(&folder, &store, &backbone, &mut stages, console).await?;

    console.line(format!("3. building and calibrating the bank '{}' …", demo::BANK))?;
    let start = Instant::now();
    let bank = bank::create(&store, &demo::bank()).await?;
    stages.add("build the bank, its index and its graph", start, bank.row_count);
    let start = Instant::now();
    let calibration = bank::calibrate(&store, demo::BANK, demo::CALIBRATION, None).await?;
    stages.add("calibrate", start, calibration.scores.len());

    let start = Instant::now();
    let session = Session::open(&store).await?;
    let evaluation =
        evaluate(&session, demo::BANK, Compared::Knn(None), demo::ID_TEST, &demo::ood_predicates()).await?;
    let scored = evaluation.id_rows + evaluation.sets.iter().map(|set| set.rows).sum::<usize>();
    stages.add("evaluate", start, scored);
    console.line(format!(
        "\nHow well the score tells {} ID test images from each set, in percent:\n",
        evaluation.id_rows
    ))?;
    print(&[(Labels::new(), evaluation)], Format::Table, console)?;

    let start = Instant::now();
    let values = [("limit", "10"), ("where", "split = 'test'")].map(|(name, value)| (name.into(), value.into()));
    let top = NamedQuery::find("top_outliers")?.render(&values, session.banks())?;
    console.line(format!("\nThe images that lie furthest outside (sql/top_outliers.sql):\n\n{}", top.trim_end()))?;
    statements::execute(&session, &top, None, Manner { format: Format::Table, rows: None, quiet: false }, console)
        .await?;
    stages.add("top outliers by SQL", start, 0);

    console.line(format!(
        "\nTime per stage on {} threads (of ingest also the busy time, summed over threads):\n\n{}",
        rayon::current_num_threads(),
        stages.table()
    ))?;
    console.line(next_steps(console.program(), &folder.database))
}

/// Ingest the data sets, one after the other.
async fn ingest(
    folder: &Folder,
    store: &Store,
    backbone: &Backbone,
    stages: &mut Stages,
    console: &mut Console<'_>,
) -> Result<()> {
    let start = Instant::now();
    let mut summaries = Vec::new();
    for DataSet { dataset, split, folder } in folder.data_sets() {
        let options = IngestOptions {
            dataset: dataset.into(),
            split: split.into(),
            store_images: false,
            workers: rayon::current_num_threads(),
            strict: false,
            again: false,
        };
        let files = image::open(&[folder], &Selection::default())?;
        let summary = ingest_with_progress(store, backbone, files, &options, None, console).await?;
        report_rejects(&summary, console)?;
        summaries.push(summary);
    }
    let added = summaries.iter().map(|summary| summary.added).sum();
    stages.add("ingest", start, added);
    for (what, busy) in [
        ("  read and hash", (|s| s.stages.read) as fn(&IngestSummary) -> Duration),
        ("  decode", |s| s.stages.decode),
        ("  resize and normalise", |s| s.stages.preprocess),
        ("  forward pass", |s| s.stages.forward),
        ("  commit to Lance", |s| s.write),
    ] {
        stages.add_busy(what, summaries.iter().map(busy).sum(), added);
    }
    Ok(())
}

fn next_steps(program: &str, db: &Path) -> String {
    let database = format!("{program} --db {}", db.display());
    [
        "\nGo on from here:".to_string(),
        format!("{database} query outliers_by_month"),
        format!("{database} query --list"),
        format!("{database} report --bank demo --out report.html"),
        format!(
            "{database} sql \"SELECT label, avg(knn_ood_score(demo_shapes, 'demo', 1)) FROM images GROUP BY label\""
        ),
        format!("{database} bank list"),
        format!("{database} ingest YOUR/PICTURES --dataset mine --backbone demo_shapes"),
        format!("{program} ingest --help"),
        "Your own images and your own network: see README.md.".to_string(),
    ]
    .join("\n  ")
}
