//! Columns of one's own beside the images: out of tables that name images or hold them, and of a CSV, JSONL or Parquet
//! table beside them.
//!
//! A table that holds images says of each what stands in its row. One that names them in a column `uri` is about the
//! images whose uris these are, taken from the table's folder. So is a table beside them; where none has such a uri, its
//! row is about those that end in it (`cat/1.png` for `photos.tar!/train/cat/1.png`). Where several tables say something
//! about a column of an image, the last of them counts, and that beside them is the last.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{cast, filter_record_batch, interleave, kernels::cmp::distinct, take};
use arrow::datatypes::{DataType, Field, Schema, UInt64Type};
use futures::TryStreamExt;
use unicode_normalization::UnicodeNormalization;

use super::column_names;
use super::column_types::{common, fits, plain};
use crate::error::{Error, Result};
use crate::image::{Folders, KeptQuery, TableColumns, absolute, held_row, read_table, shown, table_column};
use crate::schema;
use crate::store::{Store, WriteLock};

/// What tables say of images.
#[derive(Debug, Default)]
pub struct Metadata {
    tables: Vec<Table>,
    /// By the uri of a file that holds images: its table.
    held: HashMap<String, usize>,
    /// By the uri of an image: the rows that name it.
    named: HashMap<String, Vec<Place>>,
    /// The table beside them, which is the last one: its rows by uri, whole and as given.
    beside: HashMap<String, u32>,
    /// Rows of the table beside them that were about an image so far, and the first image that was asked about.
    met: Vec<AtomicBool>,
    asked: OnceLock<String>,
    /// Columns that have other names in `images` (and those names): the first such table, how many more there are, and why.
    renamed: BTreeMap<(String, String), (PathBuf, usize, String)>,
}

/// The columns that a table gives.
#[derive(Debug)]
struct Table {
    path: PathBuf,
    /// Without `uri` and `label`; names in lower case.
    columns: RecordBatch,
}

/// A row of a table.
#[derive(Debug, Clone, Copy)]
struct Place {
    table: usize,
    row: u32,
}

impl Metadata {
    /// Read a table that lies beside images; see [`Self::of`].
    pub fn read(path: &Path) -> Result<Self> {
        Self::of(Vec::new(), Some(path), &KeptQuery::default())
    }

    /// What tables of images say, and one that lies beside them; of addresses in them uris keep what `query` says.
    ///
    /// A column that cannot be called so in `images` gets another name: see [`Self::renamed`]. Names of files are the same
    /// however their accents are encoded (NFC, NFD).
    ///
    /// Errors: [`Error::BadMetadata`] for a table that names images or lies beside them and has no column `uri`, or a uri
    /// twice with different values.
    pub fn of(told: Vec<TableColumns>, beside: Option<&Path>, query: &KeptQuery) -> Result<Self> {
        let (mut metadata, mut folders) = (Self::default(), Folders::default());
        for told in told {
            match told {
                TableColumns::Embedded { path, rows } => metadata.hold(path, &rows)?,
                TableColumns::Listed { path, rows } => metadata.name(&path, &rows, query, &mut folders)?,
            }
        }
        if let Some(path) = beside {
            // a signed address is read as given, and named without what gives access
            let named = PathBuf::from(shown(&path.to_string_lossy()));
            let rows = read_table(path).map_err(|error| error.at(&named))?;
            for (uri, row) in uris(&named, &rows)? {
                let whole = normal(&query.uri(&absolute(path, &uri, &mut folders))).into_owned();
                if let Some(before) = metadata.beside.insert(whole, row) {
                    check_same(&named, &rows, &uri, [before, row])?;
                }
                metadata.beside.entry(normal(uri.trim_start_matches("./")).into_owned()).or_insert(row);
            }
            metadata.met.resize_with(rows.num_rows(), AtomicBool::default);
            metadata.add_table(named, &rows, |name| name == schema::URI)?;
        }
        Ok(metadata)
    }

    /// A table of images, row by row.
    fn hold(&mut self, path: PathBuf, rows: &RecordBatch) -> Result<()> {
        let table = self.tables.len();
        self.add_table(path.clone(), rows, |_| false)?;
        if self.tables[table].columns.num_columns() > 0 {
            self.held.insert(path.display().to_string(), table);
        }
        Ok(())
    }

    /// The columns of a table, but for those that are none of one's own.
    fn add_table(&mut self, path: PathBuf, rows: &RecordBatch, is_other: impl Fn(&str) -> bool) -> Result<()> {
        let schema = rows.schema();
        let own = schema.fields().iter().zip(rows.columns());
        let own: Vec<_> = own.filter(|(field, _)| !is_other(&field.name().trim().to_ascii_lowercase())).collect();
        let names = column_names::taken(own.iter().map(|(field, _)| field.name().as_str()));
        let mut columns = Vec::with_capacity(own.len());
        for ((field, column), taken) in own.iter().zip(names) {
            if let Some(because) = taken.because {
                let renamed = self.renamed.entry((field.name().clone(), taken.name.clone()));
                renamed.and_modify(|(_, more, _)| *more += 1).or_insert((path.clone(), 0, because));
            }
            columns.push((taken.name, plain(column)?));
        }
        self.tables.push(Table { path, columns: batch_of(columns)? });
        Ok(())
    }

    /// A table that names images.
    fn name(&mut self, path: &Path, rows: &RecordBatch, query: &KeptQuery, folders: &mut Folders) -> Result<()> {
        let named = PathBuf::from(shown(&path.to_string_lossy()));
        let table = self.tables.len();
        for (uri, row) in uris(&named, rows)? {
            let whole = normal(&query.uri(&absolute(path, &uri, folders))).into_owned();
            let places = self.named.entry(whole).or_default();
            match places.last().filter(|place| place.table == table) {
                Some(before) => check_same(&named, rows, &uri, [before.row, row])?,
                None => places.push(Place { table, row }),
            }
        }
        self.add_table(named, rows, |name| name == schema::URI || name == schema::LABEL)
    }

    /// For people: columns that have other names in `images` than in their tables.
    pub fn renamed(&self) -> impl Iterator<Item = String> {
        self.renamed.iter().map(|((column, name), (path, more, because))| {
            let more = if *more > 0 { format!(" and of {more} more") } else { String::new() };
            format!("column '{column}' of {}{more} is taken as {name}: {because}", path.display())
        })
    }

    /// For people, when all images were looked at: that no row of the table beside them was about one, where that is so.
    pub fn unmatched(&self) -> Option<String> {
        let (table, asked) = (self.tables.last()?, self.asked.get()?);
        let is_met = self.met.iter().any(|met| met.load(Ordering::Relaxed));
        let first = self.beside.iter().min_by_key(|(uri, row)| (**row, uri.len())).filter(|_| !is_met)?;
        let (rows, path) = (self.met.len(), table.path.display());
        Some(format!(
            "0 of {rows} rows of {path} are about an image that was looked at: the first says uri '{}', and an image is '{asked}'",
            first.0
        ))
    }

    /// Whether a table says something about this column.
    pub(crate) fn has(&self, column: &str) -> bool {
        self.tables.iter().any(|table| table.has(column))
    }

    /// Whether a table says something about this column of an image.
    pub(crate) fn gives(&self, column: &str, uri: &str) -> bool {
        self.place(column, uri).is_some()
    }

    /// The row that says what this column of an image is.
    fn place(&self, column: &str, uri: &str) -> Option<Place> {
        // a table that leaves a label empty says nothing of it
        let says = |place: &Place, table: &Table| match table.columns.column_by_name(column) {
            Some(labels) if column == schema::LABEL => labels.is_valid(place.row as usize),
            found => found.is_some(),
        };
        let has = |place: &Place| says(place, &self.tables[place.table]);
        let last = self.tables.len().wrapping_sub(1);
        let beside = || self.beside_row(uri).map(|row| Place { table: last, row }).filter(has);
        let named = || self.named.get(&*normal(uri)).and_then(|places| places.iter().rev().copied().find(has));
        beside().or_else(named).or_else(|| self.held_place(uri).filter(has))
    }

    fn held_place(&self, uri: &str) -> Option<Place> {
        if self.held.is_empty() {
            return None;
        }
        let (file, row) = held_row(uri)?;
        let table = *self.held.get(file)?;
        ((row as usize) < self.tables[table].columns.num_rows()).then_some(Place { table, row })
    }

    /// The row of the table beside them: that of the whole uri, or of the longest end of it.
    fn beside_row(&self, uri: &str) -> Option<u32> {
        if self.beside.is_empty() {
            return None;
        }
        self.asked.get_or_init(|| uri.into());
        let uri = &*normal(uri);
        let ends = uri.match_indices('/').map(|(at, _)| &uri[at + 1..]);
        let row = std::iter::once(uri).chain(ends).find_map(|end| self.beside.get(end).copied())?;
        self.met[row as usize].store(true, Ordering::Relaxed);
        Some(row)
    }

    /// Add the columns to `images`; those that are there are kept.
    ///
    /// Errors: [`Error::BadMetadata`] for a column that is there and no column of the user's, or of a type that a
    /// table's values do not fit.
    pub(crate) async fn add_columns(&self, store: &Store, lock: &WriteLock) -> Result<()> {
        let images = store.schema(schema::IMAGES).await?;
        for name in self.names().into_iter().filter(|name| *name != schema::LABEL) {
            let tables = || {
                let columns = self.tables.iter().map(|table| (&table.path, table.columns.column_by_name(name)));
                columns.filter_map(|(path, column)| Some((path, column?)))
            };
            let bad = |path: &Path, reason: String| Err(Error::BadMetadata { path: path.into(), reason });
            let (kind, is_new) = match images.field_with_name(name) {
                Ok(there) => (there.data_type().clone(), false),
                Err(_) => (common(tables().map(|(_, column)| column.data_type())), true),
            };
            for (path, column) in tables() {
                if !is_new && !schema::is_users(images.field_with_name(name)?) {
                    return bad(
                        path,
                        format!("column '{name}' of images holds embeddings or scores: name this one otherwise"),
                    );
                }
                if !fits(column, &kind) {
                    let found = column.data_type();
                    return bad(
                        path,
                        format!(
                            "column '{name}' is {found} here, and its values do not fit {kind} as in images: name it \
                             otherwise, or ALTER TABLE images DROP COLUMN {name} first"
                        ),
                    );
                }
            }
            if is_new {
                store.add_null_columns(lock, schema::IMAGES, &[Field::new(name, kind, true)]).await?;
            }
        }
        Ok(())
    }

    /// The names of all columns, each once, in their order.
    fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for table in &self.tables {
            for field in table.columns.schema_ref().fields() {
                if !names.contains(&field.name().as_str()) {
                    names.push(field.name().as_str());
                }
            }
        }
        names
    }

    /// The values of a column of `images` for these uris; where no table says one, those of `otherwise`, or NULL.
    pub(crate) fn column<'u>(
        &self,
        field: &Field,
        uris: impl Iterator<Item = &'u str>,
        otherwise: Option<&ArrayRef>,
    ) -> Result<ArrayRef> {
        let mut rows: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        let mut of_table = Vec::new();
        for uri in uris {
            let place = self.place(field.name(), uri);
            of_table.push(place.map(|Place { table, row }| {
                let rows = rows.entry(table).or_default();
                rows.push(row);
                (table, rows.len() - 1)
            }));
        }
        let mut parts = vec![otherwise.map_or_else(|| new_null_array(field.data_type(), 1), Arc::clone)];
        let mut part_of = HashMap::new();
        for (table, rows) in rows {
            let Some(column) = self.tables[table].columns.column_by_name(field.name()) else { continue };
            part_of.insert(table, parts.len());
            parts.push(cast(&take(column, &UInt32Array::from(rows), None)?, field.data_type())?);
        }
        let place = |(at, place): (usize, &Option<(usize, usize)>)| match place {
            Some((table, row)) => (part_of[table], *row),
            None => (0, if otherwise.is_some() { at } else { 0 }),
        };
        let places: Vec<(usize, usize)> = of_table.iter().enumerate().map(place).collect();
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        Ok(interleave(&parts, &places)?)
    }

    /// Bring its columns up to date in those of the rows `seen` (ids), for all of which `predicate` holds, about which it
    /// says something; the ids of those that differed.
    pub(crate) async fn update(
        &self,
        store: &Store,
        lock: &WriteLock,
        predicate: &str,
        seen: &HashSet<u64>,
    ) -> Result<Vec<u64>> {
        let names = self.names();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = [&[schema::ID, schema::URI], names.as_slice()].concat();
        let (Some(first), Some(last)) = (seen.iter().min(), seen.iter().max()) else { return Ok(Vec::new()) };
        // of a few images of many, the others' columns are not read
        let predicate = &format!("({predicate}) AND {} BETWEEN {first} AND {last}", schema::ID);
        let mut changed = Vec::new();
        let mut batches = store.scan(schema::IMAGES, None, &wanted, Some(predicate)).await?;
        while let Some(batch) = batches.try_next().await? {
            let uris = batch.column(1).as_string::<i32>();
            let ids = batch.column(0).as_primitive::<UInt64Type>();
            let mut differs = vec![false; batch.num_rows()];
            let (batch_schema, mut columns) = (batch.schema(), vec![Arc::clone(batch.column(0))]);
            for (field, there) in batch_schema.fields().iter().zip(batch.columns()).skip(2) {
                let given = self.column(field, uris.iter().map(Option::unwrap_or_default), Some(there))?;
                distinct(&given, there)?.iter().zip(&mut differs).for_each(|(one, any)| *any |= one == Some(true));
                columns.push(given);
            }
            let fields: Vec<_> =
                batch_schema.fields().iter().filter(|field| field.name() != schema::URI).cloned().collect();
            let new = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
            differs.iter_mut().zip(ids.values()).for_each(|(differs, id)| *differs &= seen.contains(id));
            let new = filter_record_batch(&new, &differs.into())?;
            if new.num_rows() > 0 {
                changed.extend(new.column(0).as_primitive::<UInt64Type>().values());
                store.update_images(lock, new).await?;
            }
        }
        Ok(changed)
    }
}

impl Table {
    fn has(&self, column: &str) -> bool {
        self.columns.schema_ref().index_of(column).is_ok()
    }
}

/// The uris of a table as it has them, and their rows.
fn uris(table: &Path, rows: &RecordBatch) -> Result<Vec<(String, u32)>> {
    let Some(uris) = table_column(rows, schema::URI) else {
        let columns: Vec<String> = rows.schema().fields().iter().map(|field| format!("'{}'", field.name())).collect();
        let reason = format!(
            "it has no column 'uri', which says which image a row is about: rename the one that does, of {}",
            columns.join(", ")
        );
        return Err(Error::BadMetadata { path: table.into(), reason });
    };
    let uris = cast(uris, &DataType::Utf8)?;
    let uris = (0..).zip(uris.as_string::<i32>()).filter_map(|(row, uri)| Some((uri?.trim().to_owned(), row)));
    Ok(uris.filter(|(uri, _)| !uri.is_empty()).collect())
}

/// Refuse two rows of a table about the same image that say different things.
fn check_same(table: &Path, rows: &RecordBatch, uri: &str, [one, other]: [u32; 2]) -> Result<()> {
    let columns = rows.schema_ref().fields().iter().zip(rows.columns());
    for (field, column) in columns.filter(|(field, _)| !field.name().trim().eq_ignore_ascii_case(schema::URI)) {
        if *column.slice(one as usize, 1) != *column.slice(other as usize, 1) {
            let reason =
                format!("uri '{}' is there twice, with different values in column '{}'", shown(uri), field.name());
            return Err(Error::BadMetadata { path: table.into(), reason });
        }
    }
    Ok(())
}

/// A name however its accents are encoded.
fn normal(uri: &str) -> Cow<'_, str> {
    if uri.is_ascii() { uri.into() } else { uri.nfc().collect::<String>().into() }
}

fn batch_of(columns: Vec<(String, ArrayRef)>) -> Result<RecordBatch> {
    if columns.is_empty() {
        return Ok(RecordBatch::new_empty(Arc::new(Schema::empty())));
    }
    Ok(RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))?)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn table(text: &str) -> Result<Metadata> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.csv");
        std::fs::write(&path, text).unwrap();
        Metadata::read(&path)
    }

    fn numbers(metadata: &Metadata, column: &str, uris: &[&str]) -> Vec<Option<i64>> {
        let field = Field::new(column, DataType::Int64, true);
        let column = metadata.column(&field, uris.iter().copied(), None).unwrap();
        column.as_primitive::<Int64Type>().iter().collect()
    }

    #[test]
    fn rows_are_found_by_the_end_of_a_uri() {
        let metadata = table("uri,Camera\ncat/1.png,7\n./2.png,8\n").unwrap();
        let uris = ["/data/a.tar!/train/cat/1.png", "/data/2.png", "/data/12.png", "cat/1.png"];
        assert_eq!(numbers(&metadata, "camera", &uris), [Some(7), Some(8), None, Some(7)]);
    }

    #[test]
    fn tables_that_do_not_say_which_image_or_two_things_are_refused() {
        for (text, why) in [
            ("path\n1\n", "no column 'uri'"),
            ("uri,a\nx,1\nx,2\n", "'x' is there twice, with different values in column 'a'"),
            ("uri,a\nx,1\n./x,2\n", "'./x' is there twice"),
        ] {
            let error = table(text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn columns_and_rows_as_people_write_them_are_taken() {
        let text = "\u{feff}URI,date,Größe (cm),,label\nx/1.png,3,5,0,a\nx/1.png,3,5,0,a\ncafe\u{301}.png,4,6,1,b\n";
        let metadata = table(text).unwrap();
        let uris = ["/d/x/1.png", "/d/caf\u{e9}.png", "/d/cafe\u{301}.png"];
        assert_eq!(metadata.names(), ["date", "grosse_cm", "column_3", "label"]);
        assert_eq!(numbers(&metadata, "date", &uris), [Some(3), Some(4), Some(4)]);
        assert_eq!(numbers(&metadata, "grosse_cm", &uris), [Some(5), Some(6), Some(6)]);
        assert_eq!(metadata.unmatched(), None);
        // a table without rows says nothing
        assert_eq!(table("uri,date\n").unwrap().names(), ["date"]);
    }

    #[test]
    fn that_no_row_is_about_an_image_is_told_with_an_example() {
        let metadata = table("uri,a\ncat/1.jpeg,1\ncat/2.jpeg,2\n").unwrap();
        assert_eq!(metadata.unmatched(), None, "nothing was asked");
        assert_eq!(numbers(&metadata, "a", &["/d/cat/1.jpg"]), [None]);
        let said = metadata.unmatched().unwrap();
        assert!(
            said.starts_with("0 of 2 rows of ") && said.contains("uri 'cat/1.jpeg', and an image is '/d/cat/1.jpg'"),
            "{said}"
        );
    }

    fn rows<const N: usize>(columns: [(&str, ArrayRef); N]) -> RecordBatch {
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn of_several_tables_the_last_that_knows_a_column_of_an_image_counts() {
        let ints = |values: &[i64]| -> ArrayRef { Arc::new(Int64Array::from(values.to_vec())) };
        let texts = |values: &[&str]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
        let held = |path: &str, values: &[i64]| TableColumns::Embedded {
            path: path.into(),
            rows: rows([("Camera", ints(values)), ("width", ints(values)), ("a b", ints(values))]),
        };
        let named = TableColumns::Listed {
            path: "/d/l.csv".into(),
            rows: rows([("uri", texts(&["1.png", "a.parquet!/00000001"])), ("camera", ints(&[5, 6]))]),
        };
        let other = TableColumns::Listed {
            path: "/e/l.csv".into(),
            rows: rows([("uri", texts(&["1.png", "/d/1.png"])), ("camera", ints(&[7, 8])), ("lens", ints(&[1, 2]))]),
        };
        let told = vec![held("/d/a.parquet", &[1, 2]), held("/d/b.parquet", &[3]), named, other];
        let metadata = Metadata::of(told, None, &KeptQuery::default()).unwrap();
        let uris = [
            "/d/a.parquet!/00000000",
            "/d/a.parquet!/00000001",
            "/d/b.parquet!/00000000",
            "/d/b.parquet!/00000001",
            "/d/1.png",
            "/e/1.png",
            "/f/1.png",
        ];
        let cameras = [Some(1), Some(6), Some(3), None, Some(8), Some(7), None];
        assert_eq!(numbers(&metadata, "camera", &uris), cameras, "a table that names images knows no ends of uris");
        assert_eq!(numbers(&metadata, "lens", &uris), [None, None, None, None, Some(2), Some(1), None]);
        assert!(metadata.gives("camera", uris[0]) && !metadata.gives("lens", uris[0]));
        let renamed: Vec<_> = metadata.renamed().collect();
        assert_eq!(renamed.len(), 2);
        assert!(renamed[0].starts_with("column 'a b' of /d/a.parquet and of 1 more is taken as a_b: names here"));
        assert!(renamed[1].ends_with("is taken as width_: images has a column of that name itself"), "{}", renamed[1]);
        assert_eq!(numbers(&metadata, "width_", &uris[..2]), [Some(1), Some(2)]);
    }
}
