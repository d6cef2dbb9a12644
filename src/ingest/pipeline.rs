//! Image files × backbone → batches of embeddings, in the files' order, on all cores.
//!
//! One thread reads and hashes files; as many workers as asked for each decode, preprocess and embed whole
//! batches, so the three overlap across workers; the consumer gets the batches back in order. All queues are
//! bounded, and so are the bytes of the pictures in them: memory grows neither with the number of files nor with their
//! size. Not for storing: [`ingest`](super::ingest) does that.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use super::budget::{Budget, Held};
use super::rejects::Reject;
use super::summary::StageTimes;
use crate::backbone::{Backbone, Outputs, Worker};
use crate::error::{Error, Result};
use crate::image::{ImageFile, content_hash, decode};

/// Images per batch at most: enough for the network's matrix products.
const BATCH: usize = 64;
/// Values of a batch's input at most, but for [`FEWEST`] images: large pictures are work enough in smaller batches, and a
/// few hundred of them should keep every worker busy to the end.
const VALUES: usize = 1 << 20;
const FEWEST: usize = 8;

/// One in so many images of a run in another precision is embedded in f32 as well, which takes longer, …
const COMPARED: usize = 8;
/// … among so many at its beginning.
const COMPARED_AMONG: usize = 2048;

/// An image that was embedded; its numbers are in [`Batch::embeddings`].
#[derive(Debug)]
pub struct EmbeddedImage<T> {
    /// What the caller decided about it before it was embedded.
    pub purpose: T,
    /// Absolute path, or archive path!/entry.
    pub uri: String,
    /// Class folder.
    pub label: Option<String>,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// SHA-256 of the file.
    pub content_hash: String,
    /// The file, where the caller wanted it back; else empty.
    pub bytes: Vec<u8>,
    /// Counted until the consumer has the image.
    held: Option<Held>,
}

/// Up to 64 images in file order.
#[derive(Debug)]
pub struct Batch<T> {
    /// The images that were embedded.
    pub images: Vec<EmbeddedImage<T>>,
    /// `images.len()` × dimension.
    pub embeddings: Vec<f32>,
    /// `images.len()` × classes; empty where the backbone was not asked for logits.
    pub logits: Vec<f32>,
    /// The images that were not, the first of them first.
    pub rejects: Vec<Reject>,
    /// How many of the images came before the first that was refused.
    pub before_reject: usize,
    /// Images that the caller wanted left out.
    pub skipped: usize,
    /// Rows × dimension, the first images in f32 as well, where the run is in another precision.
    pub in_f32: Option<Vec<f32>>,
}

/// What the threads tell the consumer beside the batches.
#[derive(Debug, Default)]
struct Clocks {
    /// How many batches there are, once all files are read.
    batches: OnceLock<usize>,
    read: AtomicU64,
    decode: AtomicU64,
    preprocess: AtomicU64,
    forward: AtomicU64,
}

fn timed<R>(clock: &AtomicU64, work: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = work();
    clock.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
    result
}

/// A file on its way to a worker.
struct Pending<T> {
    purpose: T,
    file: ImageFile,
    content_hash: String,
    held: Held,
}

/// A batch before it is embedded.
struct Job<T> {
    files: Vec<Pending<T>>,
    rejects: Vec<Reject>,
    /// Files before the first of the rejects.
    before_reject: usize,
    skipped: usize,
    /// Bytes of `files`.
    bytes: usize,
    /// Embed in f32 as well, where that is another precision than the backbone's.
    compare: bool,
}

impl<T> Job<T> {
    fn new() -> Self {
        let (rejects, files) = (Vec::new(), Vec::with_capacity(BATCH));
        Self { files, rejects, before_reject: usize::MAX, skipped: 0, bytes: 0, compare: false }
    }

    fn len(&self) -> usize {
        self.files.len() + self.rejects.len() + self.skipped
    }
}

type Numbered<V> = (usize, Result<V>);

/// The running pipeline; dropping it stops the threads.
#[derive(Debug)]
pub struct Embedding<T> {
    results: tokio::sync::mpsc::Receiver<Numbered<Batch<T>>>,
    /// Batches that overtook an earlier one; at most as many as there are workers and places in the queue.
    early: BTreeMap<usize, Result<Batch<T>>>,
    next: usize,
    failed: bool,
    clocks: Arc<Clocks>,
}

/// Images that go through a backbone's network together.
pub(crate) fn batch_size(backbone: &Backbone) -> usize {
    (VALUES / backbone.input_len()).clamp(FEWEST, BATCH)
}

/// Start embedding `files`. `decide` sees each file and its hash in order and says what it is for, or `None` to
/// leave it out. Where `keep` says so, images come with their files' bytes; else these are dropped once they are decoded.
pub fn embed<T: Send + 'static>(
    files: impl Iterator<Item = Result<ImageFile>> + Send + 'static,
    backbone: &Backbone,
    workers: usize,
    keep: bool,
    decide: impl FnMut(&ImageFile, &str) -> Result<Option<T>> + Send + 'static,
) -> Embedding<T> {
    let workers = workers.max(1);
    let clocks = Arc::new(Clocks::default());
    let (job_sender, jobs) = mpsc::sync_channel(workers);
    let (result_sender, results) = tokio::sync::mpsc::channel(workers);
    let jobs = Arc::new(Mutex::new(jobs));
    for _ in 0..workers {
        let (worker, jobs) = (backbone.worker(), Arc::clone(&jobs));
        let (clocks, results) = (Arc::clone(&clocks), result_sender.clone());
        std::thread::spawn(move || work(worker, keep, &jobs, &results, &clocks));
    }
    let reader_clocks = Arc::clone(&clocks);
    let budget = Budget::of(workers);
    // every worker has a batch, and another one waits for it
    let fits = Batches { images: batch_size(backbone), bytes: budget.limit() / (2 * workers) };
    std::thread::spawn(move || read(files, fits, decide, &job_sender, &reader_clocks, &budget));
    Embedding { results, early: BTreeMap::new(), next: 0, failed: false, clocks }
}

impl<T> Embedding<T> {
    /// The next batch in file order; `None` after the last.
    ///
    /// Errors: an archive that is cut, or a network that fails; broken images are in [`Batch::rejects`].
    pub async fn next(&mut self) -> Option<Result<Batch<T>>> {
        loop {
            if let Some(mut batch) = self.early.remove(&self.next) {
                self.next += 1;
                // from here on they are the consumer's to count
                batch.iter_mut().flat_map(|batch| &mut batch.images).for_each(|image| image.held = None);
                return Some(batch);
            }
            match self.results.recv().await {
                Some((number, batch)) => {
                    self.early.insert(number, batch);
                }
                None if self.clocks.batches.get() == Some(&self.next) => return None,
                // a thread that died: the batches after its own are of no use
                None => {
                    self.early.clear();
                    return (!std::mem::replace(&mut self.failed, true)).then_some(Err(Error::WorkerDied));
                }
            }
        }
    }

    /// Busy time so far.
    pub fn times(&self) -> StageTimes {
        let read = |clock: &AtomicU64| Duration::from_nanos(clock.load(Ordering::Relaxed));
        StageTimes {
            read: read(&self.clocks.read),
            decode: read(&self.clocks.decode),
            preprocess: read(&self.clocks.preprocess),
            forward: read(&self.clocks.forward),
        }
    }
}

/// How many images, and bytes of their files, a batch has at most.
#[derive(Clone, Copy)]
struct Batches {
    images: usize,
    bytes: usize,
}

fn read<T>(
    mut files: impl Iterator<Item = Result<ImageFile>>,
    fits: Batches,
    mut decide: impl FnMut(&ImageFile, &str) -> Result<Option<T>>,
    jobs: &mpsc::SyncSender<Numbered<Job<T>>>,
    clocks: &Clocks,
    budget: &Arc<Budget>,
) {
    let (mut number, mut embedded) = (0, 0);
    let mut job = Job::new();
    loop {
        let file = timed(&clocks.read, || files.next().map(|file| file.map(|file| (content_hash(&file.bytes), file))));
        let file = file.map(|file| file.and_then(|(hash, file)| Ok((decide(&file, &hash)?, hash, file))));
        match file {
            Some(Ok((purpose, hash, file))) => match purpose {
                Some(purpose) => {
                    let bytes = file.bytes.len();
                    // what this batch holds is given back only where it is embedded: it goes before anything is waited for
                    if !job.files.is_empty() && !budget.has_room(bytes) {
                        if jobs.send((number, Ok(std::mem::replace(&mut job, Job::new())))).is_err() {
                            return;
                        }
                        number += 1;
                    }
                    let held = budget.hold(bytes);
                    job.bytes += bytes;
                    job.compare = embedded - job.files.len() < COMPARED_AMONG;
                    embedded += 1;
                    job.files.push(Pending { purpose, file, content_hash: hash, held });
                }
                None => job.skipped += 1,
            },
            Some(Err(Error::BadImage { uri, reason })) => {
                job.before_reject = job.before_reject.min(job.files.len());
                job.rejects.push(Reject { uri, reason });
            }
            Some(Err(fatal)) => {
                // what was read before it is still embedded and kept
                let _ = clocks.batches.set(number + 2);
                for last in [(number, Ok(job)), (number + 1, Err(fatal))] {
                    let _ = jobs.send(last);
                }
                return;
            }
            None => {
                let _ = clocks.batches.set(number + 1);
                // the receiver is gone only where nobody waits for the rest
                let _ = jobs.send((number, Ok(job)));
                return;
            }
        }
        // files that are left out cost nothing, but their count must reach the progress bar now and then
        if job.files.len() == fits.images || job.bytes >= fits.bytes || job.len() >= 16 * BATCH {
            if jobs.send((number, Ok(std::mem::replace(&mut job, Job::new())))).is_err() {
                return;
            }
            number += 1;
        }
    }
}

fn work<T>(
    mut worker: Worker,
    keep: bool,
    jobs: &Mutex<mpsc::Receiver<Numbered<Job<T>>>>,
    results: &tokio::sync::mpsc::Sender<Numbered<Batch<T>>>,
    clocks: &Clocks,
) {
    worker.use_one_thread();
    loop {
        let received = jobs.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).recv();
        let Ok((number, job)) = received else { return };
        let batch = job.and_then(|job| {
            // a panic has said its word on stderr; the consumer gets an error in place of the batch
            catch_unwind(AssertUnwindSafe(|| run(&mut worker, job, keep, clocks))).unwrap_or(Err(Error::WorkerDied))
        });
        if results.blocking_send((number, batch)).is_err() {
            return;
        }
    }
}

/// Decode, preprocess and embed one batch.
fn run<T>(worker: &mut Worker, job: Job<T>, keep: bool, clocks: &Clocks) -> Result<Batch<T>> {
    let Job { files, mut rejects, before_reject: unread, skipped, compare, bytes: _ } = job;
    let mut before_reject = None;
    let mut images = Vec::with_capacity(files.len());
    let input_len = worker.input_len();
    let mut input = Vec::with_capacity(files.len() * input_len);
    for (at, Pending { purpose, file, content_hash, held }) in files.into_iter().enumerate() {
        if at == unread {
            before_reject.get_or_insert(images.len());
        }
        let decoded = timed(&clocks.decode, || decode(&file.uri, &file.bytes, worker.orientation()));
        let start = input.len();
        input.resize(start + input_len, 0.0);
        let ready = decoded.and_then(|pixels| {
            timed(&clocks.preprocess, || worker.preprocess(&pixels, &mut input[start..]))?;
            Ok((pixels.width, pixels.height))
        });
        match ready {
            Ok((width, height)) => {
                let ImageFile { uri, label, bytes, .. } = file;
                let (bytes, held) = if keep { (bytes, Some(held)) } else { Default::default() };
                images.push(EmbeddedImage { purpose, uri, label, width, height, content_hash, bytes, held });
            }
            Err(Error::BadImage { uri, reason }) => {
                input.truncate(start);
                let reject = Reject { uri, reason };
                if before_reject.is_none() {
                    rejects.insert(0, reject)
                } else {
                    rejects.push(reject)
                }
                before_reject.get_or_insert(images.len());
            }
            Err(other) => return Err(other),
        }
    }
    if images.is_empty() {
        let (embeddings, logits, in_f32) = Default::default();
        return Ok(Batch { images, embeddings, logits, rejects, before_reject: 0, skipped, in_f32 });
    }
    let Outputs { mut embeddings, mut logits } = timed(&clocks.forward, || worker.embed(&input))?;
    let some = images.len().div_ceil(COMPARED) * input_len;
    let in_f32 = if compare { worker.in_f32(&input[..some])? } else { None };
    let given = images.len();
    let mut before_reject = before_reject.unwrap_or(given);
    drop_unusable(&mut images, &mut embeddings, &mut logits, &mut rejects, &mut before_reject);
    let in_f32 = in_f32.filter(|_| images.len() == given);
    Ok(Batch { images, embeddings, logits, rejects, before_reject, skipped, in_f32 })
}

/// An embedding that no score can be taken of, or logits that are no numbers, make a reject: a picture, not the run, is
/// at fault.
fn drop_unusable<T>(
    images: &mut Vec<EmbeddedImage<T>>,
    embeddings: &mut Vec<f32>,
    logits: &mut Vec<f32>,
    rejects: &mut Vec<Reject>,
    before_reject: &mut usize,
) {
    let (dimension, classes) = (embeddings.len() / images.len(), logits.len() / images.len());
    let problem = |row: usize| {
        let of_embedding = crate::index::vectors::normalize(
            &embeddings[row * dimension..(row + 1) * dimension],
            &mut Vec::with_capacity(dimension),
        );
        let finite = logits[row * classes..(row + 1) * classes].iter().all(|logit| logit.is_finite());
        match of_embedding {
            Err(problem) => Some(format!("the network gave an embedding that is {problem}")),
            Ok(()) => (!finite).then(|| "the network gave logits that are not finite".to_owned()),
        }
    };
    let problems: Vec<Option<String>> = (0..images.len()).map(problem).collect();
    let Some(first) = problems.iter().position(Option::is_some) else { return };
    let keep = |values: &mut Vec<f32>, width: usize| {
        let rows = values.chunks(width.max(1)).zip(&problems).filter(|(_, problem)| problem.is_none());
        *values = rows.flat_map(|(row, _)| row.iter().copied()).collect();
    };
    keep(embeddings, dimension);
    keep(logits, classes);
    let mut problems = problems.into_iter();
    let mut unusable = Vec::new();
    images.retain(|image| match problems.next().flatten() {
        Some(reason) => {
            unusable.push(Reject { uri: image.uri.clone(), reason });
            false
        }
        None => true,
    });
    if first < *before_reject {
        *before_reject = first;
        rejects.splice(..0, unusable);
    } else {
        rejects.append(&mut unusable);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many files of so many bytes each.
    fn files(count: usize, bytes: usize) -> impl Iterator<Item = Result<ImageFile>> {
        (0..count).map(move |at| {
            Ok(ImageFile { uri: at.to_string(), label: None, is_labelled: false, bytes: vec![0; bytes] })
        })
    }

    /// Reads files as a pipeline of one worker does; the most bytes that were held at once, and the files of each batch.
    fn read_within(limit: usize, files: impl Iterator<Item = Result<ImageFile>> + Send) -> (usize, Vec<usize>) {
        let (sender, jobs) = mpsc::sync_channel(1);
        let budget = Budget::within(limit);
        let fits = Batches { images: BATCH, bytes: limit / 2 };
        std::thread::scope(|scope| {
            scope.spawn(|| read(files, fits, |_, _| Ok(Some(())), &sender, &Clocks::default(), &budget));
            let (mut most, mut batches) = (0, Vec::new());
            loop {
                let job: Job<()> = jobs.recv().unwrap().1.unwrap();
                most = most.max(budget.held());
                batches.push(job.files.len());
                if batches.iter().sum::<usize>() == 40 {
                    return (most, batches);
                }
            }
        })
    }

    #[test]
    fn pictures_between_the_stages_are_counted_in_bytes() {
        // small ones make full batches
        let (most, batches) = read_within(1 << 20, files(40, 1000));
        assert_eq!((most, batches), (40_000, vec![40]));
        // large ones smaller batches, and no more than fits is read
        let (most, batches) = read_within(1 << 20, files(40, 100_000));
        assert!(most <= 1 << 20, "{most}");
        assert!(batches.iter().all(|files| *files <= 6), "{batches:?}");
        // each larger than all of it: one at a time, and the reading ends
        let (most, batches) = read_within(1 << 20, files(40, 3 << 20));
        assert_eq!((most, batches), (3 << 20, vec![1; 40]));
    }
}
