//! Pictures of every kind through the whole of ingest, beside PIL and torchvision's transforms: a module whose embedding is
//! its input shows what the network gets. `tests/goldens/pictures.py` makes the pictures and the numbers.

use std::collections::HashMap;
use std::io::Read;

use tch::{CModule, Device, Kind, Tensor};

use super::fixture::outskirt;

/// Sides of what the network gets.
const CROP: usize = 32;

#[tokio::test]
async fn the_network_gets_the_pixels_that_torchvision_gives() {
    let folder = tempfile::tempdir().unwrap();
    let (db, net) = (folder.path().join("db"), folder.path().join("pixels.pt"));
    outskirt_libtorch::load().unwrap();
    let input = Tensor::rand([1, 3, CROP as i64, CROP as i64], (Kind::Float, Device::Cpu));
    // plus 1: an embedding that is all zero, as of a black picture, is none
    let mut closure = |inputs: &[Tensor]| vec![inputs[0].flatten(1, -1) + 1.0];
    CModule::create_by_tracing("Pixels", "forward", &[input], &mut closure).unwrap().save(&net).unwrap();

    let archive = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/pictures.tar.gz");
    let manifest = folder.path().join("pixels.toml");
    let (net, manifest, archive) = (net.to_str().unwrap(), manifest.to_str().unwrap(), archive.to_str().unwrap());
    let add = ["backbone", "add", net, "--arch", "torchscript", "--output", "embedding", "--out", manifest];
    let preprocess = ["--input-size", "32", "--shorter-side", "40", "--mean", "0", "--std", "1"];
    outskirt(&db, &[&add[..], &preprocess].concat()).await.unwrap();
    let (summary, _) = outskirt(&db, &["ingest", archive, "--dataset", "d", "--backbone", manifest]).await.unwrap();
    assert!(summary.starts_with("d: 16 added in "), "{summary}");

    let (rows, _) = outskirt(&db, &["sql", "SELECT uri, pixels FROM images", "--format", "json"]).await.unwrap();
    let expected = expected(archive);
    for row in rows.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()) {
        let name = row["uri"].as_str().unwrap().rsplit('/').next().unwrap();
        let found = row["pixels"].as_array().unwrap().iter().map(|value| 255.0 * (value.as_f64().unwrap() - 1.0));
        let theirs = &expected[name];
        assert_eq!(theirs.len(), 3 * CROP * CROP);
        let worst = found.zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst < 0.01, "{name}: off by {worst} of 255");
    }
}

fn expected(archive: &str) -> HashMap<String, Vec<f64>> {
    let file = flate2::read::GzDecoder::new(std::fs::File::open(archive).unwrap());
    for entry in tar::Archive::new(file).entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap().ends_with("expected.json") {
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            return serde_json::from_str(&text).unwrap();
        }
    }
    panic!("the archive holds no expected.json");
}
