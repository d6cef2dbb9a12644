//! A small database whose scores can be checked with pencil and paper, made without a network.
//!
//! Embeddings of the backbone `toy` lie on the unit circle (in 3 numbers, scaled by 2): ID images at small
//! angles, OOD images around 90°. The distance of two of them is 2·sin(half the angle between them).

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeListBuilder, Float32Builder, RecordBatch, StringArray, TimestampNanosecondArray, UInt32Array,
    UInt64Array, new_null_array,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use clap::Parser;
use futures::TryStreamExt;
use outskirt::bank::{self, BankSpec, Definition};
use outskirt::cli::{Cli, Console, run};
use outskirt::index::IndexKind;
use outskirt::schema;
use outskirt::sql::session::Session;
use outskirt::store::{EmbeddingColumn, Store};

pub const TOY: &str = "toy";

/// 40 training images at 0°, 0.5°, … 19.5°; 20 for calibration; 20 test images; 10 OOD images at 90°, 91°, …;
/// and one image that `toy` has not seen.
pub async fn toy_database(folder: &Path) -> Store {
    let angle = |degrees: f64| {
        let radians = degrees.to_radians();
        Some(vec![2.0 * radians.cos() as f32, 2.0 * radians.sin() as f32, 0.0])
    };
    let mut rows = Vec::new();
    rows.extend((0..40).map(|i| ("id", "train", angle(0.5 * f64::from(i)))));
    rows.extend((0..20).map(|i| ("id", "val", angle(0.83 * f64::from(i) + 0.2137))));
    rows.extend((0..20).map(|i| ("id", "test", angle(0.95 * f64::from(i) + 0.1))));
    rows.extend((0..10).map(|i| ("ood", "test", angle(90.0 + f64::from(i)))));
    rows.push(("unseen", "test", None));
    database(folder, 3, &rows).await
}

/// Dataset, split and embedding of an image.
pub type Image = (&'static str, &'static str, Option<Vec<f32>>);

/// Images with embeddings of `toy`, of so many numbers.
pub async fn database(folder: &Path, dimension: usize, rows: &[Image]) -> Store {
    let store = Store::create(folder).await.unwrap();
    let lock = store.lock().await.unwrap();
    let column = EmbeddingColumn { backbone: TOY.into(), sha256: "a".repeat(64), dimension, precision: "f32".into() };
    store.add_embedding_column(&lock, &column).await.unwrap();
    store.append(&lock, schema::IMAGES, batch(&store, dimension, rows).await).await.unwrap();
    store
}

async fn batch(store: &Store, dimension: usize, rows: &[Image]) -> RecordBatch {
    let table = store.schema(schema::IMAGES).await.unwrap();
    let n = rows.len();
    let mut embeddings = FixedSizeListBuilder::new(Float32Builder::new(), dimension as i32);
    for (_, _, embedding) in rows {
        match embedding {
            Some(embedding) => embeddings.values().append_slice(embedding),
            None => embeddings.values().append_nulls(dimension),
        }
        embeddings.append(embedding.is_some());
    }
    let embeddings: ArrayRef = Arc::new(embeddings.finish());
    let text = |get: &dyn Fn(usize) -> String| -> ArrayRef { Arc::new(StringArray::from_iter_values((0..n).map(get))) };
    let columns = table.fields().iter().map(|field| -> ArrayRef {
        match field.name().as_str() {
            schema::ID => Arc::new(UInt64Array::from_iter_values(1..=n as u64)),
            schema::DATASET => text(&|i| rows[i].0.into()),
            schema::SPLIT => text(&|i| rows[i].1.into()),
            schema::URI => text(&|i| format!("/pictures/{i}.png")),
            schema::CONTENT_HASH => text(&|i| format!("{i:064x}")),
            schema::WIDTH | schema::HEIGHT => Arc::new(UInt32Array::from(vec![32; n])),
            schema::INGESTED_AT => Arc::new(TimestampNanosecondArray::from(vec![0; n])),
            TOY => Arc::clone(&embeddings),
            _ => new_null_array(field.data_type(), n),
        }
    });
    RecordBatch::try_new(Arc::clone(&table), columns.collect()).unwrap()
}

/// The bank `circle`: the training images, k = 5.
pub fn circle(index: IndexKind) -> BankSpec {
    BankSpec {
        name: "circle".into(),
        backbone: TOY.into(),
        predicate: "dataset = 'id' AND split = 'train'".into(),
        k: 5,
        alpha: 1.0,
        seed: 0,
        index,
    }
}

/// The toy database with the bank `circle`, calibrated.
pub async fn calibrated(folder: &Path, index: IndexKind) -> (Store, Definition) {
    let store = toy_database(folder).await;
    let bank = bank::create(&store, &circle(index)).await.unwrap();
    bank::calibrate(&store, "circle", "dataset = 'id' AND split = 'val'", None).await.unwrap();
    (store, bank)
}

/// What a command line printed: (results, everything else), or its error as the user sees it.
pub async fn outskirt(db: &Path, arguments: &[&str]) -> Result<(String, String), String> {
    let db = db.to_str().unwrap();
    let line = ["outskirt", "--db", db, "--wait", "0"].into_iter().chain(arguments.iter().copied());
    let cli = Cli::try_parse_from(line).map_err(|error| error.to_string())?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let trusted = Some(Path::new(db).with_extension("trusted"));
    let result = run(cli, &mut Console::new(&mut out, &mut err).trusting(trusted)).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    result.map(|()| (text(out), text(err))).map_err(|error| error.to_string())
}

/// The rows of the last statement, as text.
pub async fn rows(session: &Session, text: &str) -> Result<Vec<String>, String> {
    let batches: Vec<RecordBatch> =
        async { session.execute(text).await?.try_collect().await.map_err(outskirt::Error::from) }
            .await
            .map_err(|error: outskirt::Error| error.to_string())?;
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in &batches {
        let columns: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        rows.extend(
            (0..batch.num_rows())
                .map(|row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|")),
        );
    }
    Ok(rows)
}
