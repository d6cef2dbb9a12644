//! What products are taken in, and whether this processor has the instructions for it.

/// In what convolutions and matrix products are taken; what they give is f32 in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// 24 bits' precision.
    #[default]
    F32,
    /// Operands of 8 bits' precision, sums in f32.
    Bf16,
}

impl Precision {
    /// As it stands in a column's metadata and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

/// Whether this processor can run a [`Conv`](crate::Conv) in it fast.
pub fn available(precision: Precision) -> bool {
    #[cfg(target_arch = "x86_64")]
    let available = match precision {
        Precision::F32 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
        Precision::Bf16 => {
            is_x86_feature_detected!("avx512bf16")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && available(Precision::F32)
        }
    };
    #[cfg(not(target_arch = "x86_64"))]
    let available = false;
    available
}
