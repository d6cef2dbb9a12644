//! Which images a report shows, what is known of each, and small pictures of them and of their neighbours.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, UInt64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::facts::{Neighbor, Picture, Thumbnail};
use super::scored::Scored;
use crate::bank::{Calibration, Definition};
use crate::error::Result;
use crate::image::{Opened, Orientation, decode, is_plain, thumbnail};
use crate::index::vectors::{embedding, normalize};
use crate::ingest::{names_picture, reread};
use crate::schema;
use crate::sql::session::Session;
use crate::statistics::coverage::farthest_first;
use crate::statistics::thresholds::pvalue;

/// Images outside among which representative ones are sought.
const CANDIDATES: usize = 4096;
/// Nearest images of the bank that are shown beside each.
const NEIGHBORS: usize = 3;
/// Pixels of the longer side of a small picture.
const SIDE: u32 = 128;
/// Columns of the user's own that are shown.
const COLUMNS: usize = 8;
/// Images that one query names.
const AT_ONCE: usize = 500;
/// Stored pictures that are in memory together.
const STORED: usize = 16;

/// What pictures are chosen from.
pub(super) struct Shown<'a> {
    pub(super) scored: &'a Scored,
    pub(super) bank: &'a Definition,
    pub(super) calibration: &'a Calibration,
    pub(super) threshold: f32,
    pub(super) most: usize,
}

/// The images to show, and thumbnails of them and of their neighbours by id.
pub(super) async fn choose(
    session: &Session,
    asked: &Shown<'_>,
    tell: &mut impl FnMut(&str),
) -> Result<(Vec<Picture>, BTreeMap<u64, Thumbnail>)> {
    let chosen = chosen(session, asked).await?;
    let mut pictures = Vec::with_capacity(chosen.len());
    for some in chosen.chunks(AT_ONCE) {
        pictures.extend(described(session, asked, some).await?);
    }
    tell("reading pictures");
    let mut wanted: BTreeSet<u64> = pictures.iter().map(|picture| picture.id).collect();
    wanted.extend(pictures.iter().flat_map(|picture| &picture.neighbors).map(|neighbor| neighbor.id));
    let wanted: Vec<u64> = wanted.into_iter().collect();
    let (mut thumbnails, mut without) = (BTreeMap::new(), BTreeMap::new());
    let opened = Arc::new(Opened::default());
    for some in wanted.chunks(AT_ONCE) {
        read(session, some, &opened, &mut thumbnails, &mut without).await?;
    }
    for picture in &mut pictures {
        picture.without_picture = without.remove(&picture.id);
    }
    Ok((pictures, thumbnails))
}

/// An image, why it is shown, and how many others it stands for.
struct Chosen {
    at: usize,
    shown_as: &'static str,
    stands_for: Option<usize>,
}

/// Up to half of them the furthest outside; of the others a quarter nearest to the threshold, and a quarter such that all that lies
/// outside and is not shown yet is like one of them.
async fn chosen(session: &Session, asked: &Shown<'_>) -> Result<Vec<Chosen>> {
    let scored = asked.scored;
    let scores = &scored.scores;
    let few = asked.most / 4;
    let mut order: Vec<usize> = (0..scores.len()).collect();
    let by_id = |one: &usize, other: &usize| scored.ids[*one].cmp(&scored.ids[*other]);
    order.sort_unstable_by(|one, other| scores[*other].total_cmp(&scores[*one]).then_with(|| by_id(one, other)));
    let outside = order.partition_point(|&at| scores[at] > asked.threshold);
    let furthest = outside.min(asked.most - 2 * few);
    let mut found: Vec<Chosen> =
        order[..furthest].iter().map(|&at| Chosen { at, shown_as: "furthest", stands_for: None }).collect();
    // of the others, so that none is shown twice
    let first = outside.saturating_sub(few).max(furthest);
    let mut near: Vec<usize> = order[first..(outside + few).min(order.len())].to_vec();
    let off = |at: usize| (scores[at] - asked.threshold).abs();
    near.sort_by(|one, other| off(*one).total_cmp(&off(*other)).then_with(|| by_id(one, other)));
    near.truncate(few);
    let shown: HashSet<usize> = near.iter().copied().collect();
    found.extend(near.into_iter().map(|at| Chosen { at, shown_as: "borderline", stands_for: None }));
    let rest: Vec<usize> = order[furthest..outside].iter().copied().filter(|at| !shown.contains(at)).collect();
    let step = rest.len().div_ceil(CANDIDATES).max(1);
    let candidates: Vec<usize> = rest.into_iter().step_by(step).collect();
    let (rows, embeddings) = embeddings(session, asked, &candidates).await?;
    let cover = farthest_first(&embeddings, asked.bank.dimension, few);
    let mut typical: Vec<Chosen> = cover
        .chosen
        .iter()
        .zip(&cover.members)
        .map(|(row, members)| Chosen { at: rows[*row], shown_as: "representative", stands_for: Some(members * step) })
        .collect();
    typical.sort_by_key(|chosen| std::cmp::Reverse(chosen.stands_for));
    found.extend(typical);
    Ok(found)
}

/// Unit vectors of some images, and which image each is of.
async fn embeddings(session: &Session, asked: &Shown<'_>, of: &[usize]) -> Result<(Vec<usize>, Vec<f32>)> {
    let places: BTreeMap<u64, usize> = of.iter().map(|&at| (asked.scored.ids[at], at)).collect();
    let ids: Vec<u64> = places.keys().copied().collect();
    let (mut rows, mut units) = (Vec::new(), Vec::new());
    for some in ids.chunks(AT_ONCE) {
        let column = &asked.bank.backbone;
        let query = format!("SELECT id, {column} FROM images WHERE id IN ({}) ORDER BY id", listed(some));
        for batch in session.sql(&query).await?.collect().await? {
            let vectors = batch.column(1).as_fixed_size_list();
            for (row, id) in batch.column(0).as_primitive::<UInt64Type>().values().iter().enumerate() {
                let Ok(Some(values)) = embedding(vectors, row) else { continue };
                if normalize(values, &mut units).is_ok() {
                    rows.push(places[id]);
                }
            }
        }
    }
    Ok((rows, units))
}

/// What the database says of some of the images, in their order.
async fn described(session: &Session, asked: &Shown<'_>, chosen: &[Chosen]) -> Result<Vec<Picture>> {
    let ids: Vec<u64> = chosen.iter().map(|chosen| asked.scored.ids[chosen.at]).collect();
    let own = own_columns(session).await?;
    let query =
        format!("SELECT id, uri, dataset, split, label{} FROM images WHERE id IN ({})", columns(&own), listed(&ids));
    let mut known = BTreeMap::new();
    for batch in session.sql(&query).await?.collect().await? {
        let texts = (1..batch.num_columns()).map(|column| texts(&batch, column)).collect::<Result<Vec<_>>>()?;
        for (row, id) in batch.column(0).as_primitive::<UInt64Type>().values().iter().enumerate() {
            known.insert(*id, texts.iter().map(|column| column[row].clone()).collect::<Vec<_>>());
        }
    }
    let most = NEIGHBORS.min(asked.bank.row_count.saturating_sub(1)).max(1);
    let neighbors = neighbors_of(session, asked.bank, &ids, most).await?;
    let pictures = chosen.iter().map(|&Chosen { at, shown_as, stands_for }| {
        let (id, score) = (asked.scored.ids[at], asked.scored.scores[at]);
        let values = known.get(&id).cloned().unwrap_or_else(|| vec![None; 4 + own.len()]);
        let below = asked.calibration.scores.partition_point(|known| *known < score);
        let metadata = own.iter().zip(&values[4..]).filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
        Picture {
            shown_as,
            stands_for,
            id,
            uri: values[0].clone().unwrap_or_default(),
            dataset: values[1].clone().unwrap_or_default(),
            split: values[2].clone(),
            label: values[3].clone(),
            score,
            percentile: below as f64 / asked.calibration.scores.len() as f64,
            pvalue: pvalue(&asked.calibration.scores, score),
            neighbors: neighbors.get(&id).cloned().unwrap_or_default(),
            metadata: metadata.collect(),
            without_picture: None,
        }
    });
    Ok(pictures.collect())
}

/// The user's own columns of plain types, the first few.
pub(super) async fn own_columns(session: &Session) -> Result<Vec<String>> {
    let images = session.sql("SELECT * FROM images LIMIT 0").await?;
    let fields = images.schema().fields().clone();
    let own = fields.iter().filter(|field| schema::is_users(field) && is_plain(field.data_type()));
    Ok(own.take(COLUMNS).map(|field| field.name().clone()).collect())
}

/// Columns as a list of a SELECT goes on with them.
pub(super) fn columns(names: &[String]) -> String {
    names.iter().map(|name| format!(", \"{name}\"")).collect()
}

/// The nearest images of the bank of each, its own entry left out.
pub(super) async fn neighbors_of(
    session: &Session,
    bank: &Definition,
    ids: &[u64],
    k: usize,
) -> Result<BTreeMap<u64, Vec<Neighbor>>> {
    // each row's own entry is left out, and there may be no other
    if bank.row_count < 2 {
        return Ok(BTreeMap::new());
    }
    let query = format!(
        "SELECT q.id, near['id'], near['distance'], i.uri, i.label FROM (SELECT id, unnest(knn_neighbors({column}, '{name}', {k}, \
         id)) AS near FROM images WHERE id IN ({ids})) q LEFT JOIN images i ON i.id = near['id'] ORDER BY q.id, \
         near['distance'], near['id']",
        column = bank.backbone,
        name = bank.name,
        ids = listed(ids)
    );
    let mut found: BTreeMap<u64, Vec<Neighbor>> = BTreeMap::new();
    for batch in session.sql(&query).await?.collect().await? {
        let [of, near] = [0, 1].map(|column| batch.column(column).as_primitive::<UInt64Type>());
        let distances = batch.column(2).as_primitive::<Float32Type>();
        let (uris, labels) = (texts(&batch, 3)?, texts(&batch, 4)?);
        for row in 0..batch.num_rows() {
            let (uri, label) = (uris[row].clone(), labels[row].clone());
            let neighbor = Neighbor { id: near.value(row), distance: distances.value(row), uri, label };
            found.entry(of.value(row)).or_default().push(neighbor);
        }
    }
    Ok(found)
}

/// Small pictures of some images: from their stored bytes, else from where they were. Of the others why there is none.
pub(super) async fn read(
    session: &Session,
    ids: &[u64],
    opened: &Arc<Opened>,
    thumbnails: &mut BTreeMap<u64, Thumbnail>,
    without: &mut BTreeMap<u64, String>,
) -> Result<()> {
    let query = format!("SELECT id, uri, width, bytes IS NOT NULL FROM images WHERE id IN ({})", listed(ids));
    let (mut stored, mut elsewhere) = (Vec::new(), Vec::new());
    for batch in session.sql(&query).await?.collect().await? {
        let uris = texts(&batch, 1)?;
        for (row, id) in batch.column(0).as_primitive::<UInt64Type>().values().iter().enumerate() {
            if batch.column(3).as_boolean().value(row) {
                stored.push(*id);
                continue;
            }
            let uri = uris[row].clone().unwrap_or_default();
            if names_picture(&uri, batch.column(2).is_valid(row)) {
                elsewhere.push((uri, *id));
            } else {
                without.insert(*id, "it came as numbers".into());
            }
        }
    }
    for some in stored.chunks(STORED) {
        let query = format!("SELECT id, uri, bytes FROM images WHERE id IN ({})", listed(some));
        for batch in session.sql(&query).await?.collect().await? {
            let (uris, bytes) = (texts(&batch, 1)?, cast(batch.column(2), &DataType::LargeBinary)?);
            for (row, id) in batch.column(0).as_primitive::<UInt64Type>().values().iter().enumerate() {
                let uri = uris[row].as_deref().unwrap_or_default();
                keep(*id, small(uri, bytes.as_binary::<i64>().value(row)), thumbnails, without);
            }
        }
    }
    let opened = Arc::clone(opened);
    // files and addresses are read on a thread that may wait
    let read = tokio::task::spawn_blocking(move || {
        let files = reread(elsewhere, &opened);
        files.map(|(whom, file)| (whom, file.and_then(|file| small(&file.uri, &file.bytes)))).collect::<Vec<_>>()
    });
    for (whom, made) in read.await.map_err(|_| crate::error::Error::ReadPanicked)? {
        match made {
            Ok(made) => whom.into_iter().for_each(|id| keep(id, Ok(made.clone()), thumbnails, without)),
            Err(error) => {
                let reason = error.to_string();
                whom.into_iter().for_each(|id| drop(without.insert(id, reason.clone())));
            }
        }
    }
    Ok(())
}

fn keep(
    id: u64,
    made: Result<Thumbnail>,
    thumbnails: &mut BTreeMap<u64, Thumbnail>,
    without: &mut BTreeMap<u64, String>,
) {
    match made {
        Ok(made) => drop(thumbnails.insert(id, made)),
        Err(error) => drop(without.insert(id, error.to_string())),
    }
}

/// A picture as people see it: turned as its EXIF data say.
pub(super) fn small(uri: &str, bytes: &[u8]) -> Result<Thumbnail> {
    let pixels = decode(uri, bytes, Orientation::Exif)?;
    let (jpeg, width, height) = thumbnail(uri, &pixels, SIDE)?;
    Ok(Thumbnail { jpeg, width, height })
}

/// Values as text; NULL as none.
pub(super) fn texts(batch: &RecordBatch, column: usize) -> Result<Vec<Option<String>>> {
    let values = batch.column(column);
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(values, &options)?;
    let text = |row| values.is_valid(row).then(|| formatter.value(row).to_string());
    Ok((0..values.len()).map(text).collect())
}

fn listed(ids: &[u64]) -> String {
    ids.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}
