//! What the demo's small network is trained on.

/// What to train on and how long.
#[derive(Debug)]
pub struct Training<'a> {
    /// n preprocessed pictures of 3×32×32 values.
    pub pictures: &'a [f32],
    /// n class numbers from 0.
    pub labels: &'a [i64],
    /// Pictures and labels that are only looked at.
    pub held_out: (&'a [f32], &'a [i64]),
    /// Number of classes.
    pub classes: i64,
    /// The name of a ResNet, such as `resnet8-cifar`.
    pub architecture: &'a str,
    /// Passes over the pictures.
    pub epochs: usize,
    /// Of weights and order; the result repeats for one libtorch and thread count.
    pub seed: i64,
}
