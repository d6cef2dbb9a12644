//! How a bank's graph answers beside exact search, on a sample of images.

use super::graph::{hnsw_path, hnsw_sidecar};
use super::rows::draw;
use super::{Bank, Definition, find, list_calibrations};
use crate::error::{Error, Result};
use crate::index::vectors::{Rows, Vectors};
use crate::index::{Search, Storage, tolerance};
use crate::statistics::metrics::Metrics;
use crate::store::Store;

/// What a graph gives beside what exact search gives.
#[derive(Debug, Clone)]
pub struct Recall {
    /// The bank.
    pub bank: Definition,
    /// What happened to the index file while it was opened, where something did.
    pub notice: Option<String>,
    /// SQL over `images`: where the ID sample comes from.
    pub id_predicate: String,
    /// Images of the ID sample, and of the OOD sample.
    pub id_images: usize,
    /// As above.
    pub ood_images: usize,
    /// How the graph holds its numbers.
    pub storage: Storage,
    /// Share of the images whose k-th distance is the exact one, as far as these numbers can tell: the bank's list counts so too.
    pub recall: f64,
    /// Mean and largest difference of a k-th distance.
    pub mean_error: f64,
    /// As above.
    pub largest_error: f64,
    /// ID against OOD by exact search, and by the graph; `None` without OOD images.
    pub metrics: Option<(Metrics, Metrics)>,
}

/// Search for up to `sample` ID images, and as many OOD images where a predicate gives some, in both ways.
///
/// ID images are those of `id`; without it, those that the bank was calibrated with; without a calibration, its own rows.
///
/// Errors: an unknown bank, one without a graph, predicates that fail or match nothing.
pub async fn recall(store: &Store, name: &str, sample: usize, id: Option<&str>, ood: Option<&str>) -> Result<Recall> {
    let bank = find(store, name).await?;
    if !bank.index_kind()?.has_graph() {
        return Err(Error::NoHnsw { bank: bank.name });
    }
    let graph = Bank::open(store, bank.clone(), Search::Hnsw.into()).await?;
    let exact = Bank::open(store, bank.clone(), Search::Exact.into()).await?;
    let id_predicate = match id {
        Some(id) => id.to_owned(),
        None => {
            let calibrations = list_calibrations(store).await?;
            let of_bank = calibrations.into_iter().find(|made| made.bank == bank.name && made.k == bank.k);
            of_bank.map_or_else(|| bank.predicate.clone(), |made| made.predicate)
        }
    };
    let id_sample = draw(store, &bank, None, &id_predicate, sample).await?;
    let ood_sample = match ood {
        Some(predicate) => draw(store, &bank, None, predicate, sample).await?,
        None => Rows::with_capacity(0, bank.dimension),
    };
    // it was written, or is whole: the graph has just been opened
    let built = hnsw_sidecar(&bank)?.beside(&hnsw_path(store, &bank))?;
    let (mut errors, mut right) = (Vec::new(), 0);
    let mut both = |rows: &Rows| -> Result<(Vec<f32>, Vec<f32>)> {
        let values = rows.to_values();
        let queries = Vectors::new(&values, bank.dimension);
        let (exact, graph) = (exact.kth_distances(queries, bank.k)?, graph.kth_distances(queries, bank.k)?);
        for (query, (exact, graph)) in exact.iter().zip(&graph).enumerate() {
            let error = (exact - graph).abs();
            right += usize::from(error <= tolerance(built.options.storage, built.step, queries.row(query)));
            errors.push(error);
        }
        Ok((exact, graph))
    };
    let ((id_exact, id_graph), (ood_exact, ood_graph)) = (both(&id_sample)?, both(&ood_sample)?);
    let wide = |scores: &[f32]| -> Vec<f64> { scores.iter().copied().map(f64::from).collect() };
    let metrics =
        Metrics::of(&wide(&id_exact), &wide(&ood_exact)).zip(Metrics::of(&wide(&id_graph), &wide(&ood_graph)));
    let count = errors.len() as f64;
    Ok(Recall {
        notice: graph.notice(),
        id_predicate,
        id_images: id_exact.len(),
        ood_images: ood_exact.len(),
        storage: built.options.storage,
        recall: right as f64 / count,
        mean_error: errors.iter().copied().map(f64::from).sum::<f64>() / count,
        largest_error: errors.iter().copied().map(f64::from).fold(0.0, f64::max),
        metrics,
        bank,
    })
}
