//! Files that the tests make themselves.

use std::io::Write;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;
use crate::formats::pickle::writer::Pickle;

fn read(bytes: &[u8]) -> Parsed<StateDict> {
    parse(bytes, None).map(|found| found.tensors)
}

fn le(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        writer.start_file(format!("archive/{name}"), options).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn legacy_of(object: &[u8], storages: &[(&str, usize, &[u8])]) -> Vec<u8> {
    let mut file = Pickle::new().op(&[0x8a, 10]).op(&LEGACY_MAGIC).stop();
    file.extend(Pickle::new().int(1001).stop());
    file.extend(Pickle::new().op(b"}").text("little_endian").op(b"\x88s").stop());
    file.extend(object);
    let keys = storages.iter().fold(Pickle::new().op(b"]("), |keys, (key, _, _)| keys.text(key));
    file.extend(keys.op(b"e").stop());
    for (_, count, content) in storages {
        file.extend(i64::try_from(*count).unwrap().to_le_bytes());
        file.extend(*content);
    }
    file
}

const ONE_TO_SIX: [f32; 6] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];

/// An OrderedDict with a plain 2×3 tensor, its transpose (3×2, of the same storage) and a scalar integer.
fn entries(pickle: Pickle, prefix: &str) -> Pickle {
    pickle
        .global("collections", "OrderedDict")
        .op(b")R(")
        .text(&format!("{prefix}a"))
        .tensor("FloatStorage", "0", (6, 0, &[2, 3], &[3, 1]))
        .text(&format!("{prefix}t"))
        .tensor("FloatStorage", "0", (6, 0, &[3, 2], &[1, 3]))
        .text(&format!("{prefix}n"))
        .tensor("LongStorage", "1", (1, 0, &[], &[]))
        .op(b"u}")
        .text("_metadata")
        .op(b")sb")
}

fn nested(key: &str, prefix: &str) -> Vec<u8> {
    let pickle = Pickle::new().op(b"}(").text("epoch").int(3).text(key);
    entries(pickle, prefix).op(b"u").stop()
}

fn zip_file(pickle: &[u8]) -> Vec<u8> {
    zip_of(&[
        ("data.pkl", pickle),
        ("byteorder", b"little"),
        ("data/0", &le(&ONE_TO_SIX)),
        ("data/1", &7_i64.to_le_bytes()),
        ("version", b"3\n"),
    ])
}

fn legacy_file(object: &[u8]) -> Vec<u8> {
    legacy_of(object, &[("0", 6, &le(&ONE_TO_SIX)), ("1", 1, &7_i64.to_le_bytes())])
}

fn tensor(shape: &[usize], values: &[f32]) -> WeightTensor {
    WeightTensor { shape: shape.to_vec(), values: values.to_vec().into() }
}

fn expected() -> StateDict {
    StateDict::from([
        ("a".into(), tensor(&[2, 3], &ONE_TO_SIX)),
        ("t".into(), tensor(&[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0])),
        ("n".into(), tensor(&[], &[7.0])),
    ])
}

/// The one tensor "w" over storage "0" of a zip file.
fn one(class: &str, content: &[u8], view: (i32, i32, &[i32], &[i32])) -> Parsed<WeightTensor> {
    let pickle = Pickle::new().op(b"}").text("w").tensor(class, "0", view).op(b"s").stop();
    read(&zip_of(&[("data.pkl", &pickle), ("data/0", content)])).map(|mut dict| dict.remove("w").unwrap())
}

#[track_caller]
fn refused(bytes: &[u8], why: &str) {
    let reason = read(bytes).unwrap_err();
    assert!(reason.contains(why), "{reason}");
    assert!(!reason.contains('\n'), "{reason}");
}

#[test]
fn both_torch_layouts_give_the_same_tensors_views_included() {
    let pickle = entries(Pickle::new(), "").stop();
    assert_eq!(read(&zip_file(&pickle)).unwrap(), expected());
    assert_eq!(read(&legacy_file(&pickle)).unwrap(), expected());
}

#[test]
fn a_nested_state_dict_is_found_and_unwrapped() {
    for key in STATE_DICT_KEYS {
        assert_eq!(read(&zip_file(&nested(key, "module."))).unwrap(), expected());
        assert_eq!(read(&legacy_file(&nested(key, ""))).unwrap(), expected());
    }
    refused(
        &zip_file(&nested("mine", "")),
        "its keys are [epoch, mine]; --state-dict KEY names the one with the weights",
    );
    let found = parse(&zip_file(&nested("mine", "")), Some("mine")).unwrap();
    assert_eq!((found.tensors, found.key.as_deref()), (expected(), Some("mine")));
    let reason = parse(&zip_file(&nested("mine", "")), Some("epoch")).unwrap_err();
    assert!(reason.contains("no tensors under epoch: its keys are [epoch, mine]"), "{reason}");
    refused(&zip_file(&Pickle::new().op(b"]").stop()), "holds a list, not a dict");
}

#[test]
fn the_trained_network_comes_before_averages_which_are_named() {
    let pickle = Pickle::new().op(b"}(").text("state_dict_ema");
    let pickle = entries(pickle, "b.").text("state_dict");
    let bytes = zip_file(&entries(pickle, "").op(b"u").stop());
    let found = parse(&bytes, None).unwrap();
    let from = (found.key.as_deref(), found.others.as_slice());
    assert_eq!((found.tensors.clone(), from), (expected(), (Some("state_dict"), &["state_dict_ema".to_owned()][..])));
    assert!(parse(&bytes, Some("state_dict_ema")).unwrap().tensors.contains_key("b.a"));
    // a dict in a dict
    let pickle = Pickle::new().op(b"}(").text("epoch").int(3).text("ema").op(b"}").text("model");
    assert_eq!(read(&zip_file(&entries(pickle, "").op(b"su").stop())).unwrap(), expected());
}

#[test]
fn a_whole_model_an_optimizer_and_training_state_are_named() {
    let model = |pickle: Pickle| pickle.global("models.yolo", "DetectionModel").op(b")\x81}b");
    let bytes = model(Pickle::new().op(b"}(").text("epoch").int(3).text("model")).op(b"u").stop();
    refused(&zip_file(&bytes), "it holds a models.yolo.DetectionModel, a whole model pickled together with its code");
    refused(&zip_file(&bytes), "its keys are [epoch, model (a models.yolo.DetectionModel)]");
    refused(&zip_file(&model(Pickle::new()).stop()), "it holds a models.yolo.DetectionModel, a whole model");
    let optimizer = Pickle::new().op(b"}(").text("state").op(b"}").text("param_groups").op(b"]u").stop();
    refused(&zip_file(&optimizer), "its keys are [state, param_groups], as of an optimizer");
    // what stands beside the weights is passed over
    let beside = Pickle::new().op(b"}(").text("hyper_parameters");
    let beside = beside.global("pytorch_lightning.utilities.parsing", "AttributeDict").op(b")\x81").text("state_dict");
    assert_eq!(read(&zip_file(&entries(beside, "").op(b"u").stop())).unwrap(), expected());
}

#[test]
fn module_stays_where_not_every_name_has_it() {
    let dict = StateDict::from([("module.a".into(), tensor(&[], &[1.0])), ("b".into(), tensor(&[], &[2.0]))]);
    assert_eq!(without_wrapper(dict.clone()), dict);
}

#[test]
fn safetensors_and_its_types() {
    let header = concat!(
        r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"#,
        r#""h":{"dtype":"F16","shape":[1],"data_offsets":[8,10]}}"#
    );
    let mut bytes = u64::try_from(header.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(le(&[1.5, -2.5]));
    bytes.extend(0x3c00_u16.to_le_bytes());
    let dict = read(&bytes).unwrap();
    assert_eq!(dict, StateDict::from([("w".into(), tensor(&[2], &[1.5, -2.5])), ("h".into(), tensor(&[1], &[1.0]))]));
    refused(&bytes[..bytes.len() - 1], "as safetensors");
    refused(&bytes[..20], "as safetensors");
}

#[test]
fn the_content_decides_and_not_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    std::fs::write(&path, legacy_file(&nested("net", "module."))).unwrap();
    assert_eq!(read_state_dict(&path).unwrap(), expected());
    std::fs::write(&path, "version https://git-lfs.github.com/spec/v1\n").unwrap();
    let error = read_state_dict(&path).unwrap_err().to_string();
    assert!(error.contains("weights.safetensors") && error.contains("begins with \"version https"), "{error}");
    assert!(matches!(read_state_dict(&folder.path().join("none")), Err(Error::MissingPath { .. })));
}

#[test]
fn every_type_becomes_f32() {
    let view = (2, 0, &[2][..], &[1][..]);
    let check = |class, content: &[u8], values: [f32; 2]| {
        assert_eq!(one(class, content, view).unwrap(), tensor(&[2], &values), "{class}");
    };
    check("DoubleStorage", &[0.5_f64.to_le_bytes(), (-8.0_f64).to_le_bytes()].concat(), [0.5, -8.0]);
    check("HalfStorage", &[0x3555_u16.to_le_bytes(), 0xc000_u16.to_le_bytes()].concat(), [0.333_251_95, -2.0]);
    check("BFloat16Storage", &[0x3f80_u16.to_le_bytes(), 0xc040_u16.to_le_bytes()].concat(), [1.0, -3.0]);
    check("IntStorage", &[(-5_i32).to_le_bytes(), 6_i32.to_le_bytes()].concat(), [-5.0, 6.0]);
    check("ShortStorage", &[(-5_i16).to_le_bytes(), 6_i16.to_le_bytes()].concat(), [-5.0, 6.0]);
    check("CharStorage", &[0xff, 1], [-1.0, 1.0]);
    check("ByteStorage", &[0xff, 1], [255.0, 1.0]);
    check("BoolStorage", &[0, 1], [0.0, 1.0]);
}

#[test]
fn half_precision_is_exact() {
    assert_eq!(half(0x0001), 2_f32.powi(-24));
    assert_eq!(half(0x03ff), 1023.0 * 2_f32.powi(-24));
    assert_eq!(half(0x0400), 2_f32.powi(-14));
    assert_eq!(half(0x7bff), 65504.0);
    assert_eq!(half(0xfc00), f32::NEG_INFINITY);
    assert_eq!(half(0x8000).to_bits(), (-0.0_f32).to_bits());
    assert!(half(0x7e00).is_nan());
    // the finite positive ones rise with their bits
    assert!((0..0x7c00_u16).all(|bits| half(bits) < half(bits + 1)));
}

#[test]
fn views_are_read_where_they_lie() {
    let content = le(&ONE_TO_SIX);
    let view = |view| one("FloatStorage", &content, view).unwrap().values.to_vec();
    assert_eq!(view((6, 2, &[2], &[1])), [3.0, 4.0]);
    assert_eq!(view((6, 1, &[2], &[3])), [2.0, 5.0]);
    assert_eq!(view((6, 4, &[3, 2], &[0, 1])), [5.0, 6.0, 5.0, 6.0, 5.0, 6.0]);
    assert_eq!(view((6, 0, &[1, 3, 1], &[99, 2, 77])), [1.0, 3.0, 5.0]);
    assert!(view((6, 9, &[0, 3], &[3, 1])).is_empty());
}

#[test]
fn a_part_of_a_legacy_storage() {
    let object = Pickle::new()
        .op(b"}")
        .text("w")
        .global("torch._utils", "_rebuild_tensor")
        .op(b"((")
        .text("storage")
        .global("torch", "FloatStorage")
        .text("0")
        .text("cpu")
        .int(6)
        .op(b"(")
        .text("part")
        .int(2)
        .int(3)
        .op(b"ttQ")
        .int(1)
        .ints(&[2])
        .ints(&[1])
        .op(b"tRs")
        .stop();
    let dict = read(&legacy_of(&object, &[("0", 6, &le(&ONE_TO_SIX))])).unwrap();
    assert_eq!(*dict["w"].values, [4.0, 5.0]);
}

#[test]
fn claims_beyond_the_file_are_refused() {
    let content = le(&ONE_TO_SIX);
    let refused = |view, why: &str| {
        let reason = one("FloatStorage", &content, view).unwrap_err();
        assert!(reason.starts_with("tensor w: ") && reason.contains(why), "{reason}");
    };
    refused((7, 0, &[7], &[1]), "should hold 7 elements of 4 bytes, and has 24 bytes");
    refused((6, 0, &[7], &[1]), "outside its storage");
    refused((6, 1, &[2, 3], &[3, 1]), "outside its storage");
    refused((6, 0, &[2, 3], &[i32::MAX, 1]), "outside its storage");
    refused((6, 0, &[i32::MAX; 3], &[0; 3]), "outside its storage");
    refused((6, 0, &[i32::MAX], &[0]), "more than 16 times as large as the file");
}

#[test]
fn a_pickle_that_acts_is_refused_in_every_layout() {
    let attack = Pickle::new().global("posix", "system").text("touch /tmp/owned").op(b"\x85R").stop();
    for bytes in [attack.clone(), zip_file(&attack), legacy_file(&attack)] {
        refused(
            &bytes,
            "asks for class posix.system, which acts on the machine and is no part of weights: nothing was executed",
        );
    }
}

#[test]
fn other_files_are_refused_with_what_they_are() {
    refused(b"", "the file is empty");
    refused(&Pickle::new().op(b"}").stop(), "not one that torch.save wrote");
    refused(&Pickle::new().op(b"\x8a\x0a0123456789").stop(), "not one that torch.save wrote");
    let mut tar = vec![0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    refused(&tar, "PyTorch before 0.1.10");
    refused(&zip_of(&[("readme", b"")]), "no data.pkl");
    refused(&zip_of(&[("data.pkl", b""), ("constants.pkl", b"")]), "TorchScript");
    refused(&zip_of(&[("data.pkl", b""), ("byteorder", b"big")]), "its byte order is \"big\"");
    refused(
        &zip_of(&[("data.pkl", &entries(Pickle::new(), "").stop())]),
        "entry archive/data/0 of the zip archive: missing",
    );
    let wrong_order = [
        Pickle::new().op(&[0x8a, 10]).op(&LEGACY_MAGIC).stop(),
        Pickle::new().int(1001).stop(),
        Pickle::new().op(b"}").text("little_endian").op(b"\x89s").stop(),
    ];
    refused(&wrong_order.concat(), "byte order is big");
}

#[test]
fn a_changed_storage_fails_its_checksum() {
    let mut bytes = zip_file(&entries(Pickle::new(), "").stop());
    let storage = le(&ONE_TO_SIX);
    let at = bytes.windows(storage.len()).position(|window| window == storage).unwrap();
    bytes[at] ^= 1;
    refused(&bytes, "entry archive/data/0");
}

/// Numbers that are the same in every run (Knuth's MMIX constants).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    fn mutate(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(4) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = u8::try_from(self.below(256)).unwrap(),
                2 => bytes[at] = [0, 0x7f, 0x80, 0xff][self.below(4)],
                _ => drop(bytes.splice(at..at, [b"()tQRcbu"[self.below(8)]])),
            }
        }
        if self.below(4) == 0 {
            bytes.truncate(self.below(bytes.len()));
        }
        bytes
    }
}

#[test]
fn mutated_files_are_read_or_refused_and_never_panic() {
    let pickle = nested("state_dict", "module.");
    let (zip, legacy) = (zip_file(&pickle), legacy_file(&pickle));
    let mut dice = Dice(20);
    let mut read = 0;
    for _ in 0..4000 {
        read += usize::from(parse(&dice.mutate(&legacy), None).is_ok());
        read += usize::from(parse(&dice.mutate(&zip), None).is_ok());
        // the checksum would hide most changes to the pickle, so change it before it is packed
        read += usize::from(parse(&zip_file(&dice.mutate(&pickle)), None).is_ok());
    }
    assert!((1..12_000).contains(&read), "{read} of 12000 were read: the mutations test nothing");
    for end in 0..legacy.len() {
        assert!(parse(&legacy[..end], None).is_err());
    }
    for end in 0..zip.len() {
        assert!(parse(&zip[..end], None).is_err());
    }
}

#[test]
fn sha256_in_hex() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("abc");
    std::fs::write(&path, "abc").unwrap();
    let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(sha256_file(&path).unwrap(), expected);
    assert!(matches!(sha256_file(&folder.path().join("none")), Err(Error::MissingPath { .. })));
}
