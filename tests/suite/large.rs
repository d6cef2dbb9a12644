//! Not a test: the rows of `benches/changes.py`, which INSERT cannot write, since embeddings come from pictures.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt32Array,
    UInt64Array, new_null_array,
};
use arrow::datatypes::DataType;
use outskirt::schema;
use outskirt::store::{Change, Store};

/// Rows of a commit, as an ingest of small pictures and an `optimize` leave them.
const AT_ONCE: u64 = 100_000;

#[tokio::test]
#[ignore = "makes OUTSKIRT_LARGE_ROWS rows in the database OUTSKIRT_LARGE_DB"]
async fn rows_of_a_large_table() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let store = Store::open(Path::new(&variable("OUTSKIRT_LARGE_DB"))).await.unwrap();
    let lock = store.lock().await.unwrap();
    let table = store.schema(schema::IMAGES).await.unwrap();
    let rows: u64 = variable("OUTSKIRT_LARGE_ROWS").parse().unwrap();
    let before = store.version(schema::IMAGES).await.unwrap();
    let first = store.next_id().await.unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for begin in (first..first + rows).step_by(AT_ONCE as usize) {
        let ids = begin..(begin + AT_ONCE).min(first + rows);
        let count = (ids.end - ids.start) as usize;
        let text = |value: &dyn Fn(u64) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(ids.clone().map(value)))
        };
        let columns = table.fields().iter().map(|field| -> ArrayRef {
            match field.name().as_str() {
                schema::ID => Arc::new(UInt64Array::from_iter_values(ids.clone())),
                schema::DATASET => text(&|_| "large".into()),
                schema::SPLIT => text(&|_| "train".into()),
                schema::URI => text(&|id| format!("/pictures/{}/{id:08}.png", id / 10_000)),
                schema::CONTENT_HASH => {
                    text(&|id| format!("{:064x}", u128::from(id) * 0x9e37_79b9_7f4a_7c15_f39c_c060))
                }
                schema::LABEL => text(&|id| format!("class {}", id % 100)),
                schema::WIDTH | schema::HEIGHT => Arc::new(UInt32Array::from(vec![32; count])),
                schema::INGESTED_AT => Arc::new(TimestampNanosecondArray::from(vec![0; count])),
                _ => match field.data_type() {
                    DataType::FixedSizeList(item, width) => {
                        let random = |_| {
                            state ^= state << 13;
                            state ^= state >> 7;
                            state ^= state << 17;
                            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
                        };
                        let values = Float32Array::from_iter_values((0..count * *width as usize).map(random));
                        Arc::new(FixedSizeListArray::new(Arc::clone(item), *width, Arc::new(values), None))
                    }
                    other => new_null_array(other, count),
                },
            }
        });
        let batch = RecordBatch::try_new(Arc::clone(&table), columns.collect()).unwrap();
        store.append(&lock, schema::IMAGES, batch).await.unwrap();
    }
    store.record(&lock, before, Change { row_count: rows, ..Change::of("ingest") }).await.unwrap();
}
