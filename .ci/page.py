#!/usr/bin/env python3
"""The report in a browser, after `make build`: the demo's page is written, and tests/page.mjs looks at it.

    .ci/page.py [FOLDER]    keep the page and pictures of it there

Needs Chromium, Node.js and npm; where this is root on Debian they are installed, and where they cannot be had it says that it is
skipped. puppeteer-core and axe-core come from npm, into the target folder.
"""
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()
MODULES = ["puppeteer-core@24", "axe-core@4"]
BROWSERS = ["chromium", "chromium-browser", "google-chrome"]


def skip(reason):
    print(f"page: SKIPPED: {reason}", flush=True)
    sys.exit(0)


def found(names):
    return next((path for path in map(shutil.which, names) if path), None)


def quiet(*command, **options):
    """Whether a command could be run, and ended well."""
    try:
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=600, **options).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def install():
    """The system's packages, where they are missing and can be had."""
    missing = [package for package, names in (("chromium", BROWSERS), ("nodejs", ["node"]), ("npm", ["npm"])) if not found(names)]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"page: installing {', '.join(missing)}", flush=True)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        quiet("apt-get", "update", env=environment)
        quiet("apt-get", "install", "-y", "--no-install-recommends", *missing, env=environment)
    browser = found(BROWSERS)
    if not browser or not found(["node"]) or not found(["npm"]):
        skip("it takes Chromium, Node.js and npm: apt-get install chromium nodejs npm")
    return browser


def main():
    browser = install()
    modules = TARGET / "page"
    modules.mkdir(parents=True, exist_ok=True)
    if not quiet("npm", "install", "--no-save", "--prefix", modules, *MODULES):
        skip("npm cannot be reached for puppeteer-core and axe-core")
    program = TARGET / "debug" / "outskirt"
    with tempfile.TemporaryDirectory() as scratch:
        keep = Path(sys.argv[1] if len(sys.argv) > 1 else scratch).resolve()
        keep.mkdir(parents=True, exist_ok=True)
        page = keep / "report.html"
        sets = [option for name in ("noise", "blends") for option in ("--ood", f"dataset = '{name}'")]
        for command in (
            ["demo"],
            ["report", "--bank", "demo", "--id", "dataset = 'shapes_id' AND split = 'test'", *sets, "--out", page],
        ):
            environment = {**os.environ, "OUTSKIRT_DB": "outskirt-demo/db"}
            if subprocess.run([program, *command], cwd=scratch, env=environment, stdout=subprocess.DEVNULL).returncode:
                sys.exit(f"page: outskirt {command[0]} failed")
        looked = subprocess.run(["node", ROOT / "tests" / "page.mjs", browser, modules / "node_modules", page, keep])
    if looked.returncode == 3:
        skip("the browser does not start here")
    if looked.returncode:
        sys.exit("page: something is wrong with the report in a browser")


if __name__ == "__main__":
    main()
