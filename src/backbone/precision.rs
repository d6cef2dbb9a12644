//! In what a network's products are taken.

pub use outskirt_kernels::Precision;
