//! Banks in shards: the distances and neighbours of a bank in one piece, to the bit, and files that follow it.

use std::path::Path;

use outskirt::bank::{self, Bank};
use outskirt::index::{IndexKind, MemoryLimit, SearchOptions};
use outskirt::sql::session::Session;

use super::fixture::{TOY, calibrated, circle, database, outskirt, rows};

fn shard_files(db: &Path) -> Vec<String> {
    let mut files: Vec<String> = std::fs::read_dir(db.join("indexes"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("-of-"))
        .collect();
    files.sort();
    files
}

/// What must be the same of two banks of the same rows, in words.
async fn compared(session: &Session, bank: &str) -> Vec<String> {
    let text = |query: &str| query.replace("BANK", &format!("'{bank}'"));
    let mut all = Vec::new();
    for query in [
        "SELECT id, knn_ood_score(toy, BANK) FROM images ORDER BY id",
        "SELECT id, knn_ood_score(toy, BANK, 1) FROM images ORDER BY id",
        "SELECT id, knn_ood_score(toy, BANK, 39, id) FROM images WHERE toy IS NOT NULL ORDER BY id",
        "SELECT id, knn_ood_score(toy, BANK, 40) FROM images WHERE split <> 'train' ORDER BY id",
        "SELECT id, knn_ood_score(toy, BANK) AS s FROM images WHERE knn_ood_score(toy, BANK) > 0.05 ORDER BY s DESC, id",
        "SELECT id FROM images WHERE knn_ood_score(toy, BANK) BETWEEN 0.01 AND 0.04 ORDER BY id",
        "SELECT id, knn_ood_score(toy, BANK) AS s FROM images ORDER BY s DESC LIMIT 7",
        "SELECT id, knn_ood_score(toy, BANK) AS s FROM images ORDER BY s, id LIMIT 7",
        "SELECT id, is_ood(toy, BANK, 0.95) FROM images ORDER BY id",
        "SELECT id, knn_mean_distance(toy, BANK), knn_lid(toy, BANK, 7, id) FROM images WHERE toy IS NOT NULL ORDER BY id",
        "SELECT id, knn_neighbors(toy, BANK, 6, id) FROM images WHERE toy IS NOT NULL ORDER BY id",
        "SELECT split, auroc(knn_ood_score(toy, BANK), dataset = 'ood') FROM images GROUP BY split ORDER BY split",
        "SELECT id, CASE WHEN id % 2 = 0 THEN knn_ood_score(toy, BANK) END FROM images ORDER BY id",
    ] {
        all.push(format!("{:?}", rows(session, &text(query)).await).replace(bank, "BANK"));
    }
    all
}

/// The bank `circle` in one piece, and `shards`, the same in so many.
async fn both(db: &Path, shards: u32) -> outskirt::store::Store {
    let (store, _) = calibrated(db, IndexKind::Exact).await;
    bank::create(&store, &bank::BankSpec { name: "shards".into(), ..circle(IndexKind::Sharded(shards)) })
        .await
        .unwrap();
    bank::calibrate(&store, "shards", "dataset = 'id' AND split = 'val'", None).await.unwrap();
    store
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bank_in_shards_gives_the_bits_of_one_in_one_piece() {
    // of two shards each has far more rows than k, of 40 some have none
    for shards in [2, 7, 40] {
        let folder = tempfile::tempdir().unwrap();
        let store = both(folder.path(), shards).await;
        let session = Session::open(&store).await.unwrap();
        let (one, many) = (compared(&session, "circle").await, compared(&session, "shards").await);
        assert!(one.iter().all(|rows| rows.starts_with("Ok([\"")), "{one:?}");
        for (one, many) in one.iter().zip(&many) {
            assert_eq!(one, many, "{shards} shards");
        }
        let files = shard_files(folder.path()).len();
        assert!(if shards == 40 { (10..40).contains(&files) } else { files == shards as usize }, "{files}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_follow_their_bank_and_are_made_again_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    let store = both(db, 3).await;
    let files = shard_files(db);
    assert_eq!(files, ["shards-1-of-3.exact", "shards-2-of-3.exact", "shards-3-of-3.exact"]);
    // a few rows: no file is made anew
    let made = |name: &str| std::fs::metadata(db.join("indexes").join(name)).unwrap().modified().unwrap();
    let before: Vec<_> = files.iter().map(|name| made(name)).collect();
    rows(&Session::open(&store).await.unwrap(), "DELETE FROM images WHERE id IN (3, 4)").await.unwrap();
    outskirt(db, &["bank", "refresh", "circle"]).await.unwrap();
    outskirt(db, &["bank", "refresh", "shards"]).await.unwrap();
    assert_eq!(files.iter().map(|name| made(name)).collect::<Vec<_>>(), before);
    let session = Session::open(&store).await.unwrap();
    assert_eq!(compared(&session, "circle").await, compared(&session, "shards").await);
    drop(session);
    // one that is gone is made when it is asked for, and says nothing
    std::fs::remove_file(db.join("indexes").join(&files[1])).unwrap();
    let session = Session::open(&store).await.unwrap();
    assert_eq!(compared(&session, "circle").await, compared(&session, "shards").await);
    assert_eq!(shard_files(db), files);
    drop(session);
    // one that is damaged is found by verify, and made anew
    let path = db.join("indexes").join(&files[2]);
    let mut bytes = std::fs::read(&path).unwrap();
    // some of it is empty
    let most = bytes.len() / 4;
    bytes[most..].iter_mut().for_each(|byte| *byte ^= 1);
    std::fs::write(&path, bytes).unwrap();
    let session = Session::open(&store).await.unwrap();
    let before = compared(&session, "circle").await;
    drop(session);
    // who only looks writes nothing: it is found again
    for _ in 0..2 {
        let found = outskirt(db, &["verify"]).await.unwrap_err();
        assert!(found.contains("1 problem"), "{found}");
    }
    let (mended, _) = outskirt(db, &["verify", "--repair"]).await.unwrap();
    assert!(mended.contains("shards-3-of-3"), "{mended}");
    outskirt(db, &["verify"]).await.unwrap();
    // … or when it is asked for, which is said
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[most..].iter_mut().for_each(|byte| *byte ^= 1);
    std::fs::write(&path, bytes).unwrap();
    let session = Session::open(&store).await.unwrap();
    assert_eq!(compared(&session, "shards").await, before);
    let notices = session.banks().notices();
    assert!(notices.iter().any(|notice| notice.contains("shards-3-of-3.exact")), "{notices:?}");
    drop(session);
    // many rows: all are made anew
    rows(&Session::open(&store).await.unwrap(), "DELETE FROM images WHERE split = 'train' AND id % 2 = 0")
        .await
        .unwrap();
    outskirt(db, &["bank", "refresh", "circle"]).await.unwrap();
    outskirt(db, &["bank", "refresh", "shards"]).await.unwrap();
    let session = Session::open(&store).await.unwrap();
    assert_eq!(compared(&session, "circle").await, compared(&session, "shards").await);
    drop(session);
    outskirt(db, &["optimize"]).await.unwrap();
    assert_eq!(shard_files(db), files);
    outskirt(db, &["bank", "drop", "shards"]).await.unwrap();
    assert!(shard_files(db).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bank_in_shards_is_searched_within_memory_for_two_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let dimension = 48;
    let image = |row: u64| {
        let value = |at: u64| ((row * 7919 + at * 104_729 + row * at * 31) % 1009) as f32 - 500.0;
        ("id", if row < 600 { "train" } else { "test" }, Some((0..dimension as u64).map(value).collect()))
    };
    let images: Vec<_> = (0..700).map(image).collect();
    let store = database(folder.path(), dimension, &images).await;
    let spec = |name: &str, index| bank::BankSpec { name: name.into(), k: 10, ..circle(index) };
    bank::create(&store, &spec("one", IndexKind::Exact)).await.unwrap();
    let sharded = bank::create(&store, &spec("many", IndexKind::Sharded(5))).await.unwrap();
    let limit = 2 * outskirt::index::Exact::bytes(150, dimension);
    let options = SearchOptions { memory_limit: MemoryLimit(Some(limit)), ..SearchOptions::default() };
    let opened = Bank::open(&store, sharded, options).await.unwrap();
    assert!(opened.describe().ends_with("5 shards"), "{}", opened.describe());
    let session = Session::open(&store).await.unwrap();
    let set = format!("SET outskirt.memory_limit = '{limit}B'");
    rows(&session, &set).await.unwrap();
    let query = |bank: &str| format!("SELECT id, knn_ood_score({TOY}, '{bank}') FROM images ORDER BY id");
    let found = rows(&session, &query("many")).await.unwrap();
    assert!(session.banks().bytes() <= limit, "{} of {limit}", session.banks().bytes());
    assert_eq!(found, rows(&Session::open(&store).await.unwrap(), &query("one")).await.unwrap());
}

#[tokio::test]
async fn what_a_bank_in_shards_cannot_do_is_said_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = both(folder.path(), 4).await;
    let session = Session::open(&store).await.unwrap();
    let error =
        rows(&session, "SET outskirt.search = 'hnsw'; SELECT max(knn_ood_score(toy, 'shards')) FROM images").await;
    let error = error.unwrap_err();
    assert!(error.contains("bank 'shards' has no HNSW index"), "{error}");
    let session = Session::open(&store).await.unwrap();
    let error = rows(&session, "SELECT max(knn_density_ratio(toy, 'shards')) FROM images").await.unwrap_err();
    assert!(error.contains("bank 'shards' lies in shards, which knn_density_ratio does not take"), "{error}");
    let error =
        rows(&session, "SET outskirt.memory_limit = '1KB'; SELECT max(knn_ood_score(toy, 'shards')) FROM images").await;
    let error = error.unwrap_err();
    assert!(error.contains("memory limit of 1000 bytes is too small for bank 'shards'"), "{error}");
    let line =
        ["bank", "create", "b", "--backbone", TOY, "--where", "split = 'val'", "--k", "2", "--index", "sharded-21"];
    let error = outskirt(folder.path(), &line).await.unwrap_err();
    assert!(error.starts_with("bank 'b' has 20 rows, which are too few for 21 shards"), "{error}");
    for (index, why) in [
        ("sharded-1", "sharded-2 to sharded-4096"),
        ("sharded-", "it is one of"),
        ("sharded-5000", "it is one of"),
        ("sharded-08", "it is one of"),
    ] {
        let line = ["bank", "create", "b", "--backbone", TOY, "--where", "true", "--index", index];
        let error = outskirt(folder.path(), &line).await.unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}
