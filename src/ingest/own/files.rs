//! Files of embeddings: which of their columns are what, and their rows from the beginning.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::thread::JoinHandle;

use arrow::array::{AsArray, RecordBatch, RecordBatchReader};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tokio::sync::mpsc;

use super::options::OwnOptions;
use crate::error::{Error, Result};
use crate::image::{Folders, TableRows, is_address, is_array, is_plain, is_text, shown, table_columns, table_rows};
use crate::ingest::column_names::{taken, usable_name};
use crate::ingest::numbers::{stored_as, width};
use crate::schema;

/// Rows that are read at a time.
const ROWS: usize = 1024;
/// Batches that may wait to be taken.
const AHEAD: usize = 8;
/// Columns that a message names.
const KNOWN: usize = 30;

/// Which columns of a file are what.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) vector: usize,
    pub(super) logits: Option<usize>,
    pub(super) uri: Option<usize>,
    /// What rows that are there are matched by, where not by uri; `None` too where it is in a table beside the file.
    pub(super) key: Option<usize>,
    /// What its column may be called in `images`: as an ingest takes it, or as it is.
    pub(super) key_names: Vec<String>,
    pub(super) dataset: Option<usize>,
    pub(super) split: Option<usize>,
    pub(super) label: Option<usize>,
    /// Further columns, by their names in `images`.
    pub(super) own: Vec<(usize, String)>,
    renamed: Vec<String>,
    /// Columns whose types no column of images has.
    pub(super) left_out: Vec<String>,
}

/// What a table beside the files says of their rows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct HasBeside {
    pub(super) dataset: bool,
    /// What rows that are there are matched by.
    pub(super) key: bool,
}

/// A file whose rows are to be taken.
pub(super) struct Source {
    /// As the uris of its rows begin.
    pub(super) path: String,
    pub(super) plan: Plan,
    pub(super) rows: Peeked,
}

/// Rows of which the first are known.
pub(super) struct Peeked {
    pub(super) rows: Option<u64>,
    first: Vec<RecordBatch>,
    rest: TableRows,
}

impl Peeked {
    /// Their columns.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.rest.schema
    }

    /// All of them, read by a thread of their own.
    pub(super) fn read_ahead(self) -> Ahead {
        let (send, batches) = mpsc::channel(AHEAD);
        let read = move || {
            let mut rows = self.first.into_iter().map(Ok).chain(self.rest);
            // nobody wants the others where nobody takes one
            while rows.next().is_some_and(|batch| send.blocking_send(batch).is_ok()) {}
        };
        Ahead { batches, reader: Some(std::thread::spawn(read)) }
    }
}

/// Batches that are read while those before them are checked and written.
pub(super) struct Ahead {
    batches: mpsc::Receiver<Result<RecordBatch>>,
    reader: Option<JoinHandle<()>>,
}

impl Ahead {
    /// The next one; `None` where there are no more.
    pub(super) async fn next(&mut self) -> Option<Result<RecordBatch>> {
        match self.batches.recv().await {
            None => self.reader.take()?.join().err().map(|_| Err(Error::ReadPanicked)),
            batch => batch,
        }
    }
}

impl Source {
    pub(super) fn open(file: &Path, options: &OwnOptions, beside: HasBeside) -> Result<Self> {
        let is_vector = |field: &Field| [Some(&options.column), options.logits.as_ref()].contains(&Some(field.name()));
        let left_out = RefCell::new(Vec::new());
        let is_taken = |field: &Field| {
            let taken = is_vector(field) || is_plain(field.data_type());
            if !taken {
                left_out.borrow_mut().push(named(field));
            }
            taken
        };
        let rest = table_rows(file, ROWS, &options.column, is_taken)?;
        let known = || table_columns(file).unwrap_or_default();
        let mut plan = Plan::of(file, &rest.schema, known, options, beside)?;
        if options.key.is_none() {
            plan.left_out.append(&mut left_out.into_inner());
        }
        let path = match file.to_str() {
            Some(text) if is_address(text) => shown(text),
            _ => Folders::default().path(file).to_string_lossy().into_owned(),
        };
        Ok(Self { path, plan, rows: Peeked { rows: rest.rows, first: Vec::new(), rest } })
    }

    /// Batches that come from somewhere of this name.
    pub(super) fn of_batches(
        batches: impl RecordBatchReader + Send + 'static,
        name: &str,
        options: &OwnOptions,
        beside: HasBeside,
    ) -> Result<Self> {
        let rest = TableRows::of_batches(batches, name, ROWS);
        let known = || rest.schema.fields().iter().map(|field| field.name().clone()).collect();
        let plan = Plan::of(Path::new(name), &rest.schema, known, options, beside)?;
        Ok(Self { path: name.into(), plan, rows: Peeked { rows: None, first: Vec::new(), rest } })
    }
}

impl Plan {
    fn of(
        file: &Path,
        columns: &Schema,
        known: impl Fn() -> Vec<String>,
        options: &OwnOptions,
        beside: HasBeside,
    ) -> Result<Self> {
        let bad = |reason: String| Error::BadArchive { path: shown(&file.to_string_lossy()).into(), reason };
        let fields = columns.fields();
        let at = |name: &str| {
            let exact = fields.iter().position(|field| field.name() == name);
            exact.or_else(|| fields.iter().position(|field| field.name().trim().eq_ignore_ascii_case(name)))
        };
        let numbers = |name: &str| -> Result<usize> {
            // an array has no other
            let found = at(name).or(is_array(file).then_some(0).filter(|_| name == options.column));
            let Some(found) = found else {
                let known = known();
                if known.is_empty() {
                    return Err(bad("it is empty".into()));
                }
                let known = known.iter().take(KNOWN).map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
                return Err(bad(format!("it has no column '{name}': its columns are {known}")));
            };
            stored_as(fields[found].data_type()).map_err(|reason| bad(format!("column '{name}': {reason}")))?;
            Ok(found)
        };
        let vector = numbers(&options.column)?;
        let logits = options.logits.as_deref().map(numbers).transpose()?;
        let (key, key_names) = match &options.key {
            Some(key) => {
                // by its name here, or by that in images
                let usable = taken(fields.iter().map(|field| field.name().as_str()));
                let found = at(key).or_else(|| usable.iter().position(|taken| taken.name == *key));
                if found.is_none() && !beside.key {
                    return Err(bad(format!("it has no column '{key}', which says what a row belongs to")));
                }
                let named = found.map_or_else(|| usable_name(key), |column| usable[column].name.clone());
                (found, vec![named, key.clone()])
            }
            None => (None, Vec::new()),
        };
        let (uri, label) = (at(schema::URI), at(schema::LABEL));
        let (dataset, split) = (at(schema::DATASET), at(schema::SPLIT));
        if options.dataset.is_none() && dataset.is_none() && !beside.dataset && options.key.is_none() {
            return Err(bad("it has no column 'dataset': give --dataset NAME".into()));
        }
        let used = [Some(vector), logits, uri, key, label, dataset, split];
        let others = (0..fields.len()).filter(|column| !used.contains(&Some(*column)));
        let (own, left_out): (Vec<usize>, Vec<usize>) =
            others.partition(|column| is_plain(fields[*column].data_type()));
        let left_out = left_out.into_iter().map(|column| named(&fields[column])).collect();
        let names = taken(own.iter().map(|column| fields[*column].name().as_str()));
        let renamed = own.iter().zip(&names).filter_map(|(column, taken)| {
            let because = taken.because.as_ref()?;
            Some(format!(
                "column '{}' of {} is taken as {}: {because}",
                fields[*column].name(),
                file.display(),
                taken.name
            ))
        });
        let renamed = renamed.collect();
        let own = own.into_iter().zip(names).map(|(column, taken)| (column, taken.name)).collect();
        if options.key.is_some() {
            // rows that are there keep what is said of them
            return Ok(Self {
                vector,
                logits,
                uri,
                key,
                key_names,
                dataset: None,
                split: None,
                label: None,
                own: Vec::new(),
                renamed: Vec::new(),
                left_out: Vec::new(),
            });
        }
        Ok(Self { vector, logits, uri, key, key_names, dataset, split, label, own, renamed, left_out })
    }
}

/// A column and its type, for people.
fn named(field: &Field) -> String {
    format!("'{}' ({})", field.name(), field.data_type())
}

/// How many numbers the vectors of all files have; of lists of any length, what most of the first ones have.
pub(super) fn agreed_width(
    sources: &mut [Source],
    options: &OwnOptions,
    of: impl Fn(&Source) -> usize,
) -> Result<usize> {
    let mut agreed: Option<(usize, String)> = None;
    for source in &mut *sources {
        let column = of(source);
        let bad = |reason: String| Error::BadArchive { path: source.path.clone().into(), reason };
        let mut found = match source.rows.rest.schema.field(column).data_type() {
            DataType::FixedSizeList(_, width) => Some(*width as usize),
            _ => source.rows.first.iter().find_map(|batch| width(batch.column(column))),
        };
        // of lists of any length the first ones are read
        while found.is_none() {
            let Some(batch) = source.rows.rest.next().transpose()? else { break };
            found = width(batch.column(column));
            source.rows.first.push(batch);
            if source.rows.first.len() >= 64 {
                return Err(bad(format!("its first {} rows have no numbers in '{}'", 64 * ROWS, options.column)));
            }
        }
        match (found, &agreed) {
            (Some(found), Some((width, first))) if found != *width => {
                return Err(bad(format!("its vectors have {found} numbers, and those of {first} {width}")));
            }
            (Some(found), None) => agreed = Some((found, source.path.clone())),
            _ => {}
        }
    }
    let example = |source: &Source| {
        let texts = source.rows.first.first()?.column(source.plan.vector).as_string_opt::<i32>()?.clone();
        let first = texts.iter().flatten().next()?.chars().take(40).collect::<String>();
        Some(format!(": it begins '{first}…', and lists are written [0.5, 1, 0.25]"))
    };
    agreed.map(|(width, _)| width).ok_or_else(|| {
        let example = sources.iter().find_map(example).unwrap_or_default();
        Error::NoNumbers { column: options.column.clone(), example }
    })
}

/// What is cast, and which columns have other names.
pub(super) fn notices(sources: &[Source], say: &mut impl FnMut(String)) {
    let mut stored: BTreeMap<&str, usize> = BTreeMap::new();
    for Source { plan, rows, .. } in sources {
        let kind = stored_as(rows.rest.schema.field(plan.vector).data_type()).unwrap_or_default();
        // a text has no other numbers
        if let Some(kind) = rows.rest.stored.or(kind).filter(|_| !is_text(&rows.rest.path)) {
            *stored.entry(kind).or_default() += 1;
        }
    }
    for (kind, files) in stored {
        let which =
            if files == sources.len() { String::new() } else { format!(" of {files} of {} files", sources.len()) };
        say(format!("the embeddings{which} are {kind}, and are kept as f32"));
    }
    let left_out: BTreeSet<&String> = sources.iter().flat_map(|source| &source.plan.left_out).collect();
    if !left_out.is_empty() {
        let names: Vec<&str> = left_out.iter().take(10).map(|name| name.as_str()).collect();
        let more = if left_out.len() > 10 { format!(" and {} more", left_out.len() - 10) } else { String::new() };
        say(format!(
            "left out: {}{more}; columns of images are numbers, texts, truth values, dates and times",
            names.join(", ")
        ));
    }
    let renamed: Vec<&String> = sources.iter().flat_map(|source| &source.plan.renamed).collect();
    renamed.iter().take(10).for_each(|line| say((*line).clone()));
    if renamed.len() > 10 {
        say(format!("and {} more columns of these files have other names", renamed.len() - 10));
    }
}
