//! The demo: pictures drawn from a seed, the experiment on them, and the training of the small network that embeds them.
//!
//! Ten classes are in distribution; five sets are not ([`OOD`]). The network's weights in
//! `checkpoints/demo_shapes.safetensors` came out of [`train`] and can be made again by
//! `outskirt demo --train FILE`. Not for real data: the numbers say how the tool works, not how good a score is.

mod draw;
mod experiment;
mod rng;
mod shapes;
mod train;

pub use draw::{CLASSES, Counts, OOD, Picture, SIDE, draw_class, draw_ood, write_pictures};
pub use experiment::{BACKBONE, BANK, CALIBRATION, COUNTS, DataSet, Folder, ID_TEST, bank, ood_predicates};
pub use train::{PICTURES_PER_CLASS, train};
