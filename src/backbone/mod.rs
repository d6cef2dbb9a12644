//! Networks that turn an image into an embedding. `tch` (libtorch) is named in `libtorch`, and for search on a GPU in
//! `index`'s `device`, alone.
//!
//! A checkpoint is a manifest (architecture, input, normalisation) and a weights file whose SHA-256 the manifest
//! names; [`Backbone::load`] checks it, and no other weights are ever used under that name. Weights are read without
//! executing anything; a TorchScript module, which is code, runs where [`Trusted`] names it. A loaded backbone gives
//! one [`Worker`] per thread.
//!
//! ResNets and DenseNet on the processor run in loops of our own (`fused`): the embedding and the logits of a picture
//! are the same bits in whatever batch it was and on however many threads. What libtorch runs (ViT,
//! ConvNeXt, ResNeXt, TorchScript, CUDA, and all of them where the processor lacks AVX2, or AVX512-BF16 for bf16) may differ in the last bits with the batch.
//!
//! What a network is made of is written once, over what its weights are: numbers of a file, or tensors of libtorch, which is
//! opened when a network needs it. Without the feature `torch` such networks are refused, and ResNets and DenseNet run all
//! the same.
//!
//! Not for finding, decoding or storing images.

mod add;
mod architecture;
#[cfg(test)]
mod batches;
mod body;
mod checkpoint;
#[cfg_attr(not(feature = "torch"), allow(dead_code))] // what libtorch alone runs is only fitted to its file
mod convnext;
mod densenet;
mod external;
mod fused;
#[cfg(test)]
mod golden;
mod input;
mod kind;
#[cfg_attr(not(feature = "torch"), allow(dead_code))] // what libtorch alone runs is only fitted to its file
mod layers;
#[cfg(feature = "torch")]
mod libtorch;
mod load;
mod loaded;
mod lookup;
mod names;
mod network;
mod registry;
mod resnet;
mod runs;
mod spelling;
mod train;
mod training;
mod trusted;
#[cfg_attr(not(feature = "torch"), allow(dead_code))] // what libtorch alone runs is only fitted to its file
mod vit;
mod weights;

pub use add::{Checked, NewBackbone, add, check};
pub use architecture::{ARCHITECTURES, Architecture, TORCHSCRIPT, architecture};
pub use checkpoint::{Checkpoint, Manifest, Output, built_in, find};
pub(crate) use checkpoint::{is_path, names};
pub use external::{External, external_backbones, forget_external, register_external};
pub use input::Input;
pub use load::{LoadOptions, load_in};
pub use loaded::{Backbone, Measured, Outputs, Worker};
pub use lookup::{external_in, find_in, list_in};
pub use outskirt_kernels::Precision;
pub use registry::{register_backbone, register_logits, registered_backbones};
pub use train::train;
pub use training::Training;
pub use trusted::Trusted;
pub use weights::{StateDict, WeightTensor, read_state_dict, sha256_file};
