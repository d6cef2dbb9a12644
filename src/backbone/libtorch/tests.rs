//! What libtorch gives beside our own loops, and networks that it alone runs.

use outskirt_kernels::Precision;

use crate::backbone::golden::{assert_close, forward, load, made, pictures, renamed, run, state};
use crate::backbone::network::Network;
use crate::backbone::runs::Runs;
use crate::backbone::weights::StateDict;
use crate::index::Device;
use crate::statistics::deviation::Deviation;

fn by_libtorch(network: &Network, precision: Precision, pixels: usize) -> Vec<f32> {
    let runs = Runs::by_libtorch(network, "it", Device::Cpu, precision).unwrap();
    forward(&runs, &pictures(pixels), pixels).0
}

/// In units of the embeddings' norms, as `deviation.rs` measures it.
#[test]
#[expect(clippy::print_stderr, reason = "how far off it is is worth seeing with --nocapture")]
fn bf16_is_about_as_far_from_f32_as_that_of_libtorch() {
    if !outskirt_kernels::available(Precision::Bf16) {
        return;
    }
    for (architecture, pixels) in
        [("resnet20-cifar", 32), ("resnet18-cifar", 32), ("densenet-bc-100-12", 32), ("resnet50", 224)]
    {
        let network = load(architecture, &state(architecture, "", ("fc", 10))).unwrap();
        let loops = Runs::of(&network, architecture, Device::Cpu, Precision::Bf16).unwrap();
        assert!(matches!(loops, Runs::Loops(_)), "{architecture}");
        let found = forward(&loops, &pictures(pixels), pixels).0;
        let theirs = by_libtorch(&network, Precision::Bf16, pixels);
        let expected = by_libtorch(&network, Precision::F32, pixels);
        let off = |found: &[f32]| Deviation::of(found, &expected, expected.len() / 2).unwrap().embedding.1;
        let (ours, theirs) = (off(&found), off(&theirs));
        eprintln!("{architecture}: {ours:.1e}, libtorch's {theirs:.1e}");
        // pictures of noise are the hardest for a transform; of photographs, ours are closer than theirs
        assert!(ours > 0.0 && ours <= 1.25 * theirs, "{architecture}: {ours:.1e}, libtorch's {theirs:.1e}");
    }
}

#[test]
fn libtorchs_bf16_is_near_f32() {
    for (architecture, telltale, pixels) in [
        ("convnext-tiny", "stem.0.weight", 64),
        ("dinov2-vits14", "patch_embed.proj.weight", 28),
        ("resnext50-32x4d", "conv1.weight", 64),
    ] {
        let network = load(architecture, &state(architecture, telltale, ("", 0))).unwrap();
        let expected = by_libtorch(&network, Precision::F32, pixels);
        let found = by_libtorch(&network, Precision::Bf16, pixels);
        let off = Deviation::of(&found, &expected, expected.len() / 2).unwrap().embedding.1;
        assert!(off > 0.0 && off < 0.05, "{architecture}: {off:.1e}");
    }
}

#[test]
fn blocks_in_chunks_are_those_of_dinov2_and_its_sizes_are_checked() {
    let plain = state("dinov2-vits14", "patch_embed.proj.weight", ("", 0));
    let chunked = renamed(&plain, |name| match name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
        Some((block, rest)) => {
            format!("teacher.backbone.blocks.{}.{block}.{rest}", block.parse::<usize>().unwrap() / 3)
        }
        None => format!("teacher.backbone.{name}"),
    });
    let gives = |state: &StateDict| run(&load("dinov2-vits14", state).unwrap(), &pictures(28), 28).0;
    assert_close(&gives(&chunked), &gives(&plain));
    // trained on other pictures: 16×16 patches
    let mut smaller = plain.clone();
    smaller.insert("pos_embed".into(), made("pos_embed", &[1, 257, 384]));
    assert!(gives(&smaller) != gives(&plain));
    // what training puts in place of patches
    smaller.insert("mask_token".into(), made("mask_token", &[1, 384]));
    gives(&smaller);
    let error = load("vit-b16-384", &smaller).unwrap_err().to_string();
    assert!(
        error.contains("its position embeddings are of pictures of 256×256 pixels, and it takes 384×384"),
        "{error}"
    );
    // with registers it is another network
    smaller.insert("register_tokens".into(), made("register_tokens", &[1, 4, 384]));
    let error = load("dinov2-vits14", &smaller).unwrap_err().to_string();
    assert!(error.contains("register_tokens is not part of it"), "{error}");
}
