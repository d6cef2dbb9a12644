//! One image explained: in numbers, on a terminal, as a page; in the database or not.

use std::path::Path;

use clap::Parser;
use outskirt::bank;
use outskirt::cli::{Cli, Console, run};
use outskirt::index::IndexKind;
use serde_json::Value;

use super::fixture::{calibrated, outskirt};

async fn facts(db: &Path, line: &[&str]) -> Value {
    let (text, _) = outskirt(db, &[&["explain"], line, &["--format", "json"]].concat()).await.unwrap();
    serde_json::from_str(&text).unwrap()
}

async fn csv(db: &Path, query: &str) -> String {
    outskirt(db, &["sql", query, "--format", "csv"]).await.unwrap().0
}

const CIRCLE: [&str; 2] = ["--bank", "circle"];

#[tokio::test]
async fn an_image_is_explained_by_the_numbers_that_sql_gives() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    calibrated(db, IndexKind::Exact).await;
    // 85 is the fifth of those at 90 degrees and more
    let found = facts(db, &[&["85"], &CIRCLE[..]].concat()).await;
    let sql = "SELECT knn_ood_score(toy, 'circle'), knn_ood_pvalue(toy, 'circle'), is_ood(toy, 'circle'), knn_ood_threshold('circle') FROM images \
               WHERE id = 85";
    let row = csv(db, sql).await;
    let row: Vec<&str> = row.lines().nth(1).unwrap().split(',').collect();
    let number = |value: &Value| value.as_f64().unwrap() as f32;
    assert_eq!(number(&found["score"]), row[0].parse::<f32>().unwrap());
    assert_eq!(found["decision"]["pvalue"].as_f64(), row[1].parse::<f64>().ok());
    assert_eq!(found["decision"]["is_ood"].to_string(), row[2]);
    assert_eq!(number(&found["decision"]["threshold"]), row[3].parse::<f32>().unwrap());
    assert_eq!((&found["decision"]["percentile"], &found["is_in_bank"]), (&Value::from(1.0), &Value::from(false)));
    let near = csv(
        db,
        "SELECT near['id'] FROM (SELECT unnest(knn_neighbors(toy, 'circle', 5)) AS near FROM images WHERE id = 85) ORDER BY near['distance']",
    )
    .await;
    let near: Vec<&str> = near.lines().skip(1).collect();
    let ids: Vec<String> = found["neighbors"].as_array().unwrap().iter().map(|one| one["id"].to_string()).collect();
    assert_eq!(ids, near);

    // also where k is all of the bank
    outskirt(db, &["bank", "create", "all", "--backbone", "toy", "--where", "id <= 4", "--k", "4"]).await.unwrap();
    let all = csv(db, "SELECT knn_ood_score(toy, 'all') FROM images WHERE id = 85").await;
    // of a bank of one image each row's own entry may be all that there is: an image is explained, and no neighbour is named
    let one = ["bank", "create", "one", "--backbone", "toy", "--where", "id = 1", "--k", "1"];
    outskirt(db, &one).await.unwrap();
    let of_one = facts(db, &["85", "--bank", "one"]).await;
    assert!(of_one["score"].as_f64().unwrap() > 1.0 && of_one["neighbors"] == serde_json::json!([]), "{of_one}");
    let score = facts(db, &["85", "--bank", "all"]).await["score"].clone();
    assert_eq!(number(&score), all.lines().nth(1).unwrap().parse::<f32>().unwrap());

    // by its uri it is the same one, and of one in the bank its own entry does not count
    assert_eq!(facts(db, &[&["/pictures/84.png"], &CIRCLE[..]].concat()).await, found);
    let own = facts(db, &[&["20"], &CIRCLE[..], &["--neighbors", "2"]].concat()).await;
    assert_eq!(own["is_in_bank"], true);
    let neighbors = own["neighbors"].as_array().unwrap();
    assert!(neighbors.len() == 2 && neighbors.iter().all(|one| one["id"] != 20));
    let left_out = csv(db, "SELECT knn_ood_score(toy, 'circle', 5, id) FROM images WHERE id = 20").await;
    assert_eq!(number(&own["score"]), left_out.lines().nth(1).unwrap().parse::<f32>().unwrap());
}

#[tokio::test]
async fn the_words_say_what_the_numbers_are_and_a_page_has_them_too() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    calibrated(&db, IndexKind::Exact).await;
    let (said, notices) = outskirt(&db, &["explain", "85", "--bank", "circle"]).await.unwrap();
    assert_eq!(notices, "");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..2], ["/pictures/84.png", "id 85, dataset ood, split test"]);
    assert!(lines[3].starts_with("it lies outside bank circle (version "), "{said}");
    assert!(said.contains("percentile  100.00 % of 20 calibration images have a smaller score"), "{said}");
    assert_eq!(lines.iter().filter(|line| line.ends_with(".png")).count(), 6, "{said}");
    let (said, _) = outskirt(&db, &["explain", "20", "--bank", "circle"]).await.unwrap();
    assert!(said.contains("it is in the bank itself: its own entry is left out"), "{said}");

    let out = folder.path().join("x.html");
    let (said, _) =
        outskirt(&db, &["explain", "85", "--bank", "circle", "--out", out.to_str().unwrap()]).await.unwrap();
    assert!(said.ends_with("x.html: it lies outside bank circle\n"), "{said}");
    let page = std::fs::read_to_string(&out).unwrap();
    assert!(page.contains("It lies outside circle.") && page.contains("Nearest images of the bank"));
    assert!(page.contains("default-src 'none'") && page.contains("no picture: "), "its file is gone, and that is said");

    // a bank without a calibration has scores
    bank::create(
        &outskirt::store::Store::open(&db).await.unwrap(),
        &bank::BankSpec { name: "new".into(), k: 3, ..super::fixture::circle(IndexKind::Exact) },
    )
    .await
    .unwrap();
    let (said, _) = outskirt(&db, &["explain", "85", "--bank", "new"]).await.unwrap();
    assert!(
        said.contains("bank new is not calibrated, so there is no threshold") && !said.contains("p-value"),
        "{said}"
    );
}

/// A picture that the program drew, its network, and a terminal.
#[tokio::test]
async fn a_picture_that_is_not_in_the_database_is_embedded_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for row in 0..12u8 {
        let draw = |x: u32, y: u32| image::Rgb([20 * row, (8 * x) as u8, (8 * y) as u8]);
        image::RgbImage::from_fn(32, 32, draw).save(root.join(format!("{row:02}.png"))).unwrap();
    }
    let db = root.join("db");
    let (ten, eleven) = (root.join("10.png"), root.join("11.png"));
    std::fs::create_dir(root.join("held")).unwrap();
    std::fs::rename(&eleven, root.join("held/11.png")).unwrap();
    let held = root.join("held/11.png");
    let pictures: Vec<String> =
        (0..11).map(|row| root.join(format!("{row:02}.png")).to_str().unwrap().into()).collect();
    let pictures: Vec<&str> = pictures.iter().map(String::as_str).collect();
    let more = ["--dataset", "d", "--split", "x", "--backbone", "demo_shapes"];
    outskirt(&db, &[&["ingest"], &pictures[..], &more].concat()).await.unwrap();
    outskirt(&db, &["bank", "create", "b", "--backbone", "demo_shapes", "--where", "id <= 8", "--k", "2"])
        .await
        .unwrap();
    let found = facts(&db, &[held.to_str().unwrap(), "--bank", "b", "--neighbors", "3"]).await;
    assert_eq!((&found["id"], &found["without_picture"]), (&Value::Null, &Value::Null));
    assert_eq!(found["neighbors"].as_array().unwrap().len(), 3);
    assert!(found["score"].as_f64().unwrap() > 0.0);
    // by a spelling of its path one that is there is itself
    let spelled = root.join("held/../10.png");
    assert_eq!(
        facts(&db, &[spelled.to_str().unwrap(), "--bank", "b"]).await["id"].as_u64(),
        Some(11),
        "{}",
        ten.display()
    );

    // of one that was written anew it says that these are the numbers of what it was
    let second = root.join("01.png");
    let line = ["explain", second.to_str().unwrap(), "--bank", "b"];
    let changed = "its file has changed since: this is of the picture as it was";
    assert!(!outskirt(&db, &line).await.unwrap().0.contains(changed));
    image::RgbImage::from_pixel(32, 32, image::Rgb([250, 10, 10])).save(&second).unwrap();
    assert!(outskirt(&db, &line).await.unwrap().0.contains(changed));
    assert_eq!(facts(&db, &["2", "--bank", "b"]).await["file_has_changed"], true);

    // on a terminal a picture stands above, unless it is not wanted
    let terminal = async |more: &[&str]| {
        let line = ["outskirt", "--db", db.to_str().unwrap(), "explain", held.to_str().unwrap(), "--bank", "b"];
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let cli = Cli::try_parse_from(line.iter().chain(more)).unwrap();
        run(cli, &mut Console::new(&mut out, &mut err).on_terminal().of_width(60)).await.unwrap();
        String::from_utf8(out).unwrap()
    };
    let shown = terminal(&[]).await;
    assert!(
        shown.starts_with('\x1b')
            || std::env::var_os("NO_COLOR").is_some()
            || std::env::var("TERM").is_ok_and(|term| term == "dumb")
    );
    assert!(terminal(&["--no-picture"]).await.starts_with(held.to_str().unwrap()));
    // a page has the picture and those of the bank, each once
    let out = root.join("x.html");
    outskirt(&db, &["explain", held.to_str().unwrap(), "--bank", "b", "--out", out.to_str().unwrap()]).await.unwrap();
    let page = std::fs::read_to_string(&out).unwrap();
    assert_eq!(page.matches("<symbol ").count(), 6);
    assert!(page.contains("not in the database, embedded now"));
}

#[tokio::test]
async fn what_cannot_be_explained_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    calibrated(&db, IndexKind::Exact).await;
    outskirt(
        &db,
        &["sql", "INSERT INTO images (id, dataset, split, uri) VALUES (200, 'twice', 'x', '/pictures/84.png')"],
    )
    .await
    .unwrap();
    for (line, why) in [
        (&["999", "--bank", "circle"][..], "no image has id 999"),
        (&["91", "--bank", "circle"], "image 91 has no embedding of backbone 'toy'"),
        (&["85", "--bank", "square"], "square"),
        (&["/pictures/84.png", "--bank", "circle"], "give the id of one, 85 (ood), 200 (twice)"),
        (&["/gone.png", "--bank", "circle"], "no image has the uri /gone.png, and there is no such file"),
        (&["85", "--bank", "circle", "--tpr", "2"], "2"),
        (&["85", "--bank", "circle", "--out", "x.png"], "'x.png' does not"),
        (&["85", "--bank", "circle", "--format", "html"], "add --out report.html"),
    ] {
        let error = outskirt(&db, &[&["explain"], line].concat()).await.unwrap_err();
        assert!(error.contains(why) && !error.contains('\n'), "{line:?}: {error}");
    }
}
