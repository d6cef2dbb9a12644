//! Networks as their publishers save them: checkpoints out of `torch.save`, TorchScript modules, and `outskirt backbone`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use outskirt::backbone::{Backbone, Checkpoint, Trusted};
use outskirt::demo::{Counts, write_pictures};
#[cfg(feature = "torch")]
use tch::{CModule, Device, Kind, Tensor};

use super::fixture::outskirt;

fn pictures(folder: &Path) -> PathBuf {
    write_pictures(folder, 7, Counts { train: 3, calibration: 1, test: 1, ood: 1 }).unwrap();
    folder.join("id/train")
}

async fn csv(db: &Path, query: &str) -> String {
    outskirt(db, &["sql", query, "--format", "csv"]).await.unwrap().0
}

/// A module that is traced on a 16×16 picture. Tracing from here gives one tensor: those that give several are in
/// `tests/fixtures/modules`.
#[cfg(feature = "torch")]
fn module(file: &Path, gives: impl Fn(&Tensor) -> Tensor) {
    outskirt_libtorch::load().unwrap();
    let input = Tensor::rand([1, 3, 16, 16], (Kind::Float, Device::Cpu));
    let mut closure = |inputs: &[Tensor]| vec![gives(&inputs[0])];
    CModule::create_by_tracing("Module", "forward", &[input], &mut closure).unwrap().save(file).unwrap();
}

/// The checkpoints that the reference's own training code saves, made by PyTorch itself where python3 has it: a CIFAR
/// ResNet-18 under `state_dict` with `module.` (zip and old pickle), and an ImageNet ResNet-50 encoder under `model`
/// with `module.encoder.` beside an argparse.Namespace.
#[tokio::test]
async fn checkpoints_of_the_reference_load_as_they_lie() {
    let has = Command::new("python3").args(["-c", "import torch, numpy"]).stderr(Stdio::null()).status();
    if !has.is_ok_and(|status| status.success()) {
        writeln!(std::io::stderr(), "skipped: python3 has no torch, which saves the checkpoints").unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let generator = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/generate.py");
    let made = Command::new("python3").arg(generator).arg("--files").arg(folder.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let expected: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(folder.path().join("expected.json")).unwrap()).unwrap();
    let db = folder.path().join("db");
    for (file, architecture, classes) in [
        ("checkpoint_500.pth.tar", "resnet18-cifar", Some(10)),
        ("checkpoint_500_old.pth.tar", "resnet18-cifar", Some(10)),
        ("supcon.pth", "resnet50", None),
    ] {
        let path = folder.path().join(file);
        let (wrote, _) =
            outskirt(&db, &["backbone", "add", path.to_str().unwrap(), "--arch", architecture]).await.unwrap();
        let manifest = wrote.strip_prefix("wrote ").unwrap().split(": ").next().unwrap();
        let backbone =
            Backbone::load(Checkpoint::read(Path::new(manifest)).unwrap(), None, &Trusted::default()).unwrap();
        assert_eq!(backbone.classes(), classes, "{file}");
        let mut worker = backbone.worker();
        let found = worker.embed(&vec![0.5; worker.input_len()]).unwrap().embeddings;
        let theirs: Vec<f64> =
            expected[file].as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect();
        assert_eq!(found.len(), theirs.len(), "{file}");
        let size = (theirs.iter().map(|x| x * x).sum::<f64>() / theirs.len() as f64).sqrt();
        let off = found.iter().zip(&theirs).map(|(&a, b)| (f64::from(a) - b).abs() / size).fold(0.0, f64::max);
        assert!(off <= 1e-4, "{file}: features differ by {off:.1e}");
    }
}

#[tokio::test]
async fn a_manifest_is_written_after_a_forward_pass() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    let weights = folder.path().join("My-Shapes.best.safetensors");
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("checkpoints/demo_shapes.safetensors");
    std::fs::copy(demo, &weights).unwrap();
    let file = weights.to_str().unwrap();
    let add = |more: &'static [&'static str]| {
        let line = [&["backbone", "add", file][..], more].concat();
        let db = db.clone();
        async move { outskirt(&db, &line).await }
    };
    let error = add(&["--arch", "resnet19"]).await.unwrap_err();
    assert!(error.contains("architecture 'resnet19' is unknown: known are resnet8-cifar, "), "{error}");
    let error = add(&["--arch", "resnet20-cifar"]).await.unwrap_err();
    assert!(
        error.contains("do not fit architecture resnet20-cifar: layer1.1.conv1.weight, layer1.1.bn1.weight, "),
        "{error}"
    );
    let error = add(&["--arch", "resnet8-cifar", "--mean", "1,2"]).await.unwrap_err();
    assert!(error.contains("three numbers separated by commas, or one"), "{error}");
    assert!(!folder.path().join("my_shapes_best.toml").exists(), "what failed is not written");

    let right = &["--arch", "resnet8-cifar", "--mean", "0.5", "--std", "0.25"];
    let (wrote, notices) = add(right).await.unwrap();
    let manifest = folder.path().join("my_shapes_best.toml");
    assert!(wrote.contains(&format!("wrote {}: resnet8-cifar, 64 numbers", manifest.display())), "{wrote}");
    assert!(wrote.contains("10 classes") && notices.contains("32×32"), "{wrote}{notices}");
    let error = add(right).await.unwrap_err();
    assert!(error.contains("my_shapes_best.toml is there already"), "{error}");

    // the same network as the one that is built in
    let train = pictures(folder.path());
    for backbone in ["demo_shapes", manifest.to_str().unwrap()] {
        let ingest = ["ingest", train.to_str().unwrap(), "--dataset", "shapes", "--backbone", backbone];
        outskirt(&db, &ingest).await.unwrap();
    }
    let same = "SELECT count(*) AS n, bool_and(demo_shapes = my_shapes_best) AS same FROM images";
    assert_eq!(csv(&db, same).await, "n,same\n30,true\n");

    let (checked, _) = outskirt(&db, &["backbone", "check", "my_shapes_best"]).await.unwrap();
    assert!(checked.contains("sha256 as the manifest says") && checked.contains("64 numbers"), "{checked}");
    let (built_in, _) = outskirt(&db, &["backbone", "check", "demo_shapes"]).await.unwrap();
    assert!(built_in.starts_with("weights: built in\n"), "{built_in}");
    std::fs::write(&weights, b"other").unwrap();
    let error = outskirt(&db, &["backbone", "check", "my_shapes_best"]).await.unwrap_err();
    assert!(error.contains("have sha256"), "{error}");
}

#[tokio::test]
async fn where_weights_are_is_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let (db, train) = (folder.path().join("db"), pictures(folder.path()));
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("checkpoints");
    let (there, moved) = (folder.path().join("there.safetensors"), folder.path().join("moved.safetensors"));
    std::fs::copy(demo.join("demo_shapes.safetensors"), &there).unwrap();
    // a manifest that was given away without its weights
    let manifest = folder.path().join("away/mine.toml");
    std::fs::create_dir(folder.path().join("away")).unwrap();
    let text = std::fs::read_to_string(demo.join("demo_shapes.toml")).unwrap();
    std::fs::write(&manifest, text.replace("name = \"demo_shapes\"", "name = \"mine\"")).unwrap();

    let (train, manifest) = (train.to_str().unwrap(), manifest.to_str().unwrap());
    let ingest = |backbone| ["ingest", train, "--dataset", "shapes", "--backbone", backbone];
    let with = |file: &Path| [&ingest(manifest)[..], &["--weights", file.to_str().unwrap()]].concat().join("\n");
    let run = async |line: &str| outskirt(&db, &line.split('\n').collect::<Vec<_>>()).await;
    let error = outskirt(&db, &ingest(manifest)).await.unwrap_err();
    assert!(error.contains("has no weights at") && error.contains("name it with --weights"), "{error}");
    run(&with(&there)).await.unwrap();

    // the manifest's path and the name find them
    for backbone in [manifest, "mine"] {
        let (again, _) = outskirt(&db, &ingest(backbone)).await.unwrap();
        assert!(again.contains("30 there already"), "{again}");
    }
    let (checked, _) = outskirt(&db, &["backbone", "check", "mine"]).await.unwrap();
    assert!(checked.contains("there.safetensors, sha256 as the manifest says"), "{checked}");
    let picture = format!("{train}/star/0000.png");
    let query = format!("SELECT max(array_distance(mine, embed('{picture}', 'mine'))) >= 0 AS known FROM images");
    assert_eq!(csv(&db, &query).await, "known\ntrue\n");

    // a bank takes what ingest takes
    let bank = ["bank", "create", "shapes", "--where", "true", "--k", "2", "--backbone", manifest];
    let (made, _) = outskirt(&db, &bank).await.unwrap();
    assert!(made.contains("30 embeddings of dimension 64 from mine"), "{made}");
    let other = std::fs::read_to_string(manifest).unwrap();
    let other = other.lines().map(|line| {
        if line.starts_with("sha256") { format!("sha256 = \"{:0<64}\"\n", "") } else { format!("{line}\n") }
    });
    let changed = folder.path().join("changed.toml");
    std::fs::write(&changed, other.collect::<String>()).unwrap();
    let bank = ["bank", "create", "other", "--where", "true", "--k", "2", "--backbone", changed.to_str().unwrap()];
    let error = outskirt(&db, &bank).await.unwrap_err();
    assert!(error.contains("column 'mine' holds embeddings of weights sha256"), "{error}");

    // a file that moved is asked for, another is refused, and the new place is remembered
    std::fs::rename(&there, &moved).unwrap();
    let error = outskirt(&db, &ingest("mine")).await.unwrap_err();
    assert!(error.contains("has no weights at") && error.contains("there.safetensors"), "{error}");
    std::fs::write(&there, b"other").unwrap();
    let error = outskirt(&db, &ingest("mine")).await.unwrap_err();
    assert!(error.contains("there.safetensors have sha256"), "{error}");
    run(&with(&moved)).await.unwrap();
    let (checked, _) = outskirt(&db, &["backbone", "check", "mine"]).await.unwrap();
    assert!(checked.contains("moved.safetensors, sha256 as the manifest says"), "{checked}");
}

#[cfg(feature = "torch")]
#[tokio::test]
async fn a_module_gives_what_its_manifest_says() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    let train = pictures(folder.path());
    let file = |name: &str| folder.path().join(format!("{name}.pt"));
    let map = |x: &Tensor| x.avg_pool2d([4, 4], [4, 4], [0, 0], false, true, None::<i64>);
    let embedding = |x: &Tensor| x.adaptive_avg_pool2d([2, 2]).flatten(1, -1);
    module(&file("quarters"), embedding);
    module(&file("grid"), map);
    module(&file("flat"), |x| x.sum(Kind::Float));
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/modules");
    for name in ["pair", "turned", "triple"] {
        std::fs::copy(fixtures.join(format!("{name}.pt")), file(name)).unwrap();
    }

    let add = async |name: &str, output: &str| {
        let path = file(name);
        let line = ["backbone", "add", path.to_str().unwrap(), "--arch", "torchscript", "--output", output];
        let input = ["--input-size", "16", "--mean", "0", "--std", "1"];
        outskirt(&db, &[&line[..], &input].concat()).await
    };
    let error = outskirt(&db, &["backbone", "add", file("quarters").to_str().unwrap(), "--arch", "torchscript"]).await;
    assert!(error.unwrap_err().contains("give --input-size, --mean, --std as in training"));
    for (name, output, found) in [
        ("pair", "embedding", "gave 2 values (a tensor of shape [1, 3], a tensor of shape [1, 12])"),
        ("quarters", "logits, embedding", "gave a tensor of shape [1, 12]"),
        ("quarters", "feature map", "gave a tensor of shape [1, 12]"),
        ("triple", "embedding, logits", "gave 3 values"),
        ("flat", "embedding", "gave a tensor of shape []"),
    ] {
        let error = add(name, output).await.unwrap_err();
        assert!(error.contains(found) && error.contains(&format!("output = \"{output}\"")), "{name}: {error}");
    }
    let error = add("quarters", "features").await.unwrap_err();
    assert!(error.contains("'embedding', 'logits, embedding', 'embedding, logits', 'feature map'"), "{error}");

    // as many numbers as CIFAR-10 has classes, and a file of weights
    module(&file("ten"), |x| x.adaptive_avg_pool2d([2, 2]).flatten(1, -1).narrow(1, 0, 10));
    let (_, notices) = add("ten", "embedding").await.unwrap();
    assert!(notices.contains("this looks like logits and not like an embedding: it has 10 numbers"), "{notices}");
    std::fs::write(file("onnx"), b"\x08\x08\x12\x07pytorch\x1a\x062.11.0:").unwrap();
    let error = add("onnx", "embedding").await.unwrap_err();
    assert!(error.contains("it is an ONNX model, which is not read"), "{error}");

    for (name, output, says) in [
        ("quarters", "embedding", "12 numbers per image"),
        ("pair", "logits, embedding", "3 classes"),
        ("turned", "embedding,logits", "3 classes"),
        ("grid", "feature-map", "3 numbers per image"),
    ] {
        let (wrote, _) = add(name, output).await.unwrap();
        assert!(wrote.contains(says), "{name}: {wrote}");
        let manifest = folder.path().join(format!("{name}.toml"));
        let ingest = ["ingest", train.to_str().unwrap(), "--dataset", "shapes", "--backbone"];
        let ingest = [&ingest[..], &[manifest.to_str().unwrap()]].concat();
        let pair = says.contains("classes");
        let with_logits = [&ingest[..], &["--with-logits"]].concat();
        let given = outskirt(&db, if pair { &with_logits } else { &ingest }).await.unwrap().0;
        assert!(given.contains("30"), "{given}");
        if !pair {
            let error = outskirt(&db, &with_logits).await.unwrap_err();
            assert!(error.contains(&format!("backbone '{name}' has no classifier")), "{error}");
        }
    }
    // libtorch computes them: the last bits are its own
    let agree = "SELECT greatest(max(array_distance(quarters, pair)), max(array_distance(quarters, turned))) < 1e-5 AS \
                 embeddings, max(array_distance(pair_logits, turned_logits)) < 1e-5 AS logits, \
                 max(abs(pair_logits[1] - 4 * grid[1])) < 1e-4 AS pooled FROM images";
    assert_eq!(csv(&db, agree).await, "embeddings,logits,pooled\ntrue,true,true\n");
}

#[tokio::test]
async fn logits_are_kept_beside_embeddings() {
    let folder = tempfile::tempdir().unwrap();
    let (db, train) = (folder.path().join("db"), pictures(folder.path()));
    let ingest = ["ingest", train.to_str().unwrap(), "--dataset", "shapes", "--backbone", "demo_shapes"];
    let with_logits = [&ingest[..], &["--with-logits"]].concat();
    outskirt(&db, &ingest).await.unwrap();

    // rows that lack them are computed, the others left alone
    let (filled, _) = outskirt(&db, &with_logits).await.unwrap();
    assert!(filled.contains("0 added, 30 embedded by this backbone too"), "{filled}");
    let (again, _) = outskirt(&db, &with_logits).await.unwrap();
    assert!(again.contains("0 added, 30 there already"), "{again}");
    let counts = "SELECT count(*) AS n, count(demo_shapes) AS e, count(demo_shapes_logits) AS l FROM images";
    assert_eq!(csv(&db, counts).await, "n,e,l\n30,30,30\n");

    // a file that changes, and one that is new, without logits being asked for: NULL, never those of another picture
    std::fs::copy(train.join("star/0001.png"), train.join("star/0000.png")).unwrap();
    std::fs::copy(train.join("star/0001.png"), train.join("star/0009.png")).unwrap();
    let (changed, _) = outskirt(&db, &ingest).await.unwrap();
    assert!(changed.contains("1 added, 1 replaced"), "{changed}");
    assert_eq!(csv(&db, counts).await, "n,e,l\n31,31,29\n");
    outskirt(&db, &with_logits).await.unwrap();
    assert_eq!(csv(&db, counts).await, "n,e,l\n31,31,31\n");
    let same = "SELECT count(DISTINCT demo_shapes_logits) AS n FROM images WHERE uri LIKE '%star/0000.png' \
                OR uri LIKE '%star/0001.png' OR uri LIKE '%star/0009.png'";
    assert_eq!(csv(&db, same).await, "n\n1\n");

    // they are the classifier's: the trained network knows its classes
    let scores = "SELECT avg(msp_score(demo_shapes_logits)) < -0.9 AS msp, \
                  avg(energy_score(demo_shapes_logits)) < -4 AS energy FROM images";
    assert_eq!(csv(&db, scores).await, "msp,energy\ntrue,true\n");
    let create = ["bank", "create", "shapes", "--backbone", "demo_shapes", "--where", "true", "--k", "2"];
    outskirt(&db, &create).await.unwrap();
    let classes = "SELECT max(mahalanobis_score(demo_shapes, 'shapes')) < 100 AS near FROM images";
    assert_eq!(csv(&db, classes).await, "near\ntrue\n");

    // the baselines beside KNN; without the column, those that read it are left out
    let evaluate = ["evaluate", "shapes", "--id", "label <> 'star'", "--ood", "label = 'star'"];
    let (plain, _) = outskirt(&db, &evaluate).await.unwrap();
    assert!(plain.starts_with("OOD set") && plain.contains("average"), "{plain}");
    let with_baselines = [&evaluate[..], &["--baselines", "--format", "json"]].concat();
    let (all, _) = outskirt(&db, &with_baselines).await.unwrap();
    let rows: Vec<serde_json::Value> = all.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let scores: Vec<&str> = rows.iter().step_by(2).map(|row| row["score"].as_str().unwrap()).collect();
    let embeddings = ["knn_ood_score", "mahalanobis_score", "rmds_score"];
    let logits = ["nnguide_score", "msp_score", "energy_score", "max_logit_score", "gen_score"];
    assert_eq!(scores, [&embeddings[..], &logits].concat(), "{all}");
    for row in &rows {
        let call = match row["score"].as_str().unwrap() {
            "knn_ood_score" => "knn_ood_score(demo_shapes, 'shapes')",
            "mahalanobis_score" => "mahalanobis_score(demo_shapes, 'shapes')",
            "rmds_score" => "rmds_score(demo_shapes, 'shapes')",
            "nnguide_score" => "nnguide_score(demo_shapes, demo_shapes_logits, 'shapes')",
            "msp_score" => "msp_score(demo_shapes_logits)",
            "max_logit_score" => "max_logit_score(demo_shapes_logits)",
            "gen_score" => "gen_score(demo_shapes_logits)",
            _ => "energy_score(demo_shapes_logits)",
        };
        let auroc = csv(&db, &format!("SELECT auroc({call}, label = 'star') AS a FROM images")).await;
        let (found, expected) = (row["auroc"].as_f64().unwrap(), auroc.lines().nth(1).unwrap().parse::<f64>().unwrap());
        assert!((found - expected).abs() < 1e-12, "{row}: {auroc}");
    }

    // computed columns are not the user's to write, but may go
    let error = outskirt(&db, &["sql", "UPDATE images SET demo_shapes_logits = NULL"]).await.unwrap_err();
    assert!(error.contains("--with-logits' writes them"), "{error}");
    let error = outskirt(&db, &["sql", "SELECT msp_score(demo_shapes) FROM images"]).await.unwrap_err();
    assert!(error.contains("'demo_shapes' holds embeddings"), "{error}");
    outskirt(&db, &["verify"]).await.unwrap();
    outskirt(&db, &["sql", "ALTER TABLE images DROP COLUMN demo_shapes_logits"]).await.unwrap();
    let (left, _) = outskirt(&db, &["sql", "SELECT * FROM images LIMIT 1", "--format", "json"]).await.unwrap();
    assert!(left.contains("demo_shapes") && !left.contains("logits"), "{left}");
    let (fewer, notice) = outskirt(&db, &with_baselines).await.unwrap();
    assert!(fewer.contains("rmds_score") && !fewer.contains("msp_score") && !fewer.contains("nnguide"), "{fewer}");
    assert!(notice.contains("there is no column demo_shapes_logits"), "{notice}");
}
