//! Builds the C++ of the crate torch-sys as a library that needs libtorch, and jumps to its functions.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    for file in ["build.rs", "streams.cpp"] {
        println!("cargo:rerun-if-changed={file}");
    }
    for name in ["LIBTORCH", "LIBTORCH_USE_PYTORCH", "LIBTORCH_CXX11_ABI"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let libtorch = libtorch()?;
    let source = torch_sys()?.join("libtch");
    let library = out.join("libtch.so");
    let abi = env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".into());
    let mut build = cc::Build::new();
    build.cpp(true).pic(true).warnings(false).opt_level(1).debug(false).std("c++17");
    build.define("_GLIBCXX_USE_CXX11_ABI", abi.as_str()).define("GLOG_USE_GLOG_EXPORT", None).include(&source);
    build.includes(["include", "include/torch/csrc/api/include"].map(|folder| libtorch.join(folder)));
    build.files(["torch_api.cpp", "torch_api_generated.cpp"].map(|file| source.join(file))).file("streams.cpp");
    let objects = build.compile_intermediates();
    let folder = libtorch.join("lib");
    let mut link = build.get_compiler().to_command();
    link.arg("-shared").arg("-s").arg("-o").arg(&library).args(objects).arg("-L").arg(&folder);
    link.args(["-Wl,--no-as-needed", "-ltorch_cpu", "-lc10"]).arg(format!("-Wl,-rpath,{}", folder.display()));
    run(&mut link)?;

    // its functions are C's: a name of C++ has a type in it, and begins with _Z
    let table = run(Command::new("nm").args(["-D", "--defined-only", "--format=posix"]).arg(&library))?;
    let name = |line: &str| {
        let mut parts = line.split(' ');
        let (name, kind) = (parts.next()?, parts.next()?);
        (kind == "T" && !name.starts_with('_') && !name.starts_with("tch_")).then(|| name.to_owned())
    };
    let names: Vec<String> = table.lines().filter_map(name).collect();
    if names.len() < 1000 {
        return Err(format!("{} has {} functions only", library.display(), names.len()).into());
    }
    let jumps = out.join("jumps.s");
    fs::write(&jumps, assembly(&names, &env::var("CARGO_CFG_TARGET_ARCH")?)?)?;
    cc::Build::new().file(&jumps).compile("outskirt_jumps");
    fs::write(out.join("names.txt"), names.join("\n"))?;
    println!("cargo:rustc-env=OUTSKIRT_LIBTORCH={}", folder.display());
    Ok(())
}

/// A table of addresses, and for each name a jump to the one in its place; at first all lead to one function.
fn assembly(names: &[String], architecture: &str) -> Result<String> {
    let jump = |place: usize| -> Result<String> {
        match architecture {
            "x86_64" => Ok(format!("jmp *outskirt_tch_table+{place}(%rip)")),
            "aarch64" => Ok(format!(
                "adrp x16, outskirt_tch_table+{place}\n ldr x16, [x16, :lo12:outskirt_tch_table+{place}]\n br x16"
            )),
            other => Err(format!("jumps to libtorch are written for x86_64 and aarch64, not for {other}").into()),
        }
    };
    let mut text = String::from(".data\n.balign 8\n.globl outskirt_tch_table\n.hidden outskirt_tch_table\n");
    writeln!(text, "outskirt_tch_table:\n.rept {}\n.quad outskirt_tch_not_opened\n.endr\n.text", names.len())?;
    for (at, name) in names.iter().enumerate() {
        writeln!(text, ".globl {name}\n.type {name}, %function\n{name}:\n {}", jump(8 * at)?)?;
    }
    text.push_str(".section .note.GNU-stack,\"\",%progbits\n");
    Ok(text)
}

/// The folder of libtorch: `LIBTORCH`, or that of Python's torch with `LIBTORCH_USE_PYTORCH`.
fn libtorch() -> Result<PathBuf> {
    if env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
        let code = "import os, torch; print(os.path.dirname(torch.__file__))";
        return Ok(run(Command::new("python3").args(["-c", code]))?.trim().into());
    }
    let folder = PathBuf::from(env::var("LIBTORCH").map_err(|_| "LIBTORCH is not set: it names libtorch's folder")?);
    if !folder.join("include").is_dir() {
        return Err(format!("{} holds no libtorch: 'make setup' fetches one", folder.display()).into());
    }
    Ok(folder)
}

/// The folder of the crate torch-sys, whose C++ it is.
fn torch_sys() -> Result<PathBuf> {
    let manifest = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("Cargo.toml");
    let ask = |offline: &[&str]| {
        let mut cargo = Command::new(env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
        cargo.args(["metadata", "--format-version", "1", "--locked", "--filter-platform"]);
        run(cargo.arg(env::var("TARGET").unwrap_or_default()).args(offline).arg("--manifest-path").arg(&manifest))
    };
    // what only tests need may not be there yet, and is asked for
    let found = ask(&["--offline"]).or_else(|_| ask(&[]))?;
    let package = found.split("\"name\":\"torch-sys\",\"version\":").nth(1).ok_or("cargo knows no torch-sys")?;
    let path = package.split("\"manifest_path\":\"").nth(1).and_then(|rest| rest.split('"').next());
    let path = path.and_then(|path| Path::new(path).parent()).ok_or("cargo does not say where torch-sys is")?;
    Ok(path.into())
}

/// What a program prints; its errors where it fails.
fn run(command: &mut Command) -> Result<String> {
    let done = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !done.status.success() {
        return Err(format!("{command:?} failed: {}", String::from_utf8_lossy(&done.stderr)).into());
    }
    Ok(String::from_utf8(done.stdout)?)
}
