//! `outskirt bank tune`: a table of k, and what is said of the images that it is chosen by.

use outskirt::bank::{self, tune};
use outskirt::index::IndexKind;
use outskirt::statistics::metrics::Metrics;

use super::fixture::{Image, calibrated, circle, database, outskirt};

const ID: &str = "dataset = 'id' AND split = 'test'";

#[tokio::test]
async fn every_k_is_that_of_a_query() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    let (store, _) = calibrated(db, IndexKind::Exact).await;
    let ood = "dataset = 'id' AND split = 'val'";
    let tuned = tune(&store, "circle", ID, ood, &[]).await.unwrap();
    let ks: Vec<usize> = tuned.tried.iter().map(|tried| tried.k).collect();
    assert_eq!((ks.as_slice(), tuned.id_images, tuned.ood_images), (&[1, 5, 10, 20][..], 20, 20));
    for tried in &tuned.tried {
        let score = format!("knn_ood_score(toy, 'circle', {})", tried.k);
        let query = format!(
            "SELECT auroc({score}, split = 'val') AS a, fpr_at_tpr({score}, split = 'val') AS f, auroc_interval({score}, split = \
             'val')['lower'] AS l FROM images WHERE ({ID}) OR ({ood})"
        );
        let (row, _) = outskirt(db, &["sql", &query, "--format", "csv"]).await.unwrap();
        let numbers: Vec<f64> = row.lines().nth(1).unwrap().split(',').map(|number| number.parse().unwrap()).collect();
        let Metrics { auroc, fpr95, .. } = tried.metrics;
        assert!((numbers[0] - auroc).abs() < 1e-12 && (numbers[1] - fpr95).abs() < 1e-12, "{row}: {tried:?}");
        assert!((numbers[2] - tried.auroc.lower).abs() < 1e-12, "{row}: {tried:?}");
    }
    let best = tuned.tried.iter().map(|tried| tried.metrics.auroc).fold(0.0, f64::max);
    assert_eq!(tuned.best().metrics.auroc, best);
}

#[tokio::test]
async fn the_table_marks_the_best_and_says_how_to_take_it() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    // an OOD image lies beside one outlier of the bank: its nearest neighbour is near, its third is not
    let angle = |degrees: f64| {
        let radians = degrees.to_radians();
        Some(vec![radians.cos() as f32, radians.sin() as f32, 0.0])
    };
    let images: Vec<Image> = (0..30)
        .map(|i| ("id", "train", angle(f64::from(i))))
        .chain([("id", "train", angle(90.0))])
        .chain((0..10).map(|i| ("id", "val", angle(3.0 * f64::from(i) + 0.5))))
        .chain((0..5).map(|i| ("other", "val", angle(90.0 + 0.01 * f64::from(i)))))
        .chain((0..5).map(|i| ("textures", "test", angle(92.0 + f64::from(i)))))
        .collect();
    let store = database(db, 3, &images).await;
    bank::create(&store, &bank::BankSpec { k: 1, alpha: 0.999, seed: 7, ..circle(IndexKind::Exact) }).await.unwrap();
    let (id, other) = ("dataset = 'id' AND split = 'val'", "dataset = 'other'");
    let line = ["bank", "tune", "circle", "--id", id, "--ood", other, "--k", "3,1"];
    let (table, notices) = outskirt(db, &line).await.unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], "bank circle: 10 ID images, 5 OOD images, in percent");
    assert!(lines[2].starts_with("1    0.00  ") && lines[2].ends_with("100.00  the bank's own"), "{table}");
    assert!(lines[3].starts_with("3  100.00  ") && lines[3].ends_with("  0.00  best"), "{table}");
    assert!(lines[4].starts_with("k = 3 in a query: knn_ood_score(toy, 'circle', 3); "), "{table}");
    let here = format!("outskirt --db \"{}\"", db.display());
    let made = format!(
        "  {here} bank drop circle && {here} bank create circle --backbone toy --where \"dataset = 'id' AND split = \
         'train'\" --k 3 --alpha 0.999 --seed 7"
    );
    assert_eq!(lines[5], made);
    assert_eq!(notices, "");

    // test sets, test splits, calibration images and the bank's own rows are told
    outskirt(db, &["bank", "calibrate", "circle", "--where", id]).await.unwrap();
    let line = [
        "bank",
        "tune",
        "circle",
        "--id",
        "split IN ('val', 'train') AND dataset = 'id'",
        "--ood",
        "dataset = 'textures'",
    ];
    let (table, notices) = outskirt(db, &line).await.unwrap();
    for told in [
        "31 of the 41 ID images are rows of the bank itself",
        "papers test with textures: a k that is chosen by it",
        "5 of the OOD images are of the split 'test'",
        "10 of the ID images calibrate the bank as well (dataset = 'id' AND split = 'val')",
    ] {
        assert!(notices.contains(told), "{told}: {notices}");
    }
    assert!(table.lines().count() >= 6, "{table}");
    let (own, _) = outskirt(db, &["bank", "tune", "circle", "--id", id, "--ood", "dataset = 'textures'", "--k", "1"])
        .await
        .unwrap();
    assert!(
        own.ends_with("k = 1 is the bank's own: there is nothing to change\n") && own.contains("best, the"),
        "{own}"
    );
}

#[tokio::test]
async fn what_cannot_be_tuned_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    calibrated(db, IndexKind::Exact).await;
    let refused = async |name: &str, id: &str, ood: &str, k: &str| {
        outskirt(db, &["bank", "tune", name, "--id", id, "--ood", ood, "--k", k]).await.unwrap_err()
    };
    assert!(refused("square", ID, "dataset = 'ood'", "1").await.contains("unknown bank 'square'"));
    let error = refused("circle", ID, "dataset = 'ood'", "5,41").await;
    assert!(error.contains("k = 41") && error.ends_with("k must be 1 to 40"), "{error}");
    assert!(refused("circle", ID, "dataset = 'none'", "1").await.contains("no images match (dataset = 'none')"));
    let error = refused("circle", ID, "true) OR (true", "1").await;
    assert!(error.starts_with("predicate (true) OR (true): "), "{error}");
    assert!(
        refused("circle", "random() < 0.5", "dataset = 'ood'", "1").await.contains("random() gives another answer")
    );
    assert!(refused("circle", ID, "dataset = 'ood'", "0").await.contains("--k"));
}
