//! Where CUDA is, and how much memory it has free.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

/// The first CUDA device, with the CUDA half of libtorch loaded.
///
/// The program opens a CPU libtorch; `libtorch_cuda.so` of the same version is loaded here, from `folder`
/// first and then by its plain name (`LD_LIBRARY_PATH`, the system's folders). Call this before anything else
/// asks libtorch for CUDA: it remembers the answer.
///
/// Errors: what is missing, the library or the device.
pub fn require_cuda(folder: Option<&Path>) -> Result<Device> {
    outskirt_libtorch::load()?;
    outskirt_libtorch::load_cuda(folder).map_err(|tried| {
        let reason = format!(
            "the CUDA half of libtorch cannot be loaded: put the folder of a CUDA build of libtorch 2.11.0 (of PyTorch, \
             torch/lib) into LD_LIBRARY_PATH ({tried})"
        );
        Error::CudaMissing { reason }
    })?;
    let device = Device::Cuda(0);
    match Tensor::f_zeros([1], (Kind::Float, device)) {
        Ok(_) => Ok(device),
        Err(error) => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default().trim_start_matches("Internal torch error: ");
            // the rest is advice to programmers
            let line = line.split(". ").next().unwrap_or_default();
            Err(Error::CudaMissing { reason: format!("no NVIDIA device answers: {line}") })
        }
    }
}

/// Bytes free on a CUDA device. libtorch's C interface does not tell; the CUDA runtime that it has loaded does.
pub(super) fn free_memory(index: usize) -> Result<usize> {
    let unknown = || Error::DeviceSearch { reason: "CUDA does not tell how much memory is free: give a budget".into() };
    outskirt_libtorch::free_cuda_memory(index).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_says_what_is_missing() {
        if std::env::var_os("OUTSKIRT_TEST_CUDA").is_some() {
            return;
        }
        let line = require_cuda(Some(Path::new("/nowhere"))).map_or_else(|error| error.to_string(), |_| String::new());
        // a machine may have all of it, or the library and no device
        assert!(line.is_empty() || line.starts_with("no CUDA: "), "{line}");
        assert_eq!(line.contains("cannot be loaded"), line.contains("/nowhere/libtorch_cuda.so"), "{line}");
        assert!(line.lines().count() <= 1, "{line}");
    }

    #[test]
    fn memory_of_a_missing_device_is_an_error() {
        assert!(free_memory(99).unwrap_err().to_string().contains("give a budget"));
    }
}
