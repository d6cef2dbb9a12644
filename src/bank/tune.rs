//! Which k tells ID from OOD images best.

use std::collections::HashSet;

use super::open::open_exact;
use super::rows::{for_each_embedding, for_each_id};
use super::{Bank, Definition, find};
use crate::error::{Error, Result};
use crate::index::vectors::Vectors;
use crate::statistics::intervals::{Interval, auroc_interval};
use crate::statistics::metrics::Metrics;
use crate::store::Store;

/// What is tried where nobody says otherwise: those of OpenOOD, and smaller ones.
pub const USUAL_KS: [usize; 9] = [1, 5, 10, 20, 50, 100, 200, 500, 1000];
/// Neighbours that are in memory at a time, of 16 bytes.
const NEIGHBORS_AT_ONCE: usize = 1 << 22;

/// How well a bank's score does at one k.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tried {
    /// Neighbours counted.
    pub k: usize,
    /// ID against OOD images.
    pub metrics: Metrics,
    /// Of the AUROC, with a confidence of 95 %.
    pub auroc: Interval,
}

/// How well it does at several.
#[derive(Debug, Clone)]
pub struct Tuned {
    /// The bank.
    pub bank: Definition,
    /// By ascending k, at least one.
    pub tried: Vec<Tried>,
    /// Images that were scored.
    pub id_images: usize,
    /// As above.
    pub ood_images: usize,
    /// How many of the ID images are rows of the bank itself, whose scores are too low.
    pub id_inside_bank: usize,
}

impl Tuned {
    /// The one with the largest AUROC; of equal ones that with the smaller FPR95, then the smaller k.
    pub fn best(&self) -> &Tried {
        let better = |a: &Tried, b: &Tried| {
            let (a, b) = (&a.metrics, &b.metrics);
            a.auroc > b.auroc || a.auroc == b.auroc && a.fpr95 < b.fpr95
        };
        self.tried.iter().fold(&self.tried[0], |best, tried| if better(tried, best) { tried } else { best })
    }
}

/// Compare the scores of ID and OOD images (SQL over `images`) at each k; at [`USUAL_KS`], as far as the bank has so many rows,
/// where `ks` is empty. Each image is searched for once, at the largest k: its neighbours give all the others.
///
/// Errors: an unknown bank, a k outside 1 to its rows, a predicate that cannot be one or matches nothing.
pub async fn tune(store: &Store, bank: &str, id: &str, ood: &str, ks: &[usize]) -> Result<Tuned> {
    let bank = find(store, bank).await?;
    for predicate in [id, ood] {
        store.check_predicate(predicate).await?;
    }
    let mut ks = match ks {
        [] => USUAL_KS.into_iter().filter(|&k| k <= bank.row_count).collect(),
        given => given.iter().map(|&k| bank.check_k(k as i128)).collect::<Result<Vec<_>>>()?,
    };
    ks.sort_unstable();
    ks.dedup();
    let opened = open_exact(store, &bank)?;
    let mut held = HashSet::with_capacity(bank.row_count);
    for_each_id(store, &bank, |id| {
        held.insert(id);
    })
    .await?;
    let (of_id, inside) = scores(store, &opened, &held, id, &ks).await?;
    let (of_ood, _) = scores(store, &opened, &held, ood, &ks).await?;
    let compared = ks.iter().zip(of_id.iter().zip(&of_ood));
    let tried = compared.filter_map(|(&k, (id, ood))| {
        Some(Tried { k, metrics: Metrics::of(id, ood)?, auroc: auroc_interval(id, ood, 0.95)? })
    });
    Ok(Tuned {
        tried: tried.collect(),
        id_images: of_id[0].len(),
        ood_images: of_ood[0].len(),
        id_inside_bank: inside,
        bank,
    })
}

/// For each k the scores of the images for which a predicate holds, at least one; and how many of these are in the bank.
async fn scores(
    store: &Store,
    opened: &Bank,
    held: &HashSet<u64>,
    predicate: &str,
    ks: &[usize],
) -> Result<(Vec<Vec<f64>>, usize)> {
    let bank = opened.definition();
    let most = ks[ks.len() - 1];
    let rows = (NEIGHBORS_AT_ONCE / most).clamp(256, 8192);
    let (mut queries, mut scores, mut inside) = (Vec::new(), vec![Vec::new(); ks.len()], 0);
    let mut search = |queries: &mut Vec<f32>| -> Result<()> {
        for nearest in opened.nearest(Vectors::new(queries, bank.dimension), most, None)? {
            let of_k = scores.iter_mut().zip(ks);
            of_k.for_each(|(scores, &k)| scores.push(f64::from(nearest[k - 1].distance)));
        }
        queries.clear();
        Ok(())
    };
    for_each_embedding(store, bank, None, predicate, |id, unit| {
        inside += usize::from(held.contains(&id));
        queries.extend_from_slice(unit);
        if queries.len() >= rows * bank.dimension { search(&mut queries) } else { Ok(()) }
    })
    .await?;
    search(&mut queries)?;
    if scores[0].is_empty() {
        return Err(Error::NoRows { predicate: predicate.into(), backbone: bank.backbone.clone() });
    }
    Ok((scores, inside))
}
