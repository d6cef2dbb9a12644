//! Sources as their users meet them.

use std::io::Write;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::netpbm::pgm;
use super::*;
use crate::error::{Error, Result};

fn open_all(paths: &[PathBuf]) -> Result<ImageFiles> {
    open(paths, &Selection::default())
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn tar_of(names: &[&str]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for name in names {
        let mut header = tar::Header::new_ustar();
        header.set_size(name.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        let mut entry = header.clone();
        builder.append_data(&mut entry, name, name.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// (uri below `root`, label) of each image; panics on an error.
fn found(root: &Path, paths: &[PathBuf]) -> Vec<(String, Option<String>)> {
    let files = open(paths, &Selection::default()).unwrap();
    let total = files.total();
    let root = format!("{}/", root.to_str().unwrap());
    let found: Vec<_> = files
        .map(|item| item.unwrap())
        .map(|image| (image.uri.strip_prefix(&root).unwrap().to_string(), image.label))
        .collect();
    assert_eq!(total, found.len());
    found
}

fn pairs(expected: &[(&str, Option<&str>)]) -> Vec<(String, Option<String>)> {
    expected.iter().map(|(uri, label)| (uri.to_string(), label.map(String::from))).collect()
}

#[test]
fn a_folder_is_read_by_name_and_its_subfolders_are_labels() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("train");
    for name in
        ["b.png", "a/2.JPG", "a/10.png", "a.png", "c/d/deep.jpeg", "notes.txt", ".hidden/x.png", "__MACOSX/x.png"]
    {
        write(&root.join(name), name.as_bytes());
    }
    write(&root.join("c/._x.png"), b"");
    write(&root.join("inner.tar"), &tar_of(&["x.png"]));
    let expected = pairs(&[
        ("train/a/10.png", Some("a")),
        ("train/a/2.JPG", Some("a")),
        ("train/a.png", None),
        ("train/b.png", None),
        ("train/c/d/deep.jpeg", Some("d")),
    ]);
    assert_eq!(found(dir.path(), std::slice::from_ref(&root)), expected);

    let both = [root.join("c"), root.join("a.png")];
    let expected = pairs(&[("train/c/d/deep.jpeg", Some("d")), ("train/a.png", None)]);
    assert_eq!(found(dir.path(), &both), expected, "arguments keep their order");
}

#[cfg(unix)]
#[test]
fn links_are_followed_but_not_in_circles_and_a_dangling_one_is_one_bad_image() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    write(&root.join("cat/1.png"), b"1");
    write(&root.join("cat/3.png"), b"3");
    std::os::unix::fs::symlink(root, root.join("cat/circle")).unwrap();
    std::os::unix::fs::symlink(root.join("cat"), root.join("dog")).unwrap();
    std::os::unix::fs::symlink(root.join("nowhere"), root.join("cat/2.png")).unwrap();
    let items: Vec<_> = open_all(&[root.into()]).unwrap().collect();
    let labels: Vec<_> = items.iter().flatten().map(|image| image.label.as_deref().unwrap()).collect();
    assert_eq!(labels, ["cat", "cat", "dog", "dog"]);
    assert!(matches!(&items[1], Err(Error::BadImage { uri, .. }) if uri.ends_with("cat/2.png")));
    assert_eq!(items.len(), 6);
}

fn part_of(path: &Path, part: Option<&str>) -> Result<Vec<String>> {
    let selection = Selection { part: part.map(String::from), ..Selection::default() };
    let names = open(&[path.into()], &selection)?.map(|image| image.map(|image| image.uri));
    let root = format!("{}/", path.display());
    names.map(|uri| uri.map(|uri| uri.replace(&root, "").rsplit("!/").next().unwrap_or_default().to_owned())).collect()
}

/// Pictures of a test in a bank would be near everything that is tested.
#[test]
fn of_folders_and_archives_of_plain_pictures_a_part_is_taken_or_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let names = ["train/cat/1.png", "train/dog/2.png", "val2017/cat/3.png", "Test/cat/4.png"];
    let (folder, tar, zip) = (dir.join("pets"), dir.join("pets.tgz"), dir.join("pets.zip"));
    let mut packed = zip::ZipWriter::new(fs::File::create(&zip).unwrap());
    for name in names {
        write(&folder.join("data").join(name), b"x");
        packed.start_file(format!("data/{name}"), zip::write::SimpleFileOptions::default()).unwrap();
        packed.write_all(b"x").unwrap();
    }
    packed.finish().unwrap();
    write(&tar, &gzip(&tar_of(&names.map(|name| format!("data/{name}")).each_ref().map(String::as_str))));
    for path in [&folder, &tar, &zip] {
        let asked = part_of(path, None).unwrap_err().to_string();
        let parts =
            "holds test (1 images), train (2 images), validation (1 images): say which with --part, or --part all";
        assert!(asked.ends_with(parts), "{asked}");
        assert_eq!(part_of(path, Some("train")).unwrap(), ["data/train/cat/1.png", "data/train/dog/2.png"]);
        assert_eq!(part_of(path, Some("val")).unwrap(), ["data/val2017/cat/3.png"]);
        assert_eq!(part_of(path, Some("test")).unwrap(), ["data/Test/cat/4.png"]);
        assert_eq!(part_of(path, Some("all")).unwrap().len(), 4);
        let none = part_of(path, Some("extra")).unwrap_err().to_string();
        assert!(none.contains("there is no part 'extra'"), "{none}");
    }
    // an image is found again by its uri, whichever part it is of
    let uri = format!("{}!/data/Test/cat/4.png", zip.display());
    assert_eq!(
        Opened::default().some(&zip, &mut [(uri, None)].into()).unwrap().iter().map(|s| s.entries.len()).sum::<usize>(),
        1
    );

    // a class that is called so is a class
    let vehicles = dir.join("vehicles");
    for name in ["bus/1.png", "car/2.png", "train/3.png"] {
        write(&vehicles.join(name), b"x");
    }
    assert_eq!(part_of(&vehicles, None).unwrap().len(), 3);
    assert_eq!(part_of(&vehicles, Some("test")).unwrap().len(), 3);
}

/// `count` pictures of one pixel in idx format.
fn idx_pictures(count: u32) -> Vec<u8> {
    let header = [2051, count, 1, 1].map(u32::to_be_bytes).concat();
    [header, (0..count as u8).collect()].concat()
}

#[test]
fn idx_files_are_parts_by_their_words_once_and_labelled_by_rows_too() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    // torchvision leaves each file twice
    let raw = dir.join("MNIST/raw");
    for part in ["train", "t10k"] {
        let labels = [2049, 2].map(u32::to_be_bytes).concat();
        for (name, bytes) in
            [("images-idx3-ubyte", idx_pictures(2)), ("labels-idx1-ubyte", [labels, vec![7, 1]].concat())]
        {
            write(&raw.join(format!("{part}-{name}")), &bytes);
            write(&raw.join(format!("{part}-{name}.gz")), &gzip(&bytes));
        }
    }
    let train = Selection { part: Some("train".into()), ..Selection::default() };
    let files = open(std::slice::from_ref(&raw), &train).unwrap();
    assert!(files.notes().is_empty(), "{:?}", files.notes());
    let labels: Vec<_> = files.map(|image| image.unwrap().label.unwrap()).collect();
    assert_eq!(labels, ["7", "1"]);
    // names of other collections
    let emnist = dir.join("emnist");
    for part in ["train", "test"] {
        write(&emnist.join(format!("emnist-letters-{part}-images-idx3-ubyte")), &idx_pictures(3));
    }
    assert_eq!(part_of(&emnist, Some("test")).unwrap().len(), 3);
    let files = open(std::slice::from_ref(&emnist), &train).unwrap();
    assert!(
        files.notes()[0].ends_with("train-images-idx3-ubyte: no file of labels lies beside it, label is NULL"),
        "{:?}",
        files.notes()
    );
    assert!(files.notes().len() == 1, "of the part that is taken: {:?}", files.notes());
    // QMNIST's labels are rows of eight numbers
    let qmnist = dir.join("qmnist/qmnist-test-images-idx3-ubyte");
    write(&qmnist, &idx_pictures(2));
    let header = [3074u32, 2, 8].map(u32::to_be_bytes).concat();
    let rows = [[5u32, 9, 9, 9, 9, 9, 9, 9], [3, 9, 9, 9, 9, 9, 9, 9]].concat();
    let rows: Vec<u8> = rows.into_iter().flat_map(u32::to_be_bytes).collect();
    write(&qmnist.with_file_name("qmnist-test-labels-idx2-int.gz"), &gzip(&[header, rows].concat()));
    let labels: Vec<_> = open_all(&[qmnist]).unwrap().map(|image| image.unwrap().label.unwrap()).collect();
    assert_eq!(labels, ["5", "3"]);
}

#[test]
fn what_lies_beside_pictures_is_said_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("of_everything");
    for name in
        ["a/1.png", "a/2.webp", "a/3.JFIF", "a/4.heic", "notes.txt", "b/more.txt", "inner.zip", "README", ".hidden.txt"]
    {
        write(&root.join(name), b"x");
    }
    let files = open_all(std::slice::from_ref(&root)).unwrap();
    let said = "left alone beside the pictures: 2 .txt, 1 without an ending, 1 .heic (pictures that are not read: convert \
                them), 1 .zip (archives inside: give them by themselves)";
    assert_eq!(files.notes(), [said]);
    assert_eq!(files.count(), 3);
    let tar = dir.path().join("a.tar");
    write(&tar, &tar_of(&["x/1.gif", "x/labels.json", "x/.hidden.json"]));
    assert_eq!(open_all(&[tar]).unwrap().notes(), ["left alone beside the pictures: 1 .json"]);
    // and where there are no others
    fs::remove_dir_all(root.join("a")).unwrap();
    let none = open_all(&[root]).unwrap_err().to_string();
    assert!(none.contains("of_everything, where there are 2 .txt, 1 without an ending, 1 .zip"), "{none}");
}

/// Finding out where each of them really is takes time in proportion to its depth, and so all of them its square.
#[test]
fn folders_within_folders_are_read_to_a_depth_and_what_is_deeper_is_one_bad_image() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("top.png"), b"x");
    let mut deep = dir.path().to_path_buf();
    for level in 1..=1000 {
        deep.push("d");
        fs::create_dir(&deep).unwrap();
        if [1, 256, 257, 1000].contains(&level) {
            write(&deep.join("a.png"), b"x");
        }
    }
    let start = std::time::Instant::now();
    let items: Vec<_> = open_all(&[dir.path().into()]).unwrap().collect();
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
    let errors: Vec<_> = items.iter().filter_map(|item| item.as_ref().err().map(Error::to_string)).collect();
    assert_eq!(items.len() - errors.len(), 3, "top.png, and a.png of the folders 1 and 256");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("it lies 256 folders below the one that was given"), "{errors:?}");
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_listed_is_one_bad_image() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("a/1.png"), b"x");
    write(&dir.path().join("b/2.png"), b"x");
    write(&dir.path().join("c/3.png"), b"x");
    fs::set_permissions(dir.path().join("b"), fs::Permissions::from_mode(0o000)).unwrap();
    let may_all = fs::read_dir(dir.path().join("b")).is_ok();
    let items: Vec<_> = open_all(&[dir.path().into()]).unwrap().collect();
    fs::set_permissions(dir.path().join("b"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(items.len(), 3);
    match &items[1] {
        Ok(_) => assert!(may_all, "root may list all"),
        Err(error) => assert!(error.to_string().contains("cannot list it: "), "{error}"),
    }
}

#[test]
fn an_archive_with_one_top_folder_starts_below_it_and_others_at_their_top() {
    let dir = tempfile::tempdir().unwrap();
    for (entries, labels) in [
        (["places/2.jpg", "places/1.jpg"], [None, None]),
        (["./test/cat/1.png", "./test/dog/x/1.png"], [Some("cat"), Some("x")]),
        (["cat/1.png", "dog/1.png"], [Some("cat"), Some("dog")]),
        (["1.png", "dog/1.png"], [None, Some("dog")]),
    ] {
        for (file, bytes) in [("a.tar", tar_of(&entries)), ("a.TGZ", gzip(&tar_of(&entries)))] {
            let path = dir.path().join(file);
            write(&path, &bytes);
            let expected: Vec<_> = entries
                .iter()
                .zip(labels)
                .map(|(name, label)| (format!("{file}!/{}", name.trim_start_matches("./")), label.map(String::from)))
                .collect();
            assert_eq!(found(dir.path(), &[path]), expected);
        }
    }
}

#[test]
fn archives_give_the_contents_and_skip_what_is_no_image() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tar.gz");
    let names = ["t/README.txt", "t/a/1.png", "t/a/._1.png", "__MACOSX/t/1.png", "t/a/inner.tar", "t/b/2.jpeg"];
    write(&path, &gzip(&tar_of(&names)));
    let images: Vec<_> = open_all(&[path]).unwrap().map(|item| item.unwrap()).collect();
    let texts: Vec<_> = images.iter().map(|image| std::str::from_utf8(&image.bytes).unwrap()).collect();
    assert_eq!(texts, ["t/a/1.png", "t/b/2.jpeg"]);
}

#[test]
fn a_link_and_an_absurd_size_are_bad_images_and_a_cut_ends_the_archive() {
    let dir = tempfile::tempdir().unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "t/link.png", "1.png").unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(1);
    builder.append_data(&mut header, "t/1.png", &b"1"[..]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(MAX_FILE_BYTES + 1);
    header.set_path("t/huge.png").unwrap();
    header.set_cksum();
    let mut bytes = builder.into_inner().unwrap();
    bytes.truncate(bytes.len() - 1024);
    bytes.extend_from_slice(header.as_bytes());
    let path = dir.path().join("a.tar");
    write(&path, &gzip(&bytes));
    let items: Vec<_> = open_all(&[path]).unwrap().collect();
    assert_eq!(items.len(), 4, "{items:?}");
    assert!(matches!(&items[0], Err(Error::BadImage { reason, .. }) if reason.contains("link")));
    assert!(matches!(&items[1], Ok(image) if image.bytes == b"1"));
    assert!(matches!(&items[2], Err(Error::BadImage { reason, .. }) if reason.contains("536870913 bytes")));
    assert!(matches!(&items[3], Err(Error::BadArchive { .. })), "the promised gigabyte is not there");
}

#[test]
fn what_a_cut_archive_still_holds_is_read_and_then_the_cut_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let whole = tar_of(&["a/1.png", "a/2.png", "a/3.png"]);
    let path = dir.path().join("cut.tar");
    let next = dir.path().join("next.png");
    write(&next, b"n");
    // 512 bytes of header and 512 of contents each
    let zipped = gzip(&whole);
    for (bytes, readable) in [
        (&whole[..1024 + 512 + 3], 1),
        (&whole[..1024 + 100], 1),
        (&whole[..100], 0),
        (&zipped[..zipped.len() - 4], 3),
        (&b"this is no archive at all"[..], 0),
    ] {
        write(&path, bytes);
        let items: Vec<_> = open_all(&[path.clone(), next.clone()]).unwrap().collect();
        assert_eq!(items.iter().filter(|item| item.is_ok()).count(), readable);
        assert_eq!(items.len(), readable + 1, "{items:?}");
        assert!(matches!(items.last(), Some(Err(Error::BadArchive { path: named, .. })) if *named == path));
    }
}

#[test]
fn compressed_contents_are_checked_by_their_checksum() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = gzip(&tar_of(&["a/1.png"]));
    let crc = bytes.len() - 8;
    bytes[crc] ^= 1;
    let path = dir.path().join("a.tgz");
    write(&path, &bytes);
    assert!(matches!(open_all(&[path]).unwrap().last(), Some(Err(Error::BadArchive { .. }))));
}

#[test]
fn wrong_paths_are_refused_before_anything_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    assert!(matches!(open_all(std::slice::from_ref(&missing)), Err(Error::MissingPath { path }) if path == missing));
    let text = dir.path().join("notes.doc");
    write(&text, b"");
    assert!(matches!(open_all(&[text]), Err(Error::UnknownFile { .. })));
    assert!(matches!(open_all(&[dir.path().into()]), Err(Error::NoImages { .. })));
    fn is_send<T: Send>() {}
    is_send::<ImageFiles>();
}

/// (uri below `root`, label, decoded pixels) of each image.
fn decoded(root: &Path, paths: &[PathBuf], selection: &Selection) -> Vec<(String, String, Vec<u8>)> {
    let root = format!("{}/", root.to_str().unwrap());
    let image = |image: ImageFile| {
        let pixels = crate::image::decode(&image.uri, &image.bytes, Default::default()).unwrap();
        (image.uri.strip_prefix(&root).unwrap().to_string(), image.label.unwrap_or_default(), pixels.rgb)
    };
    open(paths, selection).unwrap().map(|item| image(item.unwrap())).collect()
}

fn part(name: &str) -> Selection {
    Selection { part: Some(name.into()), ..Selection::default() }
}

fn labels(found: &[(String, String, Vec<u8>)]) -> Vec<&str> {
    found.iter().map(|(_, label, _)| label.as_str()).collect()
}

/// A row of CIFAR: every red value is `value`, every green one 1 more, every blue one 2 more; but for the second pixel.
fn cifar_row(value: u8) -> Vec<u8> {
    let mut row: Vec<u8> = (0..3).flat_map(|channel| [value + channel; 1024]).collect();
    row[1] = 200;
    row
}

fn cifar_10_binary(folder: &Path) {
    let batch = |rows: &[u8]| -> Vec<u8> {
        rows.iter().flat_map(|&class| [vec![class], cifar_row(10 * class)].concat()).collect()
    };
    for (name, rows) in [("data_batch_1.bin", &[0u8, 1][..]), ("data_batch_2.bin", &[2]), ("test_batch.bin", &[1])] {
        write(&folder.join(name), &batch(rows));
    }
    write(&folder.join("batches.meta.txt"), b"airplane\nautomobile\nbird\n\n");
    write(&folder.join("readme.html"), b"");
}

#[test]
fn cifar_10_in_its_binary_version_as_folder_archive_and_batch() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let folder = root.join("cifar-10-batches-bin");
    cifar_10_binary(&folder);
    let found = decoded(root, std::slice::from_ref(&folder), &part("train"));
    assert_eq!(labels(&found), ["airplane", "automobile", "bird"]);
    assert_eq!(found[1].0, "cifar-10-batches-bin/data_batch_1.bin!/00000001");
    assert_eq!(found[1].2[..6], [10, 11, 12, 200, 11, 12], "rows, then pixels, then channels");
    assert_eq!(found[1].2.len(), 3072);

    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all("cifar-10-batches-bin", &folder).unwrap();
    let archive = root.join("cifar-10-binary.tar.gz");
    write(&archive, &gzip(&builder.into_inner().unwrap()));
    let zipped = decoded(root, std::slice::from_ref(&archive), &part("train"));
    let mut names: Vec<_> = zipped.iter().map(|(uri, ..)| uri.as_str()).collect();
    names.sort();
    assert_eq!(names[0], "cifar-10-binary.tar.gz!/cifar-10-batches-bin/data_batch_1.bin/00000000");
    let by_label = |found: &[(String, String, Vec<u8>)]| {
        let mut rows: Vec<_> = found.iter().map(|(_, label, pixels)| (label.clone(), pixels.clone())).collect();
        rows.sort();
        rows
    };
    assert_eq!(by_label(&found), by_label(&zipped));
    assert_eq!(labels(&decoded(root, std::slice::from_ref(&archive), &part("test"))), ["automobile"]);

    let batch = folder.join("data_batch_2.bin");
    assert_eq!(labels(&decoded(root, &[batch], &part("test"))), ["bird"], "a file by itself is what it is");
    let which = open(std::slice::from_ref(&archive), &Selection::default()).unwrap_err().to_string();
    assert!(
        which.ends_with("holds test (1 images), train (3 images): say which with --part, or --part all"),
        "{which}"
    );
    let none = open(&[folder], &part("val")).unwrap_err().to_string();
    assert!(none.contains("there is no part 'val'"), "{none}");

    let again: Vec<_> = Opened::default()
        .images(zipped.iter().rev().map(|(uri, ..)| root.join(uri).to_str().unwrap().to_string()))
        .map(|item| item.unwrap().uri)
        .collect();
    assert_eq!(again.len(), 3, "rows are found again by their uris");
}

#[test]
fn cifar_100_in_its_python_version_and_the_fine_labels_count() {
    use crate::formats::pickle::writer::Pickle;
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("cifar-100-python");
    // {'data': array, 'fine_labels': [1, 0], 'coarse_labels': [0, 0]} as Python 2 and NumPy pickle it
    let pixels = [cifar_row(30), cifar_row(150)].concat();
    let string = |pickle: Pickle, bytes: &[u8]| pickle.op(b"T").op(&(bytes.len() as u32).to_le_bytes()).op(bytes);
    let batch = |rows: i32| {
        let pickle = Pickle::new().op(b"}(U\x04data").global("numpy.core.multiarray", "_reconstruct");
        let pickle = pickle.global("numpy", "ndarray").op(b"K\0\x85U\x01b\x87R(K\x01").int(rows).int(3072).op(b"\x86");
        let pickle = pickle
            .global("numpy", "dtype")
            .op(b"U\x02u1K\0K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89");
        let pickle = string(pickle, &pixels).op(b"tb");
        pickle.op(b"U\x0bfine_labels](K\x01K\0eU\x0dcoarse_labels](K\0K\0eu").stop()
    };
    write(&folder.join("train"), &batch(2));
    write(&folder.join("test"), &batch(2));
    let meta = Pickle::new().op(b"}U\x10fine_label_names](U\x05appleU\x0daquarium_fishes").stop();
    write(&folder.join("meta"), &meta);
    let found = decoded(dir.path(), std::slice::from_ref(&folder), &part("train"));
    assert_eq!(labels(&found), ["aquarium_fish", "apple"]);
    assert_eq!(found[1].2[..6], [150, 151, 152, 200, 151, 152]);

    // Python 3 spells bytes as text in that protocol
    let text: String = pixels.iter().map(|&byte| char::from(byte)).collect();
    let spelled = Pickle::new().op(b"}(U\x04data").global("numpy._core.multiarray", "_reconstruct");
    let spelled = spelled.global("numpy", "ndarray").op(b"K\0\x85U\x01b\x87R(K\x01").int(2).int(3072).op(b"\x86N\x89");
    let spelled = spelled.global("_codecs", "encode").text(&text).text("latin1").op(b"\x86Rtb");
    write(&folder.join("train"), &spelled.op(b"U\x0bfine_labels](K\x01K\0eu").stop());
    assert_eq!(decoded(dir.path(), std::slice::from_ref(&folder), &part("train")), found);

    write(&folder.join("train"), &batch(3));
    let batch_file = folder.join("train");
    let error = open(std::slice::from_ref(&batch_file), &part("train")).unwrap_err().to_string();
    assert!(error.contains("[3, 3072] and 6144 bytes, for 2 labels"), "{error}");
    let acts = Pickle::new().global("os", "system").op(b"U\x02id\x85R").stop();
    write(&folder.join("train"), &acts);
    let error = open(&[batch_file], &part("train")).unwrap_err().to_string();
    assert!(error.contains("class os.system"), "{error}");
}

#[test]
fn mnist_pictures_have_the_labels_of_the_file_beside_them() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let header = |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>();
    let images = [header(&[2051, 2, 2, 3]), (1..=12).collect()].concat();
    let labels_file = [header(&[2049, 2]), vec![7, 2]].concat();
    write(&root.join("raw/t10k-images-idx3-ubyte.gz"), &gzip(&images));
    write(&root.join("raw/t10k-labels-idx1-ubyte"), &labels_file);
    let found = decoded(root, &[root.join("raw")], &Selection::default());
    assert_eq!(labels(&found), ["7", "2"]);
    assert_eq!(found[1].0, "raw/t10k-images-idx3-ubyte.gz!/00000001");
    assert_eq!(found[1].2, [7, 7, 7, 8, 8, 8, 9, 9, 9, 10, 10, 10, 11, 11, 11, 12, 12, 12]);
    let both = [root.join("raw/t10k-images-idx3-ubyte.gz"), root.join("raw/t10k-labels-idx1-ubyte")];
    assert_eq!(decoded(root, &both, &Selection::default()).len(), 2, "the shell's wildcards name the labels too");

    write(&root.join("raw/t10k-labels-idx1-ubyte"), &header(&[2049, 0]));
    let error = open(&both[..1], &Selection::default()).unwrap_err().to_string();
    assert!(error.contains("2 pictures, and the file beside it 0 labels"), "{error}");
    write(&root.join("raw/t10k-images-idx3-ubyte.gz"), &gzip(&images[..20]));
    fs::remove_file(root.join("raw/t10k-labels-idx1-ubyte")).unwrap();
    let last = open(&both[..1], &Selection::default()).unwrap().last().unwrap();
    assert!(matches!(last, Err(Error::BadArchive { .. })), "{last:?}");
}

/// A MATLAB 5 element, with the bytes that fill it up.
fn mat_element(kind: u32, bytes: &[u8]) -> Vec<u8> {
    let mut element = [kind.to_le_bytes(), (bytes.len() as u32).to_le_bytes()].concat();
    element.extend_from_slice(bytes);
    element.resize(element.len().next_multiple_of(8), 0);
    element
}

fn mat_matrix(name: &str, sides: &[u32], kind: u32, values: &[u8], compressed: bool) -> Vec<u8> {
    let sides: Vec<u8> = sides.iter().flat_map(|side| side.to_le_bytes()).collect();
    // a name of up to four letters shares its tag
    let mut small = [(1u32 | (name.len() as u32) << 16).to_le_bytes(), [0; 4]].concat();
    small[4..4 + name.len()].copy_from_slice(name.as_bytes());
    let inside = [mat_element(6, &[9, 0, 0, 0, 0, 0, 0, 0]), mat_element(5, &sides), small, mat_element(kind, values)];
    let matrix = mat_element(14, &inside.concat());
    if !compressed {
        return matrix;
    }
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&matrix).unwrap();
    let zipped = encoder.finish().unwrap();
    [&15u32.to_le_bytes()[..], &(zipped.len() as u32).to_le_bytes(), &zipped].concat()
}

#[test]
fn svhn_is_read_in_column_order_and_ten_is_the_digit_zero() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let header = [&[b' '; 124][..], &[0, 1], b"IM"].concat();
    // two rows, one column, three channels, three pictures
    let values: Vec<u8> = (1..=18).collect();
    let doubles: Vec<u8> = [10.0f64, 3.0, 10.0].iter().flat_map(|label| label.to_le_bytes()).collect();
    for (compressed, kind, digits) in [(true, 2, vec![10u8, 3, 10]), (false, 9, doubles)] {
        let x = mat_matrix("X", &[2, 1, 3, 3], 2, &values, compressed);
        let y = mat_matrix("y", &[3, 1], kind, &digits, compressed);
        write(&root.join("svhn/test_32x32.mat"), &[&header[..], &x, &y].concat());
        let found = decoded(root, &[root.join("svhn")], &Selection::default());
        assert_eq!(labels(&found), ["0", "3", "0"]);
        assert_eq!(found[1].2, [7, 9, 11, 8, 10, 12]);
        let few = Selection { per_class: Some(1), ..Selection::default() };
        assert_eq!(labels(&decoded(root, &[root.join("svhn")], &few)), ["0", "3"], "the reference's rule");
    }
    write(&root.join("a.mat"), b"MATLAB 7.3 MAT-file, and more of the header, which is of 128 bytes as in all of them, padded with blanks, and then some text.....");
    let error = open(&[root.join("a.mat")], &Selection::default()).unwrap_err().to_string();
    assert!(error.contains("-v7"), "{error}");
    write(&root.join("a.mat"), &[&header[..], &mat_matrix("meta", &[1, 1], 2, &[1], true)].concat());
    let error = open(&[root.join("a.mat")], &Selection::default()).unwrap_err().to_string();
    assert!(error.contains("does not hold X and y"), "{error}");
}

#[test]
fn zip_archives_are_read_as_tar_archives_are_and_a_broken_member_is_one_bad_image() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.zip");
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (method, names) in [
        (zip::CompressionMethod::Deflated, ["t/cat/1.png", "t/._cat.png"]),
        (zip::CompressionMethod::Stored, ["t/dog/2.jpg", "t/read.me"]),
    ] {
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        for name in names {
            writer.start_file(name, options).unwrap();
            writer.write_all(name.as_bytes()).unwrap();
        }
    }
    let bytes = writer.finish().unwrap().into_inner();
    write(&path, &bytes);
    let expected = pairs(&[("a.zip!/t/cat/1.png", Some("cat")), ("a.zip!/t/dog/2.jpg", Some("dog"))]);
    assert_eq!(found(dir.path(), std::slice::from_ref(&path)), expected);
    let contents: Vec<_> = open_all(std::slice::from_ref(&path)).unwrap().map(|image| image.unwrap().bytes).collect();
    assert_eq!(contents, [b"t/cat/1.png", b"t/dog/2.jpg"]);

    let at = bytes.windows(11).rposition(|window| window == b"t/dog/2.jpg").unwrap();
    let at = bytes[..at].windows(11).rposition(|window| window == b"t/dog/2.jpg").unwrap_or(at);
    let mut broken = bytes.clone();
    broken[at] ^= 1; // of the contents, which are stored as they are
    write(&path, &broken);
    let items: Vec<_> = open_all(std::slice::from_ref(&path)).unwrap().collect();
    assert!(items[0].is_ok() && matches!(&items[1], Err(Error::BadImage { .. })), "{items:?}");
    write(&path, &bytes[..40]);
    assert!(matches!(open_all(&[path]), Err(Error::BadArchive { .. })));
}

#[test]
fn lists_and_tables_name_files_relative_to_their_folder() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for name in ["x/1.png", "x/two words.png", "x/3.png"] {
        write(&root.join(name), name.as_bytes());
    }
    write(&root.join("x/a.tar"), &tar_of(&["t/4.png", "t/5.png"]));
    write(&root.join("x/list.txt"), b"# a comment\n1.png cat\n\ntwo words.png\na.tar!/t/5.png\tdog\n");
    let expected = pairs(&[("x/1.png", Some("cat")), ("x/two words.png", None), ("x/a.tar!/t/5.png", Some("dog"))]);
    assert_eq!(found(root, &[root.join("x/list.txt")]), expected);
    write(&root.join("x/list.csv"), b"camera,uri,label\n7,3.png,cat\n8,a.tar!/t/4.png,\n");
    let expected = pairs(&[("x/3.png", Some("cat")), ("x/a.tar!/t/4.png", None)]);
    assert_eq!(found(root, &[root.join("x/list.csv")]), expected);
    write(&root.join("x/list.jsonl"), b"{\"uri\": \"3.png\", \"label\": 4}\n{\"uri\": \"gone.png\"}\n");
    let items: Vec<_> = open_all(&[root.join("x/list.jsonl")]).unwrap().collect();
    assert!(matches!(&items[0], Ok(image) if image.label.as_deref() == Some("4")));
    assert!(matches!(&items[1], Err(Error::BadImage { uri, .. }) if uri.ends_with("x/gone.png")));
    write(&root.join("x/list.csv"), b"path\n1.png\n");
    let error = open_all(&[root.join("x/list.csv")]).unwrap_err().to_string();
    assert!(error.contains("no column 'uri', which says where each picture is: its columns are 'path'"), "{error}");
    let gone = Opened::default().images([format!("{}!/t/6.png", root.join("x/a.tar").display())]).last().unwrap();
    assert!(
        matches!(&gone, Err(Error::BadImage { uri, reason }) if uri.ends_with("t/6.png") && reason.contains("not in"))
    );
}

#[test]
fn parquet_files_hold_images_as_hugging_face_lays_them_out() {
    use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, StructArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::parquet::arrow::ArrowWriter;

    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let bytes: Vec<Option<Vec<u8>>> = (0..100).map(|row| (row != 3).then(|| pgm(1, 1, &[row]))).collect();
    let bytes: ArrayRef = Arc::new(BinaryArray::from_iter(bytes));
    let paths: ArrayRef = Arc::new(StringArray::from(vec![Some("a.png"); 100]));
    let image = StructArray::from(vec![
        (Arc::new(Field::new("bytes", DataType::Binary, true)), bytes),
        (Arc::new(Field::new("path", DataType::Utf8, true)), paths),
    ]);
    let classes = Int64Array::from_iter_values((0..100).map(|row| row % 2));
    let names = r#"{"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}"#;
    let fields = vec![
        Field::new("label", DataType::Int64, true),
        Field::new("image", arrow::array::Array::data_type(&image).clone(), true),
    ];
    let schema = Arc::new(Schema::new(fields).with_metadata([("huggingface".to_string(), names.to_string())].into()));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(classes), Arc::new(image)]).unwrap();
    for file in ["train-00000-of-00001.parquet", "test-00000-of-00001.parquet"] {
        let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), None).unwrap();
        writer.write(&batch).unwrap();
        write(&root.join("data").join(file), &writer.into_inner().unwrap());
    }
    let items: Vec<_> = open(&[root.join("data")], &part("test")).unwrap().collect();
    assert_eq!(items.len(), 100);
    assert!(matches!(&items[3], Err(Error::BadImage { reason, .. }) if reason.contains("no bytes")));
    let image = items[97].as_ref().unwrap();
    assert!(image.uri.ends_with("data/test-00000-of-00001.parquet!/00000097"), "{}", image.uri);
    assert_eq!((image.label.as_deref(), &image.bytes), (Some("dog"), &pgm(1, 1, &[97])));
    let sample = Selection { sample: Some(5), seed: 1, ..part("test") };
    let drawn: Vec<_> = open(&[root.join("data")], &sample).unwrap().map(|item| item.unwrap().uri).collect();
    let again: Vec<_> = open(&[root.join("data")], &sample).unwrap().map(|item| item.unwrap().uri).collect();
    assert_eq!((drawn.len(), &drawn), (5, &again));
    let other: Vec<_> =
        open(&[root.join("data")], &Selection { seed: 2, ..sample }).unwrap().map(|item| item.unwrap().uri).collect();
    assert_ne!(drawn, other);
}

/// Write a Lance table in a version of its format.
fn write_lance(path: &Path, version: &str, batch: arrow::array::RecordBatch) -> ::lance::Dataset {
    let (path, schema) = (path.to_str().unwrap().to_owned(), batch.schema());
    let batches = arrow::array::RecordBatchIterator::new([Ok(batch)], schema);
    let params =
        ::lance::dataset::WriteParams { data_storage_version: Some(version.parse().unwrap()), ..Default::default() };
    wait::wait(async move { ::lance::Dataset::write(batches, &path, Some(params)).await.unwrap() }).unwrap()
}

#[test]
fn lance_tables_hold_images_as_parquet_files_do() {
    use arrow::array::{ArrayRef, Int64Array, LargeBinaryArray, RecordBatch, StringArray, StructArray};
    use arrow::datatypes::{DataType, Field, Schema};

    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let bytes = || -> ArrayRef {
        let bytes = (0..200).map(|row| (row != 3).then(|| pgm(1, 1, &[row])));
        Arc::new(LargeBinaryArray::from_iter(bytes))
    };
    let labels: ArrayRef = Arc::new(Int64Array::from_iter_values((0..200).map(|row| row % 2)));
    let names = r#"{"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}"#;
    let of = |image: ArrayRef, kind: Field| {
        let fields = vec![Field::new("label", DataType::Int64, true), kind];
        let metadata = [("huggingface".to_string(), names.to_string())].into();
        RecordBatch::try_new(Arc::new(Schema::new(fields).with_metadata(metadata)), vec![Arc::clone(&labels), image])
            .unwrap()
    };
    // bytes, a struct with a path as Hugging Face has it, and bytes that Lance keeps beside its pages
    let paths: ArrayRef = Arc::new(StringArray::from(vec![Some("a.png"); 200]));
    let image = StructArray::from(vec![
        (Arc::new(Field::new("bytes", DataType::LargeBinary, true)), bytes()),
        (Arc::new(Field::new("path", DataType::Utf8, true)), paths),
    ]);
    let kind = Field::new("image", arrow::array::Array::data_type(&image).clone(), true);
    let blob = Field::new("jpg", DataType::LargeBinary, true)
        .with_metadata([("lance-encoding:blob".to_string(), "true".to_string())].into());
    write_lance(&root.join("db/test.lance"), "2.0", of(bytes(), Field::new("jpg", DataType::LargeBinary, true)));
    write_lance(&root.join("train.lance"), "2.1", of(Arc::new(image), kind));
    let mut blobs = write_lance(&root.join("blobs.lance"), "2.1", of(bytes(), blob));
    let mut blobs_again = ::lance::BlobArrayBuilder::new(200);
    for row in 0..200 {
        if row == 3 { blobs_again.push_null() } else { blobs_again.push_bytes(pgm(1, 1, &[row])) }.unwrap();
    }
    let again = of(blobs_again.finish().unwrap(), ::lance::blob_field("jpg", true));
    write_lance(&root.join("blobs_again.lance"), "2.2", again);
    for path in ["db/test.lance", "train.lance", "blobs.lance", "blobs_again.lance"] {
        let items: Vec<_> = open_all(&[root.join(path)]).unwrap().collect();
        assert_eq!(items.len(), 200);
        assert!(matches!(&items[3], Err(Error::BadImage { reason, .. }) if reason.contains("no bytes")), "{path}");
        let image = items[197].as_ref().unwrap();
        assert_eq!(image.uri, format!("{}/{path}!/00000197", root.display()));
        assert_eq!((image.label.as_deref(), &image.bytes), (Some("dog"), &pgm(1, 1, &[197])), "{path}");
        let again: Vec<_> = Opened::default().images([image.uri.clone()]).map(|item| item.unwrap()).collect();
        assert_eq!(&again[0], image);
        let sample = Selection { sample: Some(5), seed: 1, ..Selection::default() };
        assert_eq!(open(&[root.join(path)], &sample).unwrap().count(), 5);
    }
    // a folder of them, by its parts
    let parts = open(&[root.into()], &part("train")).unwrap();
    assert_eq!(parts.total(), 600, "what is called by no part is of all");
    // rows that were deleted are none
    wait::wait(async move { blobs.delete("label = 0").await.map(drop).unwrap() }).unwrap();
    let left: Vec<_> = open_all(&[root.join("blobs.lance")]).unwrap().filter_map(Result::ok).collect();
    assert_eq!((left.len(), left[98].label.as_deref(), &left[98].bytes), (99, Some("dog"), &pgm(1, 1, &[199])));

    let other = RecordBatch::try_from_iter([("label", Arc::clone(&labels))]).unwrap();
    write_lance(&root.join("other.lance"), "2.1", other);
    fs::create_dir(root.join("none.lance")).unwrap();
    for (path, why) in [
        ("other.lance", "it has no column of image bytes: its columns are label"),
        ("none.lance", "it is no Lance table"),
    ] {
        let error = open_all(&[root.join(path)]).unwrap_err().to_string();
        assert!(error.contains(why) && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn addresses_are_shown_without_what_gives_access() {
    for (given, shown_as) in [
        ("https://me:pw@host/a.png", "https://host/a.png"),
        ("s3://key:secret@bucket/a@b.png", "s3://bucket/a@b.png"),
        ("https://host/a.tar?X-Amz-Date=1&id=2&X-Amz-Signature=3!/b.png", "https://host/a.tar!/b.png"),
        ("https://host/a.tar?key=1#part!/b?c#d.png", "https://host/a.tar!/b?c#d.png"),
        ("https://host/a.tar!/b?c#d.png", "https://host/a.tar!/b?c#d.png"),
        ("https://host/a.png?sv=1&se=2&sdd=3&sig=4", "https://host/a.png"),
        ("https://host/a.png?key=1!/2", "https://host/a.png"),
        ("https://host/a.png?hdnea=exp=1~hmac=2&code=3", "https://host/a.png"),
        ("https://host/a.png?%73ig=1&q-signature=2&X-Oss-Signature=3", "https://host/a.png"),
        ("https://host/a.png?justasecret", "https://host/a.png"),
        ("https://host/a.png#access_token=1", "https://host/a.png"),
        ("https://host/a.png#x?id=1", "https://host/a.png"),
        ("https:////me:pw@host/a.png", "https:////host/a.png"),
        ("https://me:pw\\@host/a.png", "https://host/a.png"),
        ("https://host/a@b.png?download=true", "https://host/a@b.png"),
        ("/data/https://x?token=1", "/data/https://x?token=1"),
        ("s3://bucket/a?token=1", "s3://bucket/a?token=1"),
    ] {
        assert_eq!(shown(given), shown_as);
    }
}

/// The names are those that the server reads, in their own case; what stands in a fragment is no query.
#[test]
fn of_a_query_what_the_user_names_is_kept() {
    let kept = KeptQuery::parameters(["id", "page"]);
    for (given, uri) in [
        ("https://host/image?id=2&sig=3", "https://host/image?id=2"),
        ("https://host/image?sig=3&page=1&id=2", "https://host/image?page=1&id=2"),
        ("https://host/image?%69d=2&ID=3&my_id=4&id", "https://host/image?%69d=2&id"),
        ("https://host/image?sig=1#id=2", "https://host/image"),
        ("https://me:pw@host/a.zip?id=2&sig=3!/b?sig=4.png", "https://host/a.zip?id=2!/b?sig=4.png"),
        ("/data/image?id=2&sig=3", "/data/image?id=2&sig=3"),
    ] {
        assert_eq!(kept.uri(given), uri);
    }
}

#[test]
fn names_in_a_list_at_an_address_lie_beside_it() {
    for (list, name, address) in [
        ("https://host/d/list.csv?x=1", "cat/1 a.png", "https://host/d/cat/1%20a.png"),
        ("https://host/d/list.csv", "/etc/a.png", "https://host/etc/a.png"),
        ("https://host/d/list.csv", "../a#1?.png", "https://host/a%231%3F.png"),
        ("https://host/d/list.csv", "s3://bucket/a.png", "s3://bucket/a.png"),
        ("s3://bucket/d/list.csv", "./cat//1 a.png", "s3://bucket/d/cat/1 a.png"),
        ("s3://bucket/d/list.csv", "../../../a.png", "s3://bucket/a.png"),
        ("s3://bucket/list.csv", "/e/a.png", "s3://bucket/e/a.png"),
        ("/d/list.csv", "https://host/a.png", "https://host/a.png"),
    ] {
        assert_eq!(absolute(Path::new(list), name, &mut Folders::default()), address);
    }
}

#[test]
fn wildcards_stand_for_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["b.png", "a.png", "c.txt"] {
        write(&dir.path().join(name), b"");
    }
    assert_eq!(found(dir.path(), &[dir.path().join("*.png")]), pairs(&[("a.png", None), ("b.png", None)]));
    let error = open_all(&[dir.path().join("*.jpg")]).unwrap_err().to_string();
    assert!(error.ends_with("*.jpg: nothing there matches it"), "{error}");
}

/// A Parquet file with two images.
fn parquet_of_images() -> Vec<u8> {
    use arrow::array::{ArrayRef, BinaryArray, RecordBatch};
    let image: ArrayRef = Arc::new(BinaryArray::from_iter_values([pgm(1, 1, &[1]), pgm(1, 1, &[2])]));
    let batch = RecordBatch::try_from_iter([("image", image)]).unwrap();
    let mut writer = datafusion::parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn a_broken_container_in_a_folder_is_one_bad_image_and_by_itself_an_error() {
    use arrow::array::{ArrayRef, BinaryArray, RecordBatch};
    let dir = tempfile::tempdir().unwrap();
    let idx = [2051u32, 2, 2, 3].iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>();
    let idx = [idx, (1..=12).collect()].concat();
    let head = [&[b' '; 124][..], &[0, 1], b"IM"].concat();
    let x = mat_matrix("X", &[2, 1, 3, 3], 2, &(1..=18).collect::<Vec<u8>>(), false);
    let y = mat_matrix("y", &[3, 1], 2, &[10, 3, 10], false);
    let mat = [head, y, x].concat();
    let parquet = parquet_of_images();
    let mut page = parquet.clone();
    page[4..20].fill(0xff); // its footer is whole
    let batch = [vec![7], cifar_row(10)].concat();
    // (file, contents, how many of its images are read before it breaks)
    let broken: &[(&str, &[u8], usize)] = &[
        ("train-images-idx3-ubyte", &idx[..10], 0),
        ("t10k-images-idx3-ubyte", &idx[..24], 1),
        ("test-images-idx3-ubyte.gz", &gzip(&idx)[..20], 0),
        ("train_32x32.mat", &mat[..100], 0),
        ("test_32x32.mat", &mat[..mat.len() - 10], 2),
        ("garbage.parquet", b"this is no table", 0),
        ("cut.parquet", &parquet[..parquet.len() - 3], 0),
        ("empty.parquet", b"", 0),
        ("page.parquet", &page, 0),
        ("data_batch_1.bin", &batch[..100], 0),
        ("data_batch_2", b"no pickle", 0),
    ];
    for (name, contents, readable) in broken {
        let root = dir.path().join(name.replace('.', "_"));
        for name in ["a.png", "m/1.png", "zz.png"] {
            write(&root.join(name), name.as_bytes());
        }
        write(&root.join("batches.meta.txt"), b"airplane\n");
        write(&root.join("batches.meta"), b"no pickle");
        write(&root.join(name), contents);
        let files = open_all(std::slice::from_ref(&root)).unwrap();
        let total = files.total();
        let items: Vec<_> = files.collect();
        let read = items.iter().filter(|item| item.is_ok()).count();
        let bad: Vec<_> = items.iter().filter_map(|item| item.as_ref().err()).collect();
        assert!(
            matches!(&bad[..], [Error::BadImage { uri, reason }]
            if *uri == root.join(name).to_str().unwrap() && !reason.contains(uri.as_str())),
            "{name}: {items:?}"
        );
        assert_eq!(read, 3 + readable, "{name}: {items:?}");
        assert!(total >= items.len(), "{name}");
        let by_itself = open_all(&[root.join(name)]).and_then(|mut files| files.try_for_each(|file| file.map(drop)));
        assert!(matches!(&by_itself, Err(Error::BadArchive { path, .. }) if *path == root.join(name)), "{by_itself:?}");
    }

    // archives in folders are not looked into, and a folder x.lance is a table
    let root = dir.path().join("others");
    write(&root.join("a.png"), b"a");
    write(&root.join("a.tar"), b"no archive");
    write(&root.join("a.zip"), b"no archive");
    write(&root.join("no.lance/readme"), b"no table");
    let image: ArrayRef = Arc::new(BinaryArray::from_iter_values([pgm(1, 1, &[1])]));
    write_lance(&root.join("cut.lance"), "2.1", RecordBatch::try_from_iter([("image", image)]).unwrap());
    for file in fs::read_dir(root.join("cut.lance/data")).unwrap() {
        fs::write(file.unwrap().path(), b"cut").unwrap();
    }
    write(&root.join("labels/train-images-idx3-ubyte"), &idx);
    write(&root.join("labels/train-labels-idx1-ubyte"), b"no");
    let items: Vec<_> = open_all(std::slice::from_ref(&root)).unwrap().collect();
    let refused = |uri: &str| Err(root.join(uri).to_str().unwrap().to_string());
    let found: Vec<_> = items
        .into_iter()
        .map(|item| match item {
            Ok(image) => Ok(image.uri),
            Err(Error::BadImage { uri, reason }) => {
                let names_labels = reason.contains("train-labels-idx1-ubyte");
                assert_eq!(names_labels, uri.contains("labels"), "{reason}");
                Err(uri)
            }
            Err(other) => panic!("{other}"),
        })
        .collect();
    let first = Ok(root.join("a.png").to_str().unwrap().to_string());
    assert_eq!(found, [first, refused("cut.lance"), refused("labels/train-images-idx3-ubyte"), refused("no.lance")]);

    // one of a part that is not asked for is nobody's, and drawings leave it out
    let root = dir.path().join("parts");
    write(&root.join("train-1.parquet"), &parquet);
    write(&root.join("test-1.parquet"), b"");
    let train = Selection { sample: Some(1), ..part("train") };
    assert_eq!(open(std::slice::from_ref(&root), &train).unwrap().filter(Result::is_ok).count(), 1);
    assert_eq!(open(std::slice::from_ref(&root), &part("train")).unwrap().count(), 2);
    let which = open_all(std::slice::from_ref(&root)).unwrap_err().to_string();
    assert!(which.contains("holds test (0 images), train (2 images)"), "{which}");
    let items: Vec<_> = open(&[root], &part("test")).unwrap().collect();
    assert!(matches!(&items[..], [Err(Error::BadImage { .. })]), "{items:?}");
}

#[test]
fn tables_tell_their_further_columns_and_a_broken_one_in_a_folder_is_refused() {
    use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray};
    use datafusion::parquet::arrow::ArrowWriter;
    use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let image: ArrayRef = Arc::new(BinaryArray::from_iter_values([pgm(1, 1, &[1]), pgm(1, 1, &[2])]));
    let camera: ArrayRef = Arc::new(Int64Array::from(vec![7, 8]));
    let target: ArrayRef = Arc::new(StringArray::from(vec!["cat", "dog"]));
    let columns = [("target", target), ("image", Arc::clone(&image)), ("camera", camera), ("mask", image)];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    let mut bytes = writer.into_inner().unwrap();
    write(&root.join("d/a.parquet"), &bytes);
    write(&root.join("d/b.png"), b"b");
    write(&root.join("m.csv"), b"uri,lens\nd/b.png,wide\n");
    let mut files = open_all(&[root.join("d"), root.join("m.csv")]).unwrap();
    let told = files.table_columns().unwrap();
    let [TableColumns::Embedded { path, rows }, TableColumns::Listed { path: list, rows: named }] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((path, list), (&root.join("d/a.parquet"), &root.join("m.csv")));
    assert_eq!(*rows, batch.project(&[2]).unwrap());
    assert_eq!((named.num_rows(), named.num_columns()), (1, 2));
    assert!(files.table_columns().unwrap().is_empty(), "once");
    let uris: Vec<_> = files.map(|file| file.unwrap().uri).collect();
    assert_eq!(held_row(&uris[1]), Some((root.join("d/a.parquet").to_str().unwrap(), 1)));
    assert_eq!(held_row(&uris[2]), None);

    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes.clone())).unwrap();
    let (start, length) = builder.metadata().row_group(0).column(2).byte_range();
    bytes[start as usize..(start + length) as usize].fill(0xff);
    write(&root.join("d/a.parquet"), &bytes);
    let mut files = open_all(&[root.join("d")]).unwrap();
    assert_eq!((files.total(), files.table_columns().unwrap().len(), files.total()), (3, 0, 2));
    let items: Vec<_> = files.collect();
    assert!(
        matches!(&items[..], [Err(Error::BadImage { uri, .. }), Ok(_)] if uri.ends_with("d/a.parquet")),
        "{items:?}"
    );
    let by_itself = open_all(&[root.join("d/a.parquet")]).unwrap().table_columns();
    assert!(matches!(by_itself, Err(Error::BadArchive { .. })), "{by_itself:?}");
}

/// Files with flipped bytes, and cut ones, are read or refused: nothing panics, and no header makes room for what is not
/// there.
#[test]
fn damaged_files_are_read_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let header = |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>();
    let idx = [header(&[2051, 2, 2, 3]), (1..=12).collect()].concat();
    let mat = |compressed| {
        let head = [&[b' '; 124][..], &[0, 1], b"IM"].concat();
        let x = mat_matrix("X", &[2, 1, 3, 3], 2, &(1..=18).collect::<Vec<u8>>(), compressed);
        [head, x, mat_matrix("y", &[3, 1], 2, &[10, 3, 10], compressed)].concat()
    };
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("a/1.png", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(b"contents").unwrap();
    let zip = zip.finish().unwrap().into_inner();
    let (mut state, mut read, mut refused) = (1u64, 0, 0);
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for (name, whole) in [
        ("t10k-images-idx3-ubyte", idx.clone()),
        ("t10k-images-idx3-ubyte.gz", gzip(&idx)),
        ("a_32x32.mat", mat(false)),
        ("b_32x32.mat", mat(true)),
        ("c.zip", zip),
        ("d.tar", tar_of(&["a/1.png", "a/2.png"])),
        ("e.parquet", parquet_of_images()),
    ] {
        let path = root.join(name);
        for round in 0..400 {
            let mut bytes = whole.clone();
            for _ in 0..1 + random(3) {
                let at = random(bytes.len());
                bytes[at] = random(256) as u8;
            }
            if round % 4 == 0 {
                bytes.truncate(random(bytes.len()));
            }
            write(&path, &bytes);
            match open_all(std::slice::from_ref(&path)) {
                Ok(files) => {
                    assert!(files.total() <= 100_000, "{name} promises {} images", files.total());
                    let errors = files.filter(|file| file.is_err()).count();
                    if errors == 0 { read += 1 } else { refused += 1 }
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(read > 300 && refused > 300, "{read} {refused}");
}

/// A kilobyte of zeros, compressed, is a million rows, each of which would have a name and a place in memory.
#[test]
fn files_that_promise_more_rows_than_they_have_reason_to_are_refused() {
    use arrow::array::{ArrayRef, BinaryArray, RecordBatch};
    const ROWS: usize = 1_200_000;
    let dir = tempfile::tempdir().unwrap();
    let idx = dir.path().join("train-images-idx3-ubyte.gz");
    let header: Vec<u8> = [2051u32, ROWS as u32, 1, 1].iter().flat_map(|number| number.to_be_bytes()).collect();
    write(&idx, &gzip(&[header, vec![0; ROWS]].concat()));
    let table = dir.path().join("a.parquet");
    let image: ArrayRef = Arc::new(BinaryArray::from_iter_values((0..ROWS).map(|_| b"x")));
    let batch = RecordBatch::try_from_iter([("image", image)]).unwrap();
    let file = fs::File::create(&table).unwrap();
    let mut writer = datafusion::parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let mat = dir.path().join("train_32x32.mat");
    let head = [&[b' '; 124][..], &[0, 1], b"IM"].concat();
    let x = mat_matrix("X", &[1, 1, 3, 2], 2, &[1; 6], false);
    let y = mat_matrix("y", &[ROWS as u32, 1], 2, &vec![0; ROWS], true);
    write(&mat, &[head, x, y].concat());
    for path in [idx, table, mat] {
        let length = fs::metadata(&path).unwrap().len();
        let error = open_all(std::slice::from_ref(&path)).unwrap_err().to_string();
        assert!(error.contains(&format!("it promises 1200000 rows in {length} bytes")), "{error}");
    }
    // without compression they are there
    let idx = dir.path().join("t10k-images-idx3-ubyte");
    let header: Vec<u8> = [2051u32, ROWS as u32, 2, 4].iter().flat_map(|number| number.to_be_bytes()).collect();
    write(&idx, &[header, vec![0; 8 * ROWS]].concat());
    assert_eq!(open_all(&[idx]).unwrap().total(), ROWS);
}

/// Its last line would be half a path.
#[test]
fn a_list_that_is_too_long_is_refused_and_not_cut() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("list.txt");
    fs::File::create(&list).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
    let error = open_all(&[list]).unwrap_err().to_string();
    assert!(error.contains("it is 536870913 bytes long, and at most 536870912 are read"), "{error}");
}

/// Reading /dev/zero ends nowhere, and opening a pipe waits for whoever writes into it.
#[cfg(unix)]
#[test]
fn devices_and_pipes_are_no_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe.png");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let list = dir.path().join("list.txt");
    write(&list, format!("/dev/zero\n{}\n", pipe.display()).as_bytes());
    let refused: Vec<String> = open_all(&[list]).unwrap().map(|item| item.unwrap_err().to_string()).collect();
    assert_eq!(refused.len(), 2);
    assert!(refused.iter().all(|error| error.contains("a device, and no file")), "{refused:?}");
    for path in [pipe, "/dev/zero".into()] {
        let error = open_all(std::slice::from_ref(&path)).unwrap_err().to_string();
        assert!(error.contains("a device, and no file"), "{error}");
    }
}

/// All of a text table's rows decide on its types, and some of them at a time are in memory.
#[test]
fn text_tables_are_read_in_batches_whose_types_all_rows_agree_with() {
    let folder = tempfile::tempdir().unwrap();
    let numbers: Vec<String> = (1..5000).map(|row| row.to_string()).collect();
    let csv = |last: &str| {
        format!("n,code\n{}\n", numbers.iter().map(|n| format!("{n},{n}")).collect::<Vec<_>>().join("\n") + last)
    };
    let json =
        |last: &str| numbers.iter().map(|n| format!("{{\"n\": {n}, \"code\": {n}}}\n")).collect::<String>() + last;
    for (name, text) in [("t.csv", csv("\n5000,007")), ("t.jsonl", json("{\"n\": 5000, \"code\": \"007\"}\n"))] {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let rows = table_rows(&path, 100, "", |_| true).unwrap();
        assert_eq!(rows.rows, Some(5000));
        let kinds: Vec<String> = rows.schema.fields().iter().map(|field| field.data_type().to_string()).collect();
        assert_eq!((rows.schema.field(0).name().as_str(), kinds), ("n", vec!["Int64".into(), "Utf8".into()]), "{name}");
        let batches: Vec<_> = rows.collect::<Result<_>>().unwrap();
        assert_eq!(batches.iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>(), 5000);
        let largest = batches.iter().map(arrow::array::RecordBatch::get_array_memory_size).max();
        assert!(batches.len() == 50 && largest < Some(16 << 10), "{name}: {largest:?} bytes in a batch");
        let last = batches.last().unwrap().column(1);
        assert_eq!(arrow::array::AsArray::as_string::<i32>(last).iter().last().flatten(), Some("007"));
    }
}

#[test]
fn columns_without_a_value_and_lines_that_are_no_json_are_told_for_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        table_rows(&path, 100, "", |_| true).map(|rows| {
            let kinds: Vec<String> = rows.schema.fields().iter().map(|field| field.data_type().to_string()).collect();
            (
                kinds,
                rows.collect::<Result<Vec<_>>>()
                    .unwrap()
                    .iter()
                    .map(arrow::array::RecordBatch::num_rows)
                    .sum::<usize>(),
            )
        })
    };
    let empty = (vec!["Utf8".to_string(), "Null".into()], 2);
    assert_eq!(read("e.csv", "uri,label\na,\nb,\n").unwrap(), empty);
    assert_eq!(
        read("e.jsonl", "{\"uri\": \"a\", \"label\": null}\n{\"uri\": \"b\", \"label\": null}\n").unwrap(),
        empty
    );
    let lines = "{\"a\": 1}\n".repeat(40) + "{a: 1}\n" + &"{\"a\": 1}\n".repeat(40);
    let error = read("b.jsonl", &lines).unwrap_err().to_string();
    assert!(error.contains("line 41: ") && !error.contains("line 1 "), "{error}");
}
