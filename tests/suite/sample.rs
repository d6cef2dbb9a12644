//! `outskirt curate sample`: which images are chosen, beside what SQL and comparing every row say.

use std::collections::BTreeSet;
use std::path::Path;

use outskirt::index::IndexKind;

use super::fixture::{calibrated, outskirt};

/// The lines of a sample as CSV, without the header.
async fn chosen(db: &Path, line: &[&str]) -> Vec<Vec<String>> {
    let (text, _) = outskirt(db, &[&["curate", "sample"], line, &["--format", "csv"]].concat()).await.unwrap();
    text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

fn ids(rows: &[Vec<String>]) -> Vec<u64> {
    rows.iter().map(|row| row[0].parse().unwrap()).collect()
}

async fn sql(db: &Path, query: &str) -> Vec<u64> {
    let (text, _) = outskirt(db, &["sql", query, "--format", "csv"]).await.unwrap();
    text.lines().skip(1).map(|line| line.parse().unwrap()).collect()
}

#[tokio::test]
async fn outliers_and_borderline_ones_are_those_of_sql() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    calibrated(db, IndexKind::Exact).await;
    let found = chosen(db, &["--n", "7", "--strategy", "outlier", "--bank", "circle"]).await;
    let query =
        "SELECT id FROM images WHERE toy IS NOT NULL ORDER BY knn_ood_score(toy, 'circle', 5, id) DESC, id LIMIT 7";
    assert_eq!(ids(&found), sql(db, query).await);
    let line = ["--n", "6", "--strategy", "borderline", "--bank", "circle", "--where", "split = 'test'"];
    let query = "SELECT id FROM (SELECT id, abs(knn_ood_score(toy, 'circle') - knn_ood_threshold('circle')) AS off FROM images WHERE split = 'test' AND \
                 toy IS NOT NULL) ORDER BY off, id LIMIT 6";
    assert_eq!(ids(&chosen(db, &line).await), sql(db, query).await);
    // the bank's own images are measured without their own entry: of those at its ends the furthest ones are first
    let line = ["--n", "2", "--strategy", "outlier", "--bank", "circle", "--where", "split = 'train'"];
    assert_eq!(ids(&chosen(db, &line).await).into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([1, 40]));
    // so many of each dataset, which the rows say
    let found = chosen(db, &["--n", "3", "--strategy", "outlier", "--bank", "circle", "--per", "dataset"]).await;
    let groups: Vec<&str> = found.iter().map(|row| row[5].as_str()).collect();
    assert_eq!(groups, ["id", "id", "id", "ood", "ood", "ood"]);
    assert!(found.iter().all(|row| row[1] == row[5]));
}

#[tokio::test]
async fn diverse_ones_cover_all_and_random_ones_follow_their_seed() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    calibrated(db, IndexKind::Exact).await;
    let found = chosen(db, &["--n", "4", "--strategy", "diverse", "--backbone", "toy"]).await;
    assert_eq!(found.iter().map(|row| row[5].parse::<u64>().unwrap()).sum::<u64>(), 90, "each stands for its own");
    // two groups of directions, 70 degrees apart: the second one chosen is of the other
    let datasets: BTreeSet<&str> = found[..2].iter().map(|row| row[1].as_str()).collect();
    assert_eq!(datasets.len(), 2);
    let random = async |seed: &str| ids(&chosen(db, &["--n", "10", "--strategy", "random", "--seed", seed]).await);
    let (one, again, other) = (random("1").await, random("1").await, random("2").await);
    assert!(one == again && one != other && one.len() == 10);
    assert_eq!(one.iter().collect::<BTreeSet<_>>().len(), 10);
    // more than there are is all of them, also those without an embedding
    assert_eq!(chosen(db, &["--n", "1000", "--strategy", "random"]).await.len(), 91);
    assert_eq!(chosen(db, &["--n", "0", "--strategy", "random"]).await.len(), 0);
}

#[tokio::test]
async fn what_cannot_be_chosen_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    calibrated(db, IndexKind::Exact).await;
    for (line, why) in [
        (&["--n", "3", "--strategy", "outlier"][..], "--strategy outlier needs --bank, whose scores decide"),
        (&["--n", "3", "--strategy", "diverse"], "--strategy diverse needs --bank or --backbone"),
        (
            &["--n", "3", "--strategy", "random", "--where", "dataset = 'nobody'"],
            "no image matches (dataset = 'nobody')",
        ),
        (&["--n", "3", "--strategy", "random", "--where", "true) OR (true"], "true) OR (true"),
        (&["--n", "3", "--strategy", "random", "--per", "datset"], "datset"),
        (&["--n", "3", "--strategy", "diverse", "--backbone", "clip"], "clip"),
        (&["--n", "3", "--strategy", "outlier", "--bank", "square"], "square"),
        (&["--n", "3", "--strategy", "borderline", "--bank", "circle", "--tpr", "2"], "2"),
    ] {
        let error = outskirt(db, &[&["curate", "sample"], line].concat()).await.unwrap_err();
        assert!(error.contains(why) && !error.contains('\n'), "{line:?}: {error}");
    }
}
