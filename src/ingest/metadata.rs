//! Columns of one's own beside the images: out of tables that name images or hold them, and of a CSV, JSONL or Parquet
//! table beside them.
//!
//! A table that holds images says of each what stands in its row. One that names them in a column `uri` is about the
//! images whose uris these are, taken from the table's folder. So is a table beside them; where none has such a uri, its
//! row is about those that end in it (`cat/1.png` for `photos.tar!/train/cat/1.png`). Where several tables say something
//! about a column of an image, the last of them counts, and that beside them is the last.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{cast, filter_record_batch, interleave, kernels::cmp::distinct, take};
use arrow::datatypes::{DataType, Field, Schema, UInt64Type};
use futures::TryStreamExt;

use crate::error::{Error, Result};
use crate::image::{Folders, KeptQuery, TableColumns, absolute, held_row, read_table, shown};
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
    /// Columns of tables that hold images which cannot be columns of `images`: the first such table, how many more there
    /// are, and why.
    left_out: BTreeMap<String, (PathBuf, usize, String)>,
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
    /// Errors: [`Error::BadMetadata`] for a table that names images or lies beside them and has no column `uri`, a uri
    /// twice, a column twice, or one that `images` has of itself; [`Error::BadName`] for a column's name. What is wrong
    /// with a column of a table that holds images leaves that column out: see [`Self::left_out`].
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
                if metadata.beside.insert(query.uri(&absolute(path, &uri, &mut folders)), row).is_some() {
                    return Err(twice(&named, &uri));
                }
                metadata.beside.entry(uri.trim_start_matches("./").to_owned()).or_insert(row);
            }
            let columns = columns_of(&named, &rows, true)?;
            metadata.tables.push(Table { path: named, columns });
        }
        Ok(metadata)
    }

    /// A table of images, row by row.
    fn hold(&mut self, path: PathBuf, rows: &RecordBatch) -> Result<()> {
        let mut taken: Vec<(String, ArrayRef)> = Vec::new();
        for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
            let name =
                name_of(&path, field.name()).and_then(|name| match taken.iter().any(|(taken, _)| *taken == name) {
                    true => Err(there_twice(&path, &name)),
                    false => Ok(name),
                });
            let reason = match name {
                Ok(name) => {
                    taken.push((name, plain(column)?));
                    continue;
                }
                Err(Error::BadMetadata { reason, .. }) => reason,
                Err(other) => other.to_string(),
            };
            let left_out = self.left_out.entry(field.name().clone());
            left_out.and_modify(|(_, more, _)| *more += 1).or_insert((path.clone(), 0, reason));
        }
        if !taken.is_empty() {
            self.held.insert(path.display().to_string(), self.tables.len());
            self.tables.push(Table { path, columns: batch_of(taken)? });
        }
        Ok(())
    }

    /// A table that names images.
    fn name(&mut self, path: &Path, rows: &RecordBatch, query: &KeptQuery, folders: &mut Folders) -> Result<()> {
        let named = PathBuf::from(shown(&path.to_string_lossy()));
        let table = self.tables.len();
        for (uri, row) in uris(&named, rows)? {
            let places = self.named.entry(query.uri(&absolute(path, &uri, folders))).or_default();
            if places.last().is_some_and(|place| place.table == table) {
                return Err(twice(&named, &uri));
            }
            places.push(Place { table, row });
        }
        let columns = columns_of(&named, rows, false)?;
        self.tables.push(Table { path: named, columns });
        Ok(())
    }

    /// For people: columns of tables that hold images which cannot be columns of `images`.
    pub fn left_out(&self) -> impl Iterator<Item = String> {
        self.left_out.iter().map(|(column, (path, more, reason))| {
            let more = if *more > 0 { format!(" and of {more} more") } else { String::new() };
            format!("column '{column}' of {}{more} is left out: {reason}", path.display())
        })
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
        let named = || self.named.get(uri).and_then(|places| places.iter().rev().copied().find(has));
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
        let ends = uri.match_indices('/').map(|(at, _)| &uri[at + 1..]);
        std::iter::once(uri).chain(ends).find_map(|end| self.beside.get(end).copied())
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
    let Some(uris) = rows.column_by_name(schema::URI) else {
        let reason = "it has no column 'uri', which says which image a row is about".into();
        return Err(Error::BadMetadata { path: table.into(), reason });
    };
    let uris = cast(uris, &DataType::Utf8)?;
    let uris = (0..).zip(uris.as_string::<i32>()).filter_map(|(row, uri)| Some((uri?.trim().to_owned(), row)));
    Ok(uris.filter(|(uri, _)| !uri.is_empty()).collect())
}

fn twice(table: &Path, uri: &str) -> Error {
    Error::BadMetadata { path: table.into(), reason: format!("uri '{}' is there twice", shown(uri)) }
}

fn there_twice(table: &Path, name: &str) -> Error {
    let reason = format!("column '{name}' is there twice, upper and lower case being the same");
    Error::BadMetadata { path: table.into(), reason }
}

/// All columns of a table but its uris, and its labels where whoever reads the images has them already.
fn columns_of(table: &Path, rows: &RecordBatch, with_labels: bool) -> Result<RecordBatch> {
    let mut taken: Vec<(String, ArrayRef)> = Vec::new();
    for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
        let is = |name: &str| field.name().eq_ignore_ascii_case(name);
        if is(schema::URI) || is(schema::LABEL) && !with_labels {
            continue;
        }
        let name = if is(schema::LABEL) { schema::LABEL.into() } else { name_of(table, field.name())? };
        if taken.iter().any(|(taken, _)| *taken == name) {
            return Err(there_twice(table, &name));
        }
        taken.push((name, plain(column)?));
    }
    batch_of(taken)
}

/// What a table's column is called in `images`.
fn name_of(table: &Path, column: &str) -> Result<String> {
    let name = column.to_ascii_lowercase();
    if schema::IMAGE_COLUMNS.contains(&name.as_str()) {
        let reason = format!("images has a column '{name}' of its own: name this one otherwise");
        return Err(Error::BadMetadata { path: table.into(), reason });
    }
    if !schema::is_name(&name) || schema::is_sql_word(&name) {
        return Err(Error::BadName { what: "column", name: column.into() });
    }
    Ok(name)
}

/// Values as a table of the store has them.
fn plain(column: &ArrayRef) -> Result<ArrayRef> {
    Ok(match column.data_type() {
        DataType::Utf8View => cast(column, &DataType::Utf8)?,
        DataType::Dictionary(_, values) => plain(&cast(column, values)?)?,
        _ => Arc::clone(column),
    })
}

fn batch_of(columns: Vec<(String, ArrayRef)>) -> Result<RecordBatch> {
    if columns.is_empty() {
        return Ok(RecordBatch::new_empty(Arc::new(Schema::empty())));
    }
    Ok(RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))?)
}

/// The type of a new column: what holds the values of all tables. A file without any value says nothing of it.
fn common<'t>(mut kinds: impl Iterator<Item = &'t DataType>) -> DataType {
    use DataType::{Date32, Float64, Int64, Null, Timestamp, Utf8};
    let first = kinds.next().cloned().unwrap_or(Null);
    let kind = kinds.fold(first, |one, other| match (&one, other) {
        (one, other) if one == other => one.clone(),
        (_, Null) => one,
        (Null, other) => other.clone(),
        (one, other) if one.is_integer() && other.is_integer() => Int64,
        (one, other) if [one, other].iter().all(|kind| kind.is_integer() || kind.is_floating()) => Float64,
        (Date32, Timestamp(unit, zone)) | (Timestamp(unit, zone), Date32) => Timestamp(*unit, zone.clone()),
        (Timestamp(one, zone), Timestamp(other, same)) if zone == same => Timestamp(*one.max(other), zone.clone()),
        _ => Utf8,
    });
    if kind == Null { Utf8 } else { kind }
}

/// Whether a type holds all values of a column.
fn fits(column: &ArrayRef, kind: &DataType) -> bool {
    if column.data_type() == kind {
        return true;
    }
    let nulls = column.logical_null_count();
    let Ok(there) = cast(column, kind) else { return false };
    // a cast cuts fractions off
    let is_cut = || {
        let back = cast(&there, column.data_type()).and_then(|back| distinct(&back, column));
        back.map_or(true, |differs| differs.true_count() > 0)
    };
    there.logical_null_count() <= nulls && !(column.data_type().is_floating() && kind.is_integer() && is_cut())
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int64Array, StringArray};
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
    fn tables_that_do_not_say_which_image_or_name_columns_badly_are_refused() {
        for (text, why) in [
            ("path\n1\n", "no column 'uri'"),
            ("uri,a\nx,1\nx,2\n", "'x' is there twice"),
            ("uri,a,A\nx,1,2\n", "column 'a' is there twice"),
            ("uri,width\nx,1\n", "images has a column 'width' of its own"),
            ("uri,a b\nx,1\n", "'a b'"),
            ("uri,select\nx,1\n", "'select'"),
        ] {
            let error = table(text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
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
        let left_out: Vec<_> = metadata.left_out().collect();
        assert_eq!(left_out.len(), 2);
        assert!(left_out[0].starts_with("column 'a b' of /d/a.parquet and of 1 more is left out: 'a b' cannot name"));
        assert!(left_out[1].ends_with("images has a column 'width' of its own: name this one otherwise"));
    }

    #[test]
    fn a_new_column_has_a_type_for_the_values_of_all_tables() {
        use DataType::{Boolean, Date32, Float32, Float64, Int16, Int64, Null, Timestamp, Utf8};
        use arrow::datatypes::TimeUnit::{Microsecond, Second};
        for (kinds, kind) in [
            (vec![Null], Utf8),
            (vec![Null, Int64, Null], Int64),
            (vec![Int16, Int64], Int64),
            (vec![Int64, Float32], Float64),
            (vec![Int64, Utf8], Utf8),
            (vec![Boolean, Int64], Utf8),
            (vec![Date32, Timestamp(Second, None), Timestamp(Microsecond, None)], Timestamp(Microsecond, None)),
        ] {
            assert_eq!(common(kinds.iter()), kind, "{kinds:?}");
        }
        let column: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), None]));
        assert!(fits(&column, &Int64));
        let column: ArrayRef = Arc::new(Float64Array::from(vec![1.5]));
        assert!(!fits(&column, &Int64) && fits(&column, &Utf8), "no fraction is cut off");
        assert!(fits(&new_null_array(&Null, 2), &Int64));
    }
}
