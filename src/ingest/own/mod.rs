//! Own embeddings: rows of tables and arrays that another program made, into `images`.
//!
//! A row is known by its dataset and uri, as a picture is: the one its column `uri` says, else the file and the row's number in
//! it. New rows are appended; of rows that are there, whoever made them, the embedding and the other columns follow the file.
//! Rows of a few tens of thousands are committed together, so an ingest that was interrupted goes on where it was. A row whose
//! numbers are no vector stops nothing: it is a row of `rejects` until it is one.

mod beside;
mod files;
mod options;

use std::collections::hash_map::{DefaultHasher, Entry};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hasher;
use std::path::{Path, PathBuf};
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

use self::beside::{Beside, Slice};
use self::files::{Plan, Source, agreed_width, notices};
pub use self::options::OwnOptions;
use super::column_types::{common, fits, plain};
use super::numbers::{logits, same, vectors};
use super::rejects::{Reject, Rejects};
use super::summary::IngestSummary;
use crate::backbone::{External, register_external};
use crate::error::{Error, Result};
use crate::identity::{Digest, Lookup, digest, short_digest};
use crate::image::{Folders, row_uri};
use crate::schema;
use crate::store::{Change, Store, WriteLock, quote};

/// Rows and bytes of a commit: few commits for a million rows, and what is held until then is bounded.
const COMMIT_ROWS: usize = 131_072;
const COMMIT_BYTES: usize = 128 << 20;

/// Ingest the rows of `files`. `progress(rows done, rows of all files where they are known)` is called after each batch, `say` hears
/// what the user should know before anything is written.
///
/// Errors: another writer; a column filled by another version; files that cannot be read (what came before is kept); a
/// refused row where [`OwnOptions::strict`] says so; every row refused.
pub async fn ingest_embeddings(
    store: &Store,
    files: &[PathBuf],
    options: &OwnOptions,
    mut say: impl FnMut(String) -> Result<()>,
    mut progress: impl FnMut(u64, Option<u64>),
) -> Result<IngestSummary> {
    let start = Instant::now();
    let lock = store.lock_in_turn().await?;
    let before = store.version(schema::IMAGES).await?;
    let beside = Beside::of(options.metadata.as_deref(), &mut say)?;
    let has_dataset = beside.as_ref().is_some_and(|beside| beside.dataset.is_some());
    let mut sources = Vec::with_capacity(files.len());
    for file in files {
        sources.push(Source::open(file, options, has_dataset)?);
    }
    let dimension = agreed_width(&mut sources, options, |source| source.plan.vector)?;
    let external = External::new(&options.backbone, dimension, &options.version)?;
    let classes = match &options.logits {
        Some(_) => {
            Some(agreed_width(&mut sources, options, |source| source.plan.logits.unwrap_or(source.plan.vector))?)
        }
        None => None,
    };
    notices(&sources, &mut say)?;
    let total = sources.iter().map(|source| source.rows.rows).sum::<Option<u64>>();
    if let Some(beside) = &beside {
        beside.check_rows(sources.iter().map(|source| &source.plan), total)?;
    }
    register_external(store, &lock, &external).await?;
    if let Some(classes) = classes {
        register_logits(store, &lock, &external, classes).await?;
    }
    add_columns(store, &lock, &sources, beside.as_ref()).await?;
    let mut writer = Writer::of(store, &lock, options, &external).await?;
    let mut ended = Ok(());
    let mut done = 0;
    'files: for source in sources {
        let Source { path, plan, rows } = source;
        let mut number = 0;
        for batch in rows.into_batches() {
            let read = batch.and_then(|batch| {
                let beside = beside.as_ref().map(|beside| beside.rows(&plan, &batch, done)).transpose()?;
                writer.push(&path, &plan, &batch, number, beside)
            });
            let count = match read {
                Ok(count) => count as u64,
                Err(error) => {
                    ended = Err(error);
                    break 'files;
                }
            };
            (number, done) = (number + count, done + count);
            if writer.is_due() {
                ended = writer.commit().await;
            }
            if ended.is_err() {
                break 'files;
            }
            progress(done, total);
        }
    }
    let last = writer.commit().await;
    ended = ended.and(last);
    let mut summary = writer.summary;
    let change = Change {
        detail: Some(format!("embeddings {} of version {}", external.name, quote(&external.version))),
        predicate: options.dataset.as_ref().map(|dataset| format!("{} = {}", schema::DATASET, quote(dataset))),
        row_count: (summary.embedded() + summary.amended) as u64,
        ..Change::of("ingest")
    };
    // also of what was committed before it failed
    store.record(&lock, before, change).await?;
    ended?;
    summary.check_not_all_refused()?;
    summary.wall = start.elapsed();
    Ok(summary)
}

/// Add the columns of the user's own that the files have; those that are there are kept.
async fn add_columns(store: &Store, lock: &WriteLock, sources: &[Source], beside: Option<&Beside>) -> Result<()> {
    let images = store.schema(schema::IMAGES).await?;
    let mut kinds: BTreeMap<&str, (Vec<DataType>, &str)> = BTreeMap::new();
    let mut see = |name, kind: &DataType, path| {
        let kind = match kind {
            DataType::Utf8View | DataType::LargeUtf8 => &DataType::Utf8,
            DataType::Dictionary(_, values) => values.as_ref(),
            kind => kind,
        };
        kinds.entry(name).or_insert_with(|| (Vec::new(), path)).0.push(kind.clone());
    };
    for Source { path, plan, rows, .. } in sources {
        for (column, name) in &plan.own {
            see(name.as_str(), rows.schema().field(*column).data_type(), path.as_str());
        }
    }
    for (column, name) in beside.iter().flat_map(|beside| &beside.own) {
        see(
            name.as_str(),
            beside.map_or(&DataType::Null, |beside| beside.table.column(*column).data_type()),
            "--metadata",
        );
    }
    let mut new = Vec::new();
    for (name, (kinds, path)) in kinds {
        match images.field_with_name(name) {
            Ok(there) if !schema::is_users(there) => {
                let reason = format!("column '{name}' of images holds embeddings or scores: name this one otherwise");
                return Err(Error::BadMetadata { path: path.into(), reason });
            }
            Ok(_) => {}
            Err(_) => new.push(Field::new(name, common(kinds.iter()), true)),
        }
    }
    store.add_null_columns(lock, schema::IMAGES, &new).await
}

/// Add the column of an external backbone's class logits; nothing happens where it is there.
async fn register_logits(store: &Store, lock: &WriteLock, external: &External, classes: usize) -> Result<()> {
    let field = schema::logits_field(&external.name, classes, &external.version);
    let images = store.schema(schema::IMAGES).await?;
    match images.field_with_name(field.name()) {
        Err(_) => store.add_null_columns(lock, schema::IMAGES, &[field]).await,
        Ok(there) if there.data_type() == field.data_type() && schema::is_logits(there) => Ok(()),
        Ok(there) => Err(Error::OtherCheckpoint {
            column: field.name().clone(),
            stored: there.data_type().to_string(),
            given: format!("{classes} classes"),
        }),
    }
}

/// Rows that are there: their ids, and what is said of them.
#[derive(Default)]
struct Met {
    ids: Vec<u64>,
    rows: Vec<RecordBatch>,
}

/// Turns rows into commits.
struct Writer<'a> {
    store: &'a Store,
    lock: &'a WriteLock,
    options: &'a OwnOptions,
    schema: SchemaRef,
    lookup: Lookup,
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
    summary: IngestSummary,
}

impl<'a> Writer<'a> {
    async fn of(store: &'a Store, lock: &'a WriteLock, options: &'a OwnOptions, external: &External) -> Result<Self> {
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

    fn is_due(&self) -> bool {
        let rows = self.new.iter().map(RecordBatch::num_rows).sum::<usize>() + self.met.ids.len() + self.refused.len();
        rows >= COMMIT_ROWS || self.bytes >= COMMIT_BYTES
    }

    /// Take a batch of a file, whose first row has this number there; how many rows it has.
    fn push(
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
            let reason = if dataset.is_empty() { Some("its dataset is empty".into()) } else { refused.remove(&row) };
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
            let key = digest(dataset, &uri);
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
                    self.summary.first_clash.get_or_insert(uri);
                    named.push(None);
                    continue;
                }
            }
            self.whole.push(uri.clone());
            let known = self.lookup.rows(&key)?;
            match known.first() {
                Some(there) => {
                    self.summary.in_other_splits += usize::from(there.split != short_digest(split));
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
            self.bytes += batch.get_array_memory_size();
            self.new.push(batch);
        }
        if !met.is_empty() {
            let rows = UInt32Array::from(met);
            let fields: Vec<Field> =
                given.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
            let columns = given.iter().map(|(_, column)| take(column, &rows, None)).collect::<Result<Vec<_>, _>>()?;
            let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
            self.bytes += batch.get_array_memory_size();
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
                    Some((_, column)) => take(&cast(column, field.data_type())?, &indices, None)?,
                    None => new_null_array(field.data_type(), count),
                },
            })
        };
        let columns = self.schema.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    /// Commit what waits.
    async fn commit(&mut self) -> Result<()> {
        let start = Instant::now();
        let new = std::mem::take(&mut self.new);
        let added: usize = new.iter().map(RecordBatch::num_rows).sum();
        if added > 0 {
            let rows = MemoryStream::try_new(new, Arc::clone(&self.schema), None).map_err(Error::from)?;
            self.store.append_rows(self.lock, schema::IMAGES, Box::pin(rows)).await?;
            self.summary.added += added;
        }
        let Met { ids, rows } = std::mem::take(&mut self.met);
        let mut from = 0;
        for alike in rows.chunk_by(|one, other| one.schema() == other.schema()) {
            let given = concat_batches(&alike[0].schema(), alike)?;
            let to = from + given.num_rows();
            self.follow(&ids[from..to], &given).await?;
            from = to;
        }
        let whole = std::mem::take(&mut self.whole);
        self.rejects.mend(whole.iter().map(String::as_str)).await?;
        let mut refused: BTreeMap<(String, String), Vec<Reject>> = BTreeMap::new();
        for (dataset, split, reject) in std::mem::take(&mut self.refused) {
            refused.entry((dataset, split)).or_default().push(reject);
        }
        for ((dataset, split), rejects) in refused {
            self.rejects.add(&rejects, &dataset, &split).await?;
        }
        self.bytes = 0;
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

/// Stands for the numbers of a row.
fn content(vectors: &FixedSizeListArray, row: usize) -> u64 {
    let from = vectors.value_offset(row) as usize;
    let numbers =
        &vectors.values().as_primitive::<Float32Type>().values()[from..from + vectors.value_length() as usize];
    let mut hasher = DefaultHasher::new();
    numbers.iter().for_each(|number| hasher.write_u32(number.to_bits()));
    hasher.finish()
}
