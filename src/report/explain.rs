//! One image: how far outside it lies, what that means, and which images of the bank it is measured by.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, UInt64Type};
use serde::Serialize;

use super::facts::{BankFacts, Neighbor, Thumbnail};
use super::gather::facts_of;
use super::pictures::{columns, neighbors_of, own_columns, small, texts};
use crate::bank::Definition;
use crate::error::{Error, Result};
use crate::image::{Folders, Opened, content_hash, is_address};
use crate::index::SearchOptions;
use crate::sql::session::Session;
use crate::statistics::thresholds::pvalue;
use crate::store::quote;

/// Rows of one uri that a message names.
const NAMED: usize = 5;

/// Which image: one of the database by its id, or the file, address or uri of one, in the database or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// `images.id`.
    Id(u64),
    /// A uri, as `images` has it or as it is typed.
    Uri(String),
}

/// What is known of an image beside a bank.
#[derive(Debug, Clone, Serialize)]
pub struct Explained {
    /// The bank.
    pub bank: BankFacts,
    /// `images.id`; `None` where it is not in the database: then it was embedded now.
    pub id: Option<u64>,
    /// Where it is.
    pub uri: String,
    /// `images.dataset`.
    pub dataset: Option<String>,
    /// `images.split`.
    pub split: Option<String>,
    /// `images.label`.
    pub label: Option<String>,
    /// Columns of the user's own.
    pub metadata: BTreeMap<String, String>,
    /// Its distance to the bank's k-th nearest image; its own entry in the bank is left out.
    pub score: f32,
    /// What the calibration says of that score; `None` where the bank is not calibrated.
    pub decision: Option<Decision>,
    /// Whether the bank holds the image itself.
    pub is_in_bank: bool,
    /// Whether its file is another one by now than the one that was embedded.
    pub file_has_changed: bool,
    /// The nearest images of the bank, nearest first, without its own entry.
    pub neighbors: Vec<Neighbor>,
    /// Why there is no picture of it, where there is none.
    pub without_picture: Option<String>,
    /// Pictures by the id of the image; its own stands under `None`.
    #[serde(skip)]
    pub thumbnails: BTreeMap<Option<u64>, Thumbnail>,
}

/// A score beside those of the calibration.
#[derive(Debug, Clone, Serialize)]
pub struct Decision {
    /// Calibration images.
    pub images: usize,
    /// The share of ID images that the threshold accepts.
    pub tpr: f64,
    /// The score below which such a share of the calibration images lies.
    pub threshold: f32,
    /// Whether the score is above it.
    pub is_ood: bool,
    /// The share of calibration images with a smaller score.
    pub percentile: f64,
    /// The conformal p-value.
    pub pvalue: f64,
}

/// Explain an image by a bank: with its `neighbors` nearest images, and the threshold that accepts a share `tpr` of ID images.
///
/// Errors: an unknown bank; an id that no image has; an image that has no embedding of the bank's backbone; a uri of several images; a file
/// that cannot be read or embedded.
pub async fn explain(session: &Session, bank: &str, which: &Which, neighbors: usize, tpr: f64) -> Result<Explained> {
    let bank = session.banks().definition(bank)?;
    let id = match which {
        Which::Id(id) => Some(*id),
        Which::Uri(uri) => find(session, uri).await?,
    };
    let calibration = match session.banks().calibration(&bank, bank.k) {
        Ok(calibration) => Some(calibration),
        Err(Error::NotCalibrated { .. }) => None,
        Err(error) => return Err(error),
    };
    let facts = facts_of(&bank, calibration.map(|calibration| calibration.predicate.clone()));
    let most = bank.row_count.saturating_sub(1).max(1);
    let mut explained = match (id, which) {
        (Some(id), _) => of_row(session, &bank, id, facts, neighbors.clamp(1, most)).await?,
        (None, Which::Uri(uri)) if is_nowhere(uri) => return Err(Error::NoSuchUri { uri: uri.clone() }),
        (None, Which::Uri(uri)) => of_file(session, &bank, uri, facts, neighbors.clamp(1, bank.row_count)).await?,
        (None, Which::Id(id)) => return Err(no_image(*id)),
    };
    explained.decision = match calibration {
        Some(calibration) => {
            let (score, scores, threshold) = (explained.score, &calibration.scores, calibration.threshold(tpr)?);
            Some(Decision {
                images: scores.len(),
                tpr,
                threshold,
                is_ood: score > threshold,
                percentile: scores.partition_point(|known| *known < score) as f64 / scores.len() as f64,
                pvalue: pvalue(scores, score),
            })
        }
        None => None,
    };
    Ok(explained)
}

fn no_image(id: u64) -> Error {
    Error::NoSuchImage { id }
}

/// The image of a uri: as it is written, or of the file that it names; `None` where there is none.
async fn find(session: &Session, uri: &str) -> Result<Option<u64>> {
    let file = if is_address(uri) { uri.into() } else { absolute(uri) };
    let query = format!(
        "SELECT id, dataset FROM images WHERE uri IN ({}, {}) ORDER BY id LIMIT {}",
        quote(uri),
        quote(&file),
        NAMED + 1
    );
    let mut found = Vec::new();
    for batch in session.sql(&query).await?.collect().await? {
        let datasets = texts(&batch, 1)?;
        let ids = batch.column(0).as_primitive::<UInt64Type>().values().to_vec();
        found.extend(ids.into_iter().zip(datasets));
    }
    match found.as_slice() {
        [] => Ok(None),
        [(id, _)] => Ok(Some(*id)),
        several => {
            let name =
                |(id, dataset): &(u64, Option<String>)| format!("{id} ({})", dataset.as_deref().unwrap_or_default());
            let names: Vec<String> = several.iter().take(NAMED).map(name).collect();
            let more = if several.len() > NAMED { ", …" } else { "" };
            Err(Error::ManyImages { uri: uri.into(), ids: names.join(", ") + more })
        }
    }
}

/// Whether neither a file nor an address is meant that could be read.
fn is_nowhere(uri: &str) -> bool {
    let file = uri.find("!/").map_or(uri, |at| &uri[..at]);
    !is_address(uri) && !Path::new(file).exists()
}

/// The uri that an ingest of this path would give it.
fn absolute(path: &str) -> String {
    let (file, inside) = path.find("!/").map_or((path, ""), |at| path.split_at(at));
    format!("{}{inside}", Folders::default().path(Path::new(file)).to_string_lossy())
}

/// An image of the database.
async fn of_row(
    session: &Session,
    bank: &Definition,
    id: u64,
    facts: BankFacts,
    neighbors: usize,
) -> Result<Explained> {
    let own = own_columns(session).await?;
    let is_in_bank = session.banks().open(bank, SearchOptions::default())?.ids().contains(&id);
    let query = format!(
        "SELECT uri, dataset, split, label, knn_ood_score({column}, '{name}', {k}{own_entry}), content_hash{further} FROM images WHERE id = {id}",
        column = bank.backbone,
        name = bank.name,
        k = bank.k,
        own_entry = if is_in_bank { ", id" } else { "" },
        further = columns(&own),
    );
    let batches = session.sql(&query).await?.collect().await?;
    let Some(batch) = batches.iter().find(|batch| batch.num_rows() > 0) else { return Err(no_image(id)) };
    if batch.column(4).is_null(0) {
        return Err(Error::NoEmbedding { id, backbone: bank.backbone.clone() });
    }
    let score = batch.column(4).as_primitive::<Float32Type>().value(0);
    let text = |column: usize| Ok::<_, Error>(texts(batch, column)?.swap_remove(0));
    let mut metadata = BTreeMap::new();
    for (at, name) in own.iter().enumerate() {
        metadata.extend(text(6 + at)?.map(|value| (name.clone(), value)));
    }
    let near = neighbors_of(session, bank, &[id], neighbors).await?.remove(&id).unwrap_or_default();
    let (uri, dataset, split, label) = (text(0)?.unwrap_or_default(), text(1)?, text(2)?, text(3)?);
    let ids: Vec<u64> = near.iter().map(|neighbor| neighbor.id).chain([id]).collect();
    let (mut pictures, mut without) = (BTreeMap::new(), BTreeMap::new());
    super::pictures::read(session, &ids, &Arc::new(Opened::default()), &mut pictures, &mut without).await?;
    let file_has_changed = match text(5)? {
        Some(hash) => has_changed(&uri, hash).await?,
        None => false,
    };
    let own_picture = pictures.get(&id).cloned().map(|picture| (None, picture));
    Ok(Explained {
        bank: facts,
        id: Some(id),
        uri,
        dataset,
        split,
        label,
        metadata,
        score,
        decision: None,
        is_in_bank,
        file_has_changed,
        neighbors: near,
        without_picture: without.remove(&id),
        thumbnails: pictures.into_iter().map(|(id, picture)| (Some(id), picture)).chain(own_picture).collect(),
    })
}

/// Whether a file of this machine that can be read holds other bytes than those of `hash`.
async fn has_changed(uri: &str, hash: String) -> Result<bool> {
    let path = uri.to_owned();
    let read = tokio::task::spawn_blocking(move || std::fs::read(path).is_ok_and(|bytes| content_hash(&bytes) != hash));
    read.await.map_err(|_| Error::ReadPanicked)
}

/// A picture that is not in the database: it is embedded now.
async fn of_file(
    session: &Session,
    bank: &Definition,
    uri: &str,
    facts: BankFacts,
    neighbors: usize,
) -> Result<Explained> {
    let query = format!(
        "SELECT score, near['id'], near['distance'], i.uri, i.label FROM (SELECT knn_ood_score(v, '{name}') AS score, unnest(knn_neighbors(v, \
         '{name}', {neighbors})) AS near FROM (SELECT embed({uri}, '{backbone}') AS v)) q LEFT JOIN images i ON i.id = near['id'] ORDER BY \
         near['distance'], near['id']",
        name = bank.name,
        uri = quote(uri),
        backbone = bank.backbone,
    );
    let (mut score, mut near) = (f32::NAN, Vec::new());
    for batch in session.sql(&query).await?.collect().await? {
        let scores = cast(batch.column(0), &DataType::Float32)?;
        let (uris, labels) = (texts(&batch, 3)?, texts(&batch, 4)?);
        for row in 0..batch.num_rows() {
            score = scores.as_primitive::<Float32Type>().value(row);
            near.push(Neighbor {
                id: batch.column(1).as_primitive::<UInt64Type>().value(row),
                distance: batch.column(2).as_primitive::<Float32Type>().value(row),
                uri: uris[row].clone(),
                label: labels[row].clone(),
            });
        }
    }
    let ids: Vec<u64> = near.iter().map(|neighbor| neighbor.id).collect();
    let (mut pictures, mut without) = (BTreeMap::new(), BTreeMap::new());
    let opened = Arc::new(Opened::default());
    super::pictures::read(session, &ids, &opened, &mut pictures, &mut without).await?;
    let at = uri.to_owned();
    // it was read once, or there would be no score
    let read = tokio::task::spawn_blocking(move || {
        let file = opened.images([at]).next();
        file.map(|file| file.and_then(|file| small(&file.uri, &file.bytes)))
    });
    let own = read.await.map_err(|_| Error::ReadPanicked)?;
    let (own, without_picture) = match own {
        Some(Ok(picture)) => (Some(picture), None),
        Some(Err(error)) => (None, Some(error.to_string())),
        None => (None, Some("it is not where it was".into())),
    };
    Ok(Explained {
        bank: facts,
        id: None,
        uri: uri.into(),
        dataset: None,
        split: None,
        label: None,
        metadata: BTreeMap::new(),
        score,
        decision: None,
        is_in_bank: false,
        file_has_changed: false,
        neighbors: near,
        without_picture,
        thumbnails: pictures
            .into_iter()
            .map(|(id, picture)| (Some(id), picture))
            .chain(own.map(|picture| (None, picture)))
            .collect(),
    })
}
