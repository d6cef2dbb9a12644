//! The command line on the toy database: what each command prints.

use std::fs::File;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::ipc::reader::StreamReader;
use clap::Parser;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use outskirt::cli::{Cli, Console, run};
use outskirt::index::{IndexKind, SearchOptions, Storage};
use outskirt::sql::session::Session;

use super::fixture::{Image, calibrated, database, outskirt, toy_database};

/// Of its 40 rows, half a degree apart, those at the ends have their fifth neighbour at 2.5°, those beside them at 2°.
#[tokio::test]
async fn a_calibration_with_images_unlike_the_bank_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    calibrated(folder.path(), IndexKind::Exact).await;
    let line = ["bank", "calibrate", "circle", "--where", "dataset = 'ood'"];
    let (_, notices) = outskirt(folder.path(), &line).await.unwrap();
    let own = 2.0 * f64::to_radians(1.0).sin();
    let said = format!(
        "10 of these 10 images are further from the bank than 95 % of its own rows are from the others ({own:.6}): "
    );
    assert!(notices.starts_with(&said), "{notices}");
}

#[tokio::test]
async fn a_bank_is_made_calibrated_listed_and_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    toy_database(db).await;
    let train = "dataset = 'id' AND split = 'train'";
    let create = ["bank", "create", "circle", "--backbone", "toy", "--where", train, "--k", "5", "--index", "hnsw"];
    let (made, _) = outskirt(db, &create).await.unwrap();
    assert!(made.starts_with("bank circle: 40 embeddings of dimension 3 from toy, k = 5, table version "), "{made}");
    assert!(db.join("indexes/circle.hnsw").exists() && db.join("indexes/circle.hnsw.json").exists());

    let (listed, _) = outskirt(db, &["bank", "list"]).await.unwrap();
    assert!(listed.lines().nth(1).is_some_and(|line| line.contains("hnsw") && line.contains("  no  ")), "{listed}");
    let val = "dataset = 'id' AND split = 'val'";
    let (calibrated, _) = outskirt(db, &["bank", "calibrate", "circle", "--where", val]).await.unwrap();
    let unsure = "where the threshold of all such images lies cannot be said yet: that takes 72 images\n";
    let line = "bank circle: calibrated with 20 images at k = 5, threshold at 95 % TPR 0.021008\n";
    assert_eq!(calibrated, format!("{line}{unsure}"));
    // once more replaces the first
    let (_, notices) = outskirt(db, &["bank", "calibrate", "circle", "--where", val]).await.unwrap();
    assert_eq!(notices, "");
    let (count, _) = outskirt(db, &["sql", "SELECT count(*) AS n FROM calibrations", "--format", "csv"]).await.unwrap();
    assert_eq!(count, "n\n1\n");
    let (listed, _) = outskirt(db, &["bank", "list"]).await.unwrap();
    assert!(listed.contains("20 images"), "{listed}");

    let (dropped, _) = outskirt(db, &["bank", "drop", "circle"]).await.unwrap();
    assert_eq!(dropped, "bank circle: dropped; its 40 images stay\n");
    assert!(!db.join("indexes/circle.hnsw").exists() && !db.join("indexes/circle.hnsw.json").exists());
    let (listed, notice) = outskirt(db, &["bank", "list"]).await.unwrap();
    assert_eq!((listed.as_str(), notice.contains("no banks yet")), ("", true));
}

/// Of the binomial of 100 and 0.05, P(≤ 10) = 0.9885 is the first above 0.975, and P(≤ 0) = 0.0059 the last up to 0.025.
#[tokio::test]
async fn a_calibration_says_how_sure_its_threshold_is() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    let image = |split: &'static str, degrees: f64| -> Image {
        let radians = degrees.to_radians();
        ("id", split, Some(vec![radians.cos() as f32, radians.sin() as f32, 0.0]))
    };
    let train = (0..40).map(|i| image("train", f64::from(i)));
    let images: Vec<Image> = train.chain((0..100).map(|i| image("val", f64::from(i * i) / 100.0))).collect();
    drop(database(db, 3, &images).await);
    let create = ["bank", "create", "circle", "--backbone", "toy", "--where", "split = 'train'", "--k", "3"];
    outskirt(db, &create).await.unwrap();
    let (said, _) = outskirt(db, &["bank", "calibrate", "circle", "--where", "split = 'val'"]).await.unwrap();
    let limits = "SELECT scores[90] AS lower, scores[100] AS upper FROM calibrations";
    let (limits, _) = outskirt(db, &["sql", limits, "--format", "csv"]).await.unwrap();
    let limits: Vec<f64> = limits.lines().nth(1).unwrap().split(',').map(|number| number.parse().unwrap()).collect();
    let expected = format!(
        "the threshold of all such images lies between {:.6} and {:.6} (95 % confidence); 300 more images would halve that\n",
        limits[0], limits[1]
    );
    assert!(said.ends_with(&expected), "{said}{expected}");
}

#[tokio::test]
async fn a_graph_is_compared_with_exact_search() {
    for (storage, name, error) in [
        (Storage::F32, "hnsw", "error 0.000000 on average, 0.000000 at most"),
        (Storage::Bf16, "hnsw-bf16", "% of the images; error 0.00"),
        (Storage::I8, "hnsw-i8", "% of the images; error 0.00"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        calibrated(folder.path(), IndexKind::Hnsw(storage)).await;
        let verify = ["bank", "verify", "circle", "--ood", "dataset = 'ood'"];
        let (found, notice) = outskirt(folder.path(), &verify).await.unwrap();
        let head =
            format!("bank circle: 40 embeddings, {name}, k = 5; 20 ID images (dataset = 'id' AND split = 'val'), 10");
        assert!(found.starts_with(&head) && found.contains(error), "{found}");
        // all OOD images are far outside: rounding does not change that
        assert!(found.contains("FPR95      0.00    0.00  +0.00\nAUROC"), "{found}");
        assert_eq!(notice, "");
        let query = "SET outskirt.search = 'hnsw'; SELECT round(avg(knn_ood_score(toy, 'circle')), 1) AS s FROM images \
                     WHERE dataset = 'ood'";
        let (mean, _) = outskirt(folder.path(), &["sql", query, "--format", "csv"]).await.unwrap();
        assert_eq!(mean, "s\n1.2\n");

        let none = outskirt(folder.path(), &["bank", "verify", "circle", "--ood", "dataset = 'nowhere'"]).await;
        assert!(none.unwrap_err().contains("dataset = 'nowhere'"));
    }
    let folder = tempfile::tempdir().unwrap();
    calibrated(folder.path(), IndexKind::Exact).await;
    let error = outskirt(folder.path(), &["bank", "verify", "circle"]).await.unwrap_err();
    assert!(error.contains("has no HNSW index"), "{error}");
}

#[tokio::test]
async fn sql_prints_tables_csv_and_json() {
    let folder = tempfile::tempdir().unwrap();
    calibrated(folder.path(), IndexKind::Exact).await;
    let query = "SELECT dataset, count(*) AS n FROM images GROUP BY dataset ORDER BY n DESC LIMIT 2";
    let print = async |format: &str| outskirt(folder.path(), &["sql", query, "--format", format]).await.unwrap().0;
    assert_eq!(print("csv").await, "dataset,n\nid,80\nood,10\n");
    assert_eq!(print("json").await, "{\"dataset\":\"id\",\"n\":80}\n{\"dataset\":\"ood\",\"n\":10}\n");
    let table = print("table").await;
    assert!(table.contains("| id      | 80 |"), "{table}");
    let none = outskirt(folder.path(), &["sql", "SELECT id FROM images WHERE false"]).await.unwrap().0;
    assert!(none.contains("| id |"), "an empty result still shows its columns: {none}");
}

/// `outskirt sql` with bytes for results.
async fn bytes(db: &Path, arguments: &[&str]) -> Result<Vec<u8>, (Vec<u8>, String)> {
    let line = ["outskirt", "--db", db.to_str().unwrap(), "sql"].into_iter().chain(arguments.iter().copied());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let cli = Cli::try_parse_from(line).unwrap();
    let done = run(cli, &mut Console::new(&mut out, &mut err)).await;
    match done {
        Ok(()) => Ok(out),
        Err(error) => Err((out, error.to_string())),
    }
}

#[tokio::test]
async fn sql_prints_parquet_and_arrow_that_read_back_equal() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), IndexKind::Exact).await;
    let query = "SELECT id, dataset, label, toy, [id, id + 1] AS pair FROM images ORDER BY id";
    let session = Session::open(&store).await.unwrap();
    let expected = session.sql(query).await.unwrap().collect().await.unwrap();
    let expected = concat_batches(&expected[0].schema(), &expected).unwrap();

    let file = folder.path().join("rows.parquet");
    let save = async |query: &str| {
        let parquet = bytes(folder.path(), &[query, "--format", "parquet"]).await.unwrap();
        std::fs::write(&file, parquet).unwrap();
        ParquetRecordBatchReaderBuilder::try_new(File::open(&file).unwrap()).unwrap()
    };
    let reader = save(query).await;
    let compression = reader.metadata().row_group(0).column(0).compression();
    assert!(compression.to_string().starts_with("ZSTD"), "{compression}");
    let found: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    assert_eq!(concat_batches(&expected.schema(), &found).unwrap(), expected);
    assert_eq!(found[0].schema().field(3).metadata()["outskirt.backbone"], "toy", "an embedding keeps its backbone");
    let count = format!("SELECT count(*) AS n FROM '{}'", file.display());
    assert_eq!(outskirt(folder.path(), &["sql", &count, "--format", "csv"]).await.unwrap().0, "n\n91\n");

    let arrow = bytes(folder.path(), &[query, "--format", "arrow"]).await.unwrap();
    let found: Vec<RecordBatch> = StreamReader::try_new(arrow.as_slice(), None).unwrap().map(Result::unwrap).collect();
    assert_eq!(concat_batches(&expected.schema(), &found).unwrap(), expected);

    // a result without rows is a file with its columns
    let reader = save("SELECT id FROM images WHERE false").await;
    assert_eq!((reader.schema().fields().len(), reader.metadata().file_metadata().num_rows()), (1, 0));
}

#[tokio::test]
async fn bytes_hold_one_result_and_stay_off_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    calibrated(folder.path(), IndexKind::Exact).await;
    let first = "SET outskirt.search = 'exact'; SELECT 1 AS one";
    let whole = bytes(folder.path(), &[first, "--format", "arrow"]).await.unwrap();
    let (out, error) =
        bytes(folder.path(), &[&format!("{first}; SELECT 2 AS two"), "--format", "arrow"]).await.unwrap_err();
    assert!(error.contains("--format arrow holds the rows of one statement"), "{error}");
    assert_eq!(out, whole, "the first result is whole, and of the second there is nothing");

    for format in ["parquet", "arrow"] {
        let arguments = ["outskirt", "--db", folder.path().to_str().unwrap(), "sql", "SELECT 1", "--format", format];
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut console = Console::new(&mut out, &mut err).on_terminal();
        let error = run(Cli::parse_from(arguments), &mut console).await.unwrap_err().to_string();
        drop(console);
        assert!(error.contains("redirect") && error.lines().count() == 1, "{error}");
        assert!(out.is_empty());
    }
    let error = outskirt(folder.path(), &["sql", "SELECT 1", "--format", "xml"]).await.unwrap_err();
    assert!(error.contains("table, csv, json, parquet, arrow"), "{error}");
}

#[tokio::test]
async fn sql_reads_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    calibrated(folder.path(), IndexKind::Exact).await;
    let db = folder.path().to_str().unwrap();
    for arguments in [&["sql"][..], &["sql", "-f", "-"]] {
        let line = ["outskirt", "--db", db].into_iter().chain(arguments.iter().copied()).chain(["--format", "csv"]);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut console = Console::new(&mut out, &mut err).reading("SELECT 1 AS a;\nSELECT\n2 AS b".as_bytes());
        run(Cli::parse_from(line), &mut console).await.unwrap();
        drop(console);
        assert_eq!(String::from_utf8(out).unwrap(), "a\n1\nb\n2\n", "{arguments:?}");
    }
}

#[tokio::test]
async fn an_error_says_in_which_line_its_statement_begins() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    calibrated(&db, IndexKind::Exact).await;
    let file = folder.path().join("f.sql");
    for (text, says, printed) in [
        (
            "-- head\nSELECT 1 AS a;\n\n/* two\nlines */ SELECT lable\nFROM images;\n",
            "line 5: there is no column 'lable'",
            "a\n1\n",
        ),
        ("SELECT 1 AS a; SELECT nope FROM images", "line 1: there is no column 'nope'", "a\n1\n"),
        ("SELECT 1 AS a;\r\nSELECT CAST('x' AS INT) FROM images;\r\n", "line 2: Cast error", "a\n1\n"),
        ("SELECT\n ';\n' AS a;\nSELECT 2 FROM a b c;", "line 4: ", "a\n\";\n\"\n"),
        ("SELECT nope", "line 1: there is no column 'nope': the query reads no table", ""),
    ] {
        std::fs::write(&file, text).unwrap();
        let path = file.to_str().unwrap();
        for (arguments, name) in [(vec!["-f", path], path), (vec!["-f", "-"], "standard input")] {
            let line =
                ["outskirt", "--db", db.to_str().unwrap(), "sql", "--format", "csv"].into_iter().chain(arguments);
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut console = Console::new(&mut out, &mut err).reading(text.as_bytes());
            let error = run(Cli::parse_from(line), &mut console).await.unwrap_err().to_string();
            drop(console);
            assert!(error.starts_with(&format!("{name}, {says}")) && error.lines().count() == 1, "{text}: {error}");
            let is_parsed = !error.contains("parser error") || name == "standard input";
            assert_eq!(String::from_utf8(out).unwrap(), if is_parsed { printed } else { "" }, "{text}");
        }
    }
    // the parser's own place is the file's, too
    std::fs::write(&file, "SELECT 1;\n\n  SELECT 'a").unwrap();
    let error = outskirt(&db, &["sql", "-f", file.to_str().unwrap()]).await.unwrap_err();
    assert!(error.contains("f.sql, line 3: ") && error.contains("Line: 3, Column: 10"), "{error}");
    let error = outskirt(&db, &["query", file.to_str().unwrap()]).await.unwrap_err();
    assert!(error.contains("f.sql, line 3: "), "{error}");
    let error = outskirt(&db, &["sql", "SELECT nope"]).await.unwrap_err();
    assert!(error.starts_with("there is no column 'nope'"), "what is typed needs no place: {error}");
}

#[tokio::test]
async fn a_change_is_a_line_or_a_row_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    calibrated(folder.path(), IndexKind::Exact).await;
    let said = async |arguments: &[&str]| outskirt(folder.path(), &[&["sql"], arguments].concat()).await.unwrap().0;
    let two = "UPDATE images SET label = 'a' WHERE id <= 2; UPDATE images SET label = 'b' WHERE id = 3";
    assert_eq!(said(&[two]).await, "UPDATE 2\nUPDATE 1\n");
    assert_eq!(said(&[two, "--format", "csv"]).await, "count\n2\ncount\n1\n");
    let prepared = "PREPARE p(INT) AS UPDATE images SET label = 'c' WHERE id < $1; EXECUTE p(4); SELECT 1 AS one";
    assert_eq!(said(&[prepared]).await, "UPDATE 3\n+-----+\n| one |\n+-----+\n|   1 |\n+-----+\n");
    for quiet in ["-q", "--quiet"] {
        assert_eq!(said(&[two, quiet]).await, "");
        assert_eq!(said(&[two, quiet, "--format", "csv"]).await, "");
    }
    assert_eq!(said(&["SELECT 1 AS a", "-q", "--format", "csv"]).await, "a\n1\n");
    assert_eq!(said(&["DELETE FROM images WHERE id = 4"]).await, "DELETE 1\n");
}

#[tokio::test]
async fn a_writer_waits_for_another_as_long_as_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), IndexKind::Exact).await;
    let held = store.lock().await.unwrap();
    let update = ["sql", "UPDATE images SET label = 'a' WHERE id = 1"];
    let at_once = outskirt(folder.path(), &update).await.unwrap_err();
    let process = format!("process {}, ", std::process::id());
    assert!(at_once.contains(&process) && at_once.contains("--wait SECONDS waits longer"), "{at_once}");
    let waiting = [&["--wait", "1"], &update[..]].concat();
    let cli = || Cli::parse_from(["outskirt", "--db", folder.path().to_str().unwrap()].iter().chain(&waiting));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let error = run(cli(), &mut Console::new(&mut out, &mut err)).await.unwrap_err().to_string();
    assert!(error.contains(", waited 1 s: wait for it to end"), "{error}");
    // what an earlier one says it would undo may be another change by then
    assert!(outskirt(folder.path(), &["undo"]).await.unwrap_err().starts_with("another program is writing to "));
    let (done, ()) = tokio::join!(async { run(cli(), &mut Console::new(&mut out, &mut err)).await }, async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        drop(held);
    });
    done.unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), "UPDATE 1\n");
}

#[tokio::test]
async fn a_long_table_leaves_before_its_last_row_is_there() {
    let folder = tempfile::tempdir().unwrap();
    calibrated(folder.path(), IndexKind::Exact).await;
    // the last row fails: those before it are out by then
    let query = "SELECT CAST(CASE WHEN value = 100000 THEN 'x' ELSE '1' END AS INT) AS n, value FROM range(100001)";
    let (out, error) = bytes(folder.path(), &[query]).await.unwrap_err();
    assert!(error.contains("'x'"), "{error}");
    assert!(out.iter().filter(|byte| **byte == b'\n').count() > 50_000);
}

#[tokio::test]
async fn sql_reads_files_and_joins_them_with_scores() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    calibrated(&db, IndexKind::Exact).await;
    let cameras = folder.path().join("cameras.csv");
    std::fs::write(&cameras, "uri,camera\n/pictures/80.png,north\n/pictures/89.png,north\n/pictures/60.png,south\n")
        .unwrap();
    let query = format!(
        "SELECT camera, round(max(knn_ood_score(toy, 'circle')), 3) AS worst FROM images JOIN '{}' AS c USING (uri) \
         GROUP BY camera ORDER BY camera;",
        cameras.display()
    );
    let file = folder.path().join("worst.sql");
    std::fs::write(&file, query).unwrap();
    let (rows, _) = outskirt(&db, &["sql", "-f", file.to_str().unwrap(), "--format", "csv"]).await.unwrap();
    assert_eq!(rows, "camera,worst\nnorth,1.306\nsouth,0.033\n");
}

#[tokio::test]
async fn evaluate_prints_the_reference_table() {
    let folder = tempfile::tempdir().unwrap();
    calibrated(folder.path(), IndexKind::Exact).await;
    let arguments = ["evaluate", "circle", "--id", "dataset = 'id' AND split = 'test'", "--ood", "dataset = 'ood'"];
    let (table, notice) = outskirt(folder.path(), &arguments).await.unwrap();
    // twenty ID images do not say where a threshold at 95 % lies; and even a perfect score stays below 100: the reference's curves end at a precision of 0
    let expected = "\
OOD set  images  FPR95  95 % interval   AUROC  95 % interval   AUIN  AUOUT
ood          10   0.00    0.00–100.00  100.00   84.89–100.00  97.50  95.00
average      10   0.00                 100.00                 97.50  95.00
";
    assert_eq!(table, expected);
    // all ID images of this database lie within 20 degrees
    assert!(notice.contains("have a cosine of 0.990 on average"), "{notice}");
    let (rows, _) =
        outskirt(folder.path(), &[&arguments[..], &["--format", "csv", "--k", "1"]].concat()).await.unwrap();
    let columns = "ood_set,images,fpr95,auroc,auin,auout,fpr95_lower,fpr95_upper,auroc_lower,auroc_upper";
    assert!(rows.starts_with(&format!("{columns}\nood,10,0.0,1.0,0.9")), "{rows}");
    assert!(rows.ends_with(",,,,\n") && rows.contains(",0.0,1.0,0.848"), "{rows}");
    // two subsets of one dataset are told apart
    let near = "dataset = 'ood' AND id < 86";
    let far = "dataset = 'ood' AND id >= 86";
    let both =
        [&arguments[..4], &["--ood", near, "--ood", far, "--ood", "dataset = 'ood'", "--format", "csv"]].concat();
    let (rows, _) = outskirt(folder.path(), &both).await.unwrap();
    let names: Vec<&str> = rows.lines().map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!(names, ["ood_set", near, far, "dataset = 'ood'", "average"]);
    let inside = ["evaluate", "circle", "--id", "split = 'train'", "--ood", "dataset = 'ood'"];
    let (_, notice) = outskirt(folder.path(), &inside).await.unwrap();
    assert!(notice.contains("40 of the 40 ID images are rows of the bank itself"), "{notice}");
}

/// A graph in fewer bits cannot tell distances exactly, and that is no fault of its search.
#[tokio::test]
async fn a_graph_in_fewer_bits_is_judged_alike_by_list_and_verify() {
    for (storage, named) in [(Storage::I8, "i8"), (Storage::Bf16, "bf16")] {
        let folder = tempfile::tempdir().unwrap();
        drop(calibrated(folder.path(), IndexKind::Hnsw(storage)).await);
        let (verified, _) = outskirt(folder.path(), &["bank", "verify", "circle"]).await.unwrap();
        let expected =
            format!("k-th distance equal to the exact one within the rounding of {named}: 100.00 % of the images");
        assert!(verified.contains(&expected), "{verified}");
        let (listed, _) = outskirt(folder.path(), &["bank", "list"]).await.unwrap();
        assert!(listed.contains("100.0 % right but for rounding"), "{listed}");
    }
}

#[tokio::test]
async fn a_damaged_graph_is_rebuilt_with_a_notice_and_the_same_answer() {
    let folder = tempfile::tempdir().unwrap();
    calibrated(folder.path(), IndexKind::Hnsw(Storage::F32)).await;
    let query = "SET outskirt.search = 'hnsw'; SELECT round(sum(knn_ood_score(toy, 'circle')), 3) AS s FROM images";
    let print = async || outskirt(folder.path(), &["sql", query, "--format", "csv"]).await.unwrap();
    let whole = print().await;
    assert_eq!(whole.1, "", "nothing to report on a graph that is as it was saved");
    let graph = folder.path().join("indexes/circle.hnsw");
    let mut bytes = std::fs::read(&graph).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&graph, &bytes).unwrap();
    let repaired = print().await;
    assert_eq!(repaired.0, whole.0);
    assert!(repaired.1.contains("its checksum is wrong; rebuilt"), "{}", repaired.1);
    assert_eq!(print().await.1, "", "the repair was saved");
    std::fs::remove_file(folder.path().join("indexes/circle.hnsw.json")).unwrap();
    assert!(print().await.1.contains("rebuilt"));
}

#[tokio::test]
async fn cuda_gives_the_same_scores_or_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    calibrated(folder.path(), IndexKind::Exact).await;
    let query =
        "SELECT round(knn_ood_score(toy, 'circle'), 5) AS s FROM images WHERE dataset = 'ood' ORDER BY id LIMIT 1";
    let query = format!("SET outskirt.device = 'cuda'; {query}");
    match outskirt(folder.path(), &["sql", &query, "--format", "csv"]).await {
        Ok((rows, _)) => assert_eq!(rows, "s\n1.18262\n"),
        Err(line) => {
            let missing = line.contains("no CUDA: ") || line.contains("needs libtorch");
            assert!(missing && line.lines().count() == 1, "{line}");
        }
    }
}

#[tokio::test]
async fn a_bank_keeps_its_rows_when_the_table_grows() {
    let folder = tempfile::tempdir().unwrap();
    let (store, bank) = calibrated(folder.path(), IndexKind::Exact).await;
    let query = ["sql", "SELECT round(sum(knn_ood_score(toy, 'circle')), 4) AS s FROM images", "--format", "csv"];
    let before = outskirt(folder.path(), &query).await.unwrap().0;
    let lock = store.lock().await.unwrap();
    store.delete(&lock, "images", "dataset = 'id' AND split = 'train' AND id > 1").await.unwrap();
    drop(lock);
    let opened = outskirt::bank::Bank::open(&store, bank, SearchOptions::default()).await.unwrap();
    assert_eq!(opened.ids().len(), 40);
    let after = outskirt(folder.path(), &query).await.unwrap().0;
    assert_ne!(before, after, "fewer rows are scored, against the same bank");
}

#[tokio::test]
async fn backbones_are_listed_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let (listed, _) = outskirt(folder.path(), &["backbone", "list"]).await.unwrap();
    assert!(listed.contains("demo_shapes") && listed.contains("built in") && listed.contains("resnet20_cifar10"));
    let (shown, notice) = outskirt(folder.path(), &["backbone", "show", "demo_shapes"]).await.unwrap();
    assert!(shown.contains("architecture = \"resnet8-cifar\"") && notice.contains("built in"), "{shown}{notice}");
    let (_, notice) = outskirt(folder.path(), &["backbone", "show", "resnet20_cifar10"]).await.unwrap();
    assert!(notice.contains("--weights"), "{notice}");
}

#[test]
fn help_of_every_command_has_an_example_or_says_it_all() {
    use clap::CommandFactory;
    let mut cli = outskirt::cli::Cli::command();
    cli.build();
    cli.clone().debug_assert();
    for command in cli.get_subcommands_mut() {
        assert!(!command.render_long_help().to_string().trim().is_empty(), "{}", command.get_name());
    }
}

/// A library that is not there is missed by what needs it alone.
#[cfg(not(feature = "torch"))]
#[tokio::test]
async fn without_libtorch_only_what_needs_it_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let modules = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/modules/pair.pt");
    let weights = folder.path().join("net.toml");
    let add = ["backbone", "add", modules, "--arch", "torchscript", "--input-size", "8", "--mean", "0.5,0.5,0.5"];
    let add = [&add[..], &["--std", "0.5,0.5,0.5", "--out", weights.to_str().unwrap()]].concat();
    let train = ["demo", "--train", "x.safetensors"];
    let counts = outskirt::demo::Counts { train: 1, calibration: 1, test: 1, ood: 1 };
    outskirt::demo::write_pictures(folder.path(), 7, counts).unwrap();
    let pictures = folder.path().join("id/train");
    let cuda =
        ["ingest", pictures.to_str().unwrap(), "--dataset", "d", "--backbone", "demo_shapes", "--device", "cuda"];
    for command in [&add[..], &train, &cuda] {
        let error = outskirt(folder.path(), command).await.unwrap_err();
        assert!(error.contains("needs libtorch") && error.contains("feature 'torch'"), "{error}");
    }
    let (said, _) = outskirt(folder.path(), &["backbone", "check", "demo_shapes"]).await.unwrap();
    assert!(said.contains("demo_shapes: "), "{said}");
}
