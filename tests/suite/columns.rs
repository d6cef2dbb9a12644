//! Columns of one's own beside the images, out of the tables that name them.

use outskirt::demo::{Counts, write_pictures};
use std::path::Path;

use super::fixture::outskirt;

/// Four pictures, as files.
fn four(folder: &Path) -> Vec<Vec<u8>> {
    write_pictures(folder, 7, Counts { train: 4, calibration: 1, test: 1, ood: 1 }).unwrap();
    (0..4).map(|picture| std::fs::read(folder.join(format!("id/train/star/000{picture}.png"))).unwrap()).collect()
}

async fn csv(db: &Path, query: &str) -> String {
    outskirt(db, &["sql", query, "--format", "csv"]).await.unwrap().0
}

async fn ingest(db: &Path, path: &str, dataset: &str, more: &[&str]) -> Result<(String, String), String> {
    let line = ["ingest", path, "--dataset", dataset, "--backbone", "demo_shapes"];
    outskirt(db, &[&line[..], more].concat()).await
}

#[tokio::test]
async fn a_wildcard_of_tables_gives_their_columns() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    four(folder.path());
    let lists = folder.path().join("lists");
    std::fs::create_dir(&lists).unwrap();
    let pictures = folder.path().join("id/train/star");
    let write = |list: &str, head: &str, rows: &[(&str, &str)]| {
        let rows = rows.iter().map(|(file, rest)| format!("{},{rest}\n", pictures.join(file).display()));
        std::fs::write(lists.join(list), format!("uri,{head}\n{}", rows.collect::<String>())).unwrap();
    };
    write("a.csv", "camera", &[("0000.png", "7"), ("0001.png", "8")]);
    write("b.csv", "camera,lens", &[("0002.png", "8.5,wide"), ("0001.png", "9,")]);
    let all = lists.join("*.csv");
    let (summary, _) = ingest(&db, all.to_str().unwrap(), "stars", &[]).await.unwrap();
    assert!(summary.starts_with("stars: 3 added"), "{summary}");
    let rows = "SELECT camera, lens FROM images ORDER BY uri";
    let three = "camera,lens\n7.0,\n9.0,\n8.5,wide\n";
    assert_eq!(csv(&db, rows).await, three, "of an image that two tables name, the last counts");

    let (a, b) = (lists.join("a.csv"), lists.join("b.csv"));
    let (summary, _) = ingest(&db, a.to_str().unwrap(), "stars", &[b.to_str().unwrap()]).await.unwrap();
    assert!(summary.starts_with("stars: 0 added, 4 there already in "), "one by one they are the same: {summary}");
    write("b.csv", "camera,lens", &[("0002.png", "8.5,long"), ("0001.png", "9,")]);
    let (summary, _) = ingest(&db, all.to_str().unwrap(), "stars", &[]).await.unwrap();
    assert!(summary.contains(", 1 with other metadata"), "{summary}");
    assert_eq!(csv(&db, rows).await, three.replace("wide", "long"));
}
