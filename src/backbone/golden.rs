//! The built-in networks against PyTorch: `tests/goldens/generate.py` made the numbers in `networks.json`.
//!
//! Weights and pictures come from a formula of a tensor's name and the number's place, which that program computes too;
//! so a name that the network asks for wrongly gives other numbers, as a wrong layer does.

use std::io::{Cursor, Write};
use std::path::Path;

use outskirt_kernels::{Precision, Scratch};
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::add::NewBackbone;
use super::body::Plan;
use super::input::Pictures;
use super::loaded::Backbone;
use super::network::Network;
use super::runs::Runs;
use super::trusted::Trusted;
use super::weights::{StateDict, WeightTensor};
use crate::error::Result;
use crate::formats::pickle::writer::Pickle;
use crate::index::Device;

/// Numbers of a tensor that are made together.
const PART: usize = 1 << 16;

/// Numbers in [-1, 1): SplitMix64 from the FNV-1a hash of the name, its upper 24 bits.
fn uniform(name: &str, count: usize) -> impl Iterator<Item = f64> {
    let seed = hash(name);
    (1..=count as u64).map(move |at| number(seed, at))
}

/// One of them.
fn number(seed: u64, at: u64) -> f64 {
    let mut z = seed.wrapping_add(at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f64 * 2f64.powi(-23) - 1.0
}

/// FNV-1a.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// A tensor of this name and shape.
pub(super) fn made(name: &str, shape: &[i64]) -> WeightTensor {
    let shape: Vec<usize> = shape.iter().map(|&n| n as usize).collect();
    let fan_in: usize = shape.iter().skip(1).product();
    let (base, scale) = match shape.len() {
        _ if name.ends_with("running_var") => (1.0, 0.25),
        _ if name.ends_with("running_mean") || name.ends_with("bias") => (0.0, 0.1),
        1 => (1.0, 0.25),
        3 => (0.0, 0.5),
        4 => (0.0, (6.0 / fan_in as f64).sqrt()),
        _ => (0.0, (3.0 / fan_in as f64).sqrt()),
    };
    // in parts, for networks have many numbers
    let (seed, count) = (hash(name), shape.iter().product::<usize>());
    let parts: Vec<Vec<f32>> = (0..count.div_ceil(PART))
        .into_par_iter()
        .map(|part| {
            let part = part * PART..count.min((part + 1) * PART);
            part.map(|at| (base + scale * number(seed, at as u64 + 1)) as f32).collect()
        })
        .collect();
    WeightTensor { shape, values: parts.concat().into() }
}

/// Two pictures.
pub(super) fn pictures(pixels: usize) -> Vec<f32> {
    uniform("input", 2 * 3 * pixels * pixels).map(|u| (2.0 * u) as f32).collect()
}

/// Embeddings of square pictures, and logits where the network has them, in f32 on the processor.
pub(super) fn run(network: &Network, values: &[f32], pixels: usize) -> (Vec<f32>, Option<Vec<f32>>) {
    let runs = Runs::of(network, "it", Device::Cpu, Precision::F32).unwrap();
    forward(&runs, values, pixels)
}

pub(super) fn forward(runs: &Runs, values: &[f32], pixels: usize) -> (Vec<f32>, Option<Vec<f32>>) {
    runs.forward(Pictures { values, height: pixels, width: pixels }, true, &mut Scratch::default()).unwrap()
}

/// Names and shapes that the network asks for and those of a classifier of 1000 classes, as libraries.py hashes them.
fn names_of(architecture: &str, telltale: &str, classifier: Option<&str>) -> String {
    let plan = Plan::of(architecture).unwrap();
    let mut lines = Vec::new();
    let mut note = |name: &str, shape: &[i64]| {
        lines.push(format!("{name} {shape:?}\n"));
        Ok(WeightTensor::zeros(shape))
    };
    plan.build(telltale, &|_| None, &mut note).unwrap();
    if let Some(name) = classifier {
        lines.push(format!("{name}.weight [1000, {}]\n", plan.dimension()));
        lines.push(format!("{name}.bias [1000]\n"));
    }
    lines.sort();
    format!("{:016x}", hash(&lines.concat()))
}

/// What the network asks for, in the dialect that `hint`, one of the file's names, gives away.
pub(super) fn state(architecture: &str, hint: &str, classifier: (&str, i64)) -> StateDict {
    let plan = Plan::of(architecture).unwrap();
    let mut state = StateDict::new();
    let mut make = |name: &str, shape: &[i64]| {
        let tensor = made(name, shape);
        assert!(state.insert(name.to_owned(), tensor.clone()).is_none(), "{name} is asked for twice");
        Ok(tensor)
    };
    let shape = |name: &str| (name == hint).then(Vec::new);
    let telltales = plan.telltales();
    let telltale = telltales.iter().find(|telltale| **telltale == hint).or(telltales.first()).unwrap();
    plan.build(telltale, &shape, &mut make).unwrap();
    let (name, classes) = classifier;
    if name.is_empty() {
        return state;
    }
    for (name, shape) in [("weight", &[classes, plan.dimension()][..]), ("bias", &[classes])]
        .map(|(part, shape)| (format!("{name}.{part}"), shape))
    {
        let _ = make(&name, shape).unwrap();
    }
    state
}

/// The projection head of the reference's CIFAR networks.
pub(super) fn with_head(mut state: StateDict, dimension: i64) -> StateDict {
    for (name, to) in [("head.0", dimension), ("head.2", 128)] {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        state.insert(weight.clone(), made(&weight, &[to, dimension]));
        state.insert(bias.clone(), made(&bias, &[to]));
    }
    state
}

pub(super) fn load(architecture: &str, state: &StateDict) -> Result<Network> {
    Network::from_state_dict(architecture, state, Path::new("w.pth"))
}

/// Relative to the root mean square of a row's numbers.
#[track_caller]
fn compare(what: &str, found: &[f32], expected: &serde_json::Value) -> f64 {
    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    let numbers = |key: &str| -> Vec<f64> { expected[key].as_array().unwrap().iter().map(number).collect() };
    let width = expected["width"].as_u64().unwrap() as usize;
    assert_eq!(found.len(), 2 * width, "{what}");
    let rows: Vec<&[f32]> = found.chunks(width).collect();
    let (norms, products) = (numbers("norms"), numbers("products"));
    let mut worst = 0f64;
    for (row, (norm, product)) in rows.iter().zip(norms.iter().zip(products)) {
        let squares: f64 = row.iter().map(|&x| f64::from(x).powi(2)).sum();
        let projected: f64 = row.iter().zip(uniform("probe", width)).map(|(&x, u)| f64::from(x) * u).sum();
        worst = worst.max((squares.sqrt() - norm).abs() / norm).max((projected - product).abs() / norm);
    }
    let typical = norms[1] / (width as f64).sqrt();
    for (found, expected) in rows[1].iter().step_by((width / 16).max(1)).zip(numbers("sample")) {
        worst = worst.max((f64::from(*found) - expected).abs() / typical);
    }
    assert!(worst <= 1e-4, "{what} differs by {worst:.1e}");
    worst
}

#[test]
#[expect(clippy::print_stderr, reason = "how far off it is is worth seeing with --nocapture")]
fn features_and_logits_equal_pytorch() {
    let text = include_str!("../../tests/goldens/networks.json");
    let goldens: serde_json::Value = serde_json::from_str(text).unwrap();
    for (name, golden) in goldens.as_object().unwrap() {
        let architecture = golden["architecture"].as_str().unwrap();
        let head = name.ends_with("with a head");
        let (hint, classifier) = match architecture {
            _ if golden["telltale"].is_string() => {
                let telltale = golden["telltale"].as_str().unwrap();
                let classifier = golden["classifier"].as_str();
                assert_eq!(golden["names"], names_of(architecture, telltale, classifier), "{name}");
                if golden["pixels"].is_null() {
                    continue;
                }
                (telltale, (classifier.unwrap_or(""), 1000))
            }
            _ if name.ends_with("pytorch-pretrained-vit") => ("positional_embedding.pos_embedding", ("fc", 1000)),
            vit if vit.starts_with("vit") => ("", ("heads.head", 1000)),
            "densenet-bc-100-12" => ("", ("fc", 10)),
            _ if head => ("", ("fc", 10)),
            cifar if cifar.ends_with("-cifar") => ("layer2.0.shortcut.0.weight", ("linear", 10)),
            _ => ("", ("fc", 1000)),
        };
        let mut state = state(architecture, hint, classifier);
        if head {
            state = with_head(state, 512);
        }
        if let Some(tensors) = golden["tensors"].as_u64() {
            let counters = state.keys().filter(|name| name.ends_with("running_mean")).count();
            assert_eq!(tensors as usize, state.len() + counters, "{name}");
        }

        let network = load(architecture, &state).unwrap();
        drop(state);
        let pixels = golden["pixels"].as_u64().unwrap() as usize;
        let check = |how: &str, runs: &Runs| {
            let (embeddings, logits) = forward(runs, &pictures(pixels), pixels);
            let off = compare(name, &embeddings, &golden["embedding"]);
            let off_logits =
                logits.map_or(0.0, |logits| compare(&format!("logits of {name}"), &logits, &golden["logits"]));
            eprintln!("{name}, {how}: features differ by {off:.1e}, logits by {off_logits:.1e}");
        };
        match Runs::of(&network, architecture, Device::Cpu, Precision::F32) {
            Ok(loops @ Runs::Loops(_)) => check("in loops", &loops),
            Err(error) => assert!(error.to_string().contains("needs libtorch"), "{error}"),
            #[cfg(feature = "torch")]
            Ok(Runs::Libtorch(_)) => {}
        }
        #[cfg(feature = "torch")]
        check("by libtorch", &Runs::by_libtorch(&network, architecture, Device::Cpu, Precision::F32).unwrap());
    }
}

/// The same tensors under other names.
pub(super) fn renamed(state: &StateDict, rename: impl Fn(&str) -> String) -> StateDict {
    state.iter().map(|(name, tensor)| (rename(name), tensor.clone())).collect()
}

#[test]
fn wrappers_are_taken_off_and_heads_left_aside() {
    let plain = with_head(state("resnet18-cifar", "layer2.0.shortcut.0.weight", ("fc", 7)), 512);
    let input = pictures(32);
    let gives = |state: &StateDict| run(&load("resnet18-cifar", state).unwrap(), &input, 32);
    let (embeddings, logits) = gives(&plain);
    let logits = logits.unwrap();
    assert_eq!(logits.len(), 2 * 7);
    let beside = |name: &str| name.starts_with("head.") || name.starts_with("fc.");
    for prefix in ["module.", "encoder.", "module.encoder.", "encoder.module.", "backbone."] {
        let inside = renamed(&plain, |name| format!("{prefix}{name}"));
        let outside = renamed(&plain, |name| if beside(name) { name.into() } else { format!("{prefix}{name}") });
        for wrapped in [inside, outside] {
            let found = gives(&wrapped);
            assert_close(&found.0, &embeddings);
            assert_close(&found.1.unwrap(), &logits);
        }
    }

    // an encoder's linear head is a projection, and no classifier; without an encoder it may be one
    let bare = renamed(&plain, |name| name.replace("fc.", "head."));
    let bare: StateDict =
        bare.into_iter().filter(|(name, _)| !name.starts_with("head.0") && !name.contains("head.2")).collect();
    assert_close(&gives(&bare).1.unwrap(), &logits);
    let encoder =
        renamed(&bare, |name| if name.starts_with("head.") { name.into() } else { format!("encoder.{name}") });
    assert!(gives(&encoder).1.is_none());
    assert_close(&gives(&encoder).0, &embeddings);
}

/// Names as training code leaves them, beside what it keeps there too.
#[test]
fn the_network_is_found_in_what_others_save() {
    let plain = state("resnet18", "conv1.weight", ("fc", 7));
    let input = pictures(64);
    let gives = |state: &StateDict| {
        let network = load("resnet18", state).unwrap();
        let (embeddings, logits) = run(&network, &input, 64);
        (embeddings, logits, network.notes)
    };
    let (embeddings, logits, _) = gives(&plain);
    let other = made("other", &[1, 1]);
    let under = |prefix: &str| renamed(&plain, |name| format!("{prefix}{name}"));
    for (prefix, beside, has_logits, note) in [
        ("_orig_mod.", "_orig_mod.fc.num_batches_tracked", true, ""),
        ("module._orig_mod.", "n_averaged", true, ""),
        (
            "model._orig_mod.resnet.",
            "criterion.weight",
            true,
            "under model.resnet are the network; left out: criterion",
        ),
        ("my_own.feature_net.", "hidden.weight", true, "under my_own.feature_net are the network; left out: hidden"),
        ("encoder_q.", "queue", false, "left out: queue"),
        ("teacher.backbone.", "teacher.head.last_layer.weight", false, "left out: head"),
    ] {
        let mut wrapped = under(prefix);
        wrapped.insert(beside.into(), other.clone());
        let (found, found_logits, notes) = gives(&wrapped);
        assert_close(&found, &embeddings);
        assert_eq!(found_logits.is_some(), has_logits, "{prefix}");
        assert!(notes.join("; ").contains(note), "{prefix}: {notes:?}");
    }
    // a compiler's part in the middle
    let inside = renamed(&plain, |name| name.replace("layer2.", "layer2._orig_mod."));
    assert_close(&gives(&inside).1.unwrap(), logits.as_deref().unwrap());

    // two of them: the one that was trained on, and it is said
    let wrong = renamed(&under(""), |name| name.into());
    for (meant, second) in [
        ("encoder_q.", "encoder_k."),
        ("teacher.", "student."),
        ("model.", "ema_model."),
        ("online_network.", "target_network."),
    ] {
        let mut both = under(meant);
        both.extend(wrong.iter().map(|(name, tensor)| {
            let halved: Vec<f32> = tensor.values.iter().map(|value| value / 2.0).collect();
            (format!("{second}{name}"), WeightTensor { values: halved.into(), ..tensor.clone() })
        }));
        let (found, _, notes) = gives(&both);
        assert_close(&found, &embeddings);
        let (meant, second) = (meant.trim_end_matches('.'), second.trim_end_matches('.'));
        assert!(notes[0].contains(&format!("under {meant} is taken, and that under {second} left out")), "{notes:?}");
    }
    let mut both = under("left_one.");
    both.extend(under("right_one."));
    let error = load("resnet18", &both).unwrap_err().to_string();
    assert!(error.contains("it holds several: under left_one, right_one; save one of them"), "{error}");

    // names of nobody: they are shown
    let foreign = renamed(&plain, |name| name.replace("layer", "stage"));
    let error = load("resnet18", &foreign).unwrap_err().to_string();
    assert!(error.contains("are missing; stage1.0.bn1.bias, stage1.0.bn1.running_mean"), "{error}");
    assert!(error.contains("export TorchScript instead") && error.contains("set_fastpath_enabled(False)"), "{error}");
}

#[test]
fn what_does_not_fit_is_listed_at_once() {
    let mut state = state("resnet18", "", ("fc", 10));
    let moved = state.remove("layer4.1.bn2.bias").unwrap();
    state.insert("layer4.1.bn3.bias".into(), moved);
    state.insert("conv1.weight".into(), made("conv1.weight", &[64, 3, 3, 3]));
    state.insert("fc.weight".into(), made("fc.weight", &[10, 256]));
    let error = load("resnet18", &state).unwrap_err().to_string();
    for part in [
        "w.pth do not fit architecture resnet18",
        "conv1.weight has shape [64, 3, 3, 3], expected [64, 3, 7, 7]",
        "layer4.1.bn2.bias is missing",
        "layer4.1.bn3.bias is not part of it",
        "fc.weight has shape [10, 256], expected [classes, 512]",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    // another depth: what is missing is listed, the rest is counted
    state.clear();
    let error = load("resnet50", &state).unwrap_err().to_string();
    assert!(error.contains("conv1.weight, bn1.weight, bn1.bias, bn1.running_mean and 261 more are missing"), "{error}");
}

/// A zip file of `torch.save`: a dict of what `beside` writes, and under `key` the state dict, its names in `wrapped` form.
fn saved(
    state: &StateDict,
    key: &str,
    wrapped: impl Fn(&str) -> String,
    beside: impl FnOnce(Pickle) -> Pickle,
) -> Vec<u8> {
    let mut pickle = beside(Pickle::new().op(b"}(")).text(key).global("collections", "OrderedDict").op(b")R(");
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (at, (name, tensor)) in state.iter().enumerate() {
        let shape: Vec<i32> = tensor.shape.iter().map(|&n| n as i32).collect();
        let strides: Vec<i32> = (1..=shape.len()).map(|axis| shape[axis..].iter().product()).collect();
        let view = (tensor.values.len() as i32, 0, &shape[..], &strides[..]);
        pickle = pickle.text(&wrapped(name)).tensor("FloatStorage", &at.to_string(), view);
        writer.start_file(format!("archive/data/{at}"), options).unwrap();
        let bytes: Vec<u8> = tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        writer.write_all(&bytes).unwrap();
    }
    writer.start_file("archive/data.pkl", options).unwrap();
    writer.write_all(&pickle.op(b"uu").stop()).unwrap();
    writer.finish().unwrap().into_inner()
}

fn embedded_from_file(bytes: &[u8], architecture: &str) -> Result<(Vec<f32>, Option<usize>)> {
    let folder = tempfile::tempdir().unwrap();
    let weights = folder.path().join("w.pth.tar");
    std::fs::write(&weights, bytes).unwrap();
    let new = NewBackbone { weights, architecture: architecture.into(), ..NewBackbone::default() };
    let (manifest, _) = super::add(&new)?;
    let backbone =
        Backbone::load(super::find(manifest.to_str().unwrap(), Vec::new()).unwrap(), None, &Trusted::default())?;
    let mut worker = backbone.worker();
    Ok((worker.embed(&vec![0.5; worker.input_len()])?.embeddings, backbone.classes()))
}

/// Beside the weights: training state, and the command line's options as argparse keeps them.
fn training_state(pickle: Pickle) -> Pickle {
    let options = pickle.text("opt").global("argparse", "Namespace").op(b")\x81}(").text("lr").int(1);
    options.op(b"ub").text("epoch").int(500).text("optimizer").op(b"}").text("state").op(b"}s")
}

/// Equal but for rounding: what the loops of this processor give and what libtorch gives, or that twice, whose last bits
/// depend on its threads.
#[track_caller]
pub(super) fn assert_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0f32, |most, value| most.max(value.abs()));
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-5 * largest, "{found} and {expected}");
    }
}

#[test]
fn an_embedding_of_zero_is_told_and_one_that_is_not_finite_refused() {
    let filled = |value: f32| -> Result<super::Checked> {
        let mut state = state("resnet8-cifar", "", ("fc", 10));
        for (name, tensor) in &mut state {
            let one = if name.ends_with("running_var") { 1.0 } else { value };
            tensor.values = vec![one; tensor.values.len()].into();
        }
        let folder = tempfile::tempdir().unwrap();
        let weights = folder.path().join("w.pth");
        std::fs::write(&weights, saved(&state, "model", str::to_owned, training_state)).unwrap();
        let new = NewBackbone { weights, architecture: "resnet8_cifar".into(), ..NewBackbone::default() };
        super::add(&new).map(|(_, checked)| checked)
    };
    let checked = filled(0.0).unwrap();
    assert!(checked.has_zero() && checked.likeness.is_none() && checked.norms == [0.0; 2], "{checked:?}");
    let error = filled(f32::NAN).unwrap_err().to_string();
    assert!(error.contains("its embeddings are not finite"), "{error}");
}

#[test]
fn the_references_files_have_these_shapes() {
    let grey = |architecture: &str, state: &StateDict, pixels: usize| {
        run(&load(architecture, state).unwrap(), &vec![0.5; 3 * pixels * pixels], pixels).0
    };
    // CIFAR-10/resnet18-supcon/checkpoint_500.pth.tar
    let cifar = with_head(state("resnet18-cifar", "", ("fc", 10)), 512);
    let file = saved(&cifar, "state_dict", |name| format!("module.{name}"), training_state);
    let (found, classes) = embedded_from_file(&file, "resnet18-cifar").unwrap();
    assert_eq!(classes, Some(10));
    assert_close(&found, &grey("resnet18-cifar", &cifar, 32));

    // imagenet/pytorch_resnet50-supcon_imagenet/supcon.pth
    let mut encoder = state("resnet50", "", ("fc", 1));
    encoder.retain(|name, _| !name.starts_with("fc."));
    let wrap = |name: &str| format!("module.{}{name}", if name.starts_with("head.") { "" } else { "encoder." });
    let supcon = with_head(encoder.clone(), 2048);
    let file = saved(&supcon, "model", wrap, training_state);
    let (found, classes) = embedded_from_file(&file, "resnet50").unwrap();
    assert_eq!(classes, None);
    assert_close(&found, &grey("resnet50", &encoder, 224));

    // a class that acts is refused
    let evil = |pickle: Pickle| pickle.text("opt").global("os", "system").text("true").op(b"\x85R");
    let error = embedded_from_file(&saved(&cifar, "model", wrap, evil), "resnet18-cifar").unwrap_err().to_string();
    assert!(error.contains("asks for class os.system") && error.contains("nothing was executed"), "{error}");
}
