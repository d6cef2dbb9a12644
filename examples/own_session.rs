//! Outskirt's functions in a DataFusion session of one's own, over a table of one's own: `cargo run --example own_session`.

#![allow(clippy::print_stdout, reason = "an example prints")]

use std::error::Error;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, RecordBatch, RecordBatchIterator, StringArray};
use arrow::datatypes::Float32Type;
use datafusion::execution::SessionStateBuilder;
use outskirt::bank::{self, BankSpec};
use outskirt::ingest::{OwnOptions, ingest_batches};
use outskirt::sql::policy::Policy;
use outskirt::sql::session::in_own_session;
use outskirt::store::Store;

fn vectors(rows: &[[f32; 2]]) -> ArrayRef {
    let rows = rows.iter().map(|row| Some(row.map(Some)));
    Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(rows, 2))
}

/// The example.
#[tokio::main]
pub async fn main() -> Result<(), Box<dyn Error>> {
    // a database with a bank, as another program may have made it
    let folder = tempfile::tempdir()?;
    let store = Store::create(&folder.path().join("shop.db")).await?;
    let options = OwnOptions {
        column: "v".into(),
        backbone: "clip".into(),
        version: "ViT-B-32/openai".into(),
        dataset: Some("shop".into()),
        ..OwnOptions::default()
    };
    let rows = RecordBatch::try_from_iter([("v", vectors(&[[1.0, 0.0], [0.9, 0.1], [1.0, 0.2]]))])?;
    let batches = RecordBatchIterator::new([Ok(rows.clone())], rows.schema());
    ingest_batches(&store, batches, "articles", &options, |_| (), |_, _| ()).await?;
    let bank = BankSpec {
        name: "shop".into(),
        backbone: "clip".into(),
        predicate: "true".into(),
        k: 1,
        ..BankSpec::default()
    };
    bank::create(&store, &bank).await?;

    // one's own session, with one's own table
    let builder = SessionStateBuilder::new().with_default_features();
    let context = in_own_session(&store, builder, &Policy::default()).await?;
    let names: ArrayRef = Arc::new(StringArray::from(vec!["shirt", "tree"]));
    let mine = RecordBatch::try_from_iter([("name", names), ("v", vectors(&[[0.8, 0.1], [-1.0, 0.3]]))])?;
    context.register_batch("mine", mine)?;
    let query = "SELECT name, knn_ood_score(v, 'shop') AS score FROM mine ORDER BY score DESC LIMIT 1";
    let rows = context.sql(query).await?.collect().await?;
    let shown = arrow::util::pretty::pretty_format_batches(&rows)?.to_string();
    assert!(shown.contains("tree"), "{shown}");
    println!("{shown}");
    Ok(())
}
