//! Random numbers for tests that a seed fixes.

use super::sampling::mixed;

/// Draws from a standard normal distribution (Box and Muller).
pub(crate) struct Normal {
    seed: u64,
    drawn: u64,
}

impl Normal {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    /// In (0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        self.drawn += 1;
        ((mixed(self.drawn, self.seed) >> 12) as f64 + 0.5) / (1u64 << 52) as f64
    }

    pub(crate) fn next(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}
