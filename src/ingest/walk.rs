//! The files of rows again: stored bytes out of the table, the others from where they were.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;
use futures::TryStreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::reread::{For, reread};
use crate::error::Result;
use crate::image::{ImageFile, Opened};
use crate::schema;
use crate::store::Store;

/// Rows that are read from their files together: an archive is opened once for all of them.
const NAMED_ROWS: usize = 131_072;

/// A row of `images`.
pub(crate) struct Row {
    pub(crate) id: u64,
    /// Empty of one that came as numbers.
    pub(crate) content_hash: String,
    /// Whether its bytes come from the table.
    pub(crate) stored: bool,
}

/// Rows, some at a time.
enum Chunk {
    /// With their bytes.
    Stored(Vec<(ImageFile, Row)>),
    /// By their uris.
    Named(Vec<(String, Row)>),
}

/// The files of the rows for which `wanted` holds (and that are among these ids, where there are some), those with stored bytes first, and what becomes of the reading: its error, once
/// the files are at their end.
pub(crate) async fn walk(
    store: &Store,
    wanted: String,
    among: Option<HashSet<u64>>,
) -> Result<(Files, JoinHandle<Result<()>>)> {
    // chunks of stored bytes are as large as a batch of them
    let (sender, chunks) = mpsc::channel(1);
    // the reading keeps its version of the table, whatever is committed meanwhile
    let version = store.version(schema::IMAGES).await?;
    let walking = tokio::spawn(send(store.clone(), version, (wanted, among), sender));
    Ok((Files { chunks, current: Box::new(std::iter::empty()), opened: Arc::default() }, walking))
}

/// Send the rows; nobody listens where what is done with them has failed.
async fn send(
    store: Store,
    version: u64,
    (wanted, among): (String, Option<HashSet<u64>>),
    chunks: mpsc::Sender<Chunk>,
) -> Result<()> {
    let is_wanted = |row: &Row| among.as_ref().is_none_or(|among| among.contains(&row.id));
    let columns = [schema::ID, schema::URI, schema::CONTENT_HASH, schema::BYTES];
    let stored = format!("({wanted}) AND {} IS NOT NULL", schema::BYTES);
    let mut batches = store.scan(schema::IMAGES, Some(version), &columns, Some(&stored)).await?;
    while let Some(batch) = batches.try_next().await? {
        let bytes = arrow::compute::cast(batch.column(3), &arrow::datatypes::DataType::Binary)?;
        let bytes = bytes.as_binary::<i32>();
        let file = |(at, (uri, row))| {
            (ImageFile { uri, label: None, is_labelled: false, bytes: bytes.value(at).to_vec() }, row)
        };
        let rows = rows_of(&batch, true).enumerate().filter(|(_, (_, row))| is_wanted(row)).map(file).collect();
        if chunks.send(Chunk::Stored(rows)).await.is_err() {
            return Ok(());
        }
    }
    let named = format!("({wanted}) AND {} IS NULL", schema::BYTES);
    let mut batches = store.scan(schema::IMAGES, Some(version), &columns[..3], Some(&named)).await?;
    let mut rows = Vec::new();
    loop {
        let batch = batches.try_next().await?;
        rows.extend(batch.iter().flat_map(|batch| rows_of(batch, false)).filter(|(_, row)| is_wanted(row)));
        let enough = rows.len() >= NAMED_ROWS || batch.is_none() && !rows.is_empty();
        if enough && chunks.send(Chunk::Named(std::mem::take(&mut rows))).await.is_err() {
            return Ok(());
        }
        if batch.is_none() {
            return Ok(());
        }
    }
}

fn rows_of(batch: &RecordBatch, stored: bool) -> impl Iterator<Item = (String, Row)> + '_ {
    let ids = batch.column(0).as_primitive::<UInt64Type>();
    let (uris, hashes) = (batch.column(1).as_string::<i32>(), batch.column(2).as_string::<i32>());
    (0..batch.num_rows()).map(move |at| {
        (uris.value(at).into(), Row { id: ids.value(at), content_hash: hashes.value(at).into(), stored })
    })
}

/// The files of rows, as they come, each once for all rows of it. To be asked on a thread that may wait.
pub(crate) struct Files {
    chunks: mpsc::Receiver<Chunk>,
    current: Box<dyn Iterator<Item = For<Row>> + Send>,
    opened: Arc<Opened>,
}

impl Iterator for Files {
    type Item = For<Row>;

    fn next(&mut self) -> Option<For<Row>> {
        loop {
            if let Some(next) = self.current.next() {
                return Some(next);
            }
            self.current = match self.chunks.blocking_recv()? {
                Chunk::Stored(rows) => Box::new(rows.into_iter().map(|(file, row)| (vec![row], Ok(file)))),
                Chunk::Named(rows) => Box::new(reread(rows, &self.opened)),
            };
        }
    }
}
