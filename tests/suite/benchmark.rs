//! The reference's experiments from files to table, with drawn pictures in the place of the data sets.

use std::path::Path;

use outskirt::demo::{Counts, write_pictures};
use serde_json::Value;

use super::fixture::outskirt;

/// ID images in `cifar10`, two OOD sets in `ood_datasets`, and a set that no experiment knows.
fn data_sets(folder: &Path) {
    let drawn = folder.join("drawn");
    write_pictures(&drawn, 7, Counts { train: 8, calibration: 1, test: 4, ood: 12 }).unwrap();
    for (from, to) in [
        ("id/train", "data/cifar10/train"),
        ("id/test", "data/cifar10/test"),
        ("ood/textures", "data/ood_datasets/dtd"),
        ("ood/noise", "data/ood_datasets/iSUN"),
        ("ood/shapes", "data/ood_datasets/unheard-of"),
    ] {
        let to = folder.join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::rename(drawn.join(from), to).unwrap();
    }
}

#[tokio::test]
async fn cifar10_from_files_to_table() {
    let folder = tempfile::tempdir().unwrap();
    data_sets(folder.path());
    let (db, data) = (folder.path().join("db"), folder.path().join("data"));
    let data = data.to_str().unwrap();
    let benchmark = ["benchmark", "cifar10", "--data", data, "--backbone", "demo_shapes", "--k", "5,3"];
    // what cannot be is said before anything is embedded
    let error = outskirt(&db, &[&benchmark[..6], &["--k", "5,81"]].concat()).await.unwrap_err().to_string();
    assert!(error.contains("k = 81") && error.ends_with("k must be 1 to 80") && !db.exists(), "{error}");
    let (rows, notices) = outskirt(&db, &[&benchmark[..], &["--format", "json"]].concat()).await.unwrap();
    assert!(notices.starts_with(&format!("not in {data}: svhn, lsun,")), "{notices}");
    assert!(notices.contains("cifar10/train: 80 added"), "{notices}");
    let rows: Vec<Value> = rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let sets: Vec<_> = rows.iter().map(|row| (row["k"].as_str().unwrap(), row["ood_set"].as_str().unwrap())).collect();
    let expected = ["isun", "textures", "average"];
    assert_eq!(sets, ["5", "3"].iter().flat_map(|k| expected.map(|set| (*k, set))).collect::<Vec<_>>());
    assert!(
        rows.iter().all(|row| row["auroc"].as_f64().unwrap() > 0.8),
        "the demo's network knows its shapes: {rows:?}"
    );

    // the numbers are those of the commands that it stands for
    let evaluate = ["evaluate", "cifar10_demo_shapes", "--id", "dataset = 'cifar10' AND split = 'test'"];
    let ood = ["--ood", "dataset = 'isun'", "--ood", "dataset = 'textures'", "--k", "3", "--format", "json"];
    let (same, _) = outskirt(&db, &[&evaluate[..], &ood].concat()).await.unwrap();
    for (line, row) in same.lines().zip(&rows[3..]) {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&line["fpr95"], &line["auroc"]), (&row["fpr95"], &row["auroc"]));
    }

    // again, with another bank and the baselines: nothing is embedded twice
    let again = [&benchmark[..6], &["--k", "4", "--alpha", "0.5", "--baselines"]].concat();
    let (table, notices) = outskirt(&db, &again).await.unwrap();
    assert!(notices.contains("cifar10/train: 0 added, 80 "), "{notices}");
    assert!(table.contains("knn_ood_score") && table.contains("mahalanobis_score"), "{table}");
    let (banks, _) = outskirt(&db, &["sql", "SELECT k, alpha FROM banks", "--format", "csv"]).await.unwrap();
    assert_eq!(banks, "k,alpha\n4,0.5\n");
}

#[tokio::test]
async fn imagenet_lies_in_train_and_val() {
    let folder = tempfile::tempdir().unwrap();
    data_sets(folder.path());
    let (db, data) = (folder.path().join("db"), folder.path().join("imagenet"));
    std::fs::rename(folder.path().join("data/cifar10"), &data).unwrap();
    std::fs::rename(data.join("test"), data.join("val")).unwrap();
    std::fs::create_dir(data.join("ood_data")).unwrap();
    std::fs::rename(folder.path().join("data/ood_datasets/dtd"), data.join("ood_data/dtd")).unwrap();
    let benchmark = ["benchmark", "imagenet", "--data", data.to_str().unwrap()];
    let refused = outskirt(&db, &benchmark).await.unwrap_err();
    assert!(refused.contains("which network?") && refused.contains("give --backbone"), "{refused}");
    let with_network = [&benchmark[..], &["--backbone", "demo_shapes"]].concat();
    let refused = outskirt(&db, &with_network).await.unwrap_err();
    assert!(refused.contains("k = 1000"), "the paper's k, and 80 images: {refused}");
    let (table, _) = outskirt(&db, &[&with_network[..], &["--k", "3"]].concat()).await.unwrap();
    assert!(table.starts_with("OOD set") && table.lines().nth(1).unwrap().starts_with("textures"), "{table}");
}
