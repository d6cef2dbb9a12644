//! Files of arrays, read without executing anything in them.
//!
//! [`arrays`] reads what NumPy and safetensors say of their arrays. [`pickle`] is a small machine for Python's pickles that builds
//! tensors and arrays and passes over what any other class would make. Not for pictures ([`crate::image`]) nor for what the
//! arrays mean: weights are
//! [`crate::backbone`]'s, data sets are the image sources'.

pub(crate) mod arrays;
pub(crate) mod pickle;
