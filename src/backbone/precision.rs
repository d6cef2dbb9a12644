//! In what a network's products are taken.

/// In what convolutions and matrix products are taken; embeddings are f32 in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// 24 bits' precision.
    #[default]
    F32,
    /// Operands of 8 bits' precision, sums in f32.
    Bf16,
}

impl Precision {
    /// As it stands in the column's metadata and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}
