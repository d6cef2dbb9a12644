//! What a dense block does between its convolutions: maps whose channels grow, pixel by pixel side by side.

use crate::maps::{Scratch, Shape};

/// Put a map of so many channels into another, whose pixels lie `stride` values apart, behind its first `offset` channels.
pub fn place(map: &[f32], channels: usize, into: &mut [f32], stride: usize, offset: usize) {
    assert!(offset + channels <= stride);
    for (from, to) in map.chunks_exact(channels).zip(into.chunks_exact_mut(stride)) {
        to[offset..offset + channels].copy_from_slice(from);
    }
}

/// The mean of each window of 2×2 pixels; what is left over at an odd rim is dropped.
pub fn halved(map: &[f32], shape: Shape, scratch: &mut Scratch) -> (Vec<f32>, Shape) {
    let to = Shape { height: shape.height / 2, width: shape.width / 2, ..shape };
    let (channels, line) = (shape.channels, shape.width * shape.channels);
    let mut out = scratch.take(to.len());
    for (pixel, out) in out.chunks_exact_mut(channels).enumerate() {
        let (x, rest) = (pixel % to.width, pixel / to.width);
        let (n, y) = (rest / to.height, rest % to.height);
        let at = (n * shape.height + 2 * y) * line + 2 * x * channels;
        let [a, b] = [&map[at..at + 2 * channels], &map[at + line..at + line + 2 * channels]];
        for (channel, out) in out.iter_mut().enumerate() {
            *out = 0.25 * (a[channel] + a[channels + channel] + b[channel] + b[channels + channel]);
        }
    }
    (out, to)
}
