//! Scores that read labels and logits of a bank, beside plain computations that share nothing with them.

use std::fmt::Write;
use std::path::Path;

use super::fixture::outskirt;

const CLASSES: usize = 3;
const D: usize = 4;

/// A row: embedding, logits and class, by a formula. The bank has the first 60.
struct Row {
    embedding: Vec<f64>,
    logits: Vec<f64>,
    class: usize,
}

fn row(at: usize) -> Row {
    let class = at % CLASSES;
    let number = |i: usize| f64::from(((at * 37 + i * 101 + at * at * 7) % 64) as u8) / 64.0;
    let embedding = (0..D).map(|i| number(i) + if i == class { 2.0 } else { 0.0 }).collect();
    let logits = (0..CLASSES).map(|c| number(c + 9) * 2.0 + if c == class { 3.0 } else { 0.0 }).collect();
    Row { embedding, logits, class }
}

fn unit(row: &Row) -> Vec<f64> {
    let norm = row.embedding.iter().map(|x| x * x).sum::<f64>().sqrt();
    row.embedding.iter().map(|x| x / norm).collect()
}

async fn ingested(db: &Path, file: &Path, with_logits: bool) {
    let mut text = String::new();
    for at in 0..80 {
        let Row { embedding, logits, class } = row(at);
        let split = if at < 60 { "train" } else { "test" };
        let line = serde_json::json!({"uri": format!("{at:02}"), "emb": embedding, "out": logits, "split": split,
            "label": format!("class {class}")});
        writeln!(text, "{line}").unwrap();
    }
    std::fs::write(file, text).unwrap();
    let line =
        ["ingest", file.to_str().unwrap(), "--embedding-column", "emb", "--backbone", "net", "--dataset", "mine"];
    let more: &[&str] = if with_logits { &["--logits-column", "out"] } else { &[] };
    outskirt(db, &[&line[..], &["--model-version", "1"], more].concat()).await.unwrap();
}

async fn numbers(db: &Path, call: &str) -> Vec<f64> {
    let query = format!("SELECT {call} AS s FROM images WHERE split = 'test' ORDER BY uri");
    let (rows, _) = outskirt(db, &["sql", &query, "--format", "csv"]).await.unwrap();
    rows.lines().skip(1).map(|number| number.parse().unwrap()).collect()
}

fn log_sum_exp(logits: &[f64]) -> f64 {
    logits.iter().map(|logit| logit.exp()).sum::<f64>().ln()
}

/// A⁻¹·b by elimination with pivots.
fn solved(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
    for column in 0..b.len() {
        let pivot = (column..b.len()).max_by(|&x, &y| a[x][column].abs().total_cmp(&a[y][column].abs())).unwrap();
        a.swap(column, pivot);
        b.swap(column, pivot);
        for row in (0..b.len()).filter(|&row| row != column) {
            let factor = a[row][column] / a[column][column];
            let above = a[column].clone();
            a[row].iter_mut().zip(above).for_each(|(x, y)| *x -= factor * y);
            b[row] -= factor * b[column];
        }
    }
    (0..b.len()).map(|at| b[at] / a[at][at]).collect()
}

/// The least squared distance to the mean of a group, by the covariance about those means.
fn mahalanobis(bank: &[(usize, Vec<f64>)], query: &[f64]) -> f64 {
    let groups = bank.iter().map(|(group, _)| group + 1).max().unwrap();
    let mean = |group: usize, i: usize| {
        let of_group: Vec<f64> = bank.iter().filter(|(of, _)| *of == group).map(|(_, x)| x[i]).collect();
        of_group.iter().sum::<f64>() / of_group.len() as f64
    };
    let means: Vec<Vec<f64>> = (0..groups).map(|group| (0..D).map(|i| mean(group, i)).collect()).collect();
    let covariance = |i: usize, j: usize| {
        let products = bank.iter().map(|(group, x)| (x[i] - means[*group][i]) * (x[j] - means[*group][j]));
        products.sum::<f64>() / bank.len() as f64
    };
    let trace: f64 = (0..D).map(|i| covariance(i, i)).sum();
    let shrunk = |i, j| (1.0 - 1e-4) * covariance(i, j) + if i == j { 1e-4 * trace / D as f64 } else { 0.0 };
    let matrix: Vec<Vec<f64>> = (0..D).map(|i| (0..D).map(|j| shrunk(i, j)).collect()).collect();
    let distance = |mean: &Vec<f64>| {
        let apart: Vec<f64> = query.iter().zip(mean).map(|(x, mean)| x - mean).collect();
        apart.iter().zip(solved(matrix.clone(), apart.clone())).map(|(x, y)| x * y).sum::<f64>()
    };
    means.iter().map(distance).fold(f64::INFINITY, f64::min)
}

#[tokio::test]
async fn scores_of_classes_and_logits_equal_plain_ones() {
    let folder = tempfile::tempdir().unwrap();
    let (db, file) = (folder.path().join("db"), folder.path().join("rows.jsonl"));
    ingested(&db, &file, true).await;
    outskirt(&db, &["bank", "create", "b", "--backbone", "net", "--where", "split = 'train'", "--k", "5"])
        .await
        .unwrap();

    let bank: Vec<Row> = (0..60).map(row).collect();
    let queries: Vec<Row> = (60..80).map(row).collect();
    let by_class: Vec<(usize, Vec<f64>)> = bank.iter().map(|row| (row.class, unit(row))).collect();
    let as_one: Vec<(usize, Vec<f64>)> = bank.iter().map(|row| (0, unit(row))).collect();
    let close = |found: &[f64], expected: &dyn Fn(&Row) -> f64| {
        assert_eq!(found.len(), queries.len());
        for (found, query) in found.iter().zip(&queries) {
            let expected = expected(query);
            assert!((found - expected).abs() < 1e-4 * expected.abs().max(1.0), "{found}, {expected}");
        }
    };
    close(&numbers(&db, "mahalanobis_score(net, 'b')").await, &|query| mahalanobis(&by_class, &unit(query)).sqrt());
    close(&numbers(&db, "rmds_score(net, 'b')").await, &|query| {
        mahalanobis(&by_class, &unit(query)) - mahalanobis(&as_one, &unit(query))
    });
    for (call, k) in [("nnguide_score(net, net_logits, 'b')", 5), ("nnguide_score(net, net_logits, 'b', 60)", 60)] {
        close(&numbers(&db, call).await, &|query| {
            let of = |row: &Row| {
                log_sum_exp(&row.logits) * unit(row).iter().zip(unit(query)).map(|(x, y)| x * y).sum::<f64>()
            };
            let mut all: Vec<f64> = bank.iter().map(of).collect();
            all.sort_by(|a, b| b.total_cmp(a));
            -log_sum_exp(&query.logits) * all[..k].iter().sum::<f64>() / k as f64
        });
    }
    let (nulls, _) = outskirt(
        &db,
        &["sql", "SELECT nnguide_score(net, NULL, 'b') IS NULL AS n FROM images LIMIT 1", "--format", "csv"],
    )
    .await
    .unwrap();
    assert_eq!(nulls, "n\ntrue\n");
    let other = outskirt(&db, &["sql", "SELECT nnguide_score(net, [1.0], 'b') FROM images"]).await.unwrap_err();
    assert!(other.contains("a row has 1 logits, the images of bank 'b' have"), "{other}");

    // in the table of baselines
    let evaluate = ["evaluate", "b", "--id", "split = 'test' AND id % 2 = 0", "--ood", "split = 'test' AND id % 2 = 1"];
    let (table, notices) = outskirt(&db, &[&evaluate[..], &["--baselines"]].concat()).await.unwrap();
    assert!(table.contains("\nrmds_score ") && table.contains("\nnnguide_score "), "{table}");
    assert!(!notices.contains("left out"), "{notices}");
    // a bank of one class
    outskirt(&db, &["bank", "create", "one", "--backbone", "net", "--where", "label = 'class 1'", "--k", "5"])
        .await
        .unwrap();
    let evaluate = [&["evaluate", "one"][..], &evaluate[2..], &["--baselines"]].concat();
    let (table, notices) = outskirt(&db, &evaluate).await.unwrap();
    assert!(!table.contains("\nrmds_score ") && table.contains("\nnnguide_score "), "{table}");
    assert!(notices.contains("rmds_score is left out: the images of bank one are of one class"), "{notices}");
}

#[tokio::test]
async fn a_bank_older_than_its_logits_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (db, file) = (folder.path().join("db"), folder.path().join("rows.jsonl"));
    ingested(&db, &file, false).await;
    outskirt(&db, &["bank", "create", "b", "--backbone", "net", "--where", "split = 'train'", "--k", "5"])
        .await
        .unwrap();
    let evaluate = [
        "evaluate",
        "b",
        "--id",
        "split = 'test' AND id % 2 = 0",
        "--ood",
        "split = 'test' AND id % 2 = 1",
        "--baselines",
    ];
    let (table, notices) = outskirt(&db, &evaluate).await.unwrap();
    assert!(table.contains("\nrmds_score ") && !table.contains("nnguide_score"), "{table}");
    assert!(notices.contains("the scores of logits are left out: there is no column net_logits"), "{notices}");
    let error = outskirt(&db, &["sql", "SELECT nnguide_score(net, [1.0], 'b') FROM images"]).await.unwrap_err();
    assert!(error.contains("60 images of bank 'b' have no net_logits: "), "{error}");
}
