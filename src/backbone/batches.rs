//! What a picture becomes in our own loops, whatever it is embedded with.

use std::path::Path;

use outskirt_kernels::{Precision, Scratch};

use super::architecture::ARCHITECTURES;
use super::fused::Fused;
use super::golden::{made, state};
use super::network::Network;

const PICTURES: usize = 30;
/// Of networks that take any size; at 224 they take fifty times as long and sum in the same order.
const PIXELS: usize = 32;

/// resnet50 with more of the same blocks, or with more channels in them: these would take most of the test's time.
const LARGER: [&str; 3] = ["resnet101", "resnet152", "wide-resnet50-2"];

#[test]
fn a_picture_has_the_same_embedding_and_logits_in_every_batch() {
    let mut fused_ones = 0;
    for known in ARCHITECTURES
        .iter()
        .filter(|known| known.pixels.is_none() && known.dimension.is_some() && !LARGER.contains(&known.name))
    {
        let network = Network::from_state_dict(known.name, &state(known.name, "", ("fc", 10)), Path::new("w")).unwrap();
        let pixels = known.input.map_or(PIXELS, |input| PIXELS.min(input.width as usize));
        let each = 3 * pixels * pixels;
        let pictures = made("pictures", &[(PICTURES * each) as i64, 1]).values;
        for precision in [Precision::F32, Precision::Bf16] {
            let Some(fused) = Fused::of(&network, precision) else { continue };
            let mut scratch = Scratch::default();
            let mut run = |from: usize, count: usize| -> [Vec<u32>; 2] {
                let pictures = &pictures[from * each..(from + count) * each];
                let embeddings = fused.embed(pictures, (pixels, pixels), &mut scratch);
                let logits = fused.classify(&embeddings, &mut scratch).unwrap();
                [embeddings, logits].map(|values| values.into_iter().map(f32::to_bits).collect())
            };
            let alone: Vec<_> = (0..PICTURES).map(|picture| run(picture, 1)).collect();
            assert!(alone.windows(2).all(|two| two[0] != two[1]), "{}: pictures differ", known.name);
            for (from, count) in [(0, PICTURES), (3, 7), (28, 2)] {
                let [embeddings, logits] = run(from, count);
                let rows = embeddings.chunks(embeddings.len() / count).zip(logits.chunks(logits.len() / count));
                for (at, (embedding, logits)) in rows.enumerate() {
                    let [expected, expected_logits] = &alone[from + at];
                    let same = embedding == expected && logits == expected_logits;
                    assert!(same, "{} in {precision:?}: picture {at} of {count}", known.name);
                }
            }
            fused_ones += 1;
        }
    }
    let precisions = [Precision::F32, Precision::Bf16].map(outskirt_kernels::available);
    assert_eq!(fused_ones, 9 * precisions.iter().filter(|available| **available).count());
}
