#!/usr/bin/env python3
"""What `outskirt export` writes, read by the tools that it is for, after `make build`.

    .ci/export_tools.py [TOOL …]    only these: datasets pycocotools label-studio-sdk mlcroissant fiftyone

The tools come from PyPI into environments of their own in the target folder (FiftyOne takes 1 GB). One that cannot be installed is
skipped, and that is said; tests/export_tools.py is what is looked at.
"""
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()
# what is installed with what: FiftyOne pins much that others want newer
ENVIRONMENTS = {
    "readers": ["datasets", "pycocotools", "mlcroissant", "label-studio-sdk"],
    "fiftyone": ["fiftyone"],
}


def installed(name, tools):
    """The environment's Python, and those of its tools that are there."""
    folder = TARGET / "export-tools" / name
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    found = []
    for tool in tools:
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", tool, "pillow"]
        try:
            code = subprocess.run(command, timeout=1200, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
        except subprocess.TimeoutExpired:
            code = "nothing in 20 minutes"
        if code == 0:
            found.append(tool)
        else:
            print(f"export: SKIPPED {tool}: it cannot be installed (pip ended with {code})", flush=True)
    return python, found


def main():
    program = TARGET / "debug" / "outskirt"
    if not program.exists():
        sys.exit("export: make build comes first")
    chosen = sys.argv[1:] or [tool for tools in ENVIRONMENTS.values() for tool in tools]
    failed = False
    for name, tools in ENVIRONMENTS.items():
        wanted = [tool for tool in tools if tool in chosen]
        if not wanted:
            continue
        python, found = installed(name, wanted)
        if found:
            failed |= subprocess.run([python, ROOT / "tests" / "export_tools.py", program, *found]).returncode != 0
    if failed:
        sys.exit("export: a tool does not read what is written for it")


if __name__ == "__main__":
    main()
