//! What a run that embeds images did.

use std::time::Duration;

use super::rejects::Reject;
use crate::error::{Error, Result};
use crate::statistics::deviation::Deviation;

/// Rejects that an [`IngestSummary`] names.
const FIRST_REJECTS: usize = 10;
/// Busy time per stage, summed over threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageTimes {
    /// Reading and hashing files.
    pub read: Duration,
    /// Decoding.
    pub decode: Duration,
    /// Resizing and normalising.
    pub preprocess: Duration,
    /// The network's forward pass.
    pub forward: Duration,
}

/// What an ingest did.
#[derive(Debug, Clone, Default)]
pub struct IngestSummary {
    /// New rows.
    pub added: usize,
    /// Rows whose file had changed.
    pub replaced: usize,
    /// Rows that were there and got this backbone's embedding.
    pub filled: usize,
    /// Files that were there, unchanged and embedded.
    pub unchanged: usize,
    /// Rows that were there and got other metadata.
    pub described: usize,
    /// Rows that were there and got another label, which a list, a table or the data set says.
    pub labelled: usize,
    /// Of the rows that were described or labelled: those that were not filled as well, each once.
    pub amended: usize,
    /// Of the files that were there: those whose rows are in another split, where they stay.
    pub in_other_splits: usize,
    /// Of the rows that were added: those that hold what a file of another uri in the dataset does.
    pub copies: usize,
    /// Files of images that were deleted, and stay so.
    pub deleted: usize,
    /// Files that were given twice.
    pub repeated: usize,
    /// Files left out because another one of the run has the same uri and holds something else.
    pub clashed: usize,
    /// The uri of the first of them.
    pub first_clash: Option<String>,
    /// Rows of embeddings that belong to no row of `images`, and were left out.
    pub unmatched: usize,
    /// What the first of them belongs to.
    pub first_unmatched: Option<String>,
    /// Files that were refused; the table `rejects` names them.
    pub refused: usize,
    /// The first of them.
    pub first_rejects: Vec<Reject>,
    /// Where the network ran in another precision: how far that is from f32.
    pub deviation: Option<Deviation>,
    /// Busy time per stage, summed over threads.
    pub stages: StageTimes,
    /// Committing rows.
    pub write: Duration,
    /// From first to last.
    pub wall: Duration,
}

impl IngestSummary {
    /// Files that were looked at.
    pub fn files(&self) -> usize {
        self.embedded() + self.unchanged + self.refused + self.deleted + self.repeated + self.clashed + self.unmatched
    }

    /// Count files that were refused.
    pub(super) fn refuse(&mut self, rejects: &[Reject]) {
        self.refused += rejects.len();
        let room = FIRST_REJECTS.saturating_sub(self.first_rejects.len());
        self.first_rejects.extend(rejects.iter().take(room).cloned());
    }

    /// Images that went through the network.
    pub fn embedded(&self) -> usize {
        self.added + self.replaced + self.filled
    }

    /// Refuse a run in which every image was refused.
    pub(super) fn check_not_all_refused(&self) -> Result<()> {
        let others = self.unchanged + self.described + self.deleted + self.repeated;
        if let (Some(first), 0, 0) = (self.first_rejects.first(), self.embedded(), others) {
            let first = format!("{}: {}", first.uri, first.reason);
            return Err(Error::AllImagesRefused { count: self.refused, first });
        }
        Ok(())
    }
}
