#!/usr/bin/env python3
"""What people get who do not build: the program in a tarball, and the Python wheel, into dist/, and both tried.

    .ci/dist.py [--profile PROFILE]   release, or dev to try the steps without an hour of compiling

The program is built with the feature torch and stripped; libtorch is not inside, and is looked for where LIBTORCH says, or where the
system looks, by networks that need it. It is tried in a root that has nothing but it and the system's libraries that it
names; the wheel in an environment whose HOME is empty and whose PATH leads to no compiler.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import python

ROOT, DIST, TARGET = python.ROOT, python.DIST, python.TARGET


def version():
    return re.search(r'^version = "([^"]+)"', (ROOT / "Cargo.toml").read_text(encoding="utf-8"), re.M)[1]


def program(profile):
    """Build and strip it; where it is."""
    python.run(os.environ.get("CARGO", "cargo"), "build", "--locked", "--profile", profile, "--bin", "outskirt", cwd=ROOT)
    made = DIST / "outskirt"
    python.run("strip", "-o", made, TARGET / ("debug" if profile == "dev" else profile) / "outskirt")
    return made


def tarball(made):
    """The program, what it is, and its terms."""
    name = f"outskirt-{version()}-linux-x86_64"
    path = DIST / f"{name}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(made, f"{name}/outskirt")
        for file in ("README.md", "LICENSE", "CHANGELOG.md", "BENCHMARKS.md"):
            archive.add(ROOT / file, f"{name}/{file}")
        for folder in ("docs", "sql"):
            archive.add(ROOT / folder, f"{name}/{folder}")
    return path


def libraries(made):
    """The system's libraries that a program names."""
    said = subprocess.run(["ldd", made], capture_output=True, text=True, check=True).stdout
    return [Path(found) for found in re.findall(r"(/\S+) \(0x", said)]


def in_bare_root(path):
    """Run the tarball's program where there is nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with tarfile.open(path) as archive:
            archive.extractall(root, filter="data")
        (unpacked,) = root.glob("outskirt-*")
        for library in libraries(unpacked / "outskirt"):
            (root / library.parent.relative_to("/")).mkdir(parents=True, exist_ok=True)
            shutil.copy(library, root / library.relative_to("/"))
        (root / "tmp").mkdir()
        (root / "vectors.csv").write_text('uri,v\\na,"[1, 0]"\\nb,"[0.9, 0.1]"\\nc,"[-1, 0.2]"\\n'.replace("\\n", "\n"))
        inside = [shutil.which("chroot"), root, f"/{unpacked.name}/outskirt", "--db", "/tmp/db"]
        if os.geteuid() != 0:
            inside = [shutil.which("unshare"), "--user", "--map-root-user", *inside]
        for command in (
            ["ingest", "/vectors.csv", "--embedding-column", "v", "--dataset", "d", "--backbone", "m", "--model-version", "1"],
            ["bank", "create", "b", "--backbone", "m", "--where", "uri <> 'c'", "--k", "1"],
            ["sql", "SELECT uri, round(knn_ood_score(m, 'b'), 3) AS score FROM images ORDER BY id", "--format", "csv"],
        ):
            done = subprocess.run([*map(str, inside), *command], capture_output=True, text=True, env={})
            if done.returncode:
                python.stop(f"in a bare root: {' '.join(command)}: {done.stderr}")
        lines = done.stdout.split()
        if lines[0] != "uri,score" or len(lines) != 4:
            python.stop(f"in a bare root it said {done.stdout}")
        needed = sorted({library.name for library in libraries(unpacked / "outskirt")})
        print(f"dist: {path.name} runs in a root with {', '.join(needed)} and nothing else", flush=True)


def in_bare_environment(wheel):
    """Import the wheel and score with it, without a home, a compiler or Rust."""
    clean = python.environment("bare")
    python.run(clean / "pip", "install", "--quiet", wheel)
    script = "import numpy as np, outskirt; x = np.eye(8); print(outskirt.KNN(k=2).fit(x).score(x)[0])"
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [clean / "python", "-c", script], capture_output=True, text=True, cwd=home, env={"HOME": home, "PATH": str(clean)}
        )
    if done.returncode or not done.stdout.startswith("1.41421"):
        python.stop(f"in a bare environment: {done.stdout}{done.stderr}")
    print(f"dist: {wheel.name} scores in an environment with NumPy and nothing else", flush=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--profile", default="release")
    profile = arguments.parse_args().profile
    DIST.mkdir(exist_ok=True)
    made = program(profile)
    path = tarball(made)
    made.unlink()
    in_bare_root(path)
    wheel = python.wheel(profile)
    in_bare_environment(wheel)
    for file in (path, wheel):
        print(f"dist: {file.relative_to(ROOT)}, {file.stat().st_size / 1e6:.0f} MB ({profile})", flush=True)


if __name__ == "__main__":
    sys.exit(main())
