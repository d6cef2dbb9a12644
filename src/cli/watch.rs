//! `outskirt watch`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::console::Console;
use super::network::Device;
use crate::backbone::{self, LoadOptions};
use crate::bank;
use crate::error::{Error, Result};
use crate::image;
use crate::ingest::IngestOptions;
use crate::report::count;
use crate::watch::{Limit, Stop, Told, WatchOptions, Watched, precision_of, state_file, watch};

/// So long another writer is waited for before it is tried again: who asks for the end is not heard before.
const TURN: Duration = Duration::from_secs(2);

/// Ingest and score the pictures that come into a folder, and print those that lie outside a bank, a JSON object a line
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A picture is taken once its file has not changed for --settle seconds. One that is broken then is named in the table rejects, and
tried again when it changes. Files of archives, tables and data sets are left alone: 'outskirt ingest' reads those.

Each line has time, id, uri, dataset, split, bank, score, threshold (or with --fdr q, the least rate at which it would be printed),
pvalue, is_ood, and with --neighbors the nearest images of the bank. An image of the bank is scored without its own entry. Ctrl-C and
SIGTERM end it after the batch in hand, with status 0. However it ends, nothing is lost: what was not printed when it ended is printed
when it begins again, and what may not have been is printed twice. --state says where that is noted; of a folder that is watched for
the first time it is everything that is not in the table yet. Images that others add to the dataset are printed as well, with the next
ones that come.

Examples:
  outskirt watch /srv/camera_7 --dataset camera_7 --bank shop
  outskirt watch /srv/camera_7 --dataset camera_7 --bank shop --fdr 0.05 --neighbors 3 >> alerts.jsonl
  outskirt watch /mnt/nas/incoming --dataset incoming --bank shop --all --poll 60 --settle 30")]
pub struct Args {
    /// The folder, any depth
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Value of the column dataset
    #[arg(long)]
    dataset: String,
    /// Value of the column split; '' where it is not given
    #[arg(long, default_value = "")]
    split: String,
    /// The bank, which must be calibrated; its backbone embeds the images
    #[arg(long)]
    bank: String,
    /// Print images above the threshold that accepts such a share of ID images
    #[arg(long, default_value_t = 0.95)]
    tpr: f64,
    /// Print images so that about such a share of them is printed by chance (Benjamini-Hochberg), of those that are scored together: a
    /// batch of up to 256 that come within a --poll
    #[arg(long, value_name = "Q", conflicts_with = "tpr")]
    fdr: Option<f64>,
    /// Print every image
    #[arg(long)]
    all: bool,
    /// Nearest images of the bank that are printed beside each
    #[arg(long, value_name = "N", default_value_t = 0)]
    neighbors: usize,
    /// So long a file must not have changed before it is read
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    settle: Duration,
    /// Look at the folder every so often; where that takes long, it is done a tenth of the time
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    poll: Duration,
    /// The file that notes up to which image was printed; one of the database's folder for each folder, dataset and bank where it is
    /// left out
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// The weights file, where it is not where the manifest says
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Keep the classifier's output as well, in the column BACKBONE_logits
    #[arg(long)]
    with_logits: bool,
    /// Threads that decode and embed; all cores where it is not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    threads: Option<u16>,
    /// Where the network runs; cuda needs an NVIDIA GPU and the CUDA half of libtorch
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    device: Device,
    /// Keep the bytes of new files in the table as well
    #[arg(long)]
    store_images: bool,
    /// Leave banks as they are: 'outskirt bank refresh' brings them up to date later
    #[arg(long)]
    no_refresh: bool,
}

/// Seconds, up to a week.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "write a number of seconds".to_owned())?;
    if !(0.0..=604_800.0).contains(&seconds) {
        return Err("from 0 to 604800, a week".into());
    }
    Ok(Duration::from_secs_f64(seconds))
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let stop = Stop::default();
    hear(&stop)?;
    let store = console.open_to_retry(db, TURN).await?;
    let folder = match args.folder.to_str() {
        Some(text) => PathBuf::from(image::here(text)?),
        None => args.folder,
    };
    let bank = bank::find(&store, &args.bank).await?;
    let network = LoadOptions {
        weights: args.weights,
        with_logits: args.with_logits,
        device: args.device.of_index(),
        precision: precision_of(&store, &bank).await?,
        trusted: console.trusted()?,
    };
    let options = WatchOptions {
        ingest: IngestOptions {
            dataset: args.dataset.clone(),
            split: args.split,
            store_images: args.store_images,
            workers: args.threads.map_or_else(rayon::current_num_threads, usize::from),
            strict: false,
            again: false,
        },
        bank: args.bank.clone(),
        limit: args.fdr.map_or(Limit::Tpr(args.tpr), Limit::Fdr),
        neighbors: args.neighbors,
        settle: args.settle,
        poll: args.poll,
        state: args.state.unwrap_or_else(|| state_file(store.folder(), &folder, &args.dataset, &args.bank)),
        follow: !args.no_refresh,
        folder,
    };
    options.check()?;
    let backbone = backbone::load_in(db, &bank.backbone, &network).await?;
    console.notice(format!(
        "watching {}: its pictures become dataset {}, and {} printed; Ctrl-C ends it",
        options.folder.display(),
        args.dataset,
        if args.all { "all are".into() } else { format!("those outside bank {} are", args.bank) }
    ))?;
    let start = Instant::now();
    let tell = |told: Told<'_>| match told {
        Told::Notice(line) => console.notice(line),
        Told::Images(images) => {
            for image in images.iter().filter(|image| args.all || image.is_ood) {
                let line = serde_json::to_string(image).map_err(|error| Error::Output { source: error.into() })?;
                console.line(line)?;
            }
            console.flush()?;
            sync();
            Ok(())
        }
    };
    let watched = watch(&store, &backbone, &options, &stop, tell).await.map_err(|error| match error {
        // whoever relies on it must see that it has ended
        Error::Output { source } if source.kind() == std::io::ErrorKind::BrokenPipe => Error::Unread,
        error => error,
    })?;
    console.notice(sum(&watched, &args.bank, start.elapsed()))
}

fn sum(watched: &Watched, bank: &str, time: Duration) -> String {
    let Watched { images, ood, refused, unchanged, deleted, others } = watched;
    let files = [
        (refused, "refused"),
        (unchanged, "there already"),
        (deleted, "deleted before, and left out"),
        (others, "that are no pictures left alone"),
    ];
    let others = files.into_iter().filter(|(files, _)| **files > 0);
    let others: String = others.map(|(files, what)| format!("; {} {what}", count(*files))).collect();
    let time = humantime::format_duration(Duration::from_secs(time.as_secs()));
    let images = if *images == 1 { "1 image".into() } else { format!("{} images", count(*images)) };
    format!("watched for {time}: {images} scored, {} outside bank {bank}{others}", count(*ood))
}

/// Let lines that go to a file reach the disk: they count as printed from here on. What is no file has nothing to sync.
#[cfg(unix)]
fn sync() {
    use std::os::fd::AsFd;
    if let Ok(out) = std::io::stdout().as_fd().try_clone_to_owned() {
        let _ = std::fs::File::from(out).sync_data();
    }
}

#[cfg(not(unix))]
fn sync() {}

/// Ask for the end at the first Ctrl-C or SIGTERM.
#[cfg(unix)]
fn hear(stop: &Stop) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |source| Error::Io { action: "hear", path: "signals".into(), source };
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let (mut signals, stop) = (signal(kind).map_err(failed)?, stop.clone());
        tokio::spawn(async move {
            if signals.recv().await.is_some() {
                stop.stop();
            }
        });
    }
    Ok(())
}

#[cfg(not(unix))]
fn hear(stop: &Stop) -> Result<()> {
    let stop = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.stop();
        }
    });
    Ok(())
}
