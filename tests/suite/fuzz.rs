//! Files as they come from others, damaged at random: each is read or refused, and nothing panics, hangs or grows.
//!
//! Seeds are the files of `tests/corpus` and some that are made here; what once was a fault lies among them. `make test`
//! mutates each a few times with one seed of the random numbers, blindly. `make fuzz` goes on for OUTSKIRT_FUZZ_SECONDS per
//! target, with the program built so that it counts which edges an input reaches (`guided.rs`): what reaches a new one is
//! mutated further, and kept for the next time under OUTSKIRT_FUZZ_OUT, or the folder of temporary files; so is an input that
//! fails, and named. OUTSKIRT_FUZZ_TARGET chooses one, OUTSKIRT_FUZZ_BLIND=1 keeps nothing, to compare.
#![expect(clippy::print_stdout, reason = "what was run")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch};
use outskirt::image::{self, Selection};
use outskirt::index::IndexKind;
use outskirt::sql::queries::NamedQuery;

use super::fixture::calibrated;
use super::guided::Reached;

/// No input of some kilobytes takes longer.
const LONGEST: Duration = Duration::from_secs(20);

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Numbers at which sizes and counts go wrong.
const NUMBERS: [u64; 12] =
    [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, i64::MAX as u64, u64::MAX];

fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(9) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.next() as u8;
                }
            }
            2 => bytes.truncate(at),
            3 => {
                let end = (at + random.below(64)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                // a part of it again, somewhere else
                let end = (at + random.below(256)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, part);
            }
            5 => {
                let number = NUMBERS[random.below(NUMBERS.len())];
                let width = [1, 2, 4, 8][random.below(4)];
                let number = if random.below(2) == 0 {
                    number.to_le_bytes()
                } else {
                    number.rotate_left(64 - 8 * width as u32).to_be_bytes()
                };
                let end = (at + width).min(bytes.len());
                bytes[at..end].copy_from_slice(&number[..end - at]);
            }
            6 => {
                let from = random.below(other.len() + 1);
                let end = (from + random.below(512)).min(other.len());
                bytes.splice(at..at, other[from..end].iter().copied());
            }
            7 => {
                // digits of a text
                if let Some(digit) = bytes[at..].iter().position(u8::is_ascii_digit) {
                    bytes[at + digit] = b'0' + random.below(10) as u8;
                    if random.below(2) == 0 {
                        bytes.splice(at + digit..at + digit, *b"99999999");
                    }
                }
            }
            _ => {
                let end = (at + 1 + random.below(16)).min(bytes.len());
                bytes[at..end].fill([0, 0xff, b'{', b'\n', b'/'][random.below(5)]);
            }
        }
    }
}

/// What reads a file, and the files that it reads.
struct Target {
    name: &'static str,
    seeds: Vec<(String, Vec<u8>)>,
    read: Box<dyn Fn(&Path)>,
    /// What a mutated file becomes: checksums that are right again, so that what lies behind them is read.
    seal: fn(&str, Vec<u8>) -> Vec<u8>,
}

/// An archive whose headers have their checksums, packed where its name says so.
fn sealed_tar(name: &str, mut bytes: Vec<u8>) -> Vec<u8> {
    for header in bytes.chunks_exact_mut(512).filter(|header| &header[257..262] == b"ustar") {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    if name.ends_with(".gz") { gzipped(&bytes) } else { bytes }
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// A file of the exact index with the checksums of what it says, as far as that lies in the file (`src/exact/file.rs`).
fn sealed_index(_: &str, mut bytes: Vec<u8>) -> Vec<u8> {
    const HEADER: usize = 96;
    const CELL: usize = 24;
    if bytes.len() < HEADER {
        return bytes;
    }
    let numbers: Vec<usize> =
        bytes[16..HEADER].chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()) as usize).collect();
    let [rows, d, head, _, cells, coded, note, index, ..] = numbers[..] else { unreachable!() };
    // sizes of what is in the file are small numbers
    if [rows, d, head, cells, note, index].iter().all(|&number| number < 1 << 24) && index < bytes.len() {
        let row = 64 * d.div_ceil(16);
        let numbers = if head == 0 { d } else { head };
        let width = 64 * numbers.div_ceil(16);
        let entries = index + 4 * head * d + cells * row + (if head == 0 { 0 } else { cells * width }) + width;
        let checks = entries + cells * CELL + 4 * rows;
        let first = (HEADER + note).next_multiple_of(4096);
        let put = |bytes: &mut Vec<u8>, at: usize, from: usize, length: usize| {
            if at + 4 <= bytes.len() && from + length <= bytes.len() {
                let check = crc(&bytes[from..from + length]);
                bytes[at..at + 4].copy_from_slice(&check.to_le_bytes());
            }
        };
        for at in 0..rows.min(bytes.len() / 64) {
            put(&mut bytes, checks + 4 * at, first + at * row, row);
        }
        let mut codes = first + rows * row;
        for entry in (0..cells.min(bytes.len() / CELL)).map(|cell| entries + CELL * cell) {
            let Some(rows) = bytes.get(entry..entry + 4) else { break };
            let rows = u32::from_le_bytes(rows.try_into().unwrap()) as usize;
            let length = if coded == 0 { 0 } else { rows.div_ceil(16) * (64 * (numbers.div_ceil(4) + 3) + 8) };
            put(&mut bytes, entry + 20, codes, length);
            codes += length;
        }
        let check = u64::from(crc(&bytes[index..]));
        bytes[80..88].copy_from_slice(&check.to_le_bytes());
    }
    bytes[88..HEADER].fill(0);
    let end = HEADER + note.min(bytes.len() - HEADER);
    let check = u64::from(crc(&bytes[..end]));
    bytes[88..HEADER].copy_from_slice(&check.to_le_bytes());
    bytes
}

/// All images of a file, decoded; at most some, since a mutated table may name many.
fn read_images(path: &Path) {
    let Ok(mut files) = image::open(&[path.to_path_buf()], &Selection::default()) else { return };
    let _ = files.table_columns();
    for file in files.take(64).flatten() {
        let _ = image::decode(&file.uri, &file.bytes, image::Orientation::Exif);
    }
}

fn packed(write: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    write(&mut archive);
    archive.into_inner().unwrap()
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

async fn targets(folder: &Path) -> Vec<Target> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let seed = |path: &Path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap());
    let corpus =
        |names: &[&str]| names.iter().map(|name| seed(&root.join("tests/corpus").join(name))).collect::<Vec<_>>();
    let pictures =
        flate2::read::GzDecoder::new(std::fs::File::open(root.join("tests/goldens/pictures.tar.gz")).unwrap());
    tar::Archive::new(pictures).unpack(folder).unwrap();
    let picture = |name: &str| seed(&folder.join("pictures").join(name));
    let ppm = (String::from("a.ppm"), b"P6\n# c\n4 2\n255\nabcdefghijklmnopqrstuvwx".to_vec());
    let mut small = vec![ppm];
    small.extend(
        ["rgb.png", "palette.png", "grey-16-bit.png", "one-pixel.png", "grey.jpg", "progressive.jpg"].map(picture),
    );
    let plain = packed(|archive| {
        for (name, bytes) in &small {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            let name = format!("{}/{name}", "long folder ".repeat(if name == "a.ppm" { 12 } else { 1 }));
            archive.append_data(&mut header, name, bytes.as_slice()).unwrap();
        }
    });
    let zipped = {
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, bytes) in &small {
            archive.start_file(format!("a/{name}"), zip::write::SimpleFileOptions::default()).unwrap();
            std::io::Write::write_all(&mut archive, bytes).unwrap();
        }
        archive.finish().unwrap().into_inner()
    };
    let parquet = {
        let images: ArrayRef = Arc::new(BinaryArray::from_iter_values(small.iter().map(|(_, bytes)| bytes)));
        let labels: ArrayRef = Arc::new(Int64Array::from_iter_values(0..small.len() as i64));
        let batch = RecordBatch::try_from_iter([("image", images), ("label", labels)]).unwrap();
        let mut bytes = Vec::new();
        let mut writer = datafusion::parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        bytes
    };
    let db = folder.join("db");
    drop(calibrated(&db, IndexKind::Exact).await);
    let mut index = Vec::new();
    for entry in std::fs::read_dir(db.join("indexes")).unwrap() {
        index.push(seed(&entry.unwrap().path()));
    }
    index.retain(|(name, _)| !name.ends_with(".json"));
    assert!(!index.is_empty(), "a bank has an index file");
    for (name, bytes) in &index {
        assert!(sealed_index(name, bytes.clone()) == *bytes, "its checksums are where the test puts them");
    }
    let queries: Vec<_> = outskirt::sql::queries::shipped()
        .unwrap()
        .into_iter()
        .map(|query| (format!("{}.sql", query.name), query.text.into_bytes()))
        .collect();
    let text = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
    let named = |name: &'static str, seeds, read: fn(&Path)| Target {
        name,
        seeds,
        read: Box::new(read),
        seal: match name {
            "tar" => sealed_tar,
            "index" => sealed_index,
            _ => |_, bytes| bytes,
        },
    };
    vec![
        named("picture", small.clone(), read_images),
        named("tar", vec![("a.tar".into(), plain.clone()), ("b.tar.gz".into(), plain.clone())], read_images),
        named("zip", vec![("a.zip".into(), zipped)], read_images),
        named("parquet", vec![("a.parquet".into(), parquet)], read_images),
        named("cifar", corpus(&["data_batch_1", "data_batch_1.bin"]), read_images),
        named("idx", corpus(&["t-images-idx3-ubyte"]), read_images),
        named("mat", corpus(&["train_32x32.mat"]), read_images),
        named(
            "list",
            vec![
                text("a.txt", "pictures/rgb.png one\n# none\npictures/grey.png\ttwo\n"),
                text(
                    "a.csv",
                    "uri,label,n,at\npictures/rgb.png,a,1,2026-01-01\n\"pictures/grey.png\",\"b \"\"c\"\"\",2.5,\n",
                ),
                text(
                    "a.jsonl",
                    "{\"uri\": \"pictures/rgb.png\", \"n\": 1}\n{\"uri\": \"pictures/grey.png\", \"n\": [1, {\"a\": null}]}\n",
                ),
            ],
            read_images,
        ),
        named("weights", corpus(&["weights.pth", "weights.safetensors", "data_batch_1"]), |path| {
            let _ = outskirt::backbone::read_state_dict(path);
        }),
        named(
            "manifest",
            vec![
                seed(&root.join("checkpoints/demo_shapes.toml")),
                seed(&root.join("checkpoints/resnet20_cifar10.toml")),
            ],
            |path| drop(outskirt::backbone::Checkpoint::read(path)),
        ),
        named("query", queries, |path| drop(NamedQuery::find(path.to_str().unwrap()))),
        named("index", index, |path| {
            let Ok(stored) = outskirt_exact::Stored::open(path) else { return };
            let Ok((exact, _)) = stored.load(outskirt_exact::Path::detect(), 0) else { return };
            drop(exact);
        }),
    ]
}

/// Files that are mutated further, the seeds first, each with how many times it was.
struct Corpus {
    files: Vec<(String, Vec<u8>, usize)>,
    /// How many of them are seeds.
    whole: usize,
    /// Where those that reached something new are kept.
    folder: PathBuf,
}

impl Corpus {
    fn new(target: &Target, folder: PathBuf, is_kept: bool) -> Self {
        let mut files: Vec<_> = target.seeds.iter().map(|(name, bytes)| (name.clone(), bytes.clone(), 0)).collect();
        let whole = files.len();
        let kept = std::fs::read_dir(&folder).into_iter().flatten().filter(|_| is_kept);
        for path in kept.map(|entry| entry.unwrap().path()) {
            // its number, and the name that says what it is
            let name = path.file_name().unwrap().to_str().unwrap().split_once('-').unwrap().1.to_owned();
            files.push((name, std::fs::read(&path).unwrap(), 0));
        }
        Self { files, whole, folder }
    }

    /// One that is whole, half of the time: what is kept is mostly damaged, and refused early. Of two, the one that was taken less
    /// often.
    fn choose(&mut self, random: &mut Random) -> (String, Vec<u8>) {
        let end = if random.below(2) == 0 { self.whole } else { self.files.len() };
        let (one, other) = (random.below(end), random.below(end));
        let chosen = if self.files[one].2 <= self.files[other].2 { one } else { other };
        self.files[chosen].2 += 1;
        let (name, bytes, _) = &self.files[chosen];
        (name.clone(), bytes.clone())
    }

    fn keep(&mut self, name: &str, bytes: Vec<u8>) {
        std::fs::create_dir_all(&self.folder).unwrap();
        std::fs::write(self.folder.join(format!("{:08x}-{name}", crc(&bytes))), &bytes).unwrap();
        self.files.push((name.to_owned(), bytes, 0));
    }
}

/// Larger inputs teach nothing that smaller ones do not.
const LARGEST: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_files_are_read_or_refused() {
    let setting = |name: &str| std::env::var(name).ok();
    let seconds: Option<u64> = setting("OUTSKIRT_FUZZ_SECONDS").and_then(|text| text.parse().ok());
    let start = setting("OUTSKIRT_FUZZ_SEED").and_then(|text| text.parse().ok()).unwrap_or(20_221_128);
    let only = setting("OUTSKIRT_FUZZ_TARGET");
    let is_kept = seconds.is_some() && setting("OUTSKIRT_FUZZ_BLIND").is_none();
    let folder = tempfile::tempdir().unwrap();
    let findings =
        setting("OUTSKIRT_FUZZ_OUT").map_or_else(|| std::env::temp_dir().join("outskirt-fuzz"), PathBuf::from);
    let targets = targets(folder.path()).await;
    let mut failures = Vec::new();
    if seconds.is_some() {
        // alone in the process: each is told of with its input
        std::panic::set_hook(Box::new(|_| {}));
    }
    for target in targets.iter().filter(|target| only.as_ref().is_none_or(|only| only == target.name)) {
        let mut random = Random(start);
        let mut reached = Reached::nothing();
        let mut corpus = Corpus::new(target, findings.join("corpus").join(target.name), is_kept);
        let (began, mut runs, known, mut of_seeds) = (Instant::now(), 0usize, corpus.files.len(), 0);
        loop {
            let (name, mut bytes) = if runs < known {
                (corpus.files[runs].0.clone(), corpus.files[runs].1.clone())
            } else {
                corpus.choose(&mut random)
            };
            if runs >= known {
                let other = random.below(corpus.files.len());
                mutate(&mut bytes, &corpus.files[other].1, &mut random);
            }
            // now and then as it is: what checks is read too
            let sealed =
                if runs < known || random.below(8) > 0 { (target.seal)(&name, bytes.clone()) } else { bytes.clone() };
            let path = folder.path().join(&name);
            std::fs::write(&path, &sealed).unwrap();
            let at = Instant::now();
            reached.clear();
            let read = catch_unwind(AssertUnwindSafe(|| tokio::task::block_in_place(|| (target.read)(&path))));
            let took = at.elapsed();
            if reached.is_new() && runs >= known && is_kept && bytes.len() <= LARGEST {
                corpus.keep(&name, bytes);
            }
            if read.is_err() || took > LONGEST {
                std::fs::create_dir_all(&findings).unwrap();
                let kept = findings.join(format!("{}-{start}-{runs}-{name}", target.name));
                std::fs::write(&kept, &sealed).unwrap();
                let what = read.err().map_or_else(
                    || format!("took {took:?}"),
                    |panic| {
                        let text = panic.downcast_ref::<String>().map(String::as_str);
                        text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
                    },
                );
                failures.push(format!("{}: {what}", kept.display()));
                if failures.len() >= 20 {
                    break;
                }
            }
            runs += 1;
            if runs == known {
                of_seeds = reached.edges();
            }
            let enough = match seconds {
                Some(seconds) => began.elapsed() >= Duration::from_secs(seconds),
                None => runs >= 60,
            };
            if enough {
                break;
            }
        }
        print!("{}: {runs} inputs in {:.1} s", target.name, began.elapsed().as_secs_f64());
        if reached.is_guided() {
            let (edges, files) = (reached.edges(), corpus.files.len());
            print!(", {edges} edges ({of_seeds} by the {known} that were there), {} files kept", files - known);
        }
        println!();
    }
    assert!(failures.is_empty(), "{} findings:\n{}", failures.len(), failures.join("\n"));
}
