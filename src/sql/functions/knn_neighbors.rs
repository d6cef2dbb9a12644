//! `knn_neighbors(embedding, bank [, k] [, id])`: the evidence behind a score.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, ListArray, StructArray, UInt64Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::ptr_eq::PtrEq;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use datafusion_macros::user_doc;

use super::{arguments, settings};
use crate::bank::Banks;
use crate::index::Neighbor;

const NAME: &str = "knn_neighbors";

/// LIST<STRUCT<id, distance>>, nearest first.
#[user_doc(
    doc_section(label = "Scores"),
    description = "A list of STRUCT(id UINT64, distance FLOAT): the k nearest images of the bank, nearest first, of equally near ones the one with the smaller id. `unnest` makes rows of it, to join back to `images`. The last distance is `knn_ood_score`.",
    syntax_example = "knn_neighbors(embedding, bank [, k] [, id])",
    sql_example = "```sql
SELECT q.uri, near['distance'] AS distance, i.uri AS neighbor
FROM (SELECT uri, unnest(knn_neighbors(resnet18_cifar10, 'cifar10', 5)) AS near
      FROM images WHERE dataset = 'camera_7') AS q
JOIN images AS i ON i.id = near['id'] ORDER BY q.uri, distance;
```",
    argument(name = "embedding", description = "As for `knn_ood_score`, as are the others.")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct KnnNeighbors {
    signature: Signature,
    banks: PtrEq<Arc<Banks>>,
}

impl KnnNeighbors {
    pub(super) fn new(banks: &Arc<Banks>) -> Self {
        Self { signature: Signature::user_defined(Volatility::Stable), banks: Arc::clone(banks).into() }
    }
}

fn fields() -> Fields {
    [Field::new("id", DataType::UInt64, false), Field::new("distance", DataType::Float32, false)].into_iter().collect()
}

fn item() -> FieldRef {
    Arc::new(Field::new("item", DataType::Struct(fields()), true))
}

/// A list per row; `None` gives NULL.
fn lists(found: impl Iterator<Item = Option<Vec<Neighbor>>>) -> ArrayRef {
    let (mut ids, mut distances, mut lengths, mut valid) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for near in found {
        valid.push(near.is_some());
        let near = near.unwrap_or_default();
        lengths.push(near.len());
        ids.extend(near.iter().map(|near| near.id));
        distances.extend(near.iter().map(|near| near.distance));
    }
    let columns: Vec<ArrayRef> = vec![Arc::new(UInt64Array::from(ids)), Arc::new(Float32Array::from(distances))];
    let values = StructArray::new(fields(), columns, None);
    Arc::new(ListArray::new(
        item(),
        OffsetBuffer::from_lengths(lengths),
        Arc::new(values),
        Some(NullBuffer::from(valid)),
    ))
}

impl ScalarUDFImpl for KnnNeighbors {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        arguments::coerce_scored(NAME, types)
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        plan_err!("{NAME}: planned by its arguments, see return_field_from_args")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        arguments::planned_scored(NAME, &self.banks, &args)?;
        Ok(arguments::result_field(NAME, DataType::List(item())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let options = settings::search(&args.config_options)?;
        arguments::each_row(NAME, &self.banks, &args, options, |bank, asked| {
            let near = bank.nearest(asked.queries, asked.k, asked.own)?;
            Ok(lists(asked.spread(near.into_iter().map(Some).collect())))
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}
