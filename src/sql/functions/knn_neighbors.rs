//! `knn_neighbors(embedding, bank [, k] [, id])`: the evidence behind a score.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, ListArray, StructArray, UInt64Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion_macros::user_doc;

use super::arguments::OF_SCORE;
use super::bank_function::{BankFunction, Compute};
use super::query_vectors::QueryVectors;
use crate::bank::Bank;
use crate::error::Result;
use crate::index::Neighbor;

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
struct KnnNeighbors;

pub(super) static FUNCTION: BankFunction = BankFunction {
    name: "knn_neighbors",
    parameters: OF_SCORE,
    documentation: || KnnNeighbors.doc(),
    plan: |_| Ok(Field::new(FUNCTION.name, DataType::List(item()), true)),
    compute: Compute::Column(|call, queries, options| {
        let neighbors = knn_neighbors(&*call.open(options)?, queries, call.k)?;
        Ok(lists(queries.scatter(neighbors.into_iter().map(Some).collect())))
    }),
};

fn fields() -> Fields {
    [Field::new("id", DataType::UInt64, false), Field::new("distance", DataType::Float32, false)].into_iter().collect()
}

fn item() -> FieldRef {
    Arc::new(Field::new("item", DataType::Struct(fields()), true))
}

/// A list per row; `None` gives NULL.
fn lists(rows: impl Iterator<Item = Option<Vec<Neighbor>>>) -> ArrayRef {
    let (mut ids, mut distances, mut lengths, mut valid) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for neighbors in rows {
        valid.push(neighbors.is_some());
        let neighbors = neighbors.unwrap_or_default();
        lengths.push(neighbors.len());
        ids.extend(neighbors.iter().map(|neighbor| neighbor.id));
        distances.extend(neighbors.iter().map(|neighbor| neighbor.distance));
    }
    let columns: Vec<ArrayRef> = vec![Arc::new(UInt64Array::from(ids)), Arc::new(Float32Array::from(distances))];
    let values = StructArray::new(fields(), columns, None);
    let (ends, nulls) = (OffsetBuffer::from_lengths(lengths), NullBuffer::from(valid));
    Arc::new(ListArray::new(item(), ends, Arc::new(values), Some(nulls)))
}

/// The k nearest rows of each query, nearest first.
fn knn_neighbors(bank: &Bank, queries: &QueryVectors, k: usize) -> Result<Vec<Vec<Neighbor>>> {
    bank.nearest(queries.vectors(), k, queries.excluded())
}
