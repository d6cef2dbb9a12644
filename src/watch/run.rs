//! The loop: look, ingest what is whole, score what is new, tell it, note that it was told.

use std::time::Instant;

use arrow::array::RecordBatch;
use chrono::Utc;
use futures::TryStreamExt;

use super::decide::{COLUMNS, Decided, Decider};
use super::folder::{Due, Folder, Looked};
use super::options::WatchOptions;
use super::state::{InHand, State};
use super::stop::Stop;
use crate::backbone::{Backbone, Precision};
use crate::bank::{self, Definition};
use crate::error::{Error, Result};
use crate::image::pictures;
use crate::ingest::{IngestSummary, ingest};
use crate::schema;
use crate::store::{Store, quote};

/// Files that one look gives at most: paths are held for those alone.
const MOST: usize = 4096;
/// Files that are ingested and told together: few enough that the first is told soon, and other writers have their turn.
const BATCH: usize = 256;
/// Looking takes so small a part of the time at most.
const LOOKING: u32 = 10;

/// What [`watch`] tells.
#[derive(Debug)]
pub enum Told<'t> {
    /// Images that were scored together. Once this returns, they count as told: whoever prints them flushes.
    Images(&'t [Decided]),
    /// Something to know, in a line.
    Notice(&'t str),
}

/// What came while a folder was watched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watched {
    /// Images that were scored and told.
    pub images: usize,
    /// How many of them lie outside.
    pub ood: usize,
    /// Files that were refused: the table `rejects` names them until they are mended.
    pub refused: usize,
    /// Files that were there already, as they are.
    pub unchanged: usize,
    /// Files that were deleted from the table, and stay out.
    pub deleted: usize,
    /// Files that are no pictures, and are left alone: the most that there were at once.
    pub others: usize,
}

/// The precision in which the embeddings of a bank's backbone were computed.
pub async fn precision_of(store: &Store, bank: &Definition) -> Result<Precision> {
    let images = store.schema(schema::IMAGES).await?;
    let said = images.field_with_name(&bank.backbone)?.metadata().get(schema::PRECISION_KEY).cloned();
    Ok(if said.is_some_and(|said| said == Precision::Bf16.name()) { Precision::Bf16 } else { Precision::F32 })
}

/// Watch a folder until `stop` is asked. `backbone` is the bank's.
///
/// Errors: a folder that is none; a bank that is unknown, not calibrated, or of other weights; another process that watches the same; what
/// ends an ingest, but another writer, who is waited for; whatever `tell` gives.
pub async fn watch(
    store: &Store,
    backbone: &Backbone,
    options: &WatchOptions,
    stop: &Stop,
    tell: impl FnMut(Told<'_>) -> Result<()>,
) -> Result<Watched> {
    options.check()?;
    let decider = Decider::open(store, options).await?;
    check_backbone(backbone, &decider.definition)?;
    let newest = store.next_id().await?.saturating_sub(1);
    let state = State::open(&options.state, &options.ingest.dataset, &options.bank, newest)?;
    let mut watch = Watch { store, backbone, options, decider, state, tell, sum: Watched::default(), changed: None };
    let notices = std::mem::take(&mut watch.decider.notices);
    notices.iter().try_for_each(|notice| (watch.tell)(Told::Notice(notice)))?;
    // what came and was not told when a process was killed, or what others have added
    watch.tell_images().await?;
    watch.look_until(stop).await?;
    Ok(watch.sum)
}

/// Refuse a network that would fill the bank's column with other numbers.
fn check_backbone(backbone: &Backbone, bank: &Definition) -> Result<()> {
    let manifest = backbone.manifest();
    if manifest.name != bank.backbone {
        return Err(Error::WatchBackbone {
            bank: bank.name.clone(),
            of_bank: bank.backbone.clone(),
            given: manifest.name.clone(),
        });
    }
    let given = manifest.sha256.to_ascii_lowercase();
    if given != bank.sha256.to_ascii_lowercase() {
        return Err(Error::OtherCheckpoint { column: bank.backbone.clone(), stored: bank.sha256.clone(), given });
    }
    Ok(())
}

struct Watch<'w, T> {
    store: &'w Store,
    backbone: &'w Backbone,
    options: &'w WatchOptions,
    decider: Decider,
    state: State,
    tell: T,
    sum: Watched,
    /// The version of `images` before what was ingested since banks followed last.
    changed: Option<u64>,
}

impl<T: FnMut(Told<'_>) -> Result<()>> Watch<'_, T> {
    async fn look_until(&mut self, stop: &Stop) -> Result<()> {
        let mut folder = Folder::new(&self.options.folder, self.options.settle);
        // what was said is not said again before it was otherwise
        let (mut said, mut said_busy) = (Vec::new(), false);
        while !stop.is_asked() {
            let start = Instant::now();
            let (looking, looked) = off_thread(folder).await?;
            folder = looking;
            let took = start.elapsed();
            let (looked, closed) = match looked {
                Ok(looked) => {
                    let closed = looked.closed.clone();
                    (looked, closed)
                }
                Err(error) => {
                    let folder = self.options.folder.display();
                    (Looked::default(), vec![format!("cannot list {folder}: {error}; it is tried again")])
                }
            };
            if self.sum.others == 0 && looked.others > 0 {
                let line = format!(
                    "files that are no pictures are left alone, {} so far ('outskirt ingest' reads archives, tables and data sets)",
                    looked.others
                );
                (self.tell)(Told::Notice(&line))?;
            }
            self.sum.others = self.sum.others.max(looked.others);
            for line in closed.iter().filter(|line| !said.contains(*line)) {
                (self.tell)(Told::Notice(line))?;
            }
            said = closed;
            let mut is_busy = false;
            for some in looked.due.chunks(BATCH) {
                if stop.is_asked() {
                    break;
                }
                match self.take(&mut folder, some).await {
                    Err(error @ Error::Locked { .. }) => {
                        if !said_busy {
                            (self.tell)(Told::Notice(&format!("{error}; it is tried again")))?;
                        }
                        is_busy = true;
                    }
                    other => other?,
                }
                said_busy = is_busy;
                if is_busy {
                    break;
                }
            }
            if looked.more && !is_busy {
                continue;
            }
            self.follow().await?;
            let rest = self.options.poll.max(took * LOOKING);
            tokio::select! {
                () = stop.asked() => {}
                () = tokio::time::sleep(rest) => {}
            }
        }
        Ok(())
    }

    /// Ingest files, tell what is new among them.
    async fn take(&mut self, folder: &mut Folder, files: &[Due]) -> Result<()> {
        let files: Vec<Due> = files.iter().filter(|due| Folder::is_as_it_was(due)).cloned().collect();
        if files.is_empty() {
            return Ok(());
        }
        let uris = files.iter().map(|due| due.path.to_string_lossy().into_owned()).collect();
        self.state.begin(InHand { since: Utc::now().timestamp_nanos_opt().unwrap_or(0), uris })?;
        let before = self.store.version(schema::IMAGES).await?;
        let paths = files.iter().map(|due| (due.path.clone(), due.label.clone())).collect();
        let (store, backbone, options) = (self.store, self.backbone, &self.options.ingest);
        let summary = match ingest(store, backbone, pictures(paths), options, None, |_| ()).await {
            Ok(summary) => summary,
            // it has said so in `rejects`
            Err(Error::AllImagesRefused { count, first }) => {
                (self.tell)(Told::Notice(&format!("refused: {first}")))?;
                IngestSummary { refused: count, ..IngestSummary::default() }
            }
            Err(error) => return Err(error),
        };
        folder.take(&files);
        self.changed.get_or_insert(before);
        for reject in &summary.first_rejects {
            (self.tell)(Told::Notice(&format!("refused: {}: {}", reject.uri, reject.reason)))?;
        }
        self.sum.refused += summary.refused;
        self.sum.unchanged += summary.unchanged + summary.filled;
        self.sum.deleted += summary.deleted;
        if summary.embedded() == 0 {
            return self.state.end(0);
        }
        self.tell_images().await
    }

    /// Score and tell all images of the dataset that were not told, and note that.
    async fn tell_images(&mut self) -> Result<()> {
        if !self.decider.is_current(self.store).await? {
            self.decider = Decider::open(self.store, self.options).await?;
            for notice in std::mem::take(&mut self.decider.notices) {
                (self.tell)(Told::Notice(&notice))?;
            }
        }
        let (told, backbone) = (self.state.kept.told, self.decider.definition.backbone.clone());
        let of_dataset = format!("{} = {}", schema::DATASET, quote(&self.options.ingest.dataset));
        let new = format!("{of_dataset} AND {} > {told}", schema::ID);
        let mut newest = self.tell_rows(&new, &backbone, |_, _| true).await?;
        if let Some(InHand { since, uris }) = self.state.kept.batch.clone() {
            // files that were there before and hold another picture keep their ids
            let uris: Vec<String> = uris.iter().map(|uri| quote(uri)).collect();
            let changed =
                format!("{of_dataset} AND {} <= {told} AND {} IN ({})", schema::ID, schema::URI, uris.join(", "));
            newest = newest.max(self.tell_rows(&changed, &backbone, |_, came| came >= since).await?);
        }
        self.state.end(newest)
    }

    /// Score and tell rows; the largest id among them.
    async fn tell_rows(&mut self, predicate: &str, backbone: &str, wanted: impl Fn(u64, i64) -> bool) -> Result<u64> {
        let columns: Vec<&str> = COLUMNS.into_iter().chain([backbone]).collect();
        let mut batches = self.store.scan(schema::IMAGES, None, &columns, Some(predicate)).await?;
        let mut newest = 0;
        while let Some(batch) = batches.try_next().await? {
            let together = self.decider.together().min(batch.num_rows().max(1));
            for from in (0..batch.num_rows()).step_by(together) {
                let some = batch.slice(from, together.min(batch.num_rows() - from));
                newest = newest.max(self.tell_some(&some, &wanted)?);
            }
        }
        Ok(newest)
    }

    /// Tell what is decided of together; the largest id among it.
    fn tell_some(&mut self, batch: &RecordBatch, wanted: &impl Fn(u64, i64) -> bool) -> Result<u64> {
        let (images, without) = self.decider.decide(batch, wanted)?;
        if without > 0 {
            let line = format!("{without} images have no score: their embeddings are all zero or not finite");
            (self.tell)(Told::Notice(&line))?;
        }
        if images.is_empty() {
            return Ok(0);
        }
        self.sum.images += images.len();
        self.sum.ood += images.iter().filter(|image| image.is_ood).count();
        (self.tell)(Told::Images(&images))?;
        Ok(images.iter().map(|image| image.id).max().unwrap_or(0))
    }

    /// Let banks follow the table, and keep it in order, once nothing is waiting. What fails is told: the images are there already.
    async fn follow(&mut self) -> Result<()> {
        let Some(before) = self.changed.take() else { return Ok(()) };
        let mut lines = Vec::new();
        if self.options.follow {
            match bank::follow(self.store).await {
                Ok(followed) => lines.extend(followed.into_iter().filter_map(|followed| match followed.refreshed {
                    Ok(made) => (made.added > 0 && made.bank.name == self.options.bank).then(|| {
                        format!("bank {}: {} of the images that came are rows of it now", made.bank.name, made.added)
                    }),
                    Err(error) => Some(format!("bank {} was not refreshed: {error}", followed.bank)),
                })),
                Err(Error::Locked { .. }) => {
                    self.changed = Some(before);
                    return Ok(());
                }
                Err(error) => lines.push(format!("banks were not refreshed: {error}")),
            }
        }
        // while another program writes, it is that program's to do
        if let Ok(lock) = self.store.lock().await {
            match bank::tidy(self.store, &lock, before).await {
                Ok(tidied) => lines.extend(tidied.notices()),
                Err(error) => lines.push(format!("small files were not merged: {error}")),
            }
        }
        lines.iter().try_for_each(|line| (self.tell)(Told::Notice(line)))
    }
}

/// Look at a folder on a thread that may wait for disks.
async fn off_thread(mut folder: Folder) -> Result<(Folder, std::io::Result<Looked>)> {
    let looking = tokio::task::spawn_blocking(move || {
        let looked = folder.look(MOST);
        (folder, looked)
    });
    looking.await.map_err(|_| Error::ReadPanicked)
}
