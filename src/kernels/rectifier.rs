//! Normalisation and rectifier that stand before a convolution.

use crate::maps::Scratch;

/// What stands before a convolution: `scale` · value + `shift` of each channel, cut at zero.
#[derive(Debug, Clone)]
pub struct Rectifier {
    pub(crate) scale: Vec<f32>,
    pub(crate) shift: Vec<f32>,
}

impl Rectifier {
    /// Panics where the lengths differ.
    pub fn new(scale: Vec<f32>, shift: Vec<f32>) -> Self {
        assert!(scale.len() == shift.len() && !scale.is_empty());
        Self { scale, shift }
    }

    /// How many channels it takes.
    pub fn channels(&self) -> usize {
        self.scale.len()
    }

    /// Of the first channels of each pixel; pixels of `input` lie `stride` values apart.
    pub fn run(&self, input: &[f32], stride: usize, scratch: &mut Scratch) -> Vec<f32> {
        let channels = self.channels();
        assert!(stride >= channels);
        let mut out = scratch.take(input.len() / stride * channels);
        for (out, pixel) in out.chunks_exact_mut(channels).zip(input.chunks_exact(stride)) {
            self.apply(&pixel[..channels], out);
        }
        out
    }

    /// Of one pixel's channels.
    pub(crate) fn apply(&self, from: &[f32], to: &mut [f32]) {
        let Self { scale, shift } = self;
        assert!(from.len() == scale.len() && to.len() == scale.len());
        for ((to, value), (scale, shift)) in to.iter_mut().zip(from).zip(scale.iter().zip(shift)) {
            let value = value * scale + shift;
            // what is no number stays what it is, and is refused later
            *to = if value < 0.0 { 0.0 } else { value };
        }
    }
}
