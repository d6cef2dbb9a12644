//! Stored pictures are read, and kept, by bytes as well as by rows: more than 2 GiB of them make no array, and no process is
//! as large as its pictures.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, RecordBatch, StringArray, TimestampNanosecondArray, UInt32Array, UInt64Array,
    new_null_array,
};
use futures::TryStreamExt;
use outskirt::schema;
use outskirt::sql::session::Session;
use outskirt::store::Store;

/// Pictures, and bytes of each: 70 MB in one fragment.
const PICTURES: u64 = 700;
const BYTES: usize = 100_000;

async fn database(folder: &Path) -> Store {
    let store = Store::create(folder).await.unwrap();
    let lock = store.lock().await.unwrap();
    let table = store.schema(schema::IMAGES).await.unwrap();
    let rows = PICTURES as usize;
    // no two alike, and nothing to compress
    let picture = |id: u64| -> Vec<u8> {
        let mut state = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let next = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        (0..BYTES).map(next).collect()
    };
    let columns = table.fields().iter().map(|field| -> ArrayRef {
        match field.name().as_str() {
            schema::ID => Arc::new(UInt64Array::from_iter_values(0..PICTURES)),
            schema::BYTES => Arc::new(BinaryArray::from_iter_values((0..PICTURES).map(picture))),
            schema::DATASET | schema::SPLIT | schema::URI | schema::CONTENT_HASH => {
                Arc::new(StringArray::from(vec!["x"; rows]))
            }
            schema::WIDTH | schema::HEIGHT => Arc::new(UInt32Array::from(vec![1; rows])),
            schema::INGESTED_AT => Arc::new(TimestampNanosecondArray::from(vec![0; rows])),
            _ => new_null_array(field.data_type(), rows),
        }
    });
    let batch = RecordBatch::try_new(Arc::clone(&table), columns.collect()).unwrap();
    store.append(&lock, schema::IMAGES, batch).await.unwrap();
    store
}

/// Rows of a query, and the most bytes that one of its batches has.
async fn batches(session: &Session, query: &str) -> (usize, usize) {
    let statement = session.parse(query).unwrap().pop_front().unwrap();
    let batches: Vec<RecordBatch> = session.run(statement).await.unwrap().try_collect().await.unwrap();
    let bytes = |batch: &RecordBatch| -> usize {
        batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap()).sum()
    };
    (batches.iter().map(RecordBatch::num_rows).sum(), batches.iter().map(bytes).max().unwrap_or(0))
}

#[tokio::test]
async fn no_batch_of_a_query_has_more_pictures_than_fit() {
    let folder = tempfile::tempdir().unwrap();
    let store = database(folder.path()).await;
    let session = Session::open(&store).await.unwrap();
    for query in [
        "SELECT * FROM images",
        "SELECT id, bytes FROM images WHERE id % 3 <> 5",
        // a filter that Lance cannot run, a sort and a join gather rows
        "SELECT id, bytes FROM images WHERE random() >= 0.0",
        "SELECT id, bytes FROM images ORDER BY id DESC",
        "SELECT a.id, a.bytes FROM images a JOIN images b ON a.id = b.id",
    ] {
        let (rows, most) = batches(&session, query).await;
        assert_eq!(rows, PICTURES as usize, "{query}");
        assert!(most < 40 << 20, "{query}: {most} bytes in one batch");
    }
    let mut read = store.scan(schema::IMAGES, None, &[schema::ID, schema::BYTES], None).await.unwrap();
    let mut rows = 0;
    while let Some(batch) = read.try_next().await.unwrap() {
        rows += batch.num_rows();
        assert!(batch.num_rows() * BYTES < 40 << 20);
    }
    assert_eq!(rows, PICTURES as usize);
    // without them, batches are as large as ever
    let (rows, most) = batches(&session, "SELECT id FROM images").await;
    assert_eq!((rows, most), (PICTURES as usize, 8 * PICTURES as usize));
}

#[tokio::test]
async fn what_does_not_fit_into_a_query_s_memory_is_spilled() {
    let folder = tempfile::tempdir().unwrap();
    let store = database(folder.path()).await;
    let session = Session::open(&store).await.unwrap();
    let run = async |query: &str| -> outskirt::Result<Vec<RecordBatch>> {
        let statement = session.parse(query).unwrap().pop_front().unwrap();
        let batches: Vec<RecordBatch> = session.run(statement).await?.try_collect().await?;
        Ok(batches)
    };
    run("SET datafusion.runtime.memory_limit = '30M'").await.unwrap();
    run("SET datafusion.execution.target_partitions = 2").await.unwrap();
    let sorted = run("EXPLAIN ANALYZE SELECT value, value % 1000 AS v FROM generate_series(1, 3000000) AS s(value) ORDER BY v, value")
    .await
    .unwrap();
    let text = arrow::util::pretty::pretty_format_batches(&sorted).unwrap().to_string();
    assert!(text.contains("spill_count=") && !text.contains("spill_count=0,"), "{text}");
    // metrics keep all scores, and cannot spill: a clear error, and no process as large as its rows
    let error =
        run("SELECT auroc(value, value % 2 = 0) FROM generate_series(1, 20000000) AS s(value)").await.unwrap_err();
    let error = error.to_string();
    assert!(error.starts_with("not enough memory for this query: "), "{error}");
    assert!(error.contains("SET datafusion.runtime.memory_limit higher"), "{error}");
    run("SET datafusion.runtime.memory_limit = '2G'").await.unwrap();
    let auroc = run("SELECT auroc(value, value % 2 = 0) FROM generate_series(1, 100000) AS s(value)").await.unwrap();
    assert_eq!(auroc[0].num_rows(), 1);
    // what was spilled went with the session
    assert!(folder.path().join("spill").is_dir());
    drop((session, sorted, auroc));
    assert!(!folder.path().join("spill").exists());
}
