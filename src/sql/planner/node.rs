//! The plan node that adds a score as a column, and keeps the rows whose score a query can use.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result, plan_err};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};

use super::bounds::{Bounds, Top};

/// `knn_ood_score(embedding, bank, k, id)` with everything resolved.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Call {
    /// The bank's name.
    pub bank: String,
    /// The version of `images` that it stands for.
    pub version: u64,
    /// Which neighbour.
    pub k: usize,
    /// FLOAT[d], or a list.
    pub embedding: Expr,
    /// UINT64: the row's own entry in the bank is excluded.
    pub id: Option<Expr>,
}

impl Call {
    /// The same, its expressions changed.
    pub(super) fn map(&self, mut change: impl FnMut(Expr) -> Result<Expr>) -> Result<Self> {
        let embedding = change(self.embedding.clone())?;
        let id = self.id.clone().map(change).transpose()?;
        Ok(Self { embedding, id, ..self.clone() })
    }

    /// All columns that it reads.
    pub(super) fn columns(&self) -> impl Iterator<Item = &Column> {
        self.embedding.column_refs().into_iter().chain(self.id.iter().flat_map(Expr::column_refs))
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bank={}@{}, k={}, embedding={}", self.bank, self.version, self.k, self.embedding)?;
        self.id.as_ref().map_or(Ok(()), |id| write!(f, ", without id={id}"))
    }
}

/// The rows of `input` and their scores, in a last column.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scored {
    /// Where the rows come from.
    pub input: Arc<LogicalPlan>,
    /// Which score.
    pub call: Call,
    /// The scores that pass. NULL passes as well where they are unbounded.
    pub bounds: Bounds,
    /// Whether the score is used above; otherwise the column is NULL.
    pub needed: bool,
    /// The rows that an order by score and a limit can use. NULL always passes.
    pub top: Option<Top>,
    /// The score's column.
    pub column: String,
    pub(super) schema: DFSchemaRef,
}

impl Scored {
    pub(super) fn new(input: LogicalPlan, call: Call, bounds: Bounds, needed: bool, column: String) -> Result<Self> {
        let schema = extended(input.schema(), &column)?;
        Ok(Self { input: Arc::new(input), call, bounds, needed, top: None, column, schema })
    }

    /// The score's column, for expressions above.
    pub(super) fn output(&self) -> Column {
        Column::new_unqualified(&self.column)
    }

    pub(super) fn with_input(self, input: LogicalPlan) -> Result<Self> {
        let schema = extended(input.schema(), &self.column)?;
        Ok(Self { input: Arc::new(input), schema, ..self })
    }

    pub(super) fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }

    /// The node of a plan, where it is one.
    pub(super) fn of(plan: &LogicalPlan) -> Option<&Self> {
        match plan {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
            _ => None,
        }
    }
}

/// A schema and one more column.
fn extended(input: &DFSchema, column: &str) -> Result<DFSchemaRef> {
    let fields = input.iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)));
    let score = Arc::new(Field::new(column, DataType::Float32, true));
    let fields = fields.chain([(None, score)]).collect();
    Ok(Arc::new(DFSchema::new_with_metadata(fields, input.metadata().clone())?))
}

impl PartialOrd for Scored {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for Scored {
    fn name(&self) -> &str {
        "KnnOodScore"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        std::iter::once(self.call.embedding.clone()).chain(self.call.id.clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KnnOodScore: {}", self.call)?;
        describe(f, &self.bounds, self.needed, self.top.as_ref())
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let mut exprs = exprs.into_iter();
        let (Some(embedding), Some(input)) = (exprs.next(), inputs.into_iter().next()) else {
            return plan_err!("KnnOodScore has an embedding and an input");
        };
        let call = Call { embedding, id: exprs.next(), ..self.call.clone() };
        Self { call, ..self.clone() }.with_input(input)
    }

    fn necessary_children_exprs(&self, output: &[usize]) -> Option<Vec<Vec<usize>>> {
        let input = self.input.schema();
        let read = self.call.columns().filter_map(|column| input.maybe_index_of_column(column));
        let mut needed: Vec<usize> =
            output.iter().copied().filter(|&at| at < input.fields().len()).chain(read).collect();
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}

/// What EXPLAIN says beside the call.
pub(super) fn describe(f: &mut fmt::Formatter<'_>, bounds: &Bounds, needed: bool, top: Option<&Top>) -> fmt::Result {
    if !bounds.is_unbounded() {
        write!(f, ", keep={bounds}")?;
    }
    if let Some(top) = top {
        write!(f, ", stop={top}")?;
    }
    if needed { Ok(()) } else { f.write_str(", score not needed") }
}
