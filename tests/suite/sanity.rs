//! Warnings of what is suspicious about a bank and the images that it is evaluated with.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use outskirt::schema;
use outskirt::store::Store;

use super::fixture::{Image, database, outskirt};

const BANK: [&str; 9] =
    ["bank", "create", "b", "--backbone", "toy", "--where", "dataset = 'id' AND split = 'train'", "--k", "3"];
const EVALUATE: [&str; 6] = ["evaluate", "b", "--id", "dataset = 'id' AND split = 'test'", "--ood", "dataset = 'ood'"];

/// Points spread over the sphere by a formula, so that nothing about them is suspicious.
fn spread(count: u32, salt: u32) -> impl Iterator<Item = Option<Vec<f32>>> {
    let number = |seed: u32| {
        let mixed = (seed ^ seed.rotate_left(15)).wrapping_mul(2_654_435_761);
        let mixed = (mixed ^ (mixed >> 13)).wrapping_mul(3_266_489_917);
        f32::from((mixed >> 16) as u16) / 32_768.0 - 1.0
    };
    (0..count).map(move |i| Some((0..4).map(|axis| number(1000 * salt + 4 * i + axis)).collect()))
}

async fn sound(db: &Path) {
    let images: Vec<Image> = spread(60, 1)
        .map(|point| ("id", "train", point))
        .chain(spread(60, 2).map(|point| ("id", "test", point)))
        .chain(spread(20, 3).map(|point| ("ood", "test", point)))
        .collect();
    drop(database(db, 4, &images).await);
}

async fn warnings(db: &Path, arguments: &[&str]) -> Vec<String> {
    let (_, notices) = outskirt(db, arguments).await.unwrap();
    notices.lines().filter_map(|line| line.strip_prefix("warning: ")).map(String::from).collect()
}

/// Have these images be copies of one file.
async fn same_file(db: &Path, ids: Vec<u64>) {
    let hashes: ArrayRef = Arc::new(StringArray::from(vec!["same"; ids.len()]));
    let ids: ArrayRef = Arc::new(UInt64Array::from(ids));
    let batch = RecordBatch::try_from_iter([(schema::ID, ids), (schema::CONTENT_HASH, hashes)]).unwrap();
    let store = Store::open(db).await.unwrap();
    let lock = store.lock().await.unwrap();
    store.upsert(&lock, schema::IMAGES, &[schema::ID], batch, false).await.unwrap();
}

async fn sql(db: &Path, statements: &str) {
    outskirt(db, &["sql", statements]).await.unwrap();
}

#[tokio::test]
async fn nothing_is_said_of_sound_data() {
    let db = tempfile::tempdir().unwrap();
    sound(db.path()).await;
    assert_eq!(warnings(db.path(), &BANK).await, Vec::<String>::new());
    assert_eq!(warnings(db.path(), &EVALUATE).await, Vec::<String>::new());
}

#[tokio::test]
async fn ood_images_that_are_id_images_or_the_banks_are_told() {
    let db = tempfile::tempdir().unwrap();
    sound(db.path()).await;
    warnings(db.path(), &BANK).await;
    let told = async |ood: &str| warnings(db.path(), &[&EVALUATE[..5], &[ood]].concat()).await.join("\n");
    let both = told("split = 'test'").await;
    assert!(both.starts_with("60 of the OOD images (split = 'test') are ID images too"), "{both}");
    let inside = told("dataset = 'id' AND split = 'train'").await;
    assert!(
        inside.starts_with("60 of the OOD images (dataset = 'id' AND split = 'train') are such as bank b"),
        "{inside}"
    );
}

/// It ended the whole table.
#[tokio::test]
async fn baselines_leave_out_what_has_no_covariance() {
    let db = tempfile::tempdir().unwrap();
    let images: Vec<Image> = (0..8)
        .map(|_| ("id", "train", Some(vec![1.0, 0.0, 0.0, 0.0])))
        .chain(spread(20, 2).map(|point| ("id", "test", point)))
        .chain(spread(20, 3).map(|point| ("ood", "test", point)))
        .collect();
    drop(database(db.path(), 4, &images).await);
    outskirt(db.path(), &BANK).await.unwrap();
    let (table, notices) = outskirt(db.path(), &[&EVALUATE[..], &["--baselines"]].concat()).await.unwrap();
    assert!(table.contains("knn_ood_score") && !table.contains("mahalanobis_score"), "{table}");
    assert!(
        notices.contains("mahalanobis_score and rmds_score are left out: the images of bank b do not vary"),
        "{notices}"
    );
}

#[tokio::test]
async fn logits_copies_and_shared_files_are_counted() {
    let db = tempfile::tempdir().unwrap();
    sound(db.path()).await;
    sql(db.path(), "UPDATE images SET label = 'class ' || CAST(id % 4 AS TEXT) WHERE split = 'train'").await;
    same_file(db.path(), vec![1, 2, 3, 4, 5, 6, 7, 70, 71]).await;
    let of_bank = warnings(db.path(), &BANK).await;
    assert!(of_bank[0].contains("embeddings have 4 numbers and its images 4 labels: are these logits?"), "{of_bank:?}");
    assert!(of_bank[1].contains("10.0 % of its images are copies of others"), "{of_bank:?}");
    assert_eq!(of_bank.len(), 2);
    let all = warnings(db.path(), &EVALUATE).await;
    assert_eq!(all[..2], of_bank);
    assert!(all[2].starts_with("2 of the ID images are files that bank b holds too"), "{all:?}");
    assert_eq!(all.len(), 3);
}

#[tokio::test]
async fn collapsed_embeddings_and_id_images_from_elsewhere() {
    let db = tempfile::tempdir().unwrap();
    let near = |x: f32| Some(vec![1.0, x, 0.0, 0.0]);
    let images: Vec<Image> = (0..60u8)
        .map(|i| ("id", "train", near(0.001 * f32::from(i))))
        .chain((0..60u8).map(|i| ("id", "test", near(0.3 + 0.001 * f32::from(i)))))
        .chain((0..9u8).map(|i| ("ood", "test", near(f32::from(i)))))
        .collect();
    drop(database(db.path(), 4, &images).await);
    let of_bank = warnings(db.path(), &BANK).await;
    assert!(of_bank.len() == 1 && of_bank[0].contains("a cosine of 1.000 on average"), "{of_bank:?}");
    let all = warnings(db.path(), &EVALUATE).await;
    assert!(all.len() == 2 && all[1].contains("told apart with AUROC 1.000"), "{all:?}");
}
