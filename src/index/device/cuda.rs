//! Where CUDA is, and how much memory it has free.

use std::ffi::{CStr, CString, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

/// The first CUDA device, with the CUDA half of libtorch loaded.
///
/// The program is linked to a CPU libtorch; `libtorch_cuda.so` of the same version is loaded here, from `folder`
/// first and then by its plain name (`LD_LIBRARY_PATH`, the system's folders). Call this before anything else
/// asks libtorch for CUDA: it remembers the answer.
///
/// Errors: what is missing, the library or the device.
pub fn require_cuda(folder: Option<&Path>) -> Result<Device> {
    let plain = c"libtorch_cuda.so";
    // linked already, or loaded by an earlier call
    if load(plain, libc::RTLD_NOW | libc::RTLD_NOLOAD).is_err() {
        // a path with a NUL in it cannot exist
        let path = folder.and_then(|folder| CString::new(folder.join("libtorch_cuda.so").as_os_str().as_bytes()).ok());
        let mut names = path.as_deref().into_iter().chain([plain]);
        let mut failed = Vec::new();
        if !names.any(|name| load(name, libc::RTLD_NOW | libc::RTLD_GLOBAL).map_err(|text| failed.push(text)).is_ok()) {
            let tried = failed.join("; ");
            let reason = format!(
                "the CUDA half of libtorch cannot be loaded: put the folder of a CUDA build of libtorch 2.11.0 (of \
                 PyTorch, torch/lib) into LD_LIBRARY_PATH ({tried})"
            );
            return Err(Error::CudaMissing { reason });
        }
    }
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

/// Load a library for the rest of the program's life.
fn load(name: &CStr, flags: c_int) -> Result<(), String> {
    // SAFETY: `name` ends in NUL, and what is loaded are libtorch's own libraries, whose initialisers only register.
    if !unsafe { libc::dlopen(name.as_ptr(), flags) }.is_null() {
        return Ok(());
    }
    // SAFETY: dlerror has no conditions.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return Err("no reason given".into());
    }
    // SAFETY: the string is not NULL, ends in NUL, and lives until the next dl call of this thread.
    Err(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// Bytes free on a CUDA device. libtorch's C interface does not tell; the CUDA runtime that it has loaded does.
pub(super) fn free_memory(index: usize) -> Result<usize> {
    type GetDevice = unsafe extern "C" fn(*mut c_int) -> c_int;
    type SetDevice = unsafe extern "C" fn(c_int) -> c_int;
    type MemGetInfo = unsafe extern "C" fn(*mut usize, *mut usize) -> c_int;
    let unknown = || Error::DeviceSearch { reason: "CUDA does not tell how much memory is free: give a budget".into() };
    let symbol = |name: &CStr| -> Result<*mut c_void> {
        // SAFETY: `name` ends in NUL; a name that no loaded library has gives NULL.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        if found.is_null() { Err(unknown()) } else { Ok(found) }
    };
    let (mut before, mut free, mut total) = (0, 0usize, 0usize);
    // SAFETY: the three symbols are functions of the CUDA runtime with these signatures in every version, and the
    // pointers are to locals.
    let codes = unsafe {
        let get = std::mem::transmute::<*mut c_void, GetDevice>(symbol(c"cudaGetDevice")?);
        let set = std::mem::transmute::<*mut c_void, SetDevice>(symbol(c"cudaSetDevice")?);
        let info = std::mem::transmute::<*mut c_void, MemGetInfo>(symbol(c"cudaMemGetInfo")?);
        [get(&mut before), set(index as c_int), info(&mut free, &mut total), set(before)]
    };
    if codes == [0; 4] { Ok(free) } else { Err(unknown()) }
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
