//! Values for columns of `images`: those a query gives, and what a column takes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, new_empty_array};
use arrow::compute::kernels::cmp::neq;
use arrow::compute::{CastOptions, cast_with_options, concat};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::display::array_value_to_string;
use datafusion::common::Column;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::DataFrame;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;

use super::catalog::Session;
use crate::error::{Error, Result};
use crate::schema;

impl Session {
    /// The columns of a query, as values of these fields.
    pub(super) async fn values(&self, query: ast::Statement, fields: &[Field]) -> Result<Vec<ArrayRef>> {
        let query = self.plan(Statement::Statement(Box::new(query))).await?;
        let (columns, values) = (fields.len(), query.schema().fields().len());
        if columns != values {
            return Err(Error::ValueCount { columns, values });
        }
        let mut taken = Vec::new();
        for (at, field) in fields.iter().enumerate() {
            let value = Expr::Column(Column::from(query.schema().qualified_field(at)));
            let value = match drops_fractions(query.schema().field(at).data_type(), field.data_type()) {
                true => value,
                false => value.cast_to(field.data_type(), query.schema())?,
            };
            taken.push(value.alias(field.name()));
        }
        let columns = self.columns(LogicalPlanBuilder::from(query).project(taken)?.build()?).await?;
        columns.into_iter().zip(fields).map(|(column, field)| whole(column, field)).collect()
    }

    /// Run a plan and gather its columns.
    pub(super) async fn columns(&self, plan: LogicalPlan) -> Result<Vec<ArrayRef>> {
        let frame = DataFrame::new(self.context.state(), plan);
        let types: Vec<DataType> = frame.schema().fields().iter().map(|field| field.data_type().clone()).collect();
        let batches = frame.collect().await?;
        let gather = |(at, data_type): (usize, &DataType)| {
            let parts: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(at).as_ref()).collect();
            if parts.is_empty() { Ok(new_empty_array(data_type)) } else { concat(&parts) }
        };
        Ok(types.iter().enumerate().map(gather).collect::<Result<_, _>>()?)
    }
}

/// Whether a cast cuts fractions off.
fn drops_fractions(from: &DataType, to: &DataType) -> bool {
    to.is_integer() && (from.is_floating() || from.is_decimal())
}

/// A column as its field has it.
///
/// Errors: [`Error::Fraction`] for 7000.5 as a whole number.
fn whole(column: ArrayRef, field: &Field) -> Result<ArrayRef> {
    if !drops_fractions(column.data_type(), field.data_type()) {
        return Ok(column);
    }
    let strict = CastOptions { safe: false, ..Default::default() };
    let taken = cast_with_options(&column, field.data_type(), &strict)?;
    let back = cast_with_options(&taken, column.data_type(), &strict)?;
    match neq(&column, &back)?.iter().position(|differs| differs == Some(true)) {
        Some(row) => {
            let value = array_value_to_string(&column, row)?;
            Err(Error::Fraction { column: field.name().clone(), value })
        }
        None => Ok(taken),
    }
}

/// Which command fills a column that Outskirt computes; none for any other.
pub(super) fn computed_by(field: &Field) -> Option<String> {
    if schema::is_embedding(field) {
        let backbone = field.name();
        return Some(format!("embeddings come from the picture, 'outskirt ingest --backbone {backbone}' writes them"));
    }
    if let Some(backbone) = field.metadata().get(schema::LOGITS_KEY) {
        return Some(format!(
            "logits come from the picture, 'outskirt ingest --backbone {backbone} --with-logits' writes them"
        ));
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
