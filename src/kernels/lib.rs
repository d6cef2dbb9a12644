//! # What touches every pixel, on one thread: convolutions for inference, and resampling
//!
//! Feature maps are n × height × width × channels, row-major. A [`Conv`] holds a square convolution's weights in the order
//! in which its loops read them; [`Conv::run`] adds the bias, what the block's shortcut gives, and cuts at zero in the same
//! pass. 3×3 convolutions of stride 1 are Winograd's, with a quarter of the multiplications (in bf16 a third); all others
//! gather their pixels and are matrix products. In bf16 the operands of products are rounded, nothing else.
//!
//! [`available`] says whether this processor has what the loops are written in: AVX2 and FMA, and AVX-512 where it is
//! there; for bf16 AVX512-BF16.
//! Unsafe code is confined to loads, stores and calls of functions whose instructions were detected.

#[cfg(target_arch = "x86_64")]
mod bf16;
mod conv;
mod dense;
mod product;
mod resample;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod winograd;

pub use conv::{Conv, Scratch, Shape, interleave, max_pool, mean, pooled, thinned};
pub use dense::{Rectifier, halved, place};
pub use resample::{Taps, resample, spread, taps};

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

/// Whether this processor can run a [`Conv`] in it fast.
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
