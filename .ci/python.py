#!/usr/bin/env python3
"""The Python package: its wheel into dist/, then into an environment that has nothing else, where its tests run.

The wheel is of the development profile, which the tests of the rest have built most of; the one that users get is made by dist.py.
Needs the network once, for maturin and the packages that the tests compare with. Tests with torch and pytorch-ood, whose
wheels take gigabytes, run where OUTSKIRT_PYTHON_TORCH is set, and say that they are skipped where it is not.
"""
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "python"
DIST = ROOT / "dist"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()
# what the tests compare with: datafusion's interface is that of one major version
# … and the others change what they take with theirs
PEERS = ["datafusion>=54,<55", "duckdb<3", "mypy<3", "pandas<4", "polars<3", "pyarrow<27", "pytest<10", "scikit-learn<2", "tqdm<5"]
TORCH = ["torch==2.11.0", "pytorch-ood"]


def stop(message):
    sys.exit(f"python: {message}")


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], **options)
    if done.returncode:
        stop(f"this failed: {' '.join(map(str, command))}")


def environment(name):
    """A virtual environment of that name, made anew."""
    folder = TARGET / "python" / name
    shutil.rmtree(folder, ignore_errors=True)
    try:
        venv.create(folder, with_pip=True)
    except subprocess.CalledProcessError:
        stop("virtual environments cannot be made here: apt-get install python3-venv")
    return folder / "bin"


def wheel(profile):
    """Build it; where it is."""
    tools = environment("tools")
    run(tools / "pip", "install", "--quiet", "maturin>=1.9,<2")
    shutil.rmtree(DIST / "made", ignore_errors=True)
    variables = {**os.environ, "CARGO_TARGET_DIR": str(TARGET), "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    # from its folder: cargo looks for .cargo/config.toml from there upwards
    run(tools / "maturin", "build", "--locked", "--profile", profile, "--out", DIST / "made", cwd=PACKAGE, env=variables)
    (made,) = (DIST / "made").glob("*.whl")
    for other in DIST.glob("outskirt-*.whl"):
        other.unlink()
    shutil.move(made, DIST / made.name)
    (DIST / "made").rmdir()
    return DIST / made.name


def check_versions():
    """Both lock files name the same versions, or what both build would be built twice."""
    read = lambda path: set(re.findall(r'name = "([^"]+)"\nversion = "([^"]+)"', path.read_text(encoding="utf-8")))
    ours, theirs = read(PACKAGE / "Cargo.lock"), read(ROOT / "Cargo.lock")
    known = {name for name, _ in theirs}
    other = sorted(f"{name} {version}" for name, version in ours - theirs if name in known)
    if other:
        stop(f"src/python/Cargo.lock has versions that Cargo.lock has not: {', '.join(other)}")


def main():
    check_versions()
    if sys.version_info < (3, 10):
        stop(f"Python 3.10 or newer is needed, and this is {sys.version.split()[0]}")
    made = wheel("dev")
    print(f"python: {made.relative_to(ROOT)}, {made.stat().st_size / 1e6:.0f} MB", flush=True)
    clean = environment("clean")
    run(clean / "pip", "install", "--quiet", made)
    # with nothing but NumPy beside it
    run(clean / "python", "-c", "import outskirt; print('python: outskirt', outskirt.__version__, 'is imported')", cwd=TARGET)
    more = TORCH if os.environ.get("OUTSKIRT_PYTHON_TORCH") else []
    run(clean / "pip", "install", "--quiet", *PEERS, *more)
    run(clean / "mypy", "--strict", "outskirt", cwd=PACKAGE)
    run(clean / "python", "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", PACKAGE / "tests", cwd=TARGET)


if __name__ == "__main__":
    main()
