//! Embeddings that another program made: from files to scores, without a picture.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeListArray, Float32Array, Int64Array, LargeListArray, ListArray, RecordBatch, StringArray,
};
use arrow::datatypes::{DataType, Field, Float16Type, Float32Type, Float64Type};

use super::fixture::outskirt;

/// Unit vectors in 3 numbers at these angles.
fn angles(count: usize, from: f64, step: f64) -> Vec<[f32; 3]> {
    let at = |row: usize| (from + step * row as f64).to_radians();
    (0..count).map(|row| [at(row).cos() as f32, at(row).sin() as f32, 0.0]).collect()
}

fn fixed(rows: &[[f32; 3]]) -> ArrayRef {
    let values: ArrayRef = Arc::new(Float32Array::from(rows.concat()));
    Arc::new(
        FixedSizeListArray::try_new(Arc::new(Field::new("item", DataType::Float32, true)), 3, values, None).unwrap(),
    )
}

fn texts<T: AsRef<str>>(values: impl IntoIterator<Item = T>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn parquet(path: &Path, columns: &[(&str, ArrayRef)]) {
    let batch = RecordBatch::try_from_iter(columns.iter().map(|(name, column)| (*name, Arc::clone(column)))).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = datafusion::parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// 40 training rows, 20 held out, 10 far away, as a table has them.
fn table(path: &Path) {
    let rows = [angles(40, 0.0, 0.5), angles(20, 0.25, 1.0), angles(10, 90.0, 1.0)].concat();
    let splits = (0..70).map(|row| ["train", "val", "test"][usize::from(row >= 40) + usize::from(row >= 60)]);
    let names = (0..70).map(|row| format!("img_{row:03}"));
    let labels = (0..70).map(|row| ["cat", "dog"][row % 2]);
    parquet(
        path,
        &[
            ("uri", texts(names)),
            ("emb", fixed(&rows)),
            ("split", texts(splits)),
            ("label", texts(labels)),
            ("camera", Arc::new(Int64Array::from_iter_values(0..70))),
        ],
    );
}

async fn csv(db: &Path, query: &str) -> String {
    outskirt(db, &["sql", query, "--format", "csv"]).await.unwrap().0
}

async fn ingest(db: &Path, file: &Path, more: &[&str]) -> Result<(String, String), String> {
    let line = ["ingest", file.to_str().unwrap(), "--embedding-column", "emb", "--backbone", "clip"];
    outskirt(db, &[&line[..], more].concat()).await
}

const VERSION: [&str; 4] = ["--dataset", "mine", "--model-version", "ViT-B-32/openai"];

#[tokio::test]
async fn a_table_of_embeddings_is_scored_as_pictures_are() {
    let folder = tempfile::tempdir().unwrap();
    let (db, file) = (folder.path().join("db"), folder.path().join("clip.parquet"));
    table(&file);
    let error = ingest(&db, &file, &["--dataset", "mine"]).await.unwrap_err();
    assert!(error.contains("what version of the model clip made these embeddings?"), "{error}");
    let (summary, notices) = ingest(&db, &file, &VERSION).await.unwrap();
    assert!(summary.starts_with("mine: 70 added in ") && summary.contains(" rows/s"), "{summary}");
    assert_eq!(notices, "");
    assert_eq!(
        csv(&db, "SELECT id, uri, split, label, camera, width, content_hash FROM images WHERE id IN (1, 70)").await,
        "id,uri,split,label,camera,width,content_hash\n1,img_000,train,cat,0,,\n70,img_069,test,dog,69,,\n"
    );
    // the same command again, from another folder, adds nothing
    let (summary, _) = ingest(&db, &file, &VERSION[..2]).await.unwrap();
    assert!(summary.starts_with("mine: 0 added, 70 there already"), "{summary}");

    let create = ["bank", "create", "c", "--backbone", "clip", "--where", "split = 'train'", "--k", "5"];
    outskirt(&db, &create).await.unwrap();
    outskirt(&db, &["bank", "calibrate", "c", "--where", "split = 'val'"]).await.unwrap();
    let scores = "SELECT count(*) FILTER (WHERE is_ood(clip, 'c')), min(knn_ood_score(clip, 'c')) > 1 FROM images WHERE split = 'test'";
    assert_eq!(csv(&db, scores).await.lines().nth(1), Some("10,true"));
    let neighbours = "SELECT count(*) FROM (SELECT unnest(knn_neighbors(clip, 'c', 3)) AS n FROM images WHERE id = 1)";
    assert_eq!(csv(&db, neighbours).await.lines().nth(1), Some("3"));
    for command in
        [&["score", "c"][..], &["verify"], &["evaluate", "c", "--id", "split = 'val'", "--ood", "split = 'test'"]]
    {
        outskirt(&db, command).await.unwrap();
    }
    let (listed, _) = outskirt(&db, &["backbone", "list"]).await.unwrap();
    assert!(
        listed
            .lines()
            .any(|line| line.starts_with("clip ") && line.contains("external") && line.contains("ViT-B-32/openai")),
        "{listed}"
    );
}

#[tokio::test]
async fn what_changed_in_the_file_changes_in_the_table_and_banks_follow() {
    let folder = tempfile::tempdir().unwrap();
    let (db, file) = (folder.path().join("db"), folder.path().join("clip.parquet"));
    let write = |rows: &[[f32; 3]], cameras: &[i64]| {
        let names = (0..rows.len()).map(|row| format!("{row}"));
        parquet(
            &file,
            &[("uri", texts(names)), ("emb", fixed(rows)), ("camera", Arc::new(Int64Array::from(cameras.to_vec())))],
        );
    };
    let mut rows = angles(4, 0.0, 1.0);
    write(&rows, &[1, 2, 3, 4]);
    ingest(&db, &file, &VERSION).await.unwrap();
    let create = ["bank", "create", "c", "--backbone", "clip", "--where", "true", "--k", "1"];
    outskirt(&db, &create).await.unwrap();
    rows[1] = [0.0, 0.0, 5.0];
    rows.push([0.0, 1.0, 0.0]);
    write(&rows, &[1, 2, 30, 4, 5]);
    let (summary, _) = ingest(&db, &file, &VERSION).await.unwrap();
    assert!(
        summary.starts_with("mine: 1 added, 1 with another embedding, 2 there already, 1 with other metadata in "),
        "{summary}"
    );
    assert!(summary.contains("\nbank c: 1 embeddings added, 0 removed, 1 changed; 5 now"), "{summary}");
    assert_eq!(csv(&db, "SELECT camera FROM images ORDER BY id").await, "camera\n1\n2\n30\n4\n5\n");
    let own = "SELECT id FROM images WHERE knn_ood_score(clip, 'c') > 0.0001";
    assert_eq!(csv(&db, own).await.lines().count(), 1, "every row is its own neighbour");
    // deleted rows stay deleted, and undo brings them back
    outskirt(&db, &["delete", "--where", "uri = '2'"]).await.unwrap();
    let (summary, _) = ingest(&db, &file, &VERSION).await.unwrap();
    assert!(summary.starts_with("mine: 0 added, 4 there already, 1 deleted earlier"), "{summary}");
    let (summary, _) = ingest(&db, &file, &[&VERSION[..], &["--again"]].concat()).await.unwrap();
    assert!(summary.starts_with("mine: 1 added, 4 there already"), "{summary}");
}

#[tokio::test]
async fn another_version_of_the_model_is_refused_with_both_texts() {
    let folder = tempfile::tempdir().unwrap();
    let (db, file) = (folder.path().join("db"), folder.path().join("clip.parquet"));
    table(&file);
    ingest(&db, &file, &VERSION).await.unwrap();
    let error = ingest(&db, &file, &["--dataset", "x", "--model-version", "ViT-L-14/openai"]).await.unwrap_err();
    assert!(error.contains("version 'ViT-B-32/openai', and these are of 'ViT-L-14/openai'"), "{error}");
    for (line, why) in [
        (&["embed", "--backbone", "clip"][..], "'clip' is an external backbone: another program makes its embeddings"),
        (&["sql", "SELECT embed(uri, 'clip') FROM images"], "'clip' is an external backbone"),
        (&["ingest", file.to_str().unwrap(), "--dataset", "x", "--backbone", "clip"], "'clip' is an external backbone"),
    ] {
        let error = outskirt(&db, line).await.unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    let built_in = ["ingest", file.to_str().unwrap(), "--embedding-column", "emb", "--backbone", "demo_shapes"];
    let error = outskirt(&db, &[&built_in[..], &VERSION].concat()).await.unwrap_err();
    assert!(error.contains("a network of that name comes with the program"), "{error}");
    let narrow = folder.path().join("narrow.parquet");
    let lists = ListArray::from_iter_primitive::<Float64Type, _, _>([Some(vec![Some(1.0), Some(2.0)])]);
    parquet(&narrow, &[("emb", Arc::new(lists))]);
    let error = ingest(&db, &narrow, &VERSION).await.unwrap_err();
    assert!(error.contains("its embeddings have 3 numbers, and these 2"), "{error}");
    // a name that was given the wrong embeddings is free again once its column is dropped, but not while a bank stands on it
    assert!(error.contains("free this one with ALTER TABLE images DROP COLUMN clip"), "{error}");
    let drop = ["sql", "ALTER TABLE images DROP COLUMN clip"];
    outskirt(&db, &["bank", "create", "b", "--backbone", "clip", "--where", "true", "--k", "1"]).await.unwrap();
    let refused = outskirt(&db, &drop).await.unwrap_err();
    assert!(refused.contains("bank 'b' stands on the embeddings of 'clip': 'outskirt bank drop b' first"), "{refused}");
    outskirt(&db, &["bank", "drop", "b"]).await.unwrap();
    outskirt(&db, &drop).await.unwrap();
    ingest(&db, &narrow, &VERSION).await.unwrap();
    let error = ingest(&db, &file, &["--dataset", "x", "--embedding-column", "gone"]).await;
    assert!(error.is_err());
}

#[tokio::test]
async fn rows_that_are_no_vectors_are_rejects_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let (db, file) = (folder.path().join("db"), folder.path().join("clip.parquet"));
    let write = |lists: Vec<Option<Vec<Option<f64>>>>| {
        parquet(&file, &[("emb", Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(lists)))]);
    };
    let good = |x: f64| Some(vec![Some(x), Some(1.0)]);
    let bad = [None, Some(vec![Some(f64::NAN), Some(1.0)]), Some(vec![Some(0.0), Some(0.0)]), Some(vec![Some(1.0)])];
    write([vec![good(0.5)], bad.to_vec(), vec![good(0.7)]].concat());
    let (summary, notices) = ingest(&db, &file, &VERSION).await.unwrap();
    assert!(summary.starts_with("mine: 2 added, 4 refused in "), "{summary}");
    assert!(notices.contains("the embeddings are f64, and are kept as f32"), "{notices}");
    let place = file.canonicalize().unwrap();
    let rejects = csv(&db, "SELECT uri, reason FROM rejects ORDER BY uri").await;
    assert!(rejects.contains(&format!("{}!/00000001,it is NULL\n", place.display())), "{rejects}");
    assert!(rejects.contains("!/00000004,\"it has 1 numbers, and the others 2\"\n"), "{rejects}");
    let error = ingest(&db, &file, &[&VERSION[..], &["--strict"]].concat()).await.unwrap_err();
    assert!(error.contains("!/00000001: it is NULL (--strict stops here"), "{error}");
    let fresh = folder.path().join("strict");
    let error = ingest(&fresh, &file, &[&VERSION[..], &["--strict"]].concat()).await.unwrap_err();
    assert!(error.contains("what came before it is kept"), "{error}");
    assert_eq!(csv(&fresh, "SELECT count(*) AS n FROM images").await, "n\n1\n");
    // mended, they are no rejects any more
    write(vec![good(0.5), good(1.0), good(2.0), good(3.0), good(4.0), good(0.7)]);
    let (summary, _) = ingest(&db, &file, &VERSION).await.unwrap();
    assert!(summary.starts_with("mine: 4 added, 2 there already"), "{summary}");
    assert_eq!(csv(&db, "SELECT count(*) AS n FROM rejects").await, "n\n0\n");
    // of nothing but rejects nothing is there
    write(bad.to_vec());
    let error = ingest(&folder.path().join("other"), &file, &VERSION).await.unwrap_err();
    assert!(error.contains("all 4 images were refused") || error.contains("refused"), "{error}");
}

fn npy(rows: &[[f32; 3]]) -> Vec<u8> {
    let dict = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, 3), }}\n", rows.len());
    let data: Vec<u8> = rows.concat().iter().flat_map(|number| number.to_le_bytes()).collect();
    [b"\x93NUMPY\x01\x00".as_slice(), &(dict.len() as u16).to_le_bytes(), dict.as_bytes(), &data].concat()
}

/// The same rows in every format that is read.
fn every_format(folder: &Path, rows: &[[f32; 3]]) -> Vec<PathBuf> {
    use std::io::Write;
    let path = |name: &str| folder.join(name);
    let wide = |row: &[f32; 3]| Some(row.iter().map(|number| Some(f64::from(*number))).collect::<Vec<_>>());
    let batch = |column: ArrayRef| RecordBatch::try_from_iter([("emb", column)]).unwrap();
    parquet(&path("a.parquet"), &[("emb", fixed(rows))]);
    parquet(
        &path("large.parquet"),
        &[("emb", Arc::new(LargeListArray::from_iter_primitive::<Float64Type, _, _>(rows.iter().map(wide))))],
    );
    let half = |row: &[f32; 3]| Some(row.iter().map(|number| Some(half::f16::from_f32(*number))).collect::<Vec<_>>());
    let halves = batch(Arc::new(ListArray::from_iter_primitive::<Float16Type, _, _>(rows.iter().map(half))));
    let mut file =
        arrow::ipc::writer::FileWriter::try_new(std::fs::File::create(path("a.arrow")).unwrap(), &halves.schema())
            .unwrap();
    file.write(&halves).unwrap();
    file.finish().unwrap();
    let whole = batch(fixed(rows));
    let options = arrow::ipc::writer::IpcWriteOptions::default()
        .try_with_compression(Some(arrow::ipc::CompressionType::LZ4_FRAME))
        .unwrap();
    let out = std::fs::File::create(path("lz4.feather")).unwrap();
    let mut file = arrow::ipc::writer::FileWriter::try_new_with_options(out, &whole.schema(), options).unwrap();
    file.write(&whole).unwrap();
    file.finish().unwrap();
    let mut file = arrow::ipc::writer::StreamWriter::try_new(
        std::fs::File::create(path("stream.arrow")).unwrap(),
        &whole.schema(),
    )
    .unwrap();
    file.write(&whole).unwrap();
    file.finish().unwrap();
    let listed = |row: &[f32; 3]| format!("[{}, {}, {}]", row[0], row[1], row[2]);
    let lines: String = rows.iter().map(|row| format!("{{\"emb\": {}}}\n", listed(row))).collect();
    std::fs::write(path("a.jsonl"), lines).unwrap();
    let lines: String = rows.iter().map(|row| format!("\"{}\"\n", listed(row))).collect();
    std::fs::write(path("a.csv"), format!("emb\n{lines}")).unwrap();
    std::fs::write(path("a.npy"), npy(rows)).unwrap();
    let mut archive = zip::ZipWriter::new(std::fs::File::create(path("a.npz")).unwrap());
    for (name, bytes) in [("labels.npy", b"x".to_vec()), ("emb.npy", npy(rows))] {
        archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(&bytes).unwrap();
    }
    archive.finish().unwrap();
    let data: Vec<u8> = rows.concat().iter().flat_map(|number| number.to_le_bytes()).collect();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![rows.len(), 3], &data).unwrap();
    std::fs::write(path("a.safetensors"), safetensors::serialize([("emb".to_string(), view)], None).unwrap()).unwrap();
    let names = [
        "a.parquet",
        "large.parquet",
        "a.arrow",
        "lz4.feather",
        "stream.arrow",
        "a.jsonl",
        "a.csv",
        "a.npy",
        "a.npz",
        "a.safetensors",
    ];
    names.iter().map(|name| path(name)).collect()
}

#[tokio::test]
async fn every_format_gives_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    let rows = angles(2500, 1.0, 0.01);
    let mut files = every_format(folder.path(), &rows);
    let lance = folder.path().join("a.lance");
    let batch = RecordBatch::try_from_iter([("emb", fixed(&rows))]).unwrap();
    let schema = batch.schema();
    let batches = arrow::array::RecordBatchIterator::new([Ok(batch)], schema);
    lance::Dataset::write(batches, lance.to_str().unwrap(), None).await.unwrap();
    files.push(lance);
    for file in &files {
        let dataset = file.file_name().unwrap().to_str().unwrap();
        let more = ["--dataset", dataset, "--model-version", "1"];
        let (summary, _) = ingest(&db, file, &more).await.unwrap_or_else(|error| panic!("{dataset}: {error}"));
        assert!(summary.starts_with(&format!("{dataset}: 2500 added")), "{summary}");
    }
    let create = ["bank", "create", "c", "--backbone", "clip", "--where", "dataset = 'a.parquet'", "--k", "1"];
    outskirt(&db, &create).await.unwrap();
    let worst =
        "SELECT dataset, count(*) AS n, max(knn_ood_score(clip, 'c')) < 0.0005 AS near FROM images GROUP BY dataset";
    let found = csv(&db, worst).await;
    assert_eq!(found.lines().count(), 12);
    assert!(found.lines().skip(1).all(|line| line.ends_with(",2500,true")), "{found}");
}

#[tokio::test]
async fn a_table_beside_arrays_gives_their_other_columns_by_row() {
    let folder = tempfile::tempdir().unwrap();
    let (db, file, beside) = (folder.path().join("db"), folder.path().join("a.npy"), folder.path().join("m.csv"));
    std::fs::write(&file, npy(&angles(3, 0.0, 1.0))).unwrap();
    std::fs::write(&beside, "uri,label,camera\none,cat,7\ntwo,,8\nthree,dog,9\n").unwrap();
    let more = [&VERSION[..], &["--metadata", beside.to_str().unwrap()]].concat();
    ingest(&db, &file, &more).await.unwrap();
    assert_eq!(
        csv(&db, "SELECT uri, label, camera FROM images ORDER BY id").await,
        "uri,label,camera\none,cat,7\ntwo,,8\nthree,dog,9\n"
    );
    std::fs::write(&beside, "camera\n7\n").unwrap();
    let error = ingest(&db, &file, &more).await.unwrap_err();
    assert!(error.contains("it has 1 rows, and the embeddings 3"), "{error}");
    // its split and its dataset are the rows'
    std::fs::write(&beside, "uri,split,dataset\none,train,a\ntwo,test,a\nthree,train,b\n").unwrap();
    let line = ["ingest", file.to_str().unwrap(), "--backbone", "clip", "--metadata", beside.to_str().unwrap()];
    outskirt(&db, &[&line[..], &["--model-version", "ViT-B-32/openai", "--embedding-column", "x"]].concat())
        .await
        .unwrap();
    let found = "SELECT uri, split, dataset FROM images WHERE dataset <> 'mine' ORDER BY uri";
    assert_eq!(csv(&db, found).await, "uri,split,dataset\none,train,a\nthree,train,b\ntwo,test,a\n");
}

#[tokio::test]
async fn a_table_beside_a_table_is_joined_by_uri() {
    let folder = tempfile::tempdir().unwrap();
    let (db, file, beside) = (folder.path().join("db"), folder.path().join("a.parquet"), folder.path().join("m.csv"));
    parquet(
        &file,
        &[("uri", texts(["a", "b", "c"])), ("emb", fixed(&angles(3, 0.0, 45.0))), ("note", texts(["x", "y", "z"]))],
    );
    std::fs::write(&beside, "uri,note,split\nc,three,test\na,one,train\n").unwrap();
    let more = [&VERSION[..], &["--metadata", beside.to_str().unwrap()]].concat();
    ingest(&db, &file, &more).await.unwrap();
    let found = "SELECT uri, note, split, round(clip[1]) AS x FROM images ORDER BY uri";
    assert_eq!(csv(&db, found).await, "uri,note,split,x\na,one,train,1.0\nb,y,,1.0\nc,three,test,0.0\n");
}

#[tokio::test]
async fn what_a_run_cannot_mean_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (db, file) = (folder.path().join("db"), folder.path().join("a.parquet"));
    let uris = ["a", "a", "a", " lead", "https://u:pw@host/y.png?sig=SECRET&id=1"];
    let rows = [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 2.0]];
    parquet(&file, &[("uri", texts(uris)), ("emb", fixed(&rows))]);
    let error = ingest(&db, &file, &[&VERSION[..], &["--sample", "1", "--with-logits"]].concat()).await.unwrap_err();
    assert!(error.starts_with("--sample, --with-logits: of pictures"), "{error}");
    let (summary, said) = ingest(&db, &file, &VERSION).await.unwrap();
    assert!(summary.starts_with("mine: 3 added, 1 given twice, 1 left out"), "{summary}");
    assert!(said.contains("has the same uri and other numbers; the first: a"), "{said}");
    let found = csv(&db, "SELECT uri FROM images ORDER BY id").await;
    assert_eq!(found, "uri\na\n lead\nhttps://host/y.png\n");
    let (summary, said) = ingest(&db, &file, &[&VERSION[..], &["--split", "test"]].concat()).await.unwrap();
    assert!(
        summary.starts_with("mine/test: 0 added, 3 there already") && said.contains("3 of them are in another split"),
        "{summary}{said}"
    );
    let create = ["bank", "create", "c", "--backbone", "clip", "--where", "true", "--k", "1"];
    assert_eq!(outskirt(&db, &create).await.unwrap().1, "", "rows without a hash are no copies");
    let line = ["ingest", file.to_str().unwrap(), "--embedding-column", "embs", "--backbone", "clip", "--dataset", "x"];
    let error = outskirt(&db, &line).await.unwrap_err();
    assert!(error.contains("it has no column 'embs': its columns are 'uri', 'emb'"), "{error}");
}

#[tokio::test]
async fn a_second_model_fills_a_column_of_the_rows_that_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let (db, file) = (folder.path().join("db"), folder.path().join("clip.parquet"));
    table(&file);
    ingest(&db, &file, &VERSION).await.unwrap();
    let other = folder.path().join("dino.parquet");
    let names = ["img_003", "img_001", "new"];
    parquet(&other, &[("uri", texts(names)), ("emb", fixed(&angles(3, 45.0, 1.0)))]);
    let line = ["ingest", other.to_str().unwrap(), "--embedding-column", "emb", "--backbone", "dino"];
    let more = ["--dataset", "mine", "--model-version", "2"];
    let (summary, _) = outskirt(&db, &[&line[..], &more].concat()).await.unwrap();
    assert!(summary.starts_with("mine: 1 added, 2 embedded by this backbone too"), "{summary}");
    let filled = "SELECT uri, clip IS NULL, label FROM images WHERE dino IS NOT NULL ORDER BY uri";
    assert_eq!(
        csv(&db, filled).await,
        "uri,images.clip IS NULL,label\nimg_001,false,dog\nimg_003,false,dog\nnew,true,\n"
    );
}

#[tokio::test]
async fn rows_are_matched_by_a_column_of_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let (db, file) = (folder.path().join("db"), folder.path().join("clip.parquet"));
    let rows = angles(4, 0.0, 1.0);
    let skus: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), Some(8), Some(8), None]));
    parquet(&file, &[("uri", texts(["a", "b", "c", "d"])), ("emb", fixed(&rows)), ("sku", skus)]);
    ingest(&db, &file, &VERSION).await.unwrap();
    // two pictures of one article get its embedding; who belongs to nothing is counted, and no row is added
    let other = folder.path().join("text.parquet");
    let skus: ArrayRef = Arc::new(Int64Array::from(vec![Some(8), Some(99), None, Some(7), Some(7)]));
    let (emb, price) = (fixed(&angles(5, 45.0, 1.0)), Int64Array::from(vec![30, 1, 1, 20, 21]));
    parquet(&other, &[("sku", skus), ("emb", emb), ("price", Arc::new(price))]);
    let text =
        |key| ["ingest", other.to_str().unwrap(), "--embedding-column", "emb", "--backbone", "text", "--key", key];
    let line = [&text("sku")[..], &["--model-version", "2"]].concat();
    let (summary, notices) = outskirt(&db, &line).await.unwrap();
    let counts =
        "0 added, 3 embedded by this backbone too, 1 left out, 1 that belong to no row, left out, 1 refused in ";
    assert!(summary.contains(counts), "{summary}");
    assert!(notices.contains("1 left out: no row of images has their sku; the first: 99"), "{notices}");
    assert!(notices.contains("what it belongs to is NULL"), "{notices}");
    // what is said of the rows stays: a price is another table's
    let query = "SELECT uri, text IS NULL AS bare, array_element(text, 1) > 0.7 AS first FROM images ORDER BY uri";
    assert_eq!(csv(&db, query).await, "uri,bare,first\na,false,false\nb,false,true\nc,false,true\nd,true,\n");
    assert!(outskirt(&db, &["sql", "SELECT price FROM images"]).await.is_err(), "it is not taken");
    let (again, _) = outskirt(&db, &line).await.unwrap();
    assert!(again.contains("0 added, 3 there already"), "{again}");
    let error = outskirt(&db, &[&line[..], &["--strict"]].concat()).await.unwrap_err();
    assert!(error.contains("text.parquet!/00000001 belongs to no row of images: none has '99' there"), "{error}");
    // by id, as a query gives it
    let ids = folder.path().join("ids.csv");
    std::fs::write(&ids, "id,emb\n2,\"[0, 0, 1]\"\n").unwrap();
    let by_id = ["ingest", ids.to_str().unwrap(), "--embedding-column", "emb", "--backbone", "text", "--key", "id"];
    let (summary, _) = outskirt(&db, &by_id).await.unwrap();
    assert!(summary.contains("0 added, 1 with another embedding"), "{summary}");
    let error = outskirt(&db, &text("clip")).await.unwrap_err();
    assert!(error.contains("it has no column 'clip', which says what a row belongs to"), "{error}");
    let error = outskirt(&db, &text("price")).await.unwrap_err();
    assert!(error.contains("--key price: images has no such column"), "{error}");
    let error = outskirt(&db, &[&text("sku")[..], &["--split", "val"]].concat()).await.unwrap_err();
    assert!(error.contains("--key adds no rows"), "{error}");
}

/// A table's own `id` is `id_` here: rows were matched by the database's ids in its place. pandas makes floats of numbers
/// beside NULL, and arrays have no columns.
#[tokio::test]
async fn keys_are_what_an_ingest_made_of_them_whatever_their_type() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (db, rows) = (at("db"), angles(3, 0.0, 30.0));
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![2, 3, 10]));
    parquet(&at("one.parquet"), &[("id", ids), ("emb", fixed(&rows)), ("Article No", texts(["x", "y", "z"]))]);
    ingest(&db, &at("one.parquet"), &VERSION).await.unwrap();
    let floats: ArrayRef = Arc::new(datafusion::arrow::array::Float64Array::from(vec![10.0, 3.0, 2.0]));
    let turned = [rows[2], rows[1], rows[0]];
    parquet(&at("two.parquet"), &[("id", floats), ("emb", fixed(&turned)), ("Article No", texts(["z", "y", "x"]))]);
    for (backbone, key) in [("by_id", "id"), ("by_name", "Article No"), ("by_our_name", "article_no")] {
        let file = at("two.parquet");
        let line = ["ingest", file.to_str().unwrap(), "--embedding-column", "emb", "--backbone", backbone];
        let line = [&line[..], &["--model-version", "2", "--key", key]].concat();
        let (summary, notices) = outskirt(&db, &line).await.unwrap();
        assert!(summary.contains("0 added, 3 embedded by this backbone too"), "{key}: {summary}{notices}");
        let same = format!("SELECT count(*) AS n FROM images WHERE array_distance(clip, {backbone}) = 0");
        assert_eq!(csv(&db, &same).await, "n\n3\n", "{key}");
    }
    let mut npy = b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f4', 'fortran_order': False, 'shape': (3, 3), }".to_vec();
    npy.resize(10 + 0x46 - 1, b' ');
    npy.push(b'\n');
    npy.extend(turned.concat().iter().flat_map(|number| number.to_le_bytes()));
    std::fs::write(at("turned.npy"), npy).unwrap();
    std::fs::write(at("turned.csv"), "id\n10\n3\n2\n").unwrap();
    let (array, beside) = (at("turned.npy"), at("turned.csv"));
    let line = ["ingest", array.to_str().unwrap(), "--metadata", beside.to_str().unwrap(), "--backbone", "array"];
    let (summary, _) = outskirt(&db, &[&line[..], &["--model-version", "3", "--key", "id"]].concat()).await.unwrap();
    assert!(summary.contains("0 added, 3 embedded by this backbone too"), "{summary}");
    assert_eq!(csv(&db, "SELECT count(*) AS n FROM images WHERE array_distance(clip, array) = 0").await, "n\n3\n");
    // an array whose table says the data set, of a network that is said here for the first time
    std::fs::write(at("named.csv"), "uri,dataset\na,first\nb,first\nc,second\n").unwrap();
    let (other, beside) = (at("other.db"), at("named.csv"));
    let line = ["ingest", array.to_str().unwrap(), "--metadata", beside.to_str().unwrap(), "--backbone", "array"];
    outskirt(&other, &[&line[..], &["--model-version", "3"]].concat()).await.unwrap();
    let sets = "SELECT dataset, count(array) AS n FROM images GROUP BY dataset ORDER BY dataset";
    assert_eq!(csv(&other, sets).await, "dataset,n\nfirst,2\nsecond,1\n");
    let error = outskirt(&db, &["ingest", "photos", "--backbone", "demo_shapes"]).await.unwrap_err();
    assert!(error.contains("give --dataset NAME"), "{error}");
}

#[tokio::test]
async fn sql_writes_embeddings_of_external_backbones_and_checks_them() {
    let folder = tempfile::tempdir().unwrap();
    let (db, file) = (folder.path().join("db"), folder.path().join("new.parquet"));
    let declare = ["backbone", "add", "clip", "--external", "--dimension", "3", "--model-version", "1"];
    let (declared, _) = outskirt(&db, &declare).await.unwrap();
    assert_eq!(declared, "external backbone clip: 3 numbers, version 1\n");
    outskirt(&db, &declare).await.unwrap();
    parquet(&file, &[("name", texts(["a", "b"])), ("emb", fixed(&angles(2, 0.0, 90.0)))]);
    let sql = async |statement: &str| outskirt(&db, &["sql", statement, "--format", "csv"]).await;
    let from = format!("'{}'", file.display());
    let insert = "INSERT INTO images (dataset, split, uri, label, clip)";
    sql(&format!("{insert} SELECT 'd', 'train', name, 'x', emb FROM {from}")).await.unwrap();
    sql(&format!("{insert} VALUES ('d', '', 'c', NULL, [0, 0, 2]), ('d', '', 'none', NULL, NULL)")).await.unwrap();
    outskirt(&db, &["bank", "create", "c", "--backbone", "clip", "--where", "true", "--k", "1"]).await.unwrap();
    let far = "SELECT uri FROM images WHERE knn_ood_score(clip, 'c', 2) > 1.41 ORDER BY uri";
    assert_eq!(sql(far).await.unwrap().0, "uri\na\nb\nc\n", "each is alone on its axis");
    sql(&format!("UPDATE images SET clip = n.emb FROM {from} n WHERE images.uri = 'c' AND n.name = 'a'"))
        .await
        .unwrap();
    outskirt(&db, &["bank", "refresh", "c"]).await.unwrap();
    assert_eq!(sql(far).await.unwrap().0, "uri\nb\n");
    for (value, why) in [
        ("[1, 2]", "a value for column clip is no embedding: it has 2 numbers, and the others 3"),
        ("[0, 0, 0]", "is no embedding: it is"),
        ("[1, 'NaN'::DOUBLE, 0]", "is no embedding: it is"),
        ("'near'", "clip"),
    ] {
        for statement in [
            format!("{insert} VALUES ('d', '', 'bad', NULL, {value})"),
            format!("UPDATE images SET clip = {value} WHERE uri = 'a'"),
        ] {
            let error = sql(&statement).await.unwrap_err();
            assert!(error.contains(why) && error.lines().count() == 1, "{statement}: {error}");
        }
    }
    assert_eq!(sql("SELECT count(*) AS n FROM images").await.unwrap().0, "n\n4\n");
}

#[tokio::test]
async fn pictures_come_to_rows_that_came_as_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let (db, file) = (root.join("db"), root.join("a.parquet"));
    outskirt::demo::write_pictures(&root, 7, outskirt::demo::Counts { train: 2, calibration: 1, test: 1, ood: 1 })
        .unwrap();
    let names = ["id/train/star/0000.png", "id/train/star/0001.png"];
    parquet(&file, &[("uri", texts(names)), ("emb", fixed(&angles(2, 0.0, 1.0)))]);
    ingest(&db, &file, &VERSION).await.unwrap();
    let pictures = root.join("id/train/star");
    let line = ["ingest", pictures.to_str().unwrap(), "--dataset", "mine", "--backbone", "demo_shapes"];
    let (summary, _) = outskirt(&db, &line).await.unwrap();
    assert!(summary.starts_with("mine: 0 added, 2 embedded by this backbone too"), "{summary}");
    let (summary, _) = outskirt(&db, &line).await.unwrap();
    assert!(summary.starts_with("mine: 0 added, 2 there already"), "{summary}");
    let (summary, _) = ingest(&db, &file, &VERSION).await.unwrap();
    assert!(summary.starts_with("mine: 0 added, 2 there already"), "{summary}");
    // deleted, they stay out whichever way they come
    outskirt(&db, &["delete", "--where", "uri LIKE '%0000.png'"]).await.unwrap();
    let (summary, _) = outskirt(&db, &line).await.unwrap();
    assert!(summary.starts_with("mine: 0 added, 1 there already, 1 deleted earlier"), "{summary}");
    let (summary, _) = ingest(&db, &file, &VERSION).await.unwrap();
    assert!(summary.starts_with("mine: 0 added, 1 there already, 1 deleted earlier"), "{summary}");
    outskirt(&db, &["undo"]).await.unwrap();
    let other = root.join("other");
    ingest(&other, &file, &VERSION).await.unwrap();
    outskirt(&other, &["delete", "--where", "uri LIKE '%0000.png'"]).await.unwrap();
    let (summary, _) = outskirt(&other, &line).await.unwrap();
    assert!(summary.starts_with("mine: 0 added, 1 embedded by this backbone too, 1 deleted earlier"), "{summary}");
    let both = "SELECT count(*) AS n FROM images WHERE clip IS NOT NULL AND demo_shapes IS NOT NULL AND length(content_hash) = 64 AND width = 32";
    assert_eq!(csv(&db, both).await, "n\n2\n");
    outskirt(&db, &["verify"]).await.unwrap();
}

#[tokio::test]
async fn logits_come_with_the_embeddings() {
    let folder = tempfile::tempdir().unwrap();
    let (db, file) = (folder.path().join("db"), folder.path().join("a.parquet"));
    let logits = ListArray::from_iter_primitive::<Float32Type, _, _>([
        Some(vec![Some(0.0), Some(0.0)]),
        Some(vec![Some(3.0), Some(f32::INFINITY)]),
    ]);
    parquet(&file, &[("emb", fixed(&angles(2, 0.0, 1.0))), ("out", Arc::new(logits))]);
    let (summary, notices) = ingest(&db, &file, &[&VERSION[..], &["--logits-column", "out"]].concat()).await.unwrap();
    assert!(summary.starts_with("mine: 1 added, 1 refused"), "{summary}");
    assert!(notices.contains("of its logits: it is inf at place 1"), "{notices}");
    let found = csv(&db, "SELECT msp_score(clip_logits) AS s FROM images").await;
    assert!(found.starts_with("s\n") && found.contains("0.5"), "{found}");
}

#[tokio::test]
async fn columns_that_images_cannot_have_are_named_and_not_dropped_without_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let (db, file) = (folder.path().join("db"), folder.path().join("a.parquet"));
    let rows = angles(3, 0.0, 0.1);
    let tags =
        ListArray::from_iter_primitive::<arrow::datatypes::Int32Type, _, _>([1, 2, 3].map(|tag| Some([Some(tag)])));
    let columns: [(&str, ArrayRef); 3] =
        [("emb", fixed(&rows)), ("tags", Arc::new(tags)), ("kind", texts(["a", "b", "c"]))];
    parquet(&file, &columns);
    let (_, notices) = ingest(&db, &file, &VERSION).await.unwrap();
    assert!(notices.contains("left out: 'tags' (List(") && !notices.contains("'kind'"), "{notices}");
    assert_eq!(csv(&db, "SELECT min(kind) AS k FROM images").await, "k\na\n");
}
