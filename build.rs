//! Writes the folder of libtorch into the binary's search path: a build script's rpath does not reach
//! the crates that depend on it, so tch's own is not enough.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // set by torch-sys, and only for its direct dependants
    if let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
    }
}
