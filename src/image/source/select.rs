//! Which of the images found are read.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::address::KeptQuery;
use super::format::Source;
use super::parts;
use crate::error::{Error, Result};
use crate::statistics::sampling;

/// Which of the images that are found are read, by default all; and how those at addresses are called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Of a folder or archive that holds several parts of a data set, the one to take: `train`, `test`, `validation`, `extra`
    /// (SVHN), or `all`. Files given by themselves, and what comes in no parts, are not touched.
    pub part: Option<String>,
    /// Where the part is not among them, all of them are taken.
    pub or_all_parts: bool,
    /// Of each label at most this many, the first ones: 1,000 of SVHN, as in KNN-OOD's code.
    pub per_class: Option<usize>,
    /// This many, drawn without replacement.
    pub sample: Option<usize>,
    /// Of that drawing: the same files and seed give the same images.
    pub seed: u64,
    /// What their uris keep of addresses' queries.
    pub query: KeptQuery,
}

/// Asks for all parts.
const ALL_PARTS: &str = "all";

impl Selection {
    /// The part that the name of a split says to take; none for a name of one's own.
    pub fn part_of_split(split: &str) -> Option<String> {
        parts::named(split).map(String::from)
    }

    /// The part that is asked for, of what a folder or archive holds.
    pub(super) fn of_parts(&self, path: &Path, mut sources: Vec<Source>) -> Result<Vec<Source>> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for source in &sources {
            if let Some(part) = &source.part {
                *counts.entry(part).or_default() += source.entries.len();
            }
        }
        let wanted = match &self.part {
            Some(all) if all == ALL_PARTS => None,
            Some(wanted) if counts.contains_key(wanted.as_str()) => Some(wanted.as_str()),
            Some(wanted) if parts::named(wanted).is_some_and(|part| counts.contains_key(part)) => parts::named(wanted),
            None if counts.len() < 2 => None,
            Some(_) if counts.is_empty() || self.or_all_parts => None,
            other => {
                let parts = counts.iter().map(|(part, images)| format!("{part} ({images} images)")).collect();
                return Err(Error::DatasetPart { path: path.into(), wanted: other.clone(), parts });
            }
        };
        if let Some(wanted) = wanted {
            sources.retain(|source| source.part.as_ref().is_none_or(|part| part == wanted));
        }
        Ok(sources)
    }

    /// Drop the entries that are not selected.
    pub(super) fn apply(&self, sources: &mut [Source]) {
        if let Some(most) = self.per_class {
            let mut taken: HashMap<Option<std::sync::Arc<str>>, usize> = HashMap::new();
            for source in &mut *sources {
                source.entries.retain(|entry| {
                    let taken = taken.entry(entry.label.clone()).or_default();
                    *taken += 1;
                    *taken <= most
                });
            }
        }
        let total: usize = sources.iter().map(|source| source.entries.len()).sum();
        if let Some(count) = self.sample.filter(|&count| count < total) {
            let mut order: Vec<usize> = (0..total).collect();
            order.sort_by_key(|&place| (sampling::mixed(place as u64, self.seed), place));
            let mut keep = vec![false; total];
            order[..count].iter().for_each(|&place| keep[place] = true);
            let mut keep = keep.into_iter();
            for source in sources {
                source.entries.retain(|_| keep.next().unwrap_or(false));
            }
        }
    }
}
