//! How near two vectors are: the numbers that results are compared by, in f64.

use crate::vectors::{distance, product};

/// What "near" means. Each is a plain function of two vectors, [`Metric::value`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    /// ‖q − x‖₂, in [0, ∞): the smaller, the nearer.
    Euclidean,
    /// ⟨q, x⟩, any number: the larger, the nearer (maximum inner product search).
    InnerProduct,
    /// ⟨q, x⟩ / (‖q‖₂ ‖x‖₂), in [−1, 1]: the larger, the nearer. Vectors of zeros have none.
    Cosine,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Euclidean, Self::InnerProduct, Self::Cosine];

    /// The value of two vectors of equal length, as results give it. Sums are taken in f64, eight side by side, in one
    /// order on every processor; squares and products of f32 neither over- nor underflow there. NaN for the cosine of a
    /// vector of zeros.
    pub fn value(self, a: &[f32], b: &[f32]) -> f64 {
        match self {
            Self::Euclidean => distance(a, b),
            Self::InnerProduct => product(a, b),
            Self::Cosine => (product(a, b) / (product(a, a).sqrt() * product(b, b).sqrt())).clamp(-1.0, 1.0),
        }
    }

    /// What ascends from the nearest on: the value, or its negative.
    pub(crate) fn key(self, a: &[f32], b: &[f32]) -> f64 {
        self.turned(self.value(a, b))
    }

    /// A value as a key, or a key as a value.
    pub(crate) fn turned(self, value: f64) -> f64 {
        if self == Self::Euclidean { value } else { -value }
    }
}
