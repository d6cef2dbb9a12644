//! Scores by a bank in shards: tasks that search one shard each, and tasks that merge what those found.
//!
//! Where a plan computes a score by such a bank, [`spread`] puts three steps in place of the one:
//!
//! 1. [`ShardExec`]: partition s·P + p takes the rows of partition p of the input, of P, through shard s. Of each row it gives its
//!    place, the distances to its k nearest rows in the shard, and, from the first shard, the row itself. Tasks are handed out in
//!    this order, so that executors work on the same shard at a time.
//! 2. The cluster's own shuffle brings together what belongs to one place, and its sort, which spills, puts it in order.
//! 3. [`MergeExec`] takes the k-th distance of all shards' together. Each distance is rounded after it was computed in f64, and
//!    rounding keeps the order: the k-th is the one of an undivided bank, to the bit.
//!
//! The input is read once for each shard, on whichever machine. It must give the same rows in the same order each time:
//! [`gives_the_same`] knows which plans do. What each task saw of a row is compared all the same, before anything is merged. Over
//! other inputs, such as a join, the score stays in one step, and each task takes its rows through all shards.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float32Array, ListArray, RecordBatch, StructArray, UInt64Array,
    new_empty_array, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Fields, Float32Type, Schema, SchemaRef, UInt64Type};
use datafusion::common::{DataFusionError, Result, exec_err, internal_datafusion_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{
    EquivalenceProperties, LexOrdering, LexRequirement, OrderingRequirements, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::{StreamExt, TryStreamExt, stream};

use crate::bank::Banks;
use crate::index::IndexKind;
use crate::sql::functions::settings;
use crate::sql::planner::{BatchRowsExec, Bounds, ScoreExec, Spec, next_group, queries_of};
use crate::store::RecipeScan;

/// Columns of what shards give, before the rows themselves.
const PLACE: usize = 0;
const SEEN: usize = 1;
const NEAR: usize = 2;
const ROW: usize = 3;
/// Bits of a place that count the rows of a partition; those above say which partition it is.
const ROW_BITS: u32 = 40;

/// The columns of a plan that are used above it; `None`: all.
type Used = Option<BTreeSet<usize>>;

/// A plan whose scores by banks in shards are computed shard by shard.
pub(super) fn spread(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    spread_below(plan, &None)
}

fn spread_below(plan: Arc<dyn ExecutionPlan>, used: &Used) -> Result<Arc<dyn ExecutionPlan>> {
    let below = used_below(&plan, used);
    let (mut children, mut changed) = (Vec::new(), false);
    for child in plan.children() {
        let made = spread_below(Arc::clone(child), &below)?;
        changed |= !Arc::ptr_eq(&made, child);
        children.push(made);
    }
    let plan = if changed { plan.with_new_children(children)? } else { plan };
    let Some(score) = plan.downcast_ref::<ScoreExec>() else { return Ok(plan) };
    let spec = score.spec();
    let bank = score.banks().definition(&format!("{}@{}", spec.bank, spec.version))?;
    let input = Arc::clone(score.children()[0]);
    match bank.index_kind()? {
        IndexKind::Sharded(shards) if gives_the_same(&input) => divided(score, input, shards as usize, used),
        _ => Ok(plan),
    }
}

/// The steps in place of a score.
fn divided(
    score: &ScoreExec,
    input: Arc<dyn ExecutionPlan>,
    shards: usize,
    used: &Used,
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = input.schema();
    // a column that may be NULL, and that nobody reads, need not travel
    let is_kept = |at: &usize| !schema.field(*at).is_nullable() || used.as_ref().is_none_or(|used| used.contains(at));
    let kept: Vec<usize> = (0..schema.fields().len()).filter(is_kept).collect();
    let parts = input.output_partitioning().partition_count();
    let found = ShardExec::new(input, Searched::of(score, shards, kept.clone()));
    let found: Arc<dyn ExecutionPlan> = Arc::new(found);
    let place = place(&found);
    let together = RepartitionExec::try_new(found, Partitioning::Hash(vec![Arc::clone(&place)], parts))?;
    let order = LexOrdering::new([PhysicalSortExpr::new_default(place)]);
    let order = order.ok_or_else(|| internal_datafusion_err!("no order"))?;
    let ordered = SortExec::new(order, Arc::new(together)).with_preserve_partitioning(true);
    let Spec { k, bounds, .. } = score.spec();
    Ok(Arc::new(MergeExec::new(
        Arc::new(ordered),
        Merged { shards, k: *k, bounds: *bounds, kept, schema: score.schema() },
    )))
}

/// By what rows of several shards come together.
fn place(found: &Arc<dyn ExecutionPlan>) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(found.schema().field(PLACE).name(), PLACE))
}

/// The columns of a node's input that it reads or passes on.
fn used_below(plan: &Arc<dyn ExecutionPlan>, used: &Used) -> Used {
    let of = |expr: &Arc<dyn PhysicalExpr>| collect_columns(expr).into_iter().map(|column| column.index());
    let also = |exprs: &[&Arc<dyn PhysicalExpr>]| {
        used.as_ref().map(|used| used.iter().copied().chain(exprs.iter().flat_map(|expr| of(expr))).collect())
    };
    if let Some(node) = plan.downcast_ref::<ProjectionExec>() {
        return Some(node.expr().iter().flat_map(|one| of(&one.expr)).collect());
    }
    if let Some(node) = plan.downcast_ref::<AggregateExec>() {
        if !matches!(node.mode(), AggregateMode::Partial | AggregateMode::Single | AggregateMode::SinglePartitioned) {
            return None;
        }
        let keys = node.group_expr().expr().iter().map(|(key, _)| Arc::clone(key));
        let values = node.aggr_expr().iter().flat_map(|call| {
            let all = call.all_expressions();
            all.args.into_iter().chain(all.order_by_exprs)
        });
        let filters = node.filter_expr().iter().flatten().cloned();
        return Some(keys.chain(values).chain(filters).flat_map(|expr| of(&expr).collect::<Vec<_>>()).collect());
    }
    if let Some(node) = plan.downcast_ref::<FilterExec>() {
        return if node.projection().is_none() { also(&[node.predicate()]) } else { None };
    }
    if let Some(node) = plan.downcast_ref::<SortExec>() {
        return also(&node.expr().iter().map(|one| &one.expr).collect::<Vec<_>>());
    }
    if let Some(node) = plan.downcast_ref::<SortPreservingMergeExec>() {
        return also(&node.expr().iter().map(|one| &one.expr).collect::<Vec<_>>());
    }
    if let Some(node) = plan.downcast_ref::<ScoreExec>() {
        let own = plan.schema().fields().len() - 1;
        let (embedding, id) = node.expressions();
        let read = [Some(embedding), id].into_iter().flatten().flat_map(of);
        return used.as_ref().map(|used| used.iter().copied().filter(|&column| column != own).chain(read).collect());
    }
    let passes = plan.downcast_ref::<CoalescePartitionsExec>().is_some()
        || plan.downcast_ref::<GlobalLimitExec>().is_some()
        || plan.downcast_ref::<LocalLimitExec>().is_some()
        || plan.downcast_ref::<CooperativeExec>().is_some()
        || plan.downcast_ref::<BatchRowsExec>().is_some();
    if passes { used.clone() } else { None }
}

/// Whether a plan gives the same rows of a partition in the same order whenever it is run.
fn gives_the_same(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let is_steady = if let Some(node) = plan.downcast_ref::<FilterExec>() {
        !is_volatile(node.predicate())
    } else if let Some(node) = plan.downcast_ref::<ProjectionExec>() {
        !node.expr().iter().any(|one| is_volatile(&one.expr))
    } else if let Some(node) = plan.downcast_ref::<ScoreExec>() {
        // which rows it drops depends on what others have found
        node.spec().top.is_none()
    } else {
        plan.downcast_ref::<RecipeScan>().is_some_and(|scan| scan.recipe().limit.is_none())
            || plan.downcast_ref::<CooperativeExec>().is_some()
            || plan.downcast_ref::<BatchRowsExec>().is_some()
    };
    is_steady && plan.children().into_iter().all(gives_the_same)
}

/// Of what queries are computed, and in which bank they are looked for.
#[derive(Debug, Clone)]
pub(super) struct Searched {
    pub(super) spec: Spec,
    pub(super) embedding: Arc<dyn PhysicalExpr>,
    pub(super) id: Option<Arc<dyn PhysicalExpr>>,
    pub(super) banks: Arc<Banks>,
    pub(super) shards: usize,
    /// The columns of the input that go along.
    pub(super) kept: Vec<usize>,
}

impl Searched {
    fn of(score: &ScoreExec, shards: usize, kept: Vec<usize>) -> Self {
        let (embedding, id) = score.expressions();
        let (embedding, id) = (Arc::clone(embedding), id.cloned());
        Self { spec: score.spec().clone(), embedding, id, banks: Arc::clone(score.banks()), shards, kept }
    }
}

/// The first step.
#[derive(Debug)]
pub(super) struct ShardExec {
    input: Arc<dyn ExecutionPlan>,
    searched: Searched,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// What shards give of rows of these columns.
fn found_schema(input: &Schema, kept: &[usize]) -> SchemaRef {
    let mut fields = vec![
        Field::new("place", DataType::UInt64, false),
        Field::new("seen", DataType::UInt64, true),
        Field::new("near", DataType::List(near_item()), false),
    ];
    if !kept.is_empty() {
        let columns: Fields = kept.iter().map(|&at| Arc::clone(&input.fields()[at])).collect();
        fields.push(Field::new("row", DataType::List(row_item(columns)), false));
    }
    Arc::new(Schema::new(fields))
}

fn near_item() -> Arc<Field> {
    Arc::new(Field::new("distance", DataType::Float32, false))
}

fn row_item(columns: Fields) -> Arc<Field> {
    Arc::new(Field::new("row", DataType::Struct(columns), false))
}

impl ShardExec {
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, searched: Searched) -> Self {
        let schema = found_schema(&input.schema(), &searched.kept);
        let partitions = searched.shards * input.output_partitioning().partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Self { input, searched, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }

    pub(super) fn searched(&self) -> &Searched {
        &self.searched
    }
}

impl DisplayAs for ShardExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Searched { spec, shards, .. } = &self.searched;
        write!(f, "ShardExec: bank={}@{}, shards={shards}, k={}", spec.bank, spec.version, spec.k)
    }
}

impl ExecutionPlan for ShardExec {
    fn name(&self) -> &'static str {
        "ShardExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(children.swap_remove(0), self.searched.clone())))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let parts = self.input.output_partitioning().partition_count();
        let (shard, part) = (partition / parts, partition % parts);
        let count = |name: &'static str| MetricBuilder::new(&self.metrics).counter(name, partition);
        let task = ShardTask {
            searched: self.searched.clone(),
            schema: self.schema(),
            shard,
            next: (part as u64) << ROW_BITS,
            options: settings::search(context.session_config().options())?,
            scored: count("rows_scored"),
            estimated: count("distances_estimated"),
            computed: count("distances_computed"),
        };
        let input = self.input.execute(part, context)?;
        let found = stream::try_unfold((input, task), |(mut input, mut task)| async move {
            let group = next_group(&mut input).await?;
            if group.is_empty() {
                return Ok::<_, DataFusionError>(None);
            }
            let found = task.search(&group).await?;
            Ok(Some((stream::iter(found.into_iter().map(Ok)), (input, task))))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), found.try_flatten())))
    }
}

/// A partition's rows in one shard.
struct ShardTask {
    searched: Searched,
    schema: SchemaRef,
    shard: usize,
    /// The place of the next row.
    next: u64,
    options: crate::index::SearchOptions,
    scored: Count,
    estimated: Count,
    computed: Count,
}

impl ShardTask {
    async fn search(&mut self, group: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
        let Searched { spec, embedding, id, banks, .. } = &self.searched;
        let definition = banks.definition(&format!("{}@{}", spec.bank, spec.version))?;
        let queries = queries_of(group, &definition, embedding, id.as_ref())?;
        let vectors = queries.vectors();
        let bank = banks.open(&definition, self.options)?;
        if bank.shards() != Some(self.searched.shards) {
            return exec_err!("bank {} has other shards than when this query was planned: run it again", spec.bank);
        }
        let ceiling = spec.bounds.upper.map(|upper| upper.0);
        let mut found: Vec<Option<(u64, Vec<f32>)>> = Vec::with_capacity(vectors.len());
        while found.len() < vectors.len() {
            let (from, to) = (found.len(), vectors.len().min(found.len() + bank.at_once()));
            let (asked, own) = (vectors.rows(from, to), queries.excluded().map(|excluded| &excluded[from..to]));
            let (near, work) = bank.near_in_shard(self.shard, asked, spec.k, ceiling, own)?;
            found.extend((0..).zip(near).map(|(query, near)| Some((seen(asked.row(query)), near))));
            // each row is counted once
            self.scored.add(if self.shard == 0 { to - from } else { 0 });
            self.estimated.add(work.estimated as usize);
            self.computed.add(work.computed as usize);
            // a query that was cancelled ends here
            tokio::task::yield_now().await;
        }
        let mut found = queries.scatter(found);
        let mut given = Vec::with_capacity(group.len());
        for batch in group {
            let of_batch: Vec<Option<(u64, Vec<f32>)>> = found.by_ref().take(batch.num_rows()).collect();
            given.push(self.batch(batch, &of_batch)?);
        }
        Ok(given)
    }

    fn batch(&mut self, batch: &RecordBatch, found: &[Option<(u64, Vec<f32>)>]) -> Result<RecordBatch> {
        let rows = batch.num_rows() as u64;
        let places = UInt64Array::from_iter_values(self.next..self.next + rows);
        self.next += rows;
        let near = found.iter().map(|found| found.as_ref().map_or(&[][..], |(_, near)| near));
        let distances: Vec<f32> = near.clone().flatten().copied().collect();
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(places),
            Arc::new(UInt64Array::from_iter(found.iter().map(|found| found.as_ref().map(|(seen, _)| *seen)))),
            Arc::new(ListArray::try_new(
                near_item(),
                OffsetBuffer::from_lengths(near.map(<[f32]>::len)),
                Arc::new(Float32Array::from(distances)),
                None,
            )?),
        ];
        if !self.searched.kept.is_empty() {
            let kept: Vec<&ArrayRef> = self.searched.kept.iter().map(|&at| batch.column(at)).collect();
            let fields: Fields =
                self.searched.kept.iter().map(|&at| Arc::clone(&batch.schema_ref().fields()[at])).collect();
            // the rows themselves come from the first shard
            let is_first = self.shard == 0;
            let values = kept.into_iter().map(|column| match is_first {
                true => Arc::clone(column),
                false => new_empty_array(column.data_type()),
            });
            let values = StructArray::try_new(fields.clone(), values.collect(), None)?;
            let lengths = OffsetBuffer::from_lengths((0..rows).map(|_| usize::from(is_first)));
            columns.push(Arc::new(ListArray::try_new(row_item(fields), lengths, Arc::new(values), None)?));
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

/// What tells one query from another: FNV-1a of its numbers.
fn seen(query: &[f32]) -> u64 {
    query.iter().fold(0xcbf2_9ce4_8422_2325, |hash, number| {
        (hash ^ u64::from(number.to_bits())).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// What is merged, and into what.
#[derive(Debug, Clone)]
pub(super) struct Merged {
    pub(super) shards: usize,
    pub(super) k: usize,
    pub(super) bounds: Bounds,
    /// The columns of the output that came along; the others are NULL, but for the score.
    pub(super) kept: Vec<usize>,
    /// Of the rows with their score, which is the last column.
    pub(super) schema: SchemaRef,
}

/// The last step: its input is in the order of places.
#[derive(Debug)]
pub(super) struct MergeExec {
    input: Arc<dyn ExecutionPlan>,
    merged: Merged,
    properties: Arc<PlanProperties>,
}

impl MergeExec {
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, merged: Merged) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&merged.schema)),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Self { input, merged, properties: Arc::new(properties) }
    }

    pub(super) fn merged(&self) -> &Merged {
        &self.merged
    }
}

impl DisplayAs for MergeExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Merged { shards, k, bounds, .. } = &self.merged;
        write!(f, "MergeExec: shards={shards}, k={k}, keep={bounds}")
    }
}

impl ExecutionPlan for MergeExec {
    fn name(&self) -> &'static str {
        "MergeExec"
    }

    // said so that nobody takes the shuffle or the sort away
    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::HashPartitioned(vec![place(&self.input)])]
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        let order = LexRequirement::new([PhysicalSortExpr::new_default(place(&self.input)).into()]);
        vec![order.map(OrderingRequirements::new)]
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(children.swap_remove(0), self.merged.clone())))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (input, merged) = (self.input.execute(partition, context)?, self.merged.clone());
        let whole = stream::try_unfold((input, None), move |(mut input, mut begun): (_, Option<RecordBatch>)| {
            let merged = merged.clone();
            async move {
                loop {
                    let Some(batch) = input.try_next().await? else {
                        let last = begun.take().filter(|last| last.num_rows() > 0);
                        return match last {
                            Some(last) => Ok::<_, DataFusionError>(Some((merged.merge(&last)?, (input, None)))),
                            None => Ok(None),
                        };
                    };
                    let batch = match begun.take() {
                        Some(begun) => concat_batches(batch.schema_ref(), [&begun, &batch])?,
                        None => batch,
                    };
                    // the last place may go on in the next batch
                    let places = batch.column(PLACE).as_primitive::<UInt64Type>().values();
                    let whole = places.last().map_or(0, |last| places.partition_point(|place| place < last));
                    begun = Some(batch.slice(whole, batch.num_rows() - whole));
                    if whole > 0 {
                        return Ok(Some((merged.merge(&batch.slice(0, whole))?, (input, begun))));
                    }
                }
            }
        });
        let rows = whole.try_filter(|batch| std::future::ready(batch.num_rows() > 0));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows.boxed())))
    }
}

impl Merged {
    /// The rows of some places, all of each, with their scores: those that pass.
    ///
    /// Errors: a place that not every shard has given once, or not the same row.
    fn merge(&self, found: &RecordBatch) -> Result<RecordBatch> {
        let places = found.column(PLACE).as_primitive::<UInt64Type>().values();
        let seen = found.column(SEEN).as_primitive::<UInt64Type>();
        let near = found.column(NEAR).as_list::<i32>();
        let (mut scores, mut passes) = (Vec::new(), Vec::new());
        let (mut first, mut together) = (0, Vec::new());
        while first < places.len() {
            let after = first + places[first..].partition_point(|place| *place == places[first]);
            let is_same = |at: usize| (seen.is_null(at), seen.value(at)) == (seen.is_null(first), seen.value(first));
            if after - first != self.shards || !(first..after).all(is_same) {
                return exec_err!(
                    "rows came in another order from one task than from another (row {} of part {}, from {} of {} shards): run \
                     this query again, or without --cluster",
                    places[first] & ((1 << ROW_BITS) - 1),
                    places[first] >> ROW_BITS,
                    after - first,
                    self.shards
                );
            }
            together.clear();
            (first..after)
                .for_each(|at| together.extend_from_slice(near.value(at).as_primitive::<Float32Type>().values()));
            let (pass, score) = self.score(seen.is_null(first), &mut together);
            passes.push(pass);
            scores.push(score);
            first = after;
        }
        let rows = scores.len();
        let score: ArrayRef = Arc::new(Float32Array::from(scores));
        let came = self.came(found, rows)?;
        let fields = self.schema.fields();
        let columns = fields.iter().enumerate().map(|(at, field)| match self.kept.binary_search(&at) {
            Ok(place) => Arc::clone(&came[place]),
            Err(_) if at + 1 == fields.len() => Arc::clone(&score),
            Err(_) => new_null_array(field.data_type(), rows),
        });
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns.collect())?;
        Ok(match passes.iter().all(|&pass| pass) {
            true => batch,
            false => filter_record_batch(&batch, &BooleanArray::from(passes))?,
        })
    }

    /// Whether a row passes, and its score: as one machine has it.
    fn score(&self, is_null: bool, near: &mut [f32]) -> (bool, Option<f32>) {
        let Bounds { lower, upper } = self.bounds;
        if is_null {
            return (self.bounds.is_unbounded(), None);
        }
        if near.len() < self.k {
            // beyond the upper bound, within which shards have looked
            debug_assert!(upper.is_some(), "without a bound each row has a k-th distance");
            return (false, None);
        }
        let (_, &mut kth, _) = near.select_nth_unstable_by(self.k - 1, f32::total_cmp);
        let passes = lower.is_none_or(|lower| kth > lower.0) && upper.is_none_or(|upper| kth <= upper.0);
        (passes, Some(kth))
    }

    /// The columns that came along, a row for each place.
    fn came(&self, found: &RecordBatch, rows: usize) -> Result<Vec<ArrayRef>> {
        if self.kept.is_empty() {
            return Ok(Vec::new());
        }
        let column = found.column(ROW).as_list::<i32>();
        let offsets = column.offsets();
        let (from, to) = (offsets[0] as usize, offsets[offsets.len() - 1] as usize);
        if to - from != rows {
            return exec_err!("{rows} rows have {} values: run this query again", to - from);
        }
        Ok(column.values().slice(from, rows).as_struct().columns().to_vec())
    }
}
