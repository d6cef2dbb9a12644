//! The named queries of `sql/` on the toy database: each runs, and says what can be known beforehand.

use outskirt::index::IndexKind;
use outskirt::sql::queries::shipped;

use super::fixture::{calibrated, outskirt};

const ID: &str = "id=dataset = 'id' AND split = 'test'";

#[tokio::test]
async fn every_shipped_query_answers() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    calibrated(db, IndexKind::Exact).await;
    let ask = async |name: &str, parameters: &[&str]| -> String {
        let mut arguments = vec!["query", name, "--format", "csv", "--param", "bank=circle"];
        parameters.iter().for_each(|parameter| arguments.extend(["--param", parameter]));
        outskirt(db, &arguments).await.unwrap_or_else(|error| panic!("{name}: {error}")).0
    };
    let (mut asked, mut wrong) = (Vec::new(), Vec::new());
    let mut check = |name: &'static str, found: String, expected: &str| {
        asked.push(name);
        if !found.contains(expected) {
            wrong.push(format!("{name}: {found}"));
        }
    };
    let top = ask("top_outliers", &["limit=2"]).await;
    check(
        "top_outliers",
        top,
        "dataset,split,score,uri\nood,test,1.3055,/pictures/89.png\nood,test,1.2922,/pictures/88.png\n",
    );
    let months = ask("outliers_by_month", &["where=split = 'test'"]).await;
    check("outliers_by_month", months, "ood,test,1970-01-01T00:00:00,10,10,100.0\n");
    let table = ask("reference_table", &[ID, "ood=dataset = 'ood'"]).await;
    check(
        "reference_table",
        table,
        "ood_set,images,fpr95,auroc,auin,auout\nood,10,0.0,100.0,97.5,95.0\naverage,10,0.0,100.0,97.5,95.0\n",
    );
    let histogram = ask("score_histogram", &["width=0.5"]).await;
    check("score_histogram", histogram, "dataset,score_from,images,bar\nid,0.0,80,####");
    let neighbors = ask("neighbors_of", &["id=3", "k=2"]).await;
    check(
        "neighbors_of",
        neighbors,
        "distance,id,dataset,split,label,uri\n0.0087,2,id,train,,/pictures/1.png\n0.0087,4,",
    );
    let calibration = ask("calibration_check", &["where=dataset = 'id' AND split = 'test'"]).await;
    check(
        "calibration_check",
        calibration,
        "level,images,share,expected_within\n0.01,20,0.0,0.0629\n0.05,20,0.05,0.1378\n",
    );
    let drift = ask("drift", &["before=split = 'val'", "after=dataset = 'ood'"]).await;
    let found =
        ["images,20.0,10.0,,,,\n", "mean score,0.0", "scores: AUROC,,,1.0,0.", "scores: Kolmogorov-Smirnov,,,1.0,,,"];
    let embeddings = ["embeddings: kernel (MMD),,,0.", "embeddings: classifier AUROC,,,1.0,0.8"];
    assert!(found.iter().chain(&embeddings).all(|line| drift.contains(line)), "{drift}");
    check("drift", drift, "\nlargest score,0.0312,1.3055,,,,\n");
    let copies = ask("near_duplicates", &["within=0.001"]).await;
    check("near_duplicates", copies, "distance,dataset,split,uri,copy_id,copy_of\n");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    asked.sort_unstable();
    let mut names: Vec<String> = shipped().unwrap().into_iter().map(|query| query.name).collect();
    names.sort();
    assert_eq!(asked, names, "every query is asked");
}

/// A predicate that is NULL does not hold: such images were in neither group, and in no OOD set.
#[tokio::test]
async fn images_of_which_a_predicate_is_null_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    calibrated(folder.path(), IndexKind::Exact).await;
    let unsaid = "nullif(dataset, dataset) = 'x'";
    let query = async |name: &str, parameters: [String; 2]| {
        let [one, other] = parameters.each_ref().map(String::as_str);
        outskirt(folder.path(), &["query", name, "-p", one, "-p", other, "--format", "csv"]).await.unwrap().0
    };
    let drift = query("drift", ["before=split = 'val'".into(), format!("after={unsaid}")]).await;
    assert!(drift.contains("\nimages,20.0,0.0,,,,\n"), "{drift}");
    let id = format!("id=split = 'val' OR {unsaid}");
    let table = query("reference_table", [id, "ood=dataset = 'ood'".into()]).await;
    assert!(table.contains("\nood,10,"), "{table}");
}

#[tokio::test]
async fn queries_are_listed_shown_and_refused() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    calibrated(db, IndexKind::Exact).await;
    let (list, _) = outskirt(db, &["query", "--list"]).await.unwrap();
    assert!(list.lines().count() == 9 && list.contains("bank=… limit=20 where=true"), "{list}");
    let (shown, _) = outskirt(db, &["query", "drift", "--show"]).await.unwrap();
    assert!(shown.starts_with("-- Have images moved") && shown.trim_end().ends_with(';'), "{shown}");
    let refused = async |arguments: &[&str]| outskirt(db, &[&["query"], arguments].concat()).await.unwrap_err();
    assert!(refused(&["top"]).await.starts_with("unknown query 'top': known are top_outliers, "));
    let (one, _) = outskirt(db, &["query", "top_outliers", "-p", "limit=1", "--format", "csv"]).await.unwrap();
    assert!(one.contains("\nood,test,1.3055,"), "the only bank is meant: {one}");
    assert!(refused(&["top_outliers", "-p", "bank=demo"]).await.contains("unknown bank 'demo': known are circle"));
    assert!(
        refused(&["score_histogram", "-p", "width=0"]).await.contains("width = '0' is no positive number: not above 0")
    );
    assert!(
        refused(&["top_outliers", "-p", "bank=circle", "-p", "limit=many"])
            .await
            .contains("limit = 'many' is no integer")
    );
    assert!(
        refused(&["top_outliers", "-p", "bank=circle", "-p", "color=red"])
            .await
            .contains("no parameter 'color': it has bank, limit, where")
    );
    assert!(refused(&["drift", "-p", "bank=circle"]).await.contains("needs --param before=PREDICATE"));
    assert!(refused(&["drift", "-p", "bank"]).await.contains("write --param NAME=VALUE"));
    assert!(refused(&["missing.sql"]).await.contains("no such file or folder: missing.sql"));
    let second = ["bank", "create", "second", "--backbone", "toy", "--where", "split = 'val'", "--k", "2"];
    outskirt(db, &second).await.unwrap();
    let several = refused(&["top_outliers"]).await;
    assert!(
        several.ends_with("needs --param bank=BANK (what the images are measured against: circle, second)"),
        "{several}"
    );
    let own = db.join("own.sql");
    std::fs::write(
        &own,
        "-- How many?\n-- param bank bank: b\nSELECT count(*) AS n FROM images WHERE is_ood($embedding, $bank)",
    )
    .unwrap();
    let (rows, _) =
        outskirt(db, &["query", own.to_str().unwrap(), "-p", "bank=circle", "--format", "csv"]).await.unwrap();
    assert_eq!(rows, "n\n18\n");
    // a neighbour that is deleted stays a neighbour
    outskirt(db, &["sql", "DELETE FROM images WHERE id = 2"]).await.unwrap();
    let near = ["query", "neighbors_of", "-p", "bank=circle", "-p", "id=3", "-p", "k=2", "--format", "csv"];
    let (rows, _) = outskirt(db, &near).await.unwrap();
    assert!(rows.contains("\n0.0087,2,,,,\n"), "{rows}");
}
