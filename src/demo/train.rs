//! Training the demo's network on pictures that the demo itself never shows: another seed.

use std::path::Path;

use super::draw::{CLASSES, draw_class};
use crate::backbone::{self, Training};
use crate::error::Result;
use crate::image::{Pixels, Preprocess, Preprocessor, Resize};

/// Pictures of each class that are trained on; as many again are drawn to watch the accuracy, over ten.
pub const PICTURES_PER_CLASS: u64 = 800;

/// Of the training pictures; the demo's default seed is another.
const SEED: u64 = 20_220_417;

/// The input of `checkpoints/demo_shapes.toml`.
const INPUT: Preprocess =
    Preprocess { resize: Resize::Exact { width: 32, height: 32 }, mean: [0.5; 3], std: [0.25; 3] };

/// Train a ResNet-8 for `epochs` and write it to `file` (.safetensors). After each epoch
/// `report(epoch, loss, held-out accuracy)`.
pub fn train(file: &Path, epochs: usize, report: impl FnMut(usize, f64, f64)) -> Result<()> {
    let (pictures, labels) = draw(0..PICTURES_PER_CLASS)?;
    let (held_out, held_out_labels) = draw(PICTURES_PER_CLASS..PICTURES_PER_CLASS + PICTURES_PER_CLASS / 10)?;
    let what = Training {
        pictures: &pictures,
        labels: &labels,
        held_out: (&held_out, &held_out_labels),
        classes: CLASSES.len() as i64,
        architecture: "resnet8-cifar",
        epochs,
        seed: 1,
    };
    backbone::train(&what, file, report)
}

/// Preprocessed pictures of every class, and their labels.
fn draw(indices: std::ops::Range<u64>) -> Result<(Vec<f32>, Vec<i64>)> {
    let mut preprocessor = Preprocessor::new(&INPUT);
    let (mut pictures, mut labels) = (Vec::new(), Vec::new());
    for class in 0..CLASSES.len() {
        for index in indices.clone() {
            let rgb = draw_class(class, SEED, index).bytes().to_vec();
            let start = pictures.len();
            pictures.resize(start + INPUT.input_len(), 0.0);
            preprocessor.run(&Pixels { width: 32, height: 32, rgb }, &mut pictures[start..])?;
            labels.push(class as i64);
        }
    }
    Ok((pictures, labels))
}
