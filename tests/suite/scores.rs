//! Scores kept as columns: only new and stale rows are computed, and nothing is lost when a run ends early.

use outskirt::bank::{self, BankSpec, keep_scores};
use outskirt::index::IndexKind;
use outskirt::store::Store;

use super::fixture::{calibrated, circle, outskirt};

async fn count(db: &std::path::Path, condition: &str) -> String {
    let query = format!("SELECT count(*) FROM images WHERE {condition}");
    let (rows, _) = outskirt(db, &["sql", &query, "--format", "csv"]).await.unwrap();
    rows.lines().last().unwrap().to_owned()
}

#[tokio::test]
async fn only_new_and_stale_rows_are_computed() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    let (store, bank) = calibrated(db, IndexKind::Exact).await;
    let version = bank.table_version;
    let test = ["score", "circle", "--where", "split = 'test'"];
    let (said, _) = outskirt(db, &test).await.unwrap();
    let end = format!("to images.circle_score (k = 5, version {version}), 0 were up to date\n");
    assert_eq!(said, format!("bank circle: 30 scores written {end}"));
    let same = "circle_score = knn_ood_score(toy, 'circle')";
    assert_eq!(count(db, same).await, "30");
    assert_eq!(count(db, &format!("circle_score_version = {version}")).await, "30");
    let (said, _) = outskirt(db, &test).await.unwrap();
    assert!(said.contains("0 scores written") && said.contains("30 were up to date"), "{said}");
    // the rest; the image without an embedding has no score
    let (said, _) = outskirt(db, &["score", "circle"]).await.unwrap();
    assert!(said.contains("60 scores written") && said.contains("30 were up to date"), "{said}");
    assert_eq!(count(db, same).await, "90");
    assert_eq!(count(db, "circle_score IS NULL AND dataset = 'unseen'").await, "1");
    // embeddings and their marks are as they were
    assert_eq!(store.embedding_columns().await.unwrap()[0].backbone, "toy");
    assert_eq!(count(db, "is_ood(toy, 'circle') AND dataset = 'ood'").await, "10");

    // a bank that reads the scores does not follow them unseen
    let low = BankSpec { name: "low".into(), predicate: "circle_score < 0.02".into(), ..circle(IndexKind::Exact) };
    bank::create(&store, &low).await.unwrap();

    // another bank under the same name stands for another version: every score is stale
    bank::drop_bank(&store, "circle").await.unwrap();
    bank::create(&store, &BankSpec { predicate: "split = 'val'".into(), ..circle(IndexKind::Exact) }).await.unwrap();
    assert_eq!(count(db, same).await, "0");
    let (said, _) = outskirt(db, &["score", "circle"]).await.unwrap();
    assert!(said.contains("90 scores written"), "{said}");
    assert_eq!(count(db, same).await, "90");
    let (listed, _) = outskirt(db, &["bank", "list"]).await.unwrap();
    let state = |name: &str| listed.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(state("circle").contains("current") && state("low").contains("behind"), "{listed}");
}

#[tokio::test]
async fn a_run_that_is_cut_off_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    let (store, bank) = calibrated(db, IndexKind::Exact).await;
    // as if it had ended after its first commit: some rows are done
    keep_scores(&store, "circle", Some("id <= 50"), None, |_, _| {}).await.unwrap();
    // and one was done against an older version of the bank
    let lock = store.lock().await.unwrap();
    let older = r#"[{"id": 7, "circle_score": 1.5, "circle_score_version": 1}]"#;
    let schema = store.schema("images").await.unwrap();
    let fields =
        ["id", "circle_score", "circle_score_version"].map(|name| schema.field_with_name(name).unwrap().clone());
    let schema = std::sync::Arc::new(arrow::datatypes::Schema::new(fields.to_vec()));
    let mut decoder = arrow::json::ReaderBuilder::new(schema).build_decoder().unwrap();
    decoder.serialize(&serde_json::from_str::<Vec<serde_json::Value>>(older).unwrap()).unwrap();
    store.upsert(&lock, "images", &["id"], decoder.flush().unwrap().unwrap(), false).await.unwrap();
    drop(lock);
    let told = std::cell::RefCell::new(Vec::new());
    let store = Store::open(db).await.unwrap();
    let kept =
        keep_scores(&store, "circle", None, None, |done, all| told.borrow_mut().push((done, all))).await.unwrap();
    assert_eq!((kept.computed, kept.fresh, kept.bank.table_version), (41, 49, bank.table_version));
    assert_eq!(told.into_inner(), [(41, 41)]);
    assert_eq!(count(db, "circle_score = knn_ood_score(toy, 'circle')").await, "90");
}

#[tokio::test]
async fn columns_that_are_something_else_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    let (store, _) = calibrated(db, IndexKind::Exact).await;
    let refused = async |arguments: &[&str]| outskirt(db, arguments).await.unwrap_err();
    let error = refused(&["score", "circle", "--into", "label"]).await;
    assert!(
        error
            .starts_with("column 'label' of images holds something else, and not the scores of bank 'circle' at k = 5"),
        "{error}"
    );
    let error = refused(&["score", "circle", "--into", "My Score"]).await;
    assert!(error.contains("'My Score' cannot name a column"), "{error}");
    let error = refused(&["score", "square"]).await;
    assert!(error.contains("unknown bank 'square': known are circle"), "{error}");
    let error = refused(&["score", "circle", "--where", "dataset = 'none'"]).await;
    assert!(error.contains("no images match (dataset = 'none')"), "{error}");
    let error = refused(&["score", "circle", "--where", "colour = 'red'"]).await;
    assert!(error.starts_with("predicate (colour = 'red'): "), "{error}");
    for predicate in ["id < 50 -- all", "true AS x"] {
        let error = refused(&["score", "circle", "--where", predicate]).await;
        assert!(error.starts_with(&format!("predicate ({predicate}): ")) && error.lines().count() == 1, "{error}");
    }
    outskirt(db, &["score", "circle", "--into", "s"]).await.unwrap();
    bank::create(&store, &BankSpec { name: "other".into(), ..circle(IndexKind::Exact) }).await.unwrap();
    let error = refused(&["score", "other", "--into", "s"]).await;
    assert!(error.contains("holds scores of bank 'circle' at k = 5, and not the scores of bank 'other'"), "{error}");
    let error = refused(&["sql", "UPDATE images SET s = 0 WHERE id = 1"]).await;
    assert!(error.contains("scores come from the embedding, 'outskirt score circle' writes them"), "{error}");
    outskirt(db, &["sql", "ALTER TABLE images DROP COLUMN s"]).await.unwrap();
    let error = refused(&["sql", "SELECT s FROM images"]).await;
    assert!(error.contains("there is no column 's'"), "{error}");
    let held = store.lock().await.unwrap();
    let error = refused(&["score", "circle"]).await;
    assert!(error.starts_with("another program is writing to "), "{error}");
    drop(held);
}
