//! `outskirt embed`: another backbone's column, from stored bytes and from files that are read again.

use std::path::{Path, PathBuf};

use outskirt::demo::{Counts, write_pictures};

use super::fixture::outskirt;

/// 30 training pictures of 10 classes.
fn pictures(folder: &Path) -> PathBuf {
    write_pictures(folder, 7, Counts { train: 3, calibration: 1, test: 1, ood: 1 }).unwrap();
    folder.join("id/train")
}

/// The manifest of a network that averages quarters of a picture: 12 numbers.
async fn quarters(folder: &Path) -> String {
    let module = folder.join("quarters.pt");
    outskirt_libtorch::load().unwrap();
    let input = tch::Tensor::zeros([1, 3, 16, 16], (tch::Kind::Float, tch::Device::Cpu));
    let mut gives = |inputs: &[tch::Tensor]| vec![inputs[0].adaptive_avg_pool2d([2, 2])];
    tch::CModule::create_by_tracing("Quarters", "forward", &[input], &mut gives).unwrap().save(&module).unwrap();
    let sha256 = outskirt::backbone::sha256_file(&module).unwrap();
    let text = format!(
        "name = \"quarters\"\narchitecture = \"torchscript\"\ndimension = 12\nweights = \"quarters.pt\"\n\
         sha256 = \"{sha256}\"\n[input]\nwidth = 16\nheight = 16\nmean = [0, 0, 0]\nstd = [1, 1, 1]\n"
    );
    let manifest = folder.join("quarters.toml");
    std::fs::write(&manifest, text).unwrap();
    outskirt(&folder.join("db"), &["backbone", "trust", manifest.to_str().unwrap()]).await.unwrap();
    manifest.display().to_string()
}

async fn csv(db: &Path, query: &str) -> String {
    outskirt(db, &["sql", query, "--format", "csv"]).await.unwrap().0
}

async fn ingest(db: &Path, path: &Path, dataset: &str, backbone: &str, more: &[&str]) {
    let line = ["ingest", path.to_str().unwrap(), "--dataset", dataset, "--split", "train", "--backbone", backbone];
    outskirt(db, &[&line[..], more].concat()).await.unwrap();
}

const COUNTS: &str = "SELECT count(*) AS n, count(demo_shapes) AS a, count(quarters) AS b FROM images";

#[tokio::test]
async fn a_second_column_is_filled_and_what_is_there_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (db, train, quarters) = (folder.path().join("db"), pictures(folder.path()), quarters(folder.path()).await);
    ingest(&db, &train, "shapes", "demo_shapes", &[]).await;
    // the same files as another dataset, in an archive: what ingest itself says of them
    let archive = folder.path().join("train.tar.gz");
    let file = flate2::write::GzEncoder::new(std::fs::File::create(&archive).unwrap(), flate2::Compression::fast());
    let mut builder = tar::Builder::new(file);
    builder.append_dir_all("train", &train).unwrap();
    builder.into_inner().unwrap().finish().unwrap();
    ingest(&db, &archive, "archived", "demo_shapes", &[]).await;
    ingest(&db, &train, "again", "demo_shapes", &[]).await;
    ingest(&db, &train, "truth", &quarters, &[]).await;

    // a part first, then the rest
    let stars = ["embed", "--backbone", &quarters, "--where", "label = 'star'", "--threads", "2"];
    let (part, _) = outskirt(&db, &stars).await.unwrap();
    assert!(part.starts_with("9 embedded by quarters, 3 there already in "), "{part}");
    assert_eq!(csv(&db, COUNTS).await, "n,a,b\n120,90,39\n");
    let (rest, notices) = outskirt(&db, &["embed", "--backbone", "quarters"]).await.unwrap();
    assert!(rest.starts_with("81 embedded by quarters, 39 there already in ") && rest.contains("images/s"), "{rest}");
    assert_eq!(notices, "");
    let (none, _) = outskirt(&db, &["embed", "--backbone", "quarters"]).await.unwrap();
    assert!(none.starts_with("0 embedded by quarters, 120 there already in "), "{none}");
    assert_eq!(csv(&db, COUNTS).await, "n,a,b\n120,90,120\n");
    // in other batches than ingest's: of what libtorch computes the last bits may differ
    let equal = "SELECT count(*) AS pairs, max(array_distance(a.quarters, b.quarters)) < 1e-5 AS equal FROM images a \
                 JOIN images b ON a.content_hash = b.content_hash AND a.label = b.label AND b.dataset = 'truth'";
    assert_eq!(csv(&db, equal).await, "pairs,equal\n120,true\n");

    // logits, and a bank of the backbone that grows with its column
    let create = ["bank", "create", "shapes", "--backbone", "demo_shapes", "--where", "dataset <> 'again'", "--k", "2"];
    outskirt(&db, &create).await.unwrap();
    let demo = ["embed", "--backbone", "demo_shapes", "--where", "dataset = 'truth'", "--with-logits"];
    let (filled, _) = outskirt(&db, &demo).await.unwrap();
    assert!(filled.starts_with("30 embedded by demo_shapes in ") && filled.contains("30 embeddings added"), "{filled}");
    let logits = "SELECT count(demo_shapes) AS a, count(demo_shapes_logits) AS l FROM images";
    assert_eq!(csv(&db, logits).await, "a,l\n120,30\n");
    let (more, _) = outskirt(&db, &["embed", "--backbone", "demo_shapes", "--with-logits"]).await.unwrap();
    assert!(more.starts_with("90 embedded by demo_shapes, 30 there already in "), "{more}");
    outskirt(&db, &["verify"]).await.unwrap();
}

#[tokio::test]
async fn files_that_changed_or_are_gone_are_refused_and_stored_bytes_stay() {
    let folder = tempfile::tempdir().unwrap();
    let (db, train, quarters) = (folder.path().join("db"), pictures(folder.path()), quarters(folder.path()).await);
    let archive = folder.path().join("stars.tar");
    let mut builder = tar::Builder::new(std::fs::File::create(&archive).unwrap());
    builder.append_dir_all("star", train.join("star")).unwrap();
    builder.into_inner().unwrap();
    ingest(&db, &train, "files", "demo_shapes", &[]).await;
    ingest(&db, &archive, "archived", "demo_shapes", &[]).await;
    ingest(&db, &train, "stored", "demo_shapes", &["--store-images"]).await;

    std::fs::copy(train.join("star/0001.png"), train.join("star/0000.png")).unwrap();
    std::fs::remove_file(train.join("cross/0002.png")).unwrap();
    std::fs::remove_file(&archive).unwrap();
    let (summary, notices) = outskirt(&db, &["embed", "--backbone", &quarters]).await.unwrap();
    assert!(summary.starts_with("58 embedded by quarters, 5 refused in "), "{summary}");
    let says = |what: &str, why: &str| notices.lines().any(|line| line.contains(what) && line.contains(why));
    assert!(says("star/0000.png", "it has changed since it was ingested: run 'outskirt ingest' again"), "{notices}");
    assert!(says("cross/0002.png", "No such file"), "{notices}");
    assert!(says("stars.tar!/star/0002.png", "no such file or folder"), "{notices}");
    let refused = "SELECT dataset, backbone, count(*) AS n FROM rejects GROUP BY 1, 2 ORDER BY 1";
    assert_eq!(csv(&db, refused).await, "dataset,backbone,n\narchived,quarters,3\nfiles,quarters,2\n");
    let of_datasets = "SELECT dataset, count(quarters) AS b FROM images GROUP BY dataset ORDER BY dataset";
    assert_eq!(csv(&db, of_datasets).await, "dataset,b\narchived,0\nfiles,28\nstored,30\n");

    // nothing but what is refused: the row that changed is mended by ingest
    let (again, _) = outskirt(&db, &["embed", "--backbone", "quarters"]).await.unwrap();
    assert!(again.starts_with("0 embedded by quarters, 58 there already, 5 refused in "), "{again}");
    ingest(&db, &train, "files", "demo_shapes", &[]).await;
    let (mended, _) = outskirt(&db, &["embed", "--backbone", "quarters"]).await.unwrap();
    assert!(mended.starts_with("1 embedded by quarters, 58 there already, 4 refused in "), "{mended}");
    assert_eq!(csv(&db, refused).await, "dataset,backbone,n\narchived,quarters,3\nfiles,quarters,1\n");

    // all files may go where bytes are stored
    let db = folder.path().join("stored");
    ingest(&db, &train, "stored", "demo_shapes", &["--store-images"]).await;
    std::fs::remove_dir_all(&train).unwrap();
    let before = table_bytes(&db);
    assert!(before > 40_000, "29 pictures are stored");
    outskirt(&db, &["backbone", "trust", &quarters]).await.unwrap();
    let (stored, _) = outskirt(&db, &["embed", "--backbone", &quarters]).await.unwrap();
    assert!(stored.starts_with("29 embedded by quarters in "), "{stored}");
    // a column is written beside the rows, and neither pictures nor other columns again: so for values of one's own
    outskirt(&db, &["sql", "UPDATE images SET label = 'x' WHERE label = 'star'"]).await.unwrap();
    let grown = table_bytes(&db) - before;
    assert!(grown < before / 4, "{grown} bytes more than {before}");
}

/// Bytes of the files that hold the rows of `images`.
fn table_bytes(db: &Path) -> u64 {
    let files = std::fs::read_dir(db.join("images.lance/data")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[tokio::test]
async fn a_damaged_archive_keeps_nothing_else_from_being_embedded() {
    let folder = tempfile::tempdir().unwrap();
    let (db, train, quarters) = (folder.path().join("db"), pictures(folder.path()), quarters(folder.path()).await);
    let archive = |name: &str| {
        let path = folder.path().join(name);
        let file = flate2::write::GzEncoder::new(std::fs::File::create(&path).unwrap(), flate2::Compression::fast());
        let mut builder = tar::Builder::new(file);
        builder.append_dir_all("train", &train).unwrap();
        builder.into_inner().unwrap().finish().unwrap();
        path
    };
    let (damaged, whole) = (archive("damaged.tgz"), archive("whole.tgz"));
    ingest(&db, &damaged, "damaged", "demo_shapes", &[]).await;
    ingest(&db, &whole, "whole", "demo_shapes", &[]).await;
    ingest(&db, &train, "files", "demo_shapes", &[]).await;
    let bytes = std::fs::read(&damaged).unwrap();
    std::fs::write(&damaged, &bytes[..bytes.len() / 2]).unwrap();
    let (summary, notices) = outskirt(&db, &["embed", "--backbone", &quarters]).await.unwrap();
    let of_datasets = "SELECT dataset, count(quarters) AS b FROM images GROUP BY dataset ORDER BY dataset";
    let counts = csv(&db, of_datasets).await;
    assert!(counts.contains("files,30") && counts.contains("whole,30"), "{counts} {summary} {notices}");
    let embedded: usize = summary.split(' ').next().unwrap().parse().unwrap();
    assert!((61..90).contains(&embedded), "what came before the damage is embedded: {summary}");
    assert!(summary.contains(&format!(", {} refused in ", 90 - embedded)), "{summary}");
    assert!(notices.lines().all(|line| line.contains("damaged.tgz") || line.starts_with("… and")), "{notices}");
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let (db, train) = (folder.path().join("db"), pictures(folder.path()));
    let refused = async |line: &[&str]| outskirt(&db, &[&["embed"], line].concat()).await.unwrap_err();
    assert!(refused(&["--backbone", "demo_shapes"]).await.starts_with("no database at "));
    ingest(&db, &train, "shapes", "demo_shapes", &[]).await;
    let error = refused(&["--backbone", "resnet9000"]).await;
    assert!(error.starts_with("unknown backbone 'resnet9000': known are demo_shapes"), "{error}");
    let error = refused(&["--backbone", "demo_shapes", "--where", "dataset = 'nothing'"]).await;
    assert!(error.starts_with("no images match (dataset = 'nothing'): check the predicate"), "{error}");
    let error = refused(&["--backbone", "demo_shapes", "--where", "colour = 'red'"]).await;
    assert!(error.starts_with("predicate (colour = 'red'): "), "{error}");
    std::fs::remove_dir_all(&train).unwrap();
    let manifest = quarters(folder.path()).await;
    let error = refused(&["--backbone", &manifest]).await;
    assert!(error.starts_with("all 30 images were refused; the first: ") && error.contains("No such file"), "{error}");
}
