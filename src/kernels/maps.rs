//! Feature maps: their shape, and the buffers that they lie in.

#[cfg(target_arch = "x86_64")]
use crate::bf16::Bf16;

/// The shape of a feature map: n × height × width, of so many channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Pictures.
    pub n: usize,
    /// Rows.
    pub height: usize,
    /// Pixels per row.
    pub width: usize,
    /// Values per pixel.
    pub channels: usize,
}

impl Shape {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.n * self.height * self.width * self.channels
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Buffers that calls on one thread share: fresh memory costs as much as a small convolution.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(crate) rows: Vec<f32>,
    #[cfg(target_arch = "x86_64")]
    pub(crate) narrow: Vec<Bf16>,
    pub(crate) sums: Vec<f32>,
    pub(crate) exact: Vec<f32>,
    free: Vec<Vec<f32>>,
}

impl Scratch {
    /// A buffer of so many values, whatever they are.
    pub fn take(&mut self, len: usize) -> Vec<f32> {
        let fits = |buffer: &&Vec<f32>| buffer.capacity() >= len;
        let smallest = self.free.iter().filter(fits).map(Vec::capacity).min();
        let at = self.free.iter().position(|buffer| Some(buffer.capacity()) == smallest);
        let mut buffer = at.map_or_else(Vec::new, |at| self.free.swap_remove(at));
        buffer.resize(len, 0.0);
        buffer
    }

    /// Give a buffer back that [`Self::take`], [`Conv::run`](crate::Conv::run) or [`max_pool`](crate::max_pool) gave.
    pub fn give(&mut self, buffer: Vec<f32>) {
        self.free.push(buffer);
    }
}
