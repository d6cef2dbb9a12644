//! Real CIFAR-10 images and two published networks, against features that PyTorch gave.
//!
//! Runs where the data lies in `OUTSKIRT_DATA` or `../shared/data`, and says so where it does not. A subset small
//! enough for every run: the rows whose features are known (256 test images, the last 64 of each OOD set) are
//! embedded and compared; 192 of the test images make a bank, and the scores are compared with brute force over
//! PyTorch's features. `make reference` compares everything.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use outskirt::index::kth_distances_brute;
use outskirt::index::vectors::{Vectors, normalize};

use super::fixture::outskirt;

/// ResNet-20 and DenseNet, each with the arrays of its features, its weights as they lie, and its dimension.
const NETWORKS: [(&str, &str, &str, usize); 2] = [
    ("resnet20_cifar10", "resnet20", "resnet20-12fca82f.th", 64),
    ("densenet_cifar10", "densenet", "densenet-bc-100-12-dice-cifar10.pth.tar", 342),
];
const OOD: [&str; 4] = ["textures", "cifar100", "tinyimagenet32", "places"];

#[expect(clippy::print_stderr, reason = "a test that skips must say so")]
fn data() -> Option<PathBuf> {
    let folder = std::env::var_os("OUTSKIRT_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    if folder.join("rows-last256-resnet20.npz").exists() {
        return Some(folder);
    }
    eprintln!("skipped: no real images at {} (OUTSKIRT_DATA names another folder)", folder.display());
    None
}

#[tokio::test]
async fn features_and_scores_equal_pytorch() {
    let Some(data) = data() else { return };
    for network in NETWORKS {
        compare(&data, network).await;
    }
}

async fn compare(data: &Path, (backbone, arrays, weights, dimension): (&str, &str, &str, usize)) {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    let weights = data.join("checkpoints").join(weights);
    let known = Npz::open(&data.join(format!("rows-last256-{arrays}.npz")));
    let sets = OOD.map(|set| (set, format!("ood/{set}.tar"), format!("ood_{set}_")));
    for (set, archive, prefix) in
        [("cifar10", "cifar10/test.tar.gz".to_string(), String::new())].into_iter().chain(sets)
    {
        let names = known.names(&format!("{prefix}names"));
        let subset = folder.path().join(format!("{set}.tar"));
        copy_members(&data.join(archive), &subset, &names);
        let (subset, weights) = (subset.to_str().unwrap(), weights.to_str().unwrap());
        let ingest =
            ["ingest", subset, "--dataset", set, "--split", "test", "--backbone", backbone, "--weights", weights];
        outskirt(&db, &[&ingest[..], &["--with-logits"]].concat()).await.unwrap();

        let worst = furthest(&db, backbone, set, &names, &known.floats(&format!("{prefix}features"))).await;
        assert!(worst <= 1e-4, "{backbone} on {set}: features differ by {worst}");
        if prefix.is_empty() {
            let column = format!("{backbone}_logits");
            let worst = furthest(&db, &column, set, &names, &known.floats("logits")).await;
            assert!(worst <= 1e-4, "{backbone} on {set}: logits differ by {worst}");
        }
    }

    let bank = ["bank", "create", "part", "--backbone", backbone, "--where", "dataset = 'cifar10' AND id <= 192"];
    outskirt(&db, &[&bank[..], &["--k", "10"]].concat()).await.unwrap();
    let query =
        format!("SELECT uri, knn_ood_score({backbone}, 'part') AS score FROM images WHERE dataset = 'textures'");
    let (rows, _) = outskirt(&db, &["sql", &query, "--format", "json"]).await.unwrap();
    let unit = |values: &[f32]| {
        let mut out = Vec::new();
        values.chunks(dimension).for_each(|row| normalize(row, &mut out).unwrap());
        out
    };
    let (id, ood) = (unit(&known.floats("features")[..192 * dimension]), unit(&known.floats("ood_textures_features")));
    let expected = kth_distances_brute(Vectors::new(&id, dimension), Vectors::new(&ood, dimension), 10);
    let names = known.names("ood_textures_names");
    let mut compared = 0;
    for row in rows.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()) {
        let at = names.iter().position(|name| row["uri"].as_str().unwrap().ends_with(name)).unwrap();
        let score = row["score"].as_f64().unwrap() as f32;
        assert!((score - expected[at]).abs() < 1e-4, "{row} is not {}", expected[at]);
        compared += 1;
    }
    assert_eq!(compared, 64);
}

/// The largest difference, absolute or of the number's size where that is above 1, between a column and what PyTorch gave.
async fn furthest(db: &Path, column: &str, dataset: &str, names: &[String], expected: &[f32]) -> f32 {
    let found = numbers(db, column, dataset).await;
    assert_eq!(found.len(), names.len());
    let mut worst = 0f32;
    for (name, expected) in names.iter().zip(expected.chunks(expected.len() / names.len())) {
        let found = &found[name.rsplit('/').next().unwrap()];
        assert_eq!(found.len(), expected.len());
        worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(worst, f32::max);
    }
    worst
}

/// Embeddings or logits of a dataset by file name.
async fn numbers(db: &Path, column: &str, dataset: &str) -> HashMap<String, Vec<f32>> {
    let query = format!("SELECT uri, {column} AS e FROM images WHERE dataset = '{dataset}'");
    let (rows, _) = outskirt(db, &["sql", &query, "--format", "json"]).await.unwrap();
    rows.lines()
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let name = row["uri"].as_str().unwrap().rsplit('/').next().unwrap().to_string();
            (name, row["e"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect())
        })
        .collect()
}

/// Copy the named members of an archive to a small one.
fn copy_members(from: &Path, to: &Path, names: &[String]) {
    let file = std::fs::File::open(from).unwrap();
    let reader: Box<dyn Read> = if from.extension().is_some_and(|ending| ending == "gz") {
        Box::new(flate2::read::GzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let mut builder = tar::Builder::new(std::fs::File::create(to).unwrap());
    let mut copied = 0;
    for member in tar::Archive::new(reader).entries().unwrap() {
        let mut member = member.unwrap();
        let name = member.path().unwrap().to_str().unwrap().to_string();
        if names.iter().any(|wanted| name.ends_with(wanted.as_str())) {
            let mut bytes = Vec::new();
            member.read_to_end(&mut bytes).unwrap();
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, &name, bytes.as_slice()).unwrap();
            copied += 1;
        }
    }
    assert_eq!(copied, names.len(), "{}", from.display());
    builder.finish().unwrap();
}

/// Arrays of a NumPy archive.
struct Npz(PathBuf);

impl Npz {
    fn open(path: &Path) -> Self {
        Self(path.into())
    }

    /// Element type as NumPy writes it, and the array's bytes.
    fn array(&self, name: &str) -> (String, Vec<u8>) {
        let mut archive = zip::ZipArchive::new(std::fs::File::open(&self.0).unwrap()).unwrap();
        let at = archive.index_for_name(&format!("{name}.npy")).unwrap_or_else(|| panic!("no array {name}"));
        let mut member = archive.by_index_raw(at).unwrap();
        let mut bytes = Vec::new();
        if member.compression() == zip::CompressionMethod::Stored {
            member.read_to_end(&mut bytes).unwrap();
        } else {
            flate2::read::DeflateDecoder::new(&mut member).read_to_end(&mut bytes).unwrap();
        }
        assert!(bytes.starts_with(b"\x93NUMPY\x01"), "{name}");
        let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        let text = String::from_utf8(bytes[10..header].to_vec()).unwrap();
        let kind = text.split("'descr': '").nth(1).unwrap().split('\'').next().unwrap().to_string();
        (kind, bytes.split_off(header))
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let (kind, bytes) = self.array(name);
        assert_eq!(kind, "<f4", "{name}");
        bytes.chunks(4).map(|value| f32::from_le_bytes(value.try_into().unwrap())).collect()
    }

    fn names(&self, name: &str) -> Vec<String> {
        let (kind, bytes) = self.array(name);
        let width = 4 * kind.strip_prefix("<U").unwrap().parse::<usize>().unwrap();
        let text = |raw: &[u8]| -> String {
            raw.chunks(4)
                .map(|c| char::from_u32(u32::from_le_bytes(c.try_into().unwrap())).unwrap())
                .filter(|&c| c != '\0')
                .collect()
        };
        bytes.chunks(width).map(text).collect()
    }
}
