//! Tables as DataFusion sees them: Lance's own scan (filters and projections reach the files), writing refused.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result as DataFusionResult, plan_err};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use lancedb::table::datafusion::BaseTableAdapter;

use crate::error::Result;

pub(super) async fn read_only(table: lancedb::Table) -> Result<Arc<dyn TableProvider>> {
    let name = table.name().to_string();
    Ok(Arc::new(ReadOnly { name, inner: BaseTableAdapter::try_new(table.base_table().clone()).await? }))
}

/// Rows written around the ids, the lock and the bookkeeping would break them, so SQL only reads.
#[derive(Debug)]
struct ReadOnly {
    name: String,
    inner: BaseTableAdapter,
}

#[async_trait::async_trait]
impl TableProvider for ReadOnly {
    fn schema(&self) -> SchemaRef {
        self.inner.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.inner.scan(state, projection, filters, limit).await
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        self.inner.supports_filters_pushdown(filters)
    }

    async fn insert_into(
        &self,
        _state: &dyn Session,
        _input: Arc<dyn ExecutionPlan>,
        _insert_op: InsertOp,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        plan_err!(
            "table '{}' is read-only in SQL: images are written by 'outskirt ingest', banks by 'outskirt bank'",
            self.name
        )
    }
}
