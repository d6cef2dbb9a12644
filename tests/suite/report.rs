//! The report: its facts beside the SQL that it says, and its page as a file that asks nothing of anybody.

use std::collections::BTreeSet;
use std::path::Path;

use arrow::array::AsArray;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use outskirt::index::IndexKind;
use outskirt::report::{Question, page, report};
use outskirt::sql::session::Session;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::fixture::{calibrated, outskirt};

/// The page of the toy bank, asked in full.
async fn facts(db: &Path, more: &[&str]) -> Value {
    let line = [&["report", "--bank", "circle", "--format", "json"], more].concat();
    serde_json::from_str(&outskirt(db, &line).await.unwrap().0).unwrap()
}

const TEST: [&str; 2] = ["--id", "dataset = 'id' AND split = 'test'"];

#[tokio::test]
async fn a_report_counts_what_its_sql_counts() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), IndexKind::Exact).await;
    let sets = ["--ood", "dataset = 'ood'", "--ood", "toy IS NOT NULL AND id < 10", "--max-images", "12"];
    let found = facts(folder.path(), &[&TEST[..], &sets].concat()).await;
    // what is neither in the bank nor in its calibration and has an embedding
    assert_eq!(found["images"], 30);
    let session = Session::open(&store).await.unwrap();
    let verdicts = found["verdicts"].as_array().unwrap();
    let mut checked = 0;
    for verdict in verdicts {
        let (sql, said) = (verdict["sql"].as_str().unwrap(), verdict["text"].as_str().unwrap());
        let rows = session.sql(sql).await.unwrap_or_else(|error| panic!("{error}: {sql}")).collect().await.unwrap();
        let first = |column: usize| {
            let value = arrow::compute::cast(rows[0].column(column), &arrow::datatypes::DataType::Float64).unwrap();
            value.as_primitive::<arrow::datatypes::Float64Type>().value(0)
        };
        // each sentence has the numbers of its SQL
        if std::ptr::eq(verdict, &raw const verdicts[0]) {
            assert_eq!((found["ood"].as_f64(), found["images"].as_f64()), (Some(first(0)), Some(first(1))));
        } else if said.contains("AUROC") {
            let set =
                found["sets"].as_array().unwrap().iter().find(|set| said.starts_with(set["name"].as_str().unwrap()));
            let set = set.unwrap_or_else(|| panic!("{said}"));
            assert_eq!((set["auroc"].as_f64(), set["fpr95"].as_f64()), (Some(first(0)), Some(first(1))), "{sql}");
            checked += 1;
        } else if said.contains(" of ood lies outside") {
            assert_eq!((first(0), first(1)), (1.0, 10.0));
            checked += 1;
        }
    }
    assert_eq!(checked, 3);
    let said: Vec<&str> = verdicts.iter().map(|verdict| verdict["text"].as_str().unwrap()).collect();
    assert!(said.iter().any(|said| said.starts_with("100 % of ood lies outside (72.2 to 100")), "{said:?}");
    assert!(said.iter().any(|said| said.starts_with("ood beside ID images: AUROC 100 %")), "{said:?}");
    // every image is in a dataset, in a period and in a bin
    let sum =
        |of: &Value, name: &str| of.as_array().unwrap().iter().map(|one| one[name].as_u64().unwrap()).sum::<u64>();
    for all in [&found["datasets"], &found["periods"]] {
        assert_eq!((sum(all, "images"), Some(sum(all, "ood"))), (30, found["ood"].as_u64()));
    }
    for dataset in found["datasets"].as_array().unwrap() {
        let counts = dataset["scores"]["counts"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap());
        assert_eq!(Some(counts.sum::<u64>()), dataset["images"].as_u64());
    }
    // what moved at all, beside what moved away: by the SQL that stands beside it
    for dataset in found["datasets"].as_array().unwrap() {
        let told = &dataset["embeddings"];
        let rows = session.sql(told["sql"].as_str().unwrap()).await.unwrap().collect().await.unwrap();
        let number = |column: usize| rows[0].column(column).as_primitive::<arrow::datatypes::Float64Type>().value(0);
        let (auroc, pvalue, mmd) = (told["auroc"].as_f64(), told["pvalue"].as_f64(), told["mmd_effect"].as_f64());
        assert_eq!((auroc, pvalue, mmd), (Some(number(0)), Some(number(3)), Some(number(4))), "{dataset}");
        let is_other = auroc.unwrap() > 0.9 && told["auroc_interval"][0].as_f64().unwrap() > 0.7;
        assert_eq!(is_other, dataset["dataset"] == "ood", "{told}");
    }
    assert_eq!(found["held_out"]["images"], 20);
    let counts = found["held_out"]["counts"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap());
    assert_eq!(counts.sum::<u64>(), 20);
    // and the curves begin and end where curves do
    let roc = found["sets"][0]["roc"].as_array().unwrap();
    assert_eq!((&roc[0][0], &roc[roc.len() - 1]), (&Value::from(0.0), &serde_json::json!([1.0, 1.0])));
}

#[tokio::test]
async fn the_pictures_of_a_report_are_the_furthest_the_borderline_and_representative_ones() {
    let folder = tempfile::tempdir().unwrap();
    calibrated(folder.path(), IndexKind::Exact).await;
    let found = facts(folder.path(), &["--max-images", "12"]).await;
    let pictures = found["pictures"].as_array().unwrap();
    let of = |kind: &str| -> Vec<&Value> { pictures.iter().filter(|one| one["shown_as"] == kind).collect() };
    let (furthest, borderline, typical) = (of("furthest"), of("borderline"), of("representative"));
    assert_eq!((furthest.len(), borderline.len()), (6, 3));
    let scores: Vec<f64> = furthest.iter().map(|one| one["score"].as_f64().unwrap()).collect();
    assert!(scores.is_sorted_by(|one, other| one >= other) && furthest.iter().all(|one| one["dataset"] == "ood"));
    let threshold = found["threshold"].as_f64().unwrap();
    let off = |one: &Value| (one["score"].as_f64().unwrap() - threshold).abs();
    assert!(borderline.iter().all(|near| furthest.iter().all(|far| off(near) < off(far))));
    // those outside that are not shown above are like one of those that stand for them
    let is_ood = |one: &&&Value| one["score"].as_f64().unwrap() > threshold;
    let above = furthest.len() + borderline.iter().filter(is_ood).count();
    let rest: u64 = typical.iter().map(|one| one["stands_for"].as_u64().unwrap()).sum();
    assert_eq!(Some(rest + above as u64), found["ood"].as_u64());
    let ids: BTreeSet<String> = pictures.iter().map(|one| one["id"].to_string()).collect();
    assert_eq!(ids.len(), pictures.len(), "none is shown twice");
    for picture in pictures {
        assert_eq!(picture["neighbors"].as_array().unwrap().len(), 3);
        let (p, share) = (picture["pvalue"].as_f64().unwrap(), picture["percentile"].as_f64().unwrap());
        assert!(p > 0.0 && p <= 1.0 && (0.0..=1.0).contains(&share));
        let reason = picture["without_picture"].as_str().unwrap();
        assert!(reason.contains("/pictures/"), "its file is not there, and that is said: {reason}");
    }
    // of however many as are asked for each is shown once, and none as outside that is not
    let all = facts(folder.path(), &["--max-images", "100000"]).await;
    let all = all["pictures"].as_array().unwrap();
    let ids: BTreeSet<String> = all.iter().map(|one| one["id"].to_string()).collect();
    assert_eq!((ids.len(), all.len()), (30, 30));
    let inside = |one: &Value| one["shown_as"] != "borderline" && one["score"].as_f64().unwrap() <= threshold;
    assert!(!all.iter().any(inside));
    // none are asked for, none are read
    assert_eq!(facts(folder.path(), &["--max-images", "0"]).await["pictures"], serde_json::json!([]));
}

/// A picture of one colour, as PNG.
fn png(path: &Path, colour: [u8; 3], width: u32, height: u32) {
    let pixels = image::RgbImage::from_pixel(width, height, image::Rgb(colour));
    pixels.save_with_format(path, image::ImageFormat::Png).unwrap();
}

/// Own embeddings whose uris are pictures, and what people write as names.
async fn hostile(folder: &Path) -> std::path::PathBuf {
    let mut rows = String::from("uri,label,camera,v\n");
    for row in 0..30 {
        let name = format!("{row}.png");
        png(&folder.join(&name), [8 * row as u8, 90, 200], 300, 150);
        let angle = f64::from(row) / 40.0 + f64::from(row / 27);
        rows += &format!(
            "{name},\"</style><script>alert(1)</script>\",\"\"\"><img src=x onerror=alert({row})>\",\"[{}, {}]\"\n",
            angle.cos(),
            angle.sin()
        );
    }
    std::fs::write(folder.join("rows.csv"), rows).unwrap();
    let db = folder.join("db");
    let line = ["ingest", folder.join("rows.csv").to_str().unwrap(), "--embedding-column", "v", "--backbone", "m"]
        .map(str::to_owned);
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    let more = ["--dataset", "a<b>&\"c\"", "--split", "x", "--model-version", "1"];
    outskirt(&db, &[&line[..], &more].concat()).await.unwrap();
    outskirt(&db, &["bank", "create", "b", "--backbone", "m", "--where", "id <= 10", "--k", "2"]).await.unwrap();
    outskirt(&db, &["bank", "calibrate", "b", "--where", "id > 10"]).await.unwrap();
    db
}

#[tokio::test]
async fn the_page_holds_its_pictures_once_and_asks_nothing_of_anybody() {
    let folder = tempfile::tempdir().unwrap();
    let db = hostile(folder.path()).await;
    let out = folder.path().join("r.html");
    let line = ["report", "--bank", "b", "--tpr", "0.9", "--title", "<i>mine</i>", "--out", out.to_str().unwrap()];
    let (said, _) = outskirt(&db, &line).await.unwrap();
    assert!(said.contains(" of 20 images lie outside bank b; ") && !said.contains("without"), "{said}");
    let page = std::fs::read_to_string(&out).unwrap();

    assert!(page.contains("20 of the images measured calibrated it"), "there are no others, and that is told");
    // what users wrote is text
    assert!(page.contains("&lt;i&gt;mine&lt;/i&gt;") && page.contains("a&lt;b&gt;&amp;&quot;c&quot;"));
    for markup in ["<script>alert", "<img", "onerror=alert(1)>\"", "</style><script>alert"] {
        assert!(!page.contains(markup), "{markup}");
    }
    // the policy allows this style, this script and pictures that stand here
    let inside = |tag: &str| {
        let from = page.find(&format!("<{tag}>")).unwrap() + tag.len() + 2;
        &page[from..from + page[from..].find(&format!("</{tag}>")).unwrap()]
    };
    for tag in ["style", "script"] {
        let hash = format!("'sha256-{}'", STANDARD.encode(Sha256::digest(inside(tag))));
        assert!(page.contains(&format!("{tag}-src {hash}")), "{tag}");
        assert_eq!(page.matches(&format!("<{tag}>")).count(), 1);
    }
    assert!(page.contains("content=\"default-src 'none'; img-src data:; "));
    let addresses = page.matches("://").count();
    assert_eq!(addresses, page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count(), "no address but SVG's name");
    assert!(!page.contains(" style=\"") && !page.contains(" onclick="));

    // each picture once, and every one that is shown is there
    let after = |begin: &str| -> Vec<&str> {
        page.match_indices(begin).map(|(at, _)| page[at + begin.len()..].split('"').next().unwrap()).collect()
    };
    let symbols = after("<symbol id=\"");
    let (held, used) = (symbols.iter().collect::<BTreeSet<_>>(), after("<use href=\"#"));
    assert_eq!(held.len(), symbols.len());
    assert!(used.len() > held.len() && used.iter().all(|id| held.contains(id)));
    let first = STANDARD.decode(after("data:image/jpeg;base64,")[0]).unwrap();
    let pixels = outskirt::image::decode("x", &first, outskirt::image::Orientation::Stored).unwrap();
    assert_eq!((pixels.width, pixels.height), (128, 64));
}

#[tokio::test]
async fn the_size_of_a_page_follows_the_pictures_asked_for_and_its_facts_are_those_of_the_library() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), IndexKind::Exact).await;
    let session = Session::open(&store).await.unwrap();
    let mut question = Question::of("circle");
    let mut stages = Vec::new();
    question.max_images = 4;
    let few = report(&session, &question, |stage| stages.push(stage.to_owned())).await.unwrap();
    assert_eq!(stages[0], "scoring the images");
    assert_eq!(few.pictures.len(), 4);
    question.max_images = 40;
    let many = report(&session, &question, |_| ()).await.unwrap();
    assert!(page(&few).len() < page(&many).len());
    assert_eq!((few.ood, few.threshold), (many.ood, many.threshold));
    assert_eq!(few.title, "What lies outside circle");
}

#[tokio::test]
async fn what_cannot_be_reported_is_said_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    calibrated(&db, IndexKind::Exact).await;
    let out = folder.path().join("r.html");
    let (page, elsewhere) = (out.to_str().unwrap(), folder.path().join("gone/r.html"));
    for (line, why) in [
        (vec!["--bank", "square", "--out", page], "bank 'square'"),
        (vec!["--bank", "circle"], "a page is written to a file: add --out report.html"),
        (vec!["--bank", "circle", "--out", "photo.jpg"], "'photo.jpg' does not: --out report.html"),
        (vec!["--bank", "circle", "--out", page, "--where", "datset = 'x'"], "datset"),
        (vec!["--bank", "circle", "--out", page, "--where", "true) OR (true"], "true) OR (true"),
        (vec!["--bank", "circle", "--out", page, "--where", "dataset = 'unseen'"], "nothing to report: no image"),
        (vec!["--bank", "circle", "--out", page, "--ood", "dataset = 'nobody'"], "matches no image"),
        (vec!["--bank", "circle", "--out", page, "--tpr", "1"], "1"),
        (vec!["--bank", "circle", "--out", elsewhere.to_str().unwrap()], "gone"),
    ] {
        let error = outskirt(&db, &[&["report"], &line[..]].concat()).await.unwrap_err();
        assert!(error.contains(why) && !error.contains('\n'), "{line:?}: {error}");
    }
    outskirt(&db, &["bank", "create", "new", "--backbone", "toy", "--where", "dataset = 'id'", "--k", "3"])
        .await
        .unwrap();
    let error = outskirt(&db, &["report", "--bank", "new", "--out", page]).await.unwrap_err();
    assert!(error.contains("outskirt bank calibrate new"), "{error}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["db"], "nothing is left");
}

/// Images drawn as those of the calibration are no finding, in one dataset or in many, and such of the calibration or the bank are told.
#[tokio::test]
async fn images_like_the_calibrations_are_no_finding_and_its_own_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    let mut text = String::from("uri,dataset,split,note,v\n");
    let mut state = 9u64;
    let mut random = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as f64 / f64::from(1u32 << 31)
    };
    for row in 0..4300 {
        let (split, dataset) = match row {
            0..300 => ("train", "a".into()),
            300..1300 => ("val", "a".into()),
            _ => ("new", format!("d{}", row % 60)),
        };
        let numbers: Vec<String> = (0..4).map(|_| (random() + random() + random() - 1.5).to_string()).collect();
        text += &format!("{row},{dataset},{split},,\"[3,{}]\"\n", numbers.join(","));
    }
    let file = folder.path().join("rows.csv");
    std::fs::write(&file, text).unwrap();
    let line = ["ingest", file.to_str().unwrap(), "--embedding-column", "v", "--backbone", "m", "--model-version", "1"];
    outskirt(&db, &line).await.unwrap();
    outskirt(&db, &["bank", "create", "circle", "--backbone", "m", "--where", "split = 'train'", "--k", "5"])
        .await
        .unwrap();
    outskirt(&db, &["bank", "calibrate", "circle", "--where", "split = 'val'"]).await.unwrap();
    let found = facts(&db, &["--max-images", "0"]).await;
    let said: Vec<&str> =
        found["verdicts"].as_array().unwrap().iter().map(|one| one["text"].as_str().unwrap()).collect();
    assert_eq!(found["images"], 3000);
    assert!(
        said[0].ends_with("no more than the threshold's own share, which is 5.0 % of ID images, allowing for chance."),
        "{said:?}"
    );
    assert!(said.iter().all(|said| !said.contains(" lies outside (")), "{said:?}");
    assert_eq!(found["warnings"], serde_json::json!([]));
    let warnings = facts(&db, &["--max-images", "0", "--where", "true"]).await["warnings"].to_string();
    assert!(warnings.contains("300 of the images measured lie in the bank"), "{warnings}");
    assert!(warnings.contains("1000 of the images measured calibrated it"), "{warnings}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_is_followed_and_a_pipe_is_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let (db, root) = (folder.path().join("db"), folder.path());
    calibrated(&db, IndexKind::Exact).await;
    std::fs::write(root.join("real.html"), "before").unwrap();
    std::os::unix::fs::symlink(root.join("real.html"), root.join("link.html")).unwrap();
    outskirt(&db, &["report", "--bank", "circle", "--out", root.join("link.html").to_str().unwrap()]).await.unwrap();
    assert!(root.join("link.html").is_symlink());
    assert!(std::fs::read_to_string(root.join("real.html")).unwrap().starts_with("<!DOCTYPE html>"));
    let pipe = root.join("pipe.json");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::read_to_string(pipe).unwrap()
    });
    let line = ["report", "--bank", "circle", "--format", "json", "--max-images", "0", "--out", pipe.to_str().unwrap()];
    outskirt(&db, &line).await.unwrap();
    let facts: Value = serde_json::from_str(&reader.join().unwrap()).unwrap();
    assert_eq!(facts["images"], 30);
}

/// What came lately beside what came before: up to the newest image, whenever that was, and the SQL gives the same shares.
#[tokio::test]
async fn a_dataset_that_has_moved_outside_lately_is_told_with_both_shares() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    let mut text = String::from("uri,dataset,came,v\n");
    for row in 0..400 {
        let (dataset, came, angle) = match row {
            0..100 => ("train", "2020-01-01", 0.001 * f64::from(row)),
            100..200 => ("val", "2020-01-01", 0.001 * f64::from(row - 100) + 0.0005),
            // inside, 40 days before the newest; then three quarters outside
            200..300 => ("cam", "2020-05-01", 0.001 * f64::from(row - 200) + 0.0003),
            row => ("cam", "2020-06-10", if row % 4 == 0 { 0.05 } else { 1.5 }),
        };
        text += &format!("{row},{dataset},{came},\"[{}, {}]\"\n", angle.cos(), angle.sin());
    }
    let file = folder.path().join("rows.csv");
    std::fs::write(&file, text).unwrap();
    outskirt(&db, &["backbone", "add", "m", "--external", "--dimension", "2", "--model-version", "1"]).await.unwrap();
    let insert = format!(
        "INSERT INTO images (dataset, uri, split, ingested_at, m) SELECT dataset, uri, 'x', CAST(came AS TIMESTAMP), \
         arrow_cast(string_to_array(trim(both '[]' FROM v), ', '), 'List(Float32)') FROM '{}'",
        file.display()
    );
    outskirt(&db, &["sql", &insert]).await.unwrap();
    outskirt(&db, &["bank", "create", "circle", "--backbone", "m", "--where", "dataset = 'train'", "--k", "3"])
        .await
        .unwrap();
    outskirt(&db, &["bank", "calibrate", "circle", "--where", "dataset = 'val'"]).await.unwrap();
    let found = facts(&db, &["--max-images", "0"]).await;
    let verdict = &found["verdicts"][1];
    let said = verdict["text"].as_str().unwrap();
    let lately = " Of what came in the 30 days up to 2020-06-10 75.0 %, in the 30 days before ";
    assert!(said.contains(lately), "{said}");
    let (text, _) = outskirt(&db, &["sql", verdict["sql"].as_str().unwrap(), "--format", "csv"]).await.unwrap();
    let numbers: Vec<f64> = text.lines().nth(1).unwrap().split(',').map(|number| number.parse().unwrap()).collect();
    assert_eq!((numbers[1], numbers[2]), (200.0, 0.75), "{text}");
    let before =
        format!("before {} %", if numbers[3] == 0.0 { "0".into() } else { format!("{:.1}", 100.0 * numbers[3]) });
    assert!(said.contains(&before), "{said} {text}");
    assert_eq!(found["period"], "day");
}
