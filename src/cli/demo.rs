//! `outskirt demo`: the whole road on pictures it draws itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Console, Format, evaluate, ingest, sql, table};
use crate::backbone::{self, Backbone};
use crate::bank::{self, BankSpec};
use crate::demo::{CLASSES, Counts, OOD, write_pictures};
use crate::error::{Error, Result};
use crate::evaluate::Compared;
use crate::index::{IndexKind, Storage};
use crate::ingest::{IngestOptions, IngestSummary};
use crate::sql::queries::NamedQuery;
use crate::sql::session::Session;
use crate::store::Store;

/// A folder with this file in it is a demo's, and may be made again.
const MARKER: &str = "made-by-outskirt-demo";

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

pub(super) async fn run(args: Args, console: &mut Console<'_>) -> Result<()> {
    if let Some(file) = args.train {
        crate::demo::train(&file, args.epochs, |epoch, loss, accuracy| {
            let _ =
                console.notice(format!("epoch {epoch}: loss {loss:.4}, held-out accuracy {:.2} %", 100.0 * accuracy));
        })?;
        let sha256 = backbone::sha256_file(&file)?;
        return console.line(format!("{}: put sha256 = \"{sha256}\" into its manifest", file.display()));
    }
    demo(&args, console).await
}

async fn demo(args: &Args, console: &mut Console<'_>) -> Result<()> {
    let mut stages = Stages::default();
    prepare(&args.dir)?;
    let (pictures, db) = (args.dir.join("pictures"), args.dir.join("db"));

    console.line(format!("1. drawing {} classes and {} sets that do not belong …", CLASSES.len(), OOD.len()))?;
    let counts = Counts { train: 300, calibration: 60, test: 60, ood: 300 };
    let drawn = stages.time("draw PNG files", || write_pictures(&pictures, args.seed, counts))?;
    stages.count(drawn);

    console.line("2. embedding them with the backbone demo_shapes …")?;
    let start = Instant::now();
    let backbone = Backbone::load(backbone::find("demo_shapes", Vec::new())?, None)?;
    let store = Store::create(&db).await?;
    stages.add("create the database, load the backbone", start, 0);
    let start = Instant::now();
    let mut summaries = Vec::new();
    let id = ["train", "calibration", "test"].map(|split| ("shapes_id", split, pictures.join("id").join(split)));
    let ood = OOD.map(|set| (set, "test", pictures.join("ood").join(set)));
    for (dataset, split, folder) in id.into_iter().chain(ood) {
        let options = IngestOptions {
            dataset: dataset.into(),
            split: split.into(),
            store_images: false,
            workers: rayon::current_num_threads(),
            strict: false,
        };
        let files = crate::image::open(&[folder], &crate::image::Selection::default())?;
        let summary = ingest::with_progress(&store, &backbone, files, &options, None, console).await?;
        super::network::report_rejects(&summary, console)?;
        summaries.push(summary);
    }
    stages.add("ingest", start, summaries.iter().map(|summary| summary.added).sum());
    for (what, busy) in [
        ("  read and hash", (|s| s.stages.read) as fn(&IngestSummary) -> Duration),
        ("  decode", |s| s.stages.decode),
        ("  resize and normalise", |s| s.stages.preprocess),
        ("  forward pass", |s| s.stages.forward),
        ("  commit to Lance", |s| s.write),
    ] {
        stages.busy(what, summaries.iter().map(busy).sum(), summaries.iter().map(|summary| summary.added).sum());
    }

    console.line("3. building and calibrating the bank 'demo' …")?;
    let start = Instant::now();
    let spec = BankSpec {
        name: "demo".into(),
        backbone: "demo_shapes".into(),
        predicate: "dataset = 'shapes_id' AND split = 'train'".into(),
        k: 10, // the paper takes 50 for 50,000 images; this bank has 3,000
        alpha: 1.0,
        seed: 0,
        index: IndexKind::Hnsw(Storage::F32),
    };
    let bank = bank::create(&store, &spec).await?;
    stages.add("build the bank, its index and its graph", start, bank.row_count);
    let start = Instant::now();
    let held_out = "dataset = 'shapes_id' AND split = 'calibration'";
    let calibration = bank::calibrate(&store, "demo", held_out, None).await?;
    stages.add("calibrate", start, calibration.scores.len());

    let start = Instant::now();
    let session = Session::open(&store).await?;
    let id = "dataset = 'shapes_id' AND split = 'test'";
    let ood: Vec<String> = OOD.iter().map(|set| format!("dataset = '{set}'")).collect();
    let evaluation = crate::evaluate::evaluate(&session, "demo", Compared::Knn(None), id, &ood).await?;
    let scored = evaluation.id_rows + evaluation.sets.iter().map(|set| set.rows).sum::<usize>();
    stages.add("evaluate", start, scored);
    console.line(format!(
        "\nHow well the score tells {} ID test images from each set, in percent:\n",
        evaluation.id_rows
    ))?;
    evaluate::print(&[evaluate::Line { about: Vec::new(), evaluation }], Format::Table, console)?;

    let start = Instant::now();
    let values = [("limit", "10"), ("where", "split = 'test'")].map(|(name, value)| (name.into(), value.into()));
    let top = NamedQuery::find("top_outliers")?.render(&values, session.banks())?;
    console.line(format!("\nThe images that lie furthest outside (sql/top_outliers.sql):\n\n{}", top.trim_end()))?;
    sql::execute(&session, &top, Format::Table, console).await?;
    stages.add("top outliers by SQL", start, 0);

    console.line(format!(
        "\nTime per stage on {} threads (of ingest also the busy time, summed over threads):\n\n{}",
        rayon::current_num_threads(),
        stages.table()
    ))?;
    console.line(next_steps(console.program(), &db))
}

/// Make the folder, or empty the parts of an earlier demo.
fn prepare(folder: &Path) -> Result<()> {
    let refuse = |reason: &str| Error::Demo { path: folder.into(), reason: reason.into() };
    let marker = folder.join(MARKER);
    match fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
        Ok(true) if !marker.exists() => {
            return Err(refuse("is not empty and not a demo's folder: name another with --dir"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io("open", folder)(error)),
    }
    for part in ["pictures", "db"] {
        let part = folder.join(part);
        if part.exists() {
            fs::remove_dir_all(&part).map_err(Error::io("remove", &part))?;
        }
    }
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    fs::write(&marker, "outskirt demo may empty this folder\n").map_err(Error::io("write", &marker))
}

fn next_steps(program: &str, db: &Path) -> String {
    let database = format!("{program} --db {}", db.display());
    [
        "\nGo on from here:".to_string(),
        format!("{database} query outliers_by_month"),
        format!("{database} query --list"),
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

/// Seconds and images per second of each stage.
#[derive(Default)]
struct Stages {
    rows: Vec<(String, f64, usize)>,
}

impl Stages {
    fn time<R>(&mut self, what: &str, work: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        let result = work();
        self.add(what, start, 0);
        result
    }

    fn add(&mut self, what: &str, start: Instant, images: usize) {
        self.busy(what, start.elapsed(), images);
    }

    fn busy(&mut self, what: &str, time: Duration, images: usize) {
        self.rows.push((what.into(), time.as_secs_f64(), images));
    }

    /// Images of the last stage, where only its work tells.
    fn count(&mut self, images: usize) {
        if let Some(last) = self.rows.last_mut() {
            last.2 = images;
        }
    }

    fn table(&self) -> String {
        let rate = |seconds: f64, images: usize| match images {
            0 => String::new(),
            images => format!("{:.0}", images as f64 / seconds),
        };
        let rows: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|(what, seconds, images)| {
                let images_text = if *images == 0 { String::new() } else { images.to_string() };
                vec![what.clone(), format!("{seconds:.2}"), images_text, rate(*seconds, *images)]
            })
            .collect();
        table::render(&["stage", "seconds", "images", "images/s"], &rows, &[1, 2, 3])
    }
}
