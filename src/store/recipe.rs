//! A scan that is said rather than held: which rows and columns of which version of a table, in parts that can be read apart from each
//! other, on any machine that reaches the database.
//!
//! A session whose configuration has [`Parts`] scans the database's tables so. What it says is plain values ([`Recipe`]): no open
//! table and no key. The table is opened when a part is read.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::{DataFusionError, Result as DataFusionResult, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use lance::Dataset;
use lance::dataset::scanner::FragmentSlice;
use lance::io::exec::filtered_read::FilteredReadExec;
use serde::{Deserialize, Serialize};

use super::lease::Pin;
use super::native::{dataset, lance};
use super::pictures;
use crate::error::{Error, Result};

/// Of a session's configuration: its scans are said, in parts.
#[derive(Debug, Clone, Copy)]
pub struct Parts {
    /// How many there are at most.
    pub most: usize,
    /// Rows of a part, at least.
    pub rows: u64,
}

/// Rows of a fragment, by their places in its files: deleted ones are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// The fragment's number.
    pub fragment: u32,
    /// The first row.
    pub offset: u64,
    /// How many.
    pub rows: u64,
}

/// What a scan reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// The database: a folder, or `s3://bucket/path`.
    pub place: PathBuf,
    /// The table.
    pub table: String,
    /// Its version.
    pub version: u64,
    /// The columns that are read, in order.
    pub schema: SchemaRef,
    /// The rows that are read: all that it holds for.
    pub filter: Option<Expr>,
    /// Rows that are enough, of each part.
    pub limit: Option<usize>,
    /// Rows of a batch.
    pub batch_rows: usize,
    /// How many rows there are, where that is known.
    pub rows: Option<usize>,
    /// What each part reads.
    pub parts: Vec<Vec<Slice>>,
}

/// A table that is open, at a version.
#[derive(Debug, Clone)]
pub struct OpenTable(pub(super) lancedb::Table);

/// Opens the table that a recipe reads.
pub type OpensTable = Arc<dyn Fn(Arc<Recipe>) -> BoxFuture<'static, Result<OpenTable>> + Send + Sync>;

/// Reads what a [`Recipe`] says, part by part.
#[derive(Clone)]
pub struct RecipeScan {
    recipe: Arc<Recipe>,
    opens: OpensTable,
    properties: Arc<PlanProperties>,
    /// The version is not pruned while whoever planned this holds it.
    _pin: Option<Arc<Pin>>,
}

impl RecipeScan {
    /// A scan of what is said, of tables that are opened so.
    pub fn new(recipe: Recipe, opens: OpensTable) -> Self {
        Self::of(recipe, opens, None)
    }

    pub(super) fn of(recipe: Recipe, opens: OpensTable, pin: Option<Arc<Pin>>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&recipe.schema)),
            Partitioning::UnknownPartitioning(recipe.parts.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { recipe: Arc::new(recipe), opens, properties: Arc::new(properties), _pin: pin }
    }

    /// What it reads.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }
}

impl fmt::Debug for RecipeScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecipeScan").field("recipe", &self.recipe).finish_non_exhaustive()
    }
}

impl DisplayAs for RecipeScan {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Recipe { table, version, schema, filter, limit, parts, .. } = &*self.recipe;
        let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, "RecipeScan: {table}@{version}, columns=[{}], parts={}", columns.join(", "), parts.len())?;
        if let Some(filter) = filter {
            write!(f, ", filter={filter}")?;
        }
        limit.map_or(Ok(()), |limit| write!(f, ", limit={limit}"))
    }
}

impl ExecutionPlan for RecipeScan {
    fn name(&self) -> &'static str {
        "RecipeScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn partition_statistics(&self, partition: Option<usize>) -> DataFusionResult<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.recipe.schema);
        let is_whole = partition.is_none() && self.recipe.filter.is_none() && self.recipe.limit.is_none();
        statistics.num_rows = match self.recipe.rows {
            Some(rows) if is_whole => Precision::Exact(rows),
            Some(rows) => Precision::Inexact(if partition.is_some() { rows / self.recipe.parts.len() } else { rows }),
            None => Precision::Absent,
        };
        Ok(Arc::new(statistics))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let (recipe, opens) = (Arc::clone(&self.recipe), Arc::clone(&self.opens));
        let read = async move {
            let OpenTable(table) = opens(Arc::clone(&recipe)).await?;
            Ok::<_, DataFusionError>(part(&*dataset(&table).await?, &recipe, partition, context).await?)
        };
        let schema = self.schema();
        let own = Arc::clone(&schema);
        let batches = stream::once(read).try_flatten().map(move |batch| {
            let batch = batch?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            Ok(RecordBatch::try_new_with_options(Arc::clone(&own), batch.columns().to_vec(), &options)?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

/// The rows of one part.
async fn part(
    dataset: &Dataset,
    recipe: &Recipe,
    part: usize,
    context: Arc<TaskContext>,
) -> Result<SendableRecordBatchStream> {
    let slices: Vec<FragmentSlice> = recipe.parts[part]
        .iter()
        .map(|slice| FragmentSlice { fragment_id: slice.fragment, row_offset: slice.offset, row_count: slice.rows })
        .collect();
    if slices.is_empty() {
        let none = RecordBatchStreamAdapter::new(Arc::clone(&recipe.schema), stream::empty());
        return Ok(Box::pin(none));
    }
    let columns: Vec<&str> = recipe.schema.fields().iter().map(|field| field.name().as_str()).collect();
    let mut scanner = dataset.scan();
    if columns.is_empty() { scanner.empty_project() } else { scanner.project(&columns) }.map_err(lance)?;
    let is_large = pictures::has_large(&recipe.schema, &columns);
    scanner.batch_size(recipe.batch_rows).target_parallelism(1);
    if is_large {
        scanner.io_buffer_size(pictures::READ_AHEAD);
    }
    if let Some(filter) = &recipe.filter {
        scanner.filter_expr(filter.clone());
    }
    scanner.limit(recipe.limit.map(|rows| i64::try_from(rows).unwrap_or(i64::MAX)), None).map_err(lance)?;
    let named = |id: u64| slices.iter().any(|slice| u64::from(slice.fragment_id) == id);
    scanner.with_fragments(dataset.fragments().iter().filter(|fragment| named(fragment.id)).cloned().collect());
    scanner.with_fragment_slices(&slices).await.map_err(lance)?;
    let mut plan = scanner.create_plan().await.map_err(lance)?;
    if plan.output_partitioning().partition_count() > 1 {
        plan = Arc::new(CoalescePartitionsExec::new(plan));
    }
    Ok(plan.execute(0, context)?)
}

/// Rows that the scans of a plan give in a batch at most, the fewest of them: no other part of it should gather more.
pub fn rows_of_scans(plan: &dyn ExecutionPlan) -> Option<usize> {
    let held = plan.downcast_ref::<FilteredReadExec>().and_then(|scan| Some(scan.options().batch_size? as usize));
    let said = plan.downcast_ref::<RecipeScan>().map(|scan| scan.recipe.batch_rows);
    let below = plan.children().into_iter().filter_map(|child| rows_of_scans(child.as_ref()));
    held.or(said).into_iter().chain(below).min()
}

/// What a session reads of a table, in so many parts at most.
pub(super) async fn recipe(
    (place, table): (PathBuf, &lancedb::Table),
    schema: &Schema,
    projection: Option<&Vec<usize>>,
    filter: Option<Expr>,
    limit: Option<usize>,
    (parts, most): (Parts, usize),
) -> Result<Recipe> {
    let schema = match projection {
        Some(projection) => schema.project(projection)?,
        None => schema.clone(),
    };
    // of a table nobody but Lance is interested in what its metadata says
    let schema = Arc::new(Schema::new(schema.fields));
    let dataset = dataset(table).await?;
    let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let batch_rows = if pictures::has_large(&schema, &columns) { pictures::rows_at_once(&dataset, most) } else { most };
    let rows: Option<usize> = dataset.fragments().iter().map(|fragment| fragment.num_rows()).sum();
    let mut fragments = Vec::new();
    for fragment in dataset.fragments().iter() {
        let rows = match fragment.physical_rows {
            Some(rows) => rows,
            None => {
                let opened = dataset.get_fragment(fragment.id as usize).ok_or_else(|| Error::BadRow {
                    table: table.name().into(),
                    reason: format!("it has no fragment {}", fragment.id),
                })?;
                opened.physical_rows().await.map_err(lance)?
            }
        };
        fragments.push((fragment.id as u32, rows as u64));
    }
    Ok(Recipe {
        place,
        table: table.name().into(),
        version: table.version().await?,
        schema,
        filter,
        limit,
        batch_rows,
        rows,
        parts: divided(&fragments, parts),
    })
}

/// Fragments, each by its number and rows, in order in parts of about the same number of rows.
fn divided(fragments: &[(u32, u64)], Parts { most, rows: fewest }: Parts) -> Vec<Vec<Slice>> {
    let rows: u64 = fragments.iter().map(|(_, rows)| rows).sum();
    let parts = (most.max(1) as u64).min(rows.div_ceil(fewest.max(1))).max(1);
    let mut divided: Vec<Vec<Slice>> = vec![Vec::new(); parts as usize];
    let mut before = 0;
    for &(fragment, own) in fragments {
        for (part, slices) in (0..parts).zip(&mut divided) {
            // rows of the whole table that are this part's
            let (start, end) = (rows * part / parts, rows * (part + 1) / parts);
            let (from, to) = (start.max(before), end.min(before + own));
            if from < to {
                slices.push(Slice { fragment, offset: from - before, rows: to - from });
            }
        }
        before += own;
    }
    divided
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_of_the_same_size_and_leave_nothing_out() {
        let fragments = [(0, 1), (3, 50_000), (4, 0), (7, 20_000)];
        for parts in [1, 2, 3, 7, 100] {
            let divided = divided(&fragments, Parts { most: parts, rows: 8192 });
            let rows = |slices: &[Slice]| slices.iter().map(|slice| slice.rows).sum::<u64>();
            let (least, most) =
                (divided.iter().map(|part| rows(part)).min(), divided.iter().map(|part| rows(part)).max());
            assert!(most.unwrap() - least.unwrap() <= 1, "{parts}: {divided:?}");
            assert!(divided.len() <= parts && divided.len() <= 9, "{}", divided.len());
            let all: Vec<Slice> = divided.into_iter().flatten().collect();
            for (fragment, own) in fragments {
                let mut next = 0;
                for slice in all.iter().filter(|slice| slice.fragment == fragment) {
                    assert_eq!(slice.offset, next);
                    next += slice.rows;
                }
                assert_eq!(next, own);
            }
        }
        assert_eq!(divided(&[], Parts { most: 4, rows: 1 }), [Vec::new()]);
    }
}
