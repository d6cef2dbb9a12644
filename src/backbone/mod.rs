//! Networks that turn an image into an embedding. `tch` (libtorch) is named here, and for search on a GPU in
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
//! Not for finding, decoding or storing images. Without the feature `torch` manifests can be read and shown, and loading
//! says what is missing.

#[cfg(feature = "torch")]
mod add;
mod architecture;
#[cfg(all(test, feature = "torch"))]
mod batches;
#[cfg(feature = "torch")]
mod body;
mod checkpoint;
#[cfg(feature = "torch")]
mod convnext;
#[cfg(feature = "torch")]
mod densenet;
mod external;
#[cfg(feature = "torch")]
mod fused;
#[cfg(all(test, feature = "torch"))]
mod golden;
mod input;
mod kind;
#[cfg(feature = "torch")]
mod layers;
#[cfg(feature = "torch")]
mod load;
mod lookup;
#[cfg(feature = "torch")]
mod names;
#[cfg(feature = "torch")]
mod network;
mod registry;
#[cfg(feature = "torch")]
mod resnet;
#[cfg(feature = "torch")]
mod spelling;
#[cfg(feature = "torch")]
mod torch;
#[cfg(feature = "torch")]
mod train;
mod trusted;
#[cfg(feature = "torch")]
mod vit;
mod weights;

#[cfg(feature = "torch")]
pub use add::{Checked, NewBackbone, add, check};
pub use architecture::{ARCHITECTURES, Architecture, TORCHSCRIPT, architecture};
pub use checkpoint::{Checkpoint, Manifest, Output, built_in, find};
pub(crate) use checkpoint::{is_path, names};
pub use external::{External, external_backbones, register_external};
pub use input::Input;
#[cfg(feature = "torch")]
pub use load::{LoadOptions, load_in};
pub use lookup::{external_in, find_in, list_in};
pub use outskirt_kernels::Precision;
pub use registry::{register_backbone, register_logits, registered_backbones};
#[cfg(feature = "torch")]
pub use torch::{Backbone, Measured, Outputs, Worker};
#[cfg(feature = "torch")]
pub use train::{Training, train};
pub use trusted::Trusted;
pub use weights::{StateDict, WeightTensor, read_state_dict, sha256_file};
