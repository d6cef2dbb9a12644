//! Archives as people's machines pack them.

use std::io::Write;
use std::path::Path;

use outskirt::image::{ImageFile, ImageFiles, Opened, Selection, open};

use super::server::Server;

/// A grey picture of one pixel.
fn pixel(value: u8) -> Vec<u8> {
    [b"P5 1 1 255\n".as_slice(), &[value]].concat()
}

fn zip_of(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in members {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A zip archive whose members have these bytes as names, without the mark of UTF-8.
fn zip_of_bytes(names: &[&[u8]]) -> Vec<u8> {
    let stand_in = |at: usize, name: &[u8]| format!("{at:0>width$}", width = name.len());
    let stand_ins: Vec<String> = names.iter().enumerate().map(|(at, name)| stand_in(at + 100, name)).collect();
    let members: Vec<_> = stand_ins.iter().zip(0..).map(|(name, value)| (name.as_str(), pixel(value))).collect();
    let mut archive = zip_of(&members);
    for (stand_in, name) in stand_ins.iter().zip(names) {
        for at in 0..archive.len() - name.len() {
            if archive[at..].starts_with(stand_in.as_bytes()) {
                archive[at..at + name.len()].copy_from_slice(name);
            }
        }
    }
    archive
}

fn files(path: &Path) -> ImageFiles {
    open(&[path.into()], &Selection::default()).unwrap()
}

/// The images of an archive that lies there, each found again by its uri; and what is said of it.
fn read(folder: &Path, name: &str, archive: &[u8]) -> (Vec<ImageFile>, Vec<String>) {
    let path = folder.canonicalize().unwrap().join(name);
    std::fs::write(&path, archive).unwrap();
    let notes = files(&path).notes().to_vec();
    let images: Vec<ImageFile> = files(&path).map(|image| image.unwrap()).collect();
    let opened = Opened::default();
    for image in &images {
        let again: Vec<_> = opened.images([image.uri.clone()]).map(|image| image.unwrap()).collect();
        assert_eq!((again.len(), &again[0].bytes), (1, &image.bytes), "{}", image.uri);
    }
    (images, notes)
}

/// What stands behind the archive in the uris, and the labels.
fn names(images: &[ImageFile]) -> Vec<(&str, &str)> {
    let name = |image: &'_ ImageFile| image.uri.split_once("!/").unwrap().1.len();
    images
        .iter()
        .map(|image| (&image.uri[image.uri.len() - name(image)..], image.label.as_deref().unwrap_or("")))
        .collect()
}

#[test]
fn names_of_japanese_machines_are_read() {
    let folder = tempfile::tempdir().unwrap();
    // the second byte of ソ and 表 is a backslash
    let japanese = ["猫/写真ソ1.pgm", "猫/写真表2.pgm", "犬/写真3.pgm", "犬/ポチ.pgm"];
    let raw: Vec<Vec<u8>> = japanese.iter().map(|name| encoding_rs::SHIFT_JIS.encode(name).0.to_vec()).collect();
    let archive = zip_of_bytes(&raw.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let (images, notes) = read(folder.path(), "a.zip", &archive);
    let labels = ["猫", "猫", "犬", "犬"];
    assert_eq!(names(&images), japanese.into_iter().zip(labels).collect::<Vec<_>>());
    assert_eq!(notes.len(), 1);
    assert!(notes[0].ends_with("a.zip: 4 names of members are not UTF-8: read as Shift_JIS"), "{notes:?}");
}

#[test]
fn names_of_western_machines_are_code_page_437() {
    let folder = tempfile::tempdir().unwrap();
    let raw: [&[u8]; 3] = [b"M\x81ller/Stra\xe1e 1.pgm", b"K\x94ln/\x8epfel.pgm", b"plain/1.pgm"];
    let (images, notes) = read(folder.path(), "a.zip", &zip_of_bytes(&raw));
    assert_eq!(
        names(&images),
        [("Müller/Straße 1.pgm", "Müller"), ("Köln/Äpfel.pgm", "Köln"), ("plain/1.pgm", "plain")]
    );
    assert!(notes[0].ends_with("2 names of members are not UTF-8: read as code page 437"), "{notes:?}");
    // no two of them become one
    let raw: [&[u8]; 2] = [b"\xff\xfe.pgm", b"\xfe\xff.pgm"];
    assert_eq!(read(folder.path(), "b.zip", &zip_of_bytes(&raw)).0.len(), 2);
}

#[test]
fn folders_are_told_by_backslashes_and_double_slashes() {
    let folder = tempfile::tempdir().unwrap();
    let raw: [&[u8]; 4] = [b"cat\\1.pgm", b"cat\\.hidden.pgm", b"d//e.pgm", b"./d/a\\b.pgm"];
    let (images, notes) = read(folder.path(), "a.zip", &zip_of_bytes(&raw));
    assert_eq!(names(&images), [("cat/1.pgm", "cat"), ("d/e.pgm", "d"), ("d/a\\b.pgm", "d")]);
    assert_eq!(notes, [] as [String; 0]);
}

/// Pictures and labels of MNIST's kind.
fn idx(count: u8) -> (Vec<u8>, Vec<u8>) {
    let head = |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>();
    let pictures = [head(&[2051, u32::from(count), 2, 2]), (0..4 * count).collect()].concat();
    (pictures, [head(&[2049, u32::from(count)]), (0..count).collect()].concat())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A table of pictures as Hugging Face lays it out.
fn parquet(values: &[u8]) -> Vec<u8> {
    use arrow::array::{ArrayRef, BinaryArray, RecordBatch, StringArray};
    let bytes: ArrayRef = std::sync::Arc::new(BinaryArray::from_iter_values(values.iter().map(|value| pixel(*value))));
    let labels: ArrayRef = std::sync::Arc::new(StringArray::from_iter_values(values.iter().map(u8::to_string)));
    let rows = RecordBatch::try_from_iter([("image", bytes), ("label", labels)]).unwrap();
    let mut file = Vec::new();
    let mut writer = datafusion::parquet::arrow::ArrowWriter::try_new(&mut file, rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    file
}

/// The files of three data sets and pictures beside them.
fn data_sets() -> Vec<(&'static str, Vec<u8>)> {
    let (train, train_labels) = idx(3);
    let (test, test_labels) = idx(2);
    let batch = |label: u8| [vec![label], vec![label; 3072], vec![1 - label], vec![9; 3072]].concat();
    vec![
        ("MNIST/raw/train-images-idx3-ubyte", train.clone()),
        ("MNIST/raw/train-images-idx3-ubyte.gz", gzip(&train)),
        ("MNIST/raw/train-labels-idx1-ubyte", train_labels),
        ("MNIST/raw/t10k-images-idx3-ubyte.gz", gzip(&test)),
        ("MNIST/raw/t10k-labels-idx1-ubyte.gz", gzip(&test_labels)),
        ("cifar/batches.meta.txt", b"plane\ncar\n".to_vec()),
        ("cifar/data_batch_1.bin", batch(0)),
        ("cifar/test_batch.bin", batch(1)),
        ("hf/train-00000-of-00001.parquet", parquet(&[7, 8])),
        ("notes.pdf", b"x".to_vec()),
    ]
}

#[test]
fn data_sets_in_a_zip_are_read_as_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let unpacked = folder.path().join("unpacked");
    for (name, bytes) in data_sets() {
        let path = unpacked.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    std::fs::write(folder.path().join("a.zip"), zip_of(&data_sets())).unwrap();
    for part in ["train", "test"] {
        let selection = Selection { part: Some(part.into()), ..Selection::default() };
        let all = |path: &Path| -> Vec<(Option<String>, Vec<u8>)> {
            let files = open(&[path.into()], &selection).unwrap();
            assert_eq!(files.notes(), ["left alone beside the pictures: 1 .pdf"]);
            files.map(|image| image.unwrap()).map(|image| (image.label, image.bytes)).collect()
        };
        let (packed, plain) = (all(&folder.path().join("a.zip")), all(&unpacked));
        assert_eq!(packed.len(), if part == "train" { 7 } else { 4 });
        assert_eq!(packed, plain, "{part}");
    }
    let (images, _) = {
        let only: Vec<_> = data_sets().into_iter().filter(|(name, _)| name.contains("t10k")).collect();
        read(folder.path(), "one.zip", &zip_of(&only))
    };
    assert_eq!(
        names(&images),
        [
            ("MNIST/raw/t10k-images-idx3-ubyte.gz!/00000000", "0"),
            ("MNIST/raw/t10k-images-idx3-ubyte.gz!/00000001", "1")
        ]
    );
}

#[test]
fn a_broken_data_set_in_a_zip_is_one_image_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let (pictures, _) = idx(3);
    let members = [("a/x-images-idx3-ubyte", pictures[..10].to_vec()), ("a/1.pgm", pixel(1)), ("b/2.pgm", pixel(2))];
    let path = folder.path().join("a.zip");
    std::fs::write(&path, zip_of(&members)).unwrap();
    let (good, bad): (Vec<_>, Vec<_>) = files(&path).partition(|image| image.is_ok());
    assert_eq!((good.len(), bad.len()), (2, 1));
    let said = bad[0].as_ref().unwrap_err().to_string();
    assert!(said.contains("a.zip!/a/x-images-idx3-ubyte"), "{said}");
}

#[test]
fn data_sets_in_a_zip_are_read_at_an_address_and_named_without_its_signature() {
    let server = Server::of([("/d/a.zip".to_string(), zip_of(&data_sets()))]);
    let selection = Selection { part: Some("train".into()), ..Selection::default() };
    let address = server.address("/d/a.zip?X-Signature=secret");
    let files = open(&[address.into()], &selection).unwrap();
    let images: Vec<ImageFile> = files.map(|image| image.unwrap()).collect();
    assert_eq!(images.len(), 7);
    assert!(images.iter().all(|image| !image.uri.contains("secret")), "{}", images[0].uri);
    assert_eq!(images[0].uri, server.address("/d/a.zip!/MNIST/raw/train-images-idx3-ubyte!/00000000"));
}

/// Packed with `tar --sparse --format=pax`, which calls the member `./GNUSparseFile.1/x.png`.
#[test]
fn sparse_members_are_refused_by_their_own_names() {
    let folder = tempfile::tempdir().unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    let records =
        [("GNU.sparse.major", b"1".as_slice()), ("GNU.sparse.minor", b"0"), ("GNU.sparse.name", b"cat/x.pgm")];
    builder.append_pax_extensions(records).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(3);
    header.set_mode(0o644);
    builder.append_data(&mut header, "GNUSparseFile.1/x.pgm", b"0\n\n".as_slice()).unwrap();
    let path = folder.path().join("a.tar");
    std::fs::write(&path, builder.into_inner().unwrap()).unwrap();
    let said = files(&path).next().unwrap().unwrap_err().to_string();
    assert!(said.contains("a.tar!/cat/x.pgm") && said.contains("pack without --sparse"), "{said}");
}

#[test]
fn wildcards_skip_hidden_files_as_folders_do() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["1.pgm", "._1.pgm", ".2.pgm", "__MACOSX/3.pgm", "sub/4.pgm"] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, pixel(0)).unwrap();
    }
    let count = |pattern: &str| {
        let pattern = folder.path().join(pattern);
        open(&[pattern], &Selection::default()).unwrap().total()
    };
    assert_eq!((count("*.pgm"), count("*"), count(".2*")), (1, 2, 1));
}
