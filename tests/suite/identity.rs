//! Which files an ingest has met before: moved between splits, reached by another path, deleted, twice in one run.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use outskirt::demo::{Counts, write_pictures};

use super::fixture::outskirt;

/// Class folders of pictures: 10 × 2.
fn pictures(folder: &Path) -> PathBuf {
    let counts = Counts { train: 2, calibration: 1, test: 1, ood: 1 };
    write_pictures(folder, 7, counts).unwrap();
    folder.canonicalize().unwrap().join("id/train")
}

async fn csv(db: &Path, query: &str) -> String {
    outskirt(db, &["sql", query, "--format", "csv"]).await.unwrap().0
}

async fn ingest(db: &Path, path: &Path, more: &[&str]) -> (String, String) {
    let path = path.to_str().unwrap();
    let command = ["ingest", path, "--dataset", "shapes", "--backbone", "demo_shapes"];
    outskirt(db, &[&command[..], more].concat()).await.unwrap()
}

#[tokio::test]
async fn an_image_that_was_moved_to_another_split_is_not_added_again() {
    let folder = tempfile::tempdir().unwrap();
    let (db, train) = (folder.path().join("db"), pictures(folder.path()));
    ingest(&db, &train, &["--split", "new"]).await;
    outskirt(&db, &["sql", "UPDATE images SET split = 'train' WHERE label = 'star'"]).await.unwrap();
    let (summary, notices) = ingest(&db, &train, &["--split", "new"]).await;
    assert!(summary.starts_with("shapes/new: 0 added, 20 there already in "), "{summary}");
    assert!(notices.contains("2 of them are in another split of shapes, where they stay"), "{notices}");
    let splits = "SELECT split, count(*) AS n FROM images GROUP BY split ORDER BY split";
    assert_eq!(csv(&db, splits).await, "split,n\nnew,18\ntrain,2\n");
    // a file that changes is replaced where it is
    std::fs::copy(train.join("circle/0000.png"), train.join("star/0000.png")).unwrap();
    let (summary, _) = ingest(&db, &train, &["--split", "new"]).await;
    assert!(
        summary.starts_with("shapes/new: 0 added, 1 replaced (the file had changed), 19 there already"),
        "{summary}"
    );
    assert_eq!(csv(&db, splits).await, "split,n\nnew,18\ntrain,2\n");
}

#[tokio::test]
async fn every_spelling_of_a_path_is_the_same_image() {
    let folder = tempfile::tempdir().unwrap();
    let (db, train) = (folder.path().join("db"), pictures(folder.path()));
    ingest(&db, &train, &[]).await;
    let (link, star) = (folder.path().join("link"), train.join("star"));
    symlink(folder.path().join("id"), &link).unwrap();
    let list = folder.path().join("list.txt");
    std::fs::write(&list, "link/train/star/0000.png\nid/train/../train/./star/0001.png\n").unwrap();
    for (path, count) in [
        (train.join("../train"), 20),
        (link.join("train"), 20),
        (link.join("../id/train/star"), 2),
        (star.join("../star/0000.png"), 1),
        (list, 2),
    ] {
        let (summary, _) = ingest(&db, &path, &[]).await;
        assert!(summary.starts_with(&format!("shapes: 0 added, {count} there already in ")), "{path:?}: {summary}");
    }
    // a row that an earlier version wrote by another path
    let spelled = format!("{}/train/star/0000.png", link.display());
    let old = format!("UPDATE images SET uri = '{spelled}' WHERE uri LIKE '%star/0000.png'");
    outskirt(&db, &["sql", &old]).await.unwrap();
    let (summary, _) = ingest(&db, &train, &[]).await;
    assert!(summary.starts_with("shapes: 0 added, 20 there already in "), "{summary}");
}

/// `outskirt history` counts rows, and not what was written into them.
#[tokio::test]
async fn a_row_that_gets_a_label_and_metadata_is_one_row_of_the_history() {
    let folder = tempfile::tempdir().unwrap();
    let (db, train) = (folder.path().join("db"), pictures(folder.path()));
    ingest(&db, &train.join("star"), &[]).await;
    let (list, table) = (folder.path().join("list.txt"), folder.path().join("cameras.csv"));
    std::fs::write(&list, "id/train/star/0000.png sun\nid/train/star/0001.png moon\n").unwrap();
    std::fs::write(&table, "uri,camera\nid/train/star/0001.png,left\n").unwrap();
    let (summary, _) = ingest(&db, &list, &["--metadata", table.to_str().unwrap()]).await;
    assert!(summary.contains("0 added, 2 there already"), "{summary}");
    let rows = "SELECT label, camera FROM images ORDER BY label";
    assert_eq!(csv(&db, rows).await, "label,camera\nmoon,left\nsun,\n");
    let counts = "SELECT row_count FROM curation_log WHERE verb = 'ingest' ORDER BY version_before";
    assert_eq!(csv(&db, counts).await, "row_count\n2\n2\n");
    // what was undone is marked
    outskirt(&db, &["undo"]).await.unwrap();
    let (history, _) = outskirt(&db, &["history"]).await.unwrap();
    let marked: Vec<bool> = history.lines().map(|line| line.contains("(undone)")).collect();
    assert_eq!(marked.iter().filter(|marked| **marked).count(), 1, "{history}");
    let undone = history.lines().find(|line| line.contains("(undone)")).unwrap();
    assert!(undone.contains("ingest split '', backbone demo_shapes WHERE dataset = 'shapes' (undone)"), "{history}");
    assert!(history.find("undo to version") < history.find("(undone)"), "{history}");
}

#[tokio::test]
async fn files_that_moved_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let (db, train) = (folder.path().join("db"), pictures(folder.path()));
    ingest(&db, &train, &[]).await;
    std::fs::rename(train.join("star"), train.join("moved")).unwrap();
    let (summary, notices) = ingest(&db, &train, &[]).await;
    assert!(summary.starts_with("shapes: 2 added, 18 there already"), "{summary}");
    assert!(notices.contains("2 of those added hold the same bytes as images of shapes under other uris"), "{notices}");
}

#[tokio::test]
async fn deleted_images_stay_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let (db, train) = (folder.path().join("db"), pictures(folder.path()));
    ingest(&db, &train, &[]).await;
    outskirt(&db, &["delete", "--where", "label IN ('star', 'circle')"]).await.unwrap();
    let (summary, _) = ingest(&db, &train, &[]).await;
    let left_out = "shapes: 0 added, 16 there already, 4 deleted earlier, left out (--again brings them back) in ";
    assert!(summary.starts_with(left_out), "{summary}");
    // another picture under the name of a deleted one is new
    std::fs::copy(train.join("cross/0000.png"), train.join("star/0000.png")).unwrap();
    let (summary, _) = ingest(&db, &train, &[]).await;
    assert!(summary.starts_with("shapes: 1 added, 16 there already, 3 deleted earlier"), "{summary}");
    // of another dataset they were not deleted
    let path = train.to_str().unwrap();
    let other = ["ingest", path, "--dataset", "other", "--backbone", "demo_shapes"];
    let (summary, _) = outskirt(&db, &other).await.unwrap();
    assert!(summary.starts_with("other: 20 added in "), "{summary}");

    let (summary, _) = ingest(&db, &train, &["--again"]).await;
    assert!(summary.starts_with("shapes: 3 added, 17 there already in "), "{summary}");
    // taken back, that they came again, they are deleted still
    outskirt(&db, &["undo"]).await.unwrap();
    let (summary, _) = ingest(&db, &train, &[]).await;
    assert!(summary.starts_with("shapes: 0 added, 17 there already, 3 deleted earlier"), "{summary}");
    ingest(&db, &train, &["--again"]).await;
    // and what was deleted in SQL is remembered as well, whatever undo brings back
    outskirt(&db, &["sql", "DELETE FROM images WHERE dataset = 'shapes'"]).await.unwrap();
    let (summary, _) = ingest(&db, &train, &[]).await;
    assert!(summary.starts_with("shapes: 0 added, 20 deleted earlier"), "{summary}");
    outskirt(&db, &["undo"]).await.unwrap();
    let (summary, _) = ingest(&db, &train, &[]).await;
    assert!(summary.starts_with("shapes: 0 added, 20 there already in "), "{summary}");
}

#[tokio::test]
async fn labels_follow_lists_and_tables_and_not_folders() {
    let folder = tempfile::tempdir().unwrap();
    let (db, train) = (folder.path().join("db"), pictures(folder.path()));
    let labels = "SELECT label, count(*) AS n FROM images GROUP BY label ORDER BY label";
    let star = train.join("star");
    let list = |text: &str| {
        let path = folder.path().join("list.txt");
        std::fs::write(&path, text.replace('@', star.to_str().unwrap())).unwrap();
        path
    };
    ingest(&db, &list("@/0000.png\tone\n@/0001.png\tone\n"), &[]).await;
    assert_eq!(csv(&db, labels).await, "label,n\none,2\n");
    let (summary, _) = ingest(&db, &list("@/0000.png\ttwo\n@/0001.png\n"), &[]).await;
    assert!(summary.starts_with("shapes: 0 added, 2 there already, 1 with another label in "), "{summary}");
    assert_eq!(csv(&db, labels).await, "label,n\none,1\ntwo,1\n", "a list that says no label changes none");
    // what the user says of a row that no list or table speaks about stays
    outskirt(&db, &["sql", "UPDATE images SET label = 'mine'"]).await.unwrap();
    let (summary, _) = ingest(&db, &star, &[]).await;
    assert!(summary.starts_with("shapes: 0 added, 2 there already in "), "{summary}");
    assert_eq!(csv(&db, labels).await, "label,n\nmine,2\n");
    // a table beside the images has the last word
    let table = folder.path().join("labels.csv");
    std::fs::write(&table, "uri,label\nstar/0000.png,seven\n").unwrap();
    let beside = ["--metadata", table.to_str().unwrap()];
    let (summary, _) = ingest(&db, &list("@/0000.png\ttwo\n@/0001.png\tone\n"), &beside).await;
    assert!(summary.contains("2 there already, 1 with another label, 1 with other metadata"), "{summary}");
    assert_eq!(csv(&db, labels).await, "label,n\none,1\nseven,1\n");
    let (summary, _) = ingest(&db, &list("@/0000.png\ttwo\n@/0001.png\tone\n"), &beside).await;
    assert!(summary.starts_with("shapes: 0 added, 2 there already in "), "{summary}");
    // new rows too
    let (summary, _) = ingest(&db, &train.join("circle"), &["--metadata", table.to_str().unwrap()]).await;
    assert!(summary.starts_with("shapes: 2 added in "), "{summary}");
    std::fs::write(&table, "uri,label\ncross/0000.png,eight\n").unwrap();
    ingest(&db, &train.join("cross"), &["--metadata", table.to_str().unwrap()]).await;
    assert_eq!(csv(&db, labels).await, "label,n\neight,1\none,1\nseven,1\n,3\n");
}

#[tokio::test]
async fn a_table_beside_images_says_nothing_of_other_splits() {
    let folder = tempfile::tempdir().unwrap();
    let (db, train) = (folder.path().join("db"), pictures(folder.path()));
    let other = folder.path().join("copy/star");
    std::fs::create_dir_all(&other).unwrap();
    std::fs::copy(train.join("star/0000.png"), other.join("0000.png")).unwrap();
    let table = folder.path().join("m.csv");
    std::fs::write(&table, "uri,camera\nstar/0000.png,7\n").unwrap();
    ingest(&db, &other, &["--split", "test"]).await;
    ingest(&db, &train, &["--split", "train"]).await;
    let (summary, _) = ingest(&db, &train, &["--split", "train", "--metadata", table.to_str().unwrap()]).await;
    assert!(summary.contains("1 with other metadata"), "{summary}");
    let cameras = "SELECT split FROM images WHERE camera = 7";
    assert_eq!(csv(&db, cameras).await, "split\ntrain\n", "two files end in star/0000.png, and one was ingested");
}

#[tokio::test]
async fn a_name_that_stands_twice_is_counted_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (db, train) = (folder.path().join("db"), pictures(folder.path()));
    let (first, last) = (train.join("star/0000.png"), train.join("star/0001.png"));
    // of a tar member that is there twice the last counts
    let archive = folder.path().join("twice.tar");
    let mut builder = tar::Builder::new(std::fs::File::create(&archive).unwrap());
    builder.append_path_with_name(&first, "a/1.png").unwrap();
    builder.append_path_with_name(train.join("cross/0000.png"), "a/2.png").unwrap();
    builder.append_path_with_name(&last, "a/1.png").unwrap();
    builder.into_inner().unwrap();
    let (summary, _) = ingest(&db, &archive, &[]).await;
    assert!(summary.starts_with("shapes: 2 added, 1 given twice in "), "{summary}");
    let hash = outskirt::image::content_hash(&std::fs::read(&last).unwrap());
    let found = csv(&db, "SELECT content_hash FROM images WHERE uri LIKE '%!/a/1.png'").await;
    assert_eq!(found, format!("content_hash\n{hash}\n"));
    // the same file twice, and a link to its folder
    let (one, two) = (train.join("star"), train.join("star/../star"));
    let paths = ["ingest", one.to_str().unwrap(), two.to_str().unwrap(), "--dataset", "d", "--backbone", "demo_shapes"];
    let (summary, _) = outskirt(&db, &paths).await.unwrap();
    assert!(summary.starts_with("d: 2 added, 2 given twice in "), "{summary}");
}

#[tokio::test]
async fn of_several_lists_that_name_an_image_the_last_gives_the_label() {
    let folder = tempfile::tempdir().unwrap();
    let (db, train) = (folder.path().join("db"), pictures(folder.path()));
    let star = train.join("star");
    let write = |name: &str, labels: [&str; 2]| {
        let path = folder.path().join(name);
        let rows = [0, 1].map(|at| format!("{}/000{at}.png,{}\n", star.display(), labels[at]));
        std::fs::write(&path, format!("uri,label\n{}", rows.concat())).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (one, two) = (write("one.csv", ["a", "b"]), write("two.csv", ["c", ""]));
    let labels = "SELECT label FROM images WHERE dataset = 'd' ORDER BY uri";
    let command = |paths: &[&str]| {
        let rest = ["--dataset", "d", "--backbone", "demo_shapes"];
        [&["ingest"], paths, &rest].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let run = async |paths: &[&str]| {
        let command = command(paths);
        outskirt(&db, &command.iter().map(String::as_str).collect::<Vec<_>>()).await.unwrap().0
    };
    let said = run(&[train.to_str().unwrap(), &one, &two]).await;
    assert!(said.starts_with("d: 20 added, 4 given twice in "), "{said}");
    let of_stars = "SELECT label FROM images WHERE uri LIKE '%/star/%' ORDER BY uri";
    assert_eq!(csv(&db, of_stars).await, "label\nc\nb\n", "of new images");
    let said = run(&[&two, &one]).await;
    assert!(said.starts_with("d: 0 added, 2 there already, 1 with another label, 2 given twice in "), "{said}");
    assert_eq!(csv(&db, of_stars).await, "label\na\nb\n", "of those that are there");
    let said = run(&[&two, &one]).await;
    assert!(said.starts_with("d: 0 added, 2 there already, 2 given twice in "), "nothing is left to change: {said}");
    assert_eq!(csv(&db, labels).await.lines().count(), 21);
}

#[tokio::test]
async fn a_replaced_file_keeps_the_label_that_the_user_gave_it() {
    let folder = tempfile::tempdir().unwrap();
    let (db, train) = (folder.path().join("db"), pictures(folder.path()));
    let star = train.join("star");
    ingest(&db, &train, &[]).await;
    outskirt(&db, &["sql", "UPDATE images SET label = 'mine', split = 'val' WHERE label = 'star'"]).await.unwrap();
    std::fs::copy(train.join("circle/0000.png"), star.join("0000.png")).unwrap();
    let (summary, _) = ingest(&db, &train, &[]).await;
    assert!(summary.contains("1 replaced"), "{summary}");
    let kept = "SELECT label, split FROM images WHERE uri LIKE '%/star/%'";
    assert_eq!(csv(&db, kept).await, "label,split\nmine,val\nmine,val\n");
}
