//! What Outskirt's layers cost beside what they stand on, in one run: SQL beside the engine, a bank opened, or searched
//! without being in memory, beside reading it from its table, the HNSW graph beside usearch called directly. Run by `make bench` (benches/run.py).
//!
//! `layers WHAT BANK QUERIES DIMENSION K ROUNDS [LIMIT]`, files of unit vectors in f32; prints a line of JSON per row of
//! the table: seconds of both sides, round by round. WHAT is `all`, or what is measured at scale: `growing` (a bank that
//! is refreshed, beside one made from scratch) or `streamed` (under a limit of so many bytes).

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{
    ArrayRef, AsArray, FixedSizeListArray, Float32Array, RecordBatch, StringArray, TimestampNanosecondArray,
    UInt32Array, UInt64Array, new_null_array,
};
use arrow::datatypes::{DataType, Field, Float64Type};
use datafusion::physical_plan::{ExecutionPlan, collect};
use futures::TryStreamExt;
use outskirt::bank::{self, Bank, BankSpec};
use outskirt::index::vectors::{Rows, Vectors};
use outskirt::index::{
    Exact, Hnsw, HnswOptions, IndexKind, Layout, MemoryLimit, NeighborIndex, Question, Search, SearchOptions, Storage,
    kth_distances_brute,
};
use outskirt::schema;
use outskirt::sql::session::Session;
use outskirt::store::{EmbeddingColumn, Store};
use rayon::prelude::*;
use serde_json::json;
use usearch::{Index, IndexOptions, MetricKind, ScalarKind};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const COLUMN: &str = "drawn";
/// Queries against a bank under a memory limit, and the limits, in per cent of its bytes in f32: one is enough for its
/// codes, the other is not.
const LIMITED_QUERIES: usize = 1000;
const LIMITED_SHARES: [usize; 2] = [40, 10];
/// Of them, those whose distances are compared with brute force.
const CHECKED_QUERIES: usize = 4;
/// Rows of the graph: building one takes its time.
const GRAPH_ROWS: usize = 10_000;
const GRAPH_QUERIES: usize = 2000;
/// Rows per commit.
const BATCH: usize = 8192;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [what, bank, queries, dimension, k, rounds, limit @ ..] = arguments.as_slice() else {
        writeln!(std::io::stdout(), "run by `make bench`: layers WHAT BANK QUERIES DIMENSION K ROUNDS [LIMIT]")?;
        return Ok(());
    };
    let (dimension, k, rounds): (usize, usize, usize) = (dimension.parse()?, k.parse()?, rounds.parse()?);
    let folder = tempfile::tempdir_in(Path::new(bank).parent().unwrap_or(Path::new(".")))?;
    let (bank, queries) = (read(Path::new(bank))?, read(Path::new(queries))?);
    let store = database(&folder.path().join("db"), dimension, &bank, &queries).await?;
    let spec = BankSpec {
        name: "bank".into(),
        backbone: COLUMN.into(),
        predicate: "split = 'bank'".into(),
        k,
        alpha: 1.0,
        seed: 0,
        index: IndexKind::Exact,
    };
    bank::create(&store, &spec).await?;
    let (rows, graph_rounds) = (bank.len() / dimension, rounds.min(3));
    let with_graph = BankSpec { index: IndexKind::Hnsw(Storage::F32), ..spec.clone() };
    match what.as_str() {
        "growing" => {
            drop((bank, queries));
            refreshed(&store, &spec, rows, rounds, rounds).await?;
            // a graph of a million rows is made once
            refreshed(&store, &with_graph, rows, graph_rounds, 1).await
        }
        "streamed" => {
            let limit = limit.first().ok_or("LIMIT is missing")?.parse()?;
            limited(&store, bank, &queries, (dimension, k, limit), rounds).await
        }
        _ => {
            sql(&store, &bank, &queries, dimension, k, rounds).await?;
            opened(&store, rows, rounds).await?;
            for share in LIMITED_SHARES {
                let limit = bank.len() * 4 / 100 * share;
                limited(&store, bank.clone(), &queries, (dimension, k, limit), rounds).await?;
            }
            refreshed(&store, &spec, rows, rounds, rounds).await?;
            refreshed(&store, &with_graph, rows, graph_rounds, graph_rounds).await?;
            graph(&bank, &queries, dimension, k, rounds)
        }
    }
}

fn read(file: &Path) -> Result<Vec<f32>> {
    let bytes = fs::read(file)?;
    Ok(bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
}

/// `images` with the bank's and the queries' embeddings, told apart by `split`.
async fn database(folder: &Path, dimension: usize, bank: &[f32], queries: &[f32]) -> Result<Store> {
    let store = Store::create(folder).await?;
    let lock = store.lock().await?;
    let column =
        EmbeddingColumn { backbone: COLUMN.into(), sha256: "0".repeat(64), dimension, precision: "f32".into() };
    store.add_embedding_column(&lock, &column).await?;
    let table = store.schema(schema::IMAGES).await?;
    let mut id = 0u64;
    for (split, values) in [("bank", bank), ("query", queries)] {
        for values in values.chunks(BATCH * dimension) {
            let n = values.len() / dimension;
            let item = Arc::new(Field::new("item", DataType::Float32, true));
            let numbers = Arc::new(Float32Array::from(values.to_vec()));
            let embeddings: ArrayRef = Arc::new(FixedSizeListArray::new(item, dimension as i32, numbers, None));
            let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; n])) };
            let columns = table.fields().iter().map(|field| -> ArrayRef {
                match field.name().as_str() {
                    schema::ID => Arc::new(UInt64Array::from_iter_values(id + 1..=id + n as u64)),
                    schema::DATASET => text("drawn"),
                    schema::SPLIT => text(split),
                    schema::URI => text("drawn"),
                    schema::CONTENT_HASH => text(""),
                    schema::WIDTH | schema::HEIGHT => Arc::new(UInt32Array::from(vec![32; n])),
                    schema::INGESTED_AT => Arc::new(TimestampNanosecondArray::from(vec![0; n])),
                    COLUMN => Arc::clone(&embeddings),
                    _ => new_null_array(field.data_type(), n),
                }
            });
            let columns: Vec<ArrayRef> = columns.collect();
            let columns: std::result::Result<Vec<ArrayRef>, _> = columns
                .iter()
                .zip(table.fields())
                .map(|(array, field)| arrow::compute::cast(array, field.data_type()))
                .collect();
            let batch = RecordBatch::try_new(Arc::clone(&table), columns?)?;
            store.append(&lock, schema::IMAGES, batch).await?;
            id += n as u64;
        }
    }
    Ok(store)
}

/// One row of the table.
fn report(row: &str, queries: usize, ours: &[f64], peer: &[f64]) -> Result<()> {
    report_products(row, queries, ours, peer, 0)
}

/// The same, of work that takes so many products of two numbers.
fn report_products(row: &str, queries: usize, ours: &[f64], peer: &[f64], products: usize) -> Result<()> {
    let line = json!({ "row": row, "queries": queries, "ours": ours, "peer": peer, "products": products });
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

fn seconds<T>(run: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let start = Instant::now();
    let found = run()?;
    Ok((start.elapsed().as_secs_f64(), found))
}

/// The sum of all scores by SQL: seconds, the sum, and how many distances were estimated.
async fn sum(session: &Session, condition: &str) -> Result<(f64, f64, usize)> {
    let start = Instant::now();
    let query = format!("SELECT sum(knn_ood_score({COLUMN}, 'bank')) FROM images WHERE split = 'query' {condition}");
    let frame = session.sql(&query).await?;
    let task = Arc::new(frame.task_ctx());
    let plan = frame.create_physical_plan().await?;
    let batches = collect(Arc::clone(&plan), task).await?;
    let seconds = start.elapsed().as_secs_f64();
    Ok((seconds, batches[0].column(0).as_primitive::<Float64Type>().value(0), estimated(plan.as_ref())))
}

/// Distances estimated by a plan that has run, all of its steps together.
fn estimated(plan: &dyn ExecutionPlan) -> usize {
    let own = plan.metrics().and_then(|metrics| metrics.sum_by_name("distances_estimated"));
    own.map_or(0, |own| own.as_usize())
        + plan.children().into_iter().map(|step| estimated(step.as_ref())).sum::<usize>()
}

fn same(a: f64, b: f64) -> Result<()> {
    if (a - b).abs() > 1e-6 * b.abs() { Err(format!("{a} and {b} should be one sum of scores").into()) } else { Ok(()) }
}

async fn sql(store: &Store, bank: &[f32], queries: &[f32], dimension: usize, k: usize, rounds: usize) -> Result<()> {
    let session = Session::open(store).await?;
    let exact = Exact::new(Vectors::new(bank, dimension).into(), Layout { k, ..Layout::default() });
    let queries = Vectors::new(queries, dimension);
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let (in_sql, sum, _) = sum(&session, "").await?;
        let (direct, found) = seconds(|| Ok(Exact::kth_distances(&exact, queries, k)))?;
        same(sum, found.iter().copied().map(f64::from).sum())?;
        if round > 0 {
            ours.push(in_sql);
            peer.push(direct);
        }
    }
    report("SQL over the table, beside the engine called directly", queries.len(), &ours, &peer)
}

/// Seconds of reading the bank's columns from Lance.
async fn read_columns(store: &Store, rows: usize) -> Result<f64> {
    let start = Instant::now();
    let columns = [schema::ID, COLUMN];
    let mut batches = store.scan(schema::IMAGES, None, &columns, Some("split = 'bank'")).await?;
    let mut read = 0;
    while let Some(batch) = batches.try_next().await? {
        read += batch.num_rows();
    }
    if read != rows {
        return Err("the table should hold the bank".into());
    }
    Ok(start.elapsed().as_secs_f64())
}

/// A bank opened for search out of its index, beside reading its columns.
async fn opened(store: &Store, rows: usize, rounds: usize) -> Result<()> {
    let definition = bank::find(store, "bank").await?;
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let start = Instant::now();
        drop(Bank::open(store, definition.clone(), Search::Exact.into()).await?);
        let opening = start.elapsed().as_secs_f64();
        let reading = read_columns(store, rows).await?;
        if round > 0 {
            ours.push(opening);
            peer.push(reading);
        }
    }
    report("bank opened for search, beside reading its columns from Lance", rows, &ours, &peer)
}

/// A bank searched under a memory limit, beside reading its columns from Lance.
async fn limited(
    store: &Store,
    bank: Vec<f32>,
    queries: &[f32],
    (dimension, k, limit): (usize, usize, usize),
    rounds: usize,
) -> Result<()> {
    let rows = bank.len() / dimension;
    let checked = Vectors::new(&queries[..CHECKED_QUERIES * dimension], dimension);
    let known: f64 = kth_distances_brute(Vectors::new(&bank, dimension), checked, k).into_iter().map(f64::from).sum();
    drop(bank);
    let session = Session::open(store).await?;
    session.sql(&format!("SET outskirt.memory_limit = '{limit}B'")).await?.collect().await?;
    same(sum(&session, &format!("AND id <= {}", rows + CHECKED_QUERIES)).await?.1, known)?;
    let (mut ours, mut peer, mut products) = (Vec::new(), Vec::new(), 0);
    let options = SearchOptions { memory_limit: MemoryLimit(Some(limit as u64)), ..SearchOptions::default() };
    let described = session.banks().open(&*session.banks().definition("bank")?, options)?.describe();
    // numbers per row that an estimate multiplies
    let head = described.split_once("head ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    for round in 0..=rounds {
        let (searching, _, estimated) = sum(&session, &format!("AND id <= {}", rows + LIMITED_QUERIES)).await?;
        let reading = read_columns(store, rows).await?;
        if round > 0 {
            products = estimated * head.unwrap_or(dimension);
            ours.push(searching);
            peer.push(reading);
        }
    }
    let share = 100.0 * limit as f64 / (4 * rows * dimension) as f64;
    let form = if head.is_some() { "its codes in memory" } else { "read block by block" };
    let row = format!("bank in {share:.0} % of its bytes, {form}, beside reading its columns from Lance");
    report_products(&row, LIMITED_QUERIES, &ours, &peer, products)
}

/// A bank after one per cent was added, and after it was taken away again: refreshed, beside made from scratch.
async fn refreshed(store: &Store, spec: &BankSpec, rows: usize, rounds: usize, made_rounds: usize) -> Result<()> {
    let (following, fresh) = (format!("following_{}", spec.index == IndexKind::Exact), "fresh");
    let start = Instant::now();
    bank::create(store, &BankSpec { name: following.clone(), ..spec.clone() }).await?;
    let (mut added, mut removed, mut made) = (Vec::new(), Vec::new(), vec![start.elapsed().as_secs_f64()]);
    for round in 0..=rounds {
        for (split, taken) in [("bank", &mut added), ("query", &mut removed)] {
            let change =
                format!("UPDATE images SET split = '{split}' WHERE id > {rows} AND id <= {}", rows + rows / 100);
            let session = Session::open(store).await?;
            for statement in session.parse(&change)? {
                session.run(statement).await?.try_collect::<Vec<_>>().await?;
            }
            let start = Instant::now();
            let found = bank::refresh(store, &following).await?;
            if found.added + found.removed != rows / 100 || found.rebuilt {
                return Err(format!("one per cent should have changed: {found:?}").into());
            }
            if round > 0 {
                taken.push(start.elapsed().as_secs_f64());
            }
        }
        if round > 0 && round < made_rounds {
            let start = Instant::now();
            bank::create(store, &BankSpec { name: fresh.into(), ..spec.clone() }).await?;
            made.push(start.elapsed().as_secs_f64());
            bank::drop_bank(store, fresh).await?;
        }
    }
    let kind = if spec.index == IndexKind::Exact { "bank" } else { "bank with a graph" };
    report(&format!("{kind} refreshed after 1 % was added, beside made from scratch"), rows, &added, &made)?;
    report(&format!("{kind} refreshed after 1 % was removed, beside made from scratch"), rows, &removed, &made)
}

fn graph(bank: &[f32], queries: &[f32], dimension: usize, k: usize, rounds: usize) -> Result<()> {
    let cut = |values: &[f32], rows: usize| values[..values.len().min(rows * dimension)].to_vec();
    let (bank, queries) = (cut(bank, GRAPH_ROWS), cut(queries, GRAPH_QUERIES));
    let (rows, queries) = (Rows::from(Vectors::new(&bank, dimension)), Vectors::new(&queries, dimension));
    let ids: Vec<u64> = (1..=rows.len() as u64).collect();
    let options = HnswOptions::default();
    // what a graph that was not tuned searches
    let expansion = 4 * k;
    let (mut built, mut built_by_usearch, mut searched, mut searched_by_usearch) = (vec![], vec![], vec![], vec![]);
    for _ in 0..rounds.min(3) {
        let (took, hnsw) = seconds(|| Ok(Hnsw::build(&rows, &ids, options)?))?;
        built.push(took);
        let (took, index) = seconds(|| {
            let index = Index::new(&IndexOptions {
                dimensions: dimension,
                metric: MetricKind::L2sq,
                quantization: ScalarKind::F32,
                connectivity: options.connectivity,
                expansion_add: options.expansion_add,
                expansion_search: expansion,
                multi: false,
            })?;
            index.reserve_capacity_and_threads(rows.len(), rayon::current_num_threads() + 1)?;
            ids.par_iter().enumerate().try_for_each(|(row, &id)| index.add(id, rows.row(row)))?;
            Ok(index)
        })?;
        built_by_usearch.push(took);
        for round in 0..2 {
            let (ours, _) = seconds(|| Ok(hnsw.find(queries, Question::all(k))?))?;
            let (direct, _) = seconds(|| {
                let search = |query| index.search(queries.row(query), k).map(|found| found.distances[k - 1].sqrt());
                Ok((0..queries.len()).into_par_iter().map(search).collect::<std::result::Result<Vec<f32>, _>>()?)
            })?;
            if round > 0 {
                searched.push(ours);
                searched_by_usearch.push(direct);
            }
        }
    }
    report("HNSW graph built, beside usearch called directly", rows.len(), &built, &built_by_usearch)?;
    report("HNSW graph searched, beside usearch called directly", queries.len(), &searched, &searched_by_usearch)
}
