#!/usr/bin/env python3
"""What a small change costs in a large table: `make bench-changes`.

A database of ROWS images of one dataset and split is made (tests/suite/large.rs: 64 random numbers each, in the column of the
demo's network), then whole commands are timed on it: the ingest of 1,000 more pictures, a bank and its refresh after those, a
count, the start of a session, and all of that again after so many versions. Seconds, and the most memory of the process.

    python3 benches/changes.py --program target/debug/outskirt [--rows 10000000] [--versions 1000] [--dir FOLDER]
"""
import argparse
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURES = 1000


def pictures(folder, seed, count):
    """So many pictures that no one else has."""
    generator = random.Random(seed)
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{number:04}.ppm").write_bytes(b"P6 32 32 255\n" + generator.randbytes(3 * 32 * 32))
    return folder


class Database:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder

    def run(self, *command, text=None):
        begin = time.perf_counter()
        line = [self.program, "--db", str(self.folder), *map(str, command)]
        process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        process.stdin.write(text or "")
        process.stdin.close()
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"{' '.join(line)}\n{output}")
        return time.perf_counter() - begin, usage.ru_maxrss / 1024, output

    def ingest(self, folder, *more):
        return self.run("ingest", folder, "--dataset", "large", "--split", "train", "--backbone", "demo_shapes", *more)


def measured(name, found):
    seconds, megabytes, _ = found
    print(f"{name:58} {seconds:8.2f} s {megabytes:8.0f} MB", flush=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--program", required=True)
    arguments.add_argument("--rows", type=int, default=10_000_000)
    arguments.add_argument("--versions", type=int, default=1000)
    arguments.add_argument("--dir", type=Path)
    arguments.add_argument("--cargo", default=os.environ.get("CARGO", "cargo"))
    arguments.add_argument("--no-bank", action="store_true", help="leave out the bank of all rows")
    given = arguments.parse_args()
    folder = given.dir or Path(tempfile.mkdtemp(prefix="outskirt-changes-"))
    shutil.rmtree(folder, ignore_errors=True)
    database = Database(given.program, folder / "db")
    database.ingest(pictures(folder / "first", 0, 10))
    begin = time.perf_counter()
    rows = {"OUTSKIRT_LARGE_DB": str(database.folder), "OUTSKIRT_LARGE_ROWS": str(given.rows)}
    line = [*given.cargo.split(), "test", "--locked", "--test", "suite", "large::", "--", "--ignored"]
    subprocess.run(line, cwd=ROOT, env=os.environ | rows, check=True, stdout=subprocess.DEVNULL)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{given.rows:,} rows made in {time.perf_counter() - begin:.0f} s, {size / 1e9:.1f} GB\n", flush=True)
    measured("start of a session: sql 'SELECT 1'", database.run("sql", "SELECT 1"))
    measured("sql 'SELECT count(*) FROM images'", database.run("sql", "SELECT count(*) FROM images"))
    first = database.ingest(pictures(folder / "more-0", 1, PICTURES))
    measured(f"ingest of {PICTURES:,}, all rows being looked up for the first time", first)
    for number in (1, 2):
        found = database.ingest(pictures(folder / f"more-{number}", 1 + number, PICTURES))
        measured(f"ingest of {PICTURES:,} more", found)
    measured("ingest of the same again", database.ingest(folder / "more-2"))
    if not given.no_bank:
        bank = ("bank", "create", "all", "--where", "dataset = 'large'", "--backbone", "demo_shapes", "--k", "50")
        measured("bank create, all rows", database.run(*bank))
        database.ingest(pictures(folder / "more-3", 9, PICTURES), "--no-refresh")
        measured(f"bank refresh, {PICTURES:,} more", database.run("bank", "refresh", "all"))
    if given.versions:
        updates = "".join(f"UPDATE images SET label = 'v{n}' WHERE id = {n + 1};\n" for n in range(given.versions))
        found = database.run("sql", "-f", "-", text=updates)
        print(f"\n{given.versions:,} UPDATEs of a row: {found[0] / given.versions * 1000:.0f} ms each", flush=True)
        measured("start of a session", database.run("sql", "SELECT 1"))
        measured("sql 'SELECT count(*) FROM images'", database.run("sql", "SELECT count(*) FROM images"))
        found = database.ingest(pictures(folder / "last", 99, PICTURES))
        measured(f"ingest of {PICTURES:,} more", found)
        measured("history", database.run("history"))
    if not given.dir:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
