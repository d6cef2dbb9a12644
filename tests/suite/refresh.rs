//! Banks that follow their table: whatever its history, a refreshed bank scores like one made from scratch.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, FixedSizeListArray, Float32Array, RecordBatch, UInt64Array};
use arrow::datatypes::{Field, Float32Type, Schema, UInt64Type};
use futures::TryStreamExt;
use outskirt::bank::{self, BankSpec, refresh};
use outskirt::index::vectors::Rows;
use outskirt::index::{Hnsw, HnswOptions, IndexKind, Storage};
use outskirt::schema;
use outskirt::sql::session::Session;
use outskirt::store::{EmbeddingColumn, Store};
use sha2::{Digest, Sha256};

use super::fixture::{Image, TOY, calibrated, circle, database, outskirt};

const D: usize = 8;

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % n as u64) as usize
    }

    fn embedding(&mut self) -> Vec<f32> {
        (0..D).map(|_| self.below(2001) as f32 / 1000.0 - 1.0).map(|x| if x == 0.0 { 0.5 } else { x }).collect()
    }
}

async fn run(session: &Session, sql: &str) -> Vec<RecordBatch> {
    let mut rows = Vec::new();
    for statement in session.parse(sql).unwrap() {
        let stream = session.run(statement).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        rows = stream.try_collect().await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    rows
}

async fn change_embeddings(store: &Store, ids: Vec<u64>, random: &mut Random) {
    let item = Arc::new(Field::new("item", arrow::datatypes::DataType::Float32, true));
    let values: Vec<f32> = ids.iter().flat_map(|_| random.embedding()).collect();
    let embeddings = FixedSizeListArray::try_new(item, D as i32, Arc::new(Float32Array::from(values)), None).unwrap();
    let table = store.schema(schema::IMAGES).await.unwrap();
    let fields = [schema::ID, TOY].map(|name| table.field_with_name(name).unwrap().clone()).to_vec();
    let columns: Vec<ArrayRef> = vec![Arc::new(UInt64Array::from(ids)), Arc::new(embeddings)];
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let lock = store.lock().await.unwrap();
    store.upsert(&lock, schema::IMAGES, &[schema::ID], batch, false).await.unwrap();
}

async fn ids(session: &Session) -> Vec<u64> {
    let rows = run(session, "SELECT id FROM images ORDER BY id").await;
    rows.iter().flat_map(|batch| batch.column(0).as_primitive::<UInt64Type>().values().to_vec()).collect()
}

/// Scores of all images, and the nearest neighbour of each.
async fn scores(store: &Store, bank: &str, search: &str) -> Vec<f32> {
    let session = Session::open(store).await.unwrap();
    run(&session, &format!("SET outskirt.search = '{search}'")).await;
    let query = format!("SELECT knn_ood_score({TOY}, '{bank}') FROM images WHERE {TOY} IS NOT NULL ORDER BY id");
    let rows = run(&session, &query).await;
    rows.iter().flat_map(|batch| batch.column(0).as_primitive::<Float32Type>().values().to_vec()).collect()
}

async fn one_history(seed: u64, steps: usize) {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(seed);
    let rows: Vec<Image> = (0..400)
        .map(|i| ("drawn", if i % 4 == 0 { "test" } else { "train" }, (i % 50 != 7).then(|| random.embedding())))
        .collect();
    let store = database(&folder.path().join("db"), D, &rows).await;
    let spec = |name: &str, alpha: f64, index: IndexKind| BankSpec {
        name: name.into(),
        predicate: "split = 'train'".into(),
        alpha,
        index,
        ..circle(IndexKind::Exact)
    };
    let kinds = [
        ("whole", 1.0, IndexKind::Exact),
        ("half", 0.5, IndexKind::Exact),
        ("graph", 1.0, IndexKind::Hnsw(Storage::F32)),
    ];
    for (name, alpha, index) in kinds {
        bank::create(&store, &spec(name, alpha, index)).await.unwrap();
    }
    for step in 0..steps {
        for _ in 0..=random.below(3) {
            let session = Session::open(&store).await.unwrap();
            let all = ids(&session).await;
            let some = |random: &mut Random, most: usize| -> Vec<u64> {
                let mut some: Vec<u64> = (0..=random.below(most)).map(|_| all[random.below(all.len())]).collect();
                some.sort_unstable();
                some.dedup();
                some
            };
            let list = |ids: &[u64]| ids.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
            match random.below(7) {
                0 => {
                    let some = some(&mut random, 20);
                    run(&session, &format!("DELETE FROM images WHERE id IN ({})", list(&some))).await;
                }
                1 => {
                    let some = some(&mut random, 20);
                    let to = ["train", "test"][random.below(2)];
                    run(&session, &format!("UPDATE images SET split = '{to}' WHERE id IN ({})", list(&some))).await;
                }
                2 => {
                    run(&session, "UPDATE images SET label = 'seen' WHERE split = 'train'").await;
                }
                3 => change_embeddings(&store, some(&mut random, 20), &mut random).await,
                4 => {
                    let uri = format!("/new{}.png", random.below(1 << 30));
                    let insert = format!(
                        "INSERT INTO images (dataset, split, uri, width, height, content_hash) VALUES \
                         ('drawn', 'train', '{uri}', 1, 1, '')"
                    );
                    run(&session, &insert).await;
                    let new = *ids(&session).await.last().unwrap();
                    change_embeddings(&store, vec![new], &mut random).await;
                }
                5 => {
                    // in any state of the banks, with versions of it being read or not
                    let still = (random.below(2) == 0).then_some(session);
                    bank::optimize(&store, std::time::Duration::ZERO).await.unwrap();
                    drop(still);
                }
                _ => {
                    outskirt(store.folder(), &["score", "whole"]).await.unwrap();
                }
            }
        }
        for (name, alpha, index) in kinds {
            let refreshed = refresh(&store, name).await.unwrap_or_else(|error| panic!("{seed}, {step}: {error}"));
            let fresh = bank::create(&store, &spec("fresh", alpha, IndexKind::Exact)).await.unwrap();
            assert_eq!(refreshed.bank.row_count, fresh.row_count, "{seed}, {step}, {name}");
            let truth = scores(&store, "fresh", "exact").await;
            assert_eq!(scores(&store, name, "exact").await, truth, "{seed}, {step}, {name}");
            if index != IndexKind::Exact {
                let found = scores(&store, name, "hnsw").await;
                let wrong = found.iter().zip(&truth).filter(|(found, truth)| (**found - **truth).abs() > 1e-5).count();
                assert!(wrong * 100 <= truth.len(), "{seed}, {step}: {wrong} of {} k-th distances", truth.len());
            }
            bank::drop_bank(&store, "fresh").await.unwrap();
        }
    }
}

#[tokio::test]
async fn any_history_gives_the_scores_of_a_bank_made_from_scratch() {
    for seed in 1..=4 {
        one_history(seed, 6).await;
    }
}

/// A row that stays in its index as it was, beside what it became, makes one row too many: the index was built again, which is
/// right, and as slow as making the bank.
#[tokio::test]
async fn a_changed_embedding_takes_the_old_one_s_place_in_an_index() {
    for (kind, search) in [(IndexKind::Exact, "exact"), (IndexKind::Hnsw(Storage::F32), "hnsw")] {
        let folder = tempfile::tempdir().unwrap();
        let db = folder.path();
        let mut random = Random(7);
        let rows: Vec<Image> = (0..60).map(|_| ("id", "train", Some(random.embedding()))).collect();
        let store = database(db, D, &rows).await;
        bank::create(&store, &circle(kind)).await.unwrap();
        change_embeddings(&store, vec![3, 17], &mut random).await;
        let (said, _) = outskirt(db, &["bank", "refresh", "circle"]).await.unwrap();
        assert!(said.contains("0 embeddings added, 0 removed, 2 changed; 60 now"), "{said}");
        let nearest = |bank: &str| {
            format!(
                "SET outskirt.search = '{search}'; \
                 SELECT id, knn_neighbors(toy, '{bank}', 1)[1]['id'] AS n, knn_ood_score(toy, '{bank}', 1) AS s \
                 FROM images ORDER BY id"
            )
        };
        let (found, notices) = sql(db, &nearest("circle")).await.unwrap();
        assert_eq!(notices, "", "{search}");
        let fresh = BankSpec { name: "fresh".into(), ..circle(kind) };
        bank::create(&store, &fresh).await.unwrap();
        assert_eq!(found, sql(db, &nearest("fresh")).await.unwrap().0, "{search}");
    }
}

#[tokio::test]
async fn an_index_file_that_is_not_there_is_made_by_a_refresh() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    drop(calibrated(db, IndexKind::Exact).await);
    std::fs::remove_file(db.join("indexes/circle.exact")).unwrap();
    outskirt(db, &["delete", "--where", "id = 1", "--no-refresh"]).await.unwrap();
    let (said, _) = outskirt(db, &["bank", "refresh", "circle"]).await.unwrap();
    assert!(said.contains("1 removed") && said.contains("its index files were made anew"), "{said}");
    assert!(db.join("indexes/circle.exact").is_file());
}

#[tokio::test]
async fn a_bank_does_not_follow_to_the_embeddings_of_another_network() {
    let folder = tempfile::tempdir().unwrap();
    let (store, bank) = calibrated(folder.path(), IndexKind::Exact).await;
    let lock = store.lock().await.unwrap();
    store.drop_column(&lock, schema::IMAGES, TOY).await.unwrap();
    let (backbone, precision) = (TOY.to_owned(), "f32".to_owned());
    let other = EmbeddingColumn { backbone, sha256: "b".repeat(64), dimension: bank.dimension, precision };
    store.add_embedding_column(&lock, &other).await.unwrap();
    drop(lock);
    let error = outskirt(folder.path(), &["bank", "refresh", "circle"]).await.unwrap_err();
    assert!(error.starts_with("no images have an embedding of backbone 'toy'"), "{error}");
    assert_eq!(bank::find(&store, "circle").await.unwrap().table_version, bank.table_version);
}

async fn sql(db: &Path, query: &str) -> Result<(String, String), String> {
    outskirt(db, &["sql", query, "--format", "csv"]).await
}

#[tokio::test]
async fn a_bank_that_is_behind_is_used_with_a_notice_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    let (_, bank) = calibrated(db, IndexKind::Hnsw(Storage::F32)).await;
    let query = "SELECT count(*) FROM images WHERE knn_ood_score(toy, 'circle') > 1";
    assert_eq!(sql(db, query).await.unwrap(), ("count(*)\n10\n".into(), String::new()));
    sql(db, "DELETE FROM images WHERE id IN (1, 2)").await.unwrap();
    let behind = format!(
        "bank circle follows images up to version {}, which is at {}: 'outskirt bank refresh circle' brings it up to date",
        bank.table_version,
        bank.table_version + 1
    );
    assert_eq!(sql(db, query).await.unwrap(), ("count(*)\n10\n".into(), format!("{behind}\n")));
    assert_eq!(sql(db, &format!("SET outskirt.stale_bank = 'error'; {query}")).await.unwrap_err(), behind);
    assert_eq!(sql(db, &format!("SET outskirt.stale_bank = 'ignore'; {query}")).await.unwrap().1, "");
    // the same session notices what it did itself
    let both = format!("UPDATE images SET label = 'x' WHERE id = 3; {query}");
    assert!(sql(db, &both).await.unwrap().1.contains("brings it up to date"));

    let (said, _) = outskirt(db, &["bank", "refresh", "circle"]).await.unwrap();
    let version = bank.table_version + 2;
    assert_eq!(said, format!("bank circle: 0 embeddings added, 2 removed, 0 changed; 38 now, version {version}\n"));
    let (listed, _) = outskirt(db, &["bank", "list"]).await.unwrap();
    assert!(listed.contains("5.0 %") && listed.contains("current") && listed.contains("(older version)"), "{listed}");
    let decide = "SELECT count(*) FROM images WHERE is_ood(toy, 'circle') AND dataset = 'ood'";
    let (rows, notice) = sql(db, decide).await.unwrap();
    assert_eq!(rows, "count(*)\n10\n");
    let older = format!("bank circle was calibrated at version {} and is at {version}", bank.table_version);
    assert!(notice.starts_with(&older), "{notice}");
    let (said, _) = outskirt(db, &["bank", "refresh", "circle", "--calibrate"]).await.unwrap();
    assert!(said.ends_with("bank circle: calibrated with 20 images at k = 5\n"), "{said}");
    assert_eq!(sql(db, decide).await.unwrap().1, "");

    // what does not touch its rows leaves its version, and its calibration
    sql(db, "UPDATE images SET label = 'y'").await.unwrap();
    let (said, _) = outskirt(db, &["bank", "refresh", "--all"]).await.unwrap();
    assert!(said.starts_with("bank circle: up to date with version "), "{said}");
    assert_eq!(sql(db, decide).await.unwrap().1, "");
    let (listed, _) = outskirt(db, &["bank", "list"]).await.unwrap();
    assert!(listed.contains(&format!("  {version}  current")), "{listed}");

    // more than a fifth of the graph: built anew; fewer than k rows: refused, and the bank stays
    sql(db, "DELETE FROM images WHERE id <= 12").await.unwrap();
    let (said, _) = outskirt(db, &["bank", "refresh", "circle"]).await.unwrap();
    assert!(said.contains("10 removed") && said.contains("its index files were made anew"), "{said}");
    sql(db, "DELETE FROM images WHERE split = 'train' AND id > 15").await.unwrap();
    let error = outskirt(db, &["bank", "refresh", "circle"]).await.unwrap_err();
    assert!(error.starts_with("bank 'circle' would hold 3 embeddings now, fewer than its k = 5"), "{error}");
    assert_eq!(sql(db, &format!("SET outskirt.stale_bank = 'ignore'; {query}")).await.unwrap().0, "count(*)\n10\n");
    let error = outskirt(db, &["bank", "refresh", "square"]).await.unwrap_err();
    assert!(error.contains("unknown bank 'square': known are circle"), "{error}");
}

/// Rows of a version that comes back were written before what the bank follows: that nothing was written since says nothing.
#[tokio::test]
async fn a_version_that_another_client_restored_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    let (store, _) = calibrated(db, IndexKind::Exact).await;
    let before = scores(&store, "circle", "exact").await;
    let version = store.version(schema::IMAGES).await.unwrap();
    outskirt(db, &["delete", "--where", "id <= 5"]).await.unwrap();
    let connection = lancedb::connect(db.to_str().unwrap()).execute().await.unwrap();
    let images = connection.open_table(schema::IMAGES).execute().await.unwrap();
    images.checkout(version).await.unwrap();
    images.restore().await.unwrap();
    let (said, _) = outskirt(db, &["bank", "refresh", "circle"]).await.unwrap();
    assert!(said.contains("5 embeddings added"), "{said}");
    assert_eq!(scores(&store, "circle", "exact").await, before);
}

fn copied(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp").arg("-r").args([from, to]).status().unwrap();
    assert!(done.success(), "{}", from.display());
}

/// The files are made before the bank's row is written: a kill in between leaves them ahead of it, and nothing is lost.
#[tokio::test]
async fn index_files_that_a_killed_refresh_left_are_behind_and_no_fault() {
    let (folder, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let db = folder.path();
    drop(calibrated(db, IndexKind::Hnsw(Storage::F32)).await);
    outskirt(db, &["delete", "--where", "id <= 12", "--no-refresh"]).await.unwrap();
    let parts = [("banks.lance", "banks.lance"), ("images.lance/_refs", "_refs")];
    parts.iter().for_each(|(part, name)| copied(&db.join(part), &kept.path().join(name)));
    let (said, _) = outskirt(db, &["bank", "refresh", "circle"]).await.unwrap();
    assert!(said.contains("its index files were made anew"), "{said}");
    for (part, name) in parts {
        std::fs::remove_dir_all(db.join(part)).unwrap();
        copied(&kept.path().join(name), &db.join(part));
    }
    let (said, _) = outskirt(db, &["verify"]).await.unwrap();
    assert_eq!((said.matches("behind").count(), said.matches("BROKEN").count()), (2, 0), "{said}");
    let (said, _) = outskirt(db, &["bank", "refresh", "circle"]).await.unwrap();
    assert!(said.contains("12 removed"), "{said}");
    let (said, _) = outskirt(db, &["verify"]).await.unwrap();
    assert!(!said.contains("behind") && !said.contains("BROKEN"), "{said}");
}

/// Put a graph of other vectors in place of a bank's, whole and with the right checksum: what many changes, or bad luck while
/// building, made of one, and more so.
fn graph_of_other_vectors(db: &Path, ids: &[u64]) {
    let mut rows = Rows::with_capacity(ids.len(), 3);
    ids.iter().for_each(|&id| rows.push(&[0.0, (id as f32).cos(), (id as f32).sin()]));
    let (graph, sidecar) = (db.join("indexes/circle.hnsw"), db.join("indexes/circle.hnsw.json"));
    Hnsw::build(&rows, ids, HnswOptions::default()).unwrap().save(&graph).unwrap();
    let mut noted: serde_json::Value = serde_json::from_slice(&std::fs::read(&sidecar).unwrap()).unwrap();
    noted["checksum"] = format!("{:x}", Sha256::digest(std::fs::read(&graph).unwrap())).into();
    std::fs::write(&sidecar, noted.to_string()).unwrap();
}

#[tokio::test]
async fn a_graph_that_misses_neighbours_is_named_by_verify_and_built_anew_by_a_refresh() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    let (store, bank) = calibrated(db, IndexKind::Hnsw(Storage::F32)).await;
    let (listed, _) = outskirt(db, &["bank", "list"]).await.unwrap();
    assert!(listed.contains("  hnsw, 100.0 % right  "), "{listed}");
    let ids: Vec<u64> = (1..=bank.row_count as u64).collect();

    graph_of_other_vectors(db, &ids);
    let error = outskirt(db, &["verify"]).await.unwrap_err();
    assert!(error.contains("1 problem in") && error.ends_with("mends what is derived"), "{error}");
    let (mended, _) = outskirt(db, &["verify", "--repair"]).await.unwrap();
    assert!(mended.contains("mended") && mended.contains("k-th distances right"), "{mended}");
    outskirt(db, &["verify"]).await.unwrap();

    graph_of_other_vectors(db, &ids);
    outskirt(db, &["delete", "--where", "id = 1", "--no-refresh"]).await.unwrap();
    let (said, _) = outskirt(db, &["bank", "refresh", "circle"]).await.unwrap();
    assert!(said.contains("1 removed") && said.contains("its index files were made anew"), "{said}");
    let (found, truth) = (scores(&store, "circle", "hnsw").await, scores(&store, "circle", "exact").await);
    assert!(found.iter().zip(&truth).all(|(found, truth)| (found - truth).abs() < 1e-5), "{found:?} {truth:?}");
    // one that is right stays, and is measured again
    outskirt(db, &["delete", "--where", "id = 2", "--no-refresh"]).await.unwrap();
    let (said, _) = outskirt(db, &["bank", "refresh", "circle"]).await.unwrap();
    assert!(said.contains("1 removed") && !said.contains("made anew"), "{said}");
    let (listed, _) = outskirt(db, &["bank", "list"]).await.unwrap();
    assert!(listed.contains("  hnsw, 100.0 % right  "), "{listed}");
}
