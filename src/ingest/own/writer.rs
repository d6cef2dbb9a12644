//! Rows of embeddings into commits: what is new, what is there already, and what is refused.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, RecordBatch, StringArray, TimestampNanosecondArray, UInt32Array,
    UInt64Array, new_null_array,
};
use arrow::compute::{cast, concat_batches, filter_record_batch, interleave, kernels::cmp::distinct, take};
use arrow::datatypes::{DataType, Field, Float32Type, Schema, SchemaRef, UInt64Type};
use datafusion::physical_plan::memory::MemoryStream;
use futures::TryStreamExt;
use futures::future::{BoxFuture, Either, FutureExt, MaybeDone, maybe_done, select};

use super::beside::{Beside, Slice};
use super::files::Plan;
use super::keys::{Keys, texts};
use super::options::OwnOptions;
use crate::backbone::External;
use crate::error::{Error, Result};
use crate::identity::{Digest, Lookup, digest, short_digest};
use crate::image::{Folders, row_uri};
use crate::ingest::column_types::{fits, plain};
use crate::ingest::numbers::{logits, same, vectors};
use crate::ingest::rejects::{Reject, Rejects};
use crate::ingest::summary::IngestSummary;
use crate::schema;
use crate::store::{Store, WriteLock, quote};

/// Rows and bytes of a commit: few commits for a million rows, and what is held until then is bounded.
const COMMIT_ROWS: usize = 131_072;
const COMMIT_BYTES: usize = 128 << 20;

/// Rows that are there: their ids, and what is said of them.
#[derive(Default)]
struct Met {
    ids: Vec<u64>,
    rows: Vec<RecordBatch>,
}

/// Rows on their way into the table, and what is to be done once they are there.
pub(super) struct Writing<'a> {
    appending: MaybeDone<BoxFuture<'a, Result<()>>>,
    rest: Rest,
}

impl Writing<'_> {
    /// Go on while something else is awaited.
    pub(super) async fn beside<T>(&mut self, other: impl Future<Output = T>) -> T {
        match select(&mut self.appending, pin!(other)).await {
            Either::Left(((), other)) => other.await,
            Either::Right((value, _)) => value,
        }
    }
}

struct Rest {
    added: usize,
    met: Met,
    refused: Vec<(String, String, Reject)>,
    whole: Vec<String>,
}

/// Turns rows into commits.
pub(super) struct Writer<'a> {
    store: &'a Store,
    lock: &'a WriteLock,
    options: &'a OwnOptions,
    schema: SchemaRef,
    lookup: Lookup,
    /// Where rows are matched by a column of the user's own.
    keys: Option<Keys>,
    /// Rows that were deleted, whatever they were made from.
    deleted: HashSet<Digest>,
    rejects: Rejects<'a>,
    folders: Folders,
    /// Rows of this run, and their numbers.
    seen: HashMap<Digest, u64>,
    next_id: u64,
    new: Vec<RecordBatch>,
    met: Met,
    refused: Vec<(String, String, Reject)>,
    whole: Vec<String>,
    bytes: usize,
    pub(super) summary: IngestSummary,
}

impl<'a> Writer<'a> {
    pub(super) async fn of(
        store: &'a Store,
        lock: &'a WriteLock,
        options: &'a OwnOptions,
        external: &External,
        keys: Option<Keys>,
    ) -> Result<Self> {
        let lookup = Lookup::current(store, lock).await?;
        let mut deleted = HashSet::new();
        if !options.again {
            let columns = [schema::DATASET, schema::URI];
            let mut batches = store.scan(schema::DELETIONS, None, &columns, None).await?;
            while let Some(batch) = batches.try_next().await? {
                let (datasets, uris) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
                deleted.extend((0..batch.num_rows()).map(|row| digest(datasets.value(row), uris.value(row))));
            }
        }
        let scope = format!("backbone = {}", quote(&external.name));
        Ok(Self {
            store,
            lock,
            options,
            schema: store.schema(schema::IMAGES).await?,
            lookup,
            keys,
            deleted,
            rejects: Rejects::of(store, lock, &external.name, scope).await?,
            folders: Folders::default(),
            seen: HashMap::new(),
            next_id: store.next_id().await?,
            new: Vec::new(),
            met: Met::default(),
            refused: Vec::new(),
            whole: Vec::new(),
            bytes: 0,
            summary: IngestSummary::default(),
        })
    }

    pub(super) fn is_due(&self) -> bool {
        let rows = self.new.iter().map(RecordBatch::num_rows).sum::<usize>() + self.met.ids.len() + self.refused.len();
        rows >= COMMIT_ROWS || self.bytes >= COMMIT_BYTES
    }

    /// Take a batch of a file, whose first row has this number there; how many rows it has.
    pub(super) fn push(
        &mut self,
        path: &str,
        plan: &Plan,
        batch: &RecordBatch,
        number: u64,
        beside: Option<Slice<'_>>,
    ) -> Result<usize> {
        let rows = batch.num_rows();
        let text = |column: Option<usize>| -> Result<Option<StringArray>> {
            let Some(column) = column else { return Ok(None) };
            Ok(Some(cast(batch.column(column), &DataType::Utf8)?.as_string::<i32>().clone()))
        };
        // a table beside the file has the last word, where it says something
        let said = |column: Option<usize>, of: fn(&Beside) -> Option<usize>| -> Result<Option<StringArray>> {
            let here = text(column)?;
            let Some((beside, column)) = beside.as_ref().and_then(|beside| Some((beside, of(beside.of)?))) else {
                return Ok(here);
            };
            let there = cast(beside.rows.column(column), &DataType::Utf8)?;
            let both = match here {
                Some(here) => otherwise(&there, &(Arc::new(here) as ArrayRef))?,
                None => there,
            };
            Ok(Some(both.as_string::<i32>().clone()))
        };
        let uris = said(plan.uri, |beside| beside.uri)?;
        let keys = match (&self.keys, plan.key, &beside) {
            (Some(_), Some(key), _) => Some(texts(batch.column(key))?),
            (Some(_), None, Some(beside)) => beside.of.key.map(|key| texts(beside.rows.column(key))).transpose()?,
            _ => None,
        };
        let says_split = self.options.split.is_some() || plan.split.is_some();
        let labels = said(plan.label, |beside| beside.label)?;
        let datasets = if self.options.dataset.is_some() { None } else { said(plan.dataset, |beside| beside.dataset)? };
        let splits = if self.options.split.is_some() { None } else { said(plan.split, |beside| beside.split)? };
        let found = vectors(batch.column(plan.vector), self.width(&self.options.backbone))?;
        let mut refused: HashMap<usize, String> = found.refused.into_iter().collect();
        let logits_name = schema::logits_column(&self.options.backbone);
        let class_logits = match plan.logits {
            Some(column) => {
                let found = logits(batch.column(column), self.width(&logits_name))?;
                for (row, reason) in found.refused {
                    refused.entry(row).or_insert(format!("of its logits: {reason}"));
                }
                Some(found.column)
            }
            None => None,
        };
        // what becomes of each row
        let (mut added, mut met, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        let (mut named, mut ends) = (Vec::with_capacity(rows), None);
        for row in 0..rows {
            let dataset = match (&self.options.dataset, &datasets) {
                (Some(dataset), _) => dataset.as_str(),
                (None, Some(datasets)) if datasets.is_valid(row) => datasets.value(row),
                _ => "",
            };
            let split = self.options.split.as_deref().or(splits.as_ref().map(|splits| splits.value(row))).unwrap_or("");
            let uri = uris.as_ref().filter(|uris| uris.is_valid(row)).map(|uris| uris.value(row));
            let uri = match uri.filter(|uri| !uri.trim().is_empty()) {
                // of an address nothing is kept that gives access
                Some(uri) => self.options.query.uri(&row_uri(Path::new(path), uri, &mut self.folders)),
                None => format!("{path}!/{:08}", number + row as u64),
            };
            let reason = match &keys {
                Some(keys) if keys.is_null(row) => Some("what it belongs to is NULL".into()),
                None if dataset.is_empty() => Some("its dataset is empty".into()),
                _ => refused.remove(&row),
            };
            if let Some(reason) = reason {
                let reject = Reject { uri: uri.clone(), reason: reason.clone() };
                self.summary.refuse(std::slice::from_ref(&reject));
                self.refused.push((dataset.into(), split.into(), reject));
                if self.options.strict {
                    ends = Some(Error::RefusedRow { uri, reason });
                    break;
                }
                named.push(None);
                continue;
            }
            let key = keys.as_ref().map_or_else(|| digest(dataset, &uri), |keys| Keys::digest(keys.value(row)));
            let numbers = content(&found.column, row);
            match self.seen.entry(key) {
                Entry::Vacant(first) => drop(first.insert(numbers)),
                Entry::Occupied(first) if *first.get() == numbers => {
                    self.summary.repeated += 1;
                    named.push(None);
                    continue;
                }
                Entry::Occupied(_) => {
                    self.summary.clashed += 1;
                    let first = keys.as_ref().map_or(uri, |keys| keys.value(row).to_owned());
                    self.summary.first_clash.get_or_insert(first);
                    named.push(None);
                    continue;
                }
            }
            self.whole.push(uri.clone());
            if let (Some(known), Some(keys)) = (&self.keys, &keys) {
                let before = met.len();
                ids.extend(known.rows(&key));
                met.resize(ids.len(), row as u32);
                if met.len() == before {
                    self.summary.unmatched += 1;
                    self.summary.first_unmatched.get_or_insert_with(|| keys.value(row).to_owned());
                    if self.options.strict {
                        ends = Some(Error::UnmatchedRow { uri, value: keys.value(row).to_owned() });
                        break;
                    }
                }
                named.push(None);
                continue;
            }
            let known = self.lookup.rows(&key)?;
            match known.first() {
                Some(there) => {
                    let is_elsewhere = says_split && there.split != short_digest(split);
                    self.summary.in_other_splits += usize::from(is_elsewhere);
                    met.push(row as u32);
                    ids.push(there.id);
                }
                None if self.deleted.contains(&key) => self.summary.deleted += 1,
                None => added.push(row as u32),
            }
            named.push(Some((dataset.to_owned(), split.to_owned(), uri)));
        }
        let mut own: Vec<(&str, ArrayRef)> = Vec::new();
        for (column, name) in &plan.own {
            own.push((name, self.fitted(path, name, batch.column(*column))?));
        }
        for (beside, (column, name)) in
            beside.iter().flat_map(|beside| beside.of.own.iter().map(move |own| (beside, own)))
        {
            let there = self.fitted("--metadata", name, beside.rows.column(*column))?;
            match own.iter_mut().find(|(known, _)| known == name) {
                Some((_, here)) if beside.is_by_uri => *here = otherwise(&there, here)?,
                Some((_, here)) => *here = there,
                None => own.push((name, there)),
            }
        }
        let labels: ArrayRef = labels.map_or_else(|| new_null_array(&DataType::Utf8, rows), |labels| Arc::new(labels));
        let vector: ArrayRef = Arc::new(found.column);
        let mut given: Vec<(&str, ArrayRef)> = vec![(&self.options.backbone, vector), (schema::LABEL, labels)];
        given.extend(class_logits.map(|logits| (logits_name.as_str(), Arc::new(logits) as ArrayRef)));
        given.extend(own);
        if !added.is_empty() {
            let batch = self.new_rows(&given, &named, &added)?;
            self.bytes += bytes_of(&batch)?;
            self.new.push(batch);
        }
        if !met.is_empty() {
            let rows = UInt32Array::from(met);
            let fields: Vec<Field> =
                given.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
            let columns = given.iter().map(|(_, column)| taken(column, &rows)).collect::<Result<Vec<_>>>()?;
            let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
            self.bytes += bytes_of(&batch)?;
            // files may have other columns than those before
            self.met.ids.append(&mut ids);
            self.met.rows.push(batch);
        }
        ends.map_or(Ok(rows), Err)
    }

    /// Numbers per vector of a column of `images`.
    fn width(&self, column: &str) -> usize {
        match self.schema.field_with_name(column).map(Field::data_type) {
            Ok(DataType::FixedSizeList(_, width)) => *width as usize,
            _ => 0,
        }
    }

    /// A column of the user's own, as `images` has it.
    fn fitted(&self, path: &str, name: &str, column: &ArrayRef) -> Result<ArrayRef> {
        let column = plain(column)?;
        let kind = self.schema.field_with_name(name)?.data_type();
        if !fits(&column, kind) {
            let reason = format!(
                "column '{name}' is {} here, and its values do not fit {kind} as in images: name it otherwise, or ALTER TABLE \
                 images DROP COLUMN {name} first",
                column.data_type()
            );
            return Err(Error::BadMetadata { path: path.into(), reason });
        }
        Ok(cast(&column, kind)?)
    }

    /// Rows as `images` has them.
    fn new_rows(
        &mut self,
        given: &[(&str, ArrayRef)],
        named: &[Option<(String, String, String)>],
        rows: &[u32],
    ) -> Result<RecordBatch> {
        let count = rows.len();
        let named: Vec<&(String, String, String)> =
            rows.iter().filter_map(|row| named[*row as usize].as_ref()).collect();
        let first = self.next_id;
        self.next_id += count as u64;
        let now = chrono::Utc::now().timestamp_nanos_opt().unwrap_or(0);
        let indices = UInt32Array::from(rows.to_vec());
        let column = |field: &Arc<Field>| -> Result<ArrayRef> {
            Ok(match field.name().as_str() {
                schema::ID => Arc::new(UInt64Array::from_iter_values(first..self.next_id)),
                schema::DATASET => Arc::new(StringArray::from_iter_values(named.iter().map(|named| &named.0))),
                schema::SPLIT => Arc::new(StringArray::from_iter_values(named.iter().map(|named| &named.1))),
                schema::URI => Arc::new(StringArray::from_iter_values(named.iter().map(|named| &named.2))),
                schema::INGESTED_AT => Arc::new(TimestampNanosecondArray::from(vec![now; count])),
                name => match given.iter().find(|(given, _)| *given == name) {
                    Some((_, column)) => taken(&cast(column, field.data_type())?, &indices)?,
                    None => new_null_array(field.data_type(), count),
                },
            })
        };
        let columns = self.schema.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    /// Begin to commit what waits; the next rows can be taken meanwhile.
    fn begin(&mut self) -> Result<Writing<'a>> {
        let new = std::mem::take(&mut self.new);
        let rest = Rest {
            added: new.iter().map(RecordBatch::num_rows).sum(),
            met: std::mem::take(&mut self.met),
            refused: std::mem::take(&mut self.refused),
            whole: std::mem::take(&mut self.whole),
        };
        self.bytes = 0;
        let rows = MemoryStream::try_new(new, Arc::clone(&self.schema), None).map_err(Error::from)?;
        let (store, lock) = (self.store, self.lock);
        let is_empty = rest.added == 0;
        let append = async move {
            if is_empty { Ok(()) } else { store.append_rows(lock, schema::IMAGES, Box::pin(rows)).await }
        };
        Ok(Writing { appending: maybe_done(append.boxed()), rest })
    }

    /// End the commit that is under way, and begin the next one.
    pub(super) async fn next_commit(&mut self, writing: &mut Option<Writing<'a>>) -> Result<()> {
        self.end_commit(writing).await?;
        *writing = Some(self.begin()?);
        Ok(())
    }

    /// End the commit that is under way.
    pub(super) async fn end_commit(&mut self, writing: &mut Option<Writing<'a>>) -> Result<()> {
        match writing.take() {
            Some(writing) => self.finish(writing).await,
            None => Ok(()),
        }
    }

    /// The rest of a commit, once the new rows are in the table: rows that were there follow, and what was refused is named.
    async fn finish(&mut self, writing: Writing<'a>) -> Result<()> {
        let start = Instant::now();
        let Writing { mut appending, rest: Rest { added, met: Met { ids, rows }, refused: no_rows, whole } } = writing;
        (&mut appending).await;
        Pin::new(&mut appending).take_output().unwrap_or(Ok(()))?;
        self.summary.added += added;
        let mut from = 0;
        for alike in rows.chunk_by(|one, other| one.schema() == other.schema()) {
            let given = concat_batches(&alike[0].schema(), alike)?;
            let to = from + given.num_rows();
            self.follow(&ids[from..to], &given).await?;
            from = to;
        }
        self.rejects.mend(whole.iter().map(String::as_str)).await?;
        let mut refused: BTreeMap<(String, String), Vec<Reject>> = BTreeMap::new();
        for (dataset, split, reject) in no_rows {
            refused.entry((dataset, split)).or_default().push(reject);
        }
        for ((dataset, split), rejects) in refused {
            self.rejects.add(&rejects, &dataset, &split).await?;
        }
        self.summary.write += start.elapsed();
        Ok(())
    }

    /// Bring rows that are there up to date with what is said of them.
    async fn follow(&mut self, ids: &[u64], given: &RecordBatch) -> Result<()> {
        let places: HashMap<u64, usize> = ids.iter().copied().zip(0..).collect();
        let (Some(first), Some(last)) = (ids.iter().min(), ids.iter().max()) else { return Ok(()) };
        let names: Vec<&str> = given.schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
        let wanted = [&[schema::ID], names.as_slice()].concat();
        let range = format!("{} BETWEEN {first} AND {last}", schema::ID);
        let mut batches = self.store.scan(schema::IMAGES, None, &wanted, Some(&range)).await?;
        let mut changed = Vec::new();
        while let Some(batch) = batches.try_next().await? {
            let of_batch = batch.column(0).as_primitive::<UInt64Type>().values();
            let met = of_batch.iter().map(|id| Some(places.contains_key(id))).collect();
            let batch = filter_record_batch(&batch, &met)?;
            if batch.num_rows() == 0 {
                continue;
            }
            let of_batch = batch.column(0).as_primitive::<UInt64Type>().values();
            let rows: Vec<usize> = of_batch.iter().map(|id| places[id]).collect();
            let indices = UInt64Array::from_iter_values(rows.iter().map(|row| *row as u64));
            let (mut differs, mut is_new, mut is_other) =
                (vec![false; rows.len()], vec![false; rows.len()], vec![false; rows.len()]);
            let mut columns = vec![Arc::clone(batch.column(0))];
            for (name, (there, said)) in names.iter().zip(batch.columns()[1..].iter().zip(given.columns())) {
                let said = cast(&take(said, &indices, None)?, there.data_type())?;
                if let (Some(said), Some(there)) = (said.as_fixed_size_list_opt(), there.as_fixed_size_list_opt()) {
                    for row in 0..rows.len() {
                        let has = there.is_valid(row);
                        if !has || !same(said, row, there, row) {
                            differs[row] = true;
                            if has { is_other[row] = true } else { is_new[row] = true }
                        }
                    }
                    columns.push(Arc::new(said.clone()));
                    continue;
                }
                // a label that is empty says nothing
                let said = if *name == schema::LABEL { otherwise(&said, there)? } else { said };
                distinct(&said, there)?.iter().zip(&mut differs).for_each(|(one, any)| *any |= one == Some(true));
                columns.push(said);
            }
            for row in 0..rows.len() {
                match (differs[row], is_other[row], is_new[row]) {
                    (true, true, _) => self.summary.replaced += 1,
                    (true, false, true) => self.summary.filled += 1,
                    (true, false, false) => {
                        self.summary.described += 1;
                        self.summary.amended += 1;
                    }
                    (false, ..) => self.summary.unchanged += 1,
                }
            }
            let fields: Vec<Field> =
                wanted.iter().map(|name| self.schema.field_with_name(name).cloned()).collect::<Result<_, _>>()?;
            let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
            let rows = filter_record_batch(&rows, &differs.into())?;
            if rows.num_rows() > 0 {
                changed.push(rows);
            }
        }
        if let Some(first) = changed.first() {
            self.store.update_images(self.lock, concat_batches(&first.schema(), &changed)?).await?;
        }
        Ok(())
    }
}

/// Where the first is NULL, the second.
fn otherwise(said: &ArrayRef, there: &ArrayRef) -> Result<ArrayRef> {
    let places: Vec<(usize, usize)> = (0..said.len()).map(|row| (usize::from(said.is_null(row)), row)).collect();
    Ok(interleave(&[said.as_ref(), there.as_ref()], &places)?)
}

/// Some rows, as they are where those are all.
fn taken(column: &ArrayRef, rows: &UInt32Array) -> Result<ArrayRef> {
    let is_whole = rows.len() == column.len() && rows.values().iter().zip(0..).all(|(row, at)| *row == at);
    if is_whole { Ok(Arc::clone(column)) } else { Ok(take(column, rows, None)?) }
}

/// Bytes of these rows alone: a batch may be a part of a larger one, whose memory it shares.
fn bytes_of(batch: &RecordBatch) -> Result<usize> {
    let sizes = batch.columns().iter().map(|column| column.to_data().get_slice_memory_size());
    Ok(sizes.sum::<Result<usize, _>>()?)
}

/// Stands for the numbers of a row.
fn content(vectors: &FixedSizeListArray, row: usize) -> u64 {
    let numbers = vectors.values().as_primitive::<Float32Type>().values().inner().as_slice();
    let width = vectors.value_length() as usize * size_of::<f32>();
    let from = vectors.value_offset(row) as usize * size_of::<f32>();
    short_digest(&numbers[from..from + width])
}
