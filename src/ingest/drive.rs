//! The loop of every run that embeds images: batches come in file order, and are committed some thousand rows at a
//! time, or some hundred megabytes, or after some minutes.

use std::time::{Duration, Instant};

use super::compared::Compared;
use super::pipeline::{Batch, Embedding};
use super::summary::IngestSummary;
use crate::error::{Error, Result};

/// Rows per commit: few enough that little is lost to a crash, enough that Lance's files stay large.
pub(super) const COMMIT_ROWS: usize = 8192;
/// Bytes per commit: they are held until then, and once more as the array that is written.
pub(super) const COMMIT_BYTES: usize = 128 << 20;
/// After which time a network that is slow commits what it has.
const COMMIT_AFTER: Duration = Duration::from_secs(600);

/// Takes embedded images, and commits them.
pub(super) trait Sink<T> {
    /// Take a batch, and count what was refused or left out.
    fn push(&mut self, batch: Batch<T>, summary: &mut IngestSummary);

    /// Rows that wait for the next commit.
    fn rows(&self) -> usize;

    /// Rejects that wait for it.
    fn rejects(&self) -> usize;

    /// Bytes that wait for it.
    fn bytes(&self) -> usize;

    /// Whether it is time for it, so long after the last one.
    fn is_due(&self, after: Duration) -> bool {
        let waiting = self.rows().max(self.rejects());
        waiting >= COMMIT_ROWS || self.bytes() >= COMMIT_BYTES || waiting > 0 && after >= COMMIT_AFTER
    }

    /// Why the run ends after the batch that was pushed last, where it does.
    fn ends(&self) -> Option<Error> {
        None
    }

    /// Commit what waits, and count it.
    async fn commit(&mut self, summary: &mut IngestSummary) -> Result<()>;
}

/// Take all batches into the sink. `progress(files done)` is called after each.
///
/// Errors: what ended the batches or the run, after all that came before it was committed; a commit that fails.
pub(super) async fn drive<T>(
    mut batches: Embedding<T>,
    dimension: usize,
    sink: &mut impl Sink<T>,
    summary: &mut IngestSummary,
    mut progress: impl FnMut(usize),
) -> Result<()> {
    let (mut failed, mut committed) = (None, Instant::now());
    let mut compared = Compared::default();
    while let Some(batch) = batches.next().await {
        match batch {
            Ok(batch) => {
                compared.push(&batch);
                sink.push(batch, summary);
                failed = sink.ends();
            }
            Err(error) => failed = Some(error),
        }
        if failed.is_some() {
            break;
        }
        if sink.is_due(committed.elapsed()) {
            sink.commit(summary).await?;
            committed = Instant::now();
        }
        progress(summary.files() + sink.rows());
    }
    summary.stages = batches.times();
    summary.deviation = compared.deviation(dimension);
    drop(batches);
    sink.commit(summary).await?;
    failed.map_or(Ok(()), Err)
}
