//! Training of the demo's small network on pictures the caller gives.
//!
//! It exists so that the weights in `checkpoints/` can be made again from the source. Not a training framework.

use std::path::Path;

use super::training::Training;
use crate::error::Result;

/// Train and write the weights as `.safetensors`, by libtorch. After each epoch `report(epoch, loss, held-out accuracy)`.
#[cfg(feature = "torch")]
pub fn train(what: &Training<'_>, file: &Path, report: impl FnMut(usize, f64, f64)) -> Result<()> {
    super::libtorch::train(what, file, report)
}

/// Train by libtorch, which is not here.
#[cfg(not(feature = "torch"))]
pub fn train(_: &Training<'_>, _: &Path, _: impl FnMut(usize, f64, f64)) -> Result<()> {
    Err(crate::error::Error::NoTorch { what: "training".into() })
}
