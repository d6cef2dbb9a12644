//! The rows of an export, page by page in the order of their ids, as their columns are called in its files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float32Array, Float64Array, ListArray, RecordBatch, StringArray,
    StructArray, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Field, Fields, Float32Type, Int64Type, Schema, SchemaRef, UInt64Type};
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;

use super::options::ExportOptions;
use crate::bank::{Calibration, Definition};
use crate::error::{Error, Result};
use crate::schema;
use crate::sql::session::Session;
use crate::statistics::thresholds::pvalue;

/// Rows of a page: what one query for their pictures names.
const PAGE: usize = 1000;
/// What every export says of an image, in this order.
const FIRST: [&str; 9] = [
    schema::ID,
    schema::DATASET,
    schema::SPLIT,
    schema::URI,
    schema::LABEL,
    schema::WIDTH,
    schema::HEIGHT,
    schema::CONTENT_HASH,
    schema::INGESTED_AT,
];
/// What a bank says of an image: beside these the user's columns get other names.
const OF_BANK: [&str; 4] = ["ood_score", "pvalue", "is_ood", "neighbors"];

/// What a page is asked of.
#[derive(Debug)]
pub(super) struct Rows {
    /// SQL over `images`.
    pub(super) predicate: String,
    /// How many there are.
    pub(super) total: usize,
    /// The largest id among them.
    pub(super) largest_id: u64,
    /// Columns of a page, as they are called in the files.
    pub(super) columns: SchemaRef,
    /// Columns that have another name in the database.
    pub(super) renamed: Vec<(String, String)>,
    query: String,
    bank: Option<OfBank>,
    limited: bool,
}

#[derive(Debug)]
struct OfBank {
    definition: Arc<Definition>,
    calibration: Calibration,
    threshold: f32,
    neighbors: usize,
}

/// Some rows.
#[derive(Debug)]
pub(super) struct Page {
    /// What is said of each, by [`Rows::columns`].
    pub(super) facts: RecordBatch,
    pub(super) ids: Vec<u64>,
    pub(super) uris: Vec<String>,
    pub(super) splits: Vec<String>,
    pub(super) labels: Vec<Option<String>>,
    /// Of the file that was embedded, where there was one.
    pub(super) hashes: Vec<Option<String>>,
    /// Width and height in pixels, where they are known.
    pub(super) sizes: Vec<Option<(u32, u32)>>,
}

impl Page {
    /// Some of its rows.
    pub(super) fn only(self, kept: &[bool]) -> Result<Self> {
        fn of<T>(values: Vec<T>, kept: &[bool]) -> Vec<T> {
            values.into_iter().zip(kept).filter_map(|(value, kept)| kept.then_some(value)).collect()
        }
        Ok(Self {
            facts: filter_record_batch(&self.facts, &BooleanArray::from(kept.to_vec()))?,
            ids: of(self.ids, kept),
            uris: of(self.uris, kept),
            splits: of(self.splits, kept),
            labels: of(self.labels, kept),
            hashes: of(self.hashes, kept),
            sizes: of(self.sizes, kept),
        })
    }
}

impl Rows {
    /// What an export asks for. `rename` gives a column another name where a format has a meaning of its own for it.
    ///
    /// Errors: an unknown or uncalibrated bank, an unknown column, a condition that fails or holds for nothing.
    pub(super) async fn of(
        session: &Session,
        options: &ExportOptions,
        rename: impl Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let bank = options.bank.as_deref().map(|name| of_bank(session, options, name)).transpose()?;
        let images = session.sql("SELECT * FROM images LIMIT 0").await?;
        let fields = images.schema().fields().clone();
        let (taken, renamed) = columns(&fields, &options.columns, bank.is_some(), rename)?;
        let mut of_page: Vec<Field> =
            taken.iter().map(|(field, name)| field.as_ref().clone().with_name(name)).collect();
        let mut listed: Vec<String> = taken.iter().map(|(field, _)| format!("\"{}\"", field.name())).collect();
        if let Some(bank) = &bank {
            let Definition { name, backbone, k, row_count, .. } = bank.definition.as_ref();
            // a row of the bank is measured without its own entry
            let own_entry = if k < row_count { format!(", {k}, id") } else { String::new() };
            listed.push(format!("knn_ood_score({backbone}, '{name}'{own_entry}) AS _score"));
            of_page.push(Field::new(OF_BANK[0], DataType::Float32, true));
            of_page.push(Field::new(OF_BANK[1], DataType::Float64, true));
            of_page.push(Field::new(OF_BANK[2], DataType::Boolean, true));
            if bank.neighbors > 0 {
                let most = bank.neighbors;
                listed.push(format!("knn_neighbors({backbone}, '{name}', {most}, id) AS _near"));
                of_page.push(Field::new(OF_BANK[3], DataType::List(Arc::new(neighbor())), true));
            }
        }
        let predicate = options.predicate.clone().unwrap_or_else(|| "true".into());
        session.check_condition(&predicate).await?;
        let mut query = format!("SELECT {} FROM images WHERE ({predicate})", listed.join(", "));
        if let Some(most) = options.limit {
            let first = if bank.is_some() { "_score DESC NULLS LAST, id" } else { "id" };
            query = format!("SELECT * FROM ({query} ORDER BY {first} LIMIT {most})");
        }
        query += " ORDER BY id";
        let counted = format!("SELECT count(*), max(id) FROM images WHERE ({predicate})");
        let counted = session.sql(&counted).await?.collect().await?;
        let first = |column: usize| counted.first().map(|batch| Arc::clone(batch.column(column)));
        let total = first(0).map_or(0, |count| count.as_primitive::<Int64Type>().value(0).max(0) as usize);
        let largest_id =
            first(1).map_or(0, |most| most.as_primitive::<UInt64Type>().values().first().copied().unwrap_or(0));
        let total = options.limit.map_or(total, |most| total.min(most));
        if total == 0 {
            return Err(Error::NothingToExport { predicate });
        }
        let columns = Arc::new(Schema::new(of_page));
        Ok(Self { predicate, total, largest_id, columns, renamed, query, bank, limited: options.limit.is_some() })
    }

    /// Read them.
    pub(super) async fn pages<'s>(&'s self, session: &'s Session) -> Result<Pages<'s>> {
        let stream = session.sql(&self.query).await?.execute_stream().await?;
        Ok(Pages { rows: self, session, stream, rest: None })
    }

    /// The values of a column of text that the rows have, NULL among them as none: no more than `most`, and one more where there are.
    pub(super) async fn values(
        &self,
        session: &Session,
        column: &str,
        most: usize,
    ) -> Result<BTreeSet<Option<String>>> {
        let of = if self.limited { format!("({})", self.query) } else { format!("images WHERE ({})", self.predicate) };
        let query = format!("SELECT DISTINCT {column} FROM {of} LIMIT {}", most + 1);
        let mut found = BTreeSet::new();
        for batch in session.sql(&query).await?.collect().await? {
            found.extend(texts(batch.column(0))?);
        }
        Ok(found)
    }

    /// Whether the table holds the bytes of any picture.
    pub(super) async fn are_stored(&self, session: &Session) -> Result<bool> {
        let query = format!("SELECT id FROM images WHERE ({}) AND bytes IS NOT NULL LIMIT 1", self.predicate);
        Ok(session.sql(&query).await?.collect().await?.iter().any(|batch| batch.num_rows() > 0))
    }
}

/// The pages of [`Rows::pages`].
pub(super) struct Pages<'s> {
    rows: &'s Rows,
    session: &'s Session,
    stream: SendableRecordBatchStream,
    rest: Option<RecordBatch>,
}

impl Pages<'_> {
    /// The next page; `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Page>> {
        let batch = match self.rest.take() {
            Some(rest) => rest,
            None => match self.stream.next().await {
                Some(batch) => batch?,
                None => return Ok(None),
            },
        };
        let first = batch.num_rows().min(PAGE);
        if first < batch.num_rows() {
            self.rest = Some(batch.slice(first, batch.num_rows() - first));
        }
        Ok(Some(self.rows.page(self.session, &batch.slice(0, first)).await?))
    }
}

impl Rows {
    /// A page of what the query gave.
    async fn page(&self, session: &Session, batch: &RecordBatch) -> Result<Page> {
        let named = |name: &str| FIRST.iter().position(|first| *first == name).map(|at| batch.column(at));
        let text = |name: &str| named(name).map_or_else(|| Ok(Vec::new()), texts);
        let number = |name: &str| {
            let column = named(name).map(|column| cast(column, &DataType::UInt64)).transpose()?;
            Ok::<_, Error>(column.map_or_else(Vec::new, |column| column.as_primitive::<UInt64Type>().iter().collect()))
        };
        let sizes = number(schema::WIDTH)?.into_iter().zip(number(schema::HEIGHT)?);
        let sizes =
            sizes.map(|(width, height)| Some((u32::try_from(width?).ok()?, u32::try_from(height?).ok()?))).collect();
        let is_given =
            |texts: Vec<Option<String>>| texts.into_iter().map(Option::unwrap_or_default).collect::<Vec<String>>();
        let own =
            self.columns.fields().len() - self.bank.as_ref().map_or(0, |bank| 3 + usize::from(bank.neighbors > 0));
        let mut facts: Vec<ArrayRef> = batch.columns()[..own].to_vec();
        if let Some(bank) = &self.bank {
            facts.extend(self.of_bank(session, bank, &batch.columns()[own..]).await?);
        }
        Ok(Page {
            ids: batch.column(0).as_primitive::<UInt64Type>().values().to_vec(),
            uris: is_given(text(schema::URI)?),
            splits: is_given(text(schema::SPLIT)?),
            labels: text(schema::LABEL)?,
            hashes: text(schema::CONTENT_HASH)?,
            sizes,
            facts: RecordBatch::try_new(Arc::clone(&self.columns), facts)?,
        })
    }

    /// Score, p-value, decision and neighbours.
    async fn of_bank(&self, session: &Session, bank: &OfBank, found: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        let scores = cast(&found[0], &DataType::Float32)?;
        let scores = scores.as_primitive::<Float32Type>();
        let calibration = &bank.calibration.scores;
        let pvalues: Float64Array = scores.iter().map(|score| score.map(|score| pvalue(calibration, score))).collect();
        let decisions: BooleanArray = scores.iter().map(|score| score.map(|score| score > bank.threshold)).collect();
        let mut columns: Vec<ArrayRef> = vec![Arc::new(scores.clone()), Arc::new(pvalues), Arc::new(decisions)];
        if let Some(near) = found.get(1) {
            columns.push(Arc::new(described(session, near.as_list::<i32>()).await?));
        }
        Ok(columns)
    }
}

/// Lists of id and distance, with what the database says of those images now.
async fn described(session: &Session, near: &ListArray) -> Result<ListArray> {
    let (mut ids, mut distances, mut lengths) = (Vec::<u64>::new(), Vec::<f32>::new(), Vec::new());
    for list in near.iter() {
        let Some(list) = list else {
            lengths.push(0);
            continue;
        };
        lengths.push(list.len());
        let list = list.as_struct();
        ids.extend(list.column(0).as_primitive::<UInt64Type>().values());
        distances.extend(list.column(1).as_primitive::<Float32Type>().values());
    }
    let wanted: BTreeSet<u64> = ids.iter().copied().collect();
    let mut known = BTreeMap::new();
    if !wanted.is_empty() {
        let wanted: Vec<String> = wanted.iter().map(u64::to_string).collect();
        let query = format!("SELECT id, uri, label FROM images WHERE id IN ({})", wanted.join(", "));
        for batch in session.sql(&query).await?.collect().await? {
            let (uris, labels) = (texts(batch.column(1))?, texts(batch.column(2))?);
            let ids = batch.column(0).as_primitive::<UInt64Type>().values();
            known.extend(ids.iter().copied().zip(uris.into_iter().zip(labels)));
        }
    }
    let uris: StringArray = ids.iter().map(|id| known.get(id).and_then(|(uri, _)| uri.clone())).collect();
    let labels: StringArray = ids.iter().map(|id| known.get(id).and_then(|(_, label)| label.clone())).collect();
    let values: Vec<ArrayRef> = vec![
        Arc::new(UInt64Array::from(ids)),
        Arc::new(Float32Array::from(distances)),
        Arc::new(uris),
        Arc::new(labels),
    ];
    let values = StructArray::try_new(neighbor_fields(), values, None)?;
    let nulls = NullBuffer::from_iter((0..near.len()).map(|row| near.is_valid(row)));
    Ok(ListArray::try_new(Arc::new(neighbor()), OffsetBuffer::from_lengths(lengths), Arc::new(values), Some(nulls))?)
}

fn of_bank(session: &Session, options: &ExportOptions, name: &str) -> Result<OfBank> {
    let definition = session.banks().definition(name)?;
    let calibration = session.banks().calibration(&definition, definition.k)?.clone();
    let threshold = calibration.threshold(options.tpr)?;
    // one of the bank's own is not its own neighbour
    let neighbors = options.neighbors.min(definition.row_count.saturating_sub(1));
    Ok(OfBank { definition, calibration, threshold, neighbors })
}

/// Columns of `images` that go out, and what they are called there; and those that have another name.
type Taken = (Vec<(Arc<Field>, String)>, Vec<(String, String)>);

fn columns(
    fields: &Fields,
    further: &[String],
    has_bank: bool,
    rename: impl Fn(&str) -> Option<String>,
) -> Result<Taken> {
    let find = |name: &str| fields.iter().find(|field| field.name() == name).map(Arc::clone);
    let mut chosen: Vec<Arc<Field>> = FIRST.iter().filter_map(|name| find(name)).collect();
    chosen.extend(fields.iter().filter(|field| schema::is_users(field)).map(Arc::clone));
    for name in further {
        let field = find(name).filter(|field| field.name() != schema::BYTES).ok_or_else(|| Error::ExportColumn {
            column: name.clone(),
            known: fields.iter().map(|field| field.name().clone()).filter(|name| name != schema::BYTES).collect(),
        })?;
        if !chosen.contains(&field) {
            chosen.push(field);
        }
    }
    let mut names: BTreeSet<String> = chosen.iter().map(|field| field.name().clone()).collect();
    let (mut taken, mut renamed) = (Vec::new(), Vec::new());
    for field in chosen {
        let own = field.name();
        let is_of_bank = has_bank && OF_BANK.contains(&own.as_str());
        let mut name = rename(own).or_else(|| is_of_bank.then(|| format!("{own}_"))).unwrap_or_else(|| own.clone());
        if name != *own {
            while names.contains(&name) {
                name.push('_');
            }
            names.insert(name.clone());
            renamed.push((own.clone(), name.clone()));
        }
        taken.push((field, name));
    }
    Ok((taken, renamed))
}

fn neighbor_fields() -> Fields {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let (id, distance) = (Field::new("id", DataType::UInt64, false), Field::new("distance", DataType::Float32, false));
    [id, distance, text("uri"), text("label")].into_iter().collect()
}

fn neighbor() -> Field {
    Field::new("item", DataType::Struct(neighbor_fields()), true)
}

/// A column of text; NULL as none.
pub(super) fn texts(column: &ArrayRef) -> Result<Vec<Option<String>>> {
    let texts = cast(column, &DataType::Utf8)?;
    Ok(texts.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect())
}
