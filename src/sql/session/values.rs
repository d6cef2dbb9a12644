//! Values for columns of `images`: those a query gives, and what a column takes.

use std::future::ready;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, RecordBatch, new_empty_array};
use arrow::compute::kernels::cmp::neq;
use arrow::compute::{CastOptions, can_cast_types, cast_with_options, concat};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;
use datafusion::common::{Column, DataFusionError};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::DataFrame;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use futures::{StreamExt, TryStreamExt, stream};

use super::catalog::Session;
use super::statement::numbered;
use crate::error::{Error, Result};
use crate::ingest::{checked_numbers, is_list_of_numbers};
use crate::schema;

impl Session {
    /// The columns of a query, as values of these fields.
    pub(super) async fn values(&self, query: ast::Statement, fields: &[Field]) -> Result<Gathered> {
        let mut gathered = self.columns(self.as_fields(query, fields).await?).await?;
        let columns = gathered.columns.into_iter().zip(fields).map(|(column, field)| whole(column, field));
        gathered.columns = columns.collect::<Result<_>>()?;
        Ok(gathered)
    }

    /// A query whose columns are values of these fields.
    async fn as_fields(&self, query: ast::Statement, fields: &[Field]) -> Result<LogicalPlan> {
        let query = self.plan_values(Statement::Statement(Box::new(query))).await?;
        let (columns, values) = (fields.len(), query.schema().fields().len());
        if columns != values {
            return Err(Error::ValueCount { columns, values });
        }
        let mut taken = Vec::new();
        for (at, field) in fields.iter().enumerate() {
            let value = Expr::Column(Column::from(query.schema().qualified_field(at)));
            let value = match is_looked_at(query.schema().field(at).data_type(), field) {
                true => value,
                false => value.cast_to(field.data_type(), query.schema())?,
            };
            taken.push(value.alias(field.name()));
        }
        Ok(LogicalPlanBuilder::from(query).project(taken)?.build()?)
    }

    /// Plan a statement whose values go by their places: what they are called means nothing, and may be the same.
    pub(super) async fn plan_values(&self, statement: Statement) -> Result<LogicalPlan> {
        match (self.plan(statement.clone()).await, statement) {
            (Err(Error::SameColumnName { .. }), Statement::Statement(parsed)) => {
                self.plan(Statement::Statement(Box::new(numbered(*parsed)))).await
            }
            (planned, _) => planned,
        }
    }

    /// Run a plan and gather its columns, within the memory that queries may take.
    pub(super) async fn columns(&self, plan: LogicalPlan) -> Result<Gathered> {
        let frame = DataFrame::new(self.context.state(), plan);
        let types: Vec<DataType> = frame.schema().fields().iter().map(|field| field.data_type().clone()).collect();
        let memory = MemoryConsumer::new("a change, which is one commit,");
        let memory = memory.register(&self.context.runtime_env().memory_pool);
        let (mut rows, mut batches) = (frame.execute_stream().await?, Vec::new());
        while let Some(batch) = rows.try_next().await? {
            // a batch and its copy in one array
            memory.try_grow(2 * bytes_of(&batch))?;
            batches.push(batch);
        }
        let gather = |(at, data_type): (usize, &DataType)| {
            let parts: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(at).as_ref()).collect();
            if parts.is_empty() { Ok(new_empty_array(data_type)) } else { concat(&parts) }
        };
        let columns = types.iter().enumerate().map(gather).collect::<Result<_, _>>()?;
        Ok(Gathered { columns, _memory: memory })
    }

    /// Rows of `schema` that `make` makes of what a query gives for some of its fields, as they come; `None` where it gives none.
    pub(super) async fn incoming(
        &self,
        query: ast::Statement,
        fields: &[Field],
        schema: SchemaRef,
        mut make: impl FnMut(RecordBatch) -> Result<RecordBatch> + Send + 'static,
    ) -> Result<Option<Incoming>> {
        let plan = self.as_fields(query, fields).await?;
        let mut values = DataFrame::new(self.context.state(), plan).execute_stream().await?;
        let first = loop {
            match values.try_next().await? {
                None => return Ok(None),
                Some(batch) if batch.num_rows() > 0 => break batch,
                Some(_) => {}
            }
        };
        let outcome = Arc::new(Outcome::default());
        let (written, failed) = (Arc::clone(&outcome), Arc::clone(&outcome));
        let fields = fields.to_vec();
        let made = stream::iter([Ok(first)]).chain(values).map(move |batch| {
            let given = batch.map_err(Error::from).and_then(|batch| whole_columns(&batch, &fields));
            let rows = given.and_then(&mut make).map_err(|error| failed.failed(error))?;
            written.rows.fetch_add(rows.num_rows() as u64, Ordering::Relaxed);
            Ok(rows)
        });
        // only when all are there are they committed
        let committing = self.commit_mark();
        let end = stream::once(async move { committing.store(true, Ordering::Relaxed) }).filter_map(|()| ready(None));
        let rows = Box::pin(RecordBatchStreamAdapter::new(schema, made.chain(end)));
        Ok(Some(Incoming { rows, outcome }))
    }
}

/// Columns that a query gave, and the memory that is counted for them.
pub(super) struct Gathered {
    pub(super) columns: Vec<ArrayRef>,
    _memory: MemoryReservation,
}

/// Rows on their way into a table.
pub(super) struct Incoming {
    pub(super) rows: SendableRecordBatchStream,
    outcome: Arc<Outcome>,
}

#[derive(Debug, Default)]
struct Outcome {
    rows: AtomicU64,
    failure: Mutex<Option<Error>>,
}

impl Incoming {
    /// Have them written; their number. What was wrong with them is the error, and not what became of it on the way.
    pub(super) async fn written_by<W: Future<Output = Result<()>>>(
        self,
        write: impl FnOnce(SendableRecordBatchStream) -> W,
    ) -> Result<u64> {
        let Self { rows, outcome } = self;
        let written = write(rows).await;
        let failure = outcome.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.map_or(written, Err)?;
        Ok(outcome.rows.load(Ordering::Relaxed))
    }
}

impl Outcome {
    /// Keep an error, and pass its words on.
    fn failed(&self, error: Error) -> DataFusionError {
        let words = DataFusionError::Execution(error.to_string());
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        words
    }
}

/// Bytes of a batch's own rows, also where its arrays are parts of larger ones.
fn bytes_of(batch: &RecordBatch) -> usize {
    let of_column =
        |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size());
    batch.columns().iter().map(of_column).sum()
}

/// Whether a cast cuts fractions off.
fn drops_fractions(from: &DataType, to: &DataType) -> bool {
    to.is_integer() && (from.is_floating() || from.is_decimal())
}

/// Whether a cast is made here, value by value, so that one that fails can be named.
fn is_looked_at(from: &DataType, field: &Field) -> bool {
    if is_of_numbers(field) {
        return *from != DataType::Null;
    }
    let to = field.data_type();
    let is_plain = |kind: &DataType| kind.is_primitive() || kind.is_string() || *kind == DataType::Boolean;
    from != to && is_plain(from) && is_plain(to) && can_cast_types(from, to)
}

/// Whether a column of `images` holds embeddings or logits: those of external backbones are written here too.
fn is_of_numbers(field: &Field) -> bool {
    schema::is_embedding(field) || schema::is_logits(field)
}

/// A column as its field has it.
///
/// Errors: [`Error::Fraction`] for 7000.5 as a whole number, [`Error::DoesNotFit`] for -1 as one without a sign,
/// [`Error::NoVector`] for what is no embedding.
fn whole(column: ArrayRef, field: &Field) -> Result<ArrayRef> {
    if is_of_numbers(field) {
        let no_vector = |reason| Error::NoVector { column: field.name().clone(), reason };
        if !is_list_of_numbers(column.data_type()) {
            return Err(no_vector("it is no list of numbers, such as [0.5, 1, 0.25]".into()));
        }
        return checked_numbers(&column, field).map_err(no_vector);
    }
    if !is_looked_at(column.data_type(), field) {
        return Ok(column);
    }
    let lenient = CastOptions { safe: true, ..Default::default() };
    let taken = cast_with_options(&column, field.data_type(), &lenient)?;
    if let Some(row) = (0..column.len()).find(|&row| column.is_valid(row) && taken.is_null(row)) {
        let value = array_value_to_string(&column, row)?;
        let data_type = sql_name(field.data_type());
        return Err(Error::DoesNotFit { column: field.name().clone(), value, data_type });
    }
    if !drops_fractions(column.data_type(), field.data_type()) {
        return Ok(taken);
    }
    let strict = CastOptions { safe: false, ..Default::default() };
    let back = cast_with_options(&taken, column.data_type(), &strict)?;
    match neq(&column, &back)?.iter().position(|differs| differs == Some(true)) {
        Some(row) => {
            let value = array_value_to_string(&column, row)?;
            Err(Error::Fraction { column: field.name().clone(), value })
        }
        None => Ok(taken),
    }
}

/// A type for people.
fn sql_name(data_type: &DataType) -> String {
    match data_type {
        DataType::UInt64 => format!("whole numbers from 0 to {}", u64::MAX),
        DataType::UInt32 => format!("whole numbers from 0 to {}", u32::MAX),
        DataType::Int32 => format!("whole numbers from {} to {}", i32::MIN, i32::MAX),
        DataType::Int64 => format!("whole numbers from {} to {}", i64::MIN, i64::MAX),
        kind if kind.is_integer() => "whole numbers".into(),
        kind if kind.is_floating() || kind.is_decimal() => "numbers".into(),
        DataType::Timestamp(..) => "times, such as '2026-01-31 12:00:00'".into(),
        DataType::Date32 | DataType::Date64 => "dates, such as '2026-01-31'".into(),
        DataType::Boolean => "true and false".into(),
        other => other.to_string(),
    }
}

/// The columns of a batch as their fields have them; which of them may not be NULL is looked at later.
fn whole_columns(batch: &RecordBatch, fields: &[Field]) -> Result<RecordBatch> {
    let columns = batch.columns().iter().zip(fields).map(|(column, field)| whole(Arc::clone(column), field));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let fields = fields.iter().map(|field| field.clone().with_nullable(true)).collect::<Vec<_>>();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// Which command fills a column that Outskirt computes; none for any other, also of the backbones in `external`, whose
/// embeddings are the user's.
pub(super) fn computed_by(field: &Field, external: &[String]) -> Option<String> {
    let backbone = [schema::BACKBONE_KEY, schema::LOGITS_KEY].iter().find_map(|key| field.metadata().get(*key));
    if backbone.is_some_and(|backbone| external.contains(backbone)) {
        return None;
    }
    if schema::is_embedding(field) {
        let backbone = field.name();
        return Some(format!("embeddings come from the picture, 'outskirt ingest --backbone {backbone}' writes them"));
    }
    if let Some(backbone) = field.metadata().get(schema::LOGITS_KEY) {
        return Some(format!(
            "logits come from the picture, 'outskirt ingest --backbone {backbone} --with-logits' writes them"
        ));
    }
    if schema::is_hash(field) {
        return Some("hashes come from the picture, 'outskirt curate dedup' writes them".into());
    }
    let bank = field.metadata().get(schema::SCORE_BANK_KEY)?;
    Some(format!("scores come from the embedding, 'outskirt score {bank}' writes them"))
}

/// Columns as rows of the table, NULL only where it may be.
pub(super) fn rows(fields: Vec<Field>, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    if let Some((field, _)) =
        fields.iter().zip(&columns).find(|(field, column)| !field.is_nullable() && column.null_count() > 0)
    {
        return Err(Error::NullValue { column: field.name().clone() });
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
