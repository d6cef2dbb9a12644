//! The images of a run that are embedded twice: how far its precision is from f32.

use super::pipeline::Batch;
use crate::statistics::deviation::Deviation;

/// Images of a run that were embedded in f32 as well.
#[derive(Debug, Default)]
pub(super) struct Compared {
    found: Vec<f32>,
    expected: Vec<f32>,
}

impl Compared {
    /// Take what a batch has of them.
    pub(super) fn push<T>(&mut self, batch: &Batch<T>) {
        if let Some(in_f32) = &batch.in_f32 {
            self.found.extend(&batch.embeddings[..in_f32.len()]);
            self.expected.extend(in_f32);
        }
    }

    pub(super) fn deviation(&self, dimension: usize) -> Option<Deviation> {
        Deviation::of(&self.found, &self.expected, dimension)
    }
}
