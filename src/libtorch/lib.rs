//! libtorch, opened when a network needs it. A program that never calls [`load`] runs where there is no libtorch, and starts
//! without mapping 450 MB.
//!
//! The crates `tch` and `torch-sys` call some three thousand C functions, which torch-sys has in C++. The build script makes a
//! library of that C++, which is kept in the program as bytes, and a jump for each function, through a table. [`load`]
//! opens libtorch, then that library, and fills the table. A function that is called before ends the program with a
//! line that says so: whoever is about to use `tch` calls [`load`] first.
//!
//! Linux only, as [`libc::memfd_create`] is.

use std::env;
use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

// its functions are declared there
use torch_sys as _;

/// The C++ of torch-sys, as a library.
static LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libtch.so"));
/// Its functions, in the order of the table.
static NAMES: &str = include_str!(concat!(env!("OUT_DIR"), "/names.txt"));
/// Where libtorch was when this was built.
const BUILT_WITH: &str = env!("OUTSKIRT_LIBTORCH");
/// What torch-sys is generated for.
pub const VERSION: &str = "2.11.0";
/// Of libtorch, in the order in which one needs the other.
const PARTS: [&str; 2] = ["libc10.so", "libtorch_cpu.so"];

/// Why libtorch cannot be opened, and what to do, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing(String);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

unsafe extern "C" {
    /// As many places as there are names, made by the build script.
    static outskirt_tch_table: [AtomicPtr<c_void>; 0];
}

/// Open libtorch, once for the whole program. It is looked for in the folder that the environment variable `LIBTORCH` names; without that where it
/// was when the program was built, then where the system looks (`LD_LIBRARY_PATH`). Where the machine has NVIDIA's driver, the
/// CUDA half is opened with it, if it is there.
///
/// Errors: what could not be opened.
pub fn load() -> Result<(), Missing> {
    static LOADED: OnceLock<Result<(), Missing>> = OnceLock::new();
    LOADED.get_or_init(open).clone()
}

/// The folders that are tried; one without a name stands for the system's.
fn folders() -> Vec<PathBuf> {
    match env::var_os("LIBTORCH") {
        Some(given) => vec![PathBuf::from(given).join("lib")],
        None => vec![PathBuf::from(BUILT_WITH), PathBuf::new()],
    }
}

fn open() -> Result<(), Missing> {
    let mut failed = Vec::new();
    let opened = folders().into_iter().find(|folder| {
        let opened = PARTS.iter().try_for_each(|part| {
            let flags = libc::RTLD_LAZY | libc::RTLD_GLOBAL;
            dlopen(folder.join(part).as_os_str(), flags).map(drop)
        });
        opened.map_err(|text| failed.push(text)).is_ok()
    });
    let missing = |text: &str| {
        let advice = "set LIBTORCH to the folder of one, as PyTorch's torch/ is";
        Missing(format!("libtorch {VERSION} cannot be opened ({text}): {advice}"))
    };
    let Some(folder) = opened else { return Err(missing(&failed.join("; "))) };
    // at once, where there is a driver: a network on the processor may be the first that asks whether there is CUDA, and
    // libtorch remembers the answer. Where the half cannot be opened, whoever wants a GPU is told so by `load_cuda`
    if dlopen(OsStr::new("libcuda.so.1"), libc::RTLD_LAZY).is_ok() {
        let _ = load_cuda(Some(&folder));
    }
    let library = in_memory(LIBRARY).map_err(|error| missing(&error.to_string()))?;
    let path = format!("/proc/self/fd/{}", library.as_raw_fd());
    let handle = dlopen(OsStr::new(&path), libc::RTLD_NOW).map_err(|text| missing(&text))?;
    let table = std::ptr::addr_of!(outskirt_tch_table).cast::<AtomicPtr<c_void>>();
    for (place, name) in NAMES.lines().enumerate() {
        let name = CString::new(name).map_err(|error| missing(&error.to_string()))?;
        // SAFETY: the handle is open, and the name ends in NUL.
        let found = unsafe { libc::dlsym(handle, name.as_ptr()) };
        if found.is_null() {
            return Err(missing(&format!("it has no {}", name.to_string_lossy())));
        }
        // SAFETY: the table has a place for each name, and lives as long as the program.
        unsafe { &*table.add(place) }.store(found, Ordering::Release);
    }
    Ok(())
}

/// A file that is nowhere but in memory.
fn in_memory(bytes: &[u8]) -> std::io::Result<File> {
    // SAFETY: the name ends in NUL.
    let descriptor = unsafe { libc::memfd_create(c"libtch.so".as_ptr(), libc::MFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: it was just opened, and nobody else has it.
    let mut file = unsafe { File::from_raw_fd(descriptor) };
    file.write_all(bytes)?;
    Ok(file)
}

/// Open the CUDA half of libtorch as well: `libtorch_cuda.so` of the same version, from `folder` first and then by its plain
/// name. Nothing may ask libtorch for CUDA before: it remembers the answer, so [`load`] does this where there is a driver.
///
/// Errors: what the system said of each.
pub fn load_cuda(folder: Option<&Path>) -> Result<(), String> {
    let plain = OsStr::new("libtorch_cuda.so");
    // opened by an earlier call
    if dlopen(plain, libc::RTLD_NOW | libc::RTLD_NOLOAD).is_ok() {
        return Ok(());
    }
    let path = folder.map(|folder| folder.join(plain));
    let mut failed = Vec::new();
    let mut open =
        |name: &OsStr| dlopen(name, libc::RTLD_NOW | libc::RTLD_GLOBAL).map_err(|text| failed.push(text)).is_ok();
    let is_open = path.iter().map(|path| path.as_os_str()).chain([plain]).any(&mut open);
    if is_open { Ok(()) } else { Err(failed.join("; ")) }
}

/// Bytes free on a CUDA device, as the CUDA runtime says that libtorch has opened; `None` where it does not.
pub fn free_cuda_memory(index: usize) -> Option<usize> {
    type GetDevice = unsafe extern "C" fn(*mut c_int) -> c_int;
    type SetDevice = unsafe extern "C" fn(c_int) -> c_int;
    type MemGetInfo = unsafe extern "C" fn(*mut usize, *mut usize) -> c_int;
    let symbol = |name: &CStr| {
        // SAFETY: `name` ends in NUL; a name that no opened library has gives NULL.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        (!found.is_null()).then_some(found)
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
    (codes == [0; 4]).then_some(free)
}

/// Open a library for the rest of the program's life.
///
/// Errors: what the system says.
fn dlopen(name: &OsStr, flags: c_int) -> Result<*mut c_void, String> {
    let name = CString::new(name.as_bytes()).map_err(|_| "a path has a NUL in it".to_owned())?;
    // SAFETY: `name` ends in NUL, and what is opened are libtorch's own libraries, whose initialisers only register.
    let handle = unsafe { libc::dlopen(name.as_ptr(), flags) };
    if !handle.is_null() {
        return Ok(handle);
    }
    // SAFETY: dlerror has no conditions.
    let text: *mut c_char = unsafe { libc::dlerror() };
    if text.is_null() {
        return Err("no reason given".into());
    }
    // SAFETY: the string is not NULL, ends in NUL, and lives until the next dl call of this thread.
    Err(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// What the table leads to at first.
#[unsafe(no_mangle)]
extern "C" fn outskirt_tch_not_opened() -> ! {
    let _ = writeln!(std::io::stderr(), "error: a function of libtorch was called before libtorch was opened");
    std::process::abort()
}
