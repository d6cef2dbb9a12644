//! Exact search on a libtorch device: products in low precision choose, differences in f64 decide.
//!
//! A product p̃ of the device is off by at most ε from p = ⟨q, x⟩ for every row x of the bank (`product_error`,
//! from measured norms and residuals). With S = max‖x‖² − min‖x‖², p̃ₖ the k-th largest p̃ and w = 2ε + S/2:
//! - k rows have p ≥ p̃ₖ − ε, so the k-th neighbour's d² = ‖q‖² + ‖x‖² − 2p is at most ‖q‖² + max‖x‖² − 2(p̃ₖ − ε),
//!   and a row with p̃ < p̃ₖ − w is farther than that;
//! - at most k − 1 rows have p > p̃ₖ + ε, so its d² is at least ‖q‖² + min‖x‖² − 2(p̃ₖ + ε), and a row with
//!   p̃ > p̃ₖ + w is nearer than that.
//!
//! So with `a` rows above the band p̃ₖ ± w, the k-th distance is the (k − a)-th smallest in the band, and only the
//! band is measured. A first pass over the bank keeps the k largest products of a query and a margin. Where the
//! smallest kept one lies below the band, the kept ones hold it: the certificate. Where it does not (copies and
//! near-copies), a second pass takes the band out of all products, which needs no margin and cannot fail.
//!
//! A measured distance is that of the processor, before both are rounded to f32, but for the order in which f64 sums are
//! added up.

mod bank;
mod batch;
mod cuda;
mod search;
#[cfg(test)]
mod tests;

pub use bank::{DeviceBank, Precision};
pub use cuda::require_cuda;
