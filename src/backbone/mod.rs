//! Networks that turn an image into an embedding. `tch` (libtorch) is named in this room alone.
//!
//! A checkpoint is a manifest (architecture, input, normalisation) and a weights file whose SHA-256 the manifest
//! names; [`Backbone::load`] checks it, and no other weights are ever used under that name. Weights are read
//! without executing anything. A loaded backbone gives one [`Worker`] per thread. Not for finding, decoding or
//! storing images. Without the feature `torch` manifests can be read and shown, and loading says what is missing.

mod checkpoint;
mod pickle;
#[cfg(feature = "torch")]
mod resnet;
#[cfg(feature = "torch")]
mod torch;
#[cfg(feature = "torch")]
mod train;
mod weights;

pub use checkpoint::{ARCHITECTURES, Checkpoint, Input, Manifest, built_in, find};
#[cfg(feature = "torch")]
pub use torch::{Backbone, Worker};
#[cfg(feature = "torch")]
pub use train::{Training, train};
pub use weights::{StateDict, WeightTensor, read_state_dict, sha256_file};
