//! Tables as DataFusion sees them: Lance's own scan (filters and projections reach the files), writing refused.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as DataFusionResult;
use datafusion::common::tree_node::TreeNode;
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use lancedb::table::datafusion::{BaseTableAdapter, MetadataEraserExec};

use super::lease::Pin;
use super::native::{dataset, lance};
use super::pictures;
use super::recipe::{OpenTable, OpensTable, Parts, RecipeScan, recipe};
use crate::error::{Error, Result};
use crate::schema;

/// A table at the version that `pin` keeps.
pub(super) async fn read_only(place: &Path, table: lancedb::Table, pin: Pin) -> Result<Arc<dyn TableProvider>> {
    let inner = BaseTableAdapter::try_new(table.base_table().clone()).await?;
    Ok(Arc::new(ReadOnly { place: place.into(), table, inner, pin: Arc::new(pin) }))
}

/// Whether Lance can evaluate this part of a filter: it has neither the session's functions nor its settings, so
/// only what DataFusion itself ships goes down.
fn is_built_in(part: &Expr) -> bool {
    static NAMES: LazyLock<HashSet<String>> = LazyLock::new(|| {
        SessionStateDefaults::default_scalar_functions().iter().map(|function| function.name().to_string()).collect()
    });
    match part {
        Expr::ScalarFunction(call) => NAMES.contains(call.name()),
        // Lance would plan the subquery by itself, without the session's tables
        Expr::InSubquery(_) | Expr::Exists(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_) => false,
        _ => true,
    }
}

/// Rows written around the ids, the lock and the bookkeeping would break them, so a plan only reads: the session
/// carries out changes itself. A filter that arrives here is not the whole condition either: a subquery has become
/// a join by then.
#[derive(Debug)]
struct ReadOnly {
    place: PathBuf,
    table: lancedb::Table,
    inner: BaseTableAdapter,
    pin: Arc<Pin>,
}

impl ReadOnly {
    fn refuse(&self) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Err(match self.table.name() {
            schema::IMAGES => Error::NestedChange,
            table => Error::ReadOnly { table: table.into(), instead: schema::written_by(table) },
        }
        .into())
    }

    /// Lance's scan of columns whose values are large: its batches have as many rows as fit.
    async fn scan_large(
        &self,
        columns: &[&str],
        most: usize,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut scanner = pictures::scanner(&*dataset(&self.table).await?, columns, most)?;
        if let Some(filter) = conjunction(filters.iter().cloned()) {
            scanner.filter_expr(filter);
        }
        scanner.limit(limit.map(|rows| i64::try_from(rows).unwrap_or(i64::MAX)), None).map_err(lance)?;
        Ok(Arc::new(MetadataEraserExec::new(scanner.create_plan().await.map_err(lance)?)))
    }
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
        let schema = self.inner.schema();
        if let Some(parts) = state.config().get_extension::<Parts>() {
            let (place, filter) = (self.place.clone(), conjunction(filters.iter().cloned()));
            let most = (*parts, state.config().batch_size());
            let recipe = recipe((place, &self.table), &schema, projection, filter, limit, most).await?;
            let table = OpenTable(self.table.clone());
            let opens: OpensTable = Arc::new(move |_| Box::pin(std::future::ready(Ok(table.clone()))));
            return Ok(Arc::new(RecipeScan::of(recipe, opens, Some(Arc::clone(&self.pin)))));
        }
        let fields = schema.fields();
        let columns: Vec<&str> = match projection {
            Some(projection) => projection.iter().map(|&at| fields[at].name().as_str()).collect(),
            None => fields.iter().map(|field| field.name().as_str()).collect(),
        };
        if pictures::has_large(&schema, &columns) {
            return Ok(self.scan_large(&columns, state.config().batch_size(), filters, limit).await?);
        }
        self.inner.scan(state, projection, filters, limit).await
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        let mut answers = self.inner.supports_filters_pushdown(filters)?;
        for (answer, filter) in answers.iter_mut().zip(filters) {
            if filter.exists(|part| Ok(!is_built_in(part)))? {
                *answer = TableProviderFilterPushDown::Unsupported;
            }
        }
        Ok(answers)
    }

    async fn insert_into(
        &self,
        _state: &dyn Session,
        _input: Arc<dyn ExecutionPlan>,
        _insert_op: InsertOp,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.refuse()
    }

    async fn delete_from(&self, _state: &dyn Session, _filters: Vec<Expr>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.refuse()
    }

    async fn update(
        &self,
        _state: &dyn Session,
        _assignments: Vec<(String, Expr)>,
        _filters: Vec<Expr>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.refuse()
    }

    async fn truncate(&self, _state: &dyn Session) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.refuse()
    }
}
