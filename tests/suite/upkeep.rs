//! `outskirt delete`, `optimize` and `verify`: what they print, what they leave, and what they refuse.

use std::path::Path;

use outskirt::bank;
use outskirt::index::{IndexKind, Storage};

use super::fixture::{calibrated, outskirt};

async fn csv(db: &Path, query: &str) -> String {
    outskirt(db, &["sql", query, "--format", "csv"]).await.unwrap().0
}

#[tokio::test]
async fn deleted_images_leave_their_banks_and_at_last_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    drop(calibrated(db, IndexKind::Hnsw(Storage::F32)).await);
    let (dry, _) = outskirt(db, &["delete", "--where", "is_ood(toy, 'circle')", "--dry-run"]).await.unwrap();
    assert!(dry.starts_with("would delete ") && dry.ends_with(" of 91 images\n"), "{dry}");
    assert_eq!(csv(db, "SELECT count(*) AS n FROM images").await, "n\n91\n");
    for (predicate, reason) in [
        ("true) OR (true", "sql parser error"),
        ("dataset = 'id' AS x", "it has an alias"),
        ("colour = 'red'", "colour"),
        ("", "sql parser error"),
    ] {
        let error = outskirt(db, &["delete", "--where", predicate]).await.unwrap_err();
        assert!(error.contains(reason) && error.lines().count() == 1, "{predicate}: {error}");
    }
    let (gone, _) = outskirt(db, &["delete", "--where", "dataset = 'ood' OR id <= 4"]).await.unwrap();
    let lines: Vec<&str> = gone.lines().collect();
    assert_eq!(lines[0], "deleted 14 images, 77 are left");
    assert!(lines[1].starts_with("bank circle: 0 embeddings added, 4 removed, 0 changed; 36 now"), "{gone}");
    let (none, _) = outskirt(db, &["delete", "--where", "dataset = 'ood'"]).await.unwrap();
    assert_eq!(none, "deleted 0 images, 77 are left\n");
    let (left, _) = outskirt(db, &["delete", "--where", "id = 5", "--no-refresh"]).await.unwrap();
    assert_eq!(left, "deleted 1 image, 76 are left\n");

    // a bank that is behind keeps its version, and that of its graph; what it gives does not change
    let scores = "SET outskirt.stale_bank = 'ignore'; SELECT id, knn_ood_score(toy, 'circle') AS s, \
                  is_ood(toy, 'circle') AS o FROM images ORDER BY id";
    let before = csv(db, scores).await;
    let (printed, notice) = outskirt(db, &["optimize"]).await.unwrap();
    assert!(printed.contains("images") && printed.contains(" → 3 "), "{printed}");
    assert!(notice.starts_with("bank circle keeps version ") && notice.lines().count() == 1, "{notice}");
    assert_eq!(csv(db, scores).await, before);
    outskirt(db, &["bank", "refresh", "circle"]).await.unwrap();
    let before = csv(db, scores).await;
    let (listed, _) = outskirt(db, &["bank", "list"]).await.unwrap();
    let (printed, notice) = outskirt(db, &["optimize"]).await.unwrap();
    assert!(printed.contains("bank circle: its index files were made anew"), "{printed}");
    assert_eq!(notice, "");
    assert_eq!(csv(db, scores).await, before);
    let after = outskirt(db, &["bank", "list"]).await.unwrap().0;
    let state = |text: &str| {
        text.lines().nth(1).unwrap().replace("12.5 %", "0.0 %").split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(state(&after).matches("current").count(), 1, "{after}");
    assert_eq!(state(&listed).split("hnsw").next(), state(&after).split("hnsw").next());
    let store = outskirt::store::Store::open(db).await.unwrap();
    assert_eq!(store.versions("images").await.unwrap().len(), 1, "only the latest version is left");
    let deleted: Vec<_> =
        std::fs::read_dir(db.join("images.lance/_deletions")).map(|all| all.collect()).unwrap_or_default();
    assert!(deleted.is_empty(), "deleted rows are not in the files any more");
    // the bank's own version can still be named, and a refresh finds nothing to do
    let own = bank::list(&store).await.unwrap()[0].table_version;
    csv(db, &format!("SELECT sum(knn_ood_score(toy, 'circle@{own}')) FROM images")).await;
    let (said, _) = outskirt(db, &["bank", "refresh", "circle"]).await.unwrap();
    assert!(said.starts_with("bank circle: up to date"), "{said}");
    outskirt(db, &["verify"]).await.unwrap();
}

#[tokio::test]
async fn versions_younger_than_asked_for_stay() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    let (store, _) = calibrated(db, IndexKind::Exact).await;
    let all = store.versions("images").await.unwrap().len();
    drop(store);
    outskirt(db, &["optimize", "--keep", "7days"]).await.unwrap();
    let store = outskirt::store::Store::open(db).await.unwrap();
    assert!(store.versions("images").await.unwrap().len() >= all);
    let error = outskirt(db, &["optimize", "--keep", "soon"]).await.unwrap_err();
    assert!(error.contains("invalid value 'soon' for '--keep <TIME>'"), "{error}");
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    let (store, _) = calibrated(db, IndexKind::Hnsw(Storage::F32)).await;
    outskirt(db, &["score", "circle"]).await.unwrap();
    let (well, _) = outskirt(db, &["verify", "--sample", "20"]).await.unwrap();
    assert!(well.contains("40 rows in version") && well.contains("20 distances at k = 5 equal brute force"), "{well}");
    assert!(well.contains("91 rows") && well.contains("scores circle_score") && !well.contains("BROKEN"), "{well}");

    std::fs::write(db.join("indexes/nobody.hnsw"), b"x").unwrap();
    let (leftover, _) = outskirt(db, &["verify"]).await.unwrap();
    assert!(leftover.contains("leftover  files of no bank: nobody.hnsw"), "{leftover}");
    outskirt(db, &["verify", "--repair"]).await.unwrap();
    assert!(!db.join("indexes/nobody.hnsw").exists());

    // a tag lost to another Lance client is put back
    store.untag("images", |_| true).await.unwrap();
    let error = outskirt(db, &["verify"]).await.unwrap_err();
    assert!(error.contains("1 problem in") && error.ends_with("mends what is derived"), "{error}");
    outskirt(db, &["verify", "--repair"]).await.unwrap();
    outskirt(db, &["verify"]).await.unwrap();

    // so is what cannot be mended: a calibration that is no calibration
    let lock = store.lock().await.unwrap();
    let mut calibrations = bank::list_calibrations(&store).await.unwrap();
    calibrations[0].scores[0] = 7.0;
    store.write_rows(&lock, "calibrations", &["bank", "k"], &calibrations).await.unwrap();
    drop(lock);
    let error = outskirt(db, &["verify", "--repair"]).await.unwrap_err();
    assert!(error.contains("1 problem in the database at") && !error.contains("--repair"), "{error}");
}

/// So many images of no embedding, each in a commit of its own.
async fn insert(db: &Path, images: std::ops::Range<u32>) -> String {
    let row = |image| {
        format!(
            "INSERT INTO images (dataset, split, uri, width, height, content_hash) VALUES ('new', '', '/{image}', 1, 1, '')"
        )
    };
    let statements: Vec<String> = images.map(row).collect();
    outskirt(db, &["sql", &statements.join("; "), "--format", "csv"]).await.unwrap().1
}

async fn fragments(db: &Path, table: &str) -> usize {
    outskirt::store::Store::open(db).await.unwrap().footprint(table).await.unwrap().fragments
}

#[tokio::test]
async fn small_files_are_merged_without_being_asked_and_nothing_else_changes() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    drop(calibrated(db, IndexKind::Hnsw(Storage::F32)).await);
    let (said, _) = outskirt(db, &["optimize", "--automatic", "off"]).await.unwrap();
    assert_eq!(said, "by itself: files are not merged; every 1000 versions are told, and none is pruned\n");
    assert_eq!(insert(db, 0..6).await, "");
    assert_eq!(fragments(db, "images").await, 7);
    outskirt(db, &["bank", "refresh", "circle"]).await.unwrap();
    let scores = "SELECT id, knn_ood_score(toy, 'circle') AS s, is_ood(toy, 'circle') AS o FROM images ORDER BY id";
    let before = csv(db, scores).await;
    let (said, _) = outskirt(db, &["optimize", "--automatic", "5"]).await.unwrap();
    assert!(said.starts_with("by itself: files of a table are merged where that leaves 5 fewer; "), "{said}");

    // beside a bank that is current: it stays so
    let (_, told) = outskirt(db, &["bank", "refresh", "circle"]).await.unwrap();
    assert!(told.contains("images: its 7 files were merged into 1 ('outskirt optimize --automatic off'"), "{told}");
    assert_eq!(fragments(db, "images").await, 1);
    let (listed, _) = outskirt(db, &["bank", "list"]).await.unwrap();
    assert!(listed.contains(" current ") && listed.contains(" 0.0 % "), "{listed}");
    assert_eq!(csv(db, scores).await, before);
    // and beside one that is behind, in a session, time after time
    let told = insert(db, 10..22).await;
    assert!(told.contains("images: its ") && fragments(db, "images").await <= 6, "{told}");
    assert!(fragments(db, "curation_log").await <= 6);
    // what was written since is read through the compaction, and no index is made anew
    csv(db, "DELETE FROM images WHERE id = 3; UPDATE images SET split = 'train' WHERE id = 61").await;
    let (said, _) = outskirt(db, &["bank", "refresh", "circle"]).await.unwrap();
    assert!(said.starts_with("bank circle: 1 embeddings added, 1 removed, 0 changed; 40 now"), "{said}");
    assert!(!said.contains("made anew"), "{said}");
    outskirt(db, &["verify"]).await.unwrap();
    // every version is kept, and changes are taken back through it
    let store = outskirt::store::Store::open(db).await.unwrap();
    let versions = store.versions("images").await.unwrap();
    assert_eq!(versions.len() as u64, versions[versions.len() - 1]);
    for gone in ["update", "delete", "insert"] {
        let (said, _) = outskirt(db, &["undo"]).await.unwrap();
        assert!(said.starts_with(&format!("undone: {gone}")), "{said}");
    }
    assert_eq!(csv(db, "SELECT count(*) AS n FROM images").await, "n\n108\n");
}

#[tokio::test]
async fn many_versions_are_told_and_pruned_only_where_the_user_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    drop(calibrated(db, IndexKind::Exact).await);
    let versions = async || outskirt::store::Store::open(db).await.unwrap().versions("images").await.unwrap().len();
    let first = versions().await;
    outskirt(db, &["optimize", "--automatic-versions", "10"]).await.unwrap();
    let told = insert(db, 0..10).await;
    assert!(told.starts_with("images has 10 versions that can be restored: ") && told.lines().count() == 1, "{told}");
    assert_eq!(versions().await, first + 10);
    let (said, _) = outskirt(db, &["optimize", "--automatic-keep", "1s"]).await.unwrap();
    assert!(said.contains("with every 10 versions those older than 1s are pruned"), "{said}");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let told = insert(db, 10..20).await;
    assert!(told.lines().any(|line| line.starts_with("older versions were pruned: images has ")), "{told}");
    assert!(versions().await < first + 20);
    outskirt(db, &["verify"]).await.unwrap();
    let error = outskirt(db, &["optimize", "--automatic", "1"]).await.unwrap_err();
    assert!(error.contains("it is a number, 2 or more, or 'off'"), "{error}");
}

#[tokio::test]
async fn a_change_is_done_also_where_files_cannot_be_merged() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    drop(calibrated(db, IndexKind::Exact).await);
    outskirt(db, &["optimize", "--automatic", "2"]).await.unwrap();
    for k in ["3", "4", "6"] {
        outskirt(db, &["bank", "calibrate", "circle", "--k", k, "--where", "split = 'val'"]).await.unwrap();
    }
    let data = std::fs::read_dir(db.join("calibrations.lance/data")).unwrap().flatten();
    std::fs::remove_file(data.map(|file| file.path()).min().unwrap()).unwrap();
    let told = insert(db, 0..1).await;
    assert!(told.starts_with("small files were not merged: ") && told.lines().count() == 1, "{told}");
    assert_eq!(csv(db, "SELECT count(*) AS n FROM images").await, "n\n92\n");
}
