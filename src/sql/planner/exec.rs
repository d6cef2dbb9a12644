//! Runs [`Scored`](super::Scored): batches in, the rows that pass and their scores out.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arrow::array::{Array, ArrayRef, BooleanArray, Float32Array, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, RecordOutput,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::{StreamExt, TryStreamExt, stream};

use super::bounds::{BestScores, Bounds, Top};
use super::node::{Call, Scored, describe};
use crate::bank::{Bank, Banks, Definition};
use crate::index::vectors::Vectors;
use crate::index::{Bound, Kth, Question, SearchOptions};
use crate::sql::functions::query_vectors::QueryVectors;
use crate::sql::functions::settings;

/// Rows that are searched together: fewer, and a search has less to share.
const GROUP: usize = 8192;
/// Bytes of these rows at most, but for the last batch: they may carry pictures.
const GROUP_BYTES: usize = 64 << 20;

/// What a node computes, in plain values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spec {
    /// The bank's name.
    pub(crate) bank: String,
    /// The version of `images` that it stands for.
    pub(crate) version: u64,
    /// Which neighbour.
    pub(crate) k: usize,
    /// The scores that pass.
    pub(crate) bounds: Bounds,
    /// Whether the score is used above.
    pub(crate) needed: bool,
    /// The rows that an order by score and a limit can use.
    pub(crate) top: Option<Top>,
    /// The score's column.
    pub(crate) column: String,
}

impl Spec {
    pub(super) fn of(scored: &Scored) -> Self {
        let Call { bank, version, k, .. } = &scored.call;
        Self {
            bank: bank.clone(),
            version: *version,
            k: *k,
            bounds: scored.bounds,
            needed: scored.needed,
            top: scored.top,
            column: scored.column.clone(),
        }
    }
}

/// One score for every row of its input.
#[derive(Debug)]
pub struct ScoreExec {
    input: Arc<dyn ExecutionPlan>,
    spec: Spec,
    embedding: Arc<dyn PhysicalExpr>,
    id: Option<Arc<dyn PhysicalExpr>>,
    banks: Arc<Banks>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    /// The best scores of all partitions.
    best: Option<Arc<Mutex<BestScores>>>,
    /// How the bank is searched, once it is.
    described: Arc<OnceLock<String>>,
}

impl ScoreExec {
    pub(crate) fn new(
        input: Arc<dyn ExecutionPlan>,
        spec: Spec,
        embedding: Arc<dyn PhysicalExpr>,
        id: Option<Arc<dyn PhysicalExpr>>,
        banks: Arc<Banks>,
    ) -> Self {
        let mut fields = input.schema().fields().to_vec();
        fields.push(Arc::new(Field::new(&spec.column, DataType::Float32, true)));
        let schema = Arc::new(Schema::new_with_metadata(fields, input.schema().metadata().clone()));
        let properties = properties(&input, schema);
        Self {
            properties,
            input,
            embedding,
            id,
            banks,
            metrics: ExecutionPlanMetricsSet::new(),
            best: spec.top.map(|top| Arc::new(Mutex::new(BestScores::new(top)))),
            described: Arc::default(),
            spec,
        }
    }

    /// What it computes.
    #[cfg(feature = "cluster")]
    pub(crate) fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Of which embedding, and without which id.
    #[cfg(feature = "cluster")]
    pub(crate) fn expressions(&self) -> (&Arc<dyn PhysicalExpr>, Option<&Arc<dyn PhysicalExpr>>) {
        (&self.embedding, self.id.as_ref())
    }

    /// The banks.
    #[cfg(feature = "cluster")]
    pub(crate) fn banks(&self) -> &Arc<Banks> {
        &self.banks
    }

    /// The same over another input, as if it had not run.
    fn over(&self, input: Arc<dyn ExecutionPlan>) -> Self {
        Self {
            properties: properties(&input, self.schema()),
            input,
            spec: self.spec.clone(),
            embedding: Arc::clone(&self.embedding),
            id: self.id.clone(),
            banks: Arc::clone(&self.banks),
            metrics: ExecutionPlanMetricsSet::new(),
            best: self.spec.top.map(|top| Arc::new(Mutex::new(BestScores::new(top)))),
            described: Arc::default(),
        }
    }
}

/// Orders of the input hold, and its partitions.
fn properties(input: &Arc<dyn ExecutionPlan>, schema: SchemaRef) -> Arc<PlanProperties> {
    let mut equivalence = EquivalenceProperties::new(schema);
    equivalence.add_orderings(input.equivalence_properties().oeq_class().clone());
    Arc::new(PlanProperties::new(
        equivalence,
        input.output_partitioning().clone(),
        input.pipeline_behavior(),
        input.boundedness(),
    ))
}

impl DisplayAs for ScoreExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spec { bank, version, k, bounds, needed, top, .. } = &self.spec;
        write!(f, "ScoreExec: bank={bank}@{version}, k={k}, embedding={}", self.embedding)?;
        if let Some(id) = &self.id {
            write!(f, ", without id={id}")?;
        }
        describe(f, bounds, *needed, top.as_ref())?;
        self.described.get().map_or(Ok(()), |described| write!(f, ", search=[{described}]"))
    }
}

impl ExecutionPlan for ScoreExec {
    fn name(&self) -> &'static str {
        "ScoreExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(self.over(children.swap_remove(0))))
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(self.over(Arc::clone(&self.input))))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let count = |name: &'static str| MetricBuilder::new(&self.metrics).counter(name, partition);
        let scorer = Scorer {
            spec: self.spec.clone(),
            embedding: Arc::clone(&self.embedding),
            id: self.id.clone(),
            banks: Arc::clone(&self.banks),
            options: settings::search(context.session_config().options())?,
            schema: self.schema(),
            best: self.best.clone(),
            described: Arc::clone(&self.described),
            baseline: BaselineMetrics::new(&self.metrics, partition),
            scored: count("rows_scored"),
            stopped: count("rows_stopped_early"),
            estimated: count("distances_estimated"),
            computed: count("distances_computed"),
        };
        let input = self.input.execute(partition, context)?;
        let groups = stream::try_unfold(
            (input, scorer),
            |(mut input, scorer): (SendableRecordBatchStream, Scorer)| async move {
                let group = next_group(&mut input).await?;
                if group.is_empty() {
                    return Ok::<_, DataFusionError>(None);
                }
                let found = scorer.score(group).await?;
                Ok(Some((stream::iter(found.into_iter().map(Ok)), (input, scorer))))
            },
        );
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), groups.try_flatten().boxed())))
    }
}

/// Batches whose rows are searched together; none at the end.
pub(crate) async fn next_group(input: &mut SendableRecordBatchStream) -> Result<Vec<RecordBatch>> {
    let (mut group, mut rows, mut bytes) = (Vec::new(), 0, 0);
    while rows < GROUP && bytes < GROUP_BYTES {
        match input.try_next().await? {
            Some(batch) => {
                rows += batch.num_rows();
                bytes += bytes_of(&batch)?;
                group.push(batch);
            }
            None => break,
        }
    }
    Ok(group)
}

/// The vectors that rows ask about.
pub(crate) fn queries_of(
    group: &[RecordBatch],
    definition: &Definition,
    embedding: &Arc<dyn PhysicalExpr>,
    id: Option<&Arc<dyn PhysicalExpr>>,
) -> Result<QueryVectors> {
    let rows = group.iter().map(RecordBatch::num_rows).sum();
    let mut queries = QueryVectors::with_capacity(definition.dimension, rows);
    for batch in group {
        let column = embedding.evaluate(batch)?.into_array(batch.num_rows())?;
        let ids = match id {
            Some(id) => Some(id.evaluate(batch)?.into_array(batch.num_rows())?),
            None => None,
        };
        queries.push(&definition.name, &column, ids.as_ref())?;
    }
    Ok(queries)
}

/// Bytes of a batch's own rows, whatever its arrays are slices of.
fn bytes_of(batch: &RecordBatch) -> Result<usize> {
    let of_columns = batch.columns().iter().map(|column| column.to_data().get_slice_memory_size());
    Ok(of_columns.sum::<Result<usize, _>>()?)
}

/// One partition at work.
struct Scorer {
    spec: Spec,
    embedding: Arc<dyn PhysicalExpr>,
    id: Option<Arc<dyn PhysicalExpr>>,
    banks: Arc<Banks>,
    options: SearchOptions,
    schema: SchemaRef,
    best: Option<Arc<Mutex<BestScores>>>,
    described: Arc<OnceLock<String>>,
    baseline: BaselineMetrics,
    scored: Count,
    stopped: Count,
    estimated: Count,
    computed: Count,
}

impl Scorer {
    /// Batches with a score for each row that passes.
    async fn score(&self, group: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        let timer = self.baseline.elapsed_compute().timer();
        let definition = self.banks.definition(&format!("{}@{}", self.spec.bank, self.spec.version))?;
        let queries = queries_of(&group, &definition, &self.embedding, self.id.as_ref())?;
        let found = self.search(&definition, &queries).await?;
        timer.done();
        self.with_scores(group, &found)
    }

    /// Where the score of each row lies; `None` where its embedding is NULL.
    async fn search(&self, definition: &Definition, queries: &QueryVectors) -> Result<Vec<Option<Kth>>> {
        let vectors = queries.vectors();
        let mut found = Vec::with_capacity(vectors.len());
        if !vectors.is_empty() {
            let bank = self.banks.open(definition, self.options)?;
            self.described.get_or_init(|| bank.describe());
            while found.len() < vectors.len() {
                let (from, left) = (found.len(), vectors.len() - found.len());
                let left = left.min(bank.at_once());
                let to = from + self.lock().map_or(left, |best| best.step().min(left));
                let excluded = queries.excluded().map(|excluded| &excluded[from..to]);
                found.extend(self.find(&bank, vectors.rows(from, to), excluded)?.into_iter().map(Some));
                // a query that was cancelled ends here
                tokio::task::yield_now().await;
            }
        }
        Ok(queries.scatter(found).collect())
    }

    fn find(&self, bank: &Bank, queries: Vectors<'_>, excluded: Option<&[Option<u64>]>) -> Result<Vec<Kth>> {
        let so_far = self.lock().map(|best| best.bounds());
        let bounds = self.spec.bounds.and(so_far.unwrap_or_default());
        let (floor, ceiling) = (bounds.lower.map(|lower| lower.0), bounds.upper.map(|upper| upper.0));
        // where only the side of the lower bound matters, the search need not go beyond it
        let ceiling = if self.spec.needed { ceiling } else { ceiling.or(floor) };
        let (floor, ceiling) = (floor.map(Bound::All), ceiling.map(Bound::All));
        let found = bank.find(queries, Question { k: self.spec.k, floor, ceiling, excluded })?;
        let exact = found.kth.iter().filter(|kth| matches!(kth, Kth::At(_))).count();
        self.scored.add(queries.len());
        self.stopped.add(queries.len() - exact);
        self.estimated.add(found.work.estimated as usize);
        self.computed.add(found.work.computed as usize);
        if let Some(mut best) = self.lock() {
            best.count(found.kth.len());
            found.kth.iter().for_each(|kth| {
                if let Kth::At(score) = kth {
                    best.add(*score);
                }
            });
        }
        Ok(found.kth)
    }

    fn lock(&self) -> Option<MutexGuard<'_, BestScores>> {
        self.best.as_ref().map(|best| best.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a row passes, and its score.
    fn passes(&self, found: Option<Kth>) -> (bool, Option<f32>) {
        match found {
            // a comparison with NULL holds for no row; an order has NULL among its rows
            None => (self.spec.bounds.is_unbounded(), None),
            Some(Kth::At(score)) => (true, Some(score)),
            Some(Kth::Within) => (false, None),
            // beyond the lower bound, which was the upper one as well
            Some(Kth::Beyond) => (!self.spec.needed && self.spec.bounds.upper.is_none(), None),
        }
    }

    fn with_scores(&self, group: Vec<RecordBatch>, found: &[Option<Kth>]) -> Result<Vec<RecordBatch>> {
        let mut found = found.iter().map(|found| self.passes(*found));
        let mut batches = Vec::with_capacity(group.len());
        for batch in group {
            let (passes, scores): (Vec<bool>, Vec<Option<f32>>) = found.by_ref().take(batch.num_rows()).unzip();
            let all = passes.iter().all(|&passes| passes);
            let scores: ArrayRef = Arc::new(Float32Array::from(scores));
            let mut columns = batch.columns().to_vec();
            columns.push(scores);
            let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)
                .map_err(|error| exec_datafusion_err!("a batch with its scores: {error}"))?;
            let batch = if all { batch } else { filter_record_batch(&batch, &BooleanArray::from(passes))? };
            if batch.num_rows() > 0 {
                batches.push(batch.record_output(&self.baseline));
            }
        }
        Ok(batches)
    }
}
