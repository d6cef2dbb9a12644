//! Which images there are: rows of `images` by dataset and uri, which is where the file really is. A derived file, `indexes/ingest/known.redb`, so that an ingest of a few files
//! reads what changed since the last one, and not a million uris.
//!
//! The file says which fragments of the table it has seen, and how each was. What is new or otherwise is read, what is gone is
//! taken out; a file that is damaged, or of folders that lie elsewhere by now, is made anew.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;
use futures::TryStreamExt;
use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};
use sha2::{Digest as _, Sha256};

use crate::caught::{caught, caught_while};
use crate::error::{Error, Result};
use crate::image::Folders;
use crate::schema;
use crate::store::{Column, Piece, Pieces, Store, WriteLock};

/// Stands for a text: half of its SHA-256. No two of a million texts have the same.
pub type Digest = [u8; 16];

/// Of a text that means something within a dataset, as a uri does.
pub fn digest(dataset: &str, text: &str) -> Digest {
    let mut digest = [0; 16];
    let both = Sha256::new().chain_update(dataset).chain_update([0]).chain_update(text).finalize();
    digest.copy_from_slice(&both[..16]);
    digest
}

/// Of a text that is only compared with another one.
pub fn short_digest(text: impl AsRef<[u8]>) -> u64 {
    let mut digest = [0; 8];
    digest.copy_from_slice(&Sha256::digest(text)[..8]);
    u64::from_le_bytes(digest)
}

/// Of texts most of which are the one before again, as splits and labels are.
#[derive(Default)]
struct Repeated(Option<(String, u64)>);

impl Repeated {
    fn digest(&mut self, text: &str) -> u64 {
        if let Some((last, digest)) = &self.0
            && last == text
        {
            return *digest;
        }
        let digest = short_digest(text);
        self.0 = Some((text.into(), digest));
        digest
    }
}

/// Number of the form of the file.
const FORMAT: u64 = 1;
/// Rows that are read and sorted at once.
const AT_ONCE: usize = 262_144;
/// Bytes of the file that are kept in memory.
const CACHE: usize = 64 << 20;

/// Of a row: its content, its label, its split, its fragment, and the columns that have a value.
type Value = (&'static Digest, Option<u64>, u64, u64, Vec<i32>);

/// By dataset and uri, and by id: of an earlier version's databases an image may have several rows.
const ROWS: TableDefinition<'_, (&Digest, u64), Value> = TableDefinition::new("rows");
/// By dataset and content, and by id.
const CONTENTS: TableDefinition<'_, (&Digest, u64), ()> = TableDefinition::new("contents");
/// By fragment and id: the row's dataset and uri.
const MEMBERS: TableDefinition<'_, (u64, u64), &Digest> = TableDefinition::new("members");
/// Fragments that were seen, and how they were.
const FRAGMENTS: TableDefinition<'_, u64, &Digest> = TableDefinition::new("fragments");
/// Folders of images, and where they really were.
const FOLDERS: TableDefinition<'_, &str, &str> = TableDefinition::new("folders");
const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");

/// A row that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its id.
    pub id: u64,
    /// What its file holds, as [`digest`] of its dataset and content hash; of '' where it came as numbers.
    pub content: Digest,
    /// Its label, as [`short_digest`].
    pub label: Option<u64>,
    /// Its split, as [`short_digest`].
    pub split: u64,
    /// Numbers of the columns of vectors that have a value.
    pub filled: Vec<i32>,
}

/// A row as it goes into the file.
struct Entry {
    key: Digest,
    fragment: u64,
    row: Row,
}

/// What is known of the rows of `images`.
pub struct Lookup {
    rows: ReadOnlyTable<(&'static Digest, u64), Value>,
    contents: ReadOnlyTable<(&'static Digest, u64), ()>,
    columns: HashMap<String, Column>,
    path: PathBuf,
    /// Its tables are read as long as it is open.
    _database: Database,
}

impl std::fmt::Debug for Lookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookup").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Lookup {
    /// Of the current version.
    ///
    /// Errors: a file that cannot be written or read, [`Error::Lookup`].
    pub async fn current(store: &Store, _lock: &WriteLock) -> Result<Self> {
        let path = store.index_folder().join("ingest").join("known.redb");
        let pieces = store.pieces(schema::IMAGES).await?;
        // redb panics over some damaged pages
        let found = caught_while(caught_up(&path, &pieces)).await;
        let (database, (rows, contents)) = match found.unwrap_or_else(|| Err(damaged(&path))) {
            Ok(found) => found,
            // it is derived: whatever is wrong with it, another one is made
            Err(Error::Lookup { .. }) => {
                fs::remove_file(&path).or_else(missing).map_err(Error::io("remove", &path))?;
                caught_up(&path, &pieces).await?
            }
            Err(other) => return Err(other),
        };
        Ok(Self { rows, contents, columns: pieces.columns(), path, _database: database })
    }

    /// The rows of an image, by ascending ids.
    ///
    /// Errors: [`Error::Lookup`] of a damaged file, which is removed: the next one is made anew.
    pub fn rows(&self, uri: &Digest) -> Result<Vec<Row>> {
        self.read(|| self.rows_of(uri))
    }

    /// Read the file; one that cannot be read is removed.
    fn read<T>(&self, read: impl FnOnce() -> Result<T>) -> Result<T> {
        let found = caught(read).unwrap_or_else(|| Err(damaged(&self.path)));
        if let Err(Error::Lookup { .. }) = &found {
            fs::remove_file(&self.path).or_else(missing).map_err(Error::io("remove", &self.path))?;
        }
        found
    }

    fn rows_of(&self, uri: &Digest) -> Result<Vec<Row>> {
        let failed = failed(&self.path);
        let mut rows = Vec::new();
        for found in self.rows.range((uri, 0)..=(uri, u64::MAX)).map_err(&failed)? {
            let (key, value) = found.map_err(&failed)?;
            rows.push(row_of(key.value().1, value.value()));
        }
        Ok(rows)
    }

    /// Whether a row of the dataset has this content.
    pub fn holds(&self, content: &Digest) -> Result<bool> {
        self.read(|| {
            let failed = failed(&self.path);
            let mut found = self.contents.range((content, 0)..=(content, u64::MAX)).map_err(&failed)?;
            Ok(found.next().transpose().map_err(&failed)?.is_some())
        })
    }

    /// Numbers of columns, as [`Row::filled`] has them.
    pub fn columns<'c>(&self, names: impl Iterator<Item = &'c str>) -> Vec<Option<i32>> {
        names.map(|name| self.columns.get(name).map(|column| column.id)).collect()
    }
}

/// The tables that are read.
type Tables = (ReadOnlyTable<(&'static Digest, u64), Value>, ReadOnlyTable<(&'static Digest, u64), ()>);

fn open(database: &Database) -> Result<Tables, redb::Error> {
    let read = database.begin_read()?;
    Ok((read.open_table(ROWS)?, read.open_table(CONTENTS)?))
}

fn row_of(id: u64, (content, label, split, _, filled): (&Digest, Option<u64>, u64, u64, Vec<i32>)) -> Row {
    Row { id, content: *content, label, split, filled }
}

/// What new rows are to be called: each image of a dataset is there once.
#[derive(Debug)]
pub struct NewNames {
    lookup: Lookup,
    folders: Folders,
    taken: HashSet<Digest>,
}

impl NewNames {
    /// Beside the rows that are there.
    pub async fn of(store: &Store, lock: &WriteLock) -> Result<Self> {
        let lookup = Lookup::current(store, lock).await?;
        Ok(Self { lookup, folders: Folders::default(), taken: HashSet::new() })
    }

    /// Take a name.
    ///
    /// Errors: [`Error::SameImage`] where it is taken, by whatever spelling of its path.
    pub fn take(&mut self, dataset: &str, uri: &str) -> Result<()> {
        let name = digest(dataset, &self.folders.uri(uri));
        if !self.taken.insert(name) || !self.lookup.rows(&name)?.is_empty() {
            return Err(Error::SameImage { dataset: dataset.into(), uri: uri.into() });
        }
        Ok(())
    }
}

/// The error of a file over which redb panics.
fn damaged(path: &Path) -> Error {
    Error::Lookup { path: path.into(), reason: "it is damaged".into() }
}

fn missing(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Whatever redb says of the file.
fn failed<E: Into<redb::Error>>(path: &Path) -> impl Fn(E) -> Error {
    let lookup = |reason| Error::Lookup { path: path.into(), reason };
    move |error| match error.into() {
        redb::Error::Io(source) => match Error::io("write", path)(source) {
            full @ Error::DiskFull { .. } => full,
            other => lookup(other.to_string()),
        },
        other => lookup(other.to_string()),
    }
}

/// The file, with all rows of the table's version in it.
async fn caught_up(path: &Path, pieces: &Pieces) -> Result<(Database, Tables)> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    let database = create(path)?;
    let mut state = State::read(&database).map_err(failed(path))?;
    let database = if state.as_ref().is_some_and(|state| state.folders_moved()) {
        drop(database);
        fs::remove_file(path).map_err(Error::io("remove", path))?;
        state = None;
        create(path)?
    } else {
        database
    };
    let seen = state.map(|state| state.fragments).unwrap_or_default();
    let now = pieces.list()?;
    let there: HashSet<u64> = now.iter().map(|piece| piece.id).collect();
    let gone: Vec<u64> = seen.keys().copied().filter(|fragment| !there.contains(fragment)).collect();
    // changed ones have smaller numbers than new ones: a row is taken from where it was before it is put where it is
    let new: Vec<Piece> = now.into_iter().filter(|piece| seen.get(&piece.id) != Some(&piece.state)).collect();
    if gone.is_empty() && new.is_empty() && !seen.is_empty() {
        let tables = open(&database).map_err(failed(path))?;
        return Ok((database, tables));
    }
    let write = database.begin_write().map_err(failed(path))?;
    for fragment in gone {
        take_out(&write, fragment, &HashSet::new(), false).map_err(failed(path))?;
    }
    let mut folders = Folders::default();
    for group in groups(&new) {
        let entries = read(pieces, group, &mut folders).await?;
        put_in(&write, group, &seen, entries).map_err(failed(path))?;
    }
    finish(&write, &folders).map_err(failed(path))?;
    write.commit().map_err(failed(path))?;
    let tables = open(&database).map_err(failed(path))?;
    Ok((database, tables))
}

fn create(path: &Path) -> Result<Database> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    builder.create(path).map_err(failed(path))
}

/// What the file says of itself.
struct State {
    fragments: BTreeMap<u64, Digest>,
    folders: Vec<(String, String)>,
}

impl State {
    /// `None` of a new file.
    fn read(database: &Database) -> Result<Option<Self>, redb::Error> {
        let read = database.begin_read()?;
        let about = match read.open_table(ABOUT) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            about => about?,
        };
        let format = about.get("format")?.map(|format| format.value());
        if format != Some(FORMAT) {
            return Err(redb::Error::Corrupted(format!("its form is {format:?}, and not {FORMAT}")));
        }
        let mut state = Self { fragments: BTreeMap::new(), folders: Vec::new() };
        for found in read.open_table(FRAGMENTS)?.iter()? {
            let (fragment, was) = found?;
            state.fragments.insert(fragment.value(), *was.value());
        }
        for found in read.open_table(FOLDERS)?.iter()? {
            let (folder, real) = found?;
            state.folders.push((folder.value().into(), real.value().into()));
        }
        Ok(Some(state))
    }

    /// Whether a folder of images really is somewhere else than it was, so that its images are known by another name.
    fn folders_moved(&self) -> bool {
        let mut folders = Folders::default();
        self.folders.iter().any(|(folder, real)| folders.real(Path::new(folder)) != Path::new(real))
    }
}

/// Fragments whose rows are read together.
fn groups(pieces: &[Piece]) -> impl Iterator<Item = &[Piece]> {
    let mut rows = 0;
    pieces.chunk_by(move |one, next| {
        rows += one.rows;
        let together = rows + next.rows <= AT_ONCE;
        if !together {
            rows = 0;
        }
        together
    })
}

/// The rows of some fragments.
async fn read(pieces: &Pieces, group: &[Piece], folders: &mut Folders) -> Result<Vec<Entry>> {
    let columns = [schema::ID, schema::DATASET, schema::URI, schema::CONTENT_HASH, schema::LABEL, schema::SPLIT];
    let numbers = pieces.columns();
    let vectors: Vec<&str> = numbers.iter().filter(|(_, column)| column.is_vector).map(|(name, _)| &**name).collect();
    let mut entries = Vec::with_capacity(group.iter().map(|piece| piece.rows).sum());
    let (mut label, mut split) = (Repeated::default(), Repeated::default());
    let mut batches = pieces.scan(group, &columns, &vectors).await?;
    while let Some(batch) = batches.try_next().await? {
        let column = |name: &str| batch_column(&batch, name);
        let ids = column(schema::ID)?.as_primitive::<UInt64Type>();
        let places = column("_rowaddr")?.as_primitive::<UInt64Type>();
        let [datasets, uris, hashes, labels, splits] = [
            column(schema::DATASET)?.as_string::<i32>(),
            column(schema::URI)?.as_string(),
            column(schema::CONTENT_HASH)?.as_string(),
            column(schema::LABEL)?.as_string(),
            column(schema::SPLIT)?.as_string(),
        ];
        let has_value = vectors.iter().map(|name| Ok((numbers[*name].id, column(&format!("{name}?"))?.as_boolean())));
        let has_value = has_value.collect::<Result<Vec<_>>>()?;
        entries.extend((0..batch.num_rows()).map(|at| {
            let dataset = datasets.value(at);
            let filled = has_value.iter().filter(|(_, has)| has.value(at)).map(|(number, _)| *number).collect();
            Entry {
                key: digest(dataset, &folders.uri(uris.value(at))),
                fragment: places.value(at) >> 32,
                row: Row {
                    id: ids.value(at),
                    content: digest(dataset, hashes.value(at)),
                    label: labels.is_valid(at).then(|| label.digest(labels.value(at))),
                    split: split.digest(splits.value(at)),
                    filled,
                },
            }
        }));
    }
    Ok(entries)
}

fn batch_column<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b dyn Array> {
    let missing = || Error::BadRow { table: schema::IMAGES.into(), reason: format!("no column '{name}' was read") };
    batch.column_by_name(name).map(AsRef::as_ref).ok_or_else(missing)
}

/// Take the rows of a fragment out, but those of `kept`.
fn take_out(
    write: &WriteTransaction,
    fragment: u64,
    kept: &HashSet<(u64, u64)>,
    stays: bool,
) -> Result<(), redb::Error> {
    let (mut rows, mut contents) = (write.open_table(ROWS)?, write.open_table(CONTENTS)?);
    let mut members = write.open_table(MEMBERS)?;
    let mut gone = Vec::new();
    for found in members.range((fragment, 0)..=(fragment, u64::MAX))? {
        let (key, uri) = found?;
        if !kept.contains(&key.value()) {
            gone.push((key.value().1, *uri.value()));
        }
    }
    for (id, uri) in gone {
        members.remove((fragment, id))?;
        remove_row(&mut rows, &mut contents, &uri, id, fragment)?;
    }
    if !stays {
        write.open_table(FRAGMENTS)?.remove(fragment)?;
    }
    Ok(())
}

/// Remove a row, unless it lies in another fragment by now.
fn remove_row(
    rows: &mut Table<'_, (&'static Digest, u64), Value>,
    contents: &mut Table<'_, (&'static Digest, u64), ()>,
    uri: &Digest,
    id: u64,
    fragment: u64,
) -> Result<(), redb::Error> {
    let content = match rows.get((uri, id))? {
        Some(value) if value.value().3 == fragment => *value.value().0,
        _ => return Ok(()),
    };
    rows.remove((uri, id))?;
    contents.remove((&content, id))?;
    Ok(())
}

/// Put the rows of some fragments in, which is all that they have now.
fn put_in(
    write: &WriteTransaction,
    group: &[Piece],
    seen: &BTreeMap<u64, Digest>,
    mut entries: Vec<Entry>,
) -> Result<(), redb::Error> {
    if group.iter().any(|piece| seen.contains_key(&piece.id)) {
        let kept: HashSet<(u64, u64)> = entries.iter().map(|entry| (entry.fragment, entry.row.id)).collect();
        for piece in group.iter().filter(|piece| seen.contains_key(&piece.id)) {
            take_out(write, piece.id, &kept, true)?;
        }
    }
    let (mut rows, mut contents) = (write.open_table(ROWS)?, write.open_table(CONTENTS)?);
    let mut members = write.open_table(MEMBERS)?;
    // each in the order of its tree: neighbours are written together; what is there already is not written again
    entries.sort_by_key(|entry| (entry.fragment, entry.row.id));
    for Entry { key, fragment, row } in &entries {
        let before = members.get((*fragment, row.id))?.map(|key| *key.value());
        if before == Some(*key) {
            continue;
        }
        members.insert((*fragment, row.id), key)?;
        if let Some(before) = before {
            remove_row(&mut rows, &mut contents, &before, row.id, *fragment)?;
        }
    }
    entries.sort_by_key(|entry| entry.key);
    let mut held = Vec::new();
    for Entry { key, fragment, row } in &entries {
        let Row { id, content, label, split, filled } = row;
        let before = rows.get((key, *id))?.map(|value| (value.value().3, row_of(*id, value.value())));
        if before.as_ref().is_some_and(|(place, before)| place == fragment && before == row) {
            continue;
        }
        rows.insert((key, *id), (content, *label, *split, *fragment, filled.clone()))?;
        match before {
            Some((_, before)) if before.content == *content => {}
            before => {
                if let Some((_, before)) = before {
                    contents.remove((&before.content, *id))?;
                }
                held.push((*content, *id));
            }
        }
    }
    held.sort_unstable();
    for (content, id) in &held {
        contents.insert((content, *id), ())?;
    }
    let mut fragments = write.open_table(FRAGMENTS)?;
    for piece in group {
        fragments.insert(piece.id, &piece.state)?;
    }
    Ok(())
}

/// What the next ingest compares.
fn finish(write: &WriteTransaction, folders: &Folders) -> Result<(), redb::Error> {
    // a table that was never opened is not there
    write.open_table(ROWS)?;
    write.open_table(CONTENTS)?;
    write.open_table(MEMBERS)?;
    write.open_table(FRAGMENTS)?;
    let mut table = write.open_table(FOLDERS)?;
    for (folder, real) in folders.known() {
        if let (Some(folder), Some(real)) = (folder.to_str(), real.to_str()) {
            table.insert(folder, real)?;
        }
    }
    write.open_table(ABOUT)?.insert("format", FORMAT)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::Arc;
    use std::time::Duration;

    use arrow::array::{ArrayRef, StringArray, TimestampNanosecondArray, UInt32Array, UInt64Array, new_null_array};
    use redb::ReadableTableMetadata;

    use super::*;

    fn uri(id: u64) -> String {
        format!("/pictures/{}/{id}.png", id % 3)
    }

    fn content(id: u64) -> String {
        format!("{:064x}", id / 2)
    }

    async fn rows(store: &Store, ids: Range<u64>) -> RecordBatch {
        let table = store.schema(schema::IMAGES).await.unwrap();
        let rows = (ids.end - ids.start) as usize;
        let text = |value: &dyn Fn(u64) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(ids.clone().map(value)))
        };
        let columns = table.fields().iter().map(|field| -> ArrayRef {
            match field.name().as_str() {
                schema::ID => Arc::new(UInt64Array::from_iter_values(ids.clone())),
                schema::DATASET => text(&|id| if id % 10 == 0 { "b".into() } else { "a".into() }),
                schema::SPLIT => text(&|_| "train".into()),
                schema::URI => text(&uri),
                schema::CONTENT_HASH => text(&content),
                schema::WIDTH | schema::HEIGHT => Arc::new(UInt32Array::from(vec![1; rows])),
                schema::INGESTED_AT => Arc::new(TimestampNanosecondArray::from(vec![0; rows])),
                _ => new_null_array(field.data_type(), rows),
            }
        });
        RecordBatch::try_new(Arc::clone(&table), columns.collect()).unwrap()
    }

    /// The slow twin: every row of the table, and nothing else, is in the file.
    async fn compare(store: &Store, lock: &WriteLock) {
        let lookup = Lookup::current(store, lock).await.unwrap();
        let columns = [schema::ID, schema::DATASET, schema::URI, schema::CONTENT_HASH, schema::LABEL, schema::SPLIT];
        let batches = store.scan(schema::IMAGES, None, &columns, None).await.unwrap();
        let batches: Vec<RecordBatch> = batches.try_collect().await.unwrap();
        let (mut count, mut contents) = (0, HashSet::new());
        for batch in &batches {
            let text = |column: usize, row: usize| {
                let column = batch.column(column).as_string::<i32>();
                column.is_valid(row).then(|| column.value(row).to_owned())
            };
            for row in 0..batch.num_rows() {
                let id = batch.column(0).as_primitive::<UInt64Type>().value(row);
                let dataset = text(1, row).unwrap();
                let content = digest(&dataset, &text(3, row).unwrap());
                let label = text(4, row).as_deref().map(short_digest);
                let split = short_digest(text(5, row).unwrap());
                let expected = Row { id, content, label, split, filled: Vec::new() };
                let found = lookup.rows(&digest(&dataset, &text(2, row).unwrap())).unwrap();
                assert!(found.contains(&expected), "row {id}: {found:?}");
                assert!(lookup.holds(&content).unwrap());
                contents.insert((content, id));
                count += 1;
            }
        }
        let read = lookup._database.begin_read().unwrap();
        assert_eq!(read.open_table(ROWS).unwrap().len().unwrap(), count);
        assert_eq!(read.open_table(MEMBERS).unwrap().len().unwrap(), count);
        assert_eq!(read.open_table(CONTENTS).unwrap().len().unwrap(), contents.len() as u64);
        assert_eq!(read.open_table(FRAGMENTS).unwrap().len().unwrap() as usize, lookup_pieces(store).await);
    }

    async fn lookup_pieces(store: &Store) -> usize {
        store.pieces(schema::IMAGES).await.unwrap().list().unwrap().len()
    }

    #[tokio::test]
    async fn the_file_follows_every_change_of_the_table() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(folder.path()).await.unwrap();
        let lock = store.lock().await.unwrap();
        compare(&store, &lock).await;
        for ids in [1..40, 40..45, 45..300] {
            store.append(&lock, schema::IMAGES, rows(&store, ids).await).await.unwrap();
        }
        compare(&store, &lock).await;
        let before = store.version(schema::IMAGES).await.unwrap();
        store.delete(&lock, schema::IMAGES, "id % 7 = 0").await.unwrap();
        compare(&store, &lock).await;
        // a label of some in place; others' contents, which moves them to a new fragment
        let table = store.schema(schema::IMAGES).await.unwrap();
        let place = |name: &str| table.index_of(name).unwrap();
        let some = rows(&store, 41..44).await.project(&[place(schema::ID)]).unwrap();
        let label: ArrayRef = Arc::new(StringArray::from(vec!["cat", "dog", "cat"]));
        let fields = [schema::ID, schema::LABEL].map(|name| table.field(place(name)).clone());
        let labelled = arrow::datatypes::Schema::new(fields.to_vec());
        let batch = RecordBatch::try_new(Arc::new(labelled), vec![Arc::clone(some.column(0)), label]).unwrap();
        store.update_images(&lock, batch).await.unwrap();
        compare(&store, &lock).await;
        let changed = rows(&store, 50..60).await;
        let mut columns = changed.columns().to_vec();
        columns[place(schema::CONTENT_HASH)] = Arc::new(StringArray::from(vec!["f"; 10]));
        columns[place(schema::URI)] =
            Arc::new(StringArray::from_iter_values((50..60).map(|id| format!("/elsewhere/{id}.png"))));
        let changed = RecordBatch::try_new(changed.schema(), columns).unwrap();
        store.upsert(&lock, schema::IMAGES, &[schema::ID], changed, true).await.unwrap();
        compare(&store, &lock).await;
        store.compact(&lock, schema::IMAGES).await.unwrap();
        store.prune(&lock, Duration::ZERO).await.unwrap();
        compare(&store, &lock).await;
        store.append(&lock, schema::IMAGES, rows(&store, 300..310).await).await.unwrap();
        store.delete(&lock, schema::IMAGES, "true").await.unwrap();
        compare(&store, &lock).await;
        assert!(store.restore(&lock, before, "restore").await.is_err(), "it was pruned");
        let version = store.version(schema::IMAGES).await.unwrap() - 1;
        store.restore(&lock, version, "restore").await.unwrap();
        compare(&store, &lock).await;
    }

    #[tokio::test]
    async fn what_was_seen_is_not_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(folder.path()).await.unwrap();
        let lock = store.lock().await.unwrap();
        store.append(&lock, schema::IMAGES, rows(&store, 1..100).await).await.unwrap();
        Lookup::current(&store, &lock).await.unwrap();
        let change = crate::store::Change::of("insert");
        store.record(&lock, store.version(schema::IMAGES).await.unwrap() - 1, change).await.unwrap();
        // the rows of this fragment cannot be read any more
        let data = folder.path().join("images.lance/data");
        let first = fs::read_dir(&data).unwrap().next().unwrap().unwrap().path();
        fs::rename(&first, folder.path().join("away")).unwrap();
        store.append(&lock, schema::IMAGES, rows(&store, 100..110).await).await.unwrap();
        let lookup = Lookup::current(&store, &lock).await.unwrap();
        for id in [7, 105] {
            assert_eq!(lookup.rows(&digest("a", &uri(id))).unwrap()[0].id, id);
        }
        assert_eq!(store.largest_id().await.unwrap(), 109);
        drop(lookup);
        fs::remove_file(folder.path().join("indexes/ingest/known.redb")).unwrap();
        assert!(Lookup::current(&store, &lock).await.is_err(), "the first fragment is needed");
        fs::rename(folder.path().join("away"), &first).unwrap();
        compare(&store, &lock).await;
    }

    #[tokio::test]
    async fn a_damaged_file_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(folder.path()).await.unwrap();
        let lock = store.lock().await.unwrap();
        store.append(&lock, schema::IMAGES, rows(&store, 1..100).await).await.unwrap();
        compare(&store, &lock).await;
        let file = folder.path().join("indexes/ingest/known.redb");
        let whole = fs::read(&file).unwrap();
        for damaged in [Vec::new(), b"nothing of redb's".to_vec(), whole[..whole.len() / 2].to_vec(), vec![0; 1 << 20]]
        {
            fs::write(&file, damaged).unwrap();
            compare(&store, &lock).await;
        }
        // a page of it, over some of which redb panics: once whatever is wrong is seen, the next one is whole
        let whole = fs::read(&file).unwrap();
        for page in (0..whole.len() / 4096).step_by(7) {
            let mut damaged = whole.clone();
            damaged[page * 4096..][..4096].fill(0xa7);
            fs::write(&file, damaged).unwrap();
            let lookup = Lookup::current(&store, &lock).await.unwrap();
            let all = || (1..100).try_for_each(|id| lookup.rows(&digest("a", &uri(id))).map(|_| ()));
            if all().is_err() {
                drop(lookup);
                assert!(!file.exists(), "page {page}");
                compare(&store, &lock).await;
            }
        }
        fs::write(&file, whole).unwrap();
        // of another form
        let other = Database::open(&file).unwrap();
        let write = other.begin_write().unwrap();
        write.open_table(ABOUT).unwrap().insert("format", FORMAT + 1).unwrap();
        write.commit().unwrap();
        drop(other);
        compare(&store, &lock).await;
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn images_whose_folder_lies_elsewhere_by_now_are_known_by_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(&folder.path().join("db")).await.unwrap();
        let lock = store.lock().await.unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir(root.join("old")).unwrap();
        let batch = rows(&store, 1..2).await;
        let mut columns = batch.columns().to_vec();
        let at = batch.schema().index_of(schema::URI).unwrap();
        columns[at] = Arc::new(StringArray::from(vec![format!("{}/old/1.png", root.display())]));
        let batch = RecordBatch::try_new(batch.schema(), columns).unwrap();
        store.append(&lock, schema::IMAGES, batch).await.unwrap();
        let of = |name: &str| digest("a", &format!("{}/{name}/1.png", root.display()));
        assert_eq!(Lookup::current(&store, &lock).await.unwrap().rows(&of("old")).unwrap().len(), 1);
        fs::rename(root.join("old"), root.join("new")).unwrap();
        std::os::unix::fs::symlink(root.join("new"), root.join("old")).unwrap();
        let lookup = Lookup::current(&store, &lock).await.unwrap();
        assert_eq!(lookup.rows(&of("new")).unwrap().len(), 1);
        assert_eq!(lookup.rows(&of("old")).unwrap().len(), 0);
    }
}
