//! Embeddings of one's own to scores: `cargo run --example own_embeddings`.

#![allow(clippy::print_stdout, reason = "an example prints")]

use std::error::Error;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, RecordBatch, RecordBatchIterator};
use arrow::datatypes::Float32Type;
use futures::TryStreamExt;
use outskirt::bank::{self, BankSpec};
use outskirt::ingest::{OwnOptions, ingest_batches};
use outskirt::sql::session::Session;
use outskirt::store::Store;

/// What a model gave: rows near a direction, in the plane.
fn embeddings(angles: impl Iterator<Item = f32>) -> Result<RecordBatch, Box<dyn Error>> {
    let rows = angles.map(|angle| Some([Some(angle.cos()), Some(angle.sin())]));
    let column: ArrayRef = Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(rows, 2));
    Ok(RecordBatch::try_from_iter([("embedding", column)])?)
}

/// The example.
#[tokio::main]
pub async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let store = Store::create(&folder.path().join("my.db")).await?;
    for (split, count, step) in [("train", 200, 0.001), ("val", 40, 0.005), ("test", 8, 0.25)] {
        let rows = embeddings((0..count).map(|row| row as f32 * step))?;
        let options = OwnOptions {
            column: "embedding".into(),
            backbone: "my_model".into(),
            version: "2026-01".into(),
            dataset: Some("angles".into()),
            split: Some(split.into()),
            ..OwnOptions::default()
        };
        let schema = rows.schema();
        let batches = RecordBatchIterator::new([Ok(rows)], schema);
        let summary = ingest_batches(&store, batches, split, &options, |_| (), |_, _| ()).await?;
        assert_eq!(summary.added, count);
    }
    let bank = BankSpec {
        name: "known".into(),
        backbone: "my_model".into(),
        predicate: "split = 'train'".into(),
        k: 5,
        ..BankSpec::default()
    };
    bank::create(&store, &bank).await?;
    bank::calibrate(&store, "known", "split = 'val'", None).await?;

    let session = Session::open(&store).await?;
    let query = "SELECT uri, knn_ood_score(my_model, 'known') AS score, is_ood(my_model, 'known') AS is_ood
                 FROM images WHERE split = 'test' ORDER BY score";
    let rows: Vec<RecordBatch> = session.execute(query).await?.try_collect().await?;
    println!("{}", arrow::util::pretty::pretty_format_batches(&rows)?);
    Ok(())
}
