//! Copies: images that are another one once more, byte for byte, as a picture, or in a network's eyes.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Float32Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, UInt64Type};
use futures::TryStreamExt;
use outskirt_exact::{Collection, Metric};

use super::hashes::{Hashed, hash_pictures, without_hash};
use super::marks::{IGNORE, KEEP, is_marked, not_ignored};
use super::tables::{known, table};
use crate::error::{Error, Result};
use crate::index::vectors::{embedding, normalize};
use crate::schema;
use crate::sql::session::Session;
use crate::statistics::hamming::{MOST_BITS, NearWords};
use crate::store::{Change, memory};

/// Bytes that are held for an image.
const BYTES_PER_ROW: u64 = 120;
/// Images that are near enough, of those asked together.
const NEAR_AT_ONCE: usize = 1 << 22;
/// Embeddings that are asked together.
const ASKED_AT_ONCE: usize = 256;

/// When two images are alike. Files with the same bytes are in any case.
#[derive(Debug, Clone, PartialEq)]
pub enum Alike {
    /// Nothing else is.
    Content,
    /// Their difference hashes ([`crate::image::dhash`]) differ in at most so many bits, up to [`MOST_BITS`].
    Picture {
        /// Bits.
        bits: u32,
    },
    /// The embeddings of a backbone, L2-normalised, are at most so far apart: 0 to 2.
    Embedding {
        /// The backbone.
        backbone: String,
        /// Euclidean distance.
        within: f32,
    },
}

/// Which of two copies stays, where none is of [`DedupOptions::against`] or marked `keep`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stays {
    /// The one of more pixels, else the one that came first.
    Largest,
    /// The one that came first: of the smaller id.
    First,
}

/// What is compared.
#[derive(Debug, Clone)]
pub struct DedupOptions {
    /// When images are alike.
    pub alike: Alike,
    /// SQL over `images`: which; all where there is none.
    pub predicate: Option<String>,
    /// SQL over `images`: those that stay. The others are compared with them alone, and not among each other.
    pub against: Option<String>,
    /// Which of two stays.
    pub stays: Stays,
}

/// An image that is a copy.
#[derive(Debug, Clone, PartialEq)]
pub struct Copy {
    /// `images.id`.
    pub id: u64,
    /// `images.id` of the one that stays, the most alike.
    pub of: u64,
    /// Bits in which their hashes differ, or the distance of their embeddings; none of the same bytes.
    pub apart: Option<f32>,
    /// Why the other one stays.
    pub why: &'static str,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Copies {
    /// The copies, each once, by the id of what stays and then their own. What stays is no copy itself.
    pub copies: Vec<Copy>,
    /// Images that were compared, those of [`DedupOptions::against`] not counted.
    pub images: usize,
    /// Images of [`DedupOptions::against`].
    pub against: usize,
    /// Copies that stay because they are marked `keep`, not among [`Self::copies`].
    pub kept: usize,
    /// Images that were left out because they are marked `ignore`, of [`DedupOptions::against`] too.
    pub ignored: usize,
    /// Images compared by their bytes alone: they have no hash or embedding.
    pub without: usize,
    /// Images compared by their bytes alone: their pictures show one shade, or light that grows to one side, and their hashes would be
    /// like those of any such picture.
    pub blank: usize,
    /// Pictures that were hashed for this.
    pub hashed: Hashed,
    /// Whether the copies were deleted.
    pub deleted: bool,
}

/// Find copies, and delete them where that is asked for: in one commit, under one lock with what found them. Banks are behind until they are
/// refreshed. `tell` hears (what, done, all). Beside what was found, the copies as a table: `id`, `copy_of` (the id of what stays), `apart`
/// (FLOAT), `because`, `stays`; `uri`, `dataset`, `split` and `label`, and the same of what stays as `of_uri` and so on.
///
/// The images are taken in order, those first that stay in any case (of `against`; marked `keep`), then as [`Stays`] says. One that is like
/// an earlier one that stays is a copy of the most alike of them; so nothing is a copy of a copy, and no chain of small steps leads far.
///
/// Errors: another writer; a predicate that is no expression, or fails, or matches nothing; an unknown backbone; too many images for the memory.
pub async fn dedup(
    session: &Session,
    options: &DedupOptions,
    delete: bool,
    mut tell: impl FnMut(&'static str, usize, usize),
) -> Result<(Copies, RecordBatch)> {
    let store = session.store();
    // what is to be deleted is found under the same lock; else it is taken where hashes are to be written
    let mut lock = if delete { Some(store.lock_in_turn().await?) } else { None };
    // others may have written since the session began
    session.renew().await?;
    let mut hashed = Hashed::default();
    if let Alike::Picture { bits } = options.alike {
        if bits > MOST_BITS {
            return Err(Error::TooManyBits { bits, most: MOST_BITS });
        }
        let mut without = without_hash(session, &options.chosen(session).await?).await?;
        if !without.is_empty() {
            if lock.is_none() {
                lock = Some(store.lock_in_turn().await?);
                session.renew().await?;
                without = without_hash(session, &options.chosen(session).await?).await?;
            }
            if let Some(lock) = &lock {
                let tell = |done, all| tell("hashing pictures", done, all);
                hashed = hash_pictures(session, lock, without, tell).await?;
                session.renew().await?;
            }
        }
    }
    let mut found = Copies { hashed, ..copies(session, options, |done, all| tell("comparing", done, all)).await? };
    let table = copies_table(session, &found.copies).await?;
    if let Some(lock) = lock.filter(|_| delete && !found.copies.is_empty()) {
        let ids: Vec<u64> = found.copies.iter().map(|copy| copy.id).collect();
        let change =
            Change { predicate: options.predicate.clone(), detail: Some(options.described()), ..Change::of("dedup") };
        session.delete_ids(&lock, &ids, change).await?;
        found.deleted = true;
    }
    Ok((found, table))
}

/// Find copies, and write nothing: pictures that were not hashed before have no hash. `tell` hears (done, all).
///
/// Errors: as [`dedup`], but for another writer.
pub async fn copies(session: &Session, options: &DedupOptions, mut tell: impl FnMut(usize, usize)) -> Result<Copies> {
    let chosen = options.chosen(session).await?;
    let mut rows = rows(session, options, &chosen).await?;
    rows.sort_unstable_by_key(|row| {
        let pixels = if options.stays == Stays::Largest { row.pixels } else { 0 };
        (std::cmp::Reverse((row.against, row.keep, pixels)), row.id)
    });
    let against = rows.iter().filter(|row| row.against).count();
    if let (0, Some(predicate)) = (against, &options.against) {
        return Err(Error::NothingStays { predicate: predicate.clone() });
    }
    let ignored = format!("({}) AND {}", options.named(), is_marked(session.store(), IGNORE).await?);
    let ignored = session.count_where(&ignored).await? as usize;
    let mut found = Copies { images: rows.len() - against, against, ignored, ..Copies::default() };
    compare(session, options, &rows, &mut found, &mut tell).await?;
    found.copies.sort_unstable_by_key(|copy| (copy.of, copy.id));
    Ok(found)
}

/// Copies in their order, what a terminal should have room for first: `id`, `copy_of` (the id of what stays), `apart` (FLOAT: bits, or the
/// distance of embeddings; NULL of the same bytes), `because`, `stays` (why the other one does), `uri`, `of_uri`; then dataset, split and
/// label of both.
async fn copies_table(session: &Session, copies: &[Copy]) -> Result<RecordBatch> {
    let [ids, of]: [Vec<u64>; 2] =
        [copies.iter().map(|copy| copy.id).collect(), copies.iter().map(|copy| copy.of).collect()];
    let (copy, other) = (known(session, &ids).await?, known(session, &of).await?);
    let [id, dataset, split, label, uri] = copy.map(|(_, column)| column);
    let [copy_of, of_dataset, of_split, of_label, of_uri] = other.map(|(_, column)| column);
    let because = copies.iter().map(|copy| if copy.apart.is_none() { "same bytes" } else { "alike" });
    table(vec![
        ("id", id),
        ("copy_of", copy_of),
        ("apart", Arc::new(Float32Array::from_iter(copies.iter().map(|copy| copy.apart)))),
        ("because", Arc::new(StringArray::from_iter_values(because))),
        ("stays", Arc::new(StringArray::from_iter_values(copies.iter().map(|copy| copy.why)))),
        ("uri", uri),
        ("of_uri", of_uri),
        ("dataset", dataset),
        ("split", split),
        ("label", label),
        ("of_dataset", of_dataset),
        ("of_split", of_split),
        ("of_label", of_label),
    ])
}

impl DedupOptions {
    /// SQL: all that are compared.
    async fn chosen(&self, session: &Session) -> Result<String> {
        for text in [self.compared(), self.staying()] {
            session.check_condition(text).await?;
        }
        Ok(format!("({}) AND {}", self.named(), not_ignored(session.store()).await?))
    }

    /// SQL: those and what is marked `ignore`.
    fn named(&self) -> String {
        format!("({}) OR ({})", self.compared(), self.staying())
    }

    fn compared(&self) -> &str {
        self.predicate.as_deref().unwrap_or("true")
    }

    fn staying(&self) -> &str {
        self.against.as_deref().unwrap_or("false")
    }

    fn described(&self) -> String {
        let alike = match &self.alike {
            Alike::Content => "same bytes".into(),
            Alike::Picture { bits } => format!("dhash within {bits} bits"),
            Alike::Embedding { backbone, within } => format!("{backbone} within {within}"),
        };
        match &self.against {
            Some(against) => format!("{alike}, against {against}"),
            None => alike,
        }
    }
}

/// What is known of an image.
struct Known {
    id: u64,
    pixels: u64,
    against: bool,
    keep: bool,
    /// Of its SHA-256.
    content: Option<u128>,
    hash: Option<u64>,
}

async fn rows(session: &Session, options: &DedupOptions, chosen: &str) -> Result<Vec<Known>> {
    let (store, against) = (session.store(), options.staying());
    let count = session.count_where(chosen).await?;
    if count == 0 {
        return Err(Error::NothingToCompare { predicate: options.compared().into() });
    }
    memory::check("finding copies", count * BYTES_PER_ROW, "--where compares fewer")?;
    let has_hash = store.schema(schema::IMAGES).await?.field_with_name(schema::DHASH).is_ok_and(schema::is_hash);
    let hash = if has_hash && matches!(options.alike, Alike::Picture { .. }) { schema::DHASH } else { "NULL" };
    let query = format!(
        "SELECT id, CAST(width AS BIGINT UNSIGNED) * height, coalesce(({against}), false), {keep}, content_hash, CAST({hash} AS BIGINT UNSIGNED) \
         FROM images WHERE {chosen}",
        keep = is_marked(store, KEEP).await?,
    );
    let mut rows = Vec::with_capacity(count as usize);
    let mut batches = session.sql(&query).await?.execute_stream().await?;
    while let Some(batch) = batches.try_next().await? {
        let whole = |column: usize| Ok::<_, Error>(cast(batch.column(column), &DataType::UInt64)?);
        let (pixels, hashes) = (whole(1)?, whole(5)?);
        let contents = cast(batch.column(4), &DataType::Utf8)?;
        let content = contents.as_string::<i32>();
        let (pixels, hashes) = (pixels.as_primitive::<UInt64Type>(), hashes.as_primitive::<UInt64Type>());
        let [against, keep] = [2, 3].map(|column| batch.column(column).as_boolean());
        for (row, &id) in batch.column(0).as_primitive::<UInt64Type>().values().iter().enumerate() {
            rows.push(Known {
                id,
                pixels: if pixels.is_valid(row) { pixels.value(row) } else { 0 },
                against: against.is_valid(row) && against.value(row),
                keep: keep.is_valid(row) && keep.value(row),
                content: content.is_valid(row).then(|| folded(content.value(row))).flatten(),
                hash: hashes.is_valid(row).then(|| hashes.value(row)),
            });
        }
    }
    Ok(rows)
}

/// Both halves of a SHA-256 in hexadecimal, folded: as unlikely to be the same by chance as either.
fn folded(text: &str) -> Option<u128> {
    let half = |part: &str| u128::from_str_radix(part, 16).ok();
    Some(half(text.get(..32)?)? ^ half(text.get(32..64)?)?)
}

/// Compare the images, in their order.
async fn compare(
    session: &Session,
    options: &DedupOptions,
    rows: &[Known],
    found: &mut Copies,
    tell: &mut impl FnMut(usize, usize),
) -> Result<()> {
    let mut likeness = match &options.alike {
        Alike::Content => Likeness::Content,
        Alike::Picture { bits } => Likeness::Picture { near: NearWords::new(*bits), of: Vec::new(), bits: *bits },
        Alike::Embedding { backbone, within } => Likeness::embeddings(session, rows, backbone, *within).await?,
    };
    let mut by_content: HashMap<u128, usize> = HashMap::new();
    let mut stays = vec![false; rows.len()];
    let all = rows.len();
    for (at, row) in rows.iter().enumerate() {
        if at % 4096 == 0 {
            tell(at, all);
        }
        let same_bytes = row.content.and_then(|content| by_content.get(&content)).map(|&of| (of, None));
        let like = match same_bytes {
            Some(found) => Some(found),
            None => likeness.of(at, row, &stays, found)?.map(|(of, apart)| (of, Some(apart))),
        };
        let in_any_case = row.against || row.keep;
        // with `against`, its images alone are what others are compared with
        let stands = row.against || options.against.is_none();
        found.kept += usize::from(like.is_some() && row.keep && !row.against);
        match like {
            Some((of, apart)) if !in_any_case => {
                found.copies.push(Copy { id: row.id, of: rows[of].id, apart, why: why(options, &rows[of], row) });
            }
            _ if stands => {
                stays[at] = true;
                if let Some(content) = row.content {
                    by_content.entry(content).or_insert(at);
                }
                likeness.keep(at, row);
            }
            _ => {}
        }
    }
    Ok(())
}

fn why(options: &DedupOptions, stays: &Known, goes: &Known) -> &'static str {
    if stays.against {
        "stays as asked"
    } else if stays.keep {
        "is marked keep"
    } else if options.stays == Stays::Largest && stays.pixels > goes.pixels {
        "has more pixels"
    } else {
        "came first"
    }
}

/// What images are compared by.
enum Likeness {
    Content,
    Picture {
        near: NearWords,
        /// The row of each word.
        of: Vec<usize>,
        bits: u32,
    },
    Embedding {
        within: f32,
        all: Box<Collection>,
        /// By row its place among the embeddings, and by place its row.
        places: Vec<Option<u32>>,
        rows: Vec<usize>,
        /// What was asked ahead: of rows from the first on, those that are near.
        asked: Vec<Vec<(usize, f32)>>,
        first: usize,
    },
}

impl Likeness {
    /// The most alike of the earlier rows that stay.
    fn of(&mut self, at: usize, row: &Known, stays: &[bool], found: &mut Copies) -> Result<Option<(usize, f32)>> {
        match self {
            Self::Content => Ok(None),
            Self::Picture { near, of, bits } => {
                let Some(hash) = row.hash else {
                    found.without += 1;
                    return Ok(None);
                };
                if is_blank(hash, *bits) {
                    found.blank += 1;
                    return Ok(None);
                }
                Ok(near.nearest(hash).map(|(place, bits)| (of[place], bits as f32)))
            }
            Self::Embedding { within, all, places, rows, asked, first } => {
                let Some(place) = places[at] else {
                    found.without += 1;
                    return Ok(None);
                };
                let place = place as usize;
                if place >= *first + asked.len() {
                    (*asked, *first) = (ask(all, rows, place, *within)?, place);
                }
                let near = asked[place - *first].iter().filter(|(other, _)| *other < at && stays[*other]);
                Ok(near.copied().min_by(|one, other| one.1.total_cmp(&other.1).then(one.0.cmp(&other.0))))
            }
        }
    }

    /// A row stays: later ones are compared with it.
    fn keep(&mut self, at: usize, row: &Known) {
        if let (Self::Picture { near, of, bits }, Some(hash)) = (self, row.hash)
            && !is_blank(hash, *bits)
        {
            near.add(hash);
            of.push(at);
        }
    }

    /// The embeddings of these rows, in their order.
    async fn embeddings(session: &Session, rows: &[Known], backbone: &str, within: f32) -> Result<Self> {
        if !(0.0..=2.0).contains(&within) {
            return Err(Error::BadWithin { within });
        }
        let by_id: HashMap<u64, usize> = rows.iter().enumerate().map(|(at, row)| (row.id, at)).collect();
        let query = format!("SELECT id, \"{backbone}\" FROM images WHERE \"{backbone}\" IS NOT NULL");
        let mut batches = session.sql(&query).await?.execute_stream().await?;
        let mut units: Vec<(usize, Vec<f32>)> = Vec::new();
        let mut dimension = 1;
        while let Some(batch) = batches.try_next().await? {
            if units.is_empty() {
                dimension = width(&batch, backbone)?;
                memory::check(
                    "the embeddings to compare",
                    rows.len() as u64 * (13 * dimension as u64 + 64),
                    "--where compares fewer",
                )?;
            }
            for (row, id) in batch.column(0).as_primitive::<UInt64Type>().values().iter().enumerate() {
                let Some(&at) = by_id.get(id) else { continue };
                let mut unit = Vec::with_capacity(dimension);
                // what is no direction is like nothing
                if let Ok(Some(values)) = embedding(batch.column(1).as_fixed_size_list(), row)
                    && normalize(values, &mut unit).is_ok()
                {
                    units.push((at, unit));
                }
            }
        }
        units.sort_unstable_by_key(|(at, _)| *at);
        let mut places = vec![None; rows.len()];
        units.iter().zip(0..).for_each(|((at, _), place)| places[*at] = Some(place));
        let order = units.iter().map(|(at, _)| *at).collect();
        let mut values = Vec::with_capacity(units.len() * dimension);
        units.into_iter().for_each(|(_, unit)| values.extend(unit));
        let all = Box::new(Collection::new(values, dimension, Metric::Euclidean).map_err(cannot)?);
        Ok(Self::Embedding { within, all, places, rows: order, asked: Vec::new(), first: 0 })
    }
}

/// Which earlier and later rows are near, of some embeddings from a place on.
fn ask(all: &Collection, rows: &[usize], place: usize, within: f32) -> Result<Vec<Vec<(usize, f32)>>> {
    let d = all.dimension();
    let some = ASKED_AT_ONCE.min(rows.len() - place);
    let values = &all.rows().values()[place * d..(place + some) * d];
    let counts = all.search().count_within(values, f64::from(within)).map_err(cannot)?;
    let mut found = 0;
    let fitting = counts.iter().take_while(|&&count| {
        found += count;
        found <= NEAR_AT_ONCE
    });
    let fitting = fitting.count().max(1);
    let near = all.search().within(&values[..fitting * d], f64::from(within)).map_err(cannot)?;
    let of = |near: Vec<outskirt_exact::Neighbor>| {
        near.into_iter().map(|near| (rows[near.id as usize], near.value as f32)).collect()
    };
    Ok(near.into_iter().map(of).collect())
}

fn cannot(error: outskirt_exact::Error) -> Error {
    Error::CannotCompare { reason: error.to_string() }
}

/// Whether a hash is as near to that of a picture of one shade, or of light that grows to one side, as copies are to each other.
fn is_blank(hash: u64, bits: u32) -> bool {
    hash.count_ones() <= bits || hash.count_zeros() <= bits
}

/// How many numbers an embedding has.
fn width(batch: &RecordBatch, backbone: &str) -> Result<usize> {
    match batch.column(1).data_type() {
        DataType::FixedSizeList(item, width) if item.data_type() == &DataType::Float32 => Ok(*width as usize),
        _ => Err(Error::NotAnEmbedding { column: backbone.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_pictures_are_those_near_one_shade() {
        assert!(is_blank(0, 0) && is_blank(u64::MAX, 0) && is_blank(0b1111, 4) && is_blank(!0b1_0001, 4));
        assert!(!is_blank(1, 0) && !is_blank(0b1_1111, 4));
        assert_eq!(folded(&format!("{:032x}{:032x}", 12, 10)), Some(6));
        assert_eq!((folded("xy"), folded(&"é".repeat(40))), (None, None));
    }
}
