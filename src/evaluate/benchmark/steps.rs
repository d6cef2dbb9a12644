//! What lies between an experiment's data sets and its table: options of the ingest, the bank, its k.

use super::data_sets::{Part, Plan};
use crate::bank::BankSpec;
use crate::error::{Error, Result};
use crate::index::IndexKind;
use crate::ingest::IngestOptions;

impl Part {
    /// SQL over `images`: its rows.
    pub fn predicate(&self) -> String {
        format!("dataset = '{}' AND split = '{}'", self.dataset, self.split)
    }

    /// How it is ingested, on all cores.
    pub fn ingest_options(&self) -> IngestOptions {
        IngestOptions {
            dataset: self.dataset.clone(),
            split: self.split.into(),
            store_images: false,
            workers: rayon::current_num_threads(),
            strict: false,
            again: false,
        }
    }
}

impl Plan {
    /// The other parts than the bank's: the ID images that are compared, then the OOD sets.
    pub fn compared_parts(&self) -> impl Iterator<Item = &Part> {
        [&self.test].into_iter().chain(&self.ood)
    }

    /// The bank of the ID training images, as a backbone embeds them.
    pub fn bank(&self, backbone: &str, k: usize, alpha: f64, seed: u64) -> BankSpec {
        BankSpec {
            name: format!("{}_{backbone}", self.train.dataset),
            backbone: backbone.into(),
            predicate: self.train.predicate(),
            k,
            alpha,
            seed,
            index: IndexKind::Exact,
        }
    }
}

/// Refuse a k that a bank cannot have: one above the number of its images, embedded or not yet.
pub fn check_ks(bank: &str, ks: &[usize], images: usize) -> Result<()> {
    match ks.iter().find(|&&k| k > images) {
        Some(&k) => Err(Error::KOutOfRange { bank: bank.into(), k: k as i128, rows: images, most: images }),
        None => Ok(()),
    }
}
