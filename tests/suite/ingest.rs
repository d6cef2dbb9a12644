//! Ingest with real networks: the demo's on pictures it draws, and a TorchScript module made here.

use std::path::{Path, PathBuf};

use outskirt::demo::{Counts, write_pictures};

use super::fixture::outskirt;

/// A few drawn pictures: 10 classes × 6 and 5 OOD sets × 6.
fn pictures(folder: &Path) -> PathBuf {
    let counts = Counts { train: 6, calibration: 2, test: 2, ood: 6 };
    write_pictures(folder, 7, counts).unwrap();
    folder.join("id/train")
}

async fn csv(db: &Path, query: &str) -> String {
    outskirt(db, &["sql", query, "--format", "csv"]).await.unwrap().0
}

fn arguments<'a>(path: &'a str, backbone: &'a str) -> Vec<&'a str> {
    vec!["ingest", path, "--dataset", "shapes", "--split", "train", "--backbone", backbone]
}

#[tokio::test]
async fn ingesting_again_adds_nothing_and_changes_are_seen() {
    let folder = tempfile::tempdir().unwrap();
    let (db, train) = (folder.path().join("db"), pictures(folder.path()));
    let ingest = arguments(train.to_str().unwrap(), "demo_shapes");
    let (first, _) = outskirt(&db, &ingest).await.unwrap();
    assert!(first.starts_with("shapes/train: 60 added in "), "{first}");
    let all = "SELECT id, uri, label, content_hash FROM images ORDER BY id";
    let rows = csv(&db, all).await;
    assert!(rows.contains(",circle,") && rows.contains("id/train/star/0003.png"), "{rows}");

    let (again, _) = outskirt(&db, &ingest).await.unwrap();
    assert!(again.starts_with("shapes/train: 0 added, 60 there already in "), "{again}");
    assert_eq!(csv(&db, all).await, rows);

    // a changed picture keeps its row, its id and what the user wrote beside it; a new one is added
    let camera = "ALTER TABLE images ADD COLUMN camera TEXT; UPDATE images SET camera = 'left', label = 'mine'";
    outskirt(&db, &["sql", camera]).await.unwrap();
    std::fs::copy(train.join("star/0001.png"), train.join("star/0000.png")).unwrap();
    std::fs::copy(train.join("star/0002.png"), train.join("star/0099.png")).unwrap();
    let (third, _) = outskirt(&db, &ingest).await.unwrap();
    assert!(third.starts_with("shapes/train: 1 added, 1 replaced (the file had changed), 59 there already"), "{third}");
    let twins = "SELECT count(*) AS rows, count(DISTINCT id) AS ids, count(DISTINCT content_hash) AS files, \
                 count(demo_shapes) AS embedded FROM images";
    assert_eq!(csv(&db, twins).await, "rows,ids,files,embedded\n61,61,59,61\n");
    let kept = "SELECT count(camera) AS cameras, count(*) FILTER (WHERE label = 'mine') AS labels FROM images";
    assert_eq!(csv(&db, kept).await, "cameras,labels\n60,60\n");
}

#[tokio::test]
async fn archives_and_folders_give_the_same_embeddings() {
    let folder = tempfile::tempdir().unwrap();
    let (db, train) = (folder.path().join("db"), pictures(folder.path()));
    let archive = folder.path().join("train.tar.gz");
    let file = flate2::write::GzEncoder::new(std::fs::File::create(&archive).unwrap(), flate2::Compression::fast());
    let mut builder = tar::Builder::new(file);
    builder.append_dir_all("train", &train).unwrap();
    builder.into_inner().unwrap().finish().unwrap();
    outskirt(&db, &arguments(train.to_str().unwrap(), "demo_shapes")).await.unwrap();
    let mut from_archive = arguments(archive.to_str().unwrap(), "demo_shapes");
    from_archive[3] = "archived";
    outskirt(&db, &from_archive).await.unwrap();
    let differing = "SELECT count(*) AS pairs, count(*) FILTER (WHERE a.demo_shapes = b.demo_shapes) AS equal \
                     FROM images a JOIN images b ON a.content_hash = b.content_hash \
                     WHERE a.dataset = 'shapes' AND b.dataset = 'archived' AND a.label = b.label";
    assert_eq!(csv(&db, differing).await, "pairs,equal\n60,60\n");
}

#[tokio::test]
async fn broken_pictures_are_named_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (db, train) = (folder.path().join("db"), pictures(folder.path()));
    let whole = std::fs::read(train.join("cross/0000.png")).unwrap();
    std::fs::write(train.join("cross/0000.png"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(train.join("cross/0001.png"), b"not a picture").unwrap();
    let (summary, notices) = outskirt(&db, &arguments(train.to_str().unwrap(), "demo_shapes")).await.unwrap();
    assert!(summary.contains("58 added, 2 refused"), "{summary}");
    assert!(notices.contains("cross/0000.png") && notices.contains("cross/0001.png"), "{notices}");
}

#[tokio::test]
async fn refusals_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (db, train) = (folder.path().join("db"), pictures(folder.path()));
    let train = train.to_str().unwrap();
    let refused = async |path: &str, backbone: &str| outskirt(&db, &arguments(path, backbone)).await.unwrap_err();
    let error = refused("no/such/folder", "demo_shapes").await;
    assert_eq!(error, "no such file or folder: no/such/folder");
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let error = refused(empty.to_str().unwrap(), "demo_shapes").await;
    assert!(error.starts_with("no images found in "), "{error}");
    let error = refused(train, "resnet9000").await;
    assert!(
        error.contains("unknown backbone 'resnet9000': known are demo_shapes, densenet_cifar10, resnet20_cifar10"),
        "{error}"
    );
    let error = refused(train, "resnet20_cifar10").await;
    assert!(error.contains("has no weights at") && error.contains("--weights"), "{error}");
    let wrong = folder.path().join("wrong.th");
    std::fs::write(&wrong, b"other weights").unwrap();
    let with_wrong = [arguments(train, "resnet20_cifar10"), vec!["--weights", wrong.to_str().unwrap()]].concat();
    let error = outskirt(&db, &with_wrong).await.unwrap_err();
    assert!(error.contains("have sha256") && error.contains("12fca82f"), "{error}");
    assert!(!db.exists(), "no database was made");
}

#[tokio::test]
async fn only_broken_pictures_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken");
    std::fs::create_dir(&broken).unwrap();
    std::fs::write(broken.join("a.png"), b"no").unwrap();
    let error =
        outskirt(&folder.path().join("db"), &arguments(broken.to_str().unwrap(), "demo_shapes")).await.unwrap_err();
    assert!(error.starts_with("all 1 images were refused; the first: ") && error.contains("a.png"), "{error}");
}

#[cfg(feature = "torch")]
#[tokio::test]
async fn a_torchscript_module_of_ones_own_fills_a_second_column() {
    let folder = tempfile::tempdir().unwrap();
    let (db, train) = (folder.path().join("db"), pictures(folder.path()));
    outskirt(&db, &arguments(train.to_str().unwrap(), "demo_shapes")).await.unwrap();

    // the mean of each channel over 2×2 quarters: 12 numbers whose truth is plain
    let module = folder.path().join("quarters.pt");
    outskirt_libtorch::load().unwrap();
    let input = tch::Tensor::zeros([1, 3, 16, 16], (tch::Kind::Float, tch::Device::Cpu));
    let mut quarters = |inputs: &[tch::Tensor]| vec![inputs[0].adaptive_avg_pool2d([2, 2])];
    tch::CModule::create_by_tracing("Quarters", "forward", &[input], &mut quarters).unwrap().save(&module).unwrap();
    let manifest = folder.path().join("quarters.toml");
    let sha256 = outskirt::backbone::sha256_file(&module).unwrap();
    let text = |dimension: usize| {
        format!(
            "name = \"quarters\"\narchitecture = \"torchscript\"\ndimension = {dimension}\nweights = \"quarters.pt\"\n\
             sha256 = \"{sha256}\"\n[input]\nwidth = 16\nheight = 16\nmean = [0, 0, 0]\nstd = [1, 1, 1]\n"
        )
    };
    std::fs::write(&manifest, text(10)).unwrap();
    let ingest = arguments(train.to_str().unwrap(), manifest.to_str().unwrap());
    // a module is code: it runs once it is trusted
    let error = outskirt(&db, &ingest).await.unwrap_err();
    assert!(error.starts_with("backbone 'quarters' is a TorchScript module, which is code"), "{error}");
    let trust = error.split('\'').find(|part| part.starts_with("outskirt backbone trust ")).unwrap();
    outskirt(&db, &trust.split(' ').skip(1).collect::<Vec<_>>()).await.unwrap();
    let error = outskirt(&db, &ingest).await.unwrap_err();
    assert_eq!(error, "backbone 'quarters' gave 12 numbers per image, its manifest says dimension = 10");
    std::fs::write(&manifest, text(12)).unwrap();
    // the same weights behind another preprocessing are another network
    let (filled, _) = outskirt(&db, &ingest).await.unwrap();
    std::fs::write(&manifest, text(12).replace("std = [1, 1, 1]", "std = [2, 2, 2]")).unwrap();
    let error = outskirt(&db, &ingest).await.unwrap_err();
    assert!(error.contains("'quarters' is in this database with another architecture or input"), "{error}");
    std::fs::write(&manifest, text(12)).unwrap();
    assert!(filled.contains("0 added, 60 embedded by this backbone too"), "{filled}");
    let counts = "SELECT count(*) AS n, count(demo_shapes) AS a, count(quarters) AS b FROM images";
    assert_eq!(csv(&db, counts).await, "n,a,b\n60,60,60\n");

    // the database knows the network by name now
    let by_name = arguments(train.to_str().unwrap(), "quarters");
    let (known, _) = outskirt(&db, &by_name).await.unwrap();
    assert!(known.contains("60 there already"), "{known}");
    let (listed, _) = outskirt(&db, &["backbone", "list"]).await.unwrap();
    assert!(listed.contains("quarters"), "{listed}");

    // a changed picture drops what the other network said of the old one
    std::fs::copy(train.join("star/0001.png"), train.join("star/0000.png")).unwrap();
    let (replaced, _) = outskirt(&db, &by_name).await.unwrap();
    assert!(replaced.contains("1 replaced"), "{replaced}");
    assert_eq!(csv(&db, counts).await, "n,a,b\n60,59,60\n");
}

#[tokio::test]
async fn the_demo_runs_from_pictures_to_outliers() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("demo");
    let run = ["demo", "--dir", dir.to_str().unwrap(), "--seed", "3"];
    let (printed, notices) = outskirt(folder.path(), &run).await.unwrap();
    assert!(notices.contains("demo/db, and --db (OUTSKIRT_DB) is left alone: --dir moves it"), "{notices}");
    let average = printed.lines().find(|line| line.starts_with("average")).unwrap();
    let numbers: Vec<f64> = average.split_whitespace().skip(1).map(|number| number.parse().unwrap()).collect();
    assert!(numbers[1] < 30.0 && numbers[2] > 90.0, "FPR95 and AUROC of the committed weights: {average}");
    assert!(printed.contains("forward pass") && printed.contains("Go on from here"), "{printed}");
    std::fs::remove_file(dir.join("made-by-outskirt-demo")).unwrap();
    let error = outskirt(folder.path(), &run).await.unwrap_err();
    assert!(error.contains("is not empty and not a demo's folder"), "{error}");
}

#[tokio::test]
async fn weights_of_another_shape_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (db, train) = (folder.path().join("db"), pictures(folder.path()));
    let bytes: Vec<u8> = [0.5f32; 12].iter().flat_map(|value| value.to_le_bytes()).collect();
    let tensor = |shape: Vec<usize>| {
        let bytes = &bytes[..4 * shape.iter().product::<usize>()];
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, bytes).unwrap()
    };
    let weights = folder.path().join("w.safetensors");
    let tensors = [("bn1.weight", tensor(vec![12])), ("head.weight", tensor(vec![2, 3]))];
    safetensors::serialize_to_file(tensors, None, &weights).unwrap();
    // the file that one has is not the manifest that is wanted
    let ingest = arguments(train.to_str().unwrap(), weights.to_str().unwrap());
    let error = outskirt(&db, &ingest).await.unwrap_err();
    assert!(error.contains("looks like weights: 'outskirt backbone add FILE --arch ARCHITECTURE'"), "{error}");
    let manifest = folder.path().join("m.toml");
    let sha256 = outskirt::backbone::sha256_file(&weights).unwrap();
    let text = include_str!("../../checkpoints/demo_shapes.toml")
        .lines()
        .map(|line| match line.split_once(" = ") {
            Some(("name", _)) => "name = \"mine\"".to_string(),
            Some(("weights", _)) => "weights = \"w.safetensors\"".to_string(),
            Some(("sha256", _)) => format!("sha256 = \"{sha256}\""),
            _ => line.to_string(),
        })
        .collect::<Vec<_>>()
        .join("\n");
    std::fs::write(&manifest, text).unwrap();
    let ingest = arguments(train.to_str().unwrap(), manifest.to_str().unwrap());
    let error = outskirt(&db, &ingest).await.unwrap_err();
    assert!(error.contains("do not fit architecture resnet8-cifar: conv1.weight, "), "{error}");
    assert!(error.contains("bn1.weight has shape [12], expected [16]") && error.contains("more"), "{error}");
    assert!(!db.exists(), "no database was made");
}

#[tokio::test]
async fn a_broken_file_is_a_row_of_rejects_until_it_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let (db, train) = (folder.path().join("db"), pictures(folder.path()));
    let whole = std::fs::read(train.join("star/0003.png")).unwrap();
    std::fs::write(train.join("star/0003.png"), &whole[..40]).unwrap();
    std::fs::write(train.join("star/0004.png"), b"").unwrap();
    let ingest = arguments(train.to_str().unwrap(), "demo_shapes");
    let strict = outskirt(&db, &[&ingest[..], &["--strict"]].concat()).await.unwrap_err().to_string();
    assert!(strict.contains("star/0003.png") && strict.contains("--strict stops here"), "{strict}");
    let mut before = 0;
    for class in std::fs::read_dir(&train).unwrap().flatten() {
        let files = std::fs::read_dir(class.path()).unwrap().flatten();
        before += files.filter(|file| file.path() < train.join("star/0003.png")).count();
    }
    let kept = csv(&db, "SELECT count(*) AS n, count(*) FILTER (WHERE uri LIKE '%/star/%') AS last FROM images").await;
    assert_eq!(kept, format!("n,last\n{before},3\n"), "what came before it, and nothing after it in the same batch");

    let (summary, notices) = outskirt(&db, &ingest).await.unwrap();
    assert!(summary.contains(", 2 refused in"), "{summary}");
    assert!(notices.contains("refused ") && notices.contains("star/0004.png: the file is empty"), "{notices}");
    let rejects =
        "SELECT dataset, split, backbone, reason, regexp_replace(uri, '.*/', '') AS file FROM rejects ORDER BY file";
    let rows = csv(&db, rejects).await;
    assert!(rows.contains("\nshapes,train,demo_shapes,") && rows.ends_with("the file is empty,0004.png\n"), "{rows}");
    assert_eq!(rows.lines().count(), 3);
    outskirt(&db, &ingest).await.unwrap();
    assert_eq!(csv(&db, rejects).await, rows, "once, however often it is refused");

    std::fs::write(train.join("star/0003.png"), &whole).unwrap();
    let (summary, _) = outskirt(&db, &ingest).await.unwrap();
    assert!(summary.starts_with("shapes/train: 1 added, 58 there already, 1 refused"), "{summary}");
    assert_eq!(csv(&db, "SELECT regexp_replace(uri, '.*/', '') AS file FROM rejects").await, "file\n0004.png\n");
    let error = outskirt(&db, &["sql", "DELETE FROM rejects"]).await.unwrap_err().to_string();
    assert!(error.contains("mend the files"), "{error}");
}

/// MNIST's pictures, one every value's, as an idx file.
fn idx(values: &[u8]) -> Vec<u8> {
    let header = [2051, values.len() as u32, 16, 16].into_iter().flat_map(u32::to_be_bytes);
    header.chain(values.iter().flat_map(|&value| [value; 256])).collect()
}

#[tokio::test]
async fn a_broken_container_in_a_folder_is_a_row_of_rejects_until_it_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let (db, train) = (folder.path().join("db"), pictures(folder.path()));
    let ingest = arguments(train.to_str().unwrap(), "demo_shapes");
    let whole = idx(&[10, 20, 30]);
    std::fs::write(train.join("half-images-idx3-ubyte"), &whole[..whole.len() - 500]).unwrap();
    std::fs::write(train.join("more.parquet"), b"no table").unwrap();
    std::fs::write(train.join("digits_32x32.mat"), b"no matrix").unwrap();
    let strict = outskirt(&db, &[&ingest[..], &["--strict"]].concat()).await.unwrap_err();
    assert!(strict.contains("digits_32x32.mat: it is too short for a MATLAB file"), "{strict}");
    assert!(strict.contains("--strict stops here"), "{strict}");
    let by_itself = train.join("more.parquet");
    let error = outskirt(&db, &arguments(by_itself.to_str().unwrap(), "demo_shapes")).await.unwrap_err();
    assert!(error.starts_with("cannot read ") && error.lines().count() == 1, "{error}");

    let (summary, notices) = outskirt(&db, &ingest).await.unwrap();
    assert!(summary.contains(", 3 refused in"), "{summary}");
    assert!(notices.contains("half-images-idx3-ubyte: it breaks off in 00000001: "), "{notices}");
    let rejects = "SELECT regexp_replace(uri, '.*/', '') AS file, reason LIKE 'it breaks off%' AS cut FROM rejects \
                   ORDER BY file";
    let three = "file,cut\ndigits_32x32.mat,false\nhalf-images-idx3-ubyte,true\nmore.parquet,false\n";
    assert_eq!(csv(&db, rejects).await, three);
    assert_eq!(csv(&db, "SELECT count(*) AS n FROM images").await, "n\n61\n");
    outskirt(&db, &ingest).await.unwrap();
    assert_eq!(csv(&db, rejects).await, three, "once, however often it is refused");

    // mended, broken again, and as it was
    std::fs::write(train.join("half-images-idx3-ubyte"), &whole).unwrap();
    let (summary, _) = outskirt(&db, &ingest).await.unwrap();
    assert!(summary.starts_with("shapes/train: 2 added, 61 there already, 2 refused"), "{summary}");
    assert_eq!(csv(&db, rejects).await, "file,cut\ndigits_32x32.mat,false\nmore.parquet,false\n");
    std::fs::write(train.join("half-images-idx3-ubyte"), &whole[..3]).unwrap();
    let star = std::fs::read(train.join("star/0003.png")).unwrap();
    std::fs::write(train.join("star/0003.png"), b"").unwrap();
    outskirt(&db, &ingest).await.unwrap();
    assert_eq!(csv(&db, "SELECT count(*) AS n FROM rejects").await, "n\n4\n");
    std::fs::write(train.join("half-images-idx3-ubyte"), &whole).unwrap();
    std::fs::write(train.join("star/0003.png"), star).unwrap();
    let (summary, _) = outskirt(&db, &ingest).await.unwrap();
    assert!(summary.starts_with("shapes/train: 0 added, 63 there already, 2 refused"), "{summary}");
    assert_eq!(csv(&db, rejects).await, "file,cut\ndigits_32x32.mat,false\nmore.parquet,false\n");
}

#[tokio::test]
async fn the_columns_of_a_table_become_columns_of_images() {
    let folder = tempfile::tempdir().unwrap();
    let (db, train) = (folder.path().join("db"), pictures(folder.path()));
    let table = train.join("photos.csv");
    std::fs::write(&table, "uri,label,camera,taken\nstar/0000.png,sun,7,2024-05-01\nring/0001.png,,8,\n").unwrap();
    let ingest = arguments(table.to_str().unwrap(), "demo_shapes");
    let (summary, _) = outskirt(&db, &ingest).await.unwrap();
    assert!(summary.starts_with("shapes/train: 2 added"), "{summary}");
    let query = "SELECT label, camera, taken FROM images ORDER BY id LIMIT 2";
    assert_eq!(csv(&db, query).await, "label,camera,taken\nsun,7,2024-05-01\n,8,\n");

    // the same table beside the folder: it belongs to the images that it names, by the end of their uris
    std::fs::write(&table, "uri,camera\nstar/0000.png,9\nring/0001.png,8\nring/0002.png,5\n").unwrap();
    let ingest = arguments(train.to_str().unwrap(), "demo_shapes");
    let with_table = [&ingest[..], &["--metadata", table.to_str().unwrap()]].concat();
    let (summary, _) = outskirt(&db, &with_table).await.unwrap();
    assert!(summary.starts_with("shapes/train: 58 added, 2 there already, 1 with other metadata"), "{summary}");
    let query = "SELECT count(*) AS n, sum(camera) AS sum, count(camera) AS cameras, count(taken) AS taken FROM images";
    assert_eq!(csv(&db, query).await, "n,sum,cameras,taken\n60,22,3,1\n");
    let (summary, _) = outskirt(&db, &with_table).await.unwrap();
    assert!(summary.starts_with("shapes/train: 0 added, 60 there already in"), "{summary}");

    std::fs::write(&table, "uri,camera\nstar/0000.png,left\n").unwrap();
    let error = outskirt(&db, &with_table).await.unwrap_err().to_string();
    assert!(error.contains("column 'camera' is Utf8 here, and its values do not fit Int64"), "{error}");
}

#[tokio::test]
async fn some_of_the_images_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (db, train) = (folder.path().join("db"), pictures(folder.path()));
    let ingest = arguments(train.to_str().unwrap(), "demo_shapes");
    outskirt(&db, &[&ingest[..], &["--per-class", "2"]].concat()).await.unwrap();
    let query = "SELECT count(*) AS n, count(DISTINCT label) AS labels FROM images";
    assert_eq!(csv(&db, query).await, "n,labels\n20,10\n");
    let (summary, _) = outskirt(&db, &[&ingest[..], &["--sample", "25", "--seed", "3"]].concat()).await.unwrap();
    assert!(summary.contains(" there already"), "{summary}");
    let (summary, _) = outskirt(&db, &[&ingest[..], &["--sample", "25", "--seed", "3"]].concat()).await.unwrap();
    assert!(summary.starts_with("shapes/train: 0 added, 25 there already"), "{summary}");
}

#[tokio::test]
async fn one_column_holds_one_precision() {
    let folder = tempfile::tempdir().unwrap();
    let (db, train) = (folder.path().join("db"), pictures(folder.path()));
    let ingest = arguments(train.to_str().unwrap(), "demo_shapes");
    let in_bf16 = [&ingest[..], &["--precision", "bf16"]].concat();
    if cfg!(not(feature = "torch")) && !outskirt_kernels::available(outskirt_kernels::Precision::Bf16) {
        // nothing computes it here, and that is said
        let error = outskirt(&db, &in_bf16).await.unwrap_err();
        assert!(error.contains("'bf16 on a processor without AVX512-BF16' needs libtorch"), "{error}");
        return;
    }
    let (first, notices) = outskirt(&db, &in_bf16).await.unwrap();
    assert!(first.starts_with("shapes/train: 60 added in "), "{first}");
    assert!(notices.contains("bf16 beside f32, on 8 images: unit embeddings are "), "{notices}");
    assert!(notices.contains("distances to the 7th neighbour among them differ by "), "{notices}");

    let refused = outskirt(&db, &ingest).await.unwrap_err();
    assert!(refused.contains("'demo_shapes' holds embeddings computed in bf16"), "{refused}");
    assert!(refused.contains("run it with --precision bf16"), "{refused}");
    // which embed takes as well
    let refused = outskirt(&db, &["embed", "--backbone", "demo_shapes"]).await.unwrap_err();
    assert!(refused.contains("'demo_shapes' holds embeddings computed in bf16"), "{refused}");
    let embed = ["embed", "--backbone", "demo_shapes", "--precision", "bf16", "--times"];
    let (nothing, _) = outskirt(&db, &embed).await.unwrap();
    assert!(nothing.starts_with("0 embedded by demo_shapes, 60 there already"), "{nothing}");
    let (again, _) = outskirt(&db, &in_bf16).await.unwrap();
    assert!(again.starts_with("shapes/train: 0 added, 60 there already"), "{again}");

    // close to f32, and not the same
    let plain = folder.path().join("plain");
    let (_, notices) = outskirt(&plain, &[&ingest[..], &["--times"]].concat()).await.unwrap();
    assert!(!notices.contains("beside f32") && notices.contains("busy: read "), "{notices}");
    let refused = outskirt(&plain, &in_bf16).await.unwrap_err();
    assert!(refused.contains("holds embeddings computed in f32"), "{refused}");
}

#[tokio::test]
async fn without_cuda_the_error_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let (db, train) = (folder.path().join("db"), pictures(folder.path()));
    let ingest = arguments(train.to_str().unwrap(), "demo_shapes");
    match outskirt(&db, &[&ingest[..], &["--device", "cuda"]].concat()).await {
        Ok((done, _)) => assert!(done.starts_with("shapes/train: 60 added in "), "{done}"),
        Err(error) => {
            let is_said =
                error.contains("no CUDA: ") || cfg!(not(feature = "torch")) && error.contains("needs libtorch");
            assert!(is_said && error.lines().count() == 1, "{error}");
        }
    }
}

#[tokio::test]
async fn stored_pictures_are_committed_by_bytes_as_well_as_by_rows() {
    let folder = tempfile::tempdir().unwrap();
    let (db, pictures) = (folder.path().join("db"), folder.path().join("pictures"));
    std::fs::create_dir(&pictures).unwrap();
    // three of 72 MB: two are more than a commit is to hold
    let head = b"P6 4900 4900 255\n";
    for at in 0..3u8 {
        let mut file = [head.to_vec(), vec![at; 3 * 4900 * 4900]].concat();
        file[head.len()..][..1000].fill(200);
        std::fs::write(pictures.join(format!("{at}.ppm")), file).unwrap();
    }
    let mut line = arguments(pictures.to_str().unwrap(), "demo_shapes");
    outskirt(&db, &line).await.unwrap();
    let fragments = async |db: &Path| {
        let store = outskirt::store::Store::open(db).await.unwrap();
        store.footprint(outskirt::schema::IMAGES).await.unwrap().fragments
    };
    assert_eq!(fragments(&db).await, 1);
    let stored = folder.path().join("stored");
    line.push("--store-images");
    outskirt(&stored, &line).await.unwrap();
    assert_eq!(fragments(&stored).await, 2);
    let lengths = "SELECT count(*) AS n, min(length(encode(bytes, 'hex'))) / 2 AS bytes FROM images";
    assert_eq!(csv(&stored, lengths).await, "n,bytes\n3,72030017\n");
}

/// How a network was trained is its backbone's: so later runs and SQL turn pictures as the first run did.
#[tokio::test]
async fn pictures_are_turned_where_the_backbone_was_trained_so_and_formats_are_embedded_alike() {
    let folder = tempfile::tempdir().unwrap();
    let (db, pictures) = (folder.path().join("db"), folder.path().join("pictures"));
    let packed = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/formats.tar.gz");
    let packed = flate2::read::GzDecoder::new(std::fs::File::open(packed).unwrap());
    tar::Archive::new(packed).unpack(&pictures).unwrap();
    let weights = folder.path().join("turned.safetensors");
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/checkpoints/demo_shapes.safetensors"), &weights).unwrap();
    let add =
        ["backbone", "add", weights.to_str().unwrap(), "--arch", "resnet8-cifar", "--mean", "0.5", "--std", "0.25"];
    outskirt(&db, &[&add[..], &["--exif-orientation"]].concat()).await.unwrap();
    let manifest = folder.path().join("turned.toml");
    assert!(std::fs::read_to_string(&manifest).unwrap().contains("exif_orientation = true"));
    for (dataset, backbone) in [("stored", "demo_shapes"), ("turned", manifest.to_str().unwrap())] {
        let ingest = ["ingest", pictures.to_str().unwrap(), "--dataset", dataset, "--backbone", backbone];
        let (summary, notices) = outskirt(&db, &ingest).await.unwrap();
        assert!(summary.starts_with(&format!("{dataset}: 101 added in ")), "{summary} {notices}");
        assert!(notices.contains("left alone beside the pictures: 1 .json"), "{notices}");
    }
    let sides =
        "SELECT dataset, width, height, count(*) AS n FROM images WHERE uri LIKE '%exif-6.jpe' GROUP BY ALL ORDER BY 1";
    assert_eq!(csv(&db, sides).await, "dataset,width,height,n\nstored,29,23,1\nturned,23,29,1\n");
    // the same pixels in any format give the same embedding
    let alike = "SELECT count(DISTINCT array_to_string(demo_shapes, ' ')) AS n FROM images WHERE dataset = 'stored' AND \
                 (uri LIKE '%/rgb%.bmp' OR uri LIKE '%/rgb-%.tif' OR uri LIKE '%/rgb%.tga' OR uri LIKE '%/lossless.webp' OR \
                 uri LIKE '%/rgb.pnm') AND uri NOT LIKE '%rgba%'";
    assert_eq!(csv(&db, alike).await, "n\n1\n");
}
