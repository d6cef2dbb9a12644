//! What a small or a strange file may cost: the program runs under a limit of memory, and of time where it could wait.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Output};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::fixture::calibrated;

/// Bytes of its own that the program may have: it and libtorch take some 300 MiB of them.
const MEMORY: u64 = 700 << 20;
const MIB: usize = 1 << 20;

/// The program on two threads, within that memory and a minute.
fn outskirt(db: &Path, arguments: &[&str]) -> (bool, String) {
    let Output { status, stdout, stderr } = Command::new("timeout")
        .args(["60", "prlimit", &format!("--data={MEMORY}"), env!("CARGO_BIN_EXE_outskirt"), "--db"])
        .arg(db)
        .args(arguments)
        .env("RAYON_NUM_THREADS", "2")
        .env("MALLOC_ARENA_MAX", "2")
        .output()
        .unwrap();
    let said = [stdout, stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    assert!(matches!(status.code(), Some(0 | 2)), "{status:?}: {said}");
    (status.success(), said)
}

fn ingest(folder: &Path, name: &str) -> (bool, String) {
    let path = folder.join(name);
    outskirt(&folder.join("db"), &["ingest", path.to_str().unwrap(), "--dataset", name, "--backbone", "demo_shapes"])
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// So many MiB of zeros, in parts that are compressed once.
fn zeros(mib: usize) -> Vec<u8> {
    gzip(&vec![0; 16 * MIB]).repeat(mib / 16)
}

const PICTURE: &[u8] = b"P6 2 2 255\n............";

fn header(kind: u8, name: &str, size: u64) -> Vec<u8> {
    let mut header = if kind == b'L' { tar::Header::new_gnu() } else { tar::Header::new_ustar() };
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_path(name).unwrap();
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn member(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut member = [&header(b'0', name, bytes.len() as u64), bytes].concat();
    member.resize(member.len().next_multiple_of(512), 0);
    member
}

/// Two MiB of archive that stand for four GiB of a member's name, or of what PAX says of it.
#[test]
fn names_of_gigabytes_in_an_archive_are_refused_in_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    for (kind, name) in [(b'L', "long.tar.gz"), (b'K', "link.tar.gz"), (b'x', "pax.tar.gz")] {
        let head = [member("a.ppm", PICTURE), header(kind, "././@LongLink", 4 << 30)].concat();
        let rest = [member("b.ppm", PICTURE), vec![0; 1024]].concat();
        std::fs::write(folder.path().join(name), [gzip(&head), zeros(4096), gzip(&rest)].concat()).unwrap();
        let (_, said) = ingest(folder.path(), name);
        assert!(said.contains("the headers of a member are longer than 1 MiB"), "{name}: {said}");
        assert!(!said.contains("memory"), "{name}: {said}");
    }
    // what is long and fits is read
    let long = format!("{}/c.ppm", ["d"; 300].join("/"));
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(PICTURE.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, &long, PICTURE).unwrap();
    builder.append_pax_extensions([("comment", "x".repeat(500_000).as_bytes())]).unwrap();
    builder.append_data(&mut header, "e.ppm", PICTURE).unwrap();
    std::fs::write(folder.path().join("fits.tar.gz"), gzip(&builder.into_inner().unwrap())).unwrap();
    let (done, said) = ingest(folder.path(), "fits.tar.gz");
    assert!(done && said.contains("2 added"), "{said}");
}

/// 64 members of 480 MiB of zeros each in a zip of 30 MB, and 8 in an archive.
#[test]
fn members_of_zeros_are_told_by_their_first_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut one = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    one.start_file("0.png", zip::write::SimpleFileOptions::default().compression_level(Some(1))).unwrap();
    let block = vec![0; MIB];
    (0..480).for_each(|_| one.write_all(&block).unwrap());
    let mut one = one.finish_into_readable().unwrap();
    let mut many = zip::ZipWriter::new(std::fs::File::create(folder.path().join("many.zip")).unwrap());
    for number in 0..64 {
        many.raw_copy_file_rename(one.by_index_raw(0).unwrap(), format!("{number}.png")).unwrap();
    }
    many.start_file("a.ppm", zip::write::SimpleFileOptions::default()).unwrap();
    many.write_all(PICTURE).unwrap();
    many.finish().unwrap();
    let (done, said) = ingest(folder.path(), "many.zip");
    assert!(done && said.contains("1 added") && said.contains("64 refused"), "{said}");
    assert!(said.contains("its contents are none of PNG, JPEG"), "{said}");

    // the zeros are holes of the file
    let mut archive = std::fs::File::create(folder.path().join("many.tar")).unwrap();
    for number in 0..8 {
        archive.write_all(&header(b'0', &format!("{number}.png"), 480 << 20)).unwrap();
        archive.seek(SeekFrom::Current(480 << 20)).unwrap();
    }
    archive.write_all(&[member("a.ppm", PICTURE), vec![0; 1024]].concat()).unwrap();
    let (done, said) = ingest(folder.path(), "many.tar");
    assert!(done && said.contains("1 added") && said.contains("8 refused"), "{said}");

    // one that begins as a picture does, and is longer than any
    let large = std::fs::File::create(folder.path().join("large.png")).unwrap();
    large.set_len(2 << 30).unwrap();
    let (done, said) = ingest(folder.path(), "large.png");
    assert!(!done && said.contains("it is 2147483648 bytes long, and at most 536870912 are read"), "{said}");
}

/// 300 files of a hundred bytes, each of which says that it is 10,000 x 10,000 pixels.
#[test]
fn small_files_that_claim_large_pictures_cost_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = folder.path().join("claims");
    std::fs::create_dir(&pictures).unwrap();
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x27\x10\0\0\x27\x10\x10\x06\0\0\0".to_vec();
    let mut sum = flate2::Crc::new();
    sum.update(&png[12..]);
    png.extend(sum.sum().to_be_bytes());
    png.extend(b"\0\0\0\x08IDAT\x78\x01\x01\0\0\xff\xff\0");
    for number in 0..300 {
        std::fs::write(pictures.join(format!("{number}.png")), &png).unwrap();
    }
    std::fs::write(pictures.join("a.ppm"), PICTURE).unwrap();
    let (done, said) = ingest(folder.path(), "claims");
    assert!(done && said.contains("1 added") && said.contains("300 refused"), "{said}");
}

/// Nine MB of weights whose pickle makes a tensor of 64 sides out of every six bytes, a kilobyte of memory each.
#[test]
fn tensors_of_64_sides_are_counted_before_they_take_memory() {
    let folder = tempfile::tempdir().unwrap();
    let text = |text: &str| [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
    let sides = [b"(", &b"K\x01".repeat(64)[..], b"t"].concat();
    let first = [
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\0((",
        &text("storage")[..],
        b"ctorch\nFloatStorage\n",
        &text("0"),
        &text("cpu"),
        b"K\x01tQK\0",
        &sides,
        &sides,
        b"\x89ccollections\nOrderedDict\n)Rtq\x01R",
    ]
    .concat();
    let mut file = zip::ZipWriter::new(std::fs::File::create(folder.path().join("many.pth")).unwrap());
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    file.start_file("archive/data.pkl", stored).unwrap();
    file.write_all(&[&first[..], &b"0h\0h\x01R".repeat(1_500_000), b"."].concat()).unwrap();
    file.finish().unwrap();
    let weights = folder.path().join("many.pth").display().to_string();
    let (done, said) = outskirt(&folder.path().join("db"), &["backbone", "add", &weights, "--arch", "resnet18-cifar"]);
    assert!(!done && said.contains("asks for more copies than it has bytes"), "{said}");
}

/// Opening a pipe waits for whoever writes into it, and reading /dev/zero ends nowhere.
/// A text without line ends is no table, and reading it as one would fill the memory.
#[test]
fn a_table_with_a_line_of_gigabytes_is_refused_in_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    for (name, first) in [("long.csv", "uri,camera\n"), ("long.jsonl", "{\"uri\": \"a.png\"}\n")] {
        let path = folder.path().join(name);
        std::fs::write(&path, first).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_len(2 << 30).unwrap();
        let (done, said) = ingest(folder.path(), name);
        assert!(!done && said.contains("line 2 is longer than 64 MiB, the most that is read"), "{name}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[tokio::test]
async fn pipes_and_devices_are_refused_wherever_a_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    calibrated(&db, outskirt::index::IndexKind::Exact).await;
    let pipe = |name: &str| {
        let path = folder.path().join(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path.display().to_string()
    };
    std::fs::write(folder.path().join("a.ppm"), PICTURE).unwrap();
    let picture = folder.path().join("a.ppm").display().to_string();
    let refused = |arguments: &[&str]| {
        let (done, said) = outskirt(&db, arguments);
        assert!(!done && said.contains("it is a pipe, a socket or a device, and no file"), "{arguments:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    };
    let (table, manifest, weights) = (pipe("pipe.csv"), pipe("pipe.toml"), pipe("pipe.safetensors"));
    let image = pipe("pipe.png");
    refused(&["sql", &format!("SELECT * FROM '{table}'")]);
    refused(&["sql", &format!("SELECT * FROM 'file://{table}'")]);
    refused(&["sql", &format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{table}'")]);
    refused(&["sql", &format!("SELECT embed('{image}', 'demo_shapes')")]);
    refused(&["query", &pipe("pipe.sql")]);
    let ingest = ["ingest", &picture, "--dataset", "d", "--backbone"];
    refused(&[&ingest[..], &[&manifest]].concat());
    refused(&[&ingest[..], &["demo_shapes", "--weights", &weights]].concat());
    refused(&[&ingest[..], &["demo_shapes", "--metadata", &table]].concat());
    refused(&[&ingest[..], &["demo_shapes", "--metadata", "/dev/zero"]].concat());
    // within a table of Lance's, which would wait for it
    let lance = folder.path().join("their.lance");
    std::fs::create_dir_all(lance.join("_versions")).unwrap();
    std::fs::create_dir_all(lance.join("data")).unwrap();
    for name in ["their.lance/_versions/1.manifest", "their.lance/data/1.lance"] {
        pipe(name);
        refused(&["ingest", lance.to_str().unwrap(), "--dataset", "d", "--backbone", "demo_shapes"]);
        std::fs::remove_file(folder.path().join(name)).unwrap();
    }
    for lock in ["write.lock", "readers.lock"] {
        std::fs::remove_file(db.join(lock)).unwrap();
        assert!(Command::new("mkfifo").arg(db.join(lock)).status().unwrap().success());
        refused(&["sql", "DELETE FROM images WHERE id = 1"]);
        std::fs::remove_file(db.join(lock)).unwrap();
    }
    let (done, said) = outskirt(&db, &["sql", "DELETE FROM images WHERE id = 1"]);
    assert!(done, "{said}");
}
