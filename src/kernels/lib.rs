//! # What touches every number, on one thread: convolutions for inference, resampling, and Gaussians
//!
//! Feature maps are n × height × width × channels, row-major. A [`Conv`] holds a square convolution's weights in the order
//! in which its loops read them; [`Conv::run`] adds the bias, what the block's shortcut gives, and cuts at zero in the same
//! pass. 3×3 convolutions of stride 1 are Winograd's, with a quarter of the multiplications (in bf16 a third); all others
//! gather their pixels and are matrix products. In bf16 the operands of products are rounded, nothing else.
//!
//! What a picture becomes does not depend on the pictures beside it: each value is summed in one order, whatever the number
//! of pictures and the place among them, and in f32 the order is the same with AVX2 and with AVX-512.
//!
//! [`available`] says whether this processor has what the loops are written in: AVX2 and FMA, and AVX-512 where it is
//! there; for bf16 AVX512-BF16.
//! Unsafe code is confined to loads, stores and calls of functions whose instructions were detected.

#[cfg(target_arch = "x86_64")]
mod bf16;
mod conv;
mod dense;
mod maps;
mod precision;
mod product;
mod rectifier;
mod resample;
#[cfg(test)]
mod tests;
mod triangle;
#[cfg(target_arch = "x86_64")]
mod winograd;

pub use conv::{Conv, interleave, max_pool, mean, pooled, thinned};
pub use dense::{halved, place};
pub use maps::{Scratch, Shape};
pub use precision::{Precision, available};
pub use rectifier::Rectifier;
pub use resample::{Taps, resample, spread, taps};
pub use triangle::{COLUMNS, add_products, least_squares, solve_lower};
