//! Columns of one's own beside the images, out of the tables that hold or name them.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Float64Array, Int64Array, ListArray, RecordBatch, StringArray,
    StructArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use outskirt::demo::{Counts, write_pictures};

use super::fixture::outskirt;

/// Four pictures, as files.
fn four(folder: &Path) -> Vec<Vec<u8>> {
    write_pictures(folder, 7, Counts { train: 4, calibration: 1, test: 1, ood: 1 }).unwrap();
    (0..4).map(|picture| std::fs::read(folder.join(format!("id/train/star/000{picture}.png"))).unwrap()).collect()
}

/// A table of images as Hugging Face lays it out, with all that may stand beside them.
fn table(images: &[Vec<u8>], cameras: &[Option<i64>]) -> RecordBatch {
    let count = images.len();
    let bytes: ArrayRef = Arc::new(BinaryArray::from_iter_values(images));
    let paths: ArrayRef = Arc::new(StringArray::from(vec![Some("a.png"); count]));
    let image = StructArray::from(vec![
        (Arc::new(Field::new("bytes", DataType::Binary, true)), bytes),
        (Arc::new(Field::new("path", DataType::Utf8, true)), paths),
    ]);
    let numbers = || 0..count as i64;
    let tags = numbers().map(|tag| Some([Some(tag)]));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("label", Arc::new(Int64Array::from_iter_values(numbers().map(|row| row % 2)))),
        ("Camera", Arc::new(Int64Array::from(cameras.to_vec()))),
        ("image", Arc::new(image)),
        ("note", Arc::new(StringArray::from_iter_values(numbers().map(|row| format!("n{row}"))))),
        ("taken", Arc::new(Date32Array::from_iter_values((0..count as i32).map(|row| 19_844 + row)))),
        ("seen", Arc::new(TimestampMillisecondArray::from_iter_values(numbers().map(|row| 1000 * row)))),
        ("bright", Arc::new(Float64Array::from_iter_values(numbers().map(|row| row as f64 / 4.0)))),
        ("sharp", Arc::new(BooleanArray::from_iter(numbers().map(|row| Some(row == 0))))),
        ("tags", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(tags))),
        ("mask", Arc::new(BinaryArray::from_iter_values(images))),
        ("id", Arc::new(Int64Array::from_iter_values(numbers()))),
    ];
    let fields: Vec<Field> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let names = r#"{"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}"#;
    let schema = Schema::new(fields).with_metadata([("huggingface".to_string(), names.to_string())].into());
    RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|(_, column)| column).collect()).unwrap()
}

fn write_parquet(path: &Path, batch: &RecordBatch) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = datafusion::parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

async fn write_lance(path: &Path, batch: RecordBatch, mode: lance::dataset::WriteMode) {
    let schema = batch.schema();
    let batches = arrow::array::RecordBatchIterator::new([Ok(batch)], schema);
    let params = lance::dataset::WriteParams { mode, ..Default::default() };
    lance::Dataset::write(batches, path.to_str().unwrap(), Some(params)).await.unwrap();
}

async fn csv(db: &Path, query: &str) -> String {
    outskirt(db, &["sql", query, "--format", "csv"]).await.unwrap().0
}

async fn ingest(db: &Path, path: &str, dataset: &str, more: &[&str]) -> Result<(String, String), String> {
    let line = ["ingest", path, "--dataset", dataset, "--backbone", "demo_shapes"];
    outskirt(db, &[&line[..], more].concat()).await
}

const ROWS: &str = "label,camera,note,taken,seen,bright,sharp\n\
                    cat,7,n0,2024-05-01,1970-01-01T00:00:00,0.0,true\n\
                    dog,,n1,2024-05-02,1970-01-01T00:00:01,0.25,false\n\
                    cat,9,n0,2024-05-01,1970-01-01T00:00:00,0.0,true\n\
                    dog,10,n1,2024-05-02,1970-01-01T00:00:01,0.25,false\n";

#[tokio::test]
async fn tables_that_hold_images_give_their_other_columns() {
    let folder = tempfile::tempdir().unwrap();
    let (db, images) = (folder.path().join("db"), four(folder.path()));
    let first = table(&images[..2], &[Some(7), None]);
    let (shards, lance) = (folder.path().join("data"), folder.path().join("pets.lance"));
    write_parquet(&shards.join("train-00000-of-00002.parquet"), &first);
    write_parquet(&shards.join("train-00001-of-00002.parquet"), &table(&images[2..], &[Some(9), Some(10)]));
    write_lance(&lance, first.clone(), lance::dataset::WriteMode::Create).await;
    write_lance(&lance, table(&images[2..], &[Some(9), Some(10)]), lance::dataset::WriteMode::Append).await;

    for (path, dataset) in [(shards.to_str().unwrap(), "parquet"), (lance.to_str().unwrap(), "lance")] {
        let (summary, notices) = ingest(&db, path, dataset, &[]).await.unwrap();
        assert!(summary.starts_with(&format!("{dataset}: 4 added in ")), "{summary}");
        assert!(
            notices.contains("column 'id' of ") && notices.contains(" is taken as id_: images has a column"),
            "{notices}"
        );
        let rows = format!(
            "SELECT label, camera, note, taken, seen, bright, sharp FROM images WHERE dataset = '{dataset}' ORDER BY uri"
        );
        assert_eq!(csv(&db, &rows).await, ROWS);
        let (summary, _) = ingest(&db, path, dataset, &[]).await.unwrap();
        assert!(summary.starts_with(&format!("{dataset}: 0 added, 4 there already in ")), "{summary}");
    }
    let (row, _) = outskirt(&db, &["sql", "SELECT * FROM images LIMIT 1", "--format", "json"]).await.unwrap();
    assert!(!["tags", "mask", "image"].iter().any(|column| row.contains(&format!("\"{column}\":"))), "{row}");

    // other values are told, and what stands beside the table has the last word
    write_parquet(&shards.join("train-00001-of-00002.parquet"), &table(&images[2..], &[Some(9), Some(11)]));
    let (summary, _) = ingest(&db, shards.to_str().unwrap(), "parquet", &[]).await.unwrap();
    assert!(summary.starts_with("parquet: 0 added, 4 there already, 1 with other metadata"), "{summary}");
    let cameras = "SELECT camera, lens FROM images WHERE dataset = 'parquet' ORDER BY uri";
    let beside = folder.path().join("beside.csv");
    std::fs::write(&beside, "uri,camera,lens\ntrain-00000-of-00002.parquet!/00000001,3,wide\n").unwrap();
    let more = ["--metadata", beside.to_str().unwrap()];
    let (summary, _) = ingest(&db, shards.to_str().unwrap(), "parquet", &more).await.unwrap();
    assert!(summary.starts_with("parquet: 0 added, 4 there already, 1 with other metadata"), "{summary}");
    assert_eq!(csv(&db, cameras).await, "camera,lens\n7,\n3,wide\n9,\n11,\n");

    // a picture that changed keeps what no table says of it anew
    let mut swapped = images.clone();
    swapped.swap(1, 3);
    write_parquet(&shards.join("train-00000-of-00002.parquet"), &table(&swapped[..2], &[Some(7), Some(4)]));
    std::fs::write(&beside, "uri,lens\ntrain-00001-of-00002.parquet!/00000000,long\n").unwrap();
    let (summary, _) = ingest(&db, shards.to_str().unwrap(), "parquet", &more).await.unwrap();
    assert!(summary.contains("0 added, 1 replaced (the file had changed), 3 there already, 1 with other"), "{summary}");
    assert_eq!(csv(&db, cameras).await, "camera,lens\n7,\n4,wide\n9,long\n11,\n");

    // types clash as those of other tables do
    let names: ArrayRef = Arc::new(StringArray::from(vec!["left"]));
    let image: ArrayRef = Arc::new(BinaryArray::from_iter_values(&images[..1]));
    let other = folder.path().join("other.parquet");
    write_parquet(&other, &RecordBatch::try_from_iter([("camera", names), ("image", image)]).unwrap());
    let error = ingest(&db, other.to_str().unwrap(), "other", &[]).await.unwrap_err();
    assert!(error.contains("column 'camera' is Utf8 here, and its values do not fit Int64"), "{error}");
}

#[tokio::test]
async fn a_wildcard_of_tables_gives_their_columns() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    four(folder.path());
    let lists = folder.path().join("lists");
    std::fs::create_dir(&lists).unwrap();
    let pictures = folder.path().join("id/train/star");
    let write = |list: &str, head: &str, rows: &[(&str, &str)]| {
        let rows = rows.iter().map(|(file, rest)| format!("{},{rest}\n", pictures.join(file).display()));
        std::fs::write(lists.join(list), format!("uri,{head}\n{}", rows.collect::<String>())).unwrap();
    };
    write("a.csv", "camera", &[("0000.png", "7"), ("0001.png", "8")]);
    write("b.csv", "camera,lens", &[("0002.png", "8.5,wide"), ("0001.png", "9,")]);
    let all = lists.join("*.csv");
    let (summary, _) = ingest(&db, all.to_str().unwrap(), "stars", &[]).await.unwrap();
    assert!(summary.starts_with("stars: 3 added"), "{summary}");
    let rows = "SELECT camera, lens FROM images ORDER BY uri";
    let three = "camera,lens\n7.0,\n9.0,\n8.5,wide\n";
    assert_eq!(csv(&db, rows).await, three, "of an image that two tables name, the last counts");

    let (a, b) = (lists.join("a.csv"), lists.join("b.csv"));
    let (summary, _) = ingest(&db, a.to_str().unwrap(), "stars", &[b.to_str().unwrap()]).await.unwrap();
    assert!(
        summary.starts_with("stars: 0 added, 3 there already, 1 given twice in "),
        "one by one they are the same: {summary}"
    );
    write("b.csv", "camera,lens", &[("0002.png", "8.5,long"), ("0001.png", "9,")]);
    let (summary, _) = ingest(&db, all.to_str().unwrap(), "stars", &[]).await.unwrap();
    assert!(summary.contains(", 1 with other metadata"), "{summary}");
    assert_eq!(csv(&db, rows).await, three.replace("wide", "long"));
}

#[tokio::test]
async fn tables_as_people_write_them_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    four(folder.path());
    let list = folder.path().join("id/train/star/list.csv");
    let text = "\u{feff}URI;date;Größe (cm);;id;label;serial;share;flag;from\n\
                0000.png;2024-05-01;3;0;9;3;007;3;True;a\n\
                0001.png;2024-05-02;5;1;8;3.5;12345678901234567890;3.5;False;b\n\
                0001.png;2024-05-02;5;1;8;3.5;12345678901234567890;3.5;False;b\n";
    std::fs::write(&list, text).unwrap();
    let (summary, said) = ingest(&db, list.to_str().unwrap(), "stars", &[]).await.unwrap();
    assert!(summary.starts_with("stars: 2 added"), "{summary}");
    for (column, name) in [("Größe (cm)", "grosse_cm"), ("", "column_3"), ("id", "id_"), ("from", "from_")] {
        assert!(said.contains(&format!("column '{column}' of {} is taken as {name}: ", list.display())), "{said}");
    }
    assert!(!said.contains("'date'"), "a word of SQL that needs no quotes is no reason: {said}");
    let columns = "SELECT date, grosse_cm, column_3, id_, label, serial, share, flag, from_ FROM images ORDER BY uri";
    assert_eq!(
        csv(&db, columns).await,
        "date,grosse_cm,column_3,id_,label,serial,share,flag,from_\n\
         2024-05-01,3,0,9,3,007,3.0,true,a\n2024-05-02,5,1,8,3.5,12345678901234567890,3.5,false,b\n"
    );

    // JSON lines: numbers stay as they are written there
    let lines = folder.path().join("id/train/star/list.jsonl");
    let text = "\u{feff}{\"Uri\": \"0002.png\", \"label\": 3, \"code\": \"007\", \"long\": 12345678901234567890}\n\
                {\"Uri\": \"0003.png\", \"label\": 3.5, \"code\": \"8\", \"long\": 1}\n";
    std::fs::write(&lines, text).unwrap();
    ingest(&db, lines.to_str().unwrap(), "json", &[]).await.unwrap();
    let columns = "SELECT label, code, long FROM images WHERE dataset = 'json' ORDER BY uri";
    assert_eq!(csv(&db, columns).await, "label,code,long\n3,007,12345678901234567890\n3.5,8,1\n");
}

#[tokio::test]
async fn metadata_about_no_image_says_so_and_an_empty_table_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    four(folder.path());
    let (pictures, beside) = (folder.path().join("id/train/star"), folder.path().join("m.csv"));
    let more = ["--metadata", beside.to_str().unwrap()];
    std::fs::write(&beside, "uri,camera\nstar/0000.jpeg,1\nstar/0001.jpeg,2\n").unwrap();
    let (_, said) = ingest(&db, pictures.to_str().unwrap(), "stars", &more).await.unwrap();
    assert!(
        said.contains("0 of 2 rows of ") && said.contains("the first says uri 'star/0000.jpeg', and an image is '"),
        "{said}"
    );
    std::fs::write(&beside, "uri,lens\n").unwrap();
    let (_, said) = ingest(&db, pictures.to_str().unwrap(), "stars", &more).await.unwrap();
    assert!(!said.contains("0 of 0"), "{said}");
    assert_eq!(csv(&db, "SELECT count(*), count(lens) FROM images").await, "count(*),count(images.lens)\n4,0\n");
    std::fs::write(&beside, b"\xff\xfeu\0r\0i\0").unwrap();
    let error = ingest(&db, pictures.to_str().unwrap(), "stars", &more).await.unwrap_err();
    assert!(error.contains("it is a text in UTF-16: convert it to UTF-8"), "{error}");
    std::fs::write(&beside, "uri,lens\nM\u{fc}ller.png,1\n".chars().map(|c| c as u8).collect::<Vec<_>>()).unwrap();
    let error = ingest(&db, pictures.to_str().unwrap(), "stars", &more).await.unwrap_err();
    assert!(error.contains("UTF-8"), "{error}");
}
